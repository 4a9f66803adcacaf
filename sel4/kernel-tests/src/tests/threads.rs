//! Registers, priorities, preemption.

use crate::failure::{Result, ensure_eq};
use crate::lab::{Lab, TCB};
use crate::program::{Program, program};
use koskit_abi::{Object, Registers, Vcpu};

/// Level and width in the program status; EL0 and AArch64 are 0.
const SPSR_MODE: u64 = 0x1f;
/// Flags in the program status.
const SPSR_FLAGS: u64 = 0xf << 28;
/// EL1 with its own stack pointer, all interrupts masked.
const SPSR_EL1: u64 = 0x3c5;

pub fn all_36_registers_are_written_and_read_back(lab: &mut Lab) -> Result {
    let program = program!("svc #0");
    let thread = lab.thread()?;
    let mut registers = Registers {
        pc: program.begin,
        sp: 0x1111_2222_3333_4440,
        spsr: 0xa000_0000,
        x: [0; 31],
        tpidr_el0: 0x5555_6666_7777_8888,
        tpidrro_el0: 0x9999_aaaa_bbbb_cccc,
    };
    for (index, x) in registers.x.iter_mut().enumerate() {
        *x = 0x0101_0101_0101_0101 * (index as u64 + 1);
    }
    thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
    let report = lab.report_of(thread)?;
    ensure_eq!("x0 to x7", &report.x[..], &registers.x[..8]);
    let mut read = thread.tcb.read_registers(&mut lab.ipc)?;
    ensure_eq!("the program status", read.spsr & (SPSR_FLAGS | SPSR_MODE), registers.spsr);
    read.spsr = registers.spsr;
    ensure_eq!("what is read", read, registers);
    Ok(())
}

pub fn a_thread_finds_its_own_thread_registers(lab: &mut Lab) -> Result {
    let program = program!(
        "mrs x0, tpidr_el0",
        "mrs x1, tpidrro_el0",
        "mov x2, #77",
        "msr tpidr_el0, x2",
        "mov x7, #0x1000",
        "svc #0"
    );
    let (one, two) = (lab.thread()?, lab.thread()?);
    for (thread, value) in [(one, 10), (two, 20)] {
        let registers = Registers {
            pc: program.begin,
            tpidr_el0: value,
            tpidrro_el0: value + 1,
            ..Registers::default()
        };
        thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
        let report = lab.report_of(thread)?;
        ensure_eq!("what the thread reads", (report.x[0], report.x[1]), (value, value + 1));
    }
    let read = one.tcb.read_registers(&mut lab.ipc)?;
    ensure_eq!("what it has written", (read.tpidr_el0, read.tpidrro_el0), (77, 11));
    Ok(())
}

/// Fills integer registers, FPU registers, flags of the FPU and both thread registers with
/// values made from x0, and compares them for ever; counts rounds at x1, reports a
/// difference.
fn comparer() -> Program {
    program!(
        "msr tpidr_el0, x0",
        "mov sp, x0",
        "mov x19, x0",
        "mov x20, x0",
        "mov x29, x0",
        "mov x30, x0",
        "dup v0.2d, x0",
        "mvn v15.16b, v0.16b",
        "dup v31.4s, w0",
        "and x2, x0, #0x3",
        "lsl x2, x2, #22",
        "msr fpcr, x2", // rounding mode
        "1: ldr x3, [x1]",
        "add x3, x3, #1",
        "str x3, [x1]",
        "mrs x4, tpidr_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mrs x4, tpidrro_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x4, sp",
        "cmp x4, x0",
        "ccmp x19, x0, #0, eq",
        "ccmp x20, x0, #0, eq",
        "ccmp x29, x0, #0, eq",
        "ccmp x30, x0, #0, eq",
        "b.ne 2f",
        "mov x4, v0.d[0]",
        "mov x5, v0.d[1]",
        "cmp x4, x0",
        "ccmp x5, x0, #0, eq",
        "b.ne 2f",
        "mov x4, v15.d[1]",
        "mvn x4, x4",
        "cmp x4, x0",
        "b.ne 2f",
        "mov w4, v31.s[3]",
        "cmp w4, w0",
        "b.ne 2f",
        "mrs x4, fpcr",
        "cmp x4, x2",
        "b.eq 1b",
        "2: mov x7, #0x1fff",
        "svc #0",
    )
}

