//! The first instructions, and the last ones.

use crate::console::{self, Console};
use crate::serve;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};
use koskit_abi::{BootInfo, Ipc};

/// What this thread begins with.
pub struct Start {
    /// What the kernel says.
    pub info: BootInfo<'static>,
    /// This thread's messages.
    pub ipc: Ipc,
    /// Ticks when the loader got control.
    pub reset: u64,
    /// Ticks when this program did.
    pub ticks: u64,
}

/// A static that is taken once.
pub struct Once<T> {
    value: UnsafeCell<T>,
    taken: AtomicBool,
}

// SAFETY: only whoever took it gets to the value.
unsafe impl<T: Send> Sync for Once<T> {}

impl<T> Once<T> {
    /// Not yet taken.
    pub const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), taken: AtomicBool::new(false) }
    }

    /// The value; `None` where somebody has it already.
    #[expect(clippy::mut_from_ref, reason = "there is one reference only")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        let taken = self.taken.swap(true, Ordering::Relaxed);
        // SAFETY: nobody else has got it, nor will.
        (!taken).then(|| unsafe { &mut *self.value.get() })
    }
}

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    // x0 is the address of the boot information.
    "mrs x1, cntvct_el0",
    "adrp x2, stack_top",
    "add x2, x2, :lo12:stack_top",
    "mov sp, x2",
    "bl {start}",
    start = sym start,
);

extern "C" fn start(info: u64, ticks: u64) -> ! {
    unsafe extern "C" {
        /// The page that the loader adds behind this program; its first word is the time.
        static boot_page: u64;
    }
    // SAFETY: this is the kernel's own answer, in a page that nobody writes to.
    let info = unsafe { BootInfo::at(info) };
    // SAFETY: the kernel says that the IPC buffer is there; this is the only thread and the
    // only `Ipc`.
    let ipc = unsafe { Ipc::new(info.ipc_buffer()) };
    // SAFETY: the loader put this page there and wrote it.
    let reset = unsafe { boot_page };
    serve::run(Start { info, ipc, reset, ticks })
}

/// The counter.
pub fn ticks() -> u64 {
    let ticks: u64;
    // SAFETY: reads a counter. The barrier keeps it from being read too early.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Its ticks in a second.
pub fn ticks_per_second() -> u64 {
    let hz: u64;
    // SAFETY: reads a register that says this.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack)) };
    hz
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // The machine's memory is in a state that nobody understands: nothing goes on, and the
    // last line tells the host so. A frame that was not finished ends where the next begins.
    let mut console = Console::new();
    let mut log = console.log(0);
    let _ = writeln!(log, "the root server has a mistake: {info}\nhalting...");
    drop(log);
    console::wait_forever()
}
