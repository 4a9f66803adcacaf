//! What a handler finds on its stack, and what `rt_sigreturn` goes on from: `struct rt_sigframe`
//! of Linux's `arch/arm64/kernel/signal.c`, byte by byte, as programs read and change it.
//!
//! ```text
//!    0  siginfo_t
//!  128  ucontext_t: flags, link, alternate stack, blocked signals
//!  304  sigcontext: fault address, x0 to x30, sp, pc, pstate
//!  592  records: the vector registers, the syndrome of a fault, the end
//! 4688  x29 and x30 of the interrupted function, to which x29 points
//! ```
//!
//! Where a call was interrupted, the program counter behind its `svc` is told, as that is what
//! programs know of; the way back that lies in the stub is noted behind the records, so that a
//! handler which changed nothing of it needs no help to return.

use super::signals::{Action, Fault, Siginfo, sa, ss};
use crate::context::{Context, way};
use crate::errno::{Errno, Result};
use crate::system::System;
use crate::user;

/// Bytes of `siginfo_t`.
pub(super) const INFO_SIZE: u64 = 128;
const STACK: usize = 144;
const BLOCKED: usize = 168;
const FAULT_ADDRESS: usize = 304;
const X: usize = 312;
const SP: usize = 560;
const PC: usize = 568;
const PSTATE: usize = 576;
const RECORDS: usize = 592;
const VECTORS: usize = RECORDS + 16;
/// Behind the vector registers.
const MORE: usize = VECTORS + 512;
const SIZE: usize = 4688;
/// What is ours: a word to know it by, where the call was presented, its way back, and how.
const NOTE: usize = SIZE - 32;
const NOTE_MAGIC: u64 = 0x6b6f_736b_6974_0001;

const FPSIMD_MAGIC: u64 = 0x4650_8001;
const FPSIMD_SIZE: u64 = 528;
const ESR_MAGIC: u64 = 0x4553_5201;
const ESR_SIZE: u64 = 16;
const FLAGS: u64 = 0xf000_0000;

/// What a handler is entered with.
pub(super) struct Entry<'a> {
    pub signal: u64,
    pub info: &'a Siginfo,
    pub action: &'a Action,
    /// What is blocked again when it returns.
    pub blocked: u64,
    /// The thread's alternate stack.
    pub stack: [u64; 3],
    pub fault: Option<&'a Fault>,
    /// Where it returns to.
    pub restorer: u64,
}

/// Whether an address is on an alternate stack.
pub(super) fn is_within(sp: u64, [address, flags, size]: [u64; 3]) -> bool {
    // Of one that disarms itself nobody knows.
    flags & ss::AUTODISARM == 0 && sp > address && sp - address <= size
}

/// Writes `siginfo_t`.
pub(super) fn put_info(into: &mut [u8], signal: u64, info: &Siginfo) {
    into[..INFO_SIZE as usize].fill(0);
    put(into, 0, signal);
    put(into, 8, u64::from(info.code as u32));
    put(into, 16, info.words[0]);
    put(into, 24, info.words[1]);
}

/// Says where the program is as it knows it: behind the `svc`, not in the stub.
pub(super) fn present(context: &mut Context) {
    let back = match context.way {
        way::X16 => context.pc,
        // Behind the `mov x8, #N`.
        way::X8 => context.pc.wrapping_add(4),
        _ => return,
    };
    context.way = way::ALL;
    if let Ok(word) = user::bytes(back, 4) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        if word >> 26 == 0b00_0101 {
            // `b`: a distance in words, of 26 bits.
            let distance = i64::from((word << 6) as i32 >> 6) * 4;
            context.pc = back.wrapping_add_signed(distance);
        }
    }
}

