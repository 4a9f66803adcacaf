//! What a running build needs, so that nobody removes it meanwhile.
//!
//! Each [`super::Snapshots`] has a file with the names of the layers that it has found or made,
//! and a lock on it for as long as it lives; the kernel drops that with the process. A name is
//! written while `lock` is held as one of many, and layers are removed by who holds it alone: so
//! no layer goes between its being found and its name being written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// A file of names, locked.
#[derive(Debug)]
pub(super) struct Lease {
    path: PathBuf,
    inner: Mutex<(File, HashSet<String>)>,
}

impl Lease {
    /// Begins one in a directory. The caller holds `lock`.
    pub fn begin(directory: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{}-{next}", std::process::id()));
            match File::options().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    flock(&file, FlockOperation::LockExclusive)?;
                    return Ok(Self { path, inner: Mutex::new((file, HashSet::new())) });
                }
                // A process of another PID namespace, or one that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Adds a name. The caller holds `lock`.
    pub fn add(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.1.insert(name.to_owned()) {
            inner.0.write_all(format!("{name}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Whether the name was added before.
    pub fn has(&self, name: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.contains(name)
    }

    /// The names in all leases of a directory that somebody holds; those of the dead are removed.
    /// The caller holds `lock` alone.
    pub fn all(directory: &Path) -> io::Result<HashSet<String>> {
        let mut names = HashSet::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = fs::remove_file(&path);
                continue;
            }
            names.extend(io::read_to_string(file)?.lines().map(str::to_owned));
        }
        Ok(names)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
