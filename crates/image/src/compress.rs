//! How the tar archive of a layer is compressed.
//!
//! The bytes are part of an image's digest, so they depend on nothing but the archive, the kind
//! and the level: not on how many cores there are, in what pieces the archive was written, or
//! what was compressed before.

mod gzip;
mod pieces;

use std::fmt;
use std::io::{self, BufReader, Read, Write};

use flate2::read::MultiGzDecoder;
use oci_spec::image::MediaType;

use gzip::Gzip;
pub(crate) use pieces::{Pieces, forget as forget_pieces};

/// A kind of compression and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// None: the archive as it is.
    None,
    /// gzip, with a level from 0 to 9.
    Gzip(u32),
    /// zstd, with a level from 1 to 22.
    Zstd(i32),
}

impl Default for Compression {
    /// What every tool reads: gzip, with zlib's own default level.
    fn default() -> Self {
        Self::Gzip(6)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("uncompressed"),
            Self::Gzip(level) => write!(f, "gzip-{level}"),
            Self::Zstd(level) => write!(f, "zstd-{level}"),
        }
    }
}

impl Compression {
    /// What the OCI calls such a layer.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip(_) => MediaType::ImageLayerGzip,
            Self::Zstd(_) => MediaType::ImageLayerZstd,
        }
    }

    /// Whether a layer of this media type, the OCI's or docker's, is compressed in this way, with
    /// whatever level.
    pub fn is_of(self, media_type: &MediaType) -> bool {
        let name = media_type.as_ref();
        match self {
            Self::Gzip(_) => name.ends_with("gzip"),
            Self::Zstd(_) => name.ends_with("zstd"),
            Self::None => !name.ends_with("gzip") && !name.ends_with("zstd"),
        }
    }
}

/// Compresses what is written to it.
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    Gzip(Box<Gzip<W>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
}

impl<W: Write> Encoder<W> {
    /// `pieces` are those that were compressed before.
    pub fn new(inner: W, compression: Compression, pieces: Option<Pieces>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(inner),
            Compression::Gzip(level) => Self::Gzip(Box::new(Gzip::new(inner, level, pieces))),
            Compression::Zstd(level) => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(inner, level)?))
            }
        })
    }

    /// Writes what is still to be written. The pieces, if there are any, are those of what was
    /// written now.
    pub fn finish(self) -> io::Result<(W, Option<Pieces>)> {
        match self {
            Self::Plain(inner) => Ok((inner, None)),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => Ok((zstd.finish()?, None)),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
        }
    }

    /// What is compressed comes at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that zstd may ask for, as a power of two: its larger levels need 8 MiB.
const ZSTD_WINDOW: u32 = 26;

/// Undoes any compression.
pub(crate) enum Decoder<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    /// The bytes tell by themselves how they are compressed, as in all container tools: media
    /// types lie.
    pub fn new(inner: R) -> io::Result<Self> {
        let mut inner = BufReader::with_capacity(1 << 16, inner);
        Ok(match io::BufRead::fill_buf(&mut inner)? {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::new(MultiGzDecoder::new(inner))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut zstd = zstd::stream::read::Decoder::with_buffer(inner)?;
                zstd.window_log_max(ZSTD_WINDOW)?;
                Self::Zstd(Box::new(zstd))
            }
            _ => Self::Plain(inner),
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.read(bytes),
            Self::Gzip(inner) => inner.read(bytes),
            Self::Zstd(inner) => inner.read(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that compress a little.
    pub(super) fn bytes(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 27) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_compressed_is_read_again(
            len in 0usize..3 << 20, kind in 0..3, gzip_level in 0u32..10, zstd_level in 1..10
        ) {
            let bytes = bytes(len);
            let compression = match kind {
                0 => Compression::None,
                1 => Compression::Gzip(gzip_level),
                _ => Compression::Zstd(zstd_level),
            };
            let mut encoder = Encoder::new(Vec::new(), compression, None).unwrap();
            encoder.write_all(&bytes).unwrap();
            let compressed = encoder.finish().unwrap().0;
            let mut read = Vec::new();
            Decoder::new(&compressed[..]).unwrap().read_to_end(&mut read).unwrap();
            prop_assert!(read == bytes);
        }
    }

    #[test]
    fn zstd_that_asks_for_much_memory_is_refused() {
        // A frame header with a window of 2 GiB, and an empty last block.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
        let error = Decoder::new(&frame[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn a_media_type_says_what_the_compression_is() {
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
        assert!(Compression::Gzip(1).is_of(&docker) && !Compression::None.is_of(&docker));
        for compression in [Compression::None, Compression::Gzip(9), Compression::Zstd(1)] {
            assert!(compression.is_of(&compression.media_type()));
        }
    }
}
