//! Memory from the untypeds that the contract hands to the container: frames are made of them
//! as they are needed, mapped with the container's own capabilities, and kept for reuse when
//! they are unmapped. Nobody is asked, and nobody else can run short by it.

use crate::heap;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use koskit_abi::{Attributes, CNode, Error, Frame, Ipc, Object, Rights, Table, Untyped, VSpace};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::memory::Protection;
use koskit_spec::info::Info;
use koskit_spec::layout::{KOS_HEAP_BASE, KOS_HEAP_END, LARGE_PAGE, MMAP_BASE, PAGE, slot};

/// Pages that one table of [`Frames::tables`] tells of.
const TABLE: u32 = 512;
/// Bytes of libkos's heap that such a table takes, with its share of a node of the map.
const COST: usize = 2048 + 256;
/// And what any change may cost: nodes of the map that are split on the way.
const COST_BASE: usize = 2 << 10;

/// The container's own memory.
pub struct Frames {
    /// The frames behind pages. The key is a page's number, from MMAP_BASE on, divided by
    /// [`TABLE`]; tables without any frame are left out.
    tables: BTreeMap<u32, Box<[Page; TABLE as usize]>>,
    /// Slots of frames that are mapped nowhere; their memory holds old contents. It has room
    /// for all frames there can be, so that giving memory back never needs memory.
    free: Vec<u16>,
    /// Slots of frames that were never used: the first, and the one after the last.
    fresh: (u16, u16),
    /// The next empty slot, and the end of the CNode.
    slots: (u64, u64),
    /// Slots of untypeds of one page that are still whole: the first, and the end.
    small: (u64, u64),
    /// Slots of untypeds of 2 MiB: the one in use, and the end.
    large: (u64, u64),
    /// Pages left in the one in use.
    large_left: u64,
    /// Where the next page of libkos's heap goes.
    heap: u64,
}

/// What is behind a page.
#[derive(Clone, Copy)]
struct Page {
    /// The frame's slot; 0 where there is none.
    slot: u16,
    /// NONE: not mapped at the moment.
    protection: Protection,
}

const NOTHING: Page = Page { slot: 0, protection: Protection::NONE };

impl Frames {
    /// Everything that was handed over.
    ///
    /// # Errors
    /// ENOMEM where the list of its frames has no place.
    pub fn new(ipc: &mut Ipc, info: &Info) -> Result<Self> {
        let large = slot::UNTYPED + u64::from(info.ut_large_page);
        let small = large + u64::from(info.ut_4k_pages);
        let mut frames = Self {
            tables: BTreeMap::new(),
            free: Vec::new(),
            fresh: (0, 0),
            slots: (small, 1 << info.cnode_bits.min(16)),
            small: (large, small),
            large: (slot::UNTYPED, large),
            large_left: LARGE_PAGE / PAGE,
            heap: KOS_HEAP_BASE,
        };
        let most = frames.left() as usize;
        // The allocator may take twice as much.
        frames.reserve(ipc, 2 * most * size_of::<u16>())?;
        frames.free = Vec::with_capacity(most);
        Ok(frames)
    }

    /// Pages that can still be had.
    fn left(&self) -> u64 {
        let small = self.small.1 - self.small.0;
        let large = match self.large.1 - self.large.0 {
            0 => 0,
            whole => (whole - 1) * (LARGE_PAGE / PAGE) + self.large_left,
        };
        let unmade = (small + large).min(self.slots.1.saturating_sub(self.slots.0));
        self.free.len() as u64 + u64::from(self.fresh.1 - self.fresh.0) + unmade
    }

    /// As [`Pages::set`](koskit_libkos::memory::Pages::set).
    ///
    /// # Errors
    /// ENOMEM where untypeds or slots are used up.
    pub fn set(&mut self, ipc: &mut Ipc, start: u64, end: u64, to: Protection) -> Result<()> {
        let (first, last) = (number(start), number(end));
        if to == Protection::NONE {
            self.each(first, last, |page| unmap(ipc, page));
            return Ok(());
        }
        // Without this, what can never be would take all memory for its tables.
        let mut there = 0;
        self.each(first, last, |_| there += 1);
        if u64::from(last - first - there) > self.left() {
            return Err(Errno::NOMEM);
        }
        let tables = last.div_ceil(TABLE) - first / TABLE;
        self.reserve(ipc, COST_BASE + tables as usize * COST)?;
        for page in first..last {
            let address = MMAP_BASE + u64::from(page) * PAGE;
            let mut now = self.page(page);
            if now.slot == 0 {
                now = self.give(ipc, address, (last - page).into())?;
                self.put(page, now);
            }
            if now.protection != to {
                unmap(ipc, &mut now);
                self.put(page, now);
                self.map(ipc, now.slot, address, to)?;
                self.put(page, Page { protection: to, ..now });
            }
        }
        Ok(())
    }

    /// As [`Pages::release`](koskit_libkos::memory::Pages::release).
    pub fn release(&mut self, ipc: &mut Ipc, start: u64, end: u64) {
        let (first, last) = (number(start), number(end));
        let mut free = core::mem::take(&mut self.free);
        self.each(first, last, |page| {
            unmap(ipc, page);
            free.push(page.slot);
            *page = NOTHING;
        });
        self.free = free;
        let tables = first / TABLE..last.div_ceil(TABLE);
        let empty = |table: &[Page; TABLE as usize]| table.iter().all(|page| page.slot == 0);
        while let Some((&key, _)) =
            self.tables.range(tables.clone()).find(|(_, table)| empty(table))
        {
            self.tables.remove(&key);
        }
    }

