//! Guests: what traps, what is told of it, and what guests have for themselves.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::guest::{CLASS_REGISTER, CLASS_SMC, CLASS_WFI, Guest, RAM};
use crate::lab::{Lab, slot_of};
use crate::program::{Program, program};
use koskit_abi::{Attributes, Error, Fault, Frame, Object, Rights, Tcb, VcpuRegister};

pub fn a_hypervisor_call_goes_to_the_monitor(lab: &mut Lab) -> Result {
    let program =
        program!("mrs x0, currentel", "mrs x1, mpidr_el1", "hvc #1", "add x2, x2, #1", "hvc #2");
    let guest = lab.run_guest(program, &[0, 0, 40])?;
    let registers = lab.hvc_of(guest, 1)?;
    ensure_eq!("CurrentEL", registers.x[0], 1 << 2);
    ensure_eq!("MPIDR_EL1", registers.x[1], 1 << 31);
    // It already points past the HVC.
    ensure_eq!("the address", registers.pc, RAM + 12);
    guest.go_on(lab, 0)?;
    ensure_eq!("x2", lab.hvc_of(guest, 2)?.x[2], 41);
    Ok(())
}

/// Fix 5: HVC was taken for a system call.
pub fn a_guest_cannot_make_system_calls(lab: &mut Lab) -> Result {
    // Send through the fault endpoint, which is in slot 1 of its CSpace; then the same by SVC,
    // which is the guest's own exception.
    let program = program!(
        "ldr x9, =0x40001000",
        "msr vbar_el1, x9",
        "mov x0, #1",
        "mov x1, #1",
        "mov x7, #-3",
        "hvc #3",
        "svc #5",
        "b .",
    );
    let handler = program!("mrs x0, esr_el1", "hvc #4");
    let guest = lab.guest()?;
    guest.load(0, program);
    guest.load(0x1200, handler);
    guest.start(lab, &[])?;
    lab.hvc_of(guest, 3)?;
    guest.go_on(lab, 0)?;
    ensure_eq!("ESR_EL1", lab.hvc_of(guest, 4)?.x[0], 0x15 << 26 | 1 << 25 | 5);
    Ok(())
}

pub fn waiting_and_secure_calls_trap(lab: &mut Lab) -> Result {
    let guest = lab.run_guest(program!("wfi", "smc #3", "hvc #1"), &[])?;
    for (index, class) in [CLASS_WFI, CLASS_SMC].into_iter().enumerate() {
        ensure_eq!("the exception class", lab.trap_of(guest)? >> 26, class);
        let pc = guest.thread.tcb.read_registers(&mut lab.ipc)?.pc;
        ensure_eq!("the address", pc, RAM + 4 * index as u64);
        guest.go_on(lab, 4)?;
    }
    lab.hvc_of(guest, 1)?;
    Ok(())
}

/// Fixes 6 and 8, and the physical timer, which is its monitor's. Implementation defined registers
/// trap too, but not in QEMU 7.2, which does not know of HCR_EL2.TIDCP.
pub fn registers_that_reach_others_trap(lab: &mut Lab) -> Result {
    let program = program!(
        "msr dbgbvr0_el1, x0",
        "msr dbgbcr0_el1, x0",
        "msr dbgwvr0_el1, x0",
        "msr dbgwcr0_el1, x0",
        "mrs x0, mdscr_el1",
        "msr mdscr_el1, x0",
        "msr oslar_el1, xzr",
        "msr osdlr_el1, xzr",
        "mrs x0, mdrar_el1",
        "mrs x0, pmcr_el0",
        "msr pmcntenset_el0, x0",
        "msr pmuserenr_el0, x0",
        "mrs x0, pmccntr_el0",
        "dc isw, x0",
        "dc csw, x0",
        "dc cisw, x0",
        "mrs x0, actlr_el1",
        "msr actlr_el1, x0",
        "mrs x0, cntp_ctl_el0",
        "msr cntp_cval_el0, x0",
        "hvc #1",
    );
    let guest = lab.run_guest(program, &[])?;
    for index in 0..(program.end - program.begin) / 4 - 1 {
        let syndrome = lab.trap_of(guest)?;
        ensure_eq!(format_args!("class of instruction {index}"), syndrome >> 26, CLASS_REGISTER);
        let pc = guest.thread.tcb.read_registers(&mut lab.ipc)?.pc;
        ensure_eq!("the address", pc, RAM + 4 * index);
        guest.go_on(lab, 4)?;
    }
    lab.hvc_of(guest, 1)?;
    Ok(())
}

