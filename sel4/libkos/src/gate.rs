//! Where rewritten system calls arrive ([`koskit_spec::gate`] has the program's side), and
//! where threads are entered.
//!
//! Who the caller is, a gate answers from the thread's block, with no register but `x30` and `x0`
//! changed and no lock taken. For all other calls it saves all general registers and the flags in
//! the block, so that a call can see and change them, takes the stack at the end of the block's
//! page and calls `serve`; with the lock that goes on to libkos's own stack. Then everything is
//! loaded again from the block. Vector registers are never touched, as libkos is compiled without
//! them; but a new thread begins with those of its parent.

use crate::vdso;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use koskit_abi::Registers;
use koskit_libkos::context::{Context, way};
use koskit_libkos::kos::{Cause, PID};
use koskit_libkos::number::{GETPID, GETTID};
use koskit_libkos::user;
use koskit_spec::gate;
use koskit_spec::layout::{KOS_BASE, KOS_END, KOS_STACK_TOP, PAGE};

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
    /// Set where the thread is to see its signals before it goes on in the program.
    attention: AtomicU64,
    /// What it has been led here for.
    pub cause: Cause,
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
1:
    // Without looking at the number: for who is to see his signals soon.
koskit_entry16_slow:
    x_at str, 8, x16
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
    ldr x1, [x19, #{attention}]
    cbnz x1, koskit_attend
    // From here to `koskit_left` all is still in the block, and nothing is looked at any more.
koskit_leaving:
    ldp x1, x2, [x19, #{nzcv}]
    ldr x3, [x19, #{way}]
    msr nzcv, x1
    mov sp, x2
    cbnz x3, 1f
2:  leave x16
    x_at ldr, 8, x16
    ldr x16, [x16, #{pc}]
    ret x16
1:  tbnz x3, #{all_bit}, koskit_resume
    tbz x3, #{x8_bit}, 2b
    leave x8
    x_at ldr, 16, x8
    ldr x8, [x8, #{pc}]
    ret x8
    // No register is left to go by: whoever faults go to sets them all.
koskit_resume:
    brk #{resume}
koskit_left:

    // The thread sees its signals; x19 is its block, in which all is that the program needs.
koskit_attend:
    add x2, x19, #{page}
    mov sp, x2
    mov x0, x19
    bl {attend}
    b koskit_leave

    // It does again what failed, and whoever faults go to lets it end the container.
koskit_refault:
    mov x19, x0
    brk #{resume}

    // Loads them from x0.
koskit_load_vectors:
    vectors_at ldp
    ldr x1, [x0, #16 * 32]
    ldr x2, [x0, #16 * 32 + 8]
    msr fpsr, x1
    msr fpcr, x2
    ret

    // Saves the vector registers at x0.
koskit_save_vectors:
    vectors_at stp
    mrs x1, fpsr
    mrs x2, fpcr
    str x1, [x0, #16 * 32]
    str x2, [x0, #16 * 32 + 8]
    ret

    // Calls `answer` on libkos's own stack, with x0 and x1 as they are.
koskit_with_stack:
    stp x29, x30, [sp, #-16]!
    mov x29, sp
    ldr x9, ={stack}
    mov sp, x9
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
    attention = const offset_of!(Block, attention),
    x8_bit = const way::X8.trailing_zeros(),
    all_bit = const way::ALL.trailing_zeros(),
    resume = const RESUME,
    lr = const gate::LR,
    back = const gate::BACK,
    x16 = const way::X16,
    x8 = const way::X8,
    page = const PAGE,
    stack = const KOS_STACK_TOP,
    serve = sym crate::serve,
    attend = sym crate::attend,
    answer = sym crate::answer,
    start = sym crate::start,
);

unsafe extern "C" {
    fn koskit_entry16();
    fn koskit_entry16_slow();
    fn koskit_entry8();
    fn koskit_begin();
    fn koskit_leaving();
    fn koskit_resume();
    fn koskit_left();
    fn koskit_attend();
    fn koskit_refault(block: *mut Block) -> !;
    fn koskit_save_vectors(into: *mut [u64; 66]);
    fn koskit_load_vectors(from: *const [u64; 66]);
    fn koskit_with_stack(block: *mut Block, why: u64) -> u64;
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
            attention: AtomicU64::new(0),
            cause: Cause::Signal,
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
        self.give_attention();
        self.cause = Cause::Signal;
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
pub unsafe fn with_stack(block: *mut Block, why: u64) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { koskit_with_stack(block, why) }
}

/// Writes the calling thread's vector registers, FPSR and FPCR.
///
/// # Safety
/// There is memory for them that may be written.
pub unsafe fn save_vectors(into: *mut [u64; 66]) {
    // SAFETY: as the caller promises.
    unsafe { koskit_save_vectors(into) }
}

/// Sets them.
///
/// # Safety
/// They can be read there.
pub unsafe fn load_vectors(from: *const [u64; 66]) {
    // SAFETY: as the caller promises; libkos itself uses none of these registers.
    unsafe { koskit_load_vectors(from) }
}

/// Does again what failed, so that the container ends by it. The block has the registers.
pub fn refault(block: *mut Block) -> ! {
    // SAFETY: whoever faults go to takes the thread from there.
    unsafe { koskit_refault(block) }
}

/// Where a thread is that has been stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the program, between two instructions of its own.
    Program,
    /// On the way from the program to libkos.
    Stub,
    /// In libkos, and will look at [`Block::attention`].
    Within,
    /// On the way out, and will not look any more; the block has all.
    Leaving,
    /// Where it waits for all its registers to be set ([`Place::Leaving`], too).
    Resume,
    /// Where it says that it is to fail again.
    Refault,
}

/// Where an address of an instruction is.
pub fn place(pc: u64) -> Place {
    let at = |label: unsafe extern "C" fn()| label as *const () as u64;
    let refault = koskit_refault as *const () as u64;
    if !(KOS_BASE..KOS_END).contains(&pc) || vdso::contains(pc) {
        return if in_stub(pc) { Place::Stub } else { Place::Program };
    }
    match pc {
        _ if pc == at(koskit_resume) => Place::Resume,
        _ if pc == refault + 4 => Place::Refault,
        _ if (at(koskit_leaving)..at(koskit_left)).contains(&pc) => Place::Leaving,
        _ if (at(koskit_entry16)..at(koskit_entry16) + GATES).contains(&pc) => Place::Stub,
        _ => Place::Within,
    }
}

/// Bytes of the gates, in which a call may be answered without `serve`.
const GATES: u64 = 256;

/// Whether an instruction is one of a stub's before libkos has the thread ([`koskit_spec::gate`]).
fn in_stub(pc: u64) -> bool {
    const MRS16: u32 = 0xd53b_d070;
    const MRS8: u32 = 0xd53b_d068;
    const SAVE16: u32 = 0xf900_021e;
    const SAVE8: u32 = 0xf900_011e;
    const BACK16: u32 = 0xf900_061e;
    const BACK8: u32 = 0xf900_051e;
    const LOAD16: u32 = 0xf940_0a1e;
    const LOAD8: u32 = 0xf940_0d1e;
    const BR30: u32 = 0xd61f_03c0;
    let word = |at: u64| {
        let bytes = user::bytes(at, 4).ok()?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let is_call = |word: u32| word >> 26 == 0b10_0101;
    // Of a word that is no stub's, its neighbours are not looked at.
    match word(pc) {
        Some(MRS16 | MRS8 | SAVE16 | SAVE8 | BACK16 | BACK8 | LOAD16 | LOAD8) => true,
        Some(BR30) => matches!(word(pc - 4), Some(LOAD16 | LOAD8)),
        Some(call) if is_call(call) => matches!(word(pc - 4), Some(SAVE16 | SAVE8)),
        // `sub x8, x8, #N`, and `cbnz x8` behind it.
        Some(sub) if sub >> 22 == 0x344 && sub & 0x3ff == 0x108 => word(pc + 8) == Some(MRS8),
        Some(test) if test & 0xff00_001f == 0xb500_0008 => word(pc + 4) == Some(MRS8),
        _ => false,
    }
}

impl Block {
    /// Has the thread see its signals: at the end of its next call at the latest, whichever that is.
    pub fn call_for_attention(&mut self) {
        self.attention.store(1, Ordering::SeqCst);
        self.entry16 = koskit_entry16_slow as *const () as u64;
    }

    /// The thread sees them.
    pub fn give_attention(&mut self) {
        self.attention.store(0, Ordering::SeqCst);
        self.entry16 = koskit_entry16 as *const () as u64;
    }

    /// Has a thread that was stopped in the program go on where it attends to its signals, or to
    /// what it has caused: its registers are kept, and changed.
    pub fn divert(&mut self, registers: &mut Registers, cause: Cause) {
        let Registers { x, sp, pc, spsr, .. } = *registers;
        self.context = Context { x, nzcv: spsr & FLAGS, sp, pc, way: way::ALL };
        self.cause = cause;
        self.lead(registers);
    }

    /// The same where the block has them already.
    pub fn lead(&mut self, registers: &mut Registers) {
        registers.pc = koskit_attend as *const () as u64;
        registers.x[19] = &raw const *self as u64;
    }

    /// Sets all registers to what the block has.
    pub fn restore(&self, registers: &mut Registers) {
        let Context { x, nzcv, sp, pc, .. } = self.context;
        *registers = Registers { x, sp, pc, spsr: nzcv & FLAGS, ..*registers };
    }
}

/// The flags in SPSR; all else there is 0 of a thread of a program.
const FLAGS: u64 = 0xf000_0000;
/// Comment of the `brk` of a thread that has all its registers set.
const RESUME: u16 = 0x6b72;

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
