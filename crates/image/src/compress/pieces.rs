//! Pieces of layers that were compressed before.
//!
//! Of each larger layer that is compressed here, the store knows its blocks: the digest of what
//! each was made of, and where in the blob it is. A layer that differs in one file from one before
//! then takes all other blocks from that one's blob. The bytes are the same as if they were
//! compressed anew, so nobody can tell from an image.
//!
//! `pieces/HEX`, beside a blob of the same name:
//!
//! ```text
//! 16 bytes    "koskit pieces 1\n"
//! 4           the compressor: a checksum of what it gives for a text, at this level
//! 40 for each block, in their order
//!   32        SHA-256 of the bytes
//!   4         how many bytes it has, compressed
//!   4         their CRC-32
//! 4           CRC-32 of all that
//! ```
//!
//! Numbers are little-endian. The first block follows on gzip's header of ten bytes. A file that
//! makes no sense, or does not fit its blob, is as good as none, and so is one of another
//! compressor: it would give other bytes than this one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use flate2::Crc;
use sha2::{Digest as _, Sha256};

use super::gzip::compressor;

const MAGIC: &[u8] = b"koskit pieces 1\n";
const ENTRY: usize = 40;
/// Bytes of gzip's header, and of its end.
const HEADER: u64 = 10;
const TRAILER: u64 = 8;
/// Of a layer of fewer blocks nothing is kept: it is compressed before one has looked.
const FEWEST: usize = 4;
/// Bytes that are read of all files together, newest first: blocks of 100 GiB.
const MOST: u64 = 8 << 20;
/// So many blobs at most are looked into.
const MOST_BLOBS: usize = 500;

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A block of a blob.
#[derive(Debug)]
pub(super) struct Piece {
    key: Key,
    len: u32,
    crc: u32,
}

impl Piece {
    pub fn new(key: Key, compressed: &[u8]) -> Self {
        Self { key, len: compressed.len() as u32, crc: checksum(compressed) }
    }
}

/// The known pieces of a store, or, once something is compressed, those of that.
#[derive(Debug)]
pub(crate) struct Pieces {
    directory: PathBuf,
    blobs: PathBuf,
    known: OnceLock<Known>,
    taken: AtomicUsize,
    own: Vec<Piece>,
}

#[derive(Debug, Default)]
struct Known {
    /// Who made them, and makes others now.
    compressor: u32,
    blobs: Vec<File>,
    places: HashMap<Key, Place>,
}

#[derive(Debug)]
struct Place {
    blob: usize,
    at: u64,
    len: u32,
    crc: u32,
}

impl Pieces {
    /// `directory` has them, `blobs` are what they are of.
    pub fn new(directory: PathBuf, blobs: PathBuf) -> Self {
        let (known, taken) = (OnceLock::new(), AtomicUsize::new(0));
        Self { directory, blobs, known, taken, own: Vec::new() }
    }

    /// Reads what is known, the first time that it is needed.
    pub(super) fn load(&self, level: u32) {
        self.known.get_or_init(|| {
            let compressor = compressor(level).unwrap_or_default();
            let none = Known { compressor, ..Known::default() };
            self.read(compressor).unwrap_or(none)
        });
    }

