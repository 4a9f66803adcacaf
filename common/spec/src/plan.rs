//! What a contract comes to: the kernel objects of a container, and their bytes. `lower` uses
//! it to choose the untyped, the root server to refuse what does not fit before anything is
//! created, and then to create exactly this.
//!
//! Sizes are those of seL4 on AArch64 with EL2 (5.0.0 with our port; 16.0.0 is the same but
//! for a VSpace of 8 KiB, which is what is counted).

use crate::board;
use crate::contract::{Contract, ContractError};
use crate::elf::Elf;
use crate::layout::{self, LARGE_PAGE, PAGE};

/// log2 of the bytes of a capability slot.
pub const SLOT_BITS: u32 = 5;
/// log2 of the bytes of a TCB.
pub const TCB_BITS: u32 = 11;
/// log2 of the bytes of a notification (6 with MCS, which is what is counted).
pub const NOTIFICATION_BITS: u32 = 6;
/// log2 of the bytes of a page table of any level.
pub const TABLE_BITS: u32 = 12;
/// log2 of the bytes of a VSpace's root.
pub const VSPACE_BITS: u32 = 13;

/// The objects of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// 4 KiB frames that only this container has.
    pub frames: u64,
    /// 4 KiB frames of its image and of libkos, shared with other containers.
    pub shared_frames: u64,
    /// Page tables of all levels below the VSpace.
    pub tables: u64,
    /// Pages for [`crate::info::Info`] and the process block.
    pub info_pages: u64,
    /// log2 of the slots of the CNode in which the root server keeps the capabilities to all
    /// this.
    pub keep_bits: u32,
    /// Bytes of all objects together.
    pub bytes: u64,
}

impl Plan {
    /// Sizes up a container.
    ///
    /// # Errors
    /// [`ContractError::Range`] where the heap or the initrd is larger than its place.
    pub fn new(
        contract: &Contract,
        program: &Elf,
        libkos: &Elf,
        initrd_size: u64,
        process_size: u64,
    ) -> Result<Self, ContractError> {
        let range = |what, asked, max| {
            if asked <= max {
                Ok(())
            } else {
                Err(ContractError::Range { what, asked, min: 0, max })
            }
        };
        let heap = contract.heap_pages as u64;
        range("heap_pages", heap, (layout::MMAP_BASE - program.end()) / PAGE)?;
        let initrd = initrd_size.div_ceil(PAGE);
        range("initrd_pages", initrd, layout::INITRD_PAGES_MAX)?;
        let info = (crate::info::Info::SIZE as u64 + process_size).div_ceil(PAGE);
        range("info_pages", info, layout::INFO_PAGES_MAX)?;

        let stack = contract.stack_pages as u64;
        // One page each: the thread's block and its IPC buffer.
        let private = program.private_pages() + libkos.private_pages();
        let frames = private + heap + stack + layout::KOS_STACK_PAGES + info + 2;
        let shared_frames = program.shared_pages() + libkos.shared_pages() + initrd;

        let mut tables = Tables::default();
        for s in program.segments() {
            tables.span(s.start(), s.end());
        }
        tables.span(program.end(), program.end() + heap * PAGE);
        tables.span(layout::KOS_BASE, libkos.end());
        tables.span(layout::INFO_BASE, layout::KOS_STACK_TOP);
        tables.span(layout::STACK_TOP - stack * PAGE, layout::STACK_TOP);
        tables.span(layout::INITRD_BASE, layout::INITRD_BASE + initrd * PAGE);
        let tables = tables.count;

        let handed = contract.ut_large_page as u64 + contract.ut_4k_pages as u64;
        // Those of devices lie where page tables are anyway.
        let devices: u64 = board::devices(contract.devices).map(|(_, d)| 1 + d.dma_pages).sum();
        // Slot 0 stays empty; VSpace, TCB and the container's CNode need one each.
        let kept = 4 + frames + shared_frames + tables + handed + devices;
        let keep_bits = kept.next_power_of_two().trailing_zeros();
        let bytes = (contract.ut_large_page as u64) * LARGE_PAGE
            + (1u64 << (keep_bits + SLOT_BITS))
            + (1u64 << (contract.cnode_bits + SLOT_BITS))
            + (1u64 << VSPACE_BITS)
            + (tables << TABLE_BITS)
            + (frames + contract.ut_4k_pages as u64) * PAGE
            + (1u64 << TCB_BITS)
            + (1u64 << NOTIFICATION_BITS);
        Ok(Self { frames, shared_frames, tables, info_pages: info, keep_bits, bytes })
    }

