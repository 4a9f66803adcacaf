//! What the kernel tells of a thread that stopped.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::lab::{Lab, VSPACE};
use crate::program::program;
use koskit_abi::{Attributes, Fault, Frame, MessageInfo, Object, Rights};

pub fn an_access_to_nothing_is_told_with_its_address(lab: &mut Lab) -> Result {
    let nowhere = lab.addresses(1);
    let far = 0xf_ffff_f000;
    let program = program!("ldrb w1, [x0]", "strh w1, [x0]", "br x0");
    for address in [nowhere + 8, 0, far] {
        let thread = lab.run(program, &[address])?;
        for (index, (write, fetch)) in
            [(0, false), (1 << 6, false), (0, true)].into_iter().enumerate()
        {
            match lab.fault_of(thread)? {
                Fault::Vm { pc, address: at, fetch: is_fetch, syndrome } => {
                    let instruction = program.begin + 4 * index as u64;
                    ensure_eq!("the instruction", pc, if fetch { address } else { instruction });
                    ensure_eq!("the address", at, address);
                    ensure_eq!("whether it is a fetch", is_fetch, fetch);
                    ensure_eq!(
                        "the exception class",
                        syndrome >> 26,
                        if fetch { 0x20 } else { 0x24 }
                    );
                    // A translation fault of any level
                    ensure_eq!("the fault status", syndrome & 0x3c, 0x04);
                    ensure!(fetch || syndrome & 1 << 6 == write, "ESR says {syndrome:#x}");
                }
                other => fail!("the thread stopped by {other:#x?}"),
            }
            thread.go_on(lab, 4)?;
        }
        // It has gone on into nowhere; that is its end.
        lab.fault_of(thread)?;
    }
    Ok(())
}

pub fn a_thread_goes_on_when_its_fault_is_answered(lab: &mut Lab) -> Result {
    let frame = Frame::at(lab.make(Object::SmallFrame)?);
    let address = lab.addresses(1);
    let program = program!("ldr x1, [x0]", "mov x7, #0x1000", "svc #0");
    let thread = lab.run(program, &[address, 9])?;
    let fault = lab.fault_of(thread)?;
    ensure!(matches!(fault, Fault::Vm { .. }), "the thread stopped by {fault:#x?}");
    // Mapping it would be a call of the kernel, which leaves the right to answer as it is.
    lab.map(VSPACE, frame, address, Rights::READ, Attributes::DATA)?;
    lab.ipc.reply(MessageInfo::new(0, 0));
    ensure_eq!("what it read", lab.report_of(thread)?.x[1], 0);
    Ok(())
}

pub fn an_unknown_system_call_is_told_with_its_registers(lab: &mut Lab) -> Result {
    let program = program!("svc #0", "svc #0");
    let mut arguments = [1, 2, 3, 4, 5, 6, 7, 0x1234];
    let thread = lab.run(program, &arguments)?;
    let report = lab.report_of(thread)?;
    ensure_eq!("x0 to x7", report.x, arguments);
    ensure_eq!("the address", report.pc, program.begin);

    // An answer sets registers: x0 to x7, then the address to go on.
    for (word, argument) in arguments.iter_mut().enumerate() {
        *argument += 100;
        lab.ipc.set_word(word, *argument);
    }
    lab.ipc.set_word(8, program.begin + 4);
    lab.ipc.reply(MessageInfo::new(0, 9));
    let report = lab.report_of(thread)?;
    ensure_eq!("x0 to x7 after the answer", report.x, arguments);
    ensure_eq!("the second address", report.pc, program.begin + 4);
    Ok(())
}

pub fn an_undefined_instruction_is_an_exception(lab: &mut Lab) -> Result {
    let program = program!(".inst 0x00000000", "mov x7, #0x1000", "svc #0");
    let thread = lab.run(program, &[])?;
    // Exception class 0: unknown
    let fault = lab.fault_of(thread)?;
    let Fault::UserException { pc, syndrome } = fault else {
        fail!("the thread stopped by {fault:#x?}");
    };
    ensure_eq!("the address", pc, program.begin);
    ensure_eq!("the exception class", syndrome >> 26, 0);
    thread.go_on(lab, 4)?;
    lab.report_of(thread)?;
    Ok(())
}

pub fn a_breakpoint_instruction_is_an_exception(lab: &mut Lab) -> Result {
    let program = program!("brk #7", "mov x7, #0x1000", "svc #0");
    let thread = lab.run(program, &[])?;
    let fault = lab.fault_of(thread)?;
    let Fault::UserException { pc, syndrome } = fault else {
        fail!("the thread stopped by {fault:#x?}");
    };
    ensure_eq!("the address", pc, program.begin);
    ensure_eq!("exception class and number", (syndrome >> 26, syndrome & 0xffff), (0x3c, 7));
    thread.go_on(lab, 4)?;
    lab.report_of(thread)?;
    Ok(())
}

pub fn an_invocation_of_nothing_is_a_fault(lab: &mut Lab) -> Result {
    let empty = lab.slot();
    let outside = 1 << 40;
    // Call and Recv
    for (number, target) in [(-1i64, outside), (-5, outside), (-5, empty)] {
        let program = program!("svc #0");
        let thread = lab.run(program, &[target, 0, 0, 0, 0, 0, 0, number as u64])?;
        match lab.fault_of(thread)? {
            Fault::Cap { pc, cap } => {
                ensure_eq!("the address", pc, program.begin);
                ensure_eq!("the capability", cap, target);
            }
            other => fail!("the thread stopped by {other:#x?}"),
        }
    }
    // A slot that is there but empty is no fault of a call; the answer says it.
    let program = program!("mov x7, #-1", "svc #0", "mov x7, #0x1000", "svc #0");
    let report = lab.outcome(program, &[empty])?;
    ensure_eq!("the answer's label", report.x[1] >> 12, 2);
    Ok(())
}
