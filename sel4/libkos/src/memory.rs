//! The program's address space: which ranges are mapped, and how.
//!
//! The root server maps program, heap and stack, so their pages stay as they are: `brk` moves
//! inside the heap, and a change of protection there is accepted without effect. Everything
//! from [`MMAP_BASE`] on is libkos's own: [`Memory`] keeps the ranges, [`Pages`] puts memory
//! behind them. A range that may be accessed has memory from the beginning, for nobody would
//! serve a page fault; one without access (PROT_NONE) takes none.

use crate::errno::{Errno, Result};
use crate::user;
use alloc::collections::BTreeMap;
use koskit_spec::layout::{LARGE_PAGE, MMAP_BASE, MMAP_END, PAGE};

/// What a page may be used for: the bits PROT_READ, PROT_WRITE and PROT_EXEC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection(u8);

impl Protection {
    /// No access.
    pub const NONE: Self = Self(0);
    /// Reading.
    pub const READ: Self = Self(1);
    /// Reading and writing.
    pub const READ_WRITE: Self = Self(3);
    /// Reading and executing.
    pub const READ_EXECUTE: Self = Self(5);

    /// Decodes the argument of a call. AArch64 cannot map a page that can be written or
    /// executed but not read, so those can be read too.
    ///
    /// # Errors
    /// EINVAL for other bits than PROT_GROWSDOWN, PROT_BTI and the like would set.
    pub fn new(bits: u64) -> Result<Self> {
        if bits & !0x1f != 0 {
            return Err(Errno::INVAL);
        }
        let bits = (bits & 7) as u8;
        Ok(Self(if bits == 0 { 0 } else { bits | 1 }))
    }

    /// The bits PROT_READ, PROT_WRITE and PROT_EXEC.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether it may be written.
    pub fn write(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether it may be executed.
    pub fn execute(self) -> bool {
        self.0 & 4 != 0
    }
}

/// What puts memory behind ranges of pages. Addresses are multiples of a page, `end` is
/// exclusive, and all lie between MMAP_BASE and MMAP_END.
pub trait Pages {
    /// Sets the protection of the pages from `start` to `end`. Where there is no memory yet,
    /// zeroed memory comes, unless no access is asked for; what is there keeps its contents,
    /// and can be executed as it is where that is asked for.
    ///
    /// # Errors
    /// ENOMEM, with some of the pages done.
    fn set(&mut self, start: u64, end: u64, protection: Protection) -> Result<()>;

    /// Takes away the memory from `start` to `end`.
    ///
    /// # Errors
    /// ENOMEM, with nothing done: what is taken away may be part of something larger.
    fn release(&mut self, start: u64, end: u64) -> Result<()>;

