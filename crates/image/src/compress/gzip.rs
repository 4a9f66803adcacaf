//! gzip on all cores, in blocks that a change leaves alone.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use flate2::{Compress, Crc, FlushCompress, Status};

use super::pieces::{Key, Piece, Pieces};

/// What a tar archive is made of: a file that is longer or shorter than it was moves all that
/// comes after it by so many bytes, or a multiple.
const RECORD: usize = 512;
/// The shortest block, but for the last one.
const SHORTEST: usize = 256 << 10;
/// The longest. Longer blocks compress a little better, and take more memory for each core.
const LONGEST: usize = 1 << 20;
/// A block ends after a record whose [`mark`] has none of these bits: one of 512 does.
const CUT: u64 = 0x1ff;

/// gzip (RFC 1952) on all cores: one member, whose deflate blocks are made of half a megabyte
/// each, without looking at those before. What is shorter comes out as of any gzip.
///
/// Where a block ends depends on nothing but the bytes just before, so that a change of a file
/// changes the block that it is in, and maybe the next. All others can be taken from where they
/// were compressed before.
pub(crate) struct Gzip<W> {
    inner: W,
    level: u32,
    block: Vec<u8>,
    /// Whether it ends here, if anything follows.
    cut: bool,
    /// The blocks that are being compressed, in their order.
    running: VecDeque<Running>,
    jobs: usize,
    crc: Crc,
    begun: bool,
    pieces: Option<Arc<Pieces>>,
    /// What was written, for the next one.
    written: Vec<Piece>,
}

enum Running {
    Thread(JoinHandle<io::Result<Block>>),
    Done(io::Result<Block>),
}

struct Block {
    bytes: Vec<u8>,
    crc: Crc,
    key: Option<Key>,
}

