//! What native threads can do at EL0, and what they cannot.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::lab::{Lab, VSPACE};
use crate::program::program;
use koskit_abi::{Attributes, Fault, Rights};

pub fn counters_and_cache_geometry_can_be_read(lab: &mut Lab) -> Result {
    let program = program!(
        "mrs x0, cntvct_el0",
        "mrs x1, cntpct_el0",
        "mrs x2, cntfrq_el0",
        "mrs x3, ctr_el0",
        "mrs x4, dczid_el0",
        "mov x7, #0x1000",
        "svc #0",
    );
    let report = lab.outcome(program, &[])?;
    ensure!(report.x[0] > 0 && report.x[1] >= report.x[0], "counters: {:?}", report.x);
    ensure_eq!("CNTFRQ_EL0", report.x[2], 62_500_000);
    // CTR_EL0: lines of 64 bytes. DCZID_EL0: blocks of 64 bytes, and not prohibited.
    ensure_eq!("lines in CTR_EL0", (report.x[3] & 15, report.x[3] >> 16 & 15), (4, 4));
    ensure_eq!("DCZID_EL0", report.x[4], 4);
    Ok(())
}

pub fn caches_can_be_maintained_by_address(lab: &mut Lab) -> Result {
    let page = lab.page_with(Rights::READ_WRITE, Attributes::EXECUTE)?;
    for offset in (0..256).step_by(8) {
        page.set_word(offset, !0);
    }
    // Zeroes 64 bytes, then writes `mov x1, #5; ret` and calls that.
    let program = program!(
        "add x2, x0, #64",
        "dc zva, x2",
        "dc cvau, x0",
        "dc cvac, x0",
        "dc civac, x0",
        "ldr w3, =0xd28000a1",
        "str w3, [x0]",
        "ldr w3, =0xd65f03c0",
        "str w3, [x0, #4]",
        "dc cvau, x0",
        "dsb ish",
        "ic ivau, x0",
        "dsb ish",
        "isb",
        "blr x0",
        "mov x7, #0x1000",
        "svc #0",
    );
    let report = lab.outcome(program, &[page.address])?;
    ensure_eq!("what the new instruction sets", report.x[1], 5);
    for offset in (0..256).step_by(8) {
        let should = match offset {
            0 => 0xd65f_03c0_d280_00a1,
            64..128 => 0,
            _ => !0,
        };
        ensure_eq!(format_args!("the word at {offset}"), page.word(offset), should);
    }
    // Zeroing is a write: not of a page that is mapped read-only.
    page.frame.remap(&mut lab.ipc, VSPACE, page.address, Rights::READ, Attributes::DATA)?;
    let thread = lab.run(program, &[page.address])?;
    match lab.fault_of(thread)? {
        Fault::Vm { address, syndrome, .. } => {
            ensure_eq!("the address", address, page.address + 64);
            ensure!(syndrome & 1 << 6 != 0, "zeroing is told as a read");
            Ok(())
        }
        other => fail!("the thread stopped by {other:#x?}"),
    }
}

pub fn waiting_instructions_return(lab: &mut Lab) -> Result {
    let program = program!("wfi", "sevl", "wfe", "wfe", "yield", "mov x7, #0x1000", "svc #0");
    lab.outcome(program, &[])?;
    Ok(())
}

pub fn unaligned_and_exclusive_accesses_work(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    page.set_word(0, 0x1122_3344_5566_7788);
    page.set_word(8, 0x99aa_bbcc_ddee_ff00);
    let program = program!(
        "ldur x1, [x0, #3]",
        "1: ldaxr x2, [x0]",
        "add x2, x2, #1",
        "stlxr w3, x2, [x0]",
        "cbnz w3, 1b",
        "ldur q0, [x0, #1]",
        "mov x4, v0.d[0]",
        "mov x7, #0x1000",
        "svc #0",
    );
    let report = lab.outcome(program, &[page.address])?;
    ensure_eq!("the unaligned word", report.x[1], 0xeeff_0011_2233_4455);
    ensure_eq!("the unaligned vector", report.x[4], 0x0011_2233_4455_6677);
    ensure_eq!("the word that was counted up", page.word(0), 0x1122_3344_5566_7789);
    Ok(())
}

pub fn privileged_registers_are_closed(lab: &mut Lab) -> Result {
    // Each instruction is an exception of its own; the thread goes on behind it.
    let program = program!(
        "mrs x0, mdscr_el1",
        "msr mdscr_el1, x0",
        "mrs x0, dbgbvr0_el1",
        "msr dbgbcr0_el1, x0",
        "msr oslar_el1, x0",
        "mrs x0, mdccsr_el0",
        "mrs x0, dbgdtr_el0",
        "mrs x0, pmcr_el0",
        "mrs x0, pmccntr_el0",
        "msr pmuserenr_el0, x0",
        "mrs x0, pmselr_el0",
        "mrs x0, cntv_ctl_el0",
        "msr cntv_cval_el0, x0",
        "mrs x0, cntp_ctl_el0",
        "msr cntp_tval_el0, x0",
        "mrs x0, cntkctl_el1",
        "msr tpidrro_el0, x0",
        "mrs x0, sctlr_el1",
        "msr ttbr0_el1, x0",
        "mrs x0, currentel",
        "mrs x0, midr_el1",
        "mrs x0, hcr_el2",
        "msr daifset, #2",
        "tlbi vmalle1",
        "dc isw, x0",
        "dc ivac, x0",
        "ic iallu",
        "at s1e1r, x0",
        "hvc #0",
        "smc #0",
        "eret",
        "mov x7, #0x1000",
        "svc #0",
    );
    let thread = lab.run(program, &[])?;
    let count = (program.end - program.begin) / 4 - 2;
    for index in 0..count {
        match lab.fault_of(thread)? {
            Fault::UserException { pc, syndrome } => {
                ensure_eq!("the address", pc, program.begin + 4 * index);
                // Undefined, a trapped system register, a trapped SMC
                ensure!(
                    matches!(syndrome >> 26, 0 | 0x18 | 0x17),
                    "instruction {index} is an exception of ESR {syndrome:#x}"
                );
            }
            other => fail!("instruction {index} stopped the thread by {other:#x?}"),
        }
        thread.go_on(lab, 4)?;
    }
    lab.report_of(thread)?;
    Ok(())
}
