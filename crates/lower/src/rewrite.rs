//! ELF file in, ELF file out: each `svc #0` becomes a branch to a stub that calls libkos
//! ([`koskit_spec::gate`] has the stubs and says why the program's stack is not touched). The
//! file is a program, a dynamic linker or a library; what loads it afterwards (the root server,
//! libkos, ld-linux, ld-musl) finds an ordinary file with one segment more.
//!
//! Only sections with SHF_EXECINSTR are searched: the pattern also occurs by chance in data,
//! never there. The stubs are a new segment in a free range of addresses, best between text
//! and data, as near as a branch needs:
//!
//! ```text
//! STUBS  program header table, where it is moved to have one entry more
//!        the stubs, in order of their sites
//!        gate16, gate8
//! ```
//! The new segment's entry takes the place of a PT_NOTE, which says things about the file to
//! tools; where there is none, the table is moved. It stays where it can, since a static glibc
//! does not look for it where AT_PHDR says, but e_phoff bytes behind the ELF header in memory.
//!
//! Bytes are only appended to the file, but for the sites, the ELF header and the program
//! headers. A section header names the new segment `.koskit.stubs`, so that objdump shows it.
//!
//! Which stub a site gets depends on what is known of it. The x16 form needs a register that
//! nobody reads later; where that is not proven, the x8 form needs a number that is known now,
//! and tests at run time that it is the number. What fits neither is refused: a file is
//! rewritten wholly or not at all.
//!
//! NOTE: two places look at code that is rewritten here, and libkos has to answer for both.
//! - Unwinders know a signal frame by the bytes `mov x8, #139; svc #0` at its return address. A C
//!   library's own `__restore_rt` is rewritten as any other site and still works as a call, but
//!   has those bytes no more; whoever makes signal frames makes them return to a trampoline that
//!   has them.
//! - musl's cancellation compares the PC of a signal frame with `__cp_begin` and `__cp_end`, which
//!   are around its site. A thread in a stub or in libkos has to be shown to a signal handler at
//!   the site, or behind it (site + 4), as Linux would show it.

use crate::a64::{self, Flow, Use};
use koskit_spec::elf::{Access, Elf, ElfError, Segment};
use koskit_spec::gate;
use koskit_spec::layout::PAGE;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{LittleEndian as LE, U32, U64};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Name of the section that holds the stubs.
pub const SECTION: &str = ".koskit.stubs";
/// Most system call sites of one file; Debian's libc has 510.
pub const SITES_MAX: usize = 1 << 16;

/// Instructions that the proof for one site looks at before it gives up.
const PROOF_MAX: usize = 256;
/// Instructions before a site among which its number is looked for.
const NUMBER_WINDOW: u64 = 16;

/// A rewritten file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten<'a> {
    /// Its bytes; borrowed where nothing was to be done.
    pub bytes: Cow<'a, [u8]>,
    /// Number of `svc #0` that were replaced by the x16 form of the stub.
    pub x16_sites: usize,
    /// Number of those replaced by the x8 form.
    pub x8_sites: usize,
}

/// Why a file cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// It is not what a native container can run.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Its code cannot be told from its data.
    #[error(
        "it has no section headers, so its code cannot be told from its data; \
         build it without sstrip or packers (strip is fine)"
    )]
    NoSections,
    /// A section header contradicts the program headers.
    #[error("section {0} does not lie in the file as the program headers say")]
    Section(usize),
    /// More than [`SITES_MAX`] sites.
    #[error("it has more than {SITES_MAX} `svc` instructions, which no compiler makes")]
    TooManySites,
    /// Neither form of the stub fits.
    #[error(
        "the system call at {0:#x} cannot be rewritten: x16 may be in use there, \
         and no `mov x8, #number` stands before it"
    )]
    Site(u64),
    /// No free range of addresses for the stubs.
    #[error("no {0} bytes of free addresses are within 128 MiB of its system calls")]
    NoRoom(u64),
}

/// Rewrites a program or a library. One without any `svc` comes back as it is.
///
/// # Errors
/// Why its code cannot run in a native container.
pub fn rewrite(file: &[u8]) -> Result<Rewritten<'_>, RewriteError> {
    let elf = Elf::object(file)?;
    let code = Code { file, elf: &elf };
    let sites = code.sites()?;
    if sites.is_empty() {
        return Ok(Rewritten { bytes: Cow::Borrowed(file), x16_sites: 0, x8_sites: 0 });
    }
    let stubs = sites.iter().map(|&site| code.stub(site)).collect::<Result<Vec<_>, _>>()?;
    let x8_sites = stubs.iter().filter(|stub| matches!(stub.form, Form::X8(_))).count();
    let bytes = write(file, &elf, &stubs)?;
    Elf::object(&bytes)?;
    Ok(Rewritten { bytes: Cow::Owned(bytes), x16_sites: stubs.len() - x8_sites, x8_sites })
}

