//! Contents in pieces of a page: of files, and of what waits in pipes and sockets.
//!
//! Pages come from libkos's own memory one by one, so nothing needs memory in one piece. What
//! is given back waits here to be used again, since libkos's memory only grows.

use crate::errno::{Errno, Result};
use crate::initrd::{File, Initrd};
use crate::system::System;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// What a page leaves of libkos's memory, so that other calls do not fail for lack of it.
const MARGIN: usize = 32 << 10;
/// Largest file: what offsets can say.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// A page of bytes.
pub type Page = Box<[u8; PAGE]>;

/// Pages that were given back.
#[derive(Default)]
pub struct Pool {
    spare: RefCell<Vec<Page>>,
    /// Number of pages that were ever made: `spare` has room for all of them, so that giving
    /// one back never needs memory.
    made: Cell<usize>,
}

impl Pool {
    /// A page of zeroes.
    ///
    /// # Errors
    /// ENOSPC where no memory is left.
    pub fn take(&self, system: &mut dyn System) -> Result<Page> {
        if let Some(mut page) = self.spare.borrow_mut().pop() {
            page.fill(0);
            return Ok(page);
        }
        let full = |_| Errno::NOSPC;
        let mut spare = self.spare.borrow_mut();
        if spare.capacity() <= self.made.get() {
            let room = 2 * spare.capacity().max(32);
            system.reserve(2 * room * size_of::<Page>()).map_err(full)?;
            spare.reserve_exact(room);
        }
        system.reserve(2 * PAGE + MARGIN).map_err(full)?;
        self.made.set(self.made.get() + 1);
        Ok(Box::new([0; PAGE]))
    }

    /// Takes a page back.
    pub fn give(&self, page: Page) {
        self.spare.borrow_mut().push(page);
    }

    /// Number of pages that wait to be used again.
    pub fn spare(&self) -> u64 {
        self.spare.borrow().len() as u64
    }

    /// Number of pages in use.
    pub fn used(&self) -> u64 {
        self.made.get() as u64 - self.spare()
    }
}

/// The bytes of a regular file: those of a file of the archive, as far as they were not
/// written over; pages that were written; and zeroes elsewhere.
pub struct Contents {
    size: u64,
    pages: BTreeMap<u64, Page>,
    below: Option<File>,
    /// Bytes of `below` that still count.
    below_size: u64,
    pool: Rc<Pool>,
}

