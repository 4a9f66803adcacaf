//! The timer: the EL1 physical timer, which is for the thread that its interrupt's notification
//! is bound to. It is set to the next time at which a container wants to be woken.

use crate::space::Space;
use core::arch::asm;
use koskit_abi::bootinfo::slot;
use koskit_abi::{Ipc, IrqControl, IrqHandler, Notification, Result, Rights};

/// A time that does not come.
pub const NEVER: u64 = u64::MAX;
/// Set in the badge when the time has come.
pub const BADGE: u64 = 1 << 27;

/// Its interrupt.
const IRQ: u64 = 30;

/// The timer.
pub struct Clock {
    handler: IrqHandler,
}

impl Clock {
    /// Takes the timer: from now on its interrupts come where this thread receives messages.
    /// `notification` is bound to it.
    pub fn new(ipc: &mut Ipc, space: &mut Space, notification: u64) -> Result<Self> {
        let (badged, handler) = (space.slots(1), space.slots(1));
        space.slot(badged).mint_badged(ipc, space.slot(notification), Rights::ALL, BADGE)?;
        IrqControl::at(slot::IRQ_CONTROL).get(ipc, IRQ, space.slot(handler))?;
        let handler = IrqHandler::at(handler);
        handler.set_notification(ipc, Notification::at(badged))?;
        // The right to use it comes with the next switch to this thread.
        koskit_abi::ipc::yield_now();
        Ok(Self { handler })
    }

    /// Lets the interrupt come at a value of the counter.
    pub fn set(&self, ticks: u64) {
        let control = u64::from(ticks != NEVER);
        // SAFETY: the timer is ours. Natives read the same time from both counters.
        unsafe {
            asm!(
                "msr cntp_cval_el0, {}",
                "msr cntp_ctl_el0, {}",
                "isb",
                in(reg) ticks,
                in(reg) control,
                options(nomem, nostack)
            );
        }
    }

    /// Lets the interrupt come again, which it would at once were the timer not stopped.
    pub fn acknowledge(&self, ipc: &mut Ipc) {
        self.set(NEVER);
        // The handler is ours, and stays.
        let _ = self.handler.acknowledge(ipc);
    }
}