/// One site and what it becomes.
struct Stub {
    site: u64,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    X16,
    X8(u16),
}

impl Form {
    /// Size in bytes.
    fn size(self) -> u64 {
        match self {
            Self::X16 => 16,
            Self::X8(_) => 36,
        }
    }
}

/// The file's instructions, by the addresses in it.
struct Code<'a> {
    file: &'a [u8],
    elf: &'a Elf,
}

impl Code<'_> {
    fn at(&self, address: u64) -> Option<u32> {
        let segment = self.elf.segments().iter().find(|s| {
            s.access == Access::Execute
                && s.address <= address
                && s.file_size >= 4
                && address - s.address <= s.file_size - 4
        })?;
        let offset = usize::try_from(segment.offset + (address - segment.address)).ok()?;
        Some(u32::from_le_bytes(self.file.get(offset..offset + 4)?.try_into().ok()?))
    }

    /// Addresses of all `svc #0`, rising.
    fn sites(&self) -> Result<Vec<u64>, RewriteError> {
        let mut ranges = Vec::new();
        for (index, section) in sections(self.file)?.iter().enumerate() {
            let size = section.sh_size(LE);
            if !section.sh_flags(LE).contains(elf::SHF_EXECINSTR)
                || section.sh_type(LE) == elf::SHT_NOBITS
                || size == 0
            {
                continue;
            }
            let inside = |s: &Segment| {
                let address = section.sh_addr(LE);
                let into = address.checked_sub(s.address)?;
                // From here on, what is inside of the segment's file cannot overflow.
                let fits = into.checked_add(size).is_some_and(|end| end <= s.file_size);
                (s.access == Access::Execute && fits && section.sh_offset(LE) == s.offset + into)
                    .then(|| (address, section.sh_offset(LE) as usize, size as usize, index))
            };
            let range = self.elf.segments().iter().find_map(inside);
            ranges.push(range.ok_or(RewriteError::Section(index))?);
        }
        // Overlapping sections would be searched many times over.
        ranges.sort_unstable();
        let overlap =
            |pair: &&[(u64, usize, usize, usize)]| pair[1].0 < pair[0].0 + pair[0].2 as u64;
        if let Some(pair) = ranges.windows(2).find(overlap) {
            return Err(RewriteError::Section(pair[1].3));
        }
        let mut sites = Vec::new();
        for (address, offset, size, _) in ranges {
            // What is at the section's start may not be aligned.
            let skip = (address.next_multiple_of(4) - address) as usize;
            let bytes = self.file[offset..offset + size].get(skip..).unwrap_or_default();
            let words = bytes.chunks_exact(4).enumerate();
            let svc = words.filter(|(_, word)| *word == a64::SVC.to_le_bytes());
            sites.extend(svc.map(|(index, _)| address + (skip + 4 * index) as u64));
            if sites.len() > SITES_MAX {
                return Err(RewriteError::TooManySites);
            }
        }
        Ok(sites)
    }

    fn stub(&self, site: u64) -> Result<Stub, RewriteError> {
        let form = if self.is_dead(16, site + 4) {
            Form::X16
        } else {
            let number = self.number(site);
            Form::X8(number.ok_or(RewriteError::Site(site))?)
        };
        Ok(Stub { site, form })
    }

    /// Whether it is proven that no path from `address` reads x`register` before it is written.
    fn is_dead(&self, register: u32, address: u64) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = vec![address];
        while let Some(address) = todo.pop() {
            if !seen.insert(address) {
                continue;
            }
            let Some(instruction) = self.at(address) else { return false };
            if seen.len() > PROOF_MAX {
                return false;
            }
            match a64::use_of(instruction, register) {
                Use::Reads => return false,
                Use::Writes => continue,
                Use::Neither => {}
            }
            match a64::flow(instruction) {
                Flow::Next => todo.push(address + 4),
                Flow::Jump(by) => todo.push(address.wrapping_add_signed(by)),
                Flow::Fork(by) => {
                    todo.extend([address + 4, address.wrapping_add_signed(by)]);
                }
                Flow::Call => {}
                Flow::Unknown => return false,
            }
        }
        true
    }

    /// The number that most likely is in x8 at a site: that of the nearest `mov` before it.
    fn number(&self, site: u64) -> Option<u16> {
        for back in 1..=NUMBER_WINDOW {
            let instruction = self.at(site.checked_sub(4 * back)?)?;
            if let Some(number) = a64::number_of_mov_x8(instruction) {
                return Some(number);
            }
            let straight = matches!(a64::flow(instruction), Flow::Next | Flow::Fork(_));
            if !straight || a64::use_of(instruction, 8) == Use::Writes {
                return None;
            }
        }
        None
    }
}