    /// Does something to every page from `first` to `last` that has a frame.
    fn each(&mut self, first: u32, last: u32, mut act: impl FnMut(&mut Page)) {
        for (&key, table) in self.tables.range_mut(first / TABLE..last.div_ceil(TABLE)) {
            let start = first.saturating_sub(key * TABLE).min(TABLE) as usize;
            let end = (last - key * TABLE).min(TABLE) as usize;
            table[start..end].iter_mut().filter(|page| page.slot != 0).for_each(&mut act);
        }
    }

    fn page(&self, page: u32) -> Page {
        self.tables.get(&(page / TABLE)).map_or(NOTHING, |table| table[(page % TABLE) as usize])
    }

    fn put(&mut self, page: u32, now: Page) {
        let table =
            self.tables.entry(page / TABLE).or_insert_with(|| Box::new([NOTHING; TABLE as usize]));
        table[(page % TABLE) as usize] = now;
    }

    /// Makes sure that libkos's own heap has room.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn reserve(&mut self, ipc: &mut Ipc, bytes: usize) -> Result<()> {
        while heap::room() < bytes {
            if self.heap == KOS_HEAP_END {
                return Err(Errno::NOMEM);
            }
            let page = self.take(ipc, 1)?;
            self.map(ipc, page, self.heap, Protection::READ_WRITE)?;
            // SAFETY: the page was mapped just now, where only this heap is. A frame that
            // was used before may hold anything, as the heap's blocks do.
            unsafe { heap::extend(self.heap as usize, PAGE as usize) };
            self.heap += PAGE;
        }
        Ok(())
    }

    /// Maps a page of zeroes at an address, writable at first. `more` says how many pages are
    /// wanted in all, this one among them.
    fn give(&mut self, ipc: &mut Ipc, address: u64, more: u64) -> Result<Page> {
        let used = !self.free.is_empty();
        let slot = self.take(ipc, more)?;
        if let Err(error) = self.map(ipc, slot, address, Protection::READ_WRITE) {
            self.free.push(slot);
            return Err(error);
        }
        if used {
            // SAFETY: the page was mapped just now, writable, and is nobody's yet.
            unsafe { clear(address) };
        }
        Ok(Page { slot, protection: Protection::READ_WRITE })
    }

    /// A frame that is mapped nowhere: a used one, else a fresh one.
    fn take(&mut self, ipc: &mut Ipc, more: u64) -> Result<u16> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        if self.fresh.0 == self.fresh.1 {
            let (first, count) = self.make(ipc, Object::SmallFrame, more)?;
            self.fresh = (first as u16, (first + count) as u16);
        }
        self.fresh.0 += 1;
        Ok(self.fresh.0 - 1)
    }

    /// Makes at most `most` objects of one page each; returns the first slot and the count.
    fn make(&mut self, ipc: &mut Ipc, object: Object, most: u64) -> Result<(u64, u64)> {
        let slots = self.slots.1.saturating_sub(self.slots.0).min(most.max(1));
        if slots == 0 {
            return Err(Errno::NOMEM);
        }
        let (untyped, count) = if self.small.0 < self.small.1 {
            self.small.0 += 1;
            (self.small.0 - 1, 1)
        } else if self.large.0 < self.large.1 {
            let count = slots.min(self.large_left).min(Untyped::RETYPE_MAX);
            let untyped = self.large.0;
            self.large_left -= count;
            if self.large_left == 0 {
                self.large = (untyped + 1, self.large.1);
                self.large_left = LARGE_PAGE / PAGE;
            }
            (untyped, count)
        } else {
            return Err(Errno::NOMEM);
        };
        let (into, first) = (CNode::at(slot::CNODE), self.slots.0);
        let made = Untyped::at(untyped).retype(ipc, object, into, first, count);
        made.map_err(|_| Errno::NOMEM)?;
        self.slots.0 += count;
        Ok((first, count))
    }

    /// Maps a frame, with the page tables that are still missing there.
    fn map(&mut self, ipc: &mut Ipc, frame: u16, at: u64, protection: Protection) -> Result<()> {
        let rights = if protection.write() { Rights::READ_WRITE } else { Rights::READ };
        let attributes = if protection.execute() { Attributes::EXECUTE } else { Attributes::DATA };
        let vspace = VSpace::at(slot::VSPACE);
        loop {
            match Frame::at(frame.into()).map(ipc, vspace, at, rights, attributes) {
                Ok(()) => return Ok(()),
                Err(Error::FailedLookup) => {}
                Err(_) => return Err(Errno::NOMEM),
            }
            let level = match ipc.missing_bits() {
                21 => 0,
                30 => 1,
                _ => 2,
            };
            let (table, _) = self.make(ipc, Object::Table { level }, 1)?;
            Table::at(table).map(ipc, level, vspace, at).map_err(|_| Errno::NOMEM)?;
        }
    }
}

/// Zeroes a page, 64 bytes at a time: what the compiler makes of a loop takes five times as long.
///
/// # Safety
/// The page is mapped writable, and nobody else's.
unsafe fn clear(page: u64) {
    // SAFETY: writes that page only.
    unsafe {
        core::arch::asm!(
            "2:",
            "stp xzr, xzr, [{at}], #64",
            "stp xzr, xzr, [{at}, #-48]",
            "stp xzr, xzr, [{at}, #-32]",
            "stp xzr, xzr, [{at}, #-16]",
            "cmp {at}, {end}",
            "b.ne 2b",
            at = inout(reg) page => _,
            end = in(reg) page + PAGE,
            options(nostack),
        )
    }
}

fn number(address: u64) -> u32 {
    ((address - MMAP_BASE) / PAGE) as u32
}

fn unmap(ipc: &mut Ipc, page: &mut Page) {
    if page.protection != Protection::NONE {
        // A mapped frame can be unmapped.
        let _ = Frame::at(page.slot.into()).unmap(ipc);
        page.protection = Protection::NONE;
    }
}
