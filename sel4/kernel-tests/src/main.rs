//! Tests of the kernel: a root task that the loader starts instead of the root server. It runs
//! one test after another and says on the console, as the output of container 1,
//!
//! ```text
//! plan NAME              for each test, before the first one
//! run NAME               before a test
//! ok NAME                or
//! failed NAME: SENTENCE  after it
//! ```
//!
//! and ends with an end event whose status is the number of tests that failed. The crate
//! `koskit-tests` boots it with the debug and the release kernel, and checks what it says.
//!
//! A test gets a [`lab::Lab`], in which it makes threads ([`thread`]) and guests ([`guest`]). Those
//! run programs of a few instructions ([`program`]), and a test looks at the faults by which they
//! stop. Everything that it makes is of one untyped, which is revoked after each test: so
//! every test shows that the kernel can forget what the one before did. A thread that hangs does
//! not stop the others: all waiting is bounded by the physical timer, and the tests' own
//! priority is the highest.
#![no_std]
#![no_main]
#![allow(clippy::result_large_err, reason = "there is no heap, and a failure is made once a test")]

mod console;
mod failure;
mod guest;
mod lab;
mod program;
mod tests;
mod thread;

use core::arch::global_asm;
use core::panic::PanicInfo;
use lab::Lab;

global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "adrp x1, {stack}",
    "add x1, x1, :lo12:{stack}",
    "mov x2, #{size}",
    "add sp, x1, x2",
    "bl {main}",
    ".popsection",
    stack = sym STACK,
    size = const STACK_SIZE,
    main = sym main,
);

const STACK_SIZE: usize = 64 << 10;

#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "only its address is used")] [u8; STACK_SIZE]);

static mut STACK: Stack = Stack([0; STACK_SIZE]);

extern "C" fn main(info: u64) -> ! {
    // SAFETY: this is the first thread, on its way in; the kernel passes the address.
    let mut lab = unsafe { Lab::open(info) };
    for (name, _) in tests::ALL {
        console::say(format_args!("plan {name}"));
    }
    let mut failed = 0;
    for (name, test) in tests::ALL {
        console::say(format_args!("run {name}"));
        let result = test(&mut lab);
        match result.and_then(|()| lab.clean()) {
            Ok(()) => console::say(format_args!("ok {name}")),
            Err(failure) => {
                failed += 1;
                console::say(format_args!("failed {name}: {failure}"));
                // What went wrong may have left something behind; the next test shall not
                // suffer from it.
                let _ = lab.clean();
            }
        }
    }
    console::end(failed);
    halt()
}

/// Waits for ever, for nobody.
fn halt() -> ! {
    loop {
        koskit_abi::ipc::yield_now();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    console::say(format_args!("panic: {info}"));
    console::end(u8::MAX);
    halt()
}