/// Puts a frame on the stack, and has the thread go on in the handler.
///
/// # Errors
/// EFAULT where there is no room for it.
pub(super) fn enter(
    context: &mut Context,
    entry: &Entry<'_>,
    system: &mut impl System,
) -> Result<()> {
    let [address, flags, size] = entry.stack;
    let inside = is_within(context.sp, entry.stack);
    let alternate = entry.action.flags & sa::ONSTACK != 0 && flags & ss::DISABLE == 0;
    let top = if alternate && !inside { address.wrapping_add(size) } else { context.sp };
    let record = top.wrapping_sub(16) & !15;
    let at = record.wrapping_sub(SIZE as u64);
    if inside && !is_within(at, entry.stack) {
        return Err(Errno::FAULT);
    }
    let frame = user::bytes_mut(at, SIZE as u64 + 16)?;
    let (back, how) = (context.pc, context.way);
    present(context);

    put_info(frame, entry.signal, entry.info);
    frame[INFO_SIZE as usize..RECORDS].fill(0);
    for (index, word) in entry.stack.iter().enumerate() {
        put(frame, STACK + 8 * index, *word);
    }
    put(frame, BLOCKED, entry.blocked);
    put(frame, FAULT_ADDRESS, entry.fault.map_or(0, |fault| fault.address));
    for (index, word) in context.x.iter().enumerate() {
        put(frame, X + 8 * index, *word);
    }
    put(frame, SP, context.sp);
    put(frame, PC, context.pc);
    put(frame, PSTATE, context.nzcv & FLAGS);
    // Status and control come behind the registers here, and before them in Linux's record.
    system.save_vectors(at + VECTORS as u64);
    let (status, control) = (get(frame, MORE), get(frame, MORE + 8));
    put(frame, RECORDS, FPSIMD_MAGIC | FPSIMD_SIZE << 32);
    put(frame, RECORDS + 8, status & 0xffff_ffff | control << 32);
    let mut end = MORE;
    if let Some(fault) = entry.fault {
        put(frame, end, ESR_MAGIC | ESR_SIZE << 32);
        put(frame, end + 8, fault.syndrome);
        end += ESR_SIZE as usize;
    }
    put(frame, end, 0);
    put(frame, end + 8, 0);
    let is_call = matches!(how, way::X16 | way::X8);
    for (index, word) in
        [if is_call { NOTE_MAGIC } else { 0 }, context.pc, back, how].into_iter().enumerate()
    {
        put(frame, NOTE + 8 * index, word);
    }
    put(frame, SIZE, context.x[29]);
    put(frame, SIZE + 8, context.x[30]);

    context.x[0] = entry.signal;
    if entry.action.flags & sa::SIGINFO != 0 {
        context.x[1] = at;
        context.x[2] = at + INFO_SIZE;
    }
    context.x[29] = record;
    context.x[30] = entry.restorer;
    context.sp = at;
    context.pc = entry.action.handler;
    context.way = way::ENTER;
    Ok(())
}

/// Takes the registers from the frame at the stack pointer; what is blocked from now on, and the
/// alternate stack.
///
/// # Errors
/// EFAULT where there is no frame.
pub(super) fn leave(context: &mut Context, system: &mut impl System) -> Result<(u64, [u64; 3])> {
    let at = context.sp;
    if at % 16 != 0 {
        return Err(Errno::FAULT);
    }
    let frame = user::bytes_mut(at, SIZE as u64)?;
    if get(frame, RECORDS) != FPSIMD_MAGIC | FPSIMD_SIZE << 32 {
        return Err(Errno::FAULT);
    }
    for (index, word) in context.x.iter_mut().enumerate() {
        *word = get(frame, X + 8 * index);
    }
    context.sp = get(frame, SP);
    context.pc = get(frame, PC);
    context.nzcv = get(frame, PSTATE) & FLAGS;
    context.way = way::ALL;
    let [magic, pc, back, how] = [0, 8, 16, 24].map(|offset| get(frame, NOTE + offset));
    if magic == NOTE_MAGIC && pc == context.pc {
        (context.pc, context.way) = (back, how);
    }
    let blocked = get(frame, BLOCKED);
    let stack = [0, 8, 16].map(|offset| get(frame, STACK + offset));
    let control = get(frame, RECORDS + 8);
    put(frame, MORE, control & 0xffff_ffff);
    put(frame, MORE + 8, control >> 32);
    system.load_vectors(at + VECTORS as u64);
    Ok((blocked, stack))
}

fn put(frame: &mut [u8], offset: usize, word: u64) {
    frame[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

fn get(frame: &[u8], offset: usize) -> u64 {
    frame[offset..offset + 8].try_into().map_or(0, u64::from_le_bytes)
}
