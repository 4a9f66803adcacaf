//! Blobs: bytes that are named by their SHA-256, hashed whenever they pass.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use koskit_llb::Digest;
use sha2::{Digest as _, Sha256};

use crate::compress::{Compression, Decoder, Encoder, Pieces};
use crate::error::Damage;
use crate::{Error, Layer};

/// Bytes that are worth to be gone on with.
const WORTH: u64 = 1 << 20;

/// Reads a blob. The last read, the one that gives no bytes, fails where the digest or the size
/// is wrong: who has not read until then knows nothing about the bytes.
pub type BlobReader = Verified<File>;

/// Reads the tar archive of a layer. The last read checks both digests: the blob's and the
/// archive's.
pub struct LayerReader(Verified<Decoder<BlobReader>>);

/// Writes a blob. What is dropped without [`BlobWriter::finish`] leaves nothing, unless it is one
/// that can be gone on with ([`Store::partial_blob`](crate::Store::partial_blob)).
pub struct BlobWriter {
    hashed: Hashed<File>,
    path: PathBuf,
    blobs: PathBuf,
    stays: bool,
}

/// Writes the tar archive of a layer, as a blob that is compressed.
pub struct LayerWriter {
    hashed: Hashed<Encoder<BlobWriter>>,
    compression: Compression,
    path: PathBuf,
}

impl BlobWriter {
    /// `file` at `path` is renamed into the directory `blobs`.
    pub(crate) fn new(file: File, path: PathBuf, blobs: PathBuf) -> Self {
        Self { hashed: Hashed::new(file), path, blobs, stays: false }
    }

    /// Goes on after what is in `file` already, which is hashed first. What is dropped then stays
    /// for the next one.
    pub(crate) fn resume(mut file: File, path: PathBuf, blobs: PathBuf) -> io::Result<Self> {
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut piece = vec![0; 1 << 18];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            size += read as u64;
        }
        let hashed = Hashed { inner: file, hash, size };
        Ok(Self { hashed, path, blobs, stays: true })
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.hashed.size
    }

    /// Leaves nothing.
    pub fn discard(mut self) {
        self.stays = false;
    }

    /// Keeps the blob, and gives its digest and size. After that it survives a power failure.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn finish(self) -> Result<(Digest, u64), Error> {
        let digest = self.hashed.digest();
        self.keep(&digest)?;
        Ok((digest, self.hashed.size))
    }

    /// Keeps the blob if it is the expected one.
    ///
    /// # Errors
    /// It is another one, or as [`BlobWriter::finish`].
    pub fn finish_as(mut self, digest: &Digest, size: u64) -> Result<(), Error> {
        // Nobody shall go on with wrong bytes.
        self.stays = false;
        check(digest, Some(size), &self.hashed.digest(), self.hashed.size)
            .map_err(|damage| Error::Damaged { digest: digest.clone(), damage })?;
        self.keep(digest)
    }

    fn keep(&self, digest: &Digest) -> Result<(), Error> {
        let to = self.blobs.join(digest.hex());
        self.hashed.inner.sync_all().map_err(Error::file("write", &self.path))?;
        std::fs::rename(&self.path, &to).map_err(Error::file("write", &to))?;
        sync_directory(&self.blobs)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hashed.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hashed.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.stays && self.hashed.size >= WORTH {
            return;
        }
        // After a rename there is nothing.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl LayerWriter {
    pub(crate) fn new(
        blob: BlobWriter,
        compression: Compression,
        pieces: Pieces,
    ) -> Result<Self, Error> {
        let path = blob.path.clone();
        let encoder = Encoder::new(blob, compression, Some(pieces));
        let encoder = encoder.map_err(Error::file("write", &path))?;
        Ok(Self { hashed: Hashed::new(encoder), compression, path })
    }

    /// Keeps the layer.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn finish(self) -> Result<Layer, Error> {
        let diff_id = self.hashed.digest();
        let finished = self.hashed.inner.finish();
        let (blob, pieces) = finished.map_err(Error::file("write", self.path))?;
        let (digest, size) = blob.finish()?;
        if let Some(pieces) = pieces {
            pieces.keep(digest.hex(), size);
        }
        Ok(Layer { media_type: self.compression.media_type(), digest, size, diff_id })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hashed.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hashed.flush()
    }
}

impl LayerReader {
    pub(crate) fn new(blob: BlobReader, diff_id: Digest) -> io::Result<Self> {
        Ok(Self(Verified::new(Decoder::new(blob)?, diff_id, None)))
    }
}

impl Read for LayerReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

/// Checks the digest, and the size where it is known, of all that is read.
pub struct Verified<R> {
    inner: R,
    hash: Sha256,
    read: u64,
    digest: Digest,
    size: Option<u64>,
}

impl<R> Verified<R> {
    pub(crate) fn new(inner: R, digest: Digest, size: Option<u64>) -> Self {
        Self { inner, hash: Sha256::new(), read: 0, digest, size }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(bytes)?;
        self.hash.update(&bytes[..n]);
        self.read += n as u64;
        let at_end = n == 0 && !bytes.is_empty();
        if at_end || self.size.is_some_and(|size| self.read > size) {
            let found = digest_of(self.hash.clone());
            check(&self.digest, self.size, &found, self.read).map_err(|damage| {
                let digest = self.digest.clone();
                io::Error::new(io::ErrorKind::InvalidData, Error::Damaged { digest, damage })
            })?;
        }
        Ok(n)
    }
}

/// Hashes what is written.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn digest(&self) -> Digest {
        digest_of(self.hash.clone())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Makes the names in a directory survive a power failure.
pub(crate) fn sync_directory(path: &std::path::Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::file("write", path))
}

fn check(digest: &Digest, size: Option<u64>, found: &Digest, read: u64) -> Result<(), Damage> {
    match size {
        Some(wanted) if wanted != read => Err(Damage::Size { wanted, found: read }),
        _ if found != digest => Err(Damage::Digest(found.clone())),
        _ => Ok(()),
    }
}

fn digest_of(hash: Sha256) -> Digest {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hash.finalize() {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text.parse().expect("it is a digest by construction")
}