/// Waits for a guest's fault on memory: address, fetch, syndrome; and the instruction's.
fn memory_fault(lab: &mut Lab, guest: Guest) -> Result<(u64, bool, u64, u64)> {
    match lab.fault_of(guest.thread)? {
        Fault::Vm { pc, address, fetch, syndrome } => Ok((address, fetch, syndrome, pc)),
        other => fail!("the guest stopped by {other:#x?}"),
    }
}

pub fn a_device_access_without_mmu_is_told_with_its_address(lab: &mut Lab) -> Result {
    let program = program!("str w3, [x0, #8]", "ldrh w4, [x0, #2]", "hvc #1");
    let guest = lab.run_guest(program, &[0xc00_0000, 0, 0, 0x5a])?;
    let (address, fetch, syndrome, pc) = memory_fault(lab, guest)?;
    ensure_eq!("the address", (address, fetch, pc), (0xc00_0008, false, RAM));
    // Syndrome valid; 4 bytes; register 3; a write
    ensure_eq!("class and access", (syndrome >> 26, syndrome >> 16 & 0x3ff), (0x24, 0x383));
    ensure!(syndrome & 1 << 6 != 0, "a write is told as a read");
    guest.go_on(lab, 4)?;
    let (address, _, syndrome, _) = memory_fault(lab, guest)?;
    ensure_eq!("the second address", address, 0xc00_0002);
    ensure_eq!("the second access", syndrome >> 16 & 0x3ff, 0x344);
    // The monitor answers a read by setting the register.
    let mut registers = guest.thread.tcb.read_registers(&mut lab.ipc)?;
    registers.x[4] = 0xabcd;
    registers.pc += 4;
    guest.thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
    ensure_eq!("what the guest has read", lab.hvc_of(guest, 1)?.x[4], 0xabcd);
    Ok(())
}

/// Switches the guest's MMU on, with page tables in page 4 of its memory: 0x4000_0000 is itself,
/// 0x8000_0000 is 0x4000_0000, and at 0xc000_0000 the tables lead out of its memory.
fn with_mmu(guest: Guest, then: Program) {
    let block = |address| address | 1 << 10 | 3 << 8 | 1;
    let tables = guest.page(4);
    tables.set_word(8, block(RAM));
    tables.set_word(16, block(RAM));
    tables.set_word(24, 0x4020_0000 | 3);
    guest.load(
        0,
        program!(
            "ldr x9, =0x40004000",
            "msr ttbr0_el1, x9",
            "ldr x9, =0x200803519", // 39 bits of addresses, 40 bits of physical ones
            "msr tcr_el1, x9",
            "mov x9, #0xff",
            "msr mair_el1, x9",
            "isb",
            "mrs x9, sctlr_el1",
            "mov x10, #0x1005",
            "orr x9, x9, x10",
            "msr sctlr_el1, x9",
            "isb",
            "ldr x9, =0x80001000",
            "br x9",
        ),
    );
    guest.load(0x1000, then);
}

/// Fix 4.
pub fn an_access_with_mmu_is_told_with_its_intermediate_address(lab: &mut Lab) -> Result {
    let guest = lab.guest()?;
    let program = program!("str w3, [x0]", "ldr w3, [x1]", "str w3, [x2]", "br x0");
    with_mmu(guest, program);
    // The last page becomes read-only.
    let last = Frame::at(guest.guest_frames + 7);
    last.remap(&mut lab.ipc, guest.vspace, RAM + 0x7000, Rights::READ, Attributes::DATA)?;
    guest.start(lab, &[0x8010_0010, 0xc000_0568, 0x8000_7018])?;

    let (address, fetch, syndrome, pc) = memory_fault(lab, guest)?;
    ensure_eq!("the address", (address, fetch), (0x4010_0010, false));
    ensure_eq!("the instruction", pc, 0x8000_1000);
    ensure_eq!("status", syndrome & (1 << 6 | 0x3c), 1 << 6 | 0x04);
    guest.go_on(lab, 4)?;

    let (address, _, syndrome, _) = memory_fault(lab, guest)?;
    ensure_eq!("the page of the guest's table", address & !0xfff, 0x4020_0000);
    ensure!(syndrome & 1 << 7 != 0, "ESR {syndrome:#x} does not tell of a walk");
    guest.go_on(lab, 4)?;

    let (address, _, syndrome, _) = memory_fault(lab, guest)?;
    ensure_eq!("the read-only address", address, 0x4000_7018);
    ensure_eq!("its status", syndrome & (1 << 7 | 1 << 6 | 0x3c), 1 << 6 | 0x0c);
    guest.go_on(lab, 4)?;

    let (address, fetch, ..) = memory_fault(lab, guest)?;
    ensure_eq!("the fetch", (address, fetch), (0x4010_0010, true));
    Ok(())
}

