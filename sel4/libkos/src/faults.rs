//! The thread to which the kernel sends the faults of the others: it leads who fails in the program
//! to his signal handlers, tells libkos that a pointer of the program was bad, and sets all
//! registers of who cannot do it himself. What nobody handles fails again, and then the root server
//! learns of it and ends the container.
//!
//! It has a page of its own for messages and stack, and takes no lock, since who has the lock may
//! be the one that fails.

use crate::frames::Frames;
use crate::gate::{self, Block, Place};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use koskit_abi::{
    CNode, CNodeGuard, Endpoint, Fault, Frame, Ipc, Object, Registers, Rights, Slot, Space, Tcb,
    VSpace,
};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::kos::{Cause, Fault as Failure};
use koskit_libkos::user;
use koskit_spec::layout::{FAULTS_BASE, KOS_BASE, KOS_END, PAGE, slot};

/// `mov x8, #139; svc #0`: where handlers return to that name no other place. Unwinders look for
/// these words. They are data: who comes there faults, as what `svc` does here depends on x7.
static SIGRETURN: [u32; 2] = [0xd280_1168, 0xd400_0001];

/// Slot of the endpoint; 0 where there is no such thread.
static ENDPOINT: AtomicU64 = AtomicU64::new(0);
/// Set while it changes a thread.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The guard of the container's CNode: its size.
static GUARD: AtomicU64 = AtomicU64::new(0);

/// Where handlers return to; 0 where nobody would lead them on.
pub fn sigreturn() -> u64 {
    if ENDPOINT.load(Ordering::Relaxed) == 0 { 0 } else { &raw const SIGRETURN as u64 }
}

/// Whether a thread is just being changed.
pub fn is_busy() -> bool {
    BUSY.load(Ordering::Acquire)
}

/// What a thread runs with whose faults go to a slot.
pub fn space(fault_endpoint: u64) -> Space {
    let size = GUARD.load(Ordering::Relaxed) as u32;
    Space {
        fault_endpoint,
        cspace: CNode::at(slot::CNODE),
        guard: CNodeGuard { bits: 0, size },
        vspace: VSpace::at(slot::VSPACE),
    }
}

/// Says how large the guard is, which all threads have.
pub fn set_guard(size: u32) {
    GUARD.store(size.into(), Ordering::Relaxed);
}

/// Makes the thread, with a priority, and has the faults of the first one come there.
///
/// # Errors
/// ENOMEM: faults go to the root server then, as they did.
pub fn make(ipc: &mut Ipc, frames: &mut Frames, first: *mut Block, priority: u8) -> Result<()> {
    let tcb = Tcb::at(frames.make_small(ipc, Object::Tcb)?);
    let endpoint = frames.make_small(ipc, Object::Endpoint)?;
    let page = frames.give_page(ipc, FAULTS_BASE)?;
    let registers =
        Registers { pc: run as *const () as u64, sp: FAULTS_BASE + PAGE, ..Registers::default() };
    let own = Tcb::at(slot::TCB);
    tcb.configure(ipc, space(slot::FAULT), FAULTS_BASE, Frame::at(page))
        .and_then(|()| tcb.set_priority(ipc, own, priority))
        .map_err(|_| Errno::NOMEM)?;
    ENDPOINT.store(endpoint, Ordering::Relaxed);
    // SAFETY: it is the calling thread's own.
    let first = unsafe { &mut *first };
    let come = endpoint_for(ipc, frames, first).and_then(|faults| {
        own.set_space(ipc, space(faults))
            .and_then(|()| tcb.write_registers(ipc, registers, true))
            .map_err(|_| Errno::NOMEM)
    });
    if come.is_err() {
        ENDPOINT.store(0, Ordering::Relaxed);
        let _ = own.set_space(ipc, space(slot::FAULT));
    }
    come
}

/// The slot to which the faults of a thread with this block are to go.
///
/// # Errors
/// ENOMEM.
pub fn endpoint_for(ipc: &mut Ipc, frames: &mut Frames, block: &Block) -> Result<u64> {
    let endpoint = ENDPOINT.load(Ordering::Relaxed);
    if endpoint == 0 {
        return Ok(slot::FAULT);
    }
    let at = |index| Slot { root: CNode::at(slot::CNODE), index, depth: 64 };
    let own = frames.slot()?;
    // Badges are small.
    let badge = (&raw const *block as u64 - KOS_BASE) / PAGE;
    let minted = at(own).mint_badged(ipc, at(endpoint), Rights::CALL, badge);
    minted.map_err(|_| Errno::NOMEM)?;
    Ok(own)
}

extern "C" fn run() -> ! {
    // SAFETY: it is this thread's own buffer, and nothing else in it has one.
    let mut ipc = unsafe { Ipc::new(FAULTS_BASE) };
    let endpoint = Endpoint::at(ENDPOINT.load(Ordering::Relaxed));
    loop {
        let (info, badge) = ipc.recv(endpoint);
        BUSY.store(true, Ordering::Release);
        // SAFETY: badges are those of `endpoint_for`, and blocks are never unmapped. Its thread
        // has failed, and does nothing.
        let block = unsafe { &mut *((KOS_BASE + badge * PAGE) as *mut Block) };
        if let Some(fault) = Fault::decode(info, &ipc) {
            see_to(&mut ipc, block, fault);
        }
        BUSY.store(false, Ordering::Release);
    }
}

/// Has a thread go on that has failed.
fn see_to(ipc: &mut Ipc, block: &mut Block, fault: Fault) {
    let tcb = Tcb::at(block.tcb);
    let Ok(mut registers) = tcb.read_registers(ipc) else { return };
    let (pc, syndrome, address, fetch) = match fault {
        Fault::Vm { pc, address, syndrome, fetch } => (pc, syndrome, address, fetch),
        Fault::UserException { pc, syndrome } => (pc, syndrome, pc, false),
        Fault::Cap { pc, .. } | Fault::UnknownSyscall { pc, .. } => (pc, 0, pc, false),
        _ => return,
    };
    if registers.pc != pc {
        // Meanwhile somebody has led it elsewhere.
        return;
    }
    // What could not be fetched cannot be read.
    let is_wild = fetch && !(KOS_BASE..KOS_END).contains(&pc);
    let place = if is_wild { Place::Program } else { gate::place(pc) };
    let is_svc = matches!(fault, Fault::Cap { .. } | Fault::UnknownSyscall { .. });
    if fetch && pc == sigreturn() {
        block.divert(&mut registers, Cause::Return);
    } else if place == Place::Resume {
        block.restore(&mut registers);
    } else if let Some(after) = user::after_touch(pc) {
        registers.pc = after;
    } else if place == Place::Program && !is_svc {
        let cause = Cause::Fault(Failure { syndrome, address });
        block.divert(&mut registers, cause);
    } else {
        if place == Place::Refault {
            block.restore(&mut registers);
        }
        // From now on the root server learns of it.
        let _ = tcb.set_space(ipc, space(slot::FAULT));
    }
    let _ = tcb.write_registers(ipc, registers, true);
}
