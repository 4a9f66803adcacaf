//! Directories that appear whole, or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;

use crate::scratch::Scratch;

/// A directory that cannot be made.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Something else is there.
    #[error("{path:?} has other files in it; choose a new or an empty directory")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The path has no last part, as `/` and `..` have none.
    #[error("{0:?} cannot be made: it has no name of its own")]
    Name(PathBuf),
    /// The system refuses.
    #[error("cannot write {path:?}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Makes a directory of what `fill` writes into another one beside it. A new or an empty
/// directory is made so, and one that has a file named `marker`, which is how it is known to be
/// an older one of the same kind, is replaced. Whoever looks sees the old one or the new one.
///
/// # Errors
/// Something else is there, `fill` fails, or the system refuses; then nothing has changed.
pub fn replace<E: From<DirectoryError>>(
    directory: &Path,
    marker: &str,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let occupied = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(failed(directory)(e).into()),
    };
    if occupied && !directory.join(marker).is_file() {
        return Err(DirectoryError::Occupied { path: directory.into() }.into());
    }
    // The real one, if a link leads to it: a rename would replace the link.
    let directory = match directory.canonicalize() {
        Ok(directory) => directory,
        Err(_) => directory.into(),
    };
    let name = directory.file_name().ok_or_else(|| DirectoryError::Name(directory.clone()))?;
    let mut half = OsString::from(".");
    half.push(name);
    half.push(format!(".{}", std::process::id()));
    let half = Scratch::new(directory.with_file_name(half));
    let _ = fs::remove_dir_all(half.path());
    fs::create_dir_all(half.path()).map_err(failed(half.path()))?;
    fill(half.path())?;
    let renamed = if occupied {
        // What was there goes away with the other one.
        renameat_with(CWD, half.path(), CWD, &directory, RenameFlags::EXCHANGE).map_err(Into::into)
    } else {
        fs::rename(half.path(), &directory)
    };
    Ok(renamed.map_err(failed(&directory))?)
}

/// Writes a new file, and waits until the disk has it.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DirectoryError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(directory: &Path, name: &'static str) -> Result<(), DirectoryError> {
        replace(directory, "marker", |at| {
            write(&at.join("marker"), b"")?;
            write(&at.join(name), b"")
        })
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn new_and_empty_directories_and_older_ones_are_made_whole() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("a/b");
        put(&at, "x").unwrap();
        assert_eq!(names(&at), ["marker", "x"]);
        put(&at, "y").unwrap();
        assert_eq!(names(&at), ["marker", "y"]);
        let empty = parent.path().join("empty");
        fs::create_dir(&empty).unwrap();
        put(&empty, "x").unwrap();
        assert_eq!(names(parent.path()), ["a", "empty"]);
        assert_eq!(names(&parent.path().join("a")), ["b"]);
    }

    #[test]
    fn a_directory_with_other_files_is_left_alone() {
        let at = tempfile::tempdir().unwrap();
        write(&at.path().join("thesis.tex"), b"").unwrap();
        assert!(matches!(put(at.path(), "x"), Err(DirectoryError::Occupied { .. })));
        assert_eq!(names(at.path()), ["thesis.tex"]);
    }

    #[test]
    fn after_a_failure_all_is_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("a");
        put(&at, "x").unwrap();
        let error = replace(&at, "marker", |half| {
            write(&half.join("half"), b"")?;
            write(&half.join("no/such"), b"")
        });
        assert!(matches!(error, Err(DirectoryError::File { .. })));
        assert_eq!((names(&at).len(), names(parent.path()).len()), (2, 1));
    }

    #[test]
    fn a_link_to_a_directory_stays_a_link() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("a");
        put(&at, "x").unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink("a", &link).unwrap();
        put(&link, "y").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(names(&at), ["marker", "y"]);
    }
}
