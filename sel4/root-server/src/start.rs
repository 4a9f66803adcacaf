//! The first instructions, and the last ones.

use crate::console::{self, Console};
use crate::serve;
use core::arch::{asm, global_asm};
use core::fmt::Write;
use koskit_abi::{BootInfo, Ipc};
use koskit_wire::Kind;

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
    // last line tells the host so. Another console may be in the middle of a stream, so that
    // this one switches in any case.
    let mut console = Console::after_panic();
    let _ = writeln!(console.stream(0, Kind::Log), "the root server has a mistake: {info}");
    let _ = writeln!(console.stream(0, Kind::Log), "halting...");
    console::wait_forever()
}
