//! Counters, and the physical timer.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::lab::{Lab, MILLISECOND, now};
use crate::program::program;
use core::arch::asm;
use koskit_abi::{Endpoint, Fault, Object};

pub fn the_counters_run_at_62_5_mhz(_: &mut Lab) -> Result {
    let (hz, before, virtual_, after): (u64, u64, u64, u64);
    // SAFETY: reads registers that EL0 may read; that it may is what is tested.
    unsafe {
        asm!(
            "mrs {}, cntfrq_el0",
            "isb",
            "mrs {}, cntpct_el0",
            "isb",
            "mrs {}, cntvct_el0",
            "isb",
            "mrs {}, cntpct_el0",
            out(reg) hz, out(reg) before, out(reg) virtual_, out(reg) after,
            options(nomem, nostack)
        );
    }
    ensure_eq!("CNTFRQ_EL0", hz, 1000 * MILLISECOND);
    ensure!(
        (before..=after).contains(&virtual_),
        "CNTVCT_EL0 is {virtual_}, CNTPCT_EL0 {before} before and {after} after"
    );
    Ok(())
}

pub fn the_physical_timer_wakes_its_thread_in_time(lab: &mut Lab) -> Result {
    let nobody = Endpoint::at(lab.make(Object::Endpoint)?);
    for milliseconds in [1, 5, 20] {
        let until = now() + milliseconds * MILLISECOND;
        let message = lab.receive_until(nobody, until)?;
        let late = now().saturating_sub(until) / MILLISECOND;
        ensure!(message.is_none(), "there is a message from nobody");
        ensure!(now() >= until, "the timer fired too early");
        ensure!(late < 2000, "a wait of {milliseconds} ms took {late} ms more");
    }
    Ok(())
}

pub fn the_physical_timer_is_closed_to_other_threads(lab: &mut Lab) -> Result {
    let program = program!("msr cntp_ctl_el0, xzr", "mov x7, #0x1000", "svc #0");
    let thread = lab.run(program, &[])?;
    match lab.fault_of(thread)? {
        // A trapped system register
        Fault::UserException { pc, syndrome } => {
            ensure_eq!("the address", pc, program.begin);
            ensure_eq!("the exception class", syndrome >> 26, 0x18);
            Ok(())
        }
        other => fail!("the thread was stopped by {other:#x?}"),
    }
}
