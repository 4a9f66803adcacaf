//! What a container has said: records in files, of which the oldest go when there is much.
//!
//! A record is a byte for its stream, the time in nanoseconds since 1970 (u64), its length (u32)
//! and its bytes. A position is the number of bytes of all records before it, also of those that
//! are gone; so a reader that follows knows whether it has lost something.

use crate::Stream;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a file, about.
const FILE_MAX: u64 = 4 << 20;
/// Files that are kept.
const FILES_MAX: usize = 4;
/// Bytes that are read at once, about.
const READ_MAX: usize = 256 << 10;
const HEAD: usize = 13;

/// The log of a container.
pub struct Log {
    /// Its files are this path and a number.
    path: PathBuf,
    files: VecDeque<Piece>,
    current: File,
}

struct Piece {
    number: u64,
    /// Position of its first record.
    start: u64,
    length: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of which stream.
    pub stream: Stream,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Log {
    /// An empty log.
    ///
    /// # Errors
    /// Its file cannot be made.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        let current = open(&path, 0)?;
        let files = VecDeque::from([Piece { number: 0, start: 0, length: 0 }]);
        Ok(Self { path, files, current })
    }

    /// Position behind its last record.
    pub fn end(&self) -> u64 {
        self.files.back().map_or(0, |piece| piece.start + piece.length)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// It cannot be written; it is not there then.
    pub fn add(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let end = self.end();
        if let Some(last) = self.files.back().filter(|last| last.length >= FILE_MAX) {
            let number = last.number + 1;
            self.current = open(&self.path, number)?;
            self.files.push_back(Piece { number, start: end, length: 0 });
            if self.files.len() > FILES_MAX
                && let Some(old) = self.files.pop_front()
            {
                let _ = fs::remove_file(path(&self.path, old.number));
            }
        }
        let mut record = vec![stream as u8];
        record.extend_from_slice(&now().to_le_bytes());
        record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        record.extend_from_slice(bytes);
        let Some(last) = self.files.back_mut() else { return Ok(()) };
        if let Err(error) = self.current.write_all(&record) {
            // Half a record would be read as something else.
            self.current.set_len(last.length)?;
            self.current.seek(SeekFrom::Start(last.length))?;
            return Err(error);
        }
        last.length += record.len() as u64;
        Ok(())
    }

    /// Records from a position on, and the position behind them. Where records were lost, the
    /// second position is not the first one plus what was read.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn read(&self, from: u64) -> io::Result<(Vec<Record>, u64)> {
        let Some(piece) = self
            .files
            .iter()
            .find(|piece| from < piece.start + piece.length)
            .filter(|piece| piece.length > 0)
        else {
            return Ok((Vec::new(), self.end()));
        };
        let from = from.max(piece.start);
        let mut file = File::open(path(&self.path, piece.number))?;
        file.seek(SeekFrom::Start(from - piece.start))?;
        let left = piece.start + piece.length - from;
        let (mut records, mut at) = (Vec::new(), from);
        let mut reader = io::BufReader::new(file.take(left));
        while at - from < READ_MAX as u64 {
            let mut head = [0; HEAD];
            if reader.read_exact(&mut head).is_err() {
                break;
            }
            let stream = match head[0] {
                0 => Stream::Output,
                1 => Stream::Error,
                _ => Stream::Log,
            };
            let number = |range: std::ops::Range<usize>| {
                head[range].iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte))
            };
            let mut bytes = vec![0; number(9..13) as usize];
            reader.read_exact(&mut bytes)?;
            at += (HEAD + bytes.len()) as u64;
            records.push(Record { stream, time: number(1..9), bytes });
        }
        Ok((records, at))
    }

    /// The position from which on there are `lines` lines.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn tail(&self, lines: usize) -> io::Result<(u64, usize)> {
        if lines == 0 {
            return Ok((self.end(), 0));
        }
        let first = self.files.front().map_or(0, |piece| piece.start);
        // Where each line begins: the record's position, and how many of its bytes come before.
        let (mut starts, mut open) = (VecDeque::from([(first, 0)]), false);
        let mut at = first;
        while at < self.end() {
            let (records, next) = self.read(at)?;
            for record in records {
                for (index, byte) in record.bytes.iter().enumerate() {
                    open = *byte != b'\n';
                    if !open {
                        starts.push_back((at, index + 1));
                        if starts.len() > lines.saturating_add(1) {
                            starts.pop_front();
                        }
                    }
                }
                at += (HEAD + record.bytes.len()) as u64;
            }
            at = at.max(next);
        }
        if !open {
            // Where a line would begin that nobody has written.
            starts.pop_back();
        }
        Ok(starts.get(starts.len().saturating_sub(lines)).copied().unwrap_or((first, 0)))
    }

    /// Removes its files.
    pub fn remove(&self) {
        for piece in &self.files {
            let _ = fs::remove_file(path(&self.path, piece.number));
        }
    }
}

fn path(path: &std::path::Path, number: u64) -> PathBuf {
    path.with_extension(format!("{number}.log"))
}

fn open(base: &std::path::Path, number: u64) -> io::Result<File> {
    File::create(path(base, number))
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path().join("c")).unwrap();
        (folder, log)
    }

    #[test]
    fn records_are_read_as_they_were_added() {
        let (_folder, mut log) = log();
        log.add(Stream::Output, b"one\n").unwrap();
        log.add(Stream::Error, b"").unwrap();
        let (records, end) = log.read(0).unwrap();
        assert_eq!((records.len(), end), (2, log.end()));
        assert_eq!((records[0].stream, &records[0].bytes[..]), (Stream::Output, &b"one\n"[..]));
        assert_eq!(log.read(end).unwrap(), (vec![], end));
    }

    #[test]
    fn the_tail_begins_with_a_line() {
        let (_folder, mut log) = log();
        for piece in [&b"a\nb"[..], b"b\nc\n", b"d"] {
            log.add(Stream::Output, piece).unwrap();
        }
        let text = |lines| {
            let (from, skip) = log.tail(lines).unwrap();
            let (records, _) = log.read(from).unwrap();
            let all: Vec<u8> = records.into_iter().flat_map(|record| record.bytes).collect();
            String::from_utf8(all[skip..].to_vec()).unwrap()
        };
        assert_eq!(text(0), "");
        assert_eq!(text(1), "d");
        assert_eq!(text(2), "c\nd");
        assert_eq!(text(9), "a\nbb\nc\nd");
    }

    #[test]
    fn much_is_bounded_and_what_is_lost_is_known() {
        let (folder, mut log) = log();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..30 {
            log.add(Stream::Output, &piece).unwrap();
        }
        let files: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|f| f.unwrap().metadata().unwrap().len())
            .sum();
        assert!(files < 25 << 20, "{files}");
        let (records, next) = log.read(0).unwrap();
        assert!(!records.is_empty() && next > 8 << 20);
    }
}
