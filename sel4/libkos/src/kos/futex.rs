//! `futex`: waiting for a word to change. Words are told apart by their addresses, as all
//! threads have one address space.

use super::Kos;
use super::time::{self, NEVER};
use super::wait::Event;
use crate::errno::{Errno, Result};
use crate::number::FUTEX;
use crate::system::System;
use crate::user;

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
/// The operation without its flags.
const COMMAND: u64 = 0x7f;
/// The time is CLOCK_REALTIME's.
const REALTIME: u64 = 0x100;
const ALL: u32 = u32::MAX;

impl<S: System> Kos<'_, S> {
    pub(super) fn futex(&mut self, [a, b, c, d, e, f]: [u64; 6]) -> Result {
        let (word, command, value) = (futex_word(a)?, b & COMMAND, c as u32);
        // How many: negative means one, as it always did.
        let most = |number: u64| (number as i32).max(1) as usize;
        match command {
            WAIT | WAIT_BITSET => {
                let bits = if command == WAIT { ALL } else { f as u32 };
                if bits == 0 {
                    return Err(Errno::INVAL);
                }
                let until = self.until(|kos| match (d, command) {
                    (0, _) => Ok(NEVER),
                    (_, WAIT) => Ok(kos.monotonic().saturating_add(time::duration(d)?)),
                    // A time of the clock itself.
                    _ => kos.monotonic_at(u64::from(b & REALTIME == 0), time::duration(d)?),
                })?;
                if self.is_again() && self.is_over(until) {
                    return Err(Errno::TIMEDOUT);
                }
                if user::atomic(word)?.load(core::sync::atomic::Ordering::SeqCst) != value {
                    return Err(Errno::AGAIN);
                }
                Err(self.wait(Event::Futex { word, bits }, until))
            }
            WAKE => Ok(self.wake_futex(word, most(c), ALL)),
            WAKE_BITSET if f as u32 == 0 => Err(Errno::INVAL),
            WAKE_BITSET => Ok(self.wake_futex(word, most(c), f as u32)),
            REQUEUE | CMP_REQUEUE => {
                let to = futex_word(e)?;
                if (c as i32) < 0 || (d as i32) < 0 {
                    return Err(Errno::INVAL);
                }
                let now = user::atomic(word)?.load(core::sync::atomic::Ordering::SeqCst);
                if command == CMP_REQUEUE && now != f as u32 {
                    return Err(Errno::AGAIN);
                }
                let woken = self.wake_futex(word, value as usize, ALL);
                let moved = self.divert(d as u32 as usize, |event| match event {
                    Event::Futex { word: of, bits } if of == word => {
                        Some(Event::Futex { word: to, bits })
                    }
                    _ => None,
                });
                Ok(if command == REQUEUE { woken } else { woken + moved as u64 })
            }
            WAKE_OP => {
                let other = futex_word(e)?;
                let was = modify(other, f as u32)?;
                let woken = self.wake_futex(word, most(c), ALL);
                let more = if holds(was, f as u32)? { most(d) } else { 0 };
                Ok(woken + self.wake_futex(other, more, ALL))
            }
            // The C libraries do without priority inheritance.
            _ => Err(self.missing(FUTEX)),
        }
    }

    /// Wakes up to `most` threads that wait for a word; how many there were.
    pub(super) fn wake_futex(&mut self, word: u64, most: usize, wanted: u32) -> u64 {
        let woken = self.answer_some(most, Ok(0), |event| match event {
            Event::Futex { word: of, bits } => of == word && bits & wanted != 0,
            _ => false,
        });
        woken as u64
    }
}

fn futex_word(address: u64) -> Result {
    if address % 4 == 0 { Ok(address) } else { Err(Errno::INVAL) }
}

/// Does to a word what FUTEX_WAKE_OP's last argument says; what it was.
fn modify(word: u64, code: u32) -> Result<u32> {
    let (operation, argument) = (code >> 28, sign_extended(code >> 12));
    let shifted = 1u32.wrapping_shl(argument & 31);
    let argument = if operation & 8 != 0 { shifted } else { argument };
    let change: fn(u32, u32) -> u32 = match operation & 7 {
        0 => |_, by| by,
        1 => u32::wrapping_add,
        2 => |was, by| was | by,
        3 => |was, by| was & !by,
        4 => |was, by| was ^ by,
        _ => return Err(Errno::NOSYS),
    };
    let word = user::atomic(word)?;
    let order = core::sync::atomic::Ordering::SeqCst;
    // The closure never refuses.
    Ok(word.fetch_update(order, order, |was| Some(change(was, argument))).unwrap_or_default())
}

/// Whether what a word was compares as FUTEX_WAKE_OP's last argument says.
fn holds(was: u32, code: u32) -> Result<bool> {
    let (was, with) = (was as i32, sign_extended(code) as i32);
    Ok(match code >> 24 & 15 {
        0 => was == with,
        1 => was != with,
        2 => was < with,
        3 => was <= with,
        4 => was > with,
        5 => was >= with,
        _ => return Err(Errno::NOSYS),
    })
}

/// The lowest twelve bits, as a signed number.
fn sign_extended(code: u32) -> u32 {
    ((code << 20) as i32 >> 20) as u32
}
