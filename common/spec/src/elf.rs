//! The ELF files of a native container, for AArch64: its program, and what the program's dynamic
//! linker loads. Nothing about a program may surprise the root server: `lower` checks it before
//! it goes into a bundle; the root server checks it again, because a bundle is a stranger's bytes.
//! A dynamic linker is checked by libkos, which maps it; libraries are the linker's own business.
//!
//! Source: System V ABI, chapter 4 and 5; ELF for the Arm 64-bit Architecture.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::layout::{MMAP_BASE, PAGE, PIE_BASE, PROGRAM_MIN};
use core::fmt;

/// Most PT_LOAD segments that a program may have.
pub const SEGMENTS_MAX: usize = 16;

/// What a page of a segment may be used for; never both written and executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    #[default]
    Read,
    /// Read and execute.
    Execute,
    /// Read and write: every container has its own copy.
    Write,
}

/// One PT_LOAD segment, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Run-time address of its first byte (load bias added).
    pub address: u64,
    /// Offset in the file; equal to `address` modulo a page.
    pub offset: u64,
    /// Bytes from the file.
    pub file_size: u64,
    /// Bytes in memory; those after `file_size` are zero.
    pub memory_size: u64,
    /// What it may be used for.
    pub access: Access,
}

impl Segment {
    /// Address of its first page.
    pub fn start(&self) -> u64 {
        self.address & !(PAGE - 1)
    }

    /// End (exclusive) of its last page.
    pub fn end(&self) -> u64 {
        (self.address + self.memory_size).next_multiple_of(PAGE)
    }

    /// Number of its pages.
    pub fn pages(&self) -> u64 {
        (self.end() - self.start()) / PAGE
    }
}

/// A checked ELF file.
#[derive(Clone, Copy, Debug)]
pub struct Elf {
    /// Run-time address of the entry point.
    pub entry: u64,
    /// What was added to the addresses in the file.
    pub bias: u64,
    /// Run-time address of the program headers, or 0 where no segment holds them.
    pub phdr: u64,
    /// Number of program headers.
    pub phnum: u16,
    segments: [Segment; SEGMENTS_MAX],
    count: usize,
    moves: bool,
}

/// Why a file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// Shorter than its own headers say, or no ELF file at all.
    NotElf,
    /// 32-bit or big-endian.
    NotLittle64,
    /// For another machine; the value is e_machine.
    Machine(u16),
    /// Neither ET_EXEC nor ET_DYN; the value is e_type.
    Type(u16),
    /// The file needs shared libraries (DT_NEEDED), though it asks for no dynamic linker: it is
    /// a library itself, or nobody would load them.
    Libraries,
    /// No PT_LOAD segment at all, or more than [`SEGMENTS_MAX`].
    SegmentCount(usize),
    /// The segment with this number reaches outside the file.
    OutsideFile(usize),
    /// The segment with this number reaches outside the address space for programs.
    OutsideAddressSpace(usize),
    /// Address and file offset of the segment with this number differ modulo a page.
    Misaligned(usize),
    /// The segment with this number shares a page with, or lies before, the one before it.
    Overlap(usize),
    /// The segment with this number may be both written and executed.
    WriteExecute(usize),
    /// The entry point is in no executable segment.
    Entry(u64),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "it is no complete ELF file"),
            Self::NotLittle64 => write!(f, "it is no 64-bit little-endian ELF file"),
            Self::Machine(62) => write!(f, "it is for x86-64, not for AArch64"),
            Self::Machine(m) => write!(f, "it is for ELF machine {m}, not for AArch64 (183)"),
            Self::Type(t) => write!(f, "its ELF type is {t}, neither ET_EXEC (2) nor ET_DYN (3)"),
            Self::Libraries => write!(
                f,
                "it needs shared libraries, but names no dynamic linker that could load them"
            ),
            Self::SegmentCount(n) => {
                write!(f, "it has {n} PT_LOAD segments; 1 to {SEGMENTS_MAX} are supported")
            }
            Self::OutsideFile(i) => write!(f, "segment {i} reaches outside the file"),
            Self::OutsideAddressSpace(i) => {
                write!(f, "segment {i} lies outside the address space for programs")
            }
            Self::Misaligned(i) => {
                write!(f, "segment {i} has an address and a file offset that differ modulo a page")
            }
            Self::Overlap(i) => write!(f, "segment {i} overlaps the one before it"),
            Self::WriteExecute(i) => write!(f, "segment {i} can be both written and executed"),
            Self::Entry(a) => write!(f, "its entry point {a:#x} is in no executable segment"),
        }
    }
}

