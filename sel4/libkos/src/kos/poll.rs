//! Waiting for descriptors.

use super::Kos;
use super::wait::{Event, NEVER};
use crate::errno::{Errno, Result};
use crate::fd::{FD_MAX, Object, Open, flag};
use crate::stream::{Epoll, Ready, poll};
use crate::system::{STDIN, System};
use crate::user;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Most lists that wait for one another.
const NESTED_MAX: u32 = 5;
const EPOLL_CLOEXEC: u64 = flag::CLOEXEC as u64;

impl<S: System> Kos<'_, S> {
    /// Has the call that is being answered wait until something changes, or until a time.
    pub(super) fn block(&mut self, at: Option<u64>) -> Errno {
        self.wait(Event::Files, at.unwrap_or(NEVER))
    }

    /// Has everybody look again who waits for descriptors.
    pub(super) fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
        self.wake(Event::Files);
    }

    /// What can be done with an open file.
    pub(super) fn ready(&self, open: &Open) -> Ready {
        self.ready_within(open, NESTED_MAX)
    }

    fn ready_within(&self, open: &Open, depth: u32) -> Ready {
        match &open.object {
            Object::Pipe(end) => end.ready(),
            Object::Socket(socket) => socket.ready(),
            Object::Counter(counter) => counter.ready(),
            Object::Timer(timer) => timer.ready(self.now(1).unwrap_or(0)),
            Object::Epoll(epoll) if depth > 0 => {
                let (any, at) = epoll.ready(&|open| self.ready_within(open, depth - 1));
                // Whether something changed is not known of what is further below.
                let input = if any { self.changes } else { 0 };
                Ready { events: if any { poll::READ } else { 0 }, input, output: 0, at }
            }
            // Nobody knows whether there is some: who reads waits.
            Object::Console(STDIN) => Ready::always(poll::READ),
            Object::Console(_) => Ready::always(poll::WRITE),
            Object::Epoll(_) | Object::Path(_) => Ready::default(),
            _ => Ready::always(poll::READ | poll::WRITE),
        }
    }

    pub(super) fn ppoll(&mut self, list: u64, count: u64, timeout: u64) -> Result {
        let until = self.until_after(timeout)?;
        if count > FD_MAX as u64 {
            return Err(Errno::INVAL);
        }
        let entries = user::bytes_mut(list, 8 * count)?;
        let mut found = 0;
        let mut next = until;
        for entry in entries.chunks_exact_mut(8) {
            let fd = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let asked = u32::from(u16::from_le_bytes([entry[4], entry[5]]));
            let events = match self.files.get(fd as u64) {
                _ if fd < 0 => 0,
                Err(_) => poll::NVAL,
                Ok(open) => {
                    let now = self.ready(open);
                    next = next.min(now.at.unwrap_or(u64::MAX));
                    now.events & (asked | poll::ERR | poll::HUP)
                }
            };
            entry[6..8].copy_from_slice(&(events as u16).to_le_bytes());
            found += u64::from(events != 0);
        }
        if found == 0 && !self.is_over(until) { Err(self.block(Some(next))) } else { Ok(found) }
    }

    /// `pselect6`, whose last argument is the address of a set of signals and its size.
    pub(super) fn pselect6(&mut self, fds: u64, sets: [u64; 3], timeout: u64, mask: u64) -> Result {
        let [mask, size] = if mask == 0 { [0; 2] } else { user::words(mask)? };
        self.with_mask(mask, size, |kos| kos.pselect(fds, sets, timeout))
    }

    fn pselect(&mut self, fds: u64, sets: [u64; 3], timeout: u64) -> Result {
        const WANTED: [u32; 3] =
            [poll::IN | poll::HUP | poll::ERR, poll::OUT | poll::ERR, poll::PRI];
        let fds = u64::from(fds as u32).min(FD_MAX as u64);
        let until = self.until_after(timeout)?;
        let mut next = until;
        // The sets are changed only when the answer is there.
        let mut answers = [[0u64; FD_MAX / 64]; 3];
        let mut found = 0;
        for fd in 0..fds {
            let (word, bit) = ((fd / 64) as usize, 1 << (fd % 64));
            for (index, &set) in sets.iter().enumerate().filter(|(_, set)| **set != 0) {
                let [asked] = user::words(set + 8 * word as u64)?;
                if asked & bit == 0 {
                    continue;
                }
                let now = self.ready(self.files.get(fd)?);
                next = next.min(now.at.unwrap_or(u64::MAX));
                if now.events & WANTED[index] != 0 {
                    answers[index][word] |= bit;
                    found += 1;
                }
            }
        }
        if found == 0 && !self.is_over(until) {
            return Err(self.block(Some(next)));
        }
        for (set, answer) in sets.into_iter().zip(&answers).filter(|(set, _)| *set != 0) {
            user::set_words(set, &answer[..fds.div_ceil(64) as usize])?;
        }
        Ok(found)
    }

    pub(super) fn epoll_create(&mut self, flags: u64) -> Result {
        if flags & !EPOLL_CLOEXEC != 0 {
            return Err(Errno::INVAL);
        }
        self.open_object(Object::Epoll(Epoll::default()), flag::RDWR | flags as u32)
    }

    pub(super) fn epoll_ctl(&mut self, list: u64, what: u64, fd: u64, event: u64) -> Result {
        const ADD: u64 = 1;
        const DEL: u64 = 2;
        const MOD: u64 = 3;
        let list = self.files.get(list)?.clone();
        let open = self.files.get(fd)?.clone();
        if matches!(
            open.object,
            Object::File(_) | Object::Regular(_) | Object::Directory(_) | Object::Path(_)
        ) {
            return Err(Errno::PERM);
        }
        let Object::Epoll(epoll) = &list.object else { return Err(Errno::INVAL) };
        if Rc::ptr_eq(&list, &open) {
            return Err(Errno::INVAL);
        }
        let wanted = || {
            let [word, data] = [user::bytes(event, 4)?, user::bytes(event + 8, 8)?];
            let number = |bytes: &[u8]| {
                bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
            };
            Ok((number(word) as u32, number(data)))
        };
        self.system.reserve(epoll.cost())?;
        let fd = fd as u32;
        match what {
            ADD => {
                if matches!(open.object, Object::Epoll(_)) && !self.may_nest(&list, &open, 1) {
                    return Err(Errno::LOOP);
                }
                let (events, data) = wanted()?;
                epoll.add(fd, &open, events, data)?;
            }
            DEL => epoll.remove(fd, &open)?,
            MOD => {
                let (events, data) = wanted()?;
                epoll.change(fd, &open, events, data)?;
            }
            _ => return Err(Errno::INVAL),
        }
        self.changed();
        Ok(0)
    }

    /// Whether a list may wait for another: not in a circle, and not too deep.
    fn may_nest(&self, list: &Rc<Open>, open: &Rc<Open>, depth: u32) -> bool {
        if Rc::ptr_eq(list, open) || depth > NESTED_MAX {
            return false;
        }
        let Object::Epoll(epoll) = &open.object else { return true };
        let mut may = true;
        epoll.each(|inner| may &= self.may_nest(list, inner, depth + 1));
        may
    }

    /// `epoll_pwait`, whose timeout is in milliseconds, or -1.
    pub(super) fn epoll_pwait(&mut self, list: u64, into: u64, most: u64, timeout: u64) -> Result {
        let until = self.until(|kos| match timeout as i32 {
            ..0 => Ok(NEVER),
            ms => Ok(kos.now(1)?.saturating_add(u64::from(ms.unsigned_abs()) * 1_000_000)),
        })?;
        self.epoll_wait(list, into, most, until)
    }

    /// `epoll_pwait2`, whose timeout is a time.
    pub(super) fn epoll_pwait2(&mut self, list: u64, into: u64, most: u64, timeout: u64) -> Result {
        let until = self.until_after(timeout)?;
        self.epoll_wait(list, into, most, until)
    }

    fn epoll_wait(&mut self, list: u64, into: u64, most: u64, until: u64) -> Result {
        const EVENT: u64 = 16;
        let open = self.files.get(list)?.clone();
        let Object::Epoll(epoll) = &open.object else { return Err(Errno::INVAL) };
        let most = most as i32;
        if most <= 0 || u64::from(most.unsigned_abs()) > i32::MAX as u64 / EVENT {
            return Err(Errno::INVAL);
        }
        self.system.reserve(epoll.cost())?;
        let most = (most as usize).min(FD_MAX);
        let mut told: Vec<[u64; 2]> = Vec::new();
        let ready = |open: &Rc<Open>| self.ready(open);
        let (count, at) =
            epoll.collect(most, &ready, |events, data| told.push([events.into(), data]));
        if count == 0 && !self.is_over(until) {
            return Err(self.block(Some(until.min(at.unwrap_or(u64::MAX)))));
        }
        for (index, event) in told.iter().enumerate() {
            user::set_words(into + EVENT * index as u64, event)?;
        }
        Ok(count as u64)
    }
}
