//! Making descriptors that need no file: pipes, counters, timers, files without a name.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Open, flag};
use crate::stream::{Counter, Pipe, Timer};
use crate::system::System;
use crate::user;
use alloc::rc::Rc;
use alloc::vec::Vec;

const NS: u64 = 1_000_000_000;
/// What every call of this kind may be asked for.
const COMMON: u32 = flag::CLOEXEC | flag::NONBLOCK;

impl<S: System> Kos<'_, S> {
    /// Opens something at the lowest free descriptor.
    pub(super) fn open_object(&mut self, object: Object, flags: u32) -> Result {
        self.system.reserve(self.files.cost(0) + RESERVE)?;
        self.files.open(object, flags)
    }

    /// Opens two things and says which descriptors they got.
    pub(super) fn open_two(
        &mut self,
        first: Open,
        second: Open,
        cloexec: bool,
        into: u64,
    ) -> Result {
        self.system.reserve(self.files.cost(self.files.count() + 1) + RESERVE)?;
        let out = user::bytes_mut(into, 8)?;
        let first = self.files.add(Rc::new(first), cloexec)?;
        let second = self.files.add(Rc::new(second), cloexec).inspect_err(|_| {
            let _ = self.files.close(first);
        })?;
        out[..4].copy_from_slice(&(first as u32).to_le_bytes());
        out[4..].copy_from_slice(&(second as u32).to_le_bytes());
        Ok(0)
    }

    pub(super) fn pipe2(&mut self, into: u64, flags: u64) -> Result {
        let flags = flags as u32;
        if flags & !(COMMON | flag::DIRECT) != 0 {
            return Err(Errno::INVAL);
        }
        self.system.reserve(RESERVE)?;
        let pipe = Pipe::new(self.tree.number(), &self.tree.pool);
        let read = Open::new(Object::Pipe(pipe.end(true, false)), flag::RDONLY | flags);
        let write = Open::new(Object::Pipe(pipe.end(false, true)), flag::WRONLY | flags);
        self.open_two(read, write, flags & flag::CLOEXEC != 0, into)
    }

    pub(super) fn eventfd(&mut self, value: u64, flags: u64) -> Result {
        const SEMAPHORE: u32 = 1;
        let flags = flags as u32;
        if flags & !(COMMON | SEMAPHORE) != 0 {
            return Err(Errno::INVAL);
        }
        let counter = Counter::new(u64::from(value as u32), flags & SEMAPHORE != 0);
        self.open_object(Object::Counter(counter), flag::RDWR | flags & COMMON)
    }

    pub(super) fn timerfd_create(&mut self, clock: u64, flags: u64) -> Result {
        let flags = flags as u32;
        // REALTIME, MONOTONIC, BOOTTIME, and those that would wake the machine.
        if !matches!(clock, 0 | 1 | 7 | 8 | 9) || flags & !COMMON != 0 {
            return Err(Errno::INVAL);
        }
        let clock = if matches!(clock, 0 | 8) { 0 } else { 1 };
        self.open_object(Object::Timer(Timer::new(clock)), flag::RDWR | flags)
    }

    pub(super) fn timerfd_settime(&mut self, fd: u64, flags: u64, new: u64, old: u64) -> Result {
        const ABSTIME: u64 = 1;
        const CANCEL_ON_SET: u64 = 2;
        let open = self.files.get(fd)?.clone();
        let Object::Timer(timer) = &open.object else { return Err(Errno::INVAL) };
        let [seconds, ns, next_seconds, next_ns] = user::words(new)?;
        let valid = |seconds: u64, ns: u64| (seconds as i64) >= 0 && ns < NS;
        if flags & !(ABSTIME | CANCEL_ON_SET) != 0
            || !valid(seconds, ns)
            || !valid(next_seconds, next_ns)
        {
            return Err(Errno::INVAL);
        }
        let time = |seconds: u64, ns: u64| seconds.saturating_mul(NS).saturating_add(ns);
        let now = self.now(1)?;
        if old != 0 {
            tell(timer, now, old)?;
        }
        let next = time(next_seconds, next_ns);
        let next = match next {
            0 => None,
            _ if flags & ABSTIME == 0 => Some(now.saturating_add(next)),
            // Nobody sets the clock.
            _ => Some(next.saturating_sub(self.now(timer.clock)? - now)),
        };
        timer.set(next, time(seconds, ns));
        self.changed();
        Ok(0)
    }

    pub(super) fn timerfd_gettime(&mut self, fd: u64, into: u64) -> Result {
        let now = self.now(1)?;
        let Object::Timer(timer) = &self.files.get(fd)?.object else { return Err(Errno::INVAL) };
        tell(timer, now, into)
    }

    /// A file without a name. It can be sealed only in so far as nobody can seal it.
    pub(super) fn memfd_create(&mut self, name: u64, flags: u64) -> Result {
        const CLOEXEC: u64 = 1;
        const KNOWN: u64 = 0x1b;
        const NAME_MAX: usize = 249;
        let name = user::path(name)?;
        if name.len() > NAME_MAX || flags & !KNOWN != 0 {
            return Err(Errno::INVAL);
        }
        self.prepare()?;
        let file = self.tree.regular(0o777);
        let mut full = Vec::from(*b"memfd:");
        full.extend_from_slice(name);
        file.place.replace((None, full.into()));
        let cloexec = if flags & CLOEXEC != 0 { flag::CLOEXEC } else { 0 };
        self.open_object(Object::Regular(file), flag::RDWR | cloexec)
    }
}

/// Writes `struct itimerspec`.
fn tell(timer: &Timer, now: u64, into: u64) -> Result {
    let (left, interval) = timer.left(now);
    user::set_words(into, &[interval / NS, interval % NS, left / NS, left % NS])?;
    Ok(0)
}