impl core::error::Error for ElfError {}

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PHENT: usize = 56;

impl Elf {
    /// Checks a program of a container.
    ///
    /// # Errors
    /// The first reason, in file order, for which the file is refused.
    pub fn program(file: &[u8]) -> Result<Self, ElfError> {
        Self::within(file, PROGRAM_MIN, MMAP_BASE)
    }

    /// Checks a program whose segments must lie in `min..max`. An ET_DYN file is placed at
    /// PIE_BASE, an ET_EXEC file where it says.
    ///
    /// # Errors
    /// As [`Elf::program`].
    pub fn within(file: &[u8], min: u64, max: u64) -> Result<Self, ElfError> {
        use ElfError::*;
        let bias = if kind(file)? == ET_DYN { PIE_BASE } else { 0 };
        let elf = Self::read(file, bias, min, max)?;
        let dynamic = find(file, PT_DYNAMIC).is_some_and(|header| needs_libraries(file, header));
        if dynamic && find(file, PT_INTERP).is_none() {
            return Err(Libraries);
        }
        let inside = |s: &Segment| {
            s.access == Access::Execute
                && (s.address..s.address + s.file_size).contains(&elf.entry)
                && elf.entry % 4 == 0
        };
        let entry = Entry(elf.entry - bias);
        if elf.segments().iter().any(inside) { Ok(elf) } else { Err(entry) }
    }

    /// Checks the segments of any ELF file that can be loaded: a program, a library, a dynamic
    /// linker. Its addresses are as the file says them; the entry point may be none.
    ///
    /// # Errors
    /// As [`Elf::program`], but for what is wrong with a program only.
    pub fn object(file: &[u8]) -> Result<Self, ElfError> {
        let max = if kind(file)? == ET_DYN { MMAP_BASE - PIE_BASE } else { MMAP_BASE };
        Self::read(file, 0, 0, max)
    }

    fn read(file: &[u8], bias: u64, min: u64, max: u64) -> Result<Self, ElfError> {
        use ElfError::*;
        let header = |at| u16_at(file, at).ok_or(NotElf);
        let phoff = u64_at(file, 32).ok_or(NotElf)?;
        let (phent, phnum) = (header(54)?, header(56)?);
        if phent as usize != PHENT {
            return Err(NotElf);
        }
        let table = usize::try_from(phoff)
            .ok()
            .and_then(|at| file.get(at..at.checked_add(PHENT * phnum as usize)?))
            .ok_or(NotElf)?;
        let entry = u64_at(file, 24).ok_or(NotElf)?;

        let mut elf = Self {
            entry: entry.checked_add(bias).ok_or(Entry(entry))?,
            bias,
            phdr: 0,
            phnum,
            segments: [Segment::default(); SEGMENTS_MAX],
            count: 0,
            moves: kind(file)? == ET_DYN,
        };
        let loaded =
            |header: &&[u8]| u32_at(header, 0) == Some(PT_LOAD) && u64_at(header, 40) != Some(0);
        for (index, header) in table.chunks_exact(PHENT).filter(loaded).enumerate() {
            if index == SEGMENTS_MAX {
                return Err(SegmentCount(index + 1));
            }
            let segment = check(file, header, index, bias, min, max)?;
            if elf.segments().last().is_some_and(|last| segment.start() < last.end()) {
                return Err(Overlap(index));
            }
            if segment.offset <= phoff
                && phoff + table.len() as u64 <= segment.offset + segment.file_size
            {
                elf.phdr = segment.address + (phoff - segment.offset);
            }
            elf.segments[index] = segment;
            elf.count += 1;
        }
        if elf.count == 0 { Err(SegmentCount(0)) } else { Ok(elf) }
    }

    /// Its segments, by rising address; no two share a page.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.count]
    }

    /// Pages of which every container needs its own copy.
    pub fn private_pages(&self) -> u64 {
        self.segments().iter().filter(|s| s.access == Access::Write).map(Segment::pages).sum()
    }

    /// Pages that all containers of the image share.
    pub fn shared_pages(&self) -> u64 {
        self.segments().iter().filter(|s| s.access != Access::Write).map(Segment::pages).sum()
    }

    /// Whether it can be loaded at any address (ET_DYN).
    pub fn can_move(&self) -> bool {
        self.moves
    }

    /// End of its last page: where the heap begins.
    pub fn end(&self) -> u64 {
        self.segments().last().map_or(0, Segment::end)
    }
}

