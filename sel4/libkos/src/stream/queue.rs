//! Bytes that wait to be read.

use crate::errno::Result;
use crate::system::System;
use crate::tree::{PAGE, Page, Pool};
use alloc::collections::VecDeque;
use alloc::rc::Rc;

/// Bytes in the order in which they were put here, in pages.
pub struct Queue {
    pages: VecDeque<Page>,
    /// Bytes of the first page that were read.
    start: usize,
    length: usize,
    pool: Rc<Pool>,
}

impl Queue {
    /// An empty one.
    pub fn new(pool: &Rc<Pool>) -> Self {
        Self { pages: VecDeque::new(), start: 0, length: 0, pool: pool.clone() }
    }

    /// Number of bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Puts all bytes to the end, or none.
    ///
    /// # Errors
    /// ENOSPC where there is no memory.
    pub fn push(&mut self, system: &mut dyn System, bytes: &[u8]) -> Result<()> {
        let end = self.start + self.length;
        let needed = (end + bytes.len()).div_ceil(PAGE);
        while self.pages.len() < needed {
            match self.pool.take(system) {
                Ok(page) => self.pages.push_back(page),
                Err(error) => {
                    self.trim();
                    return Err(error);
                }
            }
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = end + done;
            let part = (bytes.len() - done).min(PAGE - at % PAGE);
            let page = &mut self.pages[at / PAGE];
            page[at % PAGE..at % PAGE + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.length += bytes.len();
        Ok(())
    }

    /// Copies bytes from the beginning, `skip` bytes behind it, without taking them away.
    pub fn peek(&self, skip: usize, into: &mut [u8]) -> usize {
        let length = into.len().min(self.length.saturating_sub(skip));
        let mut done = 0;
        while done < length {
            let at = self.start + skip + done;
            let part = (length - done).min(PAGE - at % PAGE);
            into[done..done + part].copy_from_slice(&self.pages[at / PAGE][at % PAGE..][..part]);
            done += part;
        }
        length
    }

    /// Takes bytes away from the beginning.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.length);
        self.start += count;
        self.length -= count;
        while self.start >= PAGE {
            self.start -= PAGE;
            if let Some(page) = self.pages.pop_front() {
                self.pool.give(page);
            }
        }
        self.trim();
    }

    /// Gives back pages that hold nothing.
    fn trim(&mut self) {
        if self.length == 0 {
            self.start = 0;
        }
        while self.pages.len() > (self.start + self.length).div_ceil(PAGE) {
            if let Some(page) = self.pages.pop_back() {
                self.pool.give(page);
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.length = 0;
        self.trim();
    }
}