/// The section headers of an ELF file that [`Elf::object`] accepts; there is at least one.
fn sections(file: &[u8]) -> Result<&[SectionHeader64<LE>], RewriteError> {
    let header = FileHeader64::<LE>::parse(file).map_err(|_| ElfError::NotElf)?;
    let sections = header.section_headers(LE, file).map_err(|_| ElfError::NotElf)?;
    if sections.is_empty() { Err(RewriteError::NoSections) } else { Ok(sections) }
}

/// The file with stubs.
fn write(file: &[u8], elf: &Elf, stubs: &[Stub]) -> Result<Vec<u8>, RewriteError> {
    let header = FileHeader64::<LE>::parse(file).map_err(|_| ElfError::NotElf)?;
    let mut segments = header.program_headers(LE, file).map_err(|_| ElfError::NotElf)?.to_vec();
    let kind = |segment: &ProgramHeader64<LE>| segment.p_type.get(LE);
    let note = segments.iter().rposition(|segment| kind(segment) == elf::PT_NOTE);
    // Bytes of a table that is moved.
    let table = match note {
        Some(_) => 0,
        None => ((segments.len() + 1) * size_of::<ProgramHeader64<LE>>()) as u64,
    };
    let first_stub = table.next_multiple_of(16);
    let size = first_stub + stubs.iter().map(|s| s.form.size()).sum::<u64>() + 2 * GATE;
    let address = place(elf, size, stubs).ok_or(RewriteError::NoRoom(size))?;

    let mut out = file.to_vec();
    out.resize(out.len().next_multiple_of(PAGE as usize), 0);
    let new = Range { offset: out.len() as u64, address, size };
    let phdr = Range { size: table, ..new };
    match note {
        Some(index) => drop(segments.remove(index)),
        None => {
            for segment in segments.iter_mut().filter(|segment| kind(segment) == elf::PT_PHDR) {
                *segment = program_header(elf::PT_PHDR, elf::PF_R, phdr, 8);
            }
        }
    }
    let index = segments
        .iter()
        .position(|s| kind(s) == elf::PT_LOAD && s.p_vaddr.get(LE) > address)
        .or_else(|| segments.iter().rposition(|s| kind(s) == elf::PT_LOAD).map(|last| last + 1))
        .unwrap_or(segments.len());
    segments.insert(index, program_header(elf::PT_LOAD, elf::PF_R | elf::PF_X, new, PAGE));
    let bytes = pod::bytes_of_slice(&segments);
    let phoff = match note {
        Some(_) => {
            let at = header.e_phoff.get(LE);
            let there = out.get_mut(at as usize..at as usize + bytes.len());
            there.ok_or(ElfError::NotElf)?.copy_from_slice(bytes);
            at
        }
        None => {
            out.extend_from_slice(bytes);
            new.offset
        }
    };
    out.resize((new.offset + first_stub) as usize, 0);

    let mut assembler = Assembler { out, next: address + first_stub };
    let gate16 = address + size - 2 * GATE;
    for stub in stubs {
        let branch = a64::b(stub.site, assembler.next).ok_or(RewriteError::NoRoom(size))?;
        let at = file_offset(elf, stub.site).ok_or(ElfError::NotElf)?;
        assembler.out[at..at + 4].copy_from_slice(&branch.to_le_bytes());
        assembler.stub(stub, gate16).ok_or(RewriteError::NoRoom(size))?;
    }
    assembler.gate(16, gate::ENTRY16);
    assembler.gate(8, gate::ENTRY8);
    let mut out = assembler.out;
    let code = Range {
        offset: new.offset + first_stub,
        address: address + first_stub,
        size: size - first_stub,
    };
    let (shoff, shnum) = append_sections(file, &mut out, code)?;

    let (header, _) =
        pod::from_bytes_mut::<FileHeader64<LE>>(&mut out).map_err(|()| ElfError::NotElf)?;
    header.e_phoff.set(LE, phoff);
    header.e_phnum.set(LE, segments.len() as u16);
    header.e_shoff.set(LE, shoff);
    header.e_shnum.set(LE, shnum);
    Ok(out)
}

/// A piece of the file and where it is in memory.
#[derive(Clone, Copy)]
struct Range {
    offset: u64,
    address: u64,
    size: u64,
}

fn program_header(
    kind: elf::ProgramType,
    flags: elf::ProgramFlags,
    range: Range,
    align: u64,
) -> ProgramHeader64<LE> {
    ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: U64::new(LE, range.offset),
        p_vaddr: U64::new(LE, range.address),
        p_paddr: U64::new(LE, range.address),
        p_filesz: U64::new(LE, range.size),
        p_memsz: U64::new(LE, range.size),
        p_align: U64::new(LE, align),
    }
}