impl<W: Write> Gzip<W> {
    pub fn new(inner: W, level: u32, pieces: Option<Pieces>) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
        Self::on(inner, level, cores, pieces)
    }

    fn on(inner: W, level: u32, cores: usize, pieces: Option<Pieces>) -> Self {
        Self {
            inner,
            level,
            block: Vec::new(),
            cut: false,
            running: VecDeque::new(),
            // One more, so that nobody waits while the first one is written. Each takes three
            // megabytes.
            jobs: if cores == 1 { 1 } else { cores.min(8) + 1 },
            crc: Crc::new(),
            begun: false,
            pieces: pieces.map(Arc::new),
            written: Vec::new(),
        }
    }

    /// Compresses the block that has ended, or the last one.
    fn push(&mut self, last: bool) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.block);
        self.cut = false;
        let level = self.level;
        // The last one has nobody to run beside of.
        let running = if last {
            Running::Done(deflate(&bytes, level, last))
        } else {
            let pieces = self.pieces.clone();
            if let Some(pieces) = &pieces {
                pieces.load(level);
            }
            match self.jobs {
                1 => Running::Done(block(&bytes, level, pieces.as_deref())),
                _ => {
                    Running::Thread(thread::spawn(move || block(&bytes, level, pieces.as_deref())))
                }
            }
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
        self.written.extend(block.key.map(|key| Piece::new(key, &block.bytes)));
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<(W, Option<Pieces>)> {
        self.push(true)?;
        while !self.running.is_empty() {
            self.pop()?;
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        let pieces = self.pieces.and_then(Arc::into_inner);
        Ok((self.inner, pieces.map(|pieces| pieces.of(self.written))))
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cut {
            self.push(false)?;
        }
        if self.block.capacity() == 0 && bytes.len() > 4096 {
            self.block.reserve_exact(LONGEST);
        }
        let before = self.block.len();
        let n = bytes.len().min(LONGEST - before);
        self.block.extend_from_slice(&bytes[..n]);
        // The records that these bytes have completed.
        let first = (before / RECORD).max(SHORTEST / RECORD - 1);
        for record in first..self.block.len() / RECORD {
            let end = (record + 1) * RECORD;
            if mark(&self.block[end - RECORD..end]) & CUT == 0 || end == LONGEST {
                self.block.truncate(end);
                self.cut = true;
                return Ok(end - before);
            }
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A number that depends on all bytes of a record. It is part of what an archive comes to, and
/// needs not withstand anybody: who makes bad blocks has a larger image.
fn mark(record: &[u8]) -> u64 {
    // An odd number without a pattern: 2^64 by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |lane: u64, word: u64| (lane ^ word).wrapping_mul(FACTOR).rotate_left(32);
    // The processor does the four side by side.
    let mut lanes = [1, 2, 3, 4];
    for words in record.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
            *lane = mix(*lane, u64::from_le_bytes(word.try_into().expect("it has eight bytes")));
        }
    }
    lanes.into_iter().fold(0, mix) >> 17
}

/// A block that is not the last one: as it was compressed before, or compressed.
fn block(bytes: &[u8], level: u32, pieces: Option<&Pieces>) -> io::Result<Block> {
    let Some(pieces) = pieces else { return deflate(bytes, level, false) };
    let key = Key::of(bytes);
    let block = match pieces.get(&key) {
        Some(known) => {
            let mut crc = Crc::new();
            crc.update(bytes);
            Block { bytes: known, crc, key: None }
        }
        None => deflate(bytes, level, false)?,
    };
    Ok(Block { key: Some(key), ..block })
}

/// Bytes as deflate (RFC 1951), which ends at a whole byte.
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
    Ok(Block { bytes: out, crc, key: None })
}

/// What tells one compressor from another that gives other bytes: their checksum for a text.
pub(super) fn compressor(level: u32) -> io::Result<u32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 24
    };
    let mut text = Vec::new();
    while text.len() < 64 << 10 {
        // Words that come again, at different distances, between bytes that do not.
        let word = format!("{:x} is {:o}; ", next() % 61, next() % 7);
        text.extend_from_slice(word.as_bytes());
        text.push(next() as u8);
    }
    let mut crc = Crc::new();
    crc.update(&deflate(&text, level, false)?.bytes);
    Ok(crc.sum())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::compress::tests::bytes;

    fn gzip(bytes: &[u8], cores: usize, piece: usize) -> Vec<u8> {
        let mut gzip = Gzip::on(Vec::new(), 6, cores, None);
        bytes.chunks(piece).for_each(|piece| gzip.write_all(piece).unwrap());
        gzip.finish().unwrap().0
    }

    #[test]
    fn gzip_gives_the_same_bytes_whatever_the_number_of_cores() {
        let zeros = vec![0; 3 * LONGEST];
        for len in [0, 1, SHORTEST - 1, SHORTEST, LONGEST, LONGEST + 1, 3 * LONGEST] {
            for bytes in [&bytes(len)[..], &zeros[..len]] {
                let one = gzip(bytes, 1, 1 << 16);
                assert!([2, 3, 8].iter().all(|&cores| gzip(bytes, cores, 12_345) == one), "{len}");
                // One member: who reads only the first has all of it.
                let mut read = Vec::new();
                flate2::read::GzDecoder::new(&one[..]).read_to_end(&mut read).unwrap();
                assert!(read == bytes, "{len}");
            }
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

    #[test]
    fn what_was_compressed_before_is_taken_and_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (known, blobs) = (directory.path().join("pieces"), directory.path().join("blobs"));
        std::fs::create_dir(&blobs).unwrap();
        let compress = |bytes: &[u8], name: &str| {
            let pieces = Pieces::new(known.clone(), blobs.clone());
            let mut gzip = Gzip::on(Vec::new(), 6, 2, Some(pieces));
            gzip.write_all(bytes).unwrap();
            let (compressed, pieces) = gzip.finish().unwrap();
            std::fs::write(blobs.join(name), &compressed).unwrap();
            let pieces = pieces.unwrap();
            pieces.keep(name, compressed.len() as u64);
            (compressed, pieces.taken())
        };
        let mut bytes = bytes(8 * LONGEST);
        let (first, taken) = compress(&bytes, "1");
        assert!(first == gzip(&bytes, 1, 4096) && taken == 0);

        // A file in the middle has become longer.
        let middle = bytes.len() / 2;
        bytes.splice(middle..middle, [7; 3 * RECORD]);
        let (second, taken) = compress(&bytes, "2");
        assert!(second == gzip(&bytes, 1, 4096), "it depends on what was there before");
        // Two or three blocks are others; most are as they were.
        assert!(taken > 4, "{taken}");

        // A blob that was damaged gives nothing to others.
        for name in ["1", "2"] {
            std::fs::write(blobs.join(name), vec![0; second.len()]).unwrap();
        }
        let (third, taken) = compress(&bytes, "3");
        assert!(third == second && taken == 0);
    }
}
