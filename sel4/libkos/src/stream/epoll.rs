//! What `epoll_create1` makes: a list of open files that somebody waits for.

use super::Ready;
use crate::errno::{Errno, Result};
use crate::fd::Open;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};

/// Bits of an [`Interest`] besides those of `poll`.
pub mod flag {
    /// It is told once for each change.
    pub const EDGE: u32 = 1 << 31;
    /// It is told once.
    pub const ONESHOT: u32 = 1 << 30;
    /// It keeps the machine awake.
    pub const WAKEUP: u32 = 1 << 29;
    /// One of those who wait is told.
    pub const EXCLUSIVE: u32 = 1 << 28;
}

/// What somebody wants to know of an open file.
pub struct Interest {
    open: Weak<Open>,
    /// Bits of `poll`, and of [`flag`].
    pub events: u32,
    /// What the program is told.
    pub data: u64,
    /// The changes that were told.
    told: Option<(u32, u32)>,
}

/// The list.
#[derive(Default)]
pub struct Epoll {
    /// By descriptor; those whose open file is gone are forgotten when they are found.
    interests: RefCell<BTreeMap<u32, Interest>>,
    /// The descriptor from which on is looked first, so that everybody's turn comes.
    next: Cell<u32>,
}

impl Epoll {
    /// Adds an open file.
    ///
    /// # Errors
    /// EEXIST.
    pub fn add(&self, fd: u32, open: &Rc<Open>, events: u32, data: u64) -> Result<()> {
        let mut interests = self.interests.borrow_mut();
        if interests.get(&fd).is_some_and(|interest| interest.is(open)) {
            return Err(Errno::EXIST);
        }
        interests.insert(fd, Interest { open: Rc::downgrade(open), events, data, told: None });
        Ok(())
    }

    /// Changes what is wanted of an open file.
    ///
    /// # Errors
    /// ENOENT; EINVAL where it is wanted exclusively.
    pub fn change(&self, fd: u32, open: &Rc<Open>, events: u32, data: u64) -> Result<()> {
        let mut interests = self.interests.borrow_mut();
        let found = interests.get_mut(&fd).filter(|interest| interest.is(open));
        let interest = found.ok_or(Errno::NOENT)?;
        if (interest.events | events) & flag::EXCLUSIVE != 0 {
            return Err(Errno::INVAL);
        }
        (interest.events, interest.data, interest.told) = (events, data, None);
        Ok(())
    }

    /// Removes an open file.
    ///
    /// # Errors
    /// ENOENT.
    pub fn remove(&self, fd: u32, open: &Rc<Open>) -> Result<()> {
        let mut interests = self.interests.borrow_mut();
        if !interests.get(&fd).is_some_and(|interest| interest.is(open)) {
            return Err(Errno::NOENT);
        }
        interests.remove(&fd);
        Ok(())
    }

    /// Bytes that one more interest takes, or a call that looks at all.
    pub fn cost(&self) -> usize {
        self.interests.borrow().len() * 128 + 1024
    }

    /// The open files in the list.
    pub fn each(&self, mut act: impl FnMut(&Rc<Open>)) {
        for interest in self.interests.borrow().values() {
            if let Some(open) = interest.open.upgrade() {
                act(&open);
            }
        }
    }

    /// Tells up to `most` files of which something wanted is known: `tell` gets the bits and
    /// the program's word. Returns their number, and when something changes by itself.
    pub fn collect(
        &self,
        most: usize,
        ready: &dyn Fn(&Rc<Open>) -> Ready,
        mut tell: impl FnMut(u32, u64),
    ) -> (usize, Option<u64>) {
        let mut interests = self.interests.borrow_mut();
        interests.retain(|_, interest| interest.open.strong_count() > 0);
        let start = self.next.get();
        let (mut count, mut at) = (0, None::<u64>);
        let (before, behind) = split(&mut interests, start);
        for (&fd, interest) in behind.chain(before) {
            let Some(open) = interest.open.upgrade() else { continue };
            let now = ready(&open);
            if let Some(time) = now.at {
                at = Some(at.map_or(time, |at| at.min(time)));
            }
            let events = interest.news(now);
            if events == 0 {
                continue;
            }
            if count == most {
                self.next.set(fd);
                break;
            }
            tell(events, interest.data);
            interest.told = Some((now.input, now.output));
            if interest.events & flag::ONESHOT != 0 {
                interest.events &= flag::ONESHOT | flag::EDGE;
            }
            count += 1;
        }
        (count, at)
    }

    /// Whether something wanted is known of a file, as seen by who waits for the list itself.
    pub fn ready(&self, ready: &dyn Fn(&Rc<Open>) -> Ready) -> (bool, Option<u64>) {
        let mut any = false;
        let mut at = None::<u64>;
        for interest in self.interests.borrow().values() {
            let Some(open) = interest.open.upgrade() else { continue };
            let now = ready(&open);
            any |= interest.news(now) != 0;
            if let Some(time) = now.at {
                at = Some(at.map_or(time, |at| at.min(time)));
            }
        }
        (any, at)
    }
}

type Interests = BTreeMap<u32, Interest>;

/// All from a descriptor on, and all before it.
fn split(
    interests: &mut Interests,
    start: u32,
) -> (impl Iterator<Item = (&u32, &mut Interest)>, impl Iterator<Item = (&u32, &mut Interest)>) {
    // Two ranges of one map cannot both be borrowed; so one list is made of both.
    let mut before = alloc::vec::Vec::with_capacity(interests.len());
    let mut behind = alloc::vec::Vec::with_capacity(interests.len());
    for entry in interests.iter_mut() {
        if *entry.0 < start { before.push(entry) } else { behind.push(entry) }
    }
    (before.into_iter(), behind.into_iter())
}

impl Interest {
    fn is(&self, open: &Rc<Open>) -> bool {
        core::ptr::eq(self.open.as_ptr(), Rc::as_ptr(open))
    }

    /// The bits to be told, given what can be done now.
    fn news(&self, now: Ready) -> u32 {
        use super::poll;
        let wanted = self.events & !(flag::EDGE | flag::ONESHOT | flag::WAKEUP | flag::EXCLUSIVE);
        if wanted == 0 && self.events & flag::ONESHOT != 0 {
            return 0;
        }
        let events = now.events & (wanted | poll::ERR | poll::HUP);
        let inputs = poll::READ | poll::RDHUP | poll::HUP | poll::ERR | poll::PRI;
        let changed = self.told.is_none_or(|(input, output)| {
            input != now.input && wanted & inputs != 0
                || output != now.output && wanted & (poll::WRITE | poll::ERR) != 0
        });
        if self.events & flag::EDGE != 0 && !changed { 0 } else { events }
    }
}
