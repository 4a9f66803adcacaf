//! One at a time makes what a key stands for, in this process and in all others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use koskit_llb::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::record::layer_name;
use super::{SnapshotError, Snapshots, failed};

/// How long to wait before another look: short against a step, long against a look.
const PAUSE: Duration = Duration::from_millis(5);

/// The right to make what a key stands for, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _file: File,
}

impl Snapshots {
    /// Waits until nobody else makes what a key stands for. Who has waited looks again whether it
    /// is there. `stop` is asked meanwhile; if it says so, there is no claim.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn claim(
        &self,
        key: &Digest,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Claim>, SnapshotError> {
        let path = self.path().join("doing").join(layer_name(key));
        let open = || File::options().create(true).truncate(false).write(true).open(&path);
        let mut file = open().map_err(failed("open", &path))?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it has removed it at the end, and it may be another one by now.
                Ok(()) if same(&file, &path) => return Ok(Some(Claim { path, _file: file })),
                Ok(()) => file = open().map_err(failed("open", &path))?,
                Err(Errno::WOULDBLOCK) if stop() => return Ok(None),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                Err(Errno::INTR) => {}
                Err(e) => return Err(failed("lock", &path)(e.into())),
            }
        }
    }
}

/// Whether a path still is that of an open file.
pub(crate) fn same(file: &File, path: &std::path::Path) -> bool {
    let both = || -> io::Result<bool> {
        let (open, there) = (file.metadata()?, fs::metadata(path)?);
        Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
    };
    both().unwrap_or(false)
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is held, so that this is ours.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::inside;

    #[test]
    fn what_many_want_at_once_is_claimed_by_one_after_the_other() {
        inside(|_, dir: &Path| {
            let snapshots = Snapshots::open(dir).unwrap();
            let (key, now) = (Digest::of(b"key"), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            let claim = snapshots.claim(&key, &|| false).unwrap();
                            assert!(claim.is_some());
                            assert_eq!(now.fetch_add(1, Ordering::SeqCst), 0);
                            assert_eq!(now.fetch_sub(1, Ordering::SeqCst), 1);
                        }
                    });
                }
            });
            let _held = snapshots.claim(&key, &|| false).unwrap();
            assert!(snapshots.claim(&key, &|| true).unwrap().is_none());
            assert!(snapshots.claim(&Digest::of(b"other"), &|| true).unwrap().is_some());
        });
    }
}
