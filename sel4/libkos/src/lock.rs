//! The one lock: whoever has it may touch libkos's state, the IPC buffer that all threads share,
//! and the stack that libkos runs on. Threads preempt each other, so it is needed on one processor
//! too. Taking it costs no system call unless somebody has it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use koskit_abi::{Notification, ipc};

/// Nobody has it; somebody has; somebody has, and others may wait.
const FREE: u32 = 0;
const TAKEN: u32 = 1;
const WANTED: u32 = 2;

static WORD: AtomicU32 = AtomicU32::new(FREE);
/// The slot of the notification that they wait for. It is there before there is a second thread.
static NOTIFICATION: AtomicU64 = AtomicU64::new(0);

/// Says by which notification threads wait.
pub fn set_notification(slot: u64) {
    NOTIFICATION.store(slot, Ordering::Relaxed);
}

/// Takes the lock.
pub fn take() {
    if WORD.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        return;
    }
    // A notification that nobody waits for is kept, so that one which comes before the waiting
    // is not lost; who wakes for nothing tries again.
    while WORD.swap(WANTED, Ordering::Acquire) != FREE {
        ipc::wait(notification());
    }
}

/// Gives it back. Of those who wait one wakes, and takes it as WANTED, so that the others are
/// not forgotten.
pub fn give() {
    if WORD.swap(FREE, Ordering::Release) == WANTED {
        ipc::signal(notification());
    }
}

fn notification() -> Notification {
    Notification::at(NOTIFICATION.load(Ordering::Relaxed))
}
