//! Untypeds, frames, page tables.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::lab::{CNODE, Lab, MEMORY_BITS, Page, VSPACE, slot_of};
use crate::program::{Program, program};
use crate::thread::Thread;
use koskit_abi::object::Untyped;
use koskit_abi::{Attributes, Error, Fault, Frame, Object, Rights, Table};

/// Where the boot archive lies: memory, though the kernel takes it for a device.
const ARCHIVE: u64 = 0x8000_0000;

/// Fault status codes (ESR, bits 5 to 0) of the last level.
const TRANSLATION: u64 = 0x07;
const PERMISSION: u64 = 0x0f;
/// ESR: the access was a write.
const WRITE: u64 = 1 << 6;

pub fn revoked_memory_can_be_used_again(lab: &mut Lab) -> Result {
    let memory = lab.memory();
    let count = 1 << (MEMORY_BITS - 21);
    let first = lab.slots_for(count + 1);
    for round in 1..=3 {
        memory.retype(&mut lab.ipc, Object::LargeFrame, CNODE, first, count)?;
        let more = memory.retype(&mut lab.ipc, Object::Endpoint, CNODE, first + count, 1);
        ensure_eq!(
            format_args!("one object too many, in round {round},"),
            more,
            Err(Error::NotEnoughMemory)
        );
        slot_of(memory.0.0).revoke(&mut lab.ipc)?;
    }
    let dead = Frame::at(first).address(&mut lab.ipc);
    ensure_eq!("the answer of a revoked frame", dead, Err(Error::InvalidCapability));

    // Objects of all kinds, and children of children.
    for _ in 0..20 {
        let part = Untyped::at(lab.make(Object::Untyped { bits: 18 })?);
        let kinds = [
            Object::Tcb,
            Object::Endpoint,
            Object::Notification,
            Object::CNode { bits: 8 },
            Object::VSpace,
            Object::Table { level: 0 },
            Object::Table { level: 1 },
            Object::Table { level: 2 },
            Object::SmallFrame,
            Object::Vcpu,
        ];
        for kind in kinds {
            let slot = lab.slot();
            part.retype(&mut lab.ipc, kind, CNODE, slot, 1)?;
        }
        slot_of(memory.0.0).revoke(&mut lab.ipc)?;
    }
    memory.retype(&mut lab.ipc, Object::LargeFrame, CNODE, first, count)?;
    Ok(())
}

pub fn new_memory_is_cleared(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    let physical = page.frame.address(&mut lab.ipc)?;
    for offset in (0..4096).step_by(8) {
        page.set_word(offset, !0);
    }
    lab.clean()?;
    let page = lab.page()?;
    ensure_eq!("the frame", page.frame.address(&mut lab.ipc)?, physical);
    for offset in (0..4096).step_by(8) {
        ensure_eq!(format_args!("the word at {offset}"), page.word(offset), 0);
    }
    Ok(())
}

fn archive_page(lab: &mut Lab) -> Result<Page> {
    let frame = lab.device(ARCHIVE)?;
    let address = lab.addresses(1);
    lab.map(VSPACE, frame, address, Rights::READ_WRITE, Attributes::DATA)?;
    Ok(Page { frame, address })
}

pub fn device_memory_is_not_cleared(lab: &mut Lab) -> Result {
    let page = archive_page(lab)?;
    let before = page.word(4088);
    page.set_word(4088, 0x1234_5678_9abc_def0);
    lab.clean()?;
    let page = archive_page(lab)?;
    ensure_eq!("the word", page.word(4088), 0x1234_5678_9abc_def0);
    page.set_word(4088, before);
    Ok(())
}

pub fn device_memory_cannot_become_kernel_objects(lab: &mut Lab) -> Result {
    let archive = lab.device_untyped(ARCHIVE);
    let slot = lab.slot();
    for object in [Object::Tcb, Object::CNode { bits: 4 }, Object::VSpace, Object::Vcpu] {
        let made = archive.retype(&mut lab.ipc, object, CNODE, slot, 1);
        ensure_eq!(format_args!("making {object:?}"), made, Err(Error::InvalidArgument));
    }
    Ok(())
}

