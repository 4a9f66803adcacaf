//! This thread's own address space: what it maps beyond its own program.
//!
//! ```text
//! 0x0040_0000   this program, IPC buffer, boot information
//! 0x1000_0000   the serial port's registers
//! 0x1000_1000   one page of a container while it is filled
//! 0x2000_0000   the boot archive, read-only: offset for offset, as far as it was needed
//! ```

use crate::console;
use crate::space::{Space, VSPACE};
use core::ops::Range;
use core::slice;
use koskit_abi::{Attributes, Error, Frame, Ipc, Object, Result, Rights, Table, Untyped, VSpace};
use koskit_spec::archive::SIZE_MAX;
use koskit_spec::layout::PAGE;

const FILLED: u64 = console::REGISTERS + PAGE;
const ARCHIVE: u64 = 0x2000_0000;

/// What is mapped.
pub struct Window {
    /// Of which page tables are made.
    memory: Untyped,
}

impl Window {
    /// Page tables are made of `memory`.
    pub fn new(memory: Untyped) -> Self {
        Self { memory }
    }

    /// From now on page tables are made of `memory`.
    pub fn set_memory(&mut self, memory: Untyped) {
        self.memory = memory;
    }

    /// Maps the serial port.
    pub fn map_console(&mut self, ipc: &mut Ipc, space: &mut Space, frame: Frame) -> Result<()> {
        let (rights, at) = (Rights::READ_WRITE, console::REGISTERS);
        self.map(ipc, space, frame, at, rights, Attributes::DEVICE)
    }

    /// Maps a page of the boot archive, where `archive_bytes` finds it.
    pub fn map_archive(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        offset: u64,
    ) -> Result<()> {
        assert!(offset < SIZE_MAX);
        self.map(ipc, space, frame, ARCHIVE + offset, Rights::READ, Attributes::DATA)
    }

    /// Bytes of the boot archive, by their offsets.
    ///
    /// # Safety
    /// All pages of the range are mapped.
    pub unsafe fn archive_bytes(range: Range<u64>) -> &'static [u8] {
        assert!(range.start <= range.end && range.end <= SIZE_MAX);
        let (at, length) = (ARCHIVE + range.start, range.end - range.start);
        // SAFETY: mapped, as the caller promises, and never unmapped. Every mapping of the
        // archive is read-only, ours as well as those of containers.
        unsafe { slice::from_raw_parts(at as *const u8, length as usize) }
    }

    /// Writes to a frame that nobody has mapped, and leaves it unmapped.
    pub fn fill(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        self.map(ipc, space, frame, FILLED, Rights::READ_WRITE, Attributes::DATA)?;
        // SAFETY: the frame is mapped here, and nowhere else; the slice does not outlive
        // the mapping.
        write(unsafe { slice::from_raw_parts_mut(FILLED as *mut u8, PAGE as usize) });
        frame.unmap(ipc)
    }

    fn map(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        at: u64,
        rights: Rights,
        attributes: Attributes,
    ) -> Result<()> {
        let memory = self.memory;
        let table = |ipc: &mut Ipc, level| {
            Ok(Table::at(space.make(ipc, memory, Object::Table { level })?))
        };
        map(ipc, VSPACE, frame, at, rights, attributes, table)
    }
}

/// Maps a frame, and the page tables that it needs, which `table` makes.
pub fn map(
    ipc: &mut Ipc,
    vspace: VSpace,
    frame: Frame,
    at: u64,
    rights: Rights,
    attributes: Attributes,
    mut table: impl FnMut(&mut Ipc, u32) -> Result<Table>,
) -> Result<()> {
    loop {
        match frame.map(ipc, vspace, at, rights, attributes) {
            Err(Error::FailedLookup) => {}
            done => return done,
        }
        // Each of these adds a level, so that this ends.
        let level = match ipc.missing_bits() {
            21 => 0,
            30 => 1,
            39 => 2,
            _ => return Err(Error::FailedLookup),
        };
        table(ipc, level)?.map(ipc, level, vspace, at)?;
    }
}
