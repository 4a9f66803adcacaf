//! Blobs that arrive in parts: what a killed or broken transfer has left is gone on with.
//!
//! Such a blob is written to `ingest/HEX.part`. Its writer holds a lock on the file, as all
//! writers do; what nobody has gone on with for a day is removed when a store is opened.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use koskit_llb::Digest;
use rustix::fs::{FlockOperation, flock};

use crate::{BlobWriter, Error, Store};

/// How the names of such files end.
const ENDING: &str = "part";
/// How long they wait.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Goes on with the blob of that digest, where an earlier writer has left a part of it, else
    /// begins it. [`BlobWriter::size`] tells how much there is; the bytes that follow are to be
    /// written. Where somebody else is writing it just now, another one is begun.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn partial_blob(&self, digest: &Digest) -> Result<BlobWriter, Error> {
        let path = self.ingest().join(format!("{}.{ENDING}", digest.hex()));
        // Against remove_leftovers, between the making of the file and its lock.
        let lock = self.ingest_lock(FlockOperation::LockShared)?;
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(Error::file("make", &path))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                drop(lock);
                return self.blob_writer();
            }
            // Who held the lock until now may have finished: then the file is a blob now.
            let ours = file.metadata().map_err(Error::file("read", &path))?;
            let there = fs::metadata(&path);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                let resumed = BlobWriter::resume(file, path.clone(), self.blobs());
                return resumed.map_err(Error::file("read", path));
            }
        }
    }
}

/// Whether a file in `ingest` is a part that somebody may go on with.
pub(crate) fn is_waiting(path: &Path) -> bool {
    let age = || {
        let modified = fs::metadata(path).ok()?.modified().ok()?;
        // One from the future is as good as new.
        Some(SystemTime::now().duration_since(modified).unwrap_or_default())
    };
    path.extension().is_some_and(|ending| ending == ENDING) && age().is_some_and(|age| age < KEPT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn part(store: &Store, digest: &Digest) -> std::path::PathBuf {
        store.path().join(format!("ingest/{}.part", digest.hex()))
    }

    #[test]
    fn what_was_dropped_is_gone_on_with() {
        let (_folder, store) = store();
        let bytes = vec![7; 3 << 20];
        let digest = Digest::of(&bytes);
        let mut writer = store.partial_blob(&digest).unwrap();
        writer.write_all(&bytes[..2 << 20]).unwrap();
        drop(writer);
        let again = Store::open(store.path()).unwrap();
        let mut writer = again.partial_blob(&digest).unwrap();
        assert_eq!(writer.size(), 2 << 20);
        writer.write_all(&bytes[2 << 20..]).unwrap();
        writer.finish_as(&digest, 3 << 20).unwrap();
        assert!(again.has_blob(&digest) && !part(&store, &digest).exists());
        assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), bytes);
    }

    #[test]
    fn wrong_bytes_little_ones_and_discarded_ones_do_not_stay() {
        let (_folder, store) = store();
        let digest = Digest::of(b"right");
        let write = |bytes: usize| {
            let mut writer = store.partial_blob(&digest).unwrap();
            assert_eq!(writer.size(), 0);
            writer.write_all(&vec![1; bytes]).unwrap();
            writer
        };
        assert!(write(2 << 20).finish_as(&digest, 2 << 20).is_err());
        assert!(!part(&store, &digest).exists());
        drop(write(100));
        assert!(!part(&store, &digest).exists());
        write(2 << 20).discard();
        assert!(!part(&store, &digest).exists());
    }

    #[test]
    fn two_writers_of_one_blob_do_not_disturb_each_other() {
        let (_folder, store) = store();
        let digest = Digest::of(b"bytes");
        let mut first = store.partial_blob(&digest).unwrap();
        let mut second = store.partial_blob(&digest).unwrap();
        first.write_all(b"byt").unwrap();
        second.write_all(b"bytes").unwrap();
        second.finish_as(&digest, 5).unwrap();
        first.write_all(b"es").unwrap();
        first.finish_as(&digest, 5).unwrap();
        assert_eq!(fs::read(store.blob_path(&digest)).unwrap(), b"bytes");
    }

    #[test]
    fn a_part_that_nobody_has_gone_on_with_for_a_day_is_removed() {
        let (_folder, store) = store();
        let digest = Digest::of(b"bytes");
        let path = part(&store, &digest);
        fs::write(&path, vec![0; 2 << 20]).unwrap();
        Store::open(store.path()).unwrap();
        assert!(path.exists());
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        Store::open(store.path()).unwrap();
        assert!(!path.exists());
    }
}