pub fn a_frame_has_the_address_of_its_untyped(lab: &mut Lab) -> Result {
    let first = lab.slots_for(2);
    let archive = lab.device_untyped(ARCHIVE);
    archive.retype(&mut lab.ipc, Object::SmallFrame, CNODE, first, 2)?;
    ensure_eq!("the first", Frame::at(first).address(&mut lab.ipc)?, ARCHIVE);
    ensure_eq!("the second", Frame::at(first + 1).address(&mut lab.ipc)?, ARCHIVE + 4096);
    Ok(())
}

/// Reads x0, then writes it; reports after each.
fn read_then_write() -> Program {
    program!(
        "mov x7, #0x1000",
        "ldr x1, [x0, #24]",
        "svc #0",
        "str x1, [x0, #24]",
        "mov x7, #0x1001",
        "svc #0",
    )
}

/// A thread's fault on memory: address of the instruction, address, fetch, syndrome.
fn memory_fault(lab: &mut Lab, thread: Thread) -> Result<(u64, u64, bool, u64)> {
    match lab.fault_of(thread)? {
        Fault::Vm { pc, address, fetch, syndrome } => Ok((pc, address, fetch, syndrome)),
        other => fail!("the thread stopped by {other:#x?}"),
    }
}

pub fn a_read_only_page_cannot_be_written(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    page.set_word(24, 77);
    let copy = Frame::at(lab.copy(page.frame.0, Rights::READ)?);
    let address = lab.addresses(1);
    // What is asked for is more than what the capability has.
    lab.map(VSPACE, copy, address, Rights::READ_WRITE, Attributes::DATA)?;
    let program = read_then_write();
    let thread = lab.run(program, &[address])?;
    ensure_eq!("what is read", lab.report_of(thread)?.x[1], 77);
    thread.go_on(lab, 4)?;
    let (pc, at, fetch, syndrome) = memory_fault(lab, thread)?;
    ensure_eq!("the instruction", pc, program.begin + 12);
    ensure_eq!("the address", at, address + 24);
    ensure!(!fetch, "a write is told as a fetch");
    // Data abort of a lower level
    ensure_eq!("the exception class", syndrome >> 26, 0x24);
    ensure_eq!("the fault status", syndrome & (WRITE | 0x3f), WRITE | PERMISSION);
    ensure_eq!("the word after the attempt", page.word(24), 77);
    Ok(())
}

pub fn a_page_that_is_not_executable_cannot_be_executed(lab: &mut Lab) -> Result {
    let code = program!("mov x7, #0x1002", "svc #0");
    let jump = program!("br x0");
    let page = lab.page()?;
    page.write(0, code.bytes());
    page.frame.unify_instructions(&mut lab.ipc, 0, 4096)?;
    let thread = lab.run(jump, &[page.address])?;
    let (pc, address, fetch, syndrome) = memory_fault(lab, thread)?;
    ensure!(fetch, "a fetch is told as an access to data");
    ensure_eq!("the instruction and its address", (pc, address), (page.address, page.address));
    // Instruction abort of a lower level
    ensure_eq!("the exception class", syndrome >> 26, 0x20);
    ensure_eq!("the fault status", syndrome & 0x3f, PERMISSION);

    // The same page, executable
    page.frame.remap(&mut lab.ipc, VSPACE, page.address, Rights::READ, Attributes::EXECUTE)?;
    thread.go_on(lab, 0)?;
    ensure_eq!("the report", lab.report_of(thread)?.x[7], 0x1002);
    Ok(())
}

