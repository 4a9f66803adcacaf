//! What software is in an image: its package databases and lock files.
//!
//! Everything that is read is hostile: what cannot be understood is told as a [`Skipped`] and
//! the scan goes on, since one broken lock file must not hide all other packages.

mod alpine;
mod debian;
mod erlang;
mod go;
mod javascript;
mod os;
mod php;
mod python;
mod ruby;
mod rust;

use std::path::{Path, PathBuf};

use koskit_image::{Error, Files, Image, Store};

use crate::{Package, folder};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Sorted by kind and name; each once.
    pub packages: Vec<Package>,
    /// Files that look like a package database and are none.
    pub skipped: Vec<Skipped>,
    /// `NAME VERSION` of the distribution, as `etc/os-release` says.
    pub distribution: Option<String>,
}

/// A file that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Relative to the root file system.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What a reader of a file gives: its packages, or what is wrong with the file.
type Found = Result<Vec<Package>, String>;

/// Scans the root file system of an image.
///
/// # Errors
/// A layer is missing, damaged or hostile.
pub fn scan(store: &Store, image: &Image) -> Result<Scan, Error> {
    Ok(of_files(&store.files(&image.layers, &is_wanted)?))
}

/// Scans a root file system that is a folder.
///
/// # Errors
/// It cannot be read.
pub fn of_folder(root: &Path) -> std::io::Result<Scan> {
    Ok(of_files(&folder::files(root, &is_wanted)?))
}

/// Whether a file tells of packages.
pub fn is_wanted(path: &Path) -> bool {
    os::RELEASE.iter().any(|release| path == Path::new(release)) || reader(path).is_some()
}

/// Scans files, by their paths in the root file system.
pub fn of_files(files: &Files) -> Scan {
    let release = os::RELEASE.iter().find_map(|path| files.get(Path::new(path)));
    let release = release.map(|text| os::Release::parse(&String::from_utf8_lossy(text)));
    let release = release.unwrap_or_default();
    let mut scan = Scan { distribution: release.name(), ..Scan::default() };
    for (path, bytes) in files {
        let Some(read) = reader(path) else { continue };
        match read(&Context { path, release: &release }, bytes) {
            Ok(packages) => scan.packages.extend(packages.into_iter().map(|mut package| {
                package.found_in = path.clone();
                package
            })),
            Err(why) => scan.skipped.push(Skipped { path: path.clone(), why }),
        }
    }
    scan.packages.sort();
    // The same package in several lock files is one; the first file by name tells of it.
    scan.packages.dedup_by(|a, b| {
        let same = |a: &Package| (a.kind, a.purl(), a.role);
        same(a) == same(b)
    });
    scan
}

/// What a reader knows besides the bytes.
struct Context<'a> {
    path: &'a Path,
    release: &'a os::Release,
}

type Read = fn(&Context<'_>, &[u8]) -> Found;

/// Who reads a file.
fn reader(path: &Path) -> Option<Read> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent().unwrap_or(Path::new(""));
    match name {
        "status" if parent == Path::new("var/lib/dpkg") => Some(debian::read),
        _ if parent == Path::new("var/lib/dpkg/status.d") && !name.ends_with(".md5sums") => {
            Some(debian::read)
        }
        "installed" if parent.ends_with("lib/apk/db") => Some(alpine::read),
        "Cargo.lock" => Some(rust::read),
        "package-lock.json" | ".package-lock.json" | "npm-shrinkwrap.json" => {
            Some(javascript::read_npm)
        }
        "yarn.lock" => Some(javascript::read_yarn),
        "pnpm-lock.yaml" => Some(javascript::read_pnpm),
        "poetry.lock" | "uv.lock" | "pdm.lock" => Some(python::read_toml),
        "Pipfile.lock" => Some(python::read_pipfile),
        "requirements.txt" => Some(python::read_requirements),
        "METADATA" if has_ending(parent, ".dist-info") => Some(python::read_metadata),
        "PKG-INFO" if has_ending(parent, ".egg-info") => Some(python::read_metadata),
        "go.mod" => Some(go::read_mod),
        "Gemfile.lock" => Some(ruby::read),
        "composer.lock" => Some(php::read),
        "mix.lock" => Some(erlang::read_mix),
        "rebar.lock" => Some(erlang::read_rebar),
        _ if name.ends_with(".app") && parent.ends_with("ebin") => Some(erlang::read_app),
        _ => None,
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(ending))
}

/// A lock file is text.
fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into())
}

/// The fields of `Name: value` paragraphs, as Debian's control files and e-mails have them;
/// lines that go on are left out.
fn fields(paragraph: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
    lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What is found in a single file, as package URLs.
    pub fn purls(path: &str, text: &str) -> Vec<String> {
        let scan = of_files(&BTreeMap::from([(path.into(), text.as_bytes().to_vec())]));
        assert_eq!(scan.skipped, [], "{path}");
        let mut purls: Vec<_> = scan.packages.iter().map(|p| p.purl().unwrap()).collect();
        purls.sort();
        purls
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_and_hides_no_other() {
        let files = BTreeMap::from([
            ("a/Cargo.lock".into(), b"[[package]".to_vec()),
            ("b/package-lock.json".into(), b"3".to_vec()),
            ("c/go.mod".into(), b"require example.org/x v1.0.0".to_vec()),
            ("d/composer.lock".into(), b"\xff".to_vec()),
        ]);
        let scan = of_files(&files);
        let skipped: Vec<_> = scan.skipped.iter().map(|s| s.path.to_str().unwrap()).collect();
        assert_eq!(skipped, ["a/Cargo.lock", "b/package-lock.json", "d/composer.lock"]);
        assert_eq!(scan.packages[0].full_name(), "example.org/x");
    }

    #[test]
    fn a_folder_is_scanned_without_following_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("root/a/go.mod", "require example.org/x v1.0.0");
        write("outside/go.mod", "require example.org/y v1.0.0");
        std::os::unix::fs::symlink("../outside", folder.path().join("root/b")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("root/c")).unwrap();
        let scan = of_folder(&folder.path().join("root")).unwrap();
        let names: Vec<_> = scan.packages.iter().map(Package::full_name).collect();
        assert_eq!(names, ["example.org/x"]);
        assert_eq!(scan.packages[0].found_in, Path::new("a/go.mod"));
    }

    #[test]
    fn a_package_of_two_lock_files_is_found_once() {
        let lock = b"[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n".to_vec();
        let files =
            BTreeMap::from([("x/Cargo.lock".into(), lock.clone()), ("y/Cargo.lock".into(), lock)]);
        let scan = of_files(&files);
        assert_eq!(scan.packages.len(), 1);
        assert_eq!(scan.packages[0].found_in, Path::new("x/Cargo.lock"));
    }

    #[test]
    fn the_distribution_is_part_of_a_system_packages_name() {
        let files = BTreeMap::from([
            (
                "etc/os-release".into(),
                b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"D 12\"".to_vec(),
            ),
            (
                "var/lib/dpkg/status".into(),
                b"Package: a\nVersion: 1\nStatus: install ok installed\n".to_vec(),
            ),
        ]);
        let scan = of_files(&files);
        assert_eq!(scan.distribution.as_deref(), Some("D 12"));
        assert_eq!(scan.packages[0].purl().unwrap(), "pkg:deb/debian/a@1?distro=debian-12");
    }
}