/// The type of a file for AArch64: ET_EXEC or ET_DYN.
fn kind(file: &[u8]) -> Result<u16, ElfError> {
    use ElfError::*;
    if file.get(..4) != Some(b"\x7fELF") || file.len() < 64 {
        return Err(NotElf);
    }
    if file[4] != 2 || file[5] != 1 {
        return Err(NotLittle64);
    }
    let header = |at| u16_at(file, at).ok_or(NotElf);
    match (header(16)?, header(18)?) {
        (_, machine) if machine != EM_AARCH64 => Err(Machine(machine)),
        (kind @ (ET_EXEC | ET_DYN), _) => Ok(kind),
        (other, _) => Err(Type(other)),
    }
}

/// Whether a PT_DYNAMIC has a DT_NEEDED. One that does not lie in the file has none: the
/// program's own start-up code reads it, in its own address space.
fn needs_libraries(file: &[u8], header: &[u8]) -> bool {
    const DT_NULL: u64 = 0;
    const DT_NEEDED: u64 = 1;
    let entries = || {
        let start = usize::try_from(u64_at(header, 8)?).ok()?;
        let size = usize::try_from(u64_at(header, 32)?).ok()?;
        file.get(start..start.checked_add(size)?)
    };
    let tags = entries().unwrap_or_default().chunks_exact(16).map_while(|e| u64_at(e, 0));
    tags.take_while(|&tag| tag != DT_NULL).any(|tag| tag == DT_NEEDED)
}

/// Path of the dynamic linker that a file asks for, without its zero byte. It is a stranger's
/// text: print it quoted.
pub fn interpreter(file: &[u8]) -> Option<&[u8]> {
    let header = find(file, PT_INTERP)?;
    let start = usize::try_from(u64_at(header, 8)?).ok()?;
    let size = usize::try_from(u64_at(header, 32)?).ok()?;
    file.get(start..start.checked_add(size)?)?.split(|&b| b == 0).next()
}

/// Bytes of stack that a file asks for in PT_GNU_STACK (`-Wl,-z,stack-size=`), where it does.
pub fn stack_size(file: &[u8]) -> Option<u64> {
    u64_at(find(file, PT_GNU_STACK)?, 40).filter(|&size| size != 0)
}

/// The first program header of a kind.
fn find(file: &[u8], kind: u32) -> Option<&[u8]> {
    let start = usize::try_from(u64_at(file, 32)?).ok()?;
    let count = u16_at(file, 56)? as usize;
    let table = file.get(start..start.checked_add(PHENT * count)?)?;
    table.chunks_exact(PHENT).find(|header| u32_at(header, 0) == Some(kind))
}

