//! Mapping memory and files, and the dynamic linker that a program asks for.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::Object;
use crate::memory::{Memory, Protection, map};
use crate::system::System;
use crate::tree::Node;
use crate::user;
use koskit_spec::elf::{Access, Elf, Segment};
use koskit_spec::layout::PAGE;

/// A dynamic linker in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Where the first byte of its file is (AT_BASE).
    pub base: u64,
    /// Where it begins to run.
    pub entry: u64,
}

impl<S: System> Kos<'_, S> {
    pub(super) fn mmap(
        &mut self,
        hint: u64,
        length: u64,
        protection: u64,
        flags: u64,
        fd: u64,
        offset: u64,
    ) -> Result {
        let protection = Protection::new(protection)?;
        let zeroes = |this: &mut Self| {
            this.with_memory(|memory, system| memory.map(system, hint, length, protection, flags))
        };
        if flags & map::ANONYMOUS != 0 {
            return zeroes(self);
        }
        let open = self.files.get(fd)?.clone();
        let file = match &open.object {
            Object::File(file) => self.tree.changed(file).ok_or(file),
            Object::Regular(inode) => Ok(inode),
            Object::Zero => return zeroes(self),
            _ => return Err(Errno::NODEV),
        };
        let shared = flags & map::PRIVATE == 0;
        if shared && protection.write() {
            // What is written would have to be seen in the file.
            let writes = open.writable().is_ok();
            return Err(if writes { Errno::NODEV } else { Errno::ACCES });
        }
        if offset % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        let initrd = &self.tree.initrd;
        let inode = match file {
            Ok(inode) => inode.clone(),
            Err(file) => {
                // It never changes, so a copy is as good as the file, shared or not.
                let data = initrd.contents(file);
                let data = data.get(usize::try_from(offset).unwrap_or(usize::MAX)..);
                let data = data.unwrap_or_default();
                return self.with_memory(|memory, system| {
                    memory.map_file(system, hint, length, protection, flags, data)
                });
            }
        };
        // A copy of what it holds now.
        self.system.reserve(RESERVE)?;
        let (memory, system) = (&mut self.memory, &mut self.system);
        let contents = inode.contents().ok_or(Errno::NODEV)?.borrow();
        let start = memory.map(system, hint, length, Protection::READ_WRITE, flags)?;
        let there = contents.size().saturating_sub(offset).min(length);
        contents.read(initrd, offset, user::bytes_mut(start, there)?);
        memory.protect(system, start, length, protection)?;
        Ok(start)
    }

    pub(super) fn mprotect(&mut self, start: u64, length: u64, protection: u64) -> Result {
        let protection = Protection::new(protection)?;
        self.with_memory(|memory, system| memory.protect(system, start, length, protection))
    }

    pub(super) fn with_memory(
        &mut self,
        change: impl FnOnce(&mut Memory, &mut S) -> Result,
    ) -> Result {
        self.system.reserve(RESERVE)?;
        change(&mut self.memory, &mut self.system)
    }

    /// Maps the dynamic linker with this path in the image.
    ///
    /// # Errors
    /// A sentence for the log.
    pub fn interpreter(&mut self, path: &[u8]) -> core::result::Result<Interpreter, &'static str> {
        let node = self.tree.find(&self.tree.root(), path, true, &self.files);
        let Ok(Node::Archive(node)) = node else {
            return Err("the dynamic linker of the program is not in its image");
        };
        let file = self.tree.initrd.data(node);
        let elf = Elf::object(file).ok().filter(Elf::can_move);
        let elf = elf.ok_or("the dynamic linker of the program cannot be loaded")?;
        let base = self.load(file, &elf);
        let base = base.map_err(|_| "there is too little memory for the dynamic linker")?;
        Ok(Interpreter { base, entry: base + elf.entry })
    }

    /// Maps the segments of an ELF file that can be anywhere; returns what is to be added to its
    /// addresses.
    fn load(&mut self, file: &[u8], elf: &Elf) -> Result {
        let low = elf.segments().first().map_or(0, Segment::start);
        let size = elf.end() - low;
        self.with_memory(|memory, system| {
            let start = memory.map(system, 0, size, Protection::NONE, 0)?;
            let base = start.wrapping_sub(low);
            for segment in elf.segments() {
                let protection = match segment.access {
                    Access::Read => Protection::READ,
                    Access::Execute => Protection::READ_EXECUTE,
                    Access::Write => Protection::READ_WRITE,
                };
                let from = segment.offset & !(PAGE - 1);
                let to = segment.offset + segment.file_size;
                // `Elf` has seen that it lies in the file.
                let data = &file[from as usize..to as usize];
                let at = base.wrapping_add(segment.start());
                let length = segment.pages() * PAGE;
                memory.map_file(system, at, length, protection, map::FIXED, data)?;
                let rest = at + (to - from).next_multiple_of(PAGE);
                if rest < at + length {
                    memory.protect(system, rest, at + length - rest, protection)?;
                }
            }
            Ok(base)
        })
    }
}

/// Path of the dynamic linker that a program asks for, from its program headers in memory: their
/// address, their number, and what was added to the addresses in the file.
pub fn interpreter_path<'a>(phdr: u64, phnum: u32, bias: u64) -> Option<&'a [u8]> {
    const PT_INTERP: u64 = 3;
    const PHENT: u64 = 56;
    for at in (0..u64::from(phnum)).map(|index| phdr + index * PHENT) {
        let [kind, _, address] = user::words(at).ok()?;
        if kind & 0xffff_ffff == PT_INTERP {
            return user::path(address.wrapping_add(bias)).ok();
        }
    }
    None
}
