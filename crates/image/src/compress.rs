//! How the tar archive of a layer is compressed.
//!
//! The bytes are part of an image's digest, so they depend on nothing but the archive, the kind
//! and the level: not on how many cores there are, or in what pieces the archive was written.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};

use flate2::read::MultiGzDecoder;
use flate2::{Compress, Crc, FlushCompress, Status};
use oci_spec::image::MediaType;

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
    pub fn new(inner: W, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(inner),
            Compression::Gzip(level) => Self::Gzip(Box::new(Gzip::new(inner, level))),
            Compression::Zstd(level) => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(inner, level)?))
            }
        })
    }

    /// Writes what is still to be written.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(inner) => Ok(inner),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Zstd(zstd) => zstd.finish(),
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

/// Bytes that are compressed at once, on their own. Larger blocks compress a little better, and
/// take more memory for each core.
const BLOCK: usize = 512 << 10;

/// gzip (RFC 1952) on all cores: one member, whose deflate blocks are made of 512 KiB each,
/// without looking at those before. What is shorter comes out as of any gzip.
pub(crate) struct Gzip<W> {
    inner: W,
    level: u32,
    block: Vec<u8>,
    /// The blocks that are being compressed, in their order.
    running: VecDeque<Running>,
    jobs: usize,
    crc: Crc,
    begun: bool,
}

enum Running {
    Thread(JoinHandle<io::Result<Block>>),
    Done(io::Result<Block>),
}

struct Block {
    bytes: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    fn new(inner: W, level: u32) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
        Self::on(inner, level, cores)
    }

    fn on(inner: W, level: u32, cores: usize) -> Self {
        // Each takes two megabytes.
        let jobs = cores.min(8);
        let (block, running) = (Vec::new(), VecDeque::new());
        Self { inner, level, block, running, jobs, crc: Crc::new(), begun: false }
    }

    /// Compresses the block that is full, or the last one.
    fn push(&mut self, last: bool) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.block);
        let level = self.level;
        // The last one has nobody to run beside of.
        let running = if last || self.jobs == 1 {
            Running::Done(deflate(&bytes, level, last))
        } else {
            Running::Thread(thread::spawn(move || deflate(&bytes, level, last)))
        };
        self.running.push_back(running);
        while self.running.len() >= self.jobs {
            self.pop()?;
        }
        Ok(())
    }

    /// Writes the block that was begun first.
    fn pop(&mut self) -> io::Result<()> {
        let Some(running) = self.running.pop_front() else { return Ok(()) };
        let block = match running {
            Running::Done(block) => block?,
            Running::Thread(thread) => {
                let panicked = |_| io::Error::other("a thread that compresses has panicked");
                thread.join().map_err(panicked)??
            }
        };
        if !std::mem::replace(&mut self.begun, true) {
            // No flags, no time; what says how good the compression is; no operating system.
            let extra = match self.level {
                9.. => 2,
                0..=1 => 4,
                _ => 0,
            };
            self.inner.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 0xff])?;
        }
        self.inner.write_all(&block.bytes)?;
        self.crc.combine(&block.crc);
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.push(true)?;
        while !self.running.is_empty() {
            self.pop()?;
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.push(false)?;
        }
        if self.block.capacity() == 0 && bytes.len() > 4096 {
            self.block.reserve_exact(BLOCK);
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A block as deflate (RFC 1951), which ends at a whole byte.
fn deflate(bytes: &[u8], level: u32, last: bool) -> io::Result<Block> {
    let mut crc = Crc::new();
    crc.update(bytes);
    let mut deflate = Compress::new(flate2::Compression::new(level), false);
    let mut out = Vec::with_capacity(bytes.len() / 2 + 256);
    let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let rest = &bytes[deflate.total_in() as usize..];
        let status = deflate.compress_vec(rest, &mut out, flush)?;
        let all = deflate.total_in() as usize == bytes.len();
        // It is done if it did not need all of the room that it had.
        match (last, status) {
            (true, Status::StreamEnd) => break,
            (false, _) if all && out.len() < out.capacity() => break,
            _ => out.reserve(out.capacity().max(1 << 12)),
        }
    }
    Ok(Block { bytes: out, crc })
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
    fn bytes(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 27) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn gzip(bytes: &[u8], cores: usize, piece: usize) -> Vec<u8> {
        let mut gzip = Gzip::on(Vec::new(), 6, cores);
        bytes.chunks(piece).for_each(|piece| gzip.write_all(piece).unwrap());
        gzip.finish().unwrap()
    }

    #[test]
    fn gzip_gives_the_same_bytes_whatever_the_number_of_cores() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7] {
            let bytes = bytes(len);
            let one = gzip(&bytes, 1, 1 << 16);
            assert!([2, 3, 8].iter().all(|&cores| gzip(&bytes, cores, 12_345) == one), "{len}");
            // One member: who reads only the first has all of it.
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&one[..]).read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{len}");
        }
    }

    #[test]
    fn what_is_short_is_compressed_as_by_any_gzip() {
        let bytes = bytes(100_000);
        let level = flate2::Compression::new(6);
        let mut other = flate2::write::GzEncoder::new(Vec::new(), level);
        other.write_all(&bytes).unwrap();
        assert_eq!(gzip(&bytes, 4, 100), other.finish().unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_compressed_is_read_again(
            len in 0..3 * BLOCK, kind in 0..3, gzip_level in 0u32..10, zstd_level in 1..10
        ) {
            let bytes = bytes(len);
            let compression = match kind {
                0 => Compression::None,
                1 => Compression::Gzip(gzip_level),
                _ => Compression::Zstd(zstd_level),
            };
            let mut encoder = Encoder::new(Vec::new(), compression).unwrap();
            encoder.write_all(&bytes).unwrap();
            let compressed = encoder.finish().unwrap();
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
