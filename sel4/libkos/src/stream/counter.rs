//! Counters (`eventfd`) and timers (`timerfd`).

use super::{Ready, poll};
use crate::errno::{Errno, Result};
use core::cell::Cell;

/// What `eventfd2` makes.
pub struct Counter {
    value: Cell<u64>,
    semaphore: bool,
    input: Cell<u32>,
    output: Cell<u32>,
}

impl Counter {
    /// A counter. Of a semaphore each read takes one.
    pub fn new(value: u64, semaphore: bool) -> Self {
        let (input, output) = (Cell::new(0), Cell::new(0));
        Self { value: Cell::new(value), semaphore, input, output }
    }

    /// Takes the number.
    ///
    /// # Errors
    /// EAGAIN where it is zero.
    pub fn take(&self) -> Result {
        let value = self.value.get();
        if value == 0 {
            return Err(Errno::AGAIN);
        }
        let taken = if self.semaphore { 1 } else { value };
        self.value.set(value - taken);
        self.output.set(self.output.get().wrapping_add(1));
        Ok(taken)
    }

    /// Adds to the number.
    ///
    /// # Errors
    /// EAGAIN where it would become too large, EINVAL for what can never be added.
    pub fn add(&self, number: u64) -> Result<()> {
        if number == u64::MAX {
            return Err(Errno::INVAL);
        }
        let sum = self.value.get().checked_add(number).filter(|&sum| sum < u64::MAX);
        self.value.set(sum.ok_or(Errno::AGAIN)?);
        self.input.set(self.input.get().wrapping_add(1));
        Ok(())
    }

    /// What can be done.
    pub fn ready(&self) -> Ready {
        let value = self.value.get();
        let mut events = if value > 0 { poll::READ } else { 0 };
        events |= if value < u64::MAX - 1 { poll::WRITE } else { 0 };
        Ready { events, input: self.input.get(), output: self.output.get(), at: None }
    }
}

/// What `timerfd_create` makes. Times are nanoseconds of the monotonic clock.
#[derive(Default)]
pub struct Timer {
    /// The clock that its times are given by.
    pub clock: u64,
    /// When it expires next; none where it is not set.
    next: Cell<Option<u64>>,
    interval: Cell<u64>,
    changes: Cell<u32>,
}

impl Timer {
    /// A timer that is not set.
    pub fn new(clock: u64) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Sets it.
    pub fn set(&self, next: Option<u64>, interval: u64) {
        self.next.set(next);
        self.interval.set(interval);
        self.changes.set(self.changes.get().wrapping_add(1));
    }

    /// The time until it expires, 0 where it is not set, and its interval.
    pub fn left(&self, now: u64) -> (u64, u64) {
        let interval = self.interval.get();
        let Some(next) = self.next.get() else { return (0, interval) };
        let left = match now.checked_sub(next) {
            None => next - now,
            Some(late) if interval > 0 => interval - late % interval,
            // It has expired, and does not again.
            Some(_) => 0,
        };
        (left, interval)
    }

    fn expirations(&self, now: u64) -> u64 {
        let late = self.next.get().and_then(|next| now.checked_sub(next));
        late.map_or(0, |late| 1 + late.checked_div(self.interval.get()).unwrap_or(0))
    }

    /// Takes the number of times that it has expired since it was read or set.
    ///
    /// # Errors
    /// EAGAIN where it has not.
    pub fn take(&self, now: u64) -> Result {
        let count = self.expirations(now);
        if count == 0 {
            return Err(Errno::AGAIN);
        }
        let interval = self.interval.get();
        let next = self.next.get().filter(|_| interval > 0);
        self.next.set(next.map(|next| next + count * interval));
        Ok(count)
    }

    /// What can be done.
    pub fn ready(&self, now: u64) -> Ready {
        let expired = self.expirations(now);
        let events = if expired > 0 { poll::READ } else { 0 };
        let input = self.changes.get().wrapping_add(expired as u32);
        Ready { events, input, output: 0, at: self.next.get().filter(|_| expired == 0) }
    }
}
