//! The newc format of cpio, in which initrds come: `lower` writes it, libkos reads it in place.
//!
//! An archive is a row of entries, each a header of 110 bytes in ASCII, a name that ends with
//! a NUL byte, and the data; name and data are padded so that what follows them starts at a
//! multiple of four bytes. An entry named [`TRAILER`] ends the archive. Of several names of
//! one file (hard links: the same inode, nlink above 1) only one carries the data.
//!
//! Reference: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::fmt;

/// Name of the entry that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";
/// Bytes of a header.
pub const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";

/// What a header says of its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Inode number; hard links of one file have the same.
    pub ino: u32,
    /// Type and permissions, as in `stat`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// Time of modification, in seconds since 1970.
    pub mtime: u32,
    /// Bytes of data: of a file its contents, of a symbolic link its target.
    pub size: u32,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
}

/// Place of a header's field, as the number of fields before it.
mod field {
    pub const INO: usize = 0;
    pub const MODE: usize = 1;
    pub const UID: usize = 2;
    pub const GID: usize = 3;
    pub const NLINK: usize = 4;
    pub const MTIME: usize = 5;
    pub const SIZE: usize = 6;
    pub const RDEV_MAJOR: usize = 9;
    pub const RDEV_MINOR: usize = 10;
    pub const NAME_SIZE: usize = 11;
    pub const COUNT: usize = 13;
}

impl Meta {
    /// The header of an entry whose name has `name` bytes, without a NUL byte. The name, a NUL
    /// byte, [`padding`], the data and its padding have to follow.
    pub fn header(&self, name: usize) -> [u8; HEADER] {
        let mut fields = [0; field::COUNT];
        fields[field::INO] = self.ino;
        fields[field::MODE] = self.mode;
        fields[field::UID] = self.uid;
        fields[field::GID] = self.gid;
        fields[field::NLINK] = self.nlink;
        fields[field::MTIME] = self.mtime;
        fields[field::SIZE] = self.size;
        fields[field::RDEV_MAJOR] = self.rdev.0;
        fields[field::RDEV_MINOR] = self.rdev.1;
        fields[field::NAME_SIZE] = name as u32 + 1;
        let mut out = [0; HEADER];
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        for (digits, value) in out[MAGIC.len()..].chunks_exact_mut(8).zip(fields) {
            for (place, digit) in digits.iter_mut().enumerate() {
                *digit = b"0123456789ABCDEF"[(value >> (28 - 4 * place) & 15) as usize];
            }
        }
        out
    }
}

/// Zero bytes that have to follow when `length` bytes of an archive are written.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// One entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What its header says.
    pub meta: Meta,
    /// Its name, without the NUL byte.
    pub name: &'a [u8],
    /// Its data.
    pub data: &'a [u8],
    /// Offset at which the next entry starts.
    pub next: usize,
}

/// The bytes at this offset are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub usize);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cpio archive is damaged at offset {:#x}", self.0)
    }
}

impl core::error::Error for Malformed {}

/// The entry whose header starts at an offset of an archive.
///
/// # Errors
/// Where it is not whole, or not of this format.
pub fn entry(archive: &[u8], offset: usize) -> Result<Entry<'_>, Malformed> {
    parse(archive, offset).ok_or(Malformed(offset))
}

/// The name of the entry at an offset, of which only that is decoded.
///
/// # Errors
/// As [`entry`].
pub fn name(archive: &[u8], offset: usize) -> Result<&[u8], Malformed> {
    let name = || {
        let size = number(header(archive, offset)?, field::NAME_SIZE)?;
        name_after(archive, offset + HEADER, size)
    };
    name().ok_or(Malformed(offset))
}

/// The mode of the entry at an offset, of which only that is decoded.
///
/// # Errors
/// As [`entry`].
pub fn mode(archive: &[u8], offset: usize) -> Result<u32, Malformed> {
    let mode = || number(header(archive, offset)?, field::MODE);
    mode().ok_or(Malformed(offset))
}

