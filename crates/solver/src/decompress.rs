//! Compressed files, told apart by what they begin with and not by their names.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};

/// The most memory that is given to a decoder, in bytes. `xz -9` wants 65 MiB, `zstd --ultra -22`
/// 128 MiB: a file that asks for more than this is refused.
const MAX_MEMORY: u32 = 80 << 20;
/// The same as a power of two, for zstd's window.
const MAX_WINDOW_LOG: u32 = 26;

/// A file as it was before it was compressed, if it is.
pub(crate) enum Decompressed<R: Read> {
    Plain(Start<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Start<R>>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<BufReader<Start<R>>>>),
    Xz(Box<lzma_rust2::XzReader<BufReader<Start<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Start<R>>>>),
}

/// What was read to see what it is, and the rest.
type Start<R> = Chain<Cursor<Vec<u8>>, R>;

impl<R: Read> Decompressed<R> {
    /// Looks at the first bytes.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut start = Vec::new();
        (&mut from).take(6).read_to_end(&mut start)?;
        let magic: [u8; 6] = std::array::from_fn(|i| start.get(i).copied().unwrap_or(0));
        let from = Cursor::new(start).chain(from);
        let buffered = |from| BufReader::with_capacity(1 << 16, from);
        Ok(match magic {
            [0x1f, 0x8b, ..] => {
                Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(from))))
            }
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
                Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(from))))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0] => {
                let decoder =
                    lzma_rust2::XzReader::new_mem_limit(buffered(from), true, MAX_MEMORY >> 10);
                Self::Xz(Box::new(decoder))
            }
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(buffered(from))?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => Self::Plain(from),
        })
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(from) => from.read(bytes),
            Self::Gzip(from) => from.read(bytes),
            Self::Bzip2(from) => from.read(bytes),
            Self::Xz(from) => from.read(bytes),
            Self::Zstd(from) => from.read(bytes),
        }
    }
}

/// Whether a file is a tar archive, compressed or not.
pub(crate) fn is_archive(file: &File) -> bool {
    let limits = koskit_image::Limits::default();
    let Ok(plain) = Decompressed::new(file) else { return false };
    // Its first entry may be one that is refused, but an archive it is.
    use koskit_image::LayerError::{Refused, TooLarge};
    let first = koskit_image::layer::Reader::new(plain, &limits).next();
    matches!(first, Ok(Some(_)) | Err(Refused { .. } | TooLarge { .. }))
}
