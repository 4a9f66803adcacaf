//! Reads the tar archive that a layer is: ustar, with the extensions of PAX and GNU.
//!
//! An archive is hostile until proven otherwise, which is why this is not the crate `tar`:
//! what is kept in memory (long names, extended attributes) is bounded, the size that a PAX
//! record gives is the one that the content is skipped by, and an entry comes out with a clean
//! path or not at all. [`Reader::next`] gives one entry, [`Reader::content`] its bytes; what is
//! not read is skipped.
//!
//! Global PAX headers are skipped, as container tools do. GNU's old sparse files are read, and
//! holes come out as zeros; PAX's three sparse forms are refused by name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::limits::Budget;
use super::{LayerError, Limits, Refusal};

/// Size of a header, and what content is padded to.
pub(super) const BLOCK: usize = 512;
/// The longest name or set of PAX records, as in Go's reader.
const MAX_EXTENSION: u64 = 1 << 20;
/// Linux's PATH_MAX: a longer path cannot be made.
const MAX_PATH: usize = 4096;
/// Linux's NAME_MAX.
const MAX_NAME: usize = 255;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 16;

/// One entry of an archive, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.` and `..`; the root itself is empty.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, set-user-ID, set-group-ID and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file of this many bytes, holes included.
    File(u64),
    /// As written: relative to the link's directory, or absolute inside the root.
    Symlink(PathBuf),
    /// A second name of an earlier entry, whose path is as clean as the entry's own.
    Link(PathBuf),
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device,
}

/// Reads entries one after the other.
pub struct Reader<R> {
    inner: R,
    budget: Budget,
    /// Bytes of the archive read so far.
    offset: u64,
    /// Bytes of the current content that are still in the archive, and the padding after them.
    stored: u64,
    padding: u64,
    /// What the current content is made of, last piece first.
    pieces: Vec<Piece>,
    ended: bool,
    confined: bool,
}

/// A run of bytes in a content: from the archive, or a hole.
#[derive(Clone, Copy)]
struct Piece {
    hole: bool,
    len: u64,
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    sparse: bool,
}

impl<R: Read> Reader<R> {
    /// Reads an archive that is not compressed.
    pub fn new(inner: R, limits: &Limits) -> Self {
        let budget = Budget::new(limits);
        let (pieces, ended, confined) = (vec![], false, false);
        Self { inner, budget, offset: 0, stored: 0, padding: 0, pieces, ended, confined }
    }

    /// Reads names as Docker does for ADD: `/a` and `b/../a` are `a`, only what climbs out of the
    /// place that is unpacked to is refused, and symbolic links may say what they like. A
    /// layer must not be read so: see [`leads_out`].
    #[must_use]
    pub fn confined(self) -> Self {
        Self { confined: true, ..self }
    }

