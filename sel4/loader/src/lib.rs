//! The ELF files of kernel and root server: where their bytes go. The part of the loader that
//! needs no machine, and so is tested where it is built.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::fmt;
use core::ops::Range;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
const HEADER: usize = 56;
const PT_LOAD: u32 = 1;

/// A checked ELF file.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Virtual address of the first instruction.
    pub entry: u64,
    file: &'a [u8],
    /// The program headers.
    table: &'a [u8],
}

/// A piece that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Virtual address.
    pub address: u64,
    /// Physical address, where the file states one.
    pub physical: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Size in memory; what is above `bytes` is zero.
    pub size: u64,
}

/// Why a file is refused; a verb, to follow the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// No 64-bit little-endian ELF file.
    NotElf,
    /// Shorter than its own headers say.
    Truncated,
    /// Without anything to load.
    Empty,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "is no 64-bit little-endian ELF file",
            Self::Truncated => "is shorter than its own headers say",
            Self::Empty => "has nothing to load",
        })
    }
}

impl<'a> Image<'a> {
    /// Checks a file: afterwards every segment lies inside it.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(ImageError::NotElf);
        }
        let image = || {
            let entry = word(file, 24)?;
            let at = usize::try_from(word(file, 32)?).ok()?;
            let count = u16::from_le_bytes(file.get(56..58)?.try_into().ok()?);
            let end = at.checked_add(HEADER * usize::from(count))?;
            let image = Self { entry, file, table: file.get(at..end)? };
            image
                .table
                .chunks_exact(HEADER)
                .all(|header| image.read(header).is_some())
                .then_some(image)
        };
        let image = image().ok_or(ImageError::Truncated)?;
        image.segments().next().map(|_| image).ok_or(ImageError::Empty)
    }

    /// What is loaded.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let image = *self;
        image.table.chunks_exact(HEADER).filter_map(move |header| image.read(header).flatten())
    }

    /// Virtual addresses from the first to the last segment, whole pages.
    pub fn virtual_range(&self) -> Range<u64> {
        around(self.segments().map(|segment| (segment.address, segment.size)))
    }

    /// Physical addresses from the first to the last segment, whole pages.
    pub fn physical_range(&self) -> Range<u64> {
        around(self.segments().map(|segment| (segment.physical, segment.size)))
    }

    /// A program header: none where it is not valid, none in it where it is not loaded.
    fn read(&self, header: &[u8]) -> Option<Option<Segment<'a>>> {
        let kind = u32::from_le_bytes(header.get(..4)?.try_into().ok()?);
        let size = word(header, 40)?;
        if kind != PT_LOAD || size == 0 {
            return Some(None);
        }
        let from = usize::try_from(word(header, 8)?).ok()?;
        let bytes =
            self.file.get(from..from.checked_add(usize::try_from(word(header, 32)?).ok()?)?)?;
        let (address, physical) = (word(header, 16)?, word(header, 24)?);
        address.max(physical).checked_add(size)?.checked_add(PAGE)?;
        (bytes.len() as u64 <= size).then_some(Some(Segment { address, physical, bytes, size }))
    }
}

fn around(pieces: impl Iterator<Item = (u64, u64)>) -> Range<u64> {
    let (mut start, mut end) = (u64::MAX, 0);
    for (address, size) in pieces {
        start = start.min(address & !(PAGE - 1));
        end = end.max((address + size).next_multiple_of(PAGE));
    }
    start..end
}

fn word(from: &[u8], at: usize) -> Option<u64> {
    from.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A file with one segment of three bytes in a page and a half.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 64 + HEADER + 3];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[24..32].copy_from_slice(&0x40_0010u64.to_le_bytes());
        (file[32], file[56], file[64]) = (64, 1, 1);
        for (index, word) in [120u64, 0x40_0010, 0x4000_0010, 3, 0x1800].iter().enumerate() {
            file[72 + index * 8..80 + index * 8].copy_from_slice(&word.to_le_bytes());
        }
        file[120..].copy_from_slice(b"abc");
        file
    }

    #[test]
    fn a_segment_is_found_with_its_bytes_and_addresses() {
        let file = file();
        let image = Image::parse(&file).unwrap();
        let segment =
            Segment { address: 0x40_0010, physical: 0x4000_0010, bytes: b"abc", size: 0x1800 };
        assert!(image.segments().eq([segment]));
        assert_eq!(image.virtual_range(), 0x40_0000..0x40_2000);
        assert_eq!(image.physical_range(), 0x4000_0000..0x4000_2000);
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_refused_or_inside_the_file() {
        let good = file();
        for cut in 0..good.len() {
            assert!(Image::parse(&good[..cut]).is_err(), "{cut}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut file = good.clone();
                file[at] = byte;
                if let Ok(image) = Image::parse(&file) {
                    let range = image.physical_range();
                    assert!(range.start <= range.end);
                }
            }
        }
        assert_eq!(Image::parse(b"#!/bin/sh\n").unwrap_err(), ImageError::NotElf);
    }
}
