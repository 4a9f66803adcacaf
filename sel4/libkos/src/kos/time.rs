//! Clocks, and sleeping. The counter says how much time has passed; what time it is, the root
//! server has said at the start.

use super::Kos;
use super::wait::Event;
use crate::errno::{Errno, Result};
use crate::system::System;
use crate::user;

/// Nanoseconds in a second.
pub(super) const NS: u64 = 1_000_000_000;
/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;
/// Flag of `clock_nanosleep`: it is told the time, not how long.
const ABSTIME: u64 = 1;

impl<S: System> Kos<'_, S> {
    pub(super) fn clock_gettime(&mut self, clock: u64, into: u64) -> Result {
        let now = self.now(clock)?;
        user::set_words(into, &[now / NS, now % NS])?;
        Ok(0)
    }

    pub(super) fn clock_getres(&mut self, clock: u64, into: u64) -> Result {
        self.now(clock)?;
        if into != 0 {
            user::set_words(into, &[0, (NS / self.info.timer_hz.max(1)).max(1)])?;
        }
        Ok(0)
    }

    pub(super) fn gettimeofday(&mut self, into: u64) -> Result {
        if into != 0 {
            let now = self.now(0)?;
            user::set_words(into, &[now / NS, now % NS / 1000])?;
        }
        Ok(0)
    }

    /// What a clock shows, in nanoseconds.
    pub(super) fn now(&self, clock: u64) -> Result {
        Ok(self.monotonic().wrapping_add(self.ahead(clock)?))
    }

    /// What CLOCK_MONOTONIC shows.
    pub(super) fn monotonic(&self) -> u64 {
        let (ticks, hz) = (self.system.ticks(), self.info.timer_hz.max(1));
        ticks / hz * NS + ticks % hz * NS / hz
    }

    /// What CLOCK_MONOTONIC shows when another clock shows `time`; 0 where that was before all.
    pub(super) fn monotonic_at(&self, clock: u64, time: u64) -> Result {
        let ahead = self.ahead(clock)? as i64;
        Ok(time.saturating_add_signed(ahead.wrapping_neg()))
    }

    /// How far a clock is ahead of CLOCK_MONOTONIC; wraps where it is behind.
    fn ahead(&self, clock: u64) -> Result {
        match clock {
            // REALTIME, REALTIME_COARSE, TAI
            0 | 5 | 11 => Ok(self.info.epoch_ns),
            // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME
            1 | 4 | 6 | 7 => Ok(0),
            // PROCESS_CPUTIME_ID, THREAD_CPUTIME_ID: the time since the start is an upper
            // bound; seL4 does not account.
            2 | 3 => Ok(self.started.wrapping_neg()),
            _ => Err(Errno::INVAL),
        }
    }

    /// The value of the counter when CLOCK_MONOTONIC shows a time, at the earliest.
    pub(super) fn ticks_at(&self, time: u64) -> u64 {
        let hz = self.info.timer_hz.max(1);
        (time / NS).saturating_mul(hz).saturating_add((time % NS * hz).div_ceil(NS))
    }

    pub(super) fn nanosleep(&mut self, request: u64) -> Result {
        self.clock_nanosleep(1, 0, request)
    }

    pub(super) fn clock_nanosleep(&mut self, clock: u64, flags: u64, request: u64) -> Result {
        let until = self.until(|kos| {
            let time = duration(request)?;
            match flags & ABSTIME {
                0 => kos.ahead(clock).map(|_| kos.monotonic().saturating_add(time)),
                _ => kos.monotonic_at(clock, time),
            }
        })?;
        if self.is_over(until) { Ok(0) } else { Err(self.wait(Event::Time, until)) }
    }

    /// Writes how long it is until a time, for who was to sleep until then.
    pub(super) fn tell_rest(&self, into: u64, until: u64) {
        let rest = until.saturating_sub(self.monotonic());
        // The call has failed already.
        let _ = user::set_words(into, &[rest / NS, rest % NS]);
    }

    /// `struct rusage`: all time was the program's own.
    pub(super) fn getrusage(&mut self, into: u64) -> Result {
        let used = self.now(2)?;
        user::bytes_mut(into, 144)?.fill(0);
        user::set_words(into, &[used / NS, used % NS / 1000])?;
        Ok(0)
    }

    pub(super) fn times(&mut self, into: u64) -> Result {
        const TICK: u64 = NS / 100;
        if into != 0 {
            user::set_words(into, &[self.now(2)? / TICK, 0, 0, 0])?;
        }
        Ok(self.now(1)? / TICK)
    }
}

/// A time that a call gives as seconds and nanoseconds, in nanoseconds.
pub(super) fn duration(address: u64) -> Result {
    let [seconds, nanoseconds] = user::words(address)?;
    if (seconds as i64) < 0 || nanoseconds >= NS {
        return Err(Errno::INVAL);
    }
    Ok(seconds.saturating_mul(NS).saturating_add(nanoseconds))
}
