//! Who has a store open.
//!
//! Every open [`crate::Store`] holds a shared lock on the file `users`, which the kernel drops
//! with the process, however that ends. Who removes blobs takes it exclusively: then nobody is
//! there who has made a blob and not yet named it, or found one and not yet read it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// The lock of a store and its clones.
#[derive(Clone, Debug)]
pub(crate) struct Users(Option<Arc<File>>);

/// Nobody else has the store open.
pub(crate) struct Alone<'a>(&'a File);

impl Users {
    /// Before anything of a store is read.
    pub fn new() -> Self {
        Self(None)
    }

    /// Joins the users of a store. It may wait for one that removes blobs.
    pub fn join(root: &Path) -> Result<Self, Error> {
        let path = root.join("users");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = match file {
            Ok(file) => file,
            // Nobody can remove anything from a store that is read only.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(Self(None)),
            Err(e) => return Err(Error::file("lock", path)(e)),
        };
        flock(&file, FlockOperation::LockShared)
            .map_err(|e| Error::file("lock", path)(e.into()))?;
        Ok(Self(Some(Arc::new(file))))
    }

    /// Waits until nobody else is there, or gives `None` if somebody is.
    pub fn alone(&self, wait: bool) -> io::Result<Option<Alone<'_>>> {
        let Some(file) = &self.0 else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let operation = match wait {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(file, operation) {
            Ok(()) => Ok(Some(Alone(file))),
            Err(Errno::WOULDBLOCK) => {
                // A failed change of the lock may have dropped the one that was held.
                flock(file, FlockOperation::LockShared)?;
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Back to one of several; where that fails, the store is only not removed from.
        let _ = flock(self.0, FlockOperation::LockShared);
    }
}