impl Contents {
    /// An empty file, or one that begins as a file of the archive.
    pub fn new(pool: &Rc<Pool>, below: Option<File>, size: u64) -> Self {
        Self { size, pages: BTreeMap::new(), below, below_size: size, pool: pool.clone() }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Blocks of 512 bytes that it takes.
    pub fn blocks(&self) -> u64 {
        let below = self.below_size.div_ceil(PAGE as u64);
        let both = if below == 0 { 0 } else { self.pages.range(..below).count() as u64 };
        (below + self.pages.len() as u64 - both) * (PAGE as u64 / 512)
    }

    /// Reads from an offset; returns how many bytes there were.
    pub fn read(&self, initrd: &Initrd<'_>, offset: u64, into: &mut [u8]) -> usize {
        let length = self.size.saturating_sub(offset).min(into.len() as u64) as usize;
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let (page, start) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let part = (length - done).min(PAGE - start);
            let out = &mut into[done..done + part];
            match self.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[start..start + part]),
                None => self.read_below(initrd, at, out),
            }
            done += part;
        }
        length
    }

    /// What the file of the archive has, and zeroes behind it.
    fn read_below(&self, initrd: &Initrd<'_>, offset: u64, into: &mut [u8]) {
        let data = self.below.map_or(&[][..], |file| initrd.contents(&file));
        let data = &data[..data.len().min(self.below_size as usize)];
        let data = data.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let (front, back) = into.split_at_mut(data.len().min(into.len()));
        front.copy_from_slice(&data[..front.len()]);
        back.fill(0);
    }

    /// Writes at an offset; returns how many bytes could be written.
    ///
    /// # Errors
    /// ENOSPC where no memory is left for the first of them, EFBIG for an offset that cannot be.
    pub fn write(
        &mut self,
        system: &mut dyn System,
        initrd: &Initrd<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if offset >= SIZE_MAX {
            return Err(Errno::FBIG);
        }
        let length = (SIZE_MAX - offset).min(bytes.len() as u64) as usize;
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let (page, start) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let part = (length - done).min(PAGE - start);
            match self.page(system, initrd, page) {
                Ok(to) => to[start..start + part].copy_from_slice(&bytes[done..done + part]),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            done += part;
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// A page that can be written.
    fn page(
        &mut self,
        system: &mut dyn System,
        initrd: &Initrd<'_>,
        page: u64,
    ) -> Result<&mut Page> {
        if !self.pages.contains_key(&page) {
            let mut new = self.pool.take(system)?;
            if page * (PAGE as u64) < self.below_size {
                self.read_below(initrd, page * PAGE as u64, &mut new[..]);
            }
            self.pages.insert(page, new);
        }
        self.pages.get_mut(&page).ok_or(Errno::IO)
    }

    /// Makes it as long as this; what is new reads as zeroes.
    ///
    /// # Errors
    /// EFBIG.
    pub fn truncate(&mut self, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Errno::FBIG);
        }
        if size < self.size {
            self.below_size = self.below_size.min(size);
            let first = size.div_ceil(PAGE as u64);
            while let Some((&page, _)) = self.pages.range(first..).next() {
                if let Some(page) = self.pages.remove(&page) {
                    self.pool.give(page);
                }
            }
            if let Some(page) = self.pages.get_mut(&(size / PAGE as u64)) {
                page[(size % PAGE as u64) as usize..].fill(0);
            }
        }
        self.size = size;
        Ok(())
    }

    /// Makes zeroes of a range, which then takes no memory where it covers whole pages.
    ///
    /// # Errors
    /// ENOSPC.
    pub fn punch(
        &mut self,
        system: &mut dyn System,
        initrd: &Initrd<'_>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let to = to.min(self.size);
        let mut at = from;
        while at < to {
            let (page, start) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let end = ((page + 1) * PAGE as u64).min(to);
            let there = self.pages.contains_key(&page) || at < self.below_size;
            if there {
                let last = start + (end - at) as usize;
                let whole = start == 0 && (last == PAGE || end == self.size);
                if whole && page * PAGE as u64 >= self.below_size {
                    if let Some(page) = self.pages.remove(&page) {
                        self.pool.give(page);
                    }
                } else {
                    self.page(system, initrd, page)?[start..last].fill(0);
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Takes memory for a range, so that writing there does not fail for lack of it.
    ///
    /// # Errors
    /// ENOSPC, EFBIG.
    pub fn allocate(
        &mut self,
        system: &mut dyn System,
        initrd: &Initrd<'_>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        if to > SIZE_MAX {
            return Err(Errno::FBIG);
        }
        for page in from / PAGE as u64..to.div_ceil(PAGE as u64) {
            self.page(system, initrd, page)?;
        }
        Ok(())
    }

    /// Where data (`true`) or a hole (`false`) begins, at an offset or behind it. There is a
    /// hole at the end of every file.
    ///
    /// # Errors
    /// ENXIO where nothing of the kind follows.
    pub fn seek(&self, offset: u64, data: bool) -> Result<u64> {
        const NXIO: Errno = Errno(6);
        if offset >= self.size {
            return Err(NXIO);
        }
        let is_data =
            |page: u64| page * (PAGE as u64) < self.below_size || self.pages.contains_key(&page);
        let mut page = offset / PAGE as u64;
        if is_data(page) == data {
            return Ok(offset);
        }
        if data {
            // Behind what the archive has, data is where pages are.
            let (&next, _) = self.pages.range(page..).next().ok_or(NXIO)?;
            return Ok(next * PAGE as u64);
        }
        page = page.max(self.below_size.div_ceil(PAGE as u64));
        while is_data(page) {
            page += 1;
        }
        Ok((page * PAGE as u64).min(self.size))
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        while let Some((_, page)) = self.pages.pop_first() {
            self.pool.give(page);
        }
    }
}
