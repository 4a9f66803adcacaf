//! Threads: their beginning, their end, and what the scheduler is asked about them.

use super::signals::Own;
use super::wait::{Attempt, Waits};
use super::{Kos, PID, RESERVE};
use crate::errno::{Errno, Result};
use crate::number::CLONE;
use crate::system::{Spawn, System};
use crate::user;
use core::sync::atomic::Ordering;

/// A thread of the program.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    /// Its number; 0 where there is no thread at this place any more.
    pub tid: u32,
    /// The call that it is in.
    pub attempt: Attempt,
    /// Address of a word that is cleared when it ends, or 0.
    clear_tid: u64,
    /// Address of its list of locks that others learn of when it ends, or 0.
    robust: u64,
    /// PR_SET_NAME's.
    pub name: [u8; 16],
    /// Its signals.
    pub signals: Own,
}

impl Thread {
    /// The first one.
    pub fn first() -> Self {
        Self { tid: PID as u32, name: *b"kos\0\0\0\0\0\0\0\0\0\0\0\0\0", ..Self::default() }
    }

    /// Names it, as far as there is room.
    pub fn set_name(&mut self, name: &[u8]) {
        let length = name.len().min(self.name.len() - 1);
        self.name = [0; 16];
        self.name[..length].copy_from_slice(&name[..length]);
    }
}

/// Flags of `clone`.
mod flag {
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const THREAD: u64 = 0x1_0000;
    pub const SETTLS: u64 = 0x8_0000;
    pub const PARENT_SETTID: u64 = 0x10_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const CHILD_SETTID: u64 = 0x100_0000;
}

/// Bytes of `struct robust_list_head`: the first entry, the words' offset in entries, and the
/// entry that is being locked or unlocked.
const ROBUST_SIZE: u64 = 24;
/// Most entries that are looked at, as in Linux.
const ROBUST_MAX: usize = 2048;
/// Bits of such a word: somebody waits; its owner is gone; who that is.
const FUTEX_WAITERS: u32 = 1 << 31;
const FUTEX_OWNER_DIED: u32 = 1 << 30;
const FUTEX_TID: u32 = (1 << 30) - 1;

