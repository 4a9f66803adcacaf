//! Waiting: what happens to a call that cannot be answered yet.
//!
//! Its handler says so by `return Err(self.wait(event, until))`. The thread gives up the lock and
//! sleeps. When somebody says that the event has happened ([`Kos::wake`]), or the time has come,
//! the same call is answered again from its beginning, with the same arguments. So a handler looks
//! first, and waits only where there is nothing:
//!
//! ```text
//! let until = self.until_after(timeout)?;      // of the first attempt
//! if something is there { return Ok(...) }
//! if self.is_over(until) { return Err(Errno::AGAIN) }
//! Err(self.wait(Event::Files, until))
//! ```
//!
//! What must be remembered from one attempt to the next is in [`Attempt`]: until when the call
//! waits, and how much of it is done.
//!
//! There is one timer. It is set to the first of all threads' times.

use super::Kos;
pub(super) use super::time::NEVER;
use crate::errno::{Errno, Result};
use crate::system::System;
use alloc::vec::Vec;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing but the time.
    Time,
    /// Something can be read or written that could not, or the other end of something is gone.
    Files,
    /// FUTEX_WAKE of this word, with one of these bits.
    Futex { word: u64, bits: u32 },
}

/// The call that a thread is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    state: State,
    /// When it gives up, as its first attempt found it.
    pub until: Option<u64>,
    /// What earlier attempts have done of it, in whatever the call counts.
    pub done: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// There is none, or it is answered for the first time.
    #[default]
    New,
    /// It waits.
    Waiting,
    /// It is to be answered again.
    Again,
    /// A signal has come.
    Interrupted,
    /// Somebody else has answered it.
    Answered(Result),
}

impl Attempt {
    /// Whether the thread waits.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Has the call answered again.
    pub fn again(&mut self) {
        self.state = State::Again;
    }
}

/// All threads that wait, in the order in which they came.
#[derive(Default)]
pub(super) struct Waits {
    queue: Vec<Waiter>,
    /// What the timer is set to; none where it is not.
    timer: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    thread: usize,
    event: Event,
    until: u64,
}

impl Waits {
    /// Bytes that are needed for so many threads.
    pub fn cost(threads: usize) -> usize {
        // Vectors double; the allocator rounds up once more.
        4 * threads * size_of::<Waiter>()
    }
}

impl<S: System> Kos<'_, S> {
    /// Says that the call which is being answered waits for an event, or for the time `until`
    /// (nanoseconds of CLOCK_MONOTONIC, or [`NEVER`]). Its handler must return this error, and
    /// must not have changed anything that its next attempt does not know of.
    pub(super) fn wait(&mut self, event: Event, until: u64) -> Errno {
        let thread = self.current;
        if self.is_due(thread) {
            return Errno::RESTART;
        }
        self.threads[thread].attempt.state = State::Waiting;
        self.waits.queue.push(Waiter { thread, event, until });
        self.set_timer(until);
        Errno::WAIT
    }

    /// Has all threads that wait for this event try again.
    pub(super) fn wake(&mut self, event: Event) {
        self.wake_some(usize::MAX, State::Again, |of| of == event);
    }

    /// Answers the calls of up to `most` threads that wait for such events; how many there were.
    pub(super) fn answer_some(
        &mut self,
        most: usize,
        result: Result,
        which: impl Fn(Event) -> bool,
    ) -> usize {
        self.wake_some(most, State::Answered(result), which)
    }

    fn wake_some(&mut self, most: usize, to: State, which: impl Fn(Event) -> bool) -> usize {
        let mut count = 0;
        let Self { waits, threads, system, .. } = self;
        waits.queue.retain(|waiter| {
            let wakes = count < most && which(waiter.event);
            if wakes {
                count += 1;
                threads[waiter.thread].attempt.state = to;
                system.wake(waiter.thread);
            }
            !wakes
        });
        count
    }

    /// Wakes a thread that waits, for a signal, which its call returns or is interrupted by.
    pub(super) fn wake_for_signal(&mut self, thread: usize, interrupts: bool) {
        self.waits.queue.retain(|waiter| waiter.thread != thread);
        let state = if interrupts { State::Interrupted } else { State::Again };
        self.threads[thread].attempt.state = state;
        self.system.wake(thread);
    }

    /// Changes what up to `most` threads wait for, without waking them; how many there were.
    pub(super) fn divert(&mut self, most: usize, change: impl Fn(Event) -> Option<Event>) -> usize {
        let mut count = 0;
        for waiter in &mut self.waits.queue {
            if let Some(event) = change(waiter.event).filter(|_| count < most) {
                waiter.event = event;
                count += 1;
            }
        }
        count
    }

    /// Has all threads try again whose time has come, and sets the timer for the next.
    pub fn time_passed(&mut self) {
        self.ring();
        let now = self.monotonic();
        let Self { waits, threads, system, .. } = self;
        waits.queue.retain(|waiter| {
            let over = waiter.until <= now;
            if over {
                threads[waiter.thread].attempt.state = State::Again;
                system.wake(waiter.thread);
            }
            !over
        });
        waits.timer = waits.timer.filter(|&at| at > now);
        let next = waits.queue.iter().map(|waiter| waiter.until).min();
        self.set_timer(next.unwrap_or(NEVER).min(self.alarms.next()));
    }

    /// Sees to it that the timer comes by this time.
    pub(super) fn set_timer(&mut self, until: u64) {
        if until != NEVER && self.waits.timer.is_none_or(|at| until < at) {
            self.waits.timer = Some(until);
            let ticks = self.ticks_at(until);
            self.system.set_timer(ticks);
        }
    }

    /// When the call that is being answered gives up: what its first attempt found.
    pub(super) fn until(&mut self, find: impl FnOnce(&Self) -> Result) -> Result {
        if let Some(until) = self.threads[self.current].attempt.until {
            return Ok(until);
        }
        let until = find(self)?;
        self.attempt().until = Some(until);
        Ok(until)
    }

    /// As [`Kos::until`], where a call has the address of a timeout, or 0 to wait for ever.
    pub(super) fn until_after(&mut self, timeout: u64) -> Result {
        self.until(|kos| match timeout {
            0 => Ok(NEVER),
            _ => Ok(kos.monotonic().saturating_add(super::time::duration(timeout)?)),
        })
    }

    /// Whether a time has come.
    pub(super) fn is_over(&self, until: u64) -> bool {
        until != NEVER && self.monotonic() >= until
    }

    /// Whether the call that is being answered has waited already.
    pub(super) fn is_again(&mut self) -> bool {
        self.attempt().state == State::Again
    }

    /// The call that is being answered.
    pub(super) fn attempt(&mut self) -> &mut Attempt {
        &mut self.threads[self.current].attempt
    }

    /// What is to be done for the current thread: its call's answer is there, it is to be
    /// answered (again), or none of that.
    pub(super) fn due(&mut self) -> Due {
        if self.attempt().state == State::Waiting {
            // Where nobody else sees to the timer, this is how it is noticed.
            self.time_passed();
        }
        match self.attempt().state {
            State::New | State::Again => Due::Call,
            State::Answered(result) => Due::Answered(result),
            State::Interrupted => Due::Answered(Err(Errno::RESTART)),
            State::Waiting => Due::Nothing,
        }
    }

    /// Memory for one more thread that may wait.
    pub(super) fn make_room_to_wait(&mut self) {
        self.waits.queue.reserve(self.threads.len() + 1);
    }
}

/// What [`Kos::due`] says.
pub(super) enum Due {
    /// The call is to be answered.
    Call,
    /// It was.
    Answered(Result),
    /// It still waits.
    Nothing,
}
