//! Locks of whole files (`flock`), which belong to open files.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Open};
use crate::system::System;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;

/// Locks that are held.
#[derive(Default)]
pub(super) struct Locks(Vec<Lock>);

struct Lock {
    /// Device and inode of the file.
    file: (u32, u64),
    holder: Weak<Open>,
    exclusive: bool,
}

impl<S: System> Kos<'_, S> {
    pub(super) fn flock(&mut self, fd: u64, operation: u64) -> Result {
        const SHARED: u64 = 1;
        const EXCLUSIVE: u64 = 2;
        const NONBLOCKING: u64 = 4;
        const UNLOCK: u64 = 8;
        let open = self.files.get(fd)?.clone();
        if matches!(open.object, Object::Path(_)) {
            return Err(Errno::BADF);
        }
        let exclusive = match operation & !NONBLOCKING {
            SHARED => Some(false),
            EXCLUSIVE => Some(true),
            UNLOCK => None,
            _ => return Err(Errno::INVAL),
        };
        self.system.reserve(RESERVE + 4 * size_of::<Lock>() * (self.locks.0.len() + 4))?;
        let stat = self.stat_of(&open);
        let file = (stat.device, stat.ino);
        let locks = &mut self.locks.0;
        let is_own = |lock: &Lock| core::ptr::eq(lock.holder.as_ptr(), Rc::as_ptr(&open));
        // A lock goes with the last descriptor of its open file.
        locks.retain(|lock| lock.holder.strong_count() > 0);
        let Some(exclusive) = exclusive else {
            locks.retain(|lock| !is_own(lock));
            self.changed();
            return Ok(0);
        };
        let others = locks.iter().filter(|lock| lock.file == file && !is_own(lock));
        let conflict = others.clone().any(|lock| lock.exclusive || exclusive);
        // Whoever changes a lock gives up the one that he has, even where he then has to wait.
        locks.retain(|lock| !is_own(lock));
        if conflict {
            let waits = operation & NONBLOCKING == 0;
            return Err(if waits { self.block(None) } else { Errno::AGAIN });
        }
        locks.push(Lock { file, holder: Rc::downgrade(&open), exclusive });
        self.changed();
        Ok(0)
    }
}
