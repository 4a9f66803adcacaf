//! The boot archive: kernel, root server, libkos and bundles as they lie in memory when the
//! machine starts. The host writes it as one file; QEMU puts it at [`BASE`]; the loader takes
//! kernel and root server from it; the root server maps the rest, page by page, without
//! copying: read-only pages of programs and initrds are the archive's own pages.
//!
//! ```text
//! page 0     magic "KOSboot1", size u64, count u32, memory u32, seed 32 bytes, epoch_ns u64,
//!            then `count` entries of 48 bytes: kind u32, container u32, offset u64, size u64,
//!            program u32, initrd u32, 16 bytes reserved
//! page 1…    the entries' bytes, each at a page boundary, in order, with zeroes between
//! ```

use crate::bytes::{take, u32_at, u64_at};
use core::fmt;

/// Physical address of the archive: just above the 1 GiB of memory that the kernel manages.
pub const BASE: u64 = 0x8000_0000;
/// Most bytes of an archive.
pub const SIZE_MAX: u64 = 256 << 20;
/// Most entries.
pub const ENTRIES_MAX: usize = 80;

const MAGIC: [u8; 8] = *b"KOSboot1";
const HEADER: usize = 64;
const ENTRY: usize = 48;
const PAGE: u64 = crate::layout::PAGE;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// The kernel's ELF file.
    Kernel = 1,
    /// The root server's ELF file.
    RootServer = 2,
    /// The ELF file of libkos.
    Libkos = 3,
    /// A program's ELF file, rewritten.
    Program = 4,
    /// An initrd: cpio, newc.
    Initrd = 5,
    /// A container: its [`crate::contract::Contract`], then its process block. `program` and
    /// `initrd` are indices of other entries.
    Container = 6,
}

impl Kind {
    fn from_u32(value: u32) -> Option<Self> {
        use Kind::*;
        [Kernel, RootServer, Libkos, Program, Initrd, Container]
            .into_iter()
            .find(|&kind| kind as u32 == value)
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Offset in the archive, a multiple of the page size.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// For a container: index of its program.
    pub program: u32,
    /// For a container: index of its initrd.
    pub initrd: u32,
}

/// Why an archive is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// It does not begin as an archive does, or is cut off.
    Header,
    /// The entry with this number is of no known kind, or lies outside the archive.
    Entry(usize),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "there is no boot archive in memory"),
            Self::Entry(i) => write!(f, "entry {i} of the boot archive is not valid"),
        }
    }
}

impl core::error::Error for ArchiveError {}

/// The first page of an archive, checked.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    entries: &'a [u8],
    /// Size of the whole archive in bytes, a multiple of the page size.
    pub size: u64,
    /// Random bytes of the host, from which all seeds are derived.
    pub seed: [u8; 32],
    /// Nanoseconds from 1970 to the machine's start.
    pub epoch_ns: u64,
    /// MiB of memory that the root server shall use at most; 0 is all that there is.
    pub memory: u32,
}

impl<'a> Archive<'a> {
    /// Checks an archive by its first page.
    ///
    /// # Errors
    /// What is wrong with it. After this, every entry lies inside [`Archive::size`].
    pub fn from_page(page: &'a [u8]) -> Result<Self, ArchiveError> {
        let header = || {
            let size = u64_at(page, 8)?;
            let count = u32_at(page, 16)? as usize;
            let good = take(page, 0)? == MAGIC
                && size % PAGE == 0
                && (PAGE..=SIZE_MAX).contains(&size)
                && count <= ENTRIES_MAX;
            let entries = page.get(HEADER..HEADER + count.min(ENTRIES_MAX) * ENTRY)?;
            let archive = Self {
                entries,
                size,
                seed: take(page, 24)?,
                epoch_ns: u64_at(page, 56)?,
                memory: u32_at(page, 20)?,
            };
            good.then_some(archive)
        };
        let archive = header().ok_or(ArchiveError::Header)?;
        for index in 0..archive.len() {
            archive.read(index).ok_or(ArchiveError::Entry(index))?;
        }
        Ok(archive)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len() / ENTRY
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry with this index.
    pub fn get(&self, index: usize) -> Option<Entry> {
        if index < self.len() { self.read(index) } else { None }
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.len()).filter_map(|index| self.read(index))
    }

    /// The first entry of a kind.
    pub fn find(&self, kind: Kind) -> Option<Entry> {
        self.iter().find(|entry| entry.kind == kind)
    }