pub fn a_vcpus_registers_can_be_read_and_written(lab: &mut Lab) -> Result {
    use VcpuRegister::*;
    let guest = lab.guest()?;
    let all = [
        Sctlr, Ttbr0, Ttbr1, Tcr, Mair, Amair, ContextIdr, Actlr, Cpacr, Afsr0, Afsr1, Esr, Far,
        Vbar, Tpidr, Sp, Elr, Spsr, CntvCtl, CntvCval, CntvOff, CntkCtl, Par, Csselr, Vmpidr,
    ];
    ensure_eq!("SCTLR_EL1 at first", guest.vcpu.read(&mut lab.ipc, Sctlr)?, 0x30d0_0800);
    // It has never run: all are in memory.
    let first = all.map(|register| guest.vcpu.read(&mut lab.ipc, register));
    for (index, register) in all.into_iter().enumerate() {
        guest.vcpu.write(&mut lab.ipc, register, 0x100 + index as u64)?;
    }
    for (index, register) in all.into_iter().enumerate() {
        let read = guest.vcpu.read(&mut lab.ipc, register)?;
        ensure_eq!(format_args!("{register:?}"), read, 0x100 + index as u64);
    }
    for (register, value) in all.into_iter().zip(first) {
        guest.vcpu.write(&mut lab.ipc, register, value?)?;
    }
    // It runs: some are in the processor now, others were saved when we took over.
    let program = program!(
        "mov x1, #0x11",
        "msr tpidr_el1, x1",
        "mov x1, #0x300000",
        "msr cpacr_el1, x1",
        "hvc #1",
        "mrs x1, tpidr_el1",
        "mrs x2, cpacr_el1",
        "mrs x3, mpidr_el1",
        "mrs x4, cntkctl_el1",
        "hvc #2",
    );
    guest.load(0, program);
    guest.start(lab, &[])?;
    lab.hvc_of(guest, 1)?;
    ensure_eq!("TPIDR_EL1 of the guest", guest.vcpu.read(&mut lab.ipc, Tpidr)?, 0x11);
    ensure_eq!("CPACR_EL1 of the guest", guest.vcpu.read(&mut lab.ipc, Cpacr)?, 0x30_0000);
    guest.vcpu.write(&mut lab.ipc, Tpidr, 0x22)?;
    guest.vcpu.write(&mut lab.ipc, Cpacr, 0x10_0000)?;
    guest.vcpu.write(&mut lab.ipc, Vmpidr, 0x8000_0003)?;
    guest.vcpu.write(&mut lab.ipc, CntkCtl, 2)?;
    guest.go_on(lab, 0)?;
    let x = lab.hvc_of(guest, 2)?.x;
    ensure_eq!("what the guest reads", &x[1..5], &[0x22, 0x10_0000, 0x8000_0003, 2]);
    Ok(())
}

