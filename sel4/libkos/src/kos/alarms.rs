//! Timers that send signals: the three of `setitimer`, and those of `timer_create`. All count
//! CLOCK_MONOTONIC; time that a process has used is the time since its start, as seL4 does not
//! account.

use super::signals::{SIGNALS, Siginfo};
use super::time::{NEVER, NS};
use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::system::System;
use crate::user;
use alloc::vec::Vec;

const US: u64 = 1000;
const SIGALRM: u64 = 14;
/// Signals of ITIMER_REAL, VIRTUAL and PROF.
const INTERVAL_SIGNALS: [u64; 3] = [SIGALRM, 26, 27];
/// Most timers of `timer_create`, as RLIMIT_SIGPENDING would have it.
const TIMERS_MAX: usize = 1024;

/// How `struct sigevent` wants to be told.
mod notify {
    pub const SIGNAL: u64 = 0;
    pub const NONE: u64 = 1;
    pub const THREAD: u64 = 2;
    pub const THREAD_ID: u64 = 4;
}

/// All of them.
#[derive(Default)]
pub(super) struct Alarms {
    interval: [Alarm; 3],
    /// By their numbers.
    timers: Vec<Option<Timer>>,
}

/// When a timer comes.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    /// Or [`NEVER`].
    next: u64,
    /// Nanoseconds to the one after; 0 where there is none.
    interval: u64,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { next: NEVER, interval: 0 }
    }
}

impl Alarm {
    /// How often its time has come by now; it is then set to the next.
    fn pass(&mut self, now: u64) -> u64 {
        if self.next > now {
            return 0;
        }
        let Some(more) = (now - self.next).checked_div(self.interval) else {
            self.next = NEVER;
            return 1;
        };
        self.next = self.next.saturating_add((more + 1).saturating_mul(self.interval));
        more + 1
    }

    /// Time that is left; 0 where it does not come.
    fn left(&self, now: u64) -> u64 {
        if self.next == NEVER { 0 } else { self.next.saturating_sub(now).max(1) }
    }
}

/// A timer of `timer_create`.
#[derive(Clone, Copy, Debug)]
struct Timer {
    alarm: Alarm,
    clock: u64,
    /// None where nobody is told.
    signal: Option<u64>,
    thread: Option<usize>,
    value: u64,
    /// Times that came while its signal waited, and the same when that was last taken.
    overrun: u64,
    last: u64,
}

impl Alarms {
    /// When the next one comes.
    pub fn next(&self) -> u64 {
        let timers = self.timers.iter().flatten().map(|timer| timer.alarm.next);
        self.interval.iter().map(|alarm| alarm.next).chain(timers).min().unwrap_or(NEVER)
    }

    /// Completes what a signal of a timer says, as it is taken.
    pub fn taken(&mut self, info: &mut Siginfo) {
        let number = info.words[0] as u32 as usize;
        if let Some(Some(timer)) = self.timers.get_mut(number) {
            timer.last = core::mem::take(&mut timer.overrun);
            info.words[0] = number as u64 | timer.last.min(i32::MAX as u64) << 32;
        }
    }
}