    fn read(&self, index: usize) -> Option<Entry> {
        let at = index * ENTRY;
        let entry = Entry {
            kind: Kind::from_u32(u32_at(self.entries, at)?)?,
            offset: u64_at(self.entries, at + 8)?,
            size: u64_at(self.entries, at + 16)?,
            program: u32_at(self.entries, at + 24)?,
            initrd: u32_at(self.entries, at + 28)?,
        };
        let end = entry.offset.checked_add(entry.size)?;
        let inside = entry.offset >= PAGE && entry.offset % PAGE == 0 && end <= self.size;
        inside.then_some(entry)
    }
}

/// Writes an archive.
#[cfg(feature = "alloc")]
#[derive(Default)]
pub struct Builder {
    /// [`Archive::memory`]
    pub memory: u32,
    entries: alloc::vec::Vec<(Entry, alloc::vec::Vec<u8>)>,
    size: u64,
}

#[cfg(feature = "alloc")]
impl Builder {
    /// Adds an entry and returns its index.
    pub fn add(&mut self, kind: Kind, bytes: alloc::vec::Vec<u8>) -> u32 {
        self.add_container(kind, bytes, 0, 0)
    }

    /// Adds an entry that refers to a program and an initrd, and returns its index.
    pub fn add_container(
        &mut self,
        kind: Kind,
        bytes: alloc::vec::Vec<u8>,
        program: u32,
        initrd: u32,
    ) -> u32 {
        let offset = self.size.max(PAGE);
        let size = bytes.len() as u64;
        self.size = (offset + size).next_multiple_of(PAGE);
        self.entries.push((Entry { kind, offset, size, program, initrd }, bytes));
        (self.entries.len() - 1) as u32
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// A sentence where there are more than [`ENTRIES_MAX`] entries or [`SIZE_MAX`] bytes.
    pub fn finish(
        self,
        seed: [u8; 32],
        epoch_ns: u64,
    ) -> Result<alloc::vec::Vec<u8>, &'static str> {
        if self.entries.len() > ENTRIES_MAX {
            return Err("a machine can start at most 80 programs, initrds and containers");
        }
        let size = self.size.max(PAGE);
        if size > SIZE_MAX {
            return Err("kernel, programs and initrds together are larger than 256 MiB");
        }
        let mut out = alloc::vec![0; size as usize];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&size.to_le_bytes());
        out[16..20].copy_from_slice(&(self.entries.len() as u32).to_le_bytes());
        out[20..24].copy_from_slice(&self.memory.to_le_bytes());
        out[24..56].copy_from_slice(&seed);
        out[56..64].copy_from_slice(&epoch_ns.to_le_bytes());
        for (index, (entry, bytes)) in self.entries.iter().enumerate() {
            let at = HEADER + index * ENTRY;
            out[at..at + 4].copy_from_slice(&(entry.kind as u32).to_le_bytes());
            out[at + 8..at + 16].copy_from_slice(&entry.offset.to_le_bytes());
            out[at + 16..at + 24].copy_from_slice(&entry.size.to_le_bytes());
            out[at + 24..at + 28].copy_from_slice(&entry.program.to_le_bytes());
            out[at + 28..at + 32].copy_from_slice(&entry.initrd.to_le_bytes());
            let from = entry.offset as usize;
            out[from..from + bytes.len()].copy_from_slice(bytes);
        }
        Ok(out)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let mut builder = Builder { memory: 256, ..Builder::default() };
        let program = builder.add(Kind::Program, vec![1; 5000]);
        let initrd = builder.add(Kind::Initrd, vec![2; 1]);
        builder.add_container(Kind::Container, vec![3; 9], program, initrd);
        let bytes = builder.finish([7; 32], 42).unwrap();
        let archive = Archive::from_page(&bytes[..4096]).unwrap();
        assert_eq!((archive.len(), archive.size, archive.seed), (3, bytes.len() as u64, [7; 32]));
        assert_eq!((archive.memory, archive.epoch_ns), (256, 42));
        let container = archive.find(Kind::Container).unwrap();
        assert_eq!((container.program, container.initrd, container.size), (program, initrd, 9));
        assert_eq!(bytes[container.offset as usize], 3);
        assert_eq!(archive.get(1).unwrap().offset, 3 * PAGE);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..200, byte in any::<[u8; 8]>()) {
            let mut builder = Builder::default();
            builder.add(Kind::Program, vec![1; 5000]);
            let mut bytes = builder.finish([0; 32], 0).unwrap();
            bytes[at..at + 8].copy_from_slice(&byte);
            if let Ok(archive) = Archive::from_page(&bytes[..4096]) {
                for entry in archive.iter() {
                    prop_assert!(entry.offset + entry.size <= archive.size);
                }
            }
        }
    }
}
