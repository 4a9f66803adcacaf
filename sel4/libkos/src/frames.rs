//! Memory from the untypeds that the contract hands to the container: frames are made of them
//! as they are needed, mapped with the container's own capabilities, and kept for reuse when
//! they are unmapped. Nobody is asked, and nobody else can run short by it.
//!
//! Small frames serve everything. A mapping that covers whole blocks of 2 MiB gets large ones
//! for them, where that leaves enough untypeds of 2 MiB to split one again: as soon as part of
//! a block is unmapped or protected, its contents move to small frames.

use crate::heap;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use koskit_abi::{
    Attributes, CNode, Error, Frame, Ipc, Object, Rights, Slot, Table, Untyped, VSpace,
};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::memory::Protection;
use koskit_spec::info::Info;
use koskit_spec::layout::{KOS_HEAP_BASE, KOS_HEAP_END, LARGE_PAGE, MMAP_BASE, PAGE, slot};

/// Pages that one table of [`Frames::tables`] tells of.
const TABLE: u32 = 512;
/// Bytes of libkos's heap that such a table takes, with its share of a node of the map.
const COST: usize = 2048 + 256;
/// So many tables are kept though they have become empty.
const TABLES_KEPT: usize = 4;
/// What any change may cost besides: nodes of the map that are split on the way.
const COST_BASE: usize = 2 << 10;

/// The container's own memory.
pub struct Frames {
    /// The frames behind pages. The key is a page's number, from MMAP_BASE on, divided by
    /// [`TABLE`]; where there are many, tables without any frame are left out.
    tables: BTreeMap<u32, Block>,
    /// Slots of frames that are mapped nowhere; their memory holds old contents. It has room
    /// for all frames there can be, so that giving memory back never needs memory.
    free: Vec<u16>,
    /// Slots of frames that were never used: the first, and the one after the last.
    fresh: (u16, u16),
    /// The next empty slot, and the end of the CNode.
    slots: (u64, u64),
    /// Slots of untypeds of one page that are still whole: the first, and the end.
    small: (u64, u64),
    /// Slots of untypeds of 2 MiB of which nothing was ever made: the first, and the end.
    large: (u64, u64),
    /// Those of which a large frame was made that is not used now.
    whole: Vec<Whole>,
    /// The slot of the one of which small frames are made, and the pages left in it.
    part: (u64, u64),
    /// Pages of which objects smaller than a page are made: threads, then notifications.
    shelves: [Shelf; 2],
    /// Where the next page of libkos's heap goes.
    heap: u64,
}

/// The slot of an untyped of a page, and how many objects can still be made of it.
#[derive(Clone, Copy, Default)]
struct Shelf {
    untyped: u64,
    left: u64,
}

/// What is behind a block of 2 MiB.
enum Block {
    Small(Box<[Page]>),
    /// A large frame, and the slot of the untyped that it was made of.
    Large(Page, u16),
}

/// An untyped of 2 MiB, and the slot for the large frame that is made of it, or 0.
#[derive(Clone, Copy)]
struct Whole {
    untyped: u16,
    frame: u16,
    /// The frame is there, mapped nowhere, with old contents.
    made: bool,
}