    /// A block as it was compressed before.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let known = self.known.get()?;
        let place = known.places.get(key)?;
        let mut bytes = vec![0; place.len as usize];
        known.blobs[place.blob].read_exact_at(&mut bytes, place.at).ok()?;
        let whole = checksum(&bytes) == place.crc;
        whole.then(|| self.taken.fetch_add(1, Ordering::Relaxed));
        whole.then_some(bytes)
    }

    /// How often something was taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// The same, with what was just compressed.
    pub(super) fn of(self, own: Vec<Piece>) -> Self {
        Self { own, ..self }
    }

    /// Keeps where the blocks are of what was just compressed, and is now a blob of this name. If
    /// that fails, others are compressed again.
    pub fn keep(&self, blob: &str, size: u64) {
        let all: u64 = self.own.iter().map(|piece| u64::from(piece.len)).sum();
        if self.own.len() >= FEWEST && HEADER + all + TRAILER <= size {
            let _ = self.write(blob);
        }
    }

    fn write(&self, blob: &str) -> io::Result<()> {
        let compressor = self.known.get().map_or(0, |known| known.compressor);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&compressor.to_le_bytes());
        for piece in &self.own {
            bytes.extend_from_slice(&piece.key.0);
            bytes.extend_from_slice(&piece.len.to_le_bytes());
            bytes.extend_from_slice(&piece.crc.to_le_bytes());
        }
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        fs::create_dir_all(&self.directory)?;
        // Who reads a half of it, or finds one that was left, sees that by the checksum.
        fs::write(self.directory.join(blob), bytes)
    }

    fn read(&self, compressor: u32) -> io::Result<Known> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((time, metadata.len(), entry.file_name()));
        }
        files.sort_by(|a, b| b.cmp(a));
        let mut known = Known { compressor, ..Known::default() };
        let mut room = MOST;
        for (_, len, name) in files {
            if len > room || known.blobs.len() == MOST_BLOBS {
                break;
            }
            room -= len;
            let Ok(blob) = File::open(self.blobs.join(&name)) else { continue };
            let mut bytes = Vec::new();
            File::open(self.directory.join(&name))?.take(len).read_to_end(&mut bytes)?;
            known.add(&bytes, blob);
        }
        Ok(known)
    }
}

impl Known {
    /// Adds the blocks of a blob, if they make sense.
    fn add(&mut self, bytes: &[u8], blob: File) -> Option<()> {
        let (bytes, crc) = bytes.split_last_chunk()?;
        let entries = bytes.strip_prefix(MAGIC)?.strip_prefix(&self.compressor.to_le_bytes())?;
        if checksum(bytes) != u32::from_le_bytes(*crc) || entries.len() % ENTRY != 0 {
            return None;
        }
        let size = blob.metadata().ok()?.len();
        let mut at = HEADER;
        let mut found = Vec::new();
        for entry in entries.chunks_exact(ENTRY) {
            let number = |i: usize| entry[i..i + 4].try_into().map(u32::from_le_bytes).ok();
            let (key, len, crc) = (Key(entry[..32].try_into().ok()?), number(32)?, number(36)?);
            found.push((key, Place { blob: self.blobs.len(), at, len, crc }));
            at += u64::from(len);
        }
        if at + TRAILER > size {
            return None;
        }
        self.blobs.push(blob);
        for (key, place) in found {
            self.places.entry(key).or_insert(place);
        }
        Some(())
    }
}

/// Forgets the pieces of a blob.
pub(crate) fn forget(directory: &Path, blob: &str) {
    let _ = fs::remove_file(directory.join(blob));
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_or_of_another_compressor_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let blob = directory.path().join("blob");
        fs::write(&blob, [0; 400]).unwrap();
        let pieces = Pieces::new(directory.path().join("pieces"), directory.path().into());
        let own = (0..4).map(|n| Piece::new(Key::of(&[n]), &[n; 90])).collect();
        let known = OnceLock::from(Known { compressor: 5, ..Known::default() });
        let pieces = Pieces { own, known, ..pieces };
        pieces.keep("blob", 400);
        let bytes = fs::read(directory.path().join("pieces/blob")).unwrap();
        assert_eq!(bytes.len(), MAGIC.len() + 4 + 4 * ENTRY + 4);
        let read = |bytes: &[u8], compressor| {
            let mut known = Known { compressor, ..Known::default() };
            known.add(bytes, File::open(&blob).unwrap());
            known.places.len()
        };
        assert_eq!((read(&bytes, 5), read(&bytes, 6)), (4, 0));
        assert!((0..bytes.len()).all(|len| read(&bytes[..len], 5) == 0));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged, 5), 0, "byte {at}");
        }
        // The blob is shorter than it was.
        fs::write(&blob, [0; 300]).unwrap();
        assert_eq!(read(&bytes, 5), 0);
    }
}
