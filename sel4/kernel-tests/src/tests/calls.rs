//! Calls that the kernel must refuse.

use crate::failure::{Result, ensure_eq};
use crate::lab::{CNODE, Lab, TCB, slot_of};
use crate::program::program;
use koskit_abi::bootinfo::slot;
use koskit_abi::{Endpoint, Error, IrqControl, MessageInfo, Object};

/// Maintenance, EL2's timer, the virtual timer: the kernel's own.
const RESERVED: [u64; 3] = [25, 26, 27];

pub fn the_kernels_interrupts_are_not_given_away(lab: &mut Lab) -> Result {
    let to = lab.slot();
    for irq in RESERVED {
        let got = IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, irq, slot_of(to));
        ensure_eq!(format_args!("taking interrupt {irq}"), got, Err(Error::RevokeFirst));
    }
    let got = IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, 1020, slot_of(to));
    ensure_eq!("taking an interrupt that is none", got, Err(Error::RangeError));
    IrqControl::at(slot::IRQ_CONTROL).get(&mut lab.ipc, 48, slot_of(to))?;
    Ok(())
}

/// A thread whose maximum is lower than what it asks for.
pub fn a_thread_cannot_raise_priorities_beyond_its_own_maximum(lab: &mut Lab) -> Result {
    // TCB_SetPriority (label 6) of the TCB at x0 to the priority in x2; the kernel looks at the
    // calling thread's maximum.
    let program = program!(
        "mov x1, #0x6001", // one word
        "mov x7, #-1",
        "svc #0",
        "lsr x1, x1, #12",
        "mov x7, #0x1000",
        "svc #0",
    );
    for (priority, error) in [(50, 0), (51, 4)] {
        let thread = lab.thread()?;
        thread.tcb.set_max_priority(&mut lab.ipc, TCB, 50)?;
        thread.start(lab, program, &[thread.tcb.0.0, 0, priority])?;
        let x = lab.report_of(thread)?.x;
        ensure_eq!(format_args!("the answer for priority {priority}"), x[1], error);
    }
    Ok(())
}

/// CNode_Mint with a badge of 64 bits: what an endpoint's capability has no room for is cut off.
/// The debug kernel stopped at it.
pub fn a_badge_that_is_too_long_is_cut(lab: &mut Lab) -> Result {
    let endpoint = lab.make(Object::Endpoint)?;
    let to = lab.slot();
    for (index, word) in [to, 64, endpoint, 64, 7, 0xffff_ffff_f000_0009].into_iter().enumerate() {
        lab.ipc.set_word(index, word);
    }
    lab.ipc.set_cap(0, CNODE.0);
    let mint = MessageInfo { label: 18, length: 6, caps: 1 };
    ensure_eq!("the answer", lab.ipc.call(Endpoint(CNODE.0), mint).label, 0);
    // Call through it
    let program = program!("mov x1, #0", "mov x7, #-1", "svc #0");
    lab.run(program, &[to])?;
    ensure_eq!("the badge", lab.receive(Endpoint::at(endpoint))?.1, 9);
    Ok(())
}