    /// log2 of the smallest untyped that holds all this. What is lost to alignment does not
    /// matter where objects are made in the right order: the two CNodes, the VSpace, the TCB and
    /// the notification by falling size; all of 4 KiB; the untypeds of 2 MiB.
    pub fn untyped_bits(&self) -> u32 {
        self.bytes.next_power_of_two().trailing_zeros()
    }

    /// Refuses a contract whose own untyped is too small for it.
    ///
    /// # Errors
    /// [`ContractError::Untyped`] with both sizes.
    pub fn admit(&self, contract: &Contract) -> Result<(), ContractError> {
        let stated = 1u64.checked_shl(contract.untyped_bits).unwrap_or(0);
        if self.bytes <= stated {
            Ok(())
        } else {
            Err(ContractError::Untyped { needed: self.bytes, stated })
        }
    }
}

/// Counts page tables: one for each different piece of 2 MiB, 1 GiB and 512 GiB that is
/// touched. Spans come by rising address, but for neighbours that may share a piece.
#[derive(Default)]
struct Tables {
    count: u64,
    /// End of what is already covered, by level.
    covered: [u64; 3],
}

impl Tables {
    fn span(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        for (level, covered) in self.covered.iter_mut().enumerate() {
            let shift = 21 + 9 * level as u32;
            let (first, last) = (start >> shift, (end - 1) >> shift);
            let first = first.max(*covered);
            if first <= last {
                self.count += last - first + 1;
                *covered = last + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn objects_made_in_the_right_order_fit_with_their_alignment(
            large in 0u64..9,
            pages in 0u64..5000,
            keep in 2u32..18,
            cnode in 4u32..17,
        ) {
            let (keep, cnode) = (1u64 << (keep + SLOT_BITS), 1u64 << (cnode + SLOT_BITS));
            let small = [1 << VSPACE_BITS, 1 << TCB_BITS, 1 << NOTIFICATION_BITS];
            let mut first = [keep, cnode, small[0], small[1], small[2]];
            first.sort_unstable_by(|a, b| b.cmp(a));
            let bytes = first.iter().sum::<u64>() + pages * PAGE + large * LARGE_PAGE;
            let mut end = 0u64;
            let rest = [(PAGE, pages), (LARGE_PAGE, large)];
            for (size, count) in first.map(|size| (size, 1)).into_iter().chain(rest) {
                if count > 0 {
                    end = end.next_multiple_of(size) + size * count;
                }
            }
            let plan = Plan { bytes, ..Plan::default() };
            prop_assert!(end <= 1 << plan.untyped_bits(), "{end} > 2^{}", plan.untyped_bits());
        }
    }

    #[test]
    fn tables_are_counted_once_for_each_piece() {
        let mut tables = Tables::default();
        tables.span(0x40_0000, 0x40_1000);
        assert_eq!(tables.count, 3);
        tables.span(0x40_1000, 0x41_0000);
        assert_eq!(tables.count, 3);
        tables.span(0x60_0000, 0x80_0001);
        assert_eq!(tables.count, 5);
        tables.span(layout::KOS_BASE, layout::KOS_BASE + 1);
        assert_eq!(tables.count, 7);
    }
}