/// Fills registers with values made from x0, and compares them for ever; counts rounds at x1, and
/// says which register was another one's (x6) with what it had (x4).
fn comparer() -> Program {
    program!(
        "mov x9, #0x300000",
        "msr cpacr_el1, x9",
        "isb",
        "mov sp, x0",
        "msr sp_el0, x0",
        "msr tpidr_el0, x0",
        "msr tpidrro_el0, x0",
        "msr tpidr_el1, x0",
        "msr far_el1, x0",
        "msr mair_el1, x0",
        "msr ttbr0_el1, x0",
        "msr elr_el1, x0",
        "msr cntv_cval_el0, x0",
        "and x2, x0, #0xe",
        "msr csselr_el1, x2",
        "mrs x3, mpidr_el1",
        "dup v0.2d, x0",
        "dup v31.4s, w0",
        "1: ldr x5, [x1]",
        "add x5, x5, #1",
        "str x5, [x1]",
        "mov x6, #1",
        "mov x4, sp",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #2",
        "mrs x4, sp_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #3",
        "mrs x4, tpidr_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #4",
        "mrs x4, tpidrro_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #5",
        "mrs x4, tpidr_el1",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #6",
        "mrs x4, far_el1",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #7",
        "mrs x4, mair_el1",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #8",
        "mrs x4, ttbr0_el1",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #9",
        "mrs x4, elr_el1",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #10",
        "mrs x4, cntv_cval_el0",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #11",
        "mrs x4, csselr_el1",
        "cmp x4, x2",
        "b.ne 2f",
        "mov x6, #12",
        "mrs x4, mpidr_el1",
        "cmp x4, x3",
        "b.ne 2f",
        "mov x6, #13",
        "mov x4, v0.d[1]",
        "cmp x4, x0",
        "b.ne 2f",
        "mov x6, #14",
        "mov w4, v31.s[2]",
        "cmp w4, w0",
        "b.eq 1b",
        "2: hvc #9",
    )
}

/// Fix 7, and all that was right before.
pub fn guests_keep_their_registers_apart(lab: &mut Lab) -> Result {
    let guests = [lab.guest()?, lab.guest()?, lab.guest()?];
    for (index, guest) in guests.into_iter().enumerate() {
        let index = index as u64 + 1;
        guest.load(0, comparer());
        guest.vcpu.write(&mut lab.ipc, VcpuRegister::Vmpidr, 1 << 31 | index)?;
        guest.start(lab, &[0x0011_1111_1111_1100 * index + 2 * index, RAM + 0x1000])?;
    }
    // A native thread in between, whose thread registers and FPU are its own, too.
    let native = program!(
        "msr tpidr_el0, x0",
        "dup v0.2d, x0",
        "1: ldr x3, [x1]",
        "add x3, x3, #1",
        "str x3, [x1]",
        "mrs x4, tpidr_el0",
        "mov x5, v0.d[0]",
        "mrs x6, tpidrro_el0",
        "cmp x4, x0",
        "ccmp x5, x0, #0, eq",
        "ccmp x6, #0, #0, eq",
        "b.eq 1b",
        "mov x7, #0x1fff",
        "svc #0",
    );
    let counter = lab.page()?;
    lab.run(native, &[0x7777_8888_9999_0000, counter.address])?;
    for _ in 0..15 {
        lab.sleep(20)?;
    }
    lab.run_until(|| guests.iter().all(|guest| guest.page(1).word(0) > 1))?;
    lab.run_until(|| counter.word(0) > 1)?;
    for guest in guests {
        let state = guest.thread.tcb.read_registers(&mut lab.ipc)?;
        ensure_eq!("the mode of a preempted guest", state.spsr & 0x1f, 5);
    }
    Ok(())
}

/// Fix 10.
pub fn aarch32_programs_of_a_guest_stay_aarch32(lab: &mut Lab) -> Result {
    let kernel = program!(
        "ldr x9, =0x40001000",
        "msr vbar_el1, x9",
        "mov x9, #0x1d0", // AArch32 user mode
        "msr spsr_el1, x9",
        "ldr x9, =0x40002000",
        "msr elr_el1, x9",
        "ldr x1, =0x40003000",
        "eret",
    );
    // In A32: counts at r1 for ever; then svc #5
    let user = program!(
        ".inst 0xe5910000", // 1: ldr r0, [r1]
        ".inst 0xe2800001", // add r0, r0, #1
        ".inst 0xe5810000", // str r0, [r1]
        ".inst 0xeafffffb", // b 1b
        ".inst 0xef000005", // svc #5
    );
    let handler = program!("mrs x2, esr_el1", "hvc #7");
    let guest = lab.guest()?;
    guest.load(0, kernel);
    guest.load(0x1600, handler);
    guest.load(0x2000, user);
    guest.start(lab, &[])?;
    // Another guest, so that the processor is really given away.
    lab.run_guest(program!("b ."), &[])?;
    lab.sleep(60)?;
    lab.run_until(|| guest.page(3).word(0) > 100)?;
    guest.thread.tcb.suspend(&mut lab.ipc)?;
    let mut registers = guest.thread.tcb.read_registers(&mut lab.ipc)?;
    ensure_eq!("the mode", registers.spsr & 0x1f, 0x10);
    registers.pc = RAM + 0x2010;
    guest.thread.tcb.write_registers(&mut lab.ipc, registers, true)?;
    // SVC in AArch32
    ensure_eq!("ESR_EL1", lab.hvc_of(guest, 7)?.x[2], 0x11 << 26 | 1 << 25 | 5);
    Ok(())
}

