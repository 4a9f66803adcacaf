//! Pipes, with and without names.

use super::{Queue, Ready, poll};
use crate::errno::{Errno, Result};
use crate::system::System;
use crate::tree::{PAGE, Pool};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// Most bytes that are written to a pipe in one piece or not at all.
pub const PIPE_BUF: usize = 4096;
/// Bytes that a pipe holds, as in Linux.
const CAPACITY: usize = 64 << 10;
/// What it can be made to hold.
const CAPACITY_MAX: usize = 1 << 20;

/// A pipe.
pub struct Pipe {
    /// Its number.
    pub ino: u64,
    queue: RefCell<Queue>,
    capacity: Cell<usize>,
    readers: Cell<u32>,
    writers: Cell<u32>,
    /// Somebody has had it open for writing.
    begun: Cell<bool>,
    input: Cell<u32>,
    output: Cell<u32>,
}

/// An open end of a pipe, or both ends in one.
pub struct End {
    /// The pipe.
    pub pipe: Rc<Pipe>,
    reads: bool,
    writes: bool,
}

impl Pipe {
    /// An empty pipe without ends.
    pub fn new(ino: u64, pool: &Rc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            ino,
            queue: RefCell::new(Queue::new(pool)),
            capacity: Cell::new(CAPACITY),
            readers: Cell::new(0),
            writers: Cell::new(0),
            begun: Cell::new(false),
            input: Cell::new(0),
            output: Cell::new(0),
        })
    }

    /// Opens an end.
    pub fn end(self: &Rc<Self>, reads: bool, writes: bool) -> End {
        self.readers.set(self.readers.get() + u32::from(reads));
        self.writers.set(self.writers.get() + u32::from(writes));
        self.begun.set(self.begun.get() || writes);
        self.input.set(self.input.get().wrapping_add(1));
        self.output.set(self.output.get().wrapping_add(1));
        End { pipe: self.clone(), reads, writes }
    }

    /// Whether somebody has it open for reading.
    pub fn has_reader(&self) -> bool {
        self.readers.get() > 0
    }

    /// Whether somebody has it open for writing.
    pub fn has_writer(&self) -> bool {
        self.writers.get() > 0
    }

    /// Bytes that wait in it.
    pub fn length(&self) -> usize {
        self.queue.borrow().length()
    }

    /// Bytes that it holds.
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// F_SETPIPE_SZ: has it hold as many bytes, or some more.
    ///
    /// # Errors
    /// EPERM for more than anybody may have, EBUSY where more bytes wait.
    pub fn set_capacity(&self, size: u64) -> Result {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > CAPACITY_MAX {
            return Err(Errno::PERM);
        }
        let size = size.max(PAGE).next_power_of_two();
        if size < self.length() {
            return Err(Errno::BUSY);
        }
        self.capacity.set(size);
        Ok(size as u64)
    }

    /// Reads what is there. Opening a pipe for reading does not wait for a writer here, so
    /// reading does, where it may wait.
    ///
    /// # Errors
    /// EAGAIN where nothing is, but could come.
    pub fn read(&self, into: &mut [u8], waits: bool) -> Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut queue = self.queue.borrow_mut();
        let done = queue.peek(0, into);
        if done == 0 {
            let more = self.has_writer() || waits && !self.begun.get();
            return if more { Err(Errno::AGAIN) } else { Ok(0) };
        }
        queue.skip(done);
        self.output.set(self.output.get().wrapping_add(1));
        Ok(done)
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// EPIPE where nobody can read, EAGAIN where there is no room, ENOMEM.
    pub fn write(&self, system: &mut dyn System, bytes: &[u8]) -> Result<usize> {
        if !self.has_reader() {
            return Err(Errno::PIPE);
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut queue = self.queue.borrow_mut();
        let room = self.capacity.get().saturating_sub(queue.length());
        if room == 0 || bytes.len() <= PIPE_BUF && room < bytes.len() {
            return Err(Errno::AGAIN);
        }
        let part = room.min(bytes.len());
        queue.push(system, &bytes[..part]).map_err(|_| Errno::NOMEM)?;
        self.input.set(self.input.get().wrapping_add(1));
        Ok(part)
    }
}

impl End {
    /// What can be done.
    pub fn ready(&self) -> Ready {
        let Pipe { input, output, capacity, .. } = &*self.pipe;
        let length = self.pipe.length();
        let mut events = 0;
        if self.reads {
            events |= if length > 0 { poll::READ } else { 0 };
            let over = self.pipe.begun.get() && !self.pipe.has_writer();
            events |= if over { poll::HUP } else { 0 };
        }
        if self.writes {
            let room = capacity.get().saturating_sub(length);
            events |= if room >= PIPE_BUF { poll::WRITE } else { 0 };
            events |= if self.pipe.has_reader() { 0 } else { poll::ERR };
        }
        Ready { events, input: input.get(), output: output.get(), at: None }
    }

    /// Which of both ends it is: for reading, and for writing.
    pub fn ends(&self) -> (bool, bool) {
        (self.reads, self.writes)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Pipe { readers, writers, input, output, .. } = &*self.pipe;
        readers.set(readers.get() - u32::from(self.reads));
        writers.set(writers.get() - u32::from(self.writes));
        input.set(input.get().wrapping_add(1));
        output.set(output.get().wrapping_add(1));
    }
}