/// The entries of an archive up to its trailer, each with its offset. An archive that ends
/// without trailer is malformed; after an error nothing follows.
pub fn entries(archive: &[u8]) -> impl Iterator<Item = Result<(usize, Entry<'_>), Malformed>> {
    let mut next = Some(0);
    core::iter::from_fn(move || {
        let offset = next.take()?;
        match entry(archive, offset) {
            Ok(entry) if entry.name == TRAILER => None,
            Ok(entry) => {
                next = Some(entry.next);
                Some(Ok((offset, entry)))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

fn parse(archive: &[u8], offset: usize) -> Option<Entry<'_>> {
    let header = header(archive, offset)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let field = |index| number(header, index);
    let name_size = field(field::NAME_SIZE)?;
    let name = name_after(archive, offset + HEADER, name_size)?;
    // Padding counts from the archive's start, which is aligned.
    let at = (offset + HEADER).checked_add(name_size as usize)?.checked_next_multiple_of(4)?;
    let size = field(field::SIZE)?;
    let end = at.checked_add(size as usize)?;
    let data = archive.get(at..end)?;
    let meta = Meta {
        ino: field(field::INO)?,
        mode: field(field::MODE)?,
        uid: field(field::UID)?,
        gid: field(field::GID)?,
        nlink: field(field::NLINK)?,
        mtime: field(field::MTIME)?,
        size,
        rdev: (field(field::RDEV_MAJOR)?, field(field::RDEV_MINOR)?),
    };
    Some(Entry { meta, name, data, next: end.checked_next_multiple_of(4)? })
}

fn name_after(archive: &[u8], at: usize, size: u32) -> Option<&[u8]> {
    let (last, name) = archive.get(at..at.checked_add(size as usize)?)?.split_last()?;
    (*last == 0).then_some(name)
}

/// The bytes where a header may be.
fn header(archive: &[u8], offset: usize) -> Option<&[u8; HEADER]> {
    archive.get(offset..)?.first_chunk()
}

#[inline]
fn number(header: &[u8; HEADER], index: usize) -> Option<u32> {
    hexadecimal(*header[MAGIC.len() + 8 * index..].first_chunk()?)
}

/// Decodes eight hexadecimal digits, all at once: one byte of a word each. libkos does this
/// whenever a program names a file.
fn hexadecimal(digits: [u8; 8]) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(digits);
    // 1 where the digit may be a letter; its low bits then count from 1, not from 10.
    let letter = text >> 6 & ONES;
    let value = (text & (0x0f * ONES)) + 9 * letter;
    let upper = text & !(letter << 5);
    let is_hex = value & (0xf0 * ONES) == 0
        // Letters, and nothing else, stand for more than 9.
        && (value + 6 * ONES) >> 4 & ONES == letter
        && value + 0x30 * ONES + 7 * letter == upper;
    let pairs = (value | value >> 4) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    is_hex.then_some((quads | quads >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn archive(files: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let trailer: (&[u8], &[u8]) = (TRAILER, b"");
        for (ino, (name, data)) in files.iter().chain([&trailer]).enumerate() {
            let meta = Meta { ino: ino as u32, size: data.len() as u32, ..meta() };
            out.extend_from_slice(&meta.header(name.len()));
            out.extend_from_slice(name);
            out.push(0);
            out.resize(out.len() + padding(out.len()), 0);
            out.extend_from_slice(data);
            out.resize(out.len() + padding(out.len()), 0);
        }
        out
    }

    fn meta() -> Meta {
        Meta {
            mode: 0o100_644,
            uid: 1,
            gid: 2,
            nlink: 1,
            mtime: 99,
            rdev: (5, 6),
            ..Meta::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = archive(&[(b"a", b"12345"), (b"dir/b", b""), (b"c", b"x")]);
        let read: Vec<_> = entries(&bytes).map(Result::unwrap).collect();
        let names: Vec<_> = read.iter().map(|(_, e)| e.name).collect();
        assert_eq!(names, [&b"a"[..], b"dir/b", b"c"]);
        assert_eq!(read[0].1.data, b"12345");
        assert_eq!(read[2].1.meta, Meta { ino: 2, size: 1, ..meta() });
        assert_eq!(name(&bytes, read[1].0), Ok(&b"dir/b"[..]));
        assert_eq!(mode(&bytes, read[1].0), Ok(meta().mode));
    }

    #[test]
    fn an_archive_that_ends_early_is_malformed() {
        let bytes = archive(&[(b"a", b"12345")]);
        for end in 0..bytes.len() - 2 {
            let last = entries(&bytes[..end]).last();
            assert!(matches!(last, Some(Err(Malformed(_)))), "cut at {end}: {last:?}");
        }
        assert_eq!(entries(&bytes).filter(Result::is_err).count(), 0);
    }

    #[test]
    fn what_gnu_cpio_wrote_is_read() {
        // printf hi > f; echo f | cpio -o -H newc, without the padding to 512 bytes.
        let bytes = b"070701001A2B3C000081A4000003E8000003E80000000165000000\
            000000020000000800000001000000000000000000000002000000\
            00f\0hi\0\x00070701000000000000000000000000000000000000000100000000\
            0000000000000000000000000000000000000000\
            0000000B00000000TRAILER!!!\0\0\0\0";
        let read: Vec<_> = entries(bytes).map(Result::unwrap).collect();
        assert_eq!(read.len(), 1);
        let (_, f) = read[0];
        assert_eq!((f.name, f.data), (&b"f"[..], &b"hi"[..]));
        assert_eq!((f.meta.mode, f.meta.uid, f.meta.mtime), (0o100_644, 1000, 0x6500_0000));
    }

    proptest! {
        #[test]
        fn eight_digits_are_a_number(digits in any::<[u8; 8]>(), hex in "[0-9a-fA-F]{8}", at in 0usize..8) {
            let mut one_wrong: [u8; 8] = hex.as_bytes().try_into().unwrap();
            prop_assert_eq!(hexadecimal(one_wrong), u32::from_str_radix(&hex, 16).ok());
            one_wrong[at] = digits[0];
            for digits in [digits, one_wrong] {
                let good = digits.iter().all(u8::is_ascii_hexdigit);
                prop_assert_eq!(hexadecimal(digits).is_some(), good, "{:?}", digits);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(at in 0usize..300, bytes in any::<[u8; 8]>()) {
            let mut archive = archive(&[(b"a", b"12345"), (b"dir/b", b"6")]);
            let at = at.min(archive.len() - 8);
            archive[at..at + 8].copy_from_slice(&bytes);
            for (offset, entry) in entries(&archive).flatten() {
                prop_assert!(entry.next > offset && entry.data.len() < archive.len());
            }
        }
    }
}