pub fn running_guests_can_be_deleted(lab: &mut Lab) -> Result {
    for round in 0..20 {
        let spinning = lab.run_guest(program!("hvc #1", "1: add x0, x0, #1", "b 1b"), &[])?;
        lab.hvc_of(spinning, 1)?;
        spinning.go_on(lab, 0)?;
        let other = lab.run_guest(program!("hvc #2", "b ."), &[])?;
        lab.hvc_of(other, 2)?;
        other.go_on(lab, 0)?;
        lab.sleep(1)?;
        // In each way once: by its VCPU, its thread, its address space, or all at once.
        let first = match round % 4 {
            0 => Some(spinning.vcpu.0),
            1 => Some(spinning.thread.tcb.0),
            2 => Some(spinning.vspace.0),
            _ => None,
        };
        if let Some(cap) = first {
            slot_of(cap.0).delete(&mut lab.ipc)?;
        }
        lab.clean()?;
    }
    Ok(())
}

pub fn a_vcpu_moves_to_another_thread(lab: &mut Lab) -> Result {
    let program = program!("mrs x0, currentel", "hvc #1", "b .");
    let (one, two) = (lab.run_guest(program, &[])?, lab.guest()?);
    two.load(0, program);
    lab.hvc_of(one, 1)?;
    one.vcpu.write(&mut lab.ipc, VcpuRegister::Tpidr, 0x1234)?;
    one.vcpu.set_tcb(&mut lab.ipc, two.thread.tcb)?;
    two.start(lab, &[])?;
    ensure_eq!("CurrentEL", lab.hvc_of(two, 1)?.x[0], 1 << 2);
    ensure_eq!("TPIDR_EL1", one.vcpu.read(&mut lab.ipc, VcpuRegister::Tpidr)?, 0x1234);
    // The first is a native thread now, for which CurrentEL is undefined.
    one.start(lab, &[])?;
    let fault = lab.fault_of(one.thread)?;
    ensure!(matches!(fault, Fault::UserException { .. }), "the thread stopped by {fault:#x?}");
    Ok(())
}

pub fn calls_of_a_vcpu_with_bad_arguments_are_refused(lab: &mut Lab) -> Result {
    let guest = lab.guest()?;
    let vcpu = guest.vcpu;
    for (words, what) in [
        ((1024, 0, 0, 0), "an interrupt beyond 1023"),
        ((40, 32, 0, 0), "a priority beyond 31"),
        ((40, 0, 2, 0), "a third group"),
        ((40, 0, 0, 64), "a list register beyond the last"),
    ] {
        let (virq, priority, group, index) = words;
        let done = vcpu.inject_irq(&mut lab.ipc, virq, priority, group, index);
        ensure_eq!(what, done, Err(Error::RangeError));
    }
    vcpu.inject_irq(&mut lab.ipc, 40, 0, 0, 0)?;
    let again = vcpu.inject_irq(&mut lab.ipc, 41, 0, 0, 0);
    ensure_eq!("a list register in use", again, Err(Error::DeleteFirst));
    let other = vcpu.acknowledge_vppi(&mut lab.ipc, 26);
    ensure_eq!("another interrupt's acknowledgement", other, Err(Error::InvalidArgument));
    let endpoint = lab.make(Object::Endpoint)?;
    let no_thread = vcpu.set_tcb(&mut lab.ipc, Tcb::at(endpoint));
    ensure_eq!("an endpoint for a thread", no_thread, Err(Error::InvalidCapability));
    Ok(())
}
