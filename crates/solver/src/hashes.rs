//! Digests of files that were read before.
//!
//! A build reads all that it copies of a context, to see whether it is what it was. Most of that
//! has not changed since the last build, and then it need not be read: the file's number, size
//! and times say so, as git has it. `ctime` cannot be set, so a file that was changed without a
//! trace in these is not the user's doing but an attack on their own build.
//!
//! A file that was changed a moment ago may change again within the same tick of the clock that
//! times are taken from. So only what is old enough is remembered. And what is copied is hashed
//! once more on the way (see [`crate::files`]): a wrong digest makes an error, not a wrong image.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

/// What the file begins with. To be changed with the form of what follows.
const MAGIC: &[u8] = b"koskit hashes 1\n";
/// Bytes of an entry: seven numbers and a digest.
const ENTRY: usize = 7 * 8 + 32;
/// How old a change must be.
const OLD: Duration = Duration::from_secs(1);
/// So many files are remembered; more than that is forgotten at once, and found out again.
const MAX_FILES: usize = 1 << 20;

/// Digests of files, kept in a file of their own.
#[derive(Debug)]
pub(crate) struct Hashes {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Known,
    changed: bool,
}

/// By device and inode.
type Known = HashMap<[i64; 2], (Stamp, [u8; 32])>;

/// Size, `mtime` and `ctime`, with nanoseconds.
type Stamp = [i64; 5];

impl Hashes {
    /// Reads what is known. A file that is not there or makes no sense is as good as empty.
    pub fn load(path: PathBuf) -> Self {
        let known = fs::read(&path).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Self { path, inner: Mutex::new(Inner { known, changed: false }) }
    }

    /// The SHA-256 of a file that was just opened.
    pub fn of(&self, file: &File) -> io::Result<[u8; 32]> {
        let (number, stamp) = identity(file)?;
        if let Some((_, digest)) =
            self.lock().known.get(&number).filter(|(known, _)| *known == stamp)
        {
            return Ok(*digest);
        }
        let now = SystemTime::now();
        let digest = hash(file)?;
        let [_, mtime, _, ctime, _] = stamp;
        let time = Duration::from_secs(mtime.max(ctime).try_into().unwrap_or(0));
        // Seconds are rounded down, so one more than it says.
        let settled = SystemTime::UNIX_EPOCH + time + Duration::from_secs(1) + OLD;
        if settled < now && identity(file)? == (number, stamp) {
            let mut inner = self.lock();
            if inner.known.len() >= MAX_FILES {
                inner.known.clear();
            }
            inner.known.insert(number, (stamp, digest));
            inner.changed = true;
        }
        Ok(digest)
    }

    /// Keeps what is known. If that fails, files are read again the next time.
    pub fn save(&self) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.changed) {
            let _ = self.write(&inner);
        }
    }

    fn write(&self, inner: &Inner) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + inner.known.len() * ENTRY);
        bytes.extend_from_slice(MAGIC);
        for (number, (stamp, digest)) in &inner.known {
            for n in number.iter().chain(stamp) {
                bytes.extend_from_slice(&n.to_le_bytes());
            }
            bytes.extend_from_slice(digest);
        }
        let directory = self.path.parent().unwrap_or(&self.path);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&bytes)?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The SHA-256 of what can be read.
pub(crate) fn hash(mut from: impl Read) -> io::Result<[u8; 32]> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(sha.finalize().into()),
            Ok(len) => sha.update(&buffer[..len]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn identity(file: &File) -> io::Result<([i64; 2], Stamp)> {
    let m = file.metadata()?;
    let number = [m.dev() as i64, m.ino() as i64];
    Ok((number, [m.size() as i64, m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]))
}

fn parse(bytes: &[u8]) -> Option<Known> {
    let entries = bytes.strip_prefix(MAGIC)?;
    if entries.len() % ENTRY != 0 {
        return None;
    }
    let entry = |entry: &[u8]| {
        let number = |i: usize| i64::from_le_bytes(entry[8 * i..8 * i + 8].try_into().ok()?).into();
        let numbers: Option<Vec<i64>> = (0..7).map(number).collect();
        let (number, stamp) = numbers.as_deref()?.split_at(2);
        let digest = entry[7 * 8..].try_into().ok()?;
        Some((number.try_into().ok()?, (stamp.try_into().ok()?, digest)))
    };
    entries.chunks_exact(ENTRY).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use super::*;

    /// A file that was changed an hour ago, as far as the system lets that be said.
    fn old_file(path: &std::path::Path, content: &str) -> File {
        fs::write(path, content).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = File::options().read(true).write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(hour_ago)).unwrap();
        file
    }

    /// Waits until what was just changed is old enough.
    fn settle() {
        std::thread::sleep(OLD + Duration::from_millis(1100));
    }

    #[test]
    fn what_has_not_changed_is_known_and_what_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kept) = (dir.path().join("file"), dir.path().join("hashes"));
        let file = old_file(&path, "one");
        let hashes = Hashes::load(kept.clone());
        let one = hashes.of(&file).unwrap();
        // It has just been made.
        assert!(hashes.lock().known.is_empty());
        settle();
        assert_eq!(hashes.of(&File::open(&path).unwrap()).unwrap(), one);
        assert_eq!(hashes.lock().known.len(), 1);
        hashes.save();

        let again = Hashes::load(kept.clone());
        assert_eq!(again.lock().known, hashes.lock().known);
        // The file is at its end, so it is not read.
        let mut file = File::open(&path).unwrap();
        io::copy(&mut file, &mut io::sink()).unwrap();
        assert_eq!(again.of(&file).unwrap(), one);

        // The same size and time of change, but not the same.
        let file = old_file(&path, "two");
        assert_eq!(again.of(&file).unwrap(), hash(&b"two"[..]).unwrap());
    }

    #[test]
    fn a_file_that_was_cut_off_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("hashes");
        let hashes = Hashes::load(kept.clone());
        hashes.lock().known.insert([1, 2], ([3, 4, 5, 6, 7], [8; 32]));
        hashes.lock().changed = true;
        hashes.save();
        let bytes = fs::read(&kept).unwrap();
        assert_eq!(bytes.len(), MAGIC.len() + ENTRY);
        for len in 0..bytes.len() {
            fs::write(&kept, &bytes[..len]).unwrap();
            assert!(Hashes::load(kept.clone()).lock().known.is_empty(), "{len} bytes");
        }
    }
}
