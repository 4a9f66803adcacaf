//! Where rewritten system calls arrive ([`koskit_spec::gate`] has the program's side), and
//! where threads are entered.
//!
//! Who the caller is, a gate answers from the thread's block, with no register but `x30` and `x0`
//! changed and no lock taken. For all other calls it saves all general registers and the flags in
//! the block, so that a call can see and change them, takes the stack at the end of the block's
//! page and calls `serve`; with the lock that goes on to libkos's own stack. Then everything is
//! loaded again from the block. Vector registers are never touched, as libkos is compiled without
//! them; but a new thread begins with those of its parent.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use koskit_libkos::context::{Context, way};
use koskit_libkos::kos::PID;
use koskit_libkos::number::{GETPID, GETTID};
use koskit_spec::gate;
use koskit_spec::layout::{KOS_STACK_TOP, PAGE};

/// A thread's block, at the beginning of a page of its own; TPIDRRO_EL0 points to it.
#[repr(C)]
pub struct Block {
    lr: u64,
    back: u64,
    entry16: u64,
    entry8: u64,
    reserved: [u64; 4],
    /// The program's registers during a call.
    pub context: Context,
    /// The thread's place in `Kos`.
    pub place: u64,
    /// Slot of its TCB.
    pub tcb: u64,
    /// Slot of the notification by which it is woken.
    pub notification: u64,
    /// What the calls from GETPID to GETTID give.
    identity: [u64; IDENTITY],
    /// v0 to v31, FPSR, FPCR: for a thread that begins.
    vectors: [u64; 66],
}

/// Calls from GETPID to GETTID.
const IDENTITY: usize = (GETTID - GETPID + 1) as usize;

const _: () = {
    // What the gate takes their numbers apart by.
    assert!(IDENTITY == 7);
    assert!(offset_of!(Block, lr) as u64 == gate::LR);
    assert!(offset_of!(Block, back) as u64 == gate::BACK);
    assert!(offset_of!(Block, entry16) as u64 == gate::ENTRY16);
    assert!(offset_of!(Block, entry8) as u64 == gate::ENTRY8);
    assert!(offset_of!(Block, context) as u64 == gate::PRIVATE);
    assert!(offset_of!(Context, sp) == offset_of!(Context, nzcv) + 8);
    assert!(offset_of!(Context, way) == offset_of!(Context, pc) + 8);
    // What is left of the page is stack enough to take the lock and to wait.
    assert!(size_of::<Block>() as u64 <= PAGE / 2);
};

