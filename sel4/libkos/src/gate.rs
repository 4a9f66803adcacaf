//! Where rewritten system calls arrive ([`koskit_spec::gate`] has the program's side), and
//! where the program is entered for the first time.
//!
//! A gate saves all general registers and the flags in the thread's block, so that a call can
//! see and change them, takes libkos's own stack and calls `serve`. On the way back only what
//! a function may change is loaded again; `x19` to `x29` come back as the ABI demands. Vector
//! registers are never touched: libkos is compiled without them.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use koskit_spec::gate;
use koskit_spec::layout::{BLOCK_BASE, KOS_STACK_TOP};

/// A thread's block, to which TPIDRRO_EL0 points.
#[repr(C)]
pub struct Block {
    lr: u64,
    back: u64,
    entry16: u64,
    entry8: u64,
    reserved: [u64; 4],
    /// The program's registers during a call.
    pub x: [u64; 31],
    nzcv: u64,
    sp: u64,
    stack: u64,
}

const _: () = {
    assert!(offset_of!(Block, lr) as u64 == gate::LR);
    assert!(offset_of!(Block, back) as u64 == gate::BACK);
    assert!(offset_of!(Block, entry16) as u64 == gate::ENTRY16);
    assert!(offset_of!(Block, entry8) as u64 == gate::ENTRY8);
    assert!(offset_of!(Block, x) as u64 == gate::PRIVATE);
    assert!(offset_of!(Block, sp) == offset_of!(Block, nzcv) + 8);
};

// In all of this, \block is the register that the stub left the block's address in.
global_asm!(
    r#"
    .macro x_at store, number, block
    \store x\number, [\block, #{x} + 8 * \number]
    .endm
    .macro pair_at store, first, second, block
    \store x\first, x\second, [\block, #{x} + 8 * \first]
    .endm

    // Saves what has not been saved, calls `serve` and loads what it may have changed, but
    // for \block, x8 and x16 to x18. x19 keeps the block's address.
    .macro gate block
    pair_at stp, 0, 1, \block
    pair_at stp, 2, 3, \block
    pair_at stp, 4, 5, \block
    pair_at stp, 6, 7, \block
    pair_at stp, 9, 10, \block
    pair_at stp, 11, 12, \block
    pair_at stp, 13, 14, \block
    x_at str, 15, \block
    pair_at stp, 17, 18, \block
    pair_at stp, 19, 20, \block
    pair_at stp, 21, 22, \block
    pair_at stp, 23, 24, \block
    pair_at stp, 25, 26, \block
    pair_at stp, 27, 28, \block
    mrs x0, nzcv
    mov x1, sp
    ldr x2, [\block, #{stack}]
    ldr x3, [\block, #{lr}]
    stp x0, x1, [\block, #{nzcv}]
    x_at str, 29, \block
    str x3, [\block, #{x} + 8 * 30]
    mov sp, x2
    mov x19, \block
    mov x0, \block
    bl {serve}
    mov \block, x19
    ldp x1, x2, [\block, #{nzcv}]
    msr nzcv, x1
    mov sp, x2
    x_at ldr, 1, \block
    pair_at ldp, 2, 3, \block
    pair_at ldp, 4, 5, \block
    pair_at ldp, 6, 7, \block
    pair_at ldp, 9, 10, \block
    pair_at ldp, 11, 12, \block
    pair_at ldp, 13, 14, \block
    x_at ldr, 15, \block
    pair_at ldp, 17, 18, \block
    x_at ldr, 19, \block
    ldr x30, [\block, #{lr}]
    .endm

    .section .text.entry, "ax"
    .global _start
_start:
    mov x29, xzr
    mov x30, xzr
    b {start}

    .balign 64
koskit_entry16:
    x_at str, 8, x16
    gate x16
    x_at ldr, 8, x16
    ldr x16, [x16, #{back}]
    ret x16

    // The number is in the `mov x8, #N` that the way back begins with.
    .balign 64
koskit_entry8:
    x_at str, 16, x8
    ldr x30, [x8, #{back}]
    ldr w16, [x30]
    ubfx w16, w16, #5, #16
    str x16, [x8, #{x} + 8 * 8]
    gate x8
    x_at ldr, 16, x8
    ldr x8, [x8, #{back}]
    ret x8
    "#,
    x = const offset_of!(Block, x),
    nzcv = const offset_of!(Block, nzcv),
    stack = const offset_of!(Block, stack),
    lr = const gate::LR,
    back = const gate::BACK,
    serve = sym crate::serve,
    start = sym crate::start,
);

unsafe extern "C" {
    fn koskit_entry16();
    fn koskit_entry8();
}

/// Opens the gates of the first thread.
pub fn open() {
    let block = Block {
        lr: 0,
        back: 0,
        entry16: koskit_entry16 as *const () as u64,
        entry8: koskit_entry8 as *const () as u64,
        reserved: [0; 4],
        x: [0; 31],
        nzcv: 0,
        sp: 0,
        stack: KOS_STACK_TOP,
    };
    // SAFETY: the root server has mapped a page there for this, which nothing else uses.
    unsafe { (BLOCK_BASE as *mut Block).write(block) }
}

/// Enters the program, with registers as Linux leaves them.
pub fn enter(entry: u64, sp: u64) -> ! {
    // SAFETY: nothing of libkos's stack is used any more; calls come back through the gates,
    // which take it from its top.
    unsafe {
        asm!(
            "mov sp, x1",
            "mov x0, xzr",
            "mov x1, xzr",
            "mov x29, xzr",
            "mov x30, xzr",
            "br x16",
            in("x1") sp,
            in("x16") entry,
            options(noreturn),
        )
    }
}
