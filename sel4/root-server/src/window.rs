//! This thread's own address space: what it maps beyond its own program.
//!
//! ```text
//! 0x0040_0000   this program, IPC buffer, boot information
//! 0x1000_0000   the serial port's registers
//! 0x1000_1000   one page of a container while it is filled
//! 0x1000_2000   registers of the virtio transports
//! 0x1001_0000   the queues of the virtio console
//! 0x2000_0000   the boot archive, read-only: offset for offset, as far as it was needed
//! 0x3000_0000   contract and process block of a container that is being created
//! 0x4000_0000   its program
//! ```

use crate::console;
use crate::space::{POOLS, Space, VSPACE};
use core::slice;
use koskit_abi::{Attributes, Error, Frame, Ipc, Object, Result, Rights, Table, Untyped, VSpace};
use koskit_spec::archive::SIZE_MAX;
use koskit_spec::layout::{LARGE_PAGE, PAGE};

const FILLED: u64 = console::REGISTERS + PAGE;

/// Where files are mapped.
#[derive(Clone, Copy)]
pub enum Area {
    /// The boot archive.
    Archive,
    /// The bundle that a container is created from.
    Bundle,
    /// Its program.
    Program,
}

impl Area {
    /// Pages that all areas together need at most for their page tables, beyond those for the
    /// archive's own bytes; and that are for ASID pools.
    pub const TABLES: u64 = 1 + 2 + PROGRAM_MAX / LARGE_PAGE + POOLS as u64;

    /// The address of an offset in it.
    pub fn at(self, offset: u64) -> u64 {
        assert!(offset <= self.size());
        offset
            + match self {
                Self::Archive => 0x2000_0000,
                Self::Bundle => 0x3000_0000,
                Self::Program => 0x4000_0000,
            }
    }

    /// Most bytes in it.
    pub fn size(self) -> u64 {
        match self {
            Self::Archive => SIZE_MAX,
            Self::Bundle => LARGE_PAGE,
            Self::Program => PROGRAM_MAX,
        }
    }
}

/// Most bytes of a program: as the boot archive.
const PROGRAM_MAX: u64 = SIZE_MAX;

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

    /// Of which page tables, and other things of ours, are made.
    pub fn memory(&self) -> Untyped {
        self.memory
    }

    /// From now on page tables are made of `memory`.
    pub fn set_memory(&mut self, memory: Untyped) {
        self.memory = memory;
    }

    /// Maps the registers of a device.
    pub fn map_device(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        at: u64,
    ) -> Result<()> {
        self.map_as(ipc, space, frame, at, Rights::READ_WRITE, Attributes::DEVICE)
    }

    /// Maps memory that we share with a device.
    pub fn map_writable(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        at: u64,
    ) -> Result<()> {
        self.map_as(ipc, space, frame, at, Rights::READ_WRITE, Attributes::DATA)
    }

    /// Maps a page of a file, read-only.
    pub fn map(&mut self, ipc: &mut Ipc, space: &mut Space, frame: Frame, at: u64) -> Result<()> {
        self.map_as(ipc, space, frame, at, Rights::READ, Attributes::DATA)
    }

    /// Bytes of a file, by their address in an [`Area`].
    ///
    /// # Safety
    /// All their pages are mapped, and are as long as the bytes are used.
    pub unsafe fn bytes(at: u64, size: u64) -> &'static [u8] {
        // SAFETY: mapped, as the caller promises. Every mapping of these frames is read-only,
        // ours as well as those of containers.
        unsafe { slice::from_raw_parts(at as *const u8, size as usize) }
    }

    /// Writes to a frame that nobody has mapped, and leaves it unmapped.
    pub fn fill(
        &mut self,
        ipc: &mut Ipc,
        space: &mut Space,
        frame: Frame,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        self.map_as(ipc, space, frame, FILLED, Rights::READ_WRITE, Attributes::DATA)?;
        // SAFETY: the frame is mapped here, and nowhere else; the slice does not outlive
        // the mapping.
        write(unsafe { slice::from_raw_parts_mut(FILLED as *mut u8, PAGE as usize) });
        frame.unmap(ipc)
    }

    fn map_as(
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