    /// Writes to pages that may be written.
    ///
    /// # Errors
    /// EFAULT for the first pages of all, where nothing ever is.
    fn put(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        user::bytes_mut(address, bytes.len() as u64)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// Flags of `mmap`.
pub mod map {
    /// Changes are for this mapping only.
    pub const PRIVATE: u64 = 2;
    /// Exactly at the address given.
    pub const FIXED: u64 = 0x10;
    /// Memory without file.
    pub const ANONYMOUS: u64 = 0x20;
    /// As FIXED, but never over something.
    pub const FIXED_NOREPLACE: u64 = 0x10_0000;
}

/// The memory map.
pub struct Memory {
    ranges: BTreeMap<u64, Range>,
    heap: Heap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    end: u64,
    protection: Protection,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heap {
    start: u64,
    end: u64,
    /// The program break.
    now: u64,
    /// Highest break so far: what lies above is still zero.
    touched: u64,
}

impl Memory {
    /// A map with a heap and nothing else.
    pub fn new(heap_start: u64, heap_end: u64) -> Self {
        let heap = Heap { start: heap_start, end: heap_end, now: heap_start, touched: heap_start };
        Self { ranges: BTreeMap::new(), heap }
    }

    /// Bytes that are in use: those of the heap below the break, and all that is mapped and may be
    /// accessed.
    pub fn used(&self) -> u64 {
        let mapped = self.ranges.iter().filter(|(_, range)| range.protection != Protection::NONE);
        let mapped: u64 = mapped.map(|(start, range)| range.end - start).sum();
        mapped + (self.heap.now - self.heap.start)
    }

    /// What is mapped: start, end and protection of each range.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64, Protection)> + '_ {
        self.ranges.iter().map(|(&start, range)| (start, range.end, range.protection))
    }

    /// Whether something is mapped at an address, with or without access, that libkos mapped.
    pub fn is_mapped(&self, address: u64) -> bool {
        let page = address & !(PAGE - 1);
        self.covers(page, page.saturating_add(PAGE))
    }

    /// `brk`: moves the break, if the heap reaches so far, and returns where it is.
    pub fn brk(&mut self, address: u64) -> u64 {
        let heap = &mut self.heap;
        if !(heap.start..=heap.end).contains(&address) {
            return heap.now;
        }
        let stale = address.min(heap.touched);
        if stale > heap.now {
            // Memory that comes back is zero.
            if let Ok(bytes) = user::bytes_mut(heap.now, stale - heap.now) {
                bytes.fill(0);
            }
        }
        heap.touched = heap.touched.max(address);
        heap.now = address;
        address
    }

    /// `mmap` of memory that is zero: returns its address.
    ///
    /// # Errors
    /// EINVAL for arguments that make no sense, EEXIST for FIXED_NOREPLACE over something,
    /// ENOMEM where no memory or no room is left.
    pub fn map(
        &mut self,
        pages: &mut dyn Pages,
        hint: u64,
        length: u64,
        protection: Protection,
        flags: u64,
    ) -> Result {
        let length = round(length)?;
        let fixed = flags & (map::FIXED | map::FIXED_NOREPLACE) != 0;
        let start = if !fixed {
            self.room(hint, length)?
        } else if hint % PAGE != 0 {
            return Err(Errno::INVAL);
        } else if self.in_heap(hint, length) {
            if flags & map::FIXED_NOREPLACE != 0 {
                return Err(Errno::EXIST);
            }
            if protection != Protection::NONE {
                user::bytes_mut(hint, length)?.fill(0);
            }
            return Ok(hint);
        } else {
            let end = area(hint, length)?;
            if flags & map::FIXED_NOREPLACE != 0 && self.overlaps(hint, end) {
                return Err(Errno::EXIST);
            }
            pages.release(hint, end)?;
            self.forget(hint, end);
            hint
        };
        let end = start + length;
        if let Err(error) = pages.set(start, end, protection) {
            // Where it fails, pages are left that a later mapping finds.
            let _ = pages.release(start, end);
            return Err(error);
        }
        self.insert(start, Range { end, protection });
        Ok(start)
    }

    /// `mmap` of a file that holds `data` from the mapping's offset on: a copy, since the
    /// container has no capability to the file's own pages. Pages wholly behind the end of the
    /// file get no memory; Linux answers an access there by SIGBUS.
    ///
    /// # Errors
    /// As [`Memory::map`]; ENOMEM for a fixed address in the heap.
    pub fn map_file(
        &mut self,
        pages: &mut dyn Pages,
        hint: u64,
        length: u64,
        protection: Protection,
        flags: u64,
        data: &[u8],
    ) -> Result {
        let whole = round(length)?;
        if flags & (map::FIXED | map::FIXED_NOREPLACE) != 0 && self.in_heap(hint, whole) {
            return Err(Errno::NOMEM);
        }
        let data = &data[..data.len().min(usize::try_from(whole).unwrap_or(usize::MAX))];
        let start = self.map(pages, hint, length, Protection::NONE, flags)?;
        if data.is_empty() {
            return Ok(start);
        }
        let end = start + round(data.len() as u64)?;
        let filled = pages
            .set(start, end, Protection::READ_WRITE)
            .and_then(|()| pages.put(start, data))
            .and_then(|()| pages.set(start, end, protection));
        if let Err(error) = filled {
            let _ = self.unmap(pages, start, whole);
            return Err(error);
        }
        self.forget(start, end);
        self.insert(start, Range { end, protection });
        Ok(start)
    }

    /// `munmap`.
    ///
    /// # Errors
    /// EINVAL for an address that is no multiple of a page, or no length.
    pub fn unmap(&mut self, pages: &mut dyn Pages, start: u64, length: u64) -> Result {
        let length = round(length).map_err(|_| Errno::INVAL)?;
        if start % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        let end = start.checked_add(length).ok_or(Errno::INVAL)?.min(MMAP_END);
        let start = start.max(MMAP_BASE);
        if start < end {
            pages.release(start, end)?;
            self.forget(start, end);
        }
        Ok(0)
    }

    /// `mprotect`.
    ///
    /// # Errors
    /// EINVAL for an address that is no multiple of a page, ENOMEM where part of the range is
    /// not mapped or no memory is left.
    pub fn protect(
        &mut self,
        pages: &mut dyn Pages,
        start: u64,
        length: u64,
        protection: Protection,
    ) -> Result {
        if start % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        if length == 0 || !(MMAP_BASE..MMAP_END).contains(&start) {
            return Ok(0);
        }
        let end = area(start, round(length)?).map_err(|_| Errno::NOMEM)?;
        if !self.covers(start, end) {
            return Err(Errno::NOMEM);
        }
        pages.set(start, end, protection)?;
        self.forget(start, end);
        self.insert(start, Range { end, protection });
        Ok(0)
    }

    /// `mremap`: makes a mapping longer or shorter, and moves it where `may_move` allows it
    /// and it has to be.
    ///
    /// # Errors
    /// EINVAL for arguments that make no sense, EFAULT where the range is not one mapping,
    /// ENOMEM.
    pub fn remap(
        &mut self,
        pages: &mut dyn Pages,
        start: u64,
        old: u64,
        new: u64,
        may_move: bool,
    ) -> Result {
        let (old, new) = (round(old)?, round(new)?);
        if start % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        let end = area(start, old).map_err(|_| Errno::FAULT)?;
        let protection = match self.ranges.range(..=start).next_back() {
            Some((_, range)) if range.end >= end => range.protection,
            _ => return Err(Errno::FAULT),
        };
        if new <= old {
            if new < old {
                self.unmap(pages, start + new, old - new)?;
            }
            return Ok(start);
        }
        if let Some(grown) = area(start, new).ok().filter(|&grown| !self.overlaps(end, grown)) {
            if let Err(error) = pages.set(end, grown, protection) {
                let _ = pages.release(end, grown);
                return Err(error);
            }
            self.insert(end, Range { end: grown, protection });
            return Ok(start);
        }
        if !may_move {
            return Err(Errno::NOMEM);
        }
        let to = self.map(pages, 0, new, Protection::READ_WRITE, 0)?;
        if protection != Protection::NONE {
            user::bytes_mut(to, old)?.copy_from_slice(user::bytes(start, old)?);
        }
        self.protect(pages, to, new, protection)?;
        self.unmap(pages, start, old)?;
        Ok(to)
    }

    /// `madvise(MADV_DONTNEED)`: what is mapped from `start` on reads as zero again.
    ///
    /// # Errors
    /// EINVAL for an address that is no multiple of a page, ENOMEM where part of the range is
    /// not mapped.
    pub fn discard(&mut self, pages: &mut dyn Pages, start: u64, length: u64) -> Result {
        if start % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        if length == 0 {
            return Ok(0);
        }
        let length = round(length)?;
        if self.in_heap(start, length) {
            user::bytes_mut(start, length)?.fill(0);
            return Ok(0);
        }
        let end = area(start, length)?;
        if !self.covers(start, end) {
            return Err(Errno::NOMEM);
        }
        let mut at = start;
        while at < end {
            let (_, &range) = self.ranges.range(..=at).next_back().ok_or(Errno::NOMEM)?;
            let stop = range.end.min(end);
            pages.release(at, stop)?;
            pages.set(at, stop, range.protection)?;
            at = stop;
        }
        Ok(0)
    }

    fn in_heap(&self, start: u64, length: u64) -> bool {
        start >= self.heap.start
            && start.checked_add(length).is_some_and(|end| end <= self.heap.end)
    }

    /// A free range: at `hint` if that is free, else the lowest that is large enough.
    fn room(&self, hint: u64, length: u64) -> Result {
        let hint = hint & !(PAGE - 1);
        if area(hint, length).is_ok_and(|end| !self.overlaps(hint, end)) {
            return Ok(hint);
        }
        // Large mappings begin where large frames do.
        let align = if length < LARGE_PAGE { PAGE } else { LARGE_PAGE };
        let mut start = MMAP_BASE;
        for (&next, range) in &self.ranges {
            if next.checked_sub(start).is_some_and(|room| room >= length) {
                break;
            }
            start = range.end.next_multiple_of(align);
        }
        area(start, length).map(|_| start)
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.ranges.range(..end).next_back().is_some_and(|(_, range)| range.end > start)
    }

    fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        while at < end {
            match self.ranges.range(..=at).next_back() {
                Some((_, range)) if range.end > at => at = range.end,
                _ => return false,
            }
        }
        true
    }

    /// Cuts `start..end` out of the ranges.
    fn forget(&mut self, start: u64, end: u64) {
        let last = |ranges: &BTreeMap<u64, Range>| {
            let (&first, &range) = ranges.range(..end).next_back()?;
            (range.end > start).then_some((first, range))
        };
        while let Some((first, range)) = last(&self.ranges) {
            self.ranges.remove(&first);
            if range.end > end {
                self.ranges.insert(end, range);
            }
            if first < start {
                self.ranges.insert(first, Range { end: start, ..range });
            }
        }
    }

    /// Adds a range where none is, as part of its neighbours where they are alike.
    fn insert(&mut self, start: u64, mut range: Range) {
        match self.ranges.get(&range.end).copied() {
            Some(next) if next.protection == range.protection => {
                self.ranges.remove(&range.end);
                range.end = next.end;
            }
            _ => {}
        }
        match self.ranges.range_mut(..start).next_back() {
            Some((_, before)) if before.end == start && before.protection == range.protection => {
                before.end = range.end;
            }
            _ => {
                self.ranges.insert(start, range);
            }
        }
    }
}

/// A length in whole pages.
fn round(length: u64) -> Result {
    if length == 0 {
        return Err(Errno::INVAL);
    }
    length.checked_next_multiple_of(PAGE).ok_or(Errno::NOMEM)
}

/// The end of a range that must lie where libkos maps.
fn area(start: u64, length: u64) -> Result {
    match start.checked_add(length) {
        Some(end) if start >= MMAP_BASE && end <= MMAP_END => Ok(end),
        _ => Err(Errno::NOMEM),
    }
}

#[cfg(test)]
#[path = "memory/tests.rs"]
mod tests;
