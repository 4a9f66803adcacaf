//! What a copy of a build context need not write again.
//!
//! A step that copies a context leaves a list of the files that it made. When the step is done
//! again, as some of the context has changed, the files that have not are not written: they
//! become names of the earlier result's files, hard links. Both results are snapshots, which do
//! not change.
//!
//! No link leads from one mount to another, and a step writes through an overlay. So links are
//! made in the overlay's upper directory, when it is mounted no more: what [`Links`] holds until
//! then is not to be seen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self as sys, AtFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::{Result, Root, failed};

/// So many names a file gets at most. File systems have limits: ext4's is 65,000.
const MOST_NAMES: u64 = 1000;

/// The files that a copy made: for each path, a digest of what the file is.
pub(crate) type Copied = HashMap<String, String>;

/// What a copy makes, and which of it is to be linked.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// Where the files of the earlier copy are, and which those are.
    earlier: Option<(PathBuf, Copied)>,
    copied: RefCell<Copied>,
    /// For each directory, the names in it.
    links: RefCell<BTreeMap<PathBuf, BTreeSet<OsString>>>,
}

impl Links {
    /// For a copy that was done before, with the directory of its files, or was not.
    pub fn new(earlier: Option<(PathBuf, Copied)>) -> Self {
        Self { earlier, ..Self::default() }
    }

    /// Whether the earlier copy has a file: the same path and the same digest of what it is.
    pub fn has(&self, at: &Path, digest: &str) -> bool {
        let can_be_linked = |file: fs::Metadata| file.is_file() && file.nlink() < MOST_NAMES;
        self.earlier.as_ref().is_some_and(|(files, earlier)| {
            at.to_str().and_then(|path| earlier.get(path)).is_some_and(|known| known == digest)
                && files.join(at).symlink_metadata().is_ok_and(can_be_linked)
        })
    }

    /// Notes a file that is made, for the next time.
    pub fn note(&self, at: &Path, digest: String) {
        // One whose name is no text is written each time.
        if let Some(path) = at.to_str() {
            self.copied.borrow_mut().insert(path.to_owned(), digest);
        }
    }

    /// Whether nothing is linked in a file's directory yet.
    pub fn begins(&self, at: &Path) -> bool {
        !self.links.borrow().contains_key(parts(at).0)
    }

    /// A file is to be linked.
    pub fn add(&self, at: &Path) {
        let (directory, name) = parts(at);
        self.links.borrow_mut().entry(directory.to_owned()).or_default().insert(name);
    }

    /// Whether a file is to be linked.
    pub fn contains(&self, at: &Path) -> bool {
        let (directory, name) = parts(at);
        self.links.borrow().get(directory).is_some_and(|names| names.contains(&name))
    }

    /// Something else takes a file's place.
    pub fn forget(&self, at: &Path) {
        let (directory, name) = parts(at);
        if let Some(names) = self.links.borrow_mut().get_mut(directory) {
            names.remove(&name);
        }
        if let Some(path) = at.to_str() {
            self.copied.borrow_mut().remove(path);
        }
    }

    /// Makes the links in a directory, which has all directories that they are in, and gives the
    /// list for the next time. The directories keep their times.
    pub fn make(self, files: &Path) -> Result<Copied> {
        let links = self.links.into_inner();
        if let (Some((earlier, _)), false) = (&self.earlier, links.is_empty()) {
            let (from, to) = (Root::open(earlier)?, Root::open(files)?);
            for (path, names) in links {
                let (from, to) = (from.directory(&path)?, to.directory(&path)?);
                let stat = sys::fstat(&to).map_err(failed("read", &path))?;
                for name in names {
                    let link = || sys::linkat(&from, &name, &to, &name, AtFlags::empty());
                    let made = match link() {
                        // A file below that it replaces, or what brought the directory here.
                        Err(Errno::EXIST) => {
                            sys::unlinkat(&to, &name, AtFlags::empty()).and_then(|()| link())
                        }
                        other => other,
                    };
                    made.map_err(failed("link", path.join(&name)))?;
                }
                let times = Timestamps {
                    last_access: Timespec {
                        tv_sec: stat.st_atime,
                        tv_nsec: stat.st_atime_nsec as _,
                    },
                    last_modification: Timespec {
                        tv_sec: stat.st_mtime,
                        tv_nsec: stat.st_mtime_nsec as _,
                    },
                };
                sys::futimens(&to, &times).map_err(failed("set the time of", &path))?;
            }
        }
        Ok(self.copied.into_inner())
    }

    /// The directory of the earlier files, if any of them is to be linked.
    pub fn from(&self) -> Option<&Path> {
        let any = self.links.borrow().values().any(|names| !names.is_empty());
        self.earlier.as_ref().filter(|_| any).map(|(files, _)| files.as_path())
    }
}

/// A path's directory and its name there.
fn parts(at: &Path) -> (&Path, OsString) {
    (at.parent().unwrap_or(Path::new("")), at.file_name().unwrap_or_default().to_owned())
}