impl<S: System> Kos<'_, S> {
    /// Sends the signals of all timers whose time has come.
    pub(super) fn ring(&mut self) {
        let now = self.monotonic();
        if self.alarms.next() > now {
            return;
        }
        for (index, signal) in INTERVAL_SIGNALS.into_iter().enumerate() {
            if self.alarms.interval[index].pass(now) > 0 {
                // Where the queue is full, there is no room for it on Linux either.
                let _ = self.send(signal, None, Siginfo::of_kernel());
            }
        }
        for number in 0..self.alarms.timers.len() {
            let Some(timer) = &mut self.alarms.timers[number] else { continue };
            let count = timer.alarm.pass(now);
            let (thread, value) = (timer.thread, timer.value);
            let Some(signal) = timer.signal.filter(|_| count > 0) else { continue };
            let info = Siginfo { code: Siginfo::TIMER, words: [number as u64, value] };
            let waits = self.is_queued(signal, &info);
            if let Some(timer) = &mut self.alarms.timers[number] {
                timer.overrun += count - u64::from(!waits);
            }
            if !waits {
                let _ = self.send(signal, thread, info);
            }
        }
    }

    /// Has time passed noticed from now on, whatever the threads do.
    fn arm(&mut self) -> Result<()> {
        self.system.watch().map_err(|_| Errno::AGAIN)?;
        let next = self.alarms.next();
        self.set_timer(next);
        Ok(())
    }

    pub(super) fn getitimer(&mut self, which: u64, into: u64) -> Result {
        let alarm = *self.alarms.interval.get(which as u32 as usize).ok_or(Errno::INVAL)?;
        let left = alarm.left(self.monotonic());
        let micro = |time: u64| time.div_ceil(US);
        let (interval, left) = (micro(alarm.interval), micro(left));
        let second = NS / US;
        let words = [interval / second, interval % second, left / second, left % second];
        user::set_words(into, &words)?;
        Ok(0)
    }

    pub(super) fn setitimer(&mut self, which: u64, new: u64, old: u64) -> Result {
        let index = which as u32 as usize;
        if index >= INTERVAL_SIGNALS.len() {
            return Err(Errno::INVAL);
        }
        let [seconds, micros, first_seconds, first_micros] = match new {
            0 => [0; 4],
            _ => user::words(new)?,
        };
        let time = |seconds: u64, micros: u64| {
            let valid = seconds as i64 >= 0 && micros < NS / US;
            valid.then(|| seconds.saturating_mul(NS).saturating_add(micros * US))
        };
        let interval = time(seconds, micros).ok_or(Errno::INVAL)?;
        let first = time(first_seconds, first_micros).ok_or(Errno::INVAL)?;
        if old != 0 {
            self.getitimer(which, old)?;
        }
        let next = if first == 0 { NEVER } else { self.monotonic().saturating_add(first) };
        self.alarms.interval[index] = Alarm { next, interval };
        if next != NEVER {
            self.arm()?;
        }
        Ok(0)
    }

    pub(super) fn timer_create(&mut self, clock: u64, event: u64, into: u64) -> Result {
        // REALTIME, MONOTONIC, the process's and the thread's time, BOOTTIME, those that would
        // wake the machine, TAI.
        if !matches!(clock, 0..=3 | 7..=9 | 11) {
            return Err(Errno::INVAL);
        }
        let list = &self.alarms.timers;
        let free = list.iter().position(Option::is_none).unwrap_or(list.len());
        if free >= TIMERS_MAX {
            return Err(Errno::AGAIN);
        }
        let room = 4 * (free + 1) * size_of::<Option<Timer>>();
        self.system.reserve(RESERVE + room).map_err(|_| Errno::AGAIN)?;
        let [value, kind, tid] = match event {
            0 => [free as u64, SIGALRM | notify::SIGNAL << 32, 0],
            _ => user::words(event)?,
        };
        let (signal, how) = (kind & 0xffff_ffff, kind >> 32);
        if how != notify::NONE && (signal == 0 || signal > SIGNALS) {
            return Err(Errno::INVAL);
        }
        let thread = match how {
            notify::SIGNAL | notify::NONE | notify::THREAD => None,
            notify::THREAD_ID if tid as u32 != 0 => {
                Some(self.place_of(tid).map_err(|_| Errno::INVAL)?)
            }
            _ => return Err(Errno::INVAL),
        };
        user::bytes_mut(into, 4)?.copy_from_slice(&(free as u32).to_le_bytes());
        let timer = Timer {
            alarm: Alarm::default(),
            clock,
            signal: (how != notify::NONE).then_some(signal),
            thread,
            value,
            overrun: 0,
            last: 0,
        };
        match self.alarms.timers.get_mut(free) {
            Some(place) => *place = Some(timer),
            None => self.alarms.timers.push(Some(timer)),
        }
        Ok(0)
    }

    fn timer(&mut self, number: u64) -> Result<&mut Timer> {
        let timer = self.alarms.timers.get_mut(number as u32 as usize);
        timer.and_then(Option::as_mut).ok_or(Errno::INVAL)
    }

    pub(super) fn timer_settime(&mut self, number: u64, flags: u64, new: u64, old: u64) -> Result {
        const ABSTIME: u64 = 1;
        let clock = self.timer(number)?.clock;
        let interval = super::time::duration(new)?;
        let first = super::time::duration(new + 16)?;
        if old != 0 {
            self.timer_gettime(number, old)?;
        }
        let next = match first {
            0 => NEVER,
            _ if flags & ABSTIME != 0 => self.monotonic_at(simple(clock), first)?,
            _ => self.monotonic().saturating_add(first),
        };
        self.forget_timer(number);
        let timer = self.timer(number)?;
        timer.alarm = Alarm { next, interval };
        (timer.overrun, timer.last) = (0, 0);
        if next != NEVER {
            self.arm()?;
            // It may be a time of the past.
            self.ring();
        }
        Ok(0)
    }

    pub(super) fn timer_gettime(&mut self, number: u64, into: u64) -> Result {
        let alarm = self.timer(number)?.alarm;
        let (left, interval) = (alarm.left(self.monotonic()), alarm.interval);
        user::set_words(into, &[interval / NS, interval % NS, left / NS, left % NS])?;
        Ok(0)
    }

    pub(super) fn timer_getoverrun(&mut self, number: u64) -> Result {
        Ok(self.timer(number)?.last.min(i32::MAX as u64))
    }

    pub(super) fn timer_delete(&mut self, number: u64) -> Result {
        self.timer(number)?;
        self.forget_timer(number);
        self.alarms.timers[number as u32 as usize] = None;
        Ok(0)
    }
}

/// A clock of `clock_gettime` that shows the same.
fn simple(clock: u64) -> u64 {
    match clock {
        8 => 0,
        9 => 7,
        clock => clock,
    }
}