/// What is behind a page, or a block.
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
            slots: (small + u64::from(info.devices.count_ones()), 1 << info.cnode_bits.min(16)),
            small: (large, small),
            large: (slot::UNTYPED, large),
            whole: Vec::new(),
            part: (0, 0),
            shelves: [Shelf::default(); 2],
            heap: KOS_HEAP_BASE,
        };
        let count = info.ut_large_page as usize;
        let pages = info.ut_4k_pages as usize + count * TABLE as usize;
        let most = pages.min(frames.slots.1.saturating_sub(small) as usize);
        let lists = most * size_of::<u16>() + count * size_of::<Whole>();
        // The allocator may take twice as much.
        frames.reserve(ipc, 2 * lists)?;
        frames.free = Vec::with_capacity(most);
        frames.whole = Vec::with_capacity(count);
        Ok(frames)
    }

    /// Pages that can still be had.
    pub fn left(&self) -> u64 {
        let unmade = self.small.1 - self.small.0 + self.part.1 + self.wholes() * LARGE_PAGE / PAGE;
        self.free.len() as u64 + u64::from(self.fresh.1 - self.fresh.0) + unmade
    }

    /// Untypeds of 2 MiB that are not in use.
    fn wholes(&self) -> u64 {
        self.whole.len() as u64 + self.large.1 - self.large.0
    }

    fn take_whole(&mut self) -> Option<Whole> {
        self.whole.pop().or_else(|| {
            let untyped = self.large.0;
            self.large.0 += u64::from(untyped < self.large.1);
            (untyped < self.large.1).then_some(Whole {
                untyped: untyped as u16,
                frame: 0,
                made: false,
            })
        })
    }

    /// As [`Pages::set`](koskit_libkos::memory::Pages::set).
    ///
    /// # Errors
    /// ENOMEM where untypeds or slots are used up.
    pub fn set(&mut self, ipc: &mut Ipc, start: u64, end: u64, to: Protection) -> Result<()> {
        let (first, last) = (number(start), number(end));
        self.settle(ipc, first, last, Some(to))?;
        if to == Protection::NONE {
            self.each(first, last, |page| unmap(ipc, page));
            for block in self.range(first, last) {
                if let Block::Large(page, _) = block {
                    unmap(ipc, page);
                }
            }
            return Ok(());
        }
        // Without this, what can never be would take all memory for its tables.
        let mut there = 0;
        self.each(first, last, |_| there += 1);
        let large = self.range(first, last).filter(|block| matches!(block, Block::Large(..)));
        there += large.count() as u32 * TABLE;
        if u64::from((last - first).saturating_sub(there)) > self.left() {
            return Err(Errno::NOMEM);
        }
        let tables = last.div_ceil(TABLE) - first / TABLE;
        self.reserve(ipc, COST_BASE + tables as usize * COST)?;
        let mut page = first;
        while page < last {
            let whole = page % TABLE == 0 && last - page >= TABLE;
            let next = (page + 1).next_multiple_of(TABLE).min(last);
            let block = self.tables.get(&(page / TABLE));
            let is_new = block.is_none();
            if let Some(&Block::Large(now, untyped)) = block {
                // `settle` left none that is only partly in the range and has to change.
                self.change(ipc, page, now, to)?;
                let now = Page { protection: to, ..now };
                self.tables.insert(page / TABLE, Block::Large(now, untyped));
                page = next;
            } else if whole && is_new && self.give_large(ipc, page, to) {
                page = next;
            } else {
                self.set_some(ipc, page..next, last - page, to)?;
                page = next;
            }
        }
        if to.execute() {
            // SAFETY: all of it has just been mapped.
            unsafe { publish(start, end) };
        }
        Ok(())
    }

    /// As [`Pages::release`](koskit_libkos::memory::Pages::release).
    ///
    /// # Errors
    /// ENOMEM where part of a large frame has to go, and there is no memory for the rest of it.
    pub fn release(&mut self, ipc: &mut Ipc, start: u64, end: u64) -> Result<()> {
        let (first, last) = (number(start), number(end));
        self.settle(ipc, first, last, None)?;
        let mut free = core::mem::take(&mut self.free);
        for block in self.range(first, last) {
            if let Block::Large(page, _) = block {
                unmap(ipc, page);
            }
        }
        self.each(first, last, |page| {
            unmap(ipc, page);
            free.push(page.slot);
            *page = NOTHING;
        });
        self.free = free;
        let tables = first / TABLE..last.div_ceil(TABLE);
        // Memory that is given back is often asked for again, in the same place.
        let many = self.tables.len() > TABLES_KEPT;
        let unused = |block: &Block| match block {
            Block::Small(table) => many && table.iter().all(|page| page.slot == 0),
            Block::Large(..) => true,
        };
        while let Some((&key, _)) =
            self.tables.range(tables.clone()).find(|(_, block)| unused(block))
        {
            if let Some(Block::Large(page, untyped)) = self.tables.remove(&key) {
                // Has room for all that there ever were.
                self.whole.push(Whole { untyped, frame: page.slot, made: true });
            }
        }
        Ok(())
    }

    fn range(&mut self, first: u32, last: u32) -> impl Iterator<Item = &mut Block> {
        self.tables.range_mut(first / TABLE..last.div_ceil(TABLE)).map(|(_, block)| block)
    }

    /// Sees to it that large frames lie wholly in a range or outside, but for those that have
    /// the protection `keep`.
    fn settle(
        &mut self,
        ipc: &mut Ipc,
        first: u32,
        last: u32,
        keep: Option<Protection>,
    ) -> Result<()> {
        for key in [first / TABLE, (last - 1) / TABLE] {
            let inside = first <= key * TABLE && (key + 1) * TABLE <= last;
            match self.tables.get(&key) {
                Some(&Block::Large(page, untyped)) if !inside && keep != Some(page.protection) => {
                    self.split(ipc, key, page, untyped)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves what is in a large frame to small ones.
    fn split(&mut self, ipc: &mut Ipc, key: u32, mut large: Page, untyped: u16) -> Result<()> {
        let at = address(key * TABLE);
        self.reserve(ipc, COST_BASE + COST)?;
        // All that can fail comes first.
        let (table, _) = self.make(ipc, Object::Table { level: 0 }, 1)?;
        let mut pages = nothing();
        self.change(ipc, key * TABLE, large, Protection::READ_WRITE)?;
        let wanted = core::mem::replace(&mut large.protection, Protection::READ_WRITE);
        for (index, page) in (0..).zip(pages.iter_mut()) {
            let copied = self.take(ipc, u64::from(TABLE - index)).and_then(|slot| {
                page.slot = slot;
                self.map(ipc, slot, KOS_HEAP_END, Protection::READ_WRITE)
            });
            if let Err(error) = copied {
                self.free.extend(pages.iter().map(|page| page.slot).filter(|&slot| slot != 0));
                self.change(ipc, key * TABLE, large, wanted)?;
                return Err(error);
            }
            page.protection = Protection::READ_WRITE;
            let from = at + u64::from(index) * PAGE;
            // SAFETY: both pages are mapped, and the new one is nobody's yet.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    from as *const u8,
                    KOS_HEAP_END as *mut u8,
                    PAGE as usize,
                );
            }
            unmap(ipc, page);
        }
        unmap(ipc, &mut large);
        self.whole.push(Whole { untyped, frame: large.slot, made: true });
        let _ = Table::at(table).map(ipc, 0, VSpace::at(slot::VSPACE), at);
        for (index, page) in (0..).zip(pages.iter_mut()) {
            if wanted != Protection::NONE {
                self.map(ipc, page.slot, at + index * PAGE, wanted)?;
                page.protection = wanted;
            }
        }
        self.tables.insert(key, Block::Small(pages));
        Ok(())
    }

    /// Maps a large frame of zeroes at a block, if enough others are left to split it.
    fn give_large(&mut self, ipc: &mut Ipc, page: u32, to: Protection) -> bool {
        if self.wholes() < 2 {
            return false;
        }
        let Some(mut whole) = self.take_whole() else { return false };
        let given = self.map_large(ipc, &mut whole, page, to);
        if given {
            let now = Page { slot: whole.frame, protection: to };
            self.tables.insert(page / TABLE, Block::Large(now, whole.untyped));
        } else {
            self.whole.push(whole);
        }
        given
    }

    fn map_large(&mut self, ipc: &mut Ipc, whole: &mut Whole, page: u32, to: Protection) -> bool {
        if whole.frame == 0 {
            if self.slots.0 == self.slots.1 {
                return false;
            }
            whole.frame = self.slots.0 as u16;
            self.slots.0 += 1;
        }
        let used = core::mem::replace(&mut whole.made, true);
        if !used {
            let (into, frame) = (CNode::at(slot::CNODE), whole.frame.into());
            let untyped = Untyped::at(whole.untyped.into());
            whole.made = untyped.retype(ipc, Object::LargeFrame, into, frame, 1).is_ok();
        }
        // Where a table for small pages is there from earlier, this fails.
        let first = if used { Protection::READ_WRITE } else { to };
        if !whole.made || self.map(ipc, whole.frame, address(page), first).is_err() {
            return false;
        }
        let now = Page { slot: whole.frame, protection: first };
        if used {
            for page in page..page + TABLE {
                // SAFETY: the frame was mapped just now, writable, and is nobody's yet.
                unsafe { clear(address(page)) };
            }
        }
        self.change(ipc, page, now, to).is_ok()
    }

    /// Sets the protection of pages of one table, which are in no large frame. `more` says how
    /// many pages are wanted in all.
    fn set_some(
        &mut self,
        ipc: &mut Ipc,
        which: Range<u32>,
        more: u32,
        to: Protection,
    ) -> Result<()> {
        let (first, key) = (which.start, which.start / TABLE);
        let block = self.tables.entry(key).or_insert_with(|| Block::Small(nothing()));
        let Block::Small(table) = block else { return Ok(()) };
        // Frames come from other parts of `self`.
        let mut pages = core::mem::take(table);
        let done = which.into_iter().try_for_each(|page| {
            let now = &mut pages[(page % TABLE) as usize];
            if now.slot == 0 {
                *now = self.give(ipc, address(page), (more - (page - first)).into())?;
            }
            if now.protection != to {
                self.change(ipc, page, *now, to)?;
                now.protection = to;
            }
            Ok(())
        });
        if done.is_err() && pages.iter().all(|page| page.slot == 0) {
            self.tables.remove(&key);
        } else if let Some(Block::Small(table)) = self.tables.get_mut(&key) {
            *table = pages;
        }
        done
    }

    /// Maps a frame with another protection than it has.
    fn change(&mut self, ipc: &mut Ipc, page: u32, mut now: Page, to: Protection) -> Result<()> {
        match (now.protection, to) {
            (now, to) if now == to => Ok(()),
            (Protection::NONE, _) => self.map(ipc, now.slot, address(page), to),
            (_, Protection::NONE) => {
                unmap(ipc, &mut now);
                Ok(())
            }
            _ => {
                let (rights, attributes) = how(to);
                let (frame, vspace) = (Frame::at(now.slot.into()), VSpace::at(slot::VSPACE));
                let done = frame.remap(ipc, vspace, address(page), rights, attributes);
                done.map_err(|_| Errno::NOMEM)
            }
        }
    }

    /// Does something to every small frame from page `first` to `last`.
    fn each(&mut self, first: u32, last: u32, mut act: impl FnMut(&mut Page)) {
        for (&key, block) in self.tables.range_mut(first / TABLE..last.div_ceil(TABLE)) {
            let start = first.saturating_sub(key * TABLE).min(TABLE) as usize;
            let end = (last - key * TABLE).min(TABLE) as usize;
            if let Block::Small(table) = block {
                table[start..end].iter_mut().filter(|page| page.slot != 0).for_each(&mut act);
            }
        }
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

    /// Maps a page of zeroes of libkos's own at an address, whose page table is there; its slot.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn give_page(&mut self, ipc: &mut Ipc, at: u64) -> Result<u64> {
        Ok(self.give(ipc, at, 1)?.slot.into())
    }

    /// Makes a thread, an endpoint or a notification; its slot.
    ///
    /// # Errors
    /// ENOMEM where untypeds or slots are used up.
    pub fn make_small(&mut self, ipc: &mut Ipc, object: Object) -> Result<u64> {
        let which = usize::from(object != Object::Tcb);
        if self.shelves[which].left == 0 {
            let bits = PAGE.trailing_zeros();
            let (untyped, _) = self.make(ipc, Object::Untyped { bits }, 1)?;
            self.shelves[which] = Shelf { untyped, left: PAGE >> object.size_bits() };
        }
        let at = self.slot()?;
        let into = CNode::at(slot::CNODE);
        let shelf = &mut self.shelves[which];
        Untyped::at(shelf.untyped).retype(ipc, object, into, at, 1).map_err(|_| Errno::NOMEM)?;
        shelf.left -= 1;
        Ok(at)
    }

    /// An empty slot, which stays the caller's.
    ///
    /// # Errors
    /// ENOMEM where all are used up.
    pub fn slot(&mut self) -> Result<u64> {
        if self.slots.0 >= self.slots.1 {
            return Err(Errno::NOMEM);
        }
        self.slots.0 += 1;
        Ok(self.slots.0 - 1)
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
        } else {
            if self.part.1 == 0 {
                let whole = self.take_whole().ok_or(Errno::NOMEM)?;
                if whole.made {
                    // The untyped is as new when nothing of it is left.
                    let (root, index) = (CNode::at(slot::CNODE), whole.frame.into());
                    let frame = Slot { root, index, depth: 64 };
                    frame.delete(ipc).map_err(|_| Errno::NOMEM)?;
                }
                self.part = (whole.untyped.into(), LARGE_PAGE / PAGE);
            }
            let count = slots.min(self.part.1).min(Untyped::RETYPE_MAX);
            self.part.1 -= count;
            (self.part.0, count)
        };
        let (into, first) = (CNode::at(slot::CNODE), self.slots.0);
        let made = Untyped::at(untyped).retype(ipc, object, into, first, count);
        made.map_err(|_| Errno::NOMEM)?;
        self.slots.0 += count;
        Ok((first, count))
    }

    /// Maps a frame, with the page tables that are still missing there.
    fn map(&mut self, ipc: &mut Ipc, frame: u16, at: u64, protection: Protection) -> Result<()> {
        let (rights, attributes) = how(protection);
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

/// A table that tells of no frame.
fn nothing() -> Box<[Page]> {
    Box::new([NOTHING; TABLE as usize])
}

/// Zeroes a page, 64 bytes at a time: what the compiler makes of a loop takes five times as long.
///
/// # Safety
/// The page is mapped writable, and nobody else's.
unsafe fn clear(page: u64) {
    let lines: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mrs {}, dczid_el0", out(reg) lines, options(nomem, nostack)) };
    // Lines of 64 bytes, which may be zeroed at once (Arm ARM, DCZID_EL0).
    if lines & 31 == 4 {
        // SAFETY: writes that page only.
        unsafe {
            core::arch::asm!(
                "2:",
                "dc zva, {at}",
                "add {at}, {at}, #64",
                "dc zva, {at}",
                "add {at}, {at}, #64",
                "dc zva, {at}",
                "add {at}, {at}, #64",
                "dc zva, {at}",
                "add {at}, {at}, #64",
                "cmp {at}, {end}",
                "b.ne 2b",
                at = inout(reg) page => _,
                end = in(reg) page + PAGE,
                options(nostack),
            )
        };
        return;
    }
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

/// Makes what was written to pages visible to instruction fetches (Arm ARM, B2.4.4).
///
/// # Safety
/// The pages are mapped.
unsafe fn publish(start: u64, end: u64) {
    let sizes: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mrs {}, ctr_el0", out(reg) sizes, options(nomem, nostack)) };
    let (data, code) = (4 << (sizes >> 16 & 15), 4 << (sizes & 15));
    // SAFETY: cleans and invalidates caches, no more.
    unsafe {
        for line in (start..end).step_by(data) {
            core::arch::asm!("dc cvau, {}", in(reg) line, options(nostack));
        }
        core::arch::asm!("dsb ish", options(nostack));
        for line in (start..end).step_by(code) {
            core::arch::asm!("ic ivau, {}", in(reg) line, options(nostack));
        }
        core::arch::asm!("dsb ish", "isb", options(nostack));
    }
}

/// Rights and attributes of a mapping.
fn how(protection: Protection) -> (Rights, Attributes) {
    let rights = if protection.write() { Rights::READ_WRITE } else { Rights::READ };
    (rights, if protection.execute() { Attributes::EXECUTE } else { Attributes::DATA })
}

fn address(page: u32) -> u64 {
    MMAP_BASE + u64::from(page) * PAGE
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