/// Address of the first free range of `size` bytes that all sites reach: behind an
/// executable segment if possible, else behind any segment.
fn place(elf: &Elf, size: u64, stubs: &[Stub]) -> Option<u64> {
    let segments = elf.segments();
    let (first, last) = (stubs.first()?.site, stubs.last()?.site);
    let free = |index: usize| {
        let start = segments[index].end();
        let end = segments.get(index + 1).map_or(u64::MAX, Segment::start);
        let reaches = start + size < first.saturating_add(a64::BRANCH_RANGE)
            && last < start + a64::BRANCH_RANGE;
        (end - start >= size && reaches).then_some(start)
    };
    let executable = |&index: &usize| segments[index].access == Access::Execute;
    (0..segments.len()).filter(executable).chain(0..segments.len()).find_map(free)
}

fn file_offset(elf: &Elf, address: u64) -> Option<usize> {
    let inside = |s: &&Segment| (s.address..s.address + s.file_size).contains(&address);
    let segment = elf.segments().iter().find(inside)?;
    usize::try_from(segment.offset + (address - segment.address)).ok()
}

/// Size of a gate in bytes.
const GATE: u64 = 12;

/// Appends instructions.
struct Assembler {
    out: Vec<u8>,
    /// Address of the next instruction.
    next: u64,
}

impl Assembler {
    fn put(&mut self, instruction: u32) {
        self.out.extend_from_slice(&instruction.to_le_bytes());
        self.next += 4;
    }

    /// One stub; `None` where a branch does not reach.
    fn stub(&mut self, stub: &Stub, gate16: u64) -> Option<()> {
        let (register, gate) = match stub.form {
            Form::X16 => (16, gate16),
            Form::X8(number) => {
                self.put(a64::sub_x8(number));
                self.put(a64::cbnz_x8(6));
                (8, gate16 + GATE)
            }
        };
        self.put(a64::mrs_tpidrro(register));
        self.put(a64::str_lr(register, gate::LR));
        self.put(a64::bl(self.next, gate)?);
        if let Form::X8(number) = stub.form {
            self.put(a64::mov_x8(number));
            self.put(a64::b(self.next, stub.site + 4)?);
            self.put(a64::add_x8(number));
            self.put(a64::brk(gate::BRK_NUMBER));
        } else {
            self.put(a64::b(self.next, stub.site + 4)?);
        }
        Some(())
    }

    /// The end of all stubs of one form.
    fn gate(&mut self, register: u32, entry: u64) {
        self.put(a64::str_lr(register, gate::BACK));
        self.put(a64::ldr_lr(register, entry));
        self.put(a64::BR_LR);
    }
}

/// Appends the section headers with one more for the stubs, and says where they are and how
/// many.
fn append_sections(
    file: &[u8],
    out: &mut Vec<u8>,
    stubs: Range,
) -> Result<(u64, u16), RewriteError> {
    let header = FileHeader64::<LE>::parse(file).map_err(|_| ElfError::NotElf)?;
    let mut sections = sections(file)?.to_vec();
    let count = u16::try_from(sections.len() + 1).ok().filter(|&n| n < elf::SHN_LORESERVE);
    let count = count.ok_or(RewriteError::Section(sections.len()))?;

    // The names grow, so they move; a file without names gets a section without one.
    let names = usize::from(header.e_shstrndx.get(LE).0);
    let old = sections.get(names).and_then(|s| s.data(LE, file).ok()).filter(|d| !d.is_empty());
    let name = old.map_or(0, <[u8]>::len) as u32;
    if let Some(old) = old {
        let offset = out.len() as u64;
        out.extend_from_slice(old);
        out.extend_from_slice(SECTION.as_bytes());
        out.push(0);
        sections[names].sh_offset.set(LE, offset);
        sections[names].sh_size.set(LE, out.len() as u64 - offset);
    }
    sections.push(SectionHeader64 {
        sh_name: U32::new(LE, name),
        sh_type: U32::new(LE, elf::SHT_PROGBITS),
        sh_flags: U64::new(LE, elf::SHF_ALLOC | elf::SHF_EXECINSTR),
        sh_addr: U64::new(LE, stubs.address),
        sh_offset: U64::new(LE, stubs.offset),
        sh_size: U64::new(LE, stubs.size),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, 0),
        sh_addralign: U64::new(LE, 16),
        sh_entsize: U64::new(LE, 0),
    });
    out.resize(out.len().next_multiple_of(8), 0);
    let offset = out.len() as u64;
    out.extend_from_slice(pod::bytes_of_slice(&sections));
    Ok((offset, count))
}

#[cfg(test)]
pub(crate) mod tests;