// In all of this, \block is the register that the stub left the block's address in.
global_asm!(
    r#"
    .arch_extension fp
    .arch_extension simd
    .macro x_at store, number, block
    \store x\number, [\block, #{x} + 8 * \number]
    .endm
    .macro pair_at store, first, second, block
    \store x\first, x\second, [\block, #{x} + 8 * \first]
    .endm

    // All but x8, x16 and \block.
    .macro all_at store, store1, block
    pair_at \store, 0, 1, \block
    pair_at \store, 2, 3, \block
    pair_at \store, 4, 5, \block
    pair_at \store, 6, 7, \block
    pair_at \store, 9, 10, \block
    pair_at \store, 11, 12, \block
    pair_at \store, 13, 14, \block
    x_at \store1, 15, \block
    pair_at \store, 17, 18, \block
    pair_at \store, 19, 20, \block
    pair_at \store, 21, 22, \block
    pair_at \store, 23, 24, \block
    pair_at \store, 25, 26, \block
    pair_at \store, 27, 28, \block
    .endm

    .macro vectors_at store
    \store q0, q1, [x0, #0]
    \store q2, q3, [x0, #32]
    \store q4, q5, [x0, #64]
    \store q6, q7, [x0, #96]
    \store q8, q9, [x0, #128]
    \store q10, q11, [x0, #160]
    \store q12, q13, [x0, #192]
    \store q14, q15, [x0, #224]
    \store q16, q17, [x0, #256]
    \store q18, q19, [x0, #288]
    \store q20, q21, [x0, #320]
    \store q22, q23, [x0, #352]
    \store q24, q25, [x0, #384]
    \store q26, q27, [x0, #416]
    \store q28, q29, [x0, #448]
    \store q30, q31, [x0, #480]
    .endm

    // Saves what has not been saved, and serves.
    .macro gate block, way
    all_at stp, str, \block
    x_at str, 29, \block
    mrs x0, nzcv
    mov x1, sp
    stp x0, x1, [\block, #{nzcv}]
    ldp x0, x1, [\block, #{lr}]
    x_at str, 30, \block
    str x0, [\block, #{x} + 8 * 30]
    mov x2, #\way
    stp x1, x2, [\block, #{pc}]
    mov x19, \block
    add x2, \block, #{page}
    mov sp, x2
    mov x0, \block
    bl {serve}
    b koskit_leave
    .endm

    // Loads what was saved, and goes on in the program.
    .macro leave block
    mov \block, x19
    all_at ldp, ldr, \block
    pair_at ldp, 29, 30, \block
    .endm

    .section .text.entry, "ax"
    .global _start
_start:
    mov x29, xzr
    mov x30, xzr
    b {start}

    // First whether the number is one of those from GETPID to GETTID, without the flags, which are
    // the program's.
    .balign 64
    .global koskit_entry16
koskit_entry16:
    sub x30, x8, #{getpid}
    lsr x30, x30, #3
    cbnz x30, 1f
    sub x30, x8, #{getpid} - 1
    tbnz x30, #3, 1f
    add x30, x16, x30, lsl #3
    ldr x0, [x30, #{identity} - 8]
    ldr x30, [x16, #{lr}]
    ldr x16, [x16, #{back}]
    ret x16
1:  x_at str, 8, x16
    gate x16, {x16}

    // The number is in the `mov x8, #N` that the way back begins with.
    .balign 64
koskit_entry8:
    x_at str, 16, x8
    ldr x30, [x8, #{back}]
    ldr w16, [x30]
    ubfx w16, w16, #5, #16
    str x16, [x8, #{x} + 8 * 8]
    gate x8, {x8}

    // A new thread begins; x19 is its block.
koskit_begin:
    add x0, x19, #{vectors}
    vectors_at ldp
    ldr x1, [x0, #16 * 32]
    ldr x2, [x0, #16 * 32 + 8]
    msr fpsr, x1
    msr fpcr, x2

    .balign 64
koskit_leave:
    ldp x1, x2, [x19, #{nzcv}]
    ldr x3, [x19, #{way}]
    msr nzcv, x1
    mov sp, x2
    cbnz x3, 1f
    leave x16
    x_at ldr, 8, x16
    ldr x16, [x16, #{pc}]
    ret x16
1:  leave x8
    x_at ldr, 16, x8
    ldr x8, [x8, #{pc}]
    ret x8

    // Saves the vector registers at x0.
koskit_save_vectors:
    vectors_at stp
    mrs x1, fpsr
    mrs x2, fpcr
    str x1, [x0, #16 * 32]
    str x2, [x0, #16 * 32 + 8]
    ret

    // Calls `answer` on libkos's own stack, with x0 as it is.
koskit_with_stack:
    stp x29, x30, [sp, #-16]!
    mov x29, sp
    ldr x1, ={stack}
    mov sp, x1
    bl {answer}
    mov sp, x29
    ldp x29, x30, [sp], #16
    ret
    "#,
    x = const offset_of!(Block, context) + offset_of!(Context, x),
    nzcv = const offset_of!(Block, context) + offset_of!(Context, nzcv),
    pc = const offset_of!(Block, context) + offset_of!(Context, pc),
    way = const offset_of!(Block, context) + offset_of!(Context, way),
    vectors = const offset_of!(Block, vectors),
    identity = const offset_of!(Block, identity),
    getpid = const GETPID,
    lr = const gate::LR,
    back = const gate::BACK,
    x16 = const way::X16,
    x8 = const way::X8,
    page = const PAGE,
    stack = const KOS_STACK_TOP,
    serve = sym crate::serve,
    answer = sym crate::answer,
    start = sym crate::start,
);

unsafe extern "C" {
    fn koskit_entry16();
    fn koskit_entry8();
    fn koskit_begin();
    fn koskit_save_vectors(into: *mut [u64; 66]);
    fn koskit_with_stack(block: *mut Block) -> u64;
}

impl Block {
    /// Makes the block of a thread, in a page.
    ///
    /// # Safety
    /// The page is mapped writable, and nobody else's.
    pub unsafe fn open(page: u64, tcb: u64, notification: u64) -> *mut Self {
        let block = Self {
            lr: 0,
            back: 0,
            entry16: koskit_entry16 as *const () as u64,
            entry8: koskit_entry8 as *const () as u64,
            reserved: [0; 4],
            context: Context::default(),
            place: 0,
            tcb,
            notification,
            identity: [PID, 0, 0, 0, 0, 0, PID],
            vectors: [0; 66],
        };
        let at = page as *mut Self;
        // SAFETY: as the caller promises.
        unsafe { at.write(block) };
        at
    }

    /// The block of the calling thread.
    pub fn own() -> *mut Self {
        let block: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mrs {}, tpidrro_el0", out(reg) block, options(nomem, nostack)) };
        block as *mut Self
    }

    /// Has a thread begin as a copy of the calling one, but for its number, its stack, and 0 in
    /// `x0`: it is to run from [`beginning`] on.
    pub fn copy_from(&mut self, parent: &Self, tid: u32, stack: u64) {
        self.identity[IDENTITY - 1] = tid.into();
        self.context = Context { sp: stack, ..parent.context };
        self.context.x[0] = 0;
        // SAFETY: saves this thread's own registers there.
        unsafe { koskit_save_vectors(&raw mut self.vectors) };
    }
}

/// Where a new thread begins, with its block in x19.
pub fn beginning() -> u64 {
    koskit_begin as *const () as u64
}

/// Calls `answer` for a block, on libkos's own stack.
///
/// # Safety
/// The calling thread has the lock, and is not on that stack.
pub unsafe fn with_stack(block: *mut Block) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { koskit_with_stack(block) }
}

/// The calling thread's TPIDR_EL0.
pub fn thread_pointer() -> u64 {
    let tls;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) tls, options(nomem, nostack)) };
    tls
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