    /// What may still be made of the archive: who makes things that have no entry of their own
    /// takes them from here.
    pub(crate) fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    /// The next entry, or `None` after the last one. Then all of the input has been read, so
    /// that a reader below has seen what it takes to check a digest.
    ///
    /// # Errors
    /// The archive is damaged, hostile or larger than the limits.
    #[expect(clippy::should_implement_trait, reason = "a content borrows the reader")]
    pub fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_content()?;
        let mut extension = Extension::default();
        loop {
            let at = self.offset;
            let block = self.block()?;
            if block.iter().all(|&b| b == 0) {
                self.ended = true;
                self.drain()?;
                return Ok(None);
            }
            let header = Header::check(&block).map_err(|why| LayerError::Header { at, why })?;
            let size = header.size().map_err(|why| LayerError::Header { at, why })?;
            match header.kind() {
                b'x' => extension.records(&self.extension(at, size)?, at)?,
                b'L' => extension.path = Some(until_nul(&self.extension(at, size)?).to_vec()),
                b'K' => extension.link = Some(until_nul(&self.extension(at, size)?).to_vec()),
                b'g' => drop(self.extension(at, size)?),
                _ => return self.entry(header, size, extension, at).map(Some),
            }
        }
    }

    /// The content of the entry that [`Reader::next`] gave last.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    fn entry(
        &mut self,
        header: Header<'_>,
        size: u64,
        extension: Extension,
        at: u64,
    ) -> Result<Entry, LayerError> {
        let bad = |why| LayerError::Header { at, why };
        let raw = extension.path.unwrap_or_else(|| header.path());
        let shown = || PathBuf::from(OsString::from_vec(raw[..raw.len().min(MAX_PATH)].to_vec()));
        let refuse = |refusal| LayerError::Refused { path: shown(), refusal };
        if extension.sparse {
            return Err(refuse(Refusal::Sparse));
        }
        let path = self.path(&raw).map_err(refuse)?;
        let mut stored = extension.size.unwrap_or(size);
        let link = || extension.link.clone().unwrap_or_else(|| header.link());
        let kind = match header.kind() {
            // Before POSIX, a directory was a file whose name ends with a slash.
            b'0' | 0 | b'7' if raw.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File(stored),
            b'1' => EntryKind::Link(self.link(link()).map_err(refuse)?),
            b'2' => EntryKind::Symlink(self.symlink(&path, link()).map_err(refuse)?),
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => {
                let whole = number(&header.0[483..495]).map_err(bad)?;
                self.pieces = self.sparse_map(header, stored, whole, at)?;
                EntryKind::File(whole)
            }
            other => return Err(refuse(Refusal::UnknownType(other))),
        };
        if path.as_os_str().is_empty() && kind != EntryKind::Directory {
            return Err(refuse(Refusal::Root));
        }
        match kind {
            EntryKind::File(whole) => {
                self.budget.content(whole)?;
                if header.kind() != b'S' {
                    self.pieces = vec![Piece { hole: false, len: stored }];
                }
            }
            // Some writers give a link the size of its target, and no content.
            EntryKind::Link(_) | EntryKind::Symlink(_) => stored = 0,
            _ => self.budget.content(stored)?,
        }
        self.stored = stored;
        self.padding = padding(stored);
        let id = |pax: Option<u64>, field: &[u8]| {
            let id = pax.map_or_else(|| number(field), Ok).map_err(bad)?;
            // The last one means "no change" to chown.
            let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
            id.ok_or_else(|| bad("a user or group number has more than 32 bits"))
        };
        Ok(Entry {
            path,
            kind,
            mode: (number(&header.0[100..108]).map_err(bad)? & 0o7777) as u32,
            uid: id(extension.uid, &header.0[108..116])?,
            gid: id(extension.gid, &header.0[116..124])?,
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => signed(&header.0[136..148]).map_err(bad)?,
            },
            xattrs: extension.xattrs,
        })
    }

    fn path(&self, raw: &[u8]) -> Result<PathBuf, Refusal> {
        if self.confined { clean(&confine(raw)?) } else { clean(raw) }
    }

    fn link(&self, raw: Vec<u8>) -> Result<PathBuf, Refusal> {
        match self.confined.then(|| confine(&raw)) {
            Some(Ok(path)) => clean_link(path),
            Some(Err(_)) => Err(Refusal::LinkLeaves(OsString::from_vec(raw).into())),
            None => clean_link(raw),
        }
    }

    fn symlink(&self, path: &Path, raw: Vec<u8>) -> Result<PathBuf, Refusal> {
        match symlink(path, raw) {
            Err(Refusal::LinkLeaves(target)) if self.confined => Ok(target),
            other => other,
        }
    }

    /// The map of a sparse file in GNU's old format: offsets and lengths, four in the header,
    /// 21 in each block that follows it.
    fn sparse_map(
        &mut self,
        header: Header<'_>,
        stored: u64,
        whole: u64,
        at: u64,
    ) -> Result<Vec<Piece>, LayerError> {
        let bad = |why| LayerError::Header { at, why };
        let mut pieces = Vec::new();
        let mut end = 0u64;
        let mut data = 0u64;
        let mut read = |fields: &[u8]| -> Result<(), LayerError> {
            for field in fields.chunks_exact(24) {
                if field[0] == 0 || field[12] == 0 {
                    continue;
                }
                let start = number(&field[..12]).map_err(bad)?;
                let len = number(&field[12..]).map_err(bad)?;
                let hole = start.checked_sub(end);
                let next = start.checked_add(len).filter(|&next| next <= whole);
                let (Some(hole), Some(next)) = (hole, next) else {
                    return Err(bad("the map of a sparse file is not in order"));
                };
                if pieces.len() >= MAX_PIECES {
                    return Err(bad("a sparse file has too many pieces"));
                }
                pieces.push(Piece { hole: true, len: hole });
                pieces.push(Piece { hole: false, len });
                data += len;
                end = next;
            }
            Ok(())
        };
        read(&header.0[386..482])?;
        let mut more = header.0[482] == 1;
        while more {
            let block = self.block()?;
            read(&block[..504])?;
            more = block[504] == 1;
        }
        if data != stored {
            return Err(bad("the pieces of a sparse file are not as long as its content"));
        }
        pieces.push(Piece { hole: true, len: whole - end });
        pieces.reverse();
        Ok(pieces)
    }

    /// The content of an extension header.
    fn extension(&mut self, at: u64, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > MAX_EXTENSION {
            let why = "a name or the records of an entry are longer than 1 MiB";
            return Err(LayerError::Header { at, why });
        }
        self.budget.metadata(size)?;
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.skip(padding(size))?;
        Ok(bytes)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], LayerError> {
        self.budget.metadata(BLOCK as u64)?;
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        Ok(block)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LayerError> {
        self.inner.read_exact(bytes).map_err(|e| self.failed(e))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, e: io::Error) -> LayerError {
        match e.kind() {
            // A reader below may have more to say than that.
            io::ErrorKind::UnexpectedEof if e.get_ref().is_none_or(|e| e.source().is_none()) => {
                LayerError::Truncated { at: self.offset }
            }
            _ => LayerError::Read(e),
        }
    }

    fn skip_content(&mut self) -> Result<(), LayerError> {
        self.pieces.clear();
        self.skip(self.stored + self.padding)?;
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    fn skip(&mut self, len: u64) -> Result<(), LayerError> {
        let skipped = io::copy(&mut (&mut self.inner).take(len), &mut io::sink());
        let skipped = skipped.map_err(|e| self.failed(e))?;
        self.offset += skipped;
        if skipped == len { Ok(()) } else { Err(LayerError::Truncated { at: self.offset }) }
    }

    /// Reads what comes after the end of the archive: padding, by convention.
    fn drain(&mut self) -> Result<(), LayerError> {
        let mut bytes = [0; 8192];
        loop {
            match self.inner.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => self.budget.metadata(n as u64)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
    }
}

/// The bytes of one entry, holes included.
pub struct Content<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.reader;
        while reader.pieces.last().is_some_and(|piece| piece.len == 0) {
            reader.pieces.pop();
        }
        let Some(piece) = reader.pieces.last_mut() else { return Ok(0) };
        let most = usize::try_from(piece.len).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = &mut bytes[..most];
        let n = if piece.hole {
            bytes.fill(0);
            bytes.len()
        } else {
            let n = reader.inner.read(bytes)?;
            if n == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reader.offset += n as u64;
            reader.stored -= n as u64;
            n
        };
        piece.len -= n as u64;
        Ok(n)
    }
}