pub fn threads_keep_their_registers_when_preempted(lab: &mut Lab) -> Result {
    let counters = lab.page()?;
    let mut threads = [lab.thread()?, lab.thread()?, lab.thread()?];
    for (index, thread) in threads.iter_mut().enumerate() {
        let index = index as u64;
        let value = 0x1111_1111_1111_1110 * (index + 1) + 1 + index;
        let mut registers =
            Registers { pc: comparer().begin, tpidrro_el0: value, ..Registers::default() };
        registers.x[0] = value;
        registers.x[1] = counters.address + 8 * index;
        thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
    }
    // Time slices have 10 ms.
    for _ in 0..10 {
        lab.sleep(20)?;
    }
    let rounds = || [0, 8, 16].map(|offset| counters.word(offset));
    let before = rounds();
    lab.run_until(|| rounds().iter().zip(before).all(|(now, before)| *now > before))
}

/// Counts at x0 for ever.
fn counter() -> Program {
    program!("1: ldr x1, [x0]", "add x1, x1, #1", "str x1, [x0]", "b 1b")
}

pub fn a_higher_priority_runs_first(lab: &mut Lab) -> Result {
    let counters = lab.page()?;
    let (low, high) = (lab.thread()?, lab.thread()?);
    high.tcb.set_priority(&mut lab.ipc, TCB, 101)?;
    low.start(lab, counter(), &[counters.address])?;
    high.start(lab, counter(), &[counters.address + 8])?;
    lab.sleep(40)?;
    lab.run_until(|| counters.word(8) > 0)?;
    ensure_eq!("rounds of the lower priority", counters.word(0), 0);
    // Now they change places.
    low.tcb.set_priority(&mut lab.ipc, TCB, 102)?;
    lab.run_until(|| counters.word(0) > 0)?;
    let before = counters.word(8);
    lab.sleep(40)?;
    ensure_eq!("rounds of the one that is lower now", counters.word(8), before);
    Ok(())
}

pub fn a_suspended_thread_stands_still(lab: &mut Lab) -> Result {
    let counters = lab.page()?;
    let thread = lab.run(counter(), &[counters.address])?;
    lab.run_until(|| counters.word(0) > 0)?;
    thread.tcb.suspend(&mut lab.ipc)?;
    let before = counters.word(0);
    lab.sleep(20)?;
    ensure_eq!("rounds of the suspended thread", counters.word(0), before);
    thread.tcb.resume(&mut lab.ipc)?;
    lab.run_until(|| counters.word(0) > before)
}

pub fn a_thread_without_a_vcpu_stays_at_el0(lab: &mut Lab) -> Result {
    let program = program!("mov x7, #0x1000", "svc #0");
    let thread = lab.thread()?;
    // EL1, EL2, EL3, AArch32
    for spsr in [SPSR_EL1, 0x3c9, 0x3cd, 0x10] {
        let registers = Registers { pc: program.begin, spsr, ..Registers::default() };
        thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
        ensure_eq!("the mode", lab.report_of(thread)?.spsr & SPSR_MODE, 0);
    }
    // Nor does one stay at EL1 whose VCPU is taken away.
    let vcpu = Vcpu::at(lab.make(Object::Vcpu)?);
    vcpu.set_tcb(&mut lab.ipc, thread.tcb)?;
    let registers = Registers { pc: program.begin, spsr: SPSR_EL1, ..Registers::default() };
    thread.tcb.write_registers(&mut lab.ipc, registers, false)?;
    ensure_eq!("with a VCPU", thread.tcb.read_registers(&mut lab.ipc)?.spsr, SPSR_EL1);
    crate::lab::slot_of(vcpu.0.0).delete(&mut lab.ipc)?;
    thread.tcb.resume(&mut lab.ipc)?;
    ensure_eq!("the mode without it", lab.report_of(thread)?.spsr & SPSR_MODE, 0);
    Ok(())
}

/// Fix of kernel/patches/12: that stopped the kernel.
pub fn copied_registers_do_not_lead_out_of_el0(lab: &mut Lab) -> Result {
    let program = program!("mov x7, #0x1000", "svc #0");
    let (guest, thread) = (lab.thread()?, lab.thread()?);
    let vcpu = Vcpu::at(lab.make(Object::Vcpu)?);
    vcpu.set_tcb(&mut lab.ipc, guest.tcb)?;
    let mut registers = Registers { pc: program.begin, spsr: SPSR_EL1, ..Registers::default() };
    registers.x[3] = 33;
    registers.x[20] = 2020;
    guest.tcb.write_registers(&mut lab.ipc, registers, false)?;
    thread.tcb.copy_registers(&mut lab.ipc, guest.tcb, true)?;
    let report = lab.report_of(thread)?;
    ensure_eq!("the mode", report.spsr & SPSR_MODE, 0);
    ensure_eq!("x3", report.x[3], 33);
    ensure_eq!("x20", thread.tcb.read_registers(&mut lab.ipc)?.x[20], 2020);
    Ok(())
}
