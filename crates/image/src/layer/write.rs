//! Writes a tar archive in which nothing depends on the writer's machine.
//!
//! Headers are ustar; a PAX header goes before those entries alone that need one: a long or
//! large field, or extended attributes. Users and groups have numbers and no names, times are
//! whole seconds.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::archive::{BLOCK, Entry, EntryKind};

/// The largest number in a field of eight octal digits with its end.
const MAX_ID: u64 = 0o777_7777;
/// The same for twelve.
const MAX_SIZE: u64 = 0o777_7777_7777;

/// Writes entries one after the other.
pub(crate) struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes an entry. The content of a file is to be written next by [`Writer::content`], all
    /// of it.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let mut path = entry.path.as_os_str().as_bytes().to_vec();
        if entry.kind == EntryKind::Directory {
            if path.is_empty() {
                path.push(b'.');
            }
            path.push(b'/');
        }
        let (kind, size, link) = match &entry.kind {
            EntryKind::File(size) => (b'0', *size, Path::new("")),
            EntryKind::Link(target) => (b'1', 0, target.as_path()),
            EntryKind::Symlink(target) => (b'2', 0, target.as_path()),
            EntryKind::Directory => (b'5', 0, Path::new("")),
            EntryKind::Fifo => (b'6', 0, Path::new("")),
            EntryKind::Device => {
                let why = "a device node has no place in a layer";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        };
        let link = link.as_os_str().as_bytes();
        let (prefix, name) = split(&path);
        let mut pax = Vec::new();
        if name.len() > 100 {
            record(&mut pax, b"path", &path);
        }
        if link.len() > 100 {
            record(&mut pax, b"linkpath", link);
        }
        if size > MAX_SIZE {
            record(&mut pax, b"size", size.to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if u64::from(id) > MAX_ID {
                record(&mut pax, key, id.to_string().as_bytes());
            }
        }
        if !(0..=MAX_SIZE as i64).contains(&entry.mtime) {
            record(&mut pax, b"mtime", entry.mtime.to_string().as_bytes());
        }
        for (xattr, value) in &entry.xattrs {
            record(&mut pax, &[b"SCHILY.xattr.", xattr.as_bytes()].concat(), value);
        }
        if !pax.is_empty() {
            // What Go's writer calls it; readers do not look at the name.
            let header = Header::new(b"", b"PaxHeaders.0", b'x').number(SIZE, pax.len() as u64);
            self.inner.write_all(&header.finish())?;
            self.inner.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        let header = Header::new(prefix, name, kind)
            .number(MODE, entry.mode.into())
            .number(UID, entry.uid.into())
            .number(GID, entry.gid.into())
            .number(SIZE, size)
            .number(MTIME, entry.mtime.max(0) as u64)
            .text(157..257, link);
        self.inner.write_all(&header.finish())
    }

    /// Writes the content of the entry before, which must be as long as the entry said.
    pub fn content(&mut self, content: &mut impl Read, size: u64) -> io::Result<()> {
        let written = io::copy(&mut content.take(size), &mut self.inner)?;
        if written < size {
            let why = "the file became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        self.pad(size)
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        let zeros = [0; BLOCK];
        self.inner.write_all(&zeros[..(len.wrapping_neg() % BLOCK as u64) as usize])
    }
}

const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;

/// A header that is being made.
struct Header([u8; BLOCK]);

impl Header {
    fn new(prefix: &[u8], name: &[u8], kind: u8) -> Self {
        let mut block = [0; BLOCK];
        block[156] = kind;
        let header = Self(block).text(257..265, b"ustar\x0000").text(0..100, name);
        // A PAX header has no owner and no time, but its fields are not empty.
        let header =
            [MODE, UID, GID, MTIME].into_iter().fold(header, |h, field| h.number(field, 0));
        header.text(345..500, prefix)
    }

    /// As much of the text as the field holds; a PAX record has all of it.
    fn text(mut self, field: Range<usize>, text: &[u8]) -> Self {
        let len = text.len().min(field.len());
        self.0[field.start..field.start + len].copy_from_slice(&text[..len]);
        self
    }

    /// Octal digits and a zero byte. A number that does not fit is in a PAX record; the field
    /// is zero then.
    fn number(self, field: Range<usize>, number: u64) -> Self {
        let digits = field.len() - 1;
        let number = if number >> (3 * digits) == 0 { number } else { 0 };
        self.text(field, format!("{number:0digits$o}").as_bytes())
    }

    fn finish(self) -> [u8; BLOCK] {
        let header = self.text(148..156, b"        ");
        let sum: u32 = header.0.iter().map(|&b| u32::from(b)).sum();
        header.text(148..156, format!("{sum:06o}\0 ").as_bytes()).0
    }
}

/// A path as a prefix and a name, where it is too long for the name alone. What fits in neither
/// way stays whole.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let fits = |slash: usize| slash <= 155 && (1..=100).contains(&(path.len() - slash - 1));
    let slash = (1..path.len()).rev().find(|&i| path[i] == b'/' && fits(i));
    match slash {
        Some(slash) if path.len() > 100 => (&path[..slash], &path[slash + 1..]),
        _ => (b"", path),
    }
}

/// Appends a PAX record, whose length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, an equals sign, a newline.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(len.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}
