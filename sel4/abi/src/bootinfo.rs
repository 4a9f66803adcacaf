//! What the kernel tells the first thread: where its IPC buffer is, which slots of its CNode
//! are empty, and which untypeds it holds.

use crate::kernel::bootinfo as layout;
use core::ops::Range;
use core::slice;

/// Slots of the first thread's CNode that the kernel fills; the same in all versions.
pub mod slot {
    /// Its TCB.
    pub const TCB: u64 = 1;
    /// Its CNode.
    pub const CNODE: u64 = 2;
    /// Its address space.
    pub const VSPACE: u64 = 3;
    /// The right to make interrupt handlers.
    pub const IRQ_CONTROL: u64 = 4;
    /// The right to make ASID pools.
    pub const ASID_CONTROL: u64 = 5;
    /// The ASID pool that the first thread's own address space is in.
    pub const ASID_POOL: u64 = 6;
}

/// The boot information.
#[derive(Clone, Copy)]
pub struct BootInfo<'a> {
    page: &'a [u8],
}

/// One untyped of the boot information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedInfo {
    /// Its slot.
    pub slot: u64,
    /// Physical address.
    pub address: u64,
    /// log2 of its bytes.
    pub bits: u32,
    /// Whether it is no ordinary memory: seL4 makes only frames of it, and does not clear it.
    pub device: bool,
}

impl<'a> BootInfo<'a> {
    /// The boot information at an address.
    ///
    /// # Safety
    /// `address` is what the kernel passed to the first thread, and nobody writes to that page.
    pub const unsafe fn at(address: u64) -> Self {
        // SAFETY: the kernel maps one page there, as the caller promises.
        Self::new(unsafe { slice::from_raw_parts(address as *const u8, 4096) })
    }

    const fn new(page: &'a [u8]) -> Self {
        Self { page }
    }

    /// Address of the first thread's IPC buffer.
    pub fn ipc_buffer(&self) -> u64 {
        self.word(layout::IPC_BUFFER)
    }

    /// Slots of its CNode that are empty.
    pub fn empty(&self) -> Range<u64> {
        self.range(layout::EMPTY)
    }

    /// log2 of the slots of its CNode.
    pub fn cnode_bits(&self) -> u32 {
        u32::from(self.byte(layout::CNODE_BITS))
    }

    /// The untypeds that it holds.
    pub fn untypeds(self) -> impl Iterator<Item = UntypedInfo> + use<'a> {
        self.range(layout::UNTYPEDS).enumerate().map(move |(index, slot)| {
            let at = layout::LIST + index * layout::ENTRY;
            UntypedInfo {
                slot,
                address: self.word(at),
                bits: u32::from(self.byte(at + layout::ENTRY_BITS)),
                device: self.byte(at + layout::ENTRY_DEVICE) != 0,
            }
        })
    }

    fn range(&self, at: usize) -> Range<u64> {
        self.word(at)..self.word(at + 8)
    }

    fn byte(&self, at: usize) -> u8 {
        self.page.get(at).copied().unwrap_or(0)
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.page.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untypeds_are_read_as_the_kernel_packs_them() {
        let mut page = [0; 4096];
        page[136] = 16;
        page[153] = 100;
        page[161] = 102;
        page[181..189].copy_from_slice(&0x8000_0000u64.to_le_bytes());
        page[191] = 28;
        page[192] = 1;
        let info = BootInfo::new(&page);
        assert_eq!(info.cnode_bits(), 16);
        let second = UntypedInfo { slot: 101, address: 0x8000_0000, bits: 28, device: true };
        assert_eq!(info.untypeds().nth(1), Some(second));
        assert_eq!(info.untypeds().count(), 2);
    }
}