fn check(
    file: &[u8],
    header: &[u8],
    index: usize,
    bias: u64,
    min: u64,
    max: u64,
) -> Result<Segment, ElfError> {
    use ElfError::*;
    let word = |at| u64_at(header, at).ok_or(NotElf);
    let flags = u32_at(header, 4).ok_or(NotElf)?;
    let (offset, address, file_size, memory_size) = (word(8)?, word(16)?, word(32)?, word(40)?);
    if file_size > memory_size
        || offset.checked_add(file_size).is_none_or(|end| end > file.len() as u64)
    {
        return Err(OutsideFile(index));
    }
    let address = address.checked_add(bias).ok_or(OutsideAddressSpace(index))?;
    if address < min || address.checked_add(memory_size).is_none_or(|end| end > max) {
        return Err(OutsideAddressSpace(index));
    }
    if address % PAGE != offset % PAGE {
        return Err(Misaligned(index));
    }
    let access = match (flags & 1 != 0, flags & 2 != 0) {
        (true, true) => return Err(WriteExecute(index)),
        (true, false) => Access::Execute,
        (false, true) => Access::Write,
        (false, false) => Access::Read,
    };
    // Read-only pages are the file's own pages, shared: there is nowhere to put zeroes.
    if access != Access::Write && file_size != memory_size {
        return Err(OutsideFile(index));
    }
    Ok(Segment { address, offset, file_size, memory_size, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// A file of two pages: one segment (flags, address, offset, sizes as given).
    fn file(kind: u16, segments: &[(u32, u64, u64, u64, u64)]) -> Vec<u8> {
        let mut out = vec![0u8; 3 * PAGE as usize];
        out[..6].copy_from_slice(b"\x7fELF\x02\x01");
        out[16..18].copy_from_slice(&kind.to_le_bytes());
        out[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
        out[24..32].copy_from_slice(&segments[0].1.wrapping_add(0x100).to_le_bytes());
        out[32] = 64;
        out[54] = PHENT as u8;
        out[56] = segments.len() as u8;
        for (i, &(flags, address, offset, file_size, memory_size)) in segments.iter().enumerate() {
            let at = 64 + i * PHENT;
            out[at] = PT_LOAD as u8;
            out[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            for (j, word) in [offset, address, address, file_size, memory_size].iter().enumerate() {
                out[at + 8 + j * 8..at + 16 + j * 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        out
    }
    const TEXT: (u32, u64, u64, u64, u64) = (5, 0x40_0000, 0, 0x1000, 0x1000);
    const DATA: (u32, u64, u64, u64, u64) = (6, 0x40_1800, 0x1800, 0x100, 0x1900);

    #[test]
    fn a_static_program_is_accepted() {
        let elf = Elf::program(&file(ET_EXEC, &[TEXT, DATA])).unwrap();
        assert_eq!((elf.entry, elf.bias, elf.phdr), (0x40_0100, 0, 0x40_0040));
        assert_eq!((elf.shared_pages(), elf.private_pages(), elf.end()), (1, 3, 0x40_4000));
    }

    #[test]
    fn a_static_pie_program_is_placed_at_pie_base() {
        let text = (5, 0, 0, 0x1000, 0x1000);
        let elf = Elf::program(&file(ET_DYN, &[text])).unwrap();
        assert_eq!(elf.segments()[0].address, PIE_BASE);
        assert_eq!(elf.entry, PIE_BASE + 0x100);
    }

    #[test]
    fn each_fault_is_refused_by_name() {
        use ElfError::*;
        let with = |segments: &[_]| Elf::program(&file(ET_EXEC, segments)).unwrap_err();
        assert_eq!(with(&[TEXT, (7, DATA.1, DATA.2, DATA.3, DATA.4)]), WriteExecute(1));
        assert_eq!(with(&[TEXT, (6, 0x40_0800, 0x800, 1, 1)]), Overlap(1));
        assert_eq!(with(&[TEXT, (6, DATA.1, DATA.2, 0x9000, 0x9000)]), OutsideFile(1));
        assert_eq!(with(&[TEXT, (6, DATA.1, 0x1000, 1, 1)]), Misaligned(1));
        assert_eq!(with(&[TEXT, (6, u64::MAX - 0x7ff, 0x1800, 1, 0x900)]), OutsideAddressSpace(1));
        assert_eq!(with(&[(5, 0, 0, 0x1000, 0x1000)]), OutsideAddressSpace(0));
        assert_eq!(with(&[(4, TEXT.1, 0, 0x1000, 0x1000)]), Entry(0x40_0100));
        assert_eq!(Elf::program(b"#!/bin/sh\n").unwrap_err(), NotElf);
        let mut intel = file(ET_EXEC, &[TEXT]);
        intel[18] = 62;
        assert_eq!(Elf::program(&intel).unwrap_err(), Machine(62));
        let mut narrow = file(ET_EXEC, &[TEXT]);
        narrow[4] = 1;
        assert_eq!(Elf::program(&narrow).unwrap_err(), NotLittle64);
        let mut object = file(ET_EXEC, &[TEXT]);
        object[16] = 1;
        assert_eq!(Elf::program(&object).unwrap_err(), Type(1));
        assert_eq!(with(&[TEXT; SEGMENTS_MAX]), Overlap(1));
        // A zeroed page behind text would be a page that nobody can share.
        assert_eq!(with(&[(5, TEXT.1, 0, 0x1000, 0x1001)]), OutsideFile(0));
    }

    /// A file whose second program header is of this kind, over `bytes` at its end.
    fn with_header(kind: u32, bytes: &[u8]) -> Vec<u8> {
        let mut out = file(ET_EXEC, &[TEXT, (4, 0, 0x3000, bytes.len() as u64, 0x7000)]);
        out[64 + PHENT..68 + PHENT].copy_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_file_that_needs_libraries_is_refused_and_one_that_only_relocates_itself_is_not() {
        let entry = |tag: u64| [tag.to_le_bytes(), [0; 8]].concat();
        let itself = [entry(8), entry(0), entry(1)].concat();
        Elf::program(&with_header(PT_DYNAMIC, &itself)).unwrap();
        let library = [entry(8), entry(1), entry(0)].concat();
        let error = Elf::program(&with_header(PT_DYNAMIC, &library)).unwrap_err();
        assert_eq!(error, ElfError::Libraries);
    }

    #[test]
    fn the_dynamic_linker_and_the_size_of_the_stack_are_read() {
        let file = with_header(PT_INTERP, b"/lib/ld-linux-aarch64.so.1\0");
        assert_eq!(interpreter(&file), Some(&b"/lib/ld-linux-aarch64.so.1"[..]));
        assert_eq!(interpreter(&file[..file.len() - 1]), None);
        assert_eq!(stack_size(&file), None);
        assert_eq!(stack_size(&with_header(PT_GNU_STACK, b"")), Some(0x7000));
    }

    /// Numbers near all limits.
    fn number() -> impl Strategy<Value = u64> {
        let edges = [0, PAGE, 3 * PAGE, PROGRAM_MIN, 0x40_0000, PIE_BASE, MMAP_BASE, u64::MAX];
        let near = (prop::sample::select(edges.to_vec()), 0..3 * PAGE, any::<bool>());
        near.prop_map(
            |(edge, by, up)| {
                if up { edge.wrapping_add(by) } else { edge.wrapping_sub(by) }
            },
        )
    }

    fn segment() -> impl Strategy<Value = (u32, u64, u64, u64, u64)> {
        // Half of them would be accepted alone; else hardly a file would be.
        let good =
            (1..8u64, 0..2 * PAGE, 0..PAGE, 0..2 * PAGE).prop_map(|(page, at, size, bss)| {
                let flags = if bss > PAGE { 6 } else { 4 };
                let memory = if flags == 6 { size + bss } else { size };
                (flags, 0x40_0000 + page * PAGE + at % PAGE, at, size, memory)
            });
        prop_oneof![good, (0..8u32, number(), number(), number(), number())]
    }

    fn holds(elf: &Elf, file: &[u8]) -> Result<(), TestCaseError> {
        let segments = elf.segments();
        for s in segments {
            prop_assert!(PROGRAM_MIN <= s.start() && s.end() <= MMAP_BASE);
            prop_assert!(s.offset + s.file_size <= file.len() as u64);
            prop_assert!(s.file_size <= s.memory_size && s.address % PAGE == s.offset % PAGE);
            prop_assert!(s.access == Access::Write || s.file_size == s.memory_size);
        }
        for pair in segments.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].start());
        }
        let inside = |s: &&Segment| (s.start()..s.end()).contains(&elf.entry);
        prop_assert_eq!(segments.iter().find(inside).map(|s| s.access), Some(Access::Execute));
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_segments_are_accepted_are_safe_to_map(
            kind in 2..4u16,
            text in any::<bool>(),
            more in prop::collection::vec(segment(), 0..4),
        ) {
            let first = (5, if kind == ET_DYN { 0 } else { TEXT.1 }, 0, PAGE, PAGE);
            let segments: Vec<_> = text.then_some(first).into_iter().chain(more).collect();
            prop_assume!(!segments.is_empty());
            let mut file = file(kind, &segments);
            if text {
                file[24..32].copy_from_slice(&(first.1 + 0x100).to_le_bytes());
            }
            if let Ok(elf) = Elf::program(&file) {
                holds(&elf, &file)?;
            }
        }

        #[test]
        fn no_header_makes_it_panic(at in 0usize..200, bytes in any::<[u8; 8]>(), cut in 0..3 * 4096usize) {
            let mut f = file(ET_EXEC, &[TEXT, DATA]);
            f[at..at + 8].copy_from_slice(&bytes);
            for f in [&f[..], &f[..cut]] {
                let _ = (interpreter(f), stack_size(f));
                if let Ok(elf) = Elf::program(f) {
                    holds(&elf, f)?;
                }
            }
        }
    }
}