impl<R: Read> Content<'_, R> {
    /// Turns an error of [`Content::read`] into the layer's.
    pub fn failed(&self, e: io::Error) -> LayerError {
        self.reader.failed(e)
    }
}

/// A header whose checksum is right.
#[derive(Clone, Copy)]
struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    fn check(block: &'a [u8; BLOCK]) -> Result<Self, &'static str> {
        let wanted = number(&block[148..156])?;
        let unsigned = block[..148].iter().chain(&block[156..]).map(|&b| u64::from(b)).sum::<u64>();
        // Old writers summed signed characters.
        let signed = block[..148].iter().chain(&block[156..]).map(|&b| i64::from(b as i8));
        let signed = signed.sum::<i64>() + 8 * i64::from(b' ');
        if wanted != unsigned + 8 * u64::from(b' ') && i64::try_from(wanted) != Ok(signed) {
            return Err("its checksum is wrong");
        }
        Ok(Self(block))
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn size(&self) -> Result<u64, &'static str> {
        number(&self.0[124..136])
    }

    fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    /// The name, behind the prefix where the header is POSIX's: GNU has other things there.
    fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = until_nul(&self.0[345..500]);
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }
}

impl Extension {
    /// Reads PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts all of it.
    fn records(&mut self, mut bytes: &[u8], at: u64) -> Result<(), LayerError> {
        let bad = |why| LayerError::Header { at, why };
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(bad("a PAX record is malformed"))?;
            bytes = rest;
            let digits = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let number = || digits().ok_or(bad("a PAX record has no number where it needs one"));
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number()?),
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"mtime" => self.mtime = Some(seconds(value).ok_or(bad("a PAX time is no time"))?),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.insert(OsStr::from_bytes(name).into(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The first record's key and value, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|&b| b == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let body = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&b| b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, value, &bytes[len..]))
}

/// The whole seconds of `-12.75`, rounded down.
fn seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let down = whole.starts_with('-') && fraction.bytes().any(|b| b != b'0');
    whole.parse::<i64>().ok()?.checked_sub(i64::from(down))
}

/// A field that must not be negative.
fn number(field: &[u8]) -> Result<u64, &'static str> {
    signed(field)?.try_into().map_err(|_| "a number is negative")
}

