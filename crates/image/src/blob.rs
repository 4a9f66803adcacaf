//! Blobs: bytes that are named by their SHA-256, hashed whenever they pass.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use koskit_llb::Digest;
use oci_spec::image::MediaType;
use sha2::{Digest as _, Sha256};

use crate::error::Damage;
use crate::{Error, Layer};

/// zlib's own default. The level and the library are part of a layer's digest.
const LEVEL: Compression = Compression::new(6);

/// Reads a blob. The last read, the one that gives no bytes, fails where the digest or the size
/// is wrong: who has not read until then knows nothing about the bytes.
pub type BlobReader = Verified<File>;

/// Reads the tar archive of a layer. The last read checks both digests: the blob's and the
/// archive's.
pub struct LayerReader(Verified<Decoder>);

/// Writes a blob. What is dropped without [`BlobWriter::finish`] leaves nothing.
pub struct BlobWriter {
    hashed: Hashed<File>,
    path: PathBuf,
    blobs: PathBuf,
}

/// Writes the tar archive of a layer, as a gzip blob.
pub struct LayerWriter(Hashed<GzEncoder<BlobWriter>>);

impl BlobWriter {
    /// `file` at `path` is renamed into the directory `blobs`.
    pub(crate) fn new(file: File, path: PathBuf, blobs: PathBuf) -> Self {
        Self { hashed: Hashed::new(file), path, blobs }
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
    pub fn finish_as(self, digest: &Digest, size: u64) -> Result<(), Error> {
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
        // After a rename there is nothing.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl LayerWriter {
    pub(crate) fn new(blob: BlobWriter) -> Self {
        Self(Hashed::new(GzEncoder::new(blob, LEVEL)))
    }

    /// Keeps the layer.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn finish(self) -> Result<Layer, Error> {
        let diff_id = self.0.digest();
        let gzip = self.0.inner;
        let path = gzip.get_ref().path.clone();
        let blob = gzip.finish().map_err(Error::file("write", path))?;
        let (digest, size) = blob.finish()?;
        Ok(Layer { media_type: MediaType::ImageLayerGzip, digest, size, diff_id })
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl LayerReader {
    /// The blob tells by its first bytes how it is compressed, as in all container tools: media
    /// types lie.
    pub(crate) fn new(blob: BlobReader, diff_id: Digest) -> io::Result<Self> {
        let mut blob = BufReader::with_capacity(1 << 16, blob);
        let decoder = match io::BufRead::fill_buf(&mut blob)? {
            [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(MultiGzDecoder::new(blob))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let why = "it is compressed with zstd, which koskit cannot read";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            _ => Decoder::Plain(blob),
        };
        Ok(Self(Verified::new(decoder, diff_id, None)))
    }
}

impl Read for LayerReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

enum Decoder {
    Gzip(Box<MultiGzDecoder<BufReader<BlobReader>>>),
    Plain(BufReader<BlobReader>),
}

impl Read for Decoder {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(inner) => inner.read(bytes),
            Self::Plain(inner) => inner.read(bytes),
        }
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