pub fn a_page_without_rights_cannot_be_read(lab: &mut Lab) -> Result {
    let none = Rights { read: false, write: false, grant: false };
    let frame = Frame::at(lab.make(Object::SmallFrame)?);
    let address = lab.addresses(1);
    // The kernel may refuse such a mapping; if it makes one, nothing can be read there.
    if lab.map(VSPACE, frame, address, none, Attributes::DATA).is_ok() {
        let thread = lab.run(read_then_write(), &[address])?;
        let (_, at, _, syndrome) = memory_fault(lab, thread)?;
        ensure_eq!("the address", at, address + 24);
        ensure!(syndrome & WRITE == 0, "a read is told as a write");
    }
    Ok(())
}

pub fn an_unmapped_page_cannot_be_read(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    let program = program!("mov x7, #0x1000", "1: ldr x1, [x0]", "svc #0", "b 1b");
    let thread = lab.run(program, &[page.address])?;
    lab.report_of(thread)?;
    page.frame.unmap(&mut lab.ipc)?;
    thread.go_on(lab, 4)?;
    let (_, address, _, syndrome) = memory_fault(lab, thread)?;
    ensure_eq!("the address", address, page.address);
    ensure_eq!("the fault status", syndrome & (WRITE | 0x3f), TRANSLATION);
    Ok(())
}

pub fn a_remapped_page_has_its_new_rights_at_once(lab: &mut Lab) -> Result {
    let page = lab.page()?;
    let program = program!("mov x7, #0x1000", "1: str x7, [x0]", "svc #0", "b 1b");
    let thread = lab.run(program, &[page.address])?;
    lab.report_of(thread)?;
    page.frame.remap(&mut lab.ipc, VSPACE, page.address, Rights::READ, Attributes::DATA)?;
    page.word(0);
    thread.go_on(lab, 4)?;
    let (_, address, _, syndrome) = memory_fault(lab, thread)?;
    ensure_eq!("the address", address, page.address);
    ensure_eq!("the fault status", syndrome & (WRITE | 0x3f), WRITE | PERMISSION);
    page.frame.remap(&mut lab.ipc, VSPACE, page.address, Rights::READ_WRITE, Attributes::DATA)?;
    thread.go_on(lab, 0)?;
    lab.report_of(thread)?;
    Ok(())
}

pub fn a_large_page_can_be_mapped(lab: &mut Lab) -> Result {
    let frame = Frame::at(lab.make(Object::LargeFrame)?);
    let address = 0x5000_0000;
    let odd = frame.map(&mut lab.ipc, VSPACE, address + 4096, Rights::READ, Attributes::DATA);
    ensure_eq!("mapping it at a small page", odd, Err(Error::AlignmentError));
    lab.map(VSPACE, frame, address, Rights::READ_WRITE, Attributes::DATA)?;
    let last = Page { frame, address: address + (2 << 20) - 4096 };
    last.set_word(4088, 5);
    ensure_eq!("the last word", last.word(4088), 5);
    ensure_eq!("another word", last.word(0), 0);
    Ok(())
}

/// Fix of kernel/patches/12: this wrote through a null pointer.
pub fn remapping_without_a_page_table_is_refused(lab: &mut Lab) -> Result {
    let address = 0x5000_0000;
    let frame = Frame::at(lab.make(Object::SmallFrame)?);
    lab.map(VSPACE, frame, 0x6000_0000, Rights::READ, Attributes::DATA)?;
    frame.unmap(&mut lab.ipc)?;
    // Directories are there now or are made here; the last table is ours to take away.
    let table = Table::at(lab.make(Object::Table { level: 0 })?);
    if table.map(&mut lab.ipc, 0, VSPACE, address) == Err(Error::FailedLookup) {
        let directory = Table::at(lab.make(Object::Table { level: 1 })?);
        directory.map(&mut lab.ipc, 1, VSPACE, address)?;
        table.map(&mut lab.ipc, 0, VSPACE, address)?;
    }
    frame.map(&mut lab.ipc, VSPACE, address, Rights::READ_WRITE, Attributes::DATA)?;
    table.unmap(&mut lab.ipc, 0)?;
    let refused = frame.remap(&mut lab.ipc, VSPACE, address, Rights::READ, Attributes::DATA);
    ensure_eq!("remapping", refused, Err(Error::FailedLookup));
    Ok(())
}