impl<S: System> Kos<'_, S> {
    /// `clone`, of a thread: all that the threads of the C libraries share is shared.
    pub(super) fn clone(
        &mut self,
        flags: u64,
        stack: u64,
        [parent, tls, child]: [u64; 3],
    ) -> Result {
        const SHARED: u64 = flag::VM | flag::FS | flag::FILES | flag::SIGHAND | flag::THREAD;
        if flags & SHARED != SHARED {
            return Err(self.missing(CLONE));
        }
        if stack == 0 {
            return Err(Errno::INVAL);
        }
        let most = self.info.threads as usize;
        if most > 0 && self.alive >= most {
            return Err(Errno::AGAIN);
        }
        let count = self.threads.len() + 1;
        let room = 4 * count * size_of::<Thread>() + Waits::cost(count);
        self.system.reserve(RESERVE + room).map_err(|_| Errno::AGAIN)?;
        self.make_room_to_wait();
        let place = match self.threads.iter().position(|thread| thread.tid == 0) {
            Some(place) => place,
            None => {
                self.threads.push(Thread::default());
                self.threads.len() - 1
            }
        };
        let tid = self.next_tid;
        for (flag, into) in [(flag::PARENT_SETTID, parent), (flag::CHILD_SETTID, child)] {
            if flags & flag != 0 {
                user::atomic(into)?.store(tid, Ordering::SeqCst);
            }
        }
        let clear_tid = if flags & flag::CHILD_CLEARTID != 0 { child } else { 0 };
        let Thread { name, signals, .. } = *self.thread();
        let signals = signals.inherited();
        self.threads[place] = Thread { tid, clear_tid, name, signals, ..Thread::default() };
        // It may run from here on.
        let tls = (flags & flag::SETTLS != 0).then_some(tls);
        if self.system.spawn(Spawn { place, tid, stack, tls }).is_err() {
            self.threads[place].tid = 0;
            return Err(Errno::AGAIN);
        }
        // Numbers come again only after very many others.
        self.next_tid = if tid == TID_MAX { PID as u32 + 1 } else { tid + 1 };
        self.alive += 1;
        Ok(tid.into())
    }

    /// `exit`, of a thread: the last one ends the process, whose status is the first thread's.
    pub(super) fn exit(&mut self, status: u64) -> Result {
        if self.current == 0 {
            self.status = status as u8;
        }
        if self.alive == 1 {
            self.system.exit(self.status);
        }
        self.let_go_of_locks();
        let clear_tid = self.thread().clear_tid;
        if let (true, Ok(word)) = (clear_tid != 0, user::atomic(clear_tid)) {
            word.store(0, Ordering::SeqCst);
            self.wake_futex(clear_tid, 1, u32::MAX);
        }
        self.leave_signals();
        self.alive -= 1;
        let place = self.current;
        self.threads[place] = Thread::default();
        self.system.retire(place);
        Err(Errno::END)
    }

    /// Tells others of the locks that the thread has not unlocked.
    fn let_go_of_locks(&mut self) {
        let head = self.thread().robust;
        let Ok([mut entry, offset, pending]) = user::words(head) else { return };
        // The lowest bit tells the kind of lock, and makes no difference here.
        let pending = pending & !1;
        for _ in 0..ROBUST_MAX {
            entry &= !1;
            if entry == head {
                break;
            }
            // What comes next is read first: the lock may be gone when it is let go of.
            let Ok([next]) = user::words(entry) else { break };
            if entry != pending {
                self.let_go_of(entry.wrapping_add(offset));
            }
            entry = next;
        }
        if pending != 0 {
            self.let_go_of(pending.wrapping_add(offset));
        }
    }

    fn let_go_of(&mut self, word: u64) {
        let tid = self.thread().tid;
        let Ok(lock) = user::atomic(word) else { return };
        let (order, gone) = (Ordering::SeqCst, |was: u32| was & FUTEX_WAITERS | FUTEX_OWNER_DIED);
        let owned = |was: u32| (was & FUTEX_TID == tid).then_some(gone(was));
        if lock.fetch_update(order, order, owned).is_ok_and(|was| was & FUTEX_WAITERS != 0) {
            self.wake_futex(word, 1, u32::MAX);
        }
    }

    pub(super) fn set_tid_address(&mut self, address: u64) -> Result {
        self.thread().clear_tid = address;
        self.gettid()
    }

    pub(super) fn gettid(&mut self) -> Result {
        Ok(self.thread().tid.into())
    }

    pub(super) fn set_robust_list(&mut self, head: u64, size: u64) -> Result {
        if size != ROBUST_SIZE {
            return Err(Errno::INVAL);
        }
        self.thread().robust = head;
        Ok(0)
    }

    pub(super) fn get_robust_list(&mut self, tid: u64, head: u64, size: u64) -> Result {
        let robust = self.threads[self.place_of(tid)?].robust;
        user::set_words(head, &[robust])?;
        user::set_words(size, &[ROBUST_SIZE])?;
        Ok(0)
    }

    /// The current thread.
    pub(super) fn thread(&mut self) -> &mut Thread {
        &mut self.threads[self.current]
    }

    /// Where a thread is; 0 means the current one.
    pub(super) fn place_of(&self, tid: u64) -> Result<usize> {
        match tid as u32 {
            0 => Ok(self.current),
            tid => self.threads.iter().position(|thread| thread.tid == tid).ok_or(Errno::SRCH),
        }
    }

    /// One processor.
    pub(super) fn sched_getaffinity(&self, tid: u64, size: u64, into: u64) -> Result {
        self.place_of(tid)?;
        if size < 8 || size % 8 != 0 {
            return Err(Errno::INVAL);
        }
        user::set_words(into, &[1])?;
        Ok(8)
    }

    pub(super) fn sched_setaffinity(&self, tid: u64, size: u64, from: u64) -> Result {
        self.place_of(tid)?;
        let first = user::bytes(from, size)?.first().copied();
        if first.is_some_and(|byte| byte & 1 != 0) { Ok(0) } else { Err(Errno::INVAL) }
    }

    /// All threads share the time of the container's priority: SCHED_OTHER.
    pub(super) fn sched_setscheduler(&self, tid: u64, policy: u64, from: u64) -> Result {
        // SCHED_RESET_ON_FORK
        let policy = policy & !0x4000_0000;
        self.place_of(tid)?;
        match (policy, user::atomic(from)?.load(Ordering::SeqCst)) {
            // OTHER, BATCH, IDLE
            (0 | 3 | 5, 0) => Ok(0),
            // FIFO, RR
            (1 | 2, 1..=99) => Err(Errno::PERM),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn sched_getscheduler(&self, tid: u64) -> Result {
        self.place_of(tid).map(|_| 0)
    }

    pub(super) fn sched_getparam(&self, tid: u64, into: u64) -> Result {
        self.place_of(tid)?;
        user::atomic(into)?.store(0, Ordering::SeqCst);
        Ok(0)
    }

    pub(super) fn getcpu(processor: u64, node: u64) -> Result {
        for into in [processor, node].into_iter().filter(|into| *into != 0) {
            user::atomic(into)?.store(0, Ordering::SeqCst);
        }
        Ok(0)
    }

    /// The priorities that a policy knows: `first` of FIFO and RR, 0 of the others.
    pub(super) fn sched_priority(policy: u64, first: u64) -> Result {
        match policy {
            0 | 3 | 5 => Ok(0),
            1 | 2 => Ok(first),
            _ => Err(Errno::INVAL),
        }
    }
}

/// Highest number of a thread, as in Linux.
const TID_MAX: u32 = 1 << 22;
