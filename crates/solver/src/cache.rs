//! Names of steps, and which of them mean the same.
//!
//! A [`Key`] is the digest of what a step does and of what it starts from; the result is kept as
//! the snapshot of that name. A COPY starts from the content of what it copies, so its key is
//! not known before all of that is read. So that this need not be done again and again, a small
//! file says which key was found for the inputs as they are named: an *alias*. Another says
//! which key a step's result has that was done again although it was known.
//!
//! Such a file never becomes wrong. It is written elsewhere and renamed to its name; one that
//! makes no sense is as good as none. So a build may be killed, or the machine, at any time.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use koskit_llb::Digest;
use sha2::{Digest as _, Sha256};

use crate::Problem;

/// What makes all keys others. To be changed with the meaning of a step.
const VERSION: &str = "koskit solver 1";

/// The aliases, in a directory of their own.
#[derive(Clone, Debug)]
pub(crate) struct Aliases {
    directory: PathBuf,
}

/// Makes a key.
#[derive(Clone)]
pub(crate) struct KeyBuilder(Sha256);

impl Aliases {
    /// Opens a directory, and makes it where there is none.
    pub fn open(directory: PathBuf) -> Result<Self, Problem> {
        fs::create_dir_all(&directory).map_err(Problem::cache("make", &directory))?;
        Ok(Self { directory })
    }

    /// The key that a name stands for, if it is known.
    pub fn get(&self, alias: &Digest) -> Option<Digest> {
        fs::read_to_string(self.path(alias)).ok()?.parse().ok()
    }

    /// Lets a name stand for a key.
    pub fn put(&self, alias: &Digest, key: &Digest) -> Result<(), Problem> {
        let path = self.path(alias);
        self.write(&path, key.as_str().as_bytes()).map_err(Problem::cache("write", &path))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let directory = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    }

    /// In one of 256 directories.
    fn path(&self, alias: &Digest) -> PathBuf {
        let (first, rest) = alias.hex().split_at(2);
        self.directory.join(first).join(rest)
    }
}

impl KeyBuilder {
    /// For a kind of step.
    pub fn new(kind: &str) -> Self {
        Self(Sha256::new()).with(VERSION).with(kind)
    }

    /// Something that the step depends on. The order matters.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// Something that is there once: the key is none that there was before.
    pub fn with_nonce(self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        self.with(format!("{} {} {next}", now.as_nanos(), std::process::id()))
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> Digest {
        parts.iter().fold(KeyBuilder::new("test"), |key, part| key.with(part)).finish()
    }

    #[test]
    fn keys_differ_where_their_parts_do() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }

    #[test]
    fn an_alias_that_was_cut_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let aliases = Aliases::open(dir.path().join("keys")).unwrap();
        let (name, found) = (key(&["name"]), key(&["found"]));
        assert_eq!(aliases.get(&name), None);
        aliases.put(&name, &found).unwrap();
        assert_eq!(aliases.get(&name), Some(found.clone()));
        for len in 0..found.as_str().len() {
            fs::write(aliases.path(&name), &found.as_str()[..len]).unwrap();
            assert_eq!(aliases.get(&name), None, "{len} bytes");
        }
        aliases.put(&name, &found).unwrap();
        assert_eq!(aliases.get(&name), Some(found));
    }
}