/// Octal digits, or a big-endian two's complement number behind a first bit that is set.
fn signed(field: &[u8]) -> Result<i64, &'static str> {
    if field[0] & 0x80 != 0 {
        // The second bit is the sign.
        let negative = field[0] & 0x40 != 0;
        let mut value = if negative { -1i128 } else { 0 };
        for (i, &byte) in field.iter().enumerate() {
            let byte = match (i, negative) {
                (0, true) => byte | 0x80,
                (0, false) => byte & 0x7f,
                _ => byte,
            };
            value = (value << 8) | i128::from(byte);
            if i64::try_from(value).is_err() {
                return Err("a number has more than 64 bits");
            }
        }
        return i64::try_from(value).map_err(|_| "a number has more than 64 bits");
    }
    let text = until_nul(field).trim_ascii();
    let octal = |value: i64, &b: &u8| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    };
    text.iter().try_fold(0, octal).ok_or("a number is not octal")
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len())]
}

fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK as u64
}

/// An entry's path without `.`, double and trailing slashes.
fn clean(raw: &[u8]) -> Result<PathBuf, Refusal> {
    if raw.is_empty() {
        return Err(Refusal::Empty);
    }
    if raw.starts_with(b"/") {
        return Err(Refusal::Absolute);
    }
    if raw.contains(&0) {
        return Err(Refusal::Nul);
    }
    let mut path = Vec::with_capacity(raw.len().min(MAX_PATH));
    for part in raw.split(|&b| b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Refusal::Parent),
            _ if part.len() > MAX_NAME => return Err(Refusal::Long),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
        if path.len() >= MAX_PATH {
            return Err(Refusal::Long);
        }
    }
    Ok(PathBuf::from(OsString::from_vec(path)))
}

/// A path without slashes at its beginning and without `..`, which must not go above the root.
/// What is empty stays empty.
fn confine(raw: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut parts = Vec::new();
    for part in raw.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or(Refusal::Climbs)?),
            part => parts.push(part),
        }
    }
    if parts.is_empty() && !raw.is_empty() {
        return Ok(b".".to_vec());
    }
    Ok(parts.join(&b'/'))
}

fn clean_link(raw: Vec<u8>) -> Result<PathBuf, Refusal> {
    match clean(&raw) {
        Ok(path) if !path.as_os_str().is_empty() => Ok(path),
        Err(Refusal::Absolute | Refusal::Parent) => {
            Err(Refusal::LinkLeaves(OsString::from_vec(raw).into()))
        }
        _ => Err(Refusal::LinkTarget),
    }
}

/// A symbolic link's target. An absolute one begins at the image's root, whoever resolves it;
/// a relative one must not climb above that.
fn symlink(path: &Path, raw: Vec<u8>) -> Result<PathBuf, Refusal> {
    if raw.is_empty() || raw.contains(&0) || raw.len() >= MAX_PATH {
        return Err(Refusal::LinkTarget);
    }
    let target = PathBuf::from(OsString::from_vec(raw));
    if leads_out(path, &target) { Err(Refusal::LinkLeaves(target)) } else { Ok(target) }
}

/// Whether a symbolic link at a path, which is relative to the root, climbs above the root. Those
/// have no place in a layer.
pub fn leads_out(path: &Path, target: &Path) -> bool {
    let mut depth = match target.is_absolute() {
        true => 0,
        false => path.components().count().saturating_sub(1),
    };
    target.components().any(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            false
        }
        Component::ParentDir => depth.checked_sub(1).map(|up| depth = up).is_none(),
        _ => false,
    })
}
