//! Waiting: what happens to a call that cannot be answered yet. Its handler says so by
//! `return Err(self.wait(event, until))`, and is called again with the same arguments.

use super::Kos;
use crate::errno::{Errno, Result};
use crate::system::System;

/// A time that does not come.
pub(super) const NEVER: u64 = u64::MAX;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Something can be read or written that could not.
    Files,
}

/// What is remembered from one attempt of a call to the next.
#[derive(Default)]
pub(super) struct Attempt {
    until: Option<u64>,
    /// Bytes that were moved.
    pub done: u64,
}

impl<S: System> Kos<'_, S> {
    pub(super) fn wait(&mut self, _: Event, until: u64) -> Errno {
        match until {
            NEVER => self.system.pause(),
            // The clock is there.
            _ => drop(self.sleep(1, until)),
        }
        Errno::WAIT
    }

    pub(super) fn wake(&mut self, _: Event) {}

    pub(super) fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }

    pub(super) fn until(&mut self, find: impl FnOnce(&Self) -> Result) -> Result {
        if let Some(until) = self.attempt.until {
            return Ok(until);
        }
        let until = find(self)?;
        self.attempt.until = Some(until);
        Ok(until)
    }

    pub(super) fn until_after(&mut self, timeout: u64) -> Result {
        self.until(|kos| match timeout {
            0 => Ok(NEVER),
            _ => Ok(kos.now(1)?.saturating_add(super::program::duration(timeout)?)),
        })
    }

    pub(super) fn is_over(&self, until: u64) -> bool {
        until != NEVER && self.now(1).is_ok_and(|now| now >= until)
    }
}
