//! Files and directories that go away unless they are kept, even where a signal ends the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Those that there are.
static ALL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file or directory that is removed when this is dropped. After a rename there is nothing to
/// be removed.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Takes care of a path, at which there may be nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|path| *path != self.0);
    }
}

/// Removes all that there are: for a process that is about to be ended by a signal. Those that
/// write there may fail.
pub fn remove_all() {
    for path in ALL.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        remove(&path);
    }
}

fn remove(path: &Path) {
    // It is of no use to anybody, and what went wrong was told.
    let _ = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let scratch = Scratch::new(&path);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        drop(scratch);
        assert!(!path.exists());
        let scratch = Scratch::new(&path);
        fs::write(&path, "").unwrap();
        fs::rename(&path, directory.path().join("kept")).unwrap();
        drop(scratch);
        assert!(directory.path().join("kept").exists());
    }
}
