//! What an SDK has linked into programs. Its libraries are in none of the images that are made
//! with it, but part of what they run.
//!
//! Which of them a program has, little tells: it has no database, and often no symbols. Some
//! libraries leave text in whatever they are part of, as the names of glibc's variables or of
//! C++'s types. Where that is missing, the library is; where it is there, the library is found;
//! of the others a bill says that they may be there.

use std::io::Read;
use std::path::{Path, PathBuf};

use koskit_image::layer::{Change, EntryKind, LayerError, Reader};
use koskit_image::{Error, Image, Layer, Limits, Store};

use crate::{Package, Role, Scan, folder, of_folder, scan};

/// Text that every program with parts of glibc's start-up code has.
const GLIBC: &[u8] = b"GLIBC_TUNABLES";
/// Text that every program with types of libstdc++ has: a name that its own types have.
const CXX: &[u8] = b"N10__cxxabiv1";

/// Those packages of an SDK's image that have one of these names, as what may be linked into
/// programs.
///
/// # Errors
/// A layer is missing, damaged or hostile.
pub fn linked(store: &Store, image: &Image, names: &[&str]) -> Result<Vec<Package>, Error> {
    Ok(named(scan(store, image)?, names))
}

/// The same of an SDK's root file system.
///
/// # Errors
/// It cannot be read.
pub fn linked_of_folder(root: &Path, names: &[&str]) -> std::io::Result<Vec<Package>> {
    Ok(named(of_folder(root)?, names))
}

fn named(scan: Scan, names: &[&str]) -> Vec<Package> {
    let packages = scan.packages.into_iter();
    let packages = packages.filter(|package| names.contains(&package.name.as_str()));
    let linked = |package| Package { role: Role::MayBeLinked, found_in: PathBuf::new(), ..package };
    packages.map(linked).collect()
}

/// What the programs of an image tell of the libraries in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// Whether there is one with glibc in it.
    glibc: bool,
    /// Whether there is one with libstdc++ in it.
    cxx: bool,
    /// Whether there is one without glibc.
    other: bool,
}

impl Programs {
    /// Looks at the programs in some layers. Those of a lower one that an upper one hides count.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile.
    pub fn of(store: &Store, layers: &[Layer]) -> Result<Self, Error> {
        let mut programs = Self::default();
        for layer in layers {
            let looked = programs.look(store.layer(layer)?);
            looked.map_err(|source| Error::Layer { digest: layer.digest.clone(), source })?;
        }
        Ok(programs)
    }

    /// The same of the programs in a folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_folder(root: &Path) -> std::io::Result<Self> {
        let mut programs = Self::default();
        folder::each(root, &mut |path, mut file| match is_library(path) {
            true => Ok(()),
            false => programs.program(&mut file),
        })?;
        Ok(programs)
    }

    fn look(&mut self, layer: impl Read) -> Result<(), LayerError> {
        let mut reader = Reader::new(layer, &Limits::default());
        while let Some(entry) = reader.next()? {
            let Some(Change::Put(entry)) = Change::of(entry)? else { continue };
            if !matches!(entry.kind, EntryKind::File(_)) || is_library(&entry.path) {
                continue;
            }
            let mut content = reader.content();
            let read = self.program(&mut content);
            read.map_err(|e| content.failed(e))?;
        }
        Ok(())
    }

    /// Looks at one file, which may be of any size.
    fn program(&mut self, content: &mut impl Read) -> std::io::Result<()> {
        let mut window = Vec::new();
        content.by_ref().take(4).read_to_end(&mut window)?;
        if window != b"\x7fELF" {
            return Ok(());
        }
        let (mut glibc, mut cxx) = (false, false);
        loop {
            let read = content.by_ref().take(1 << 20).read_to_end(&mut window)?;
            let has = |text: &[u8]| window.windows(text.len()).any(|part| part == text);
            glibc = glibc || has(GLIBC);
            cxx = cxx || has(CXX);
            if read == 0 {
                break;
            }
            // A text may lie across the end.
            window.drain(..window.len().saturating_sub(GLIBC.len()));
        }
        self.glibc |= glibc;
        self.cxx |= cxx;
        self.other |= !glibc;
        Ok(())
    }

    /// What may be linked, without what is not, and with what is found as such.
    pub fn narrow(self, packages: Vec<Package>) -> Vec<Package> {
        let role = |package: &Package| {
            let found = |is: bool| is.then_some(Role::Linked);
            match package.name.as_str() {
                name if name.contains("stdc++") => found(self.cxx),
                name if name.starts_with("libc6") => found(self.glibc),
                // Who has glibc does without it.
                name if name.starts_with("musl") => self.other.then_some(Role::MayBeLinked),
                _ => (self.glibc || self.other).then_some(Role::MayBeLinked),
            }
        };
        let packages = packages.into_iter();
        packages.filter_map(|package| Some(Package { role: role(&package)?, ..package })).collect()
    }
}

/// A library is no program: what is linked into it, its own package tells.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const SDK: [&str; 4] = ["musl-dev", "libgcc-12-dev", "libc6-dev", "libstdc++-12-dev"];

    fn of(files: &[Vec<u8>]) -> Vec<(String, Role)> {
        let mut programs = Programs::default();
        for file in files {
            programs.program(&mut file.as_slice()).unwrap();
        }
        let all = SDK.map(|name| Package::new(Kind::Deb, name, "1")).into();
        let narrowed = programs.narrow(all).into_iter();
        narrowed.map(|package| (package.name, package.role)).collect()
    }

    fn program(text: &[u8]) -> Vec<u8> {
        [b"\x7fELF", text].concat()
    }

    #[test]
    fn a_bill_has_what_a_program_may_have_and_not_what_it_cannot() {
        let may = |name: &str| (name.to_owned(), Role::MayBeLinked);
        let is = |name: &str| (name.to_owned(), Role::Linked);
        assert_eq!(of(&[b"no program".to_vec(), Vec::new()]), []);
        assert_eq!(of(&[program(b"musl")]), [may(SDK[0]), may(SDK[1])]);
        assert_eq!(of(&[program(b"..GLIBC_TUNABLES..")]), [may(SDK[1]), is(SDK[2])]);
        let cxx = program(b"GLIBC_TUNABLES\0N10__cxxabiv1");
        assert_eq!(of(std::slice::from_ref(&cxx)), [may(SDK[1]), is(SDK[2]), is(SDK[3])]);
        assert_eq!(of(&[cxx, program(b"")]), [may(SDK[0]), may(SDK[1]), is(SDK[2]), is(SDK[3])]);
    }

    #[test]
    fn a_text_is_found_wherever_it_lies() {
        for before in (1 << 20) - 20..(1 << 20) + 4 {
            let mut text = vec![b'x'; before];
            text.extend(GLIBC);
            let found = of(&[program(&text)]);
            assert!(found.contains(&(SDK[2].to_owned(), Role::Linked)), "{before}");
        }
    }

    #[test]
    fn libraries_are_no_programs() {
        assert!(is_library(Path::new("lib/libc.so.6")) && is_library(Path::new("lib/x.so")));
        assert!(!is_library(Path::new("bin/also")));
    }
}
