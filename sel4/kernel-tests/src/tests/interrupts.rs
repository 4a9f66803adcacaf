//! Interrupts of guests: injected ones, and those of their own timer.

use crate::failure::{Result, ensure, ensure_eq, fail};
use crate::guest::Guest;
use crate::lab::{Lab, MILLISECOND, now};
use crate::program::program;
use koskit_abi::{Error, Fault, VcpuRegister};

/// The virtual timer's interrupt.
const TIMER: u64 = 27;

/// A guest with an interrupt controller: switches it on (HVC 1), then waits for interrupts. For
/// each, HVC 2 with its number in x11, then HVC 3 when it has ended.
fn interruptible(lab: &mut Lab) -> Result<Guest> {
    let program = program!(
        "ldr x2, =0x08010000",
        "mov w0, #1",
        "str w0, [x2]", // GICC_CTLR: on
        "mov w0, #0xff",
        "str w0, [x2, #4]", // GICC_PMR: all priorities
        "ldr x1, =0x40001000",
        "msr vbar_el1, x1",
        "isb",
        "msr daifclr, #2",
        "hvc #1",
        "1: cbz x10, 1b",
        "mov x10, #0",
        "hvc #3",
        "b 1b",
    );
    let handler = program!(
        "ldr w11, [x2, #0xc]", // GICC_IAR
        "hvc #2",
        "msr cntv_ctl_el0, xzr",
        "str w11, [x2, #0x10]", // GICC_EOIR
        "mov x10, #1",
        "eret",
    );
    let guest = lab.guest()?;
    guest.load(0, program);
    guest.load(0x1280, handler);
    Ok(guest)
}

/// Waits for the notice that the guest has ended an interrupt.
fn maintenance_of(lab: &mut Lab, guest: Guest) -> Result<Option<u8>> {
    match lab.fault_of(guest.thread)? {
        Fault::VgicMaintenance { index } => Ok(index),
        other => fail!("the guest stopped by {other:#x?} instead of ending its interrupt"),
    }
}

pub fn an_injected_interrupt_arrives_and_its_end_is_told(lab: &mut Lab) -> Result {
    let guest = interruptible(lab)?;
    lab.map_gicv(&[guest])?;
    guest.start(lab, &[])?;
    lab.hvc_of(guest, 1)?;
    for (virq, index) in [(42, 0), (99, 3), (1019, 1)] {
        guest.vcpu.inject_irq(&mut lab.ipc, virq, 0, 0, index)?;
        let busy = guest.vcpu.inject_irq(&mut lab.ipc, 43, 0, 0, index);
        ensure_eq!("a list register that is in use", busy, Err(Error::DeleteFirst));
        guest.go_on(lab, 0)?;
        ensure_eq!("the interrupt", lab.hvc_of(guest, 2)?.x[11], u64::from(virq));
        guest.go_on(lab, 0)?;
        ensure_eq!("the list register", maintenance_of(lab, guest)?, Some(index));
        guest.go_on(lab, 0)?;
        lab.hvc_of(guest, 3)?;
    }
    Ok(())
}

/// Fix 9.
pub fn a_list_register_is_free_when_the_guest_has_ended_its_interrupt(lab: &mut Lab) -> Result {
    let (guest, other) = (interruptible(lab)?, interruptible(lab)?);
    lab.map_gicv(&[guest, other])?;
    for guest in [guest, other] {
        guest.start(lab, &[])?;
        lab.hvc_of(guest, 1)?;
    }
    // Into the VCPU that is loaded, and into one that is not.
    for _ in 0..3 {
        for guest in [guest, other] {
            guest.vcpu.inject_irq(&mut lab.ipc, 50, 0, 0, 2)?;
        }
        for guest in [guest, other] {
            guest.go_on(lab, 0)?;
            ensure_eq!("the interrupt", lab.hvc_of(guest, 2)?.x[11], 50);
            guest.go_on(lab, 0)?;
            ensure_eq!("the list register", maintenance_of(lab, guest)?, Some(2));
            guest.go_on(lab, 0)?;
            lab.hvc_of(guest, 3)?;
        }
    }
    Ok(())
}

/// Fix 3: such a notice stopped whoever ran.
pub fn an_ended_interrupt_concerns_its_guest_only(lab: &mut Lab) -> Result {
    let guest = interruptible(lab)?;
    lab.map_gicv(&[guest])?;
    guest.start(lab, &[])?;
    lab.hvc_of(guest, 1)?;
    let page = lab.page()?;
    lab.run(
        program!("1: ldr x1, [x0]", "add x1, x1, #1", "str x1, [x0]", "b 1b"),
        &[page.address],
    )?;
    for _ in 0..10 {
        guest.vcpu.inject_irq(&mut lab.ipc, 60, 0, 0, 0)?;
        guest.go_on(lab, 0)?;
        lab.hvc_of(guest, 2)?;
        lab.sleep(2)?;
        guest.go_on(lab, 0)?;
        maintenance_of(lab, guest)?;
        // The guest has not been told; natives run on.
        lab.sleep(2)?;
        guest.go_on(lab, 0)?;
        lab.hvc_of(guest, 3)?;
    }
    lab.run_until(|| page.word(0) > 0)
}

fn vppi_of(lab: &mut Lab, guest: Guest) -> Result {
    match lab.fault_of(guest.thread)? {
        Fault::Vppi { irq } => {
            ensure_eq!("the interrupt", irq, TIMER);
            Ok(())
        }
        other => fail!("the guest stopped by {other:#x?}"),
    }
}

pub fn a_guests_timer_goes_all_the_way(lab: &mut Lab) -> Result {
    let guest = interruptible(lab)?;
    lab.map_gicv(&[guest])?;
    guest.start(lab, &[])?;
    lab.hvc_of(guest, 1)?;
    for _ in 0..5 {
        let due = now() + 2 * MILLISECOND;
        guest.vcpu.write(&mut lab.ipc, VcpuRegister::CntvCval, due)?;
        guest.vcpu.write(&mut lab.ipc, VcpuRegister::CntvCtl, 1)?;
        guest.go_on(lab, 0)?;
        vppi_of(lab, guest)?;
        ensure!(now() >= due, "the timer fired too early");
        guest.vcpu.inject_irq(&mut lab.ipc, TIMER as u16, 0, 0, 0)?;
        guest.go_on(lab, 0)?;
        ensure_eq!("the interrupt", lab.hvc_of(guest, 2)?.x[11], TIMER);
        guest.go_on(lab, 0)?;
        maintenance_of(lab, guest)?;
        guest.vcpu.acknowledge_vppi(&mut lab.ipc, TIMER)?;
        guest.go_on(lab, 0)?;
        lab.hvc_of(guest, 3)?;
    }
    Ok(())
}

/// Fix 2: the interrupt's mask was one for all.
pub fn each_guest_has_its_own_timer(lab: &mut Lab) -> Result {
    // Both spin with their interrupts masked.
    let program = program!("1: add x9, x9, #1", "b 1b");
    let (one, two) = (lab.run_guest(program, &[])?, lab.run_guest(program, &[])?);
    lab.sleep(1)?;
    for register in [(VcpuRegister::CntvCval, 0), (VcpuRegister::CntvCtl, 1)] {
        one.vcpu.write(&mut lab.ipc, register.0, register.1)?;
    }
    vppi_of(lab, one)?;
    // The first is not acknowledged: it runs on without another.
    one.go_on(lab, 0)?;
    lab.sleep(30)?;
    for register in [(VcpuRegister::CntvCval, 0), (VcpuRegister::CntvCtl, 1)] {
        two.vcpu.write(&mut lab.ipc, register.0, register.1)?;
    }
    vppi_of(lab, two)?;
    two.go_on(lab, 0)?;
    lab.sleep(30)?;
    // The interrupt is level-triggered, and still asserted.
    one.vcpu.acknowledge_vppi(&mut lab.ipc, TIMER)?;
    vppi_of(lab, one)?;
    two.vcpu.acknowledge_vppi(&mut lab.ipc, TIMER)?;
    vppi_of(lab, two)?;
    Ok(())
}

pub fn a_timer_waits_for_its_guest(lab: &mut Lab) -> Result {
    let program = program!(
        "mrs x1, cntvct_el0",
        "add x1, x1, x0",
        "msr cntv_cval_el0, x1",
        "mov x1, #1",
        "msr cntv_ctl_el0, x1",
        "hvc #1",
        "1: b 1b",
    );
    let guest = lab.run_guest(program, &[MILLISECOND])?;
    lab.hvc_of(guest, 1)?;
    // It is due, but its guest does not run.
    lab.sleep(5)?;
    guest.go_on(lab, 0)?;
    vppi_of(lab, guest)
}

/// Fix 1, the other way round: our own timer goes on while a guest runs, whatever it masks.
pub fn a_guest_cannot_keep_its_monitor_from_running(lab: &mut Lab) -> Result {
    let spinning = program!("msr daifset, #15", "msr cntv_ctl_el0, xzr", "1: b 1b");
    lab.run_guest(spinning, &[])?;
    for milliseconds in [1, 3, 10] {
        let until = now() + milliseconds * MILLISECOND;
        lab.sleep(milliseconds)?;
        ensure!(now() >= until, "the timer fired too early");
    }
    Ok(())
}

pub fn an_offset_of_the_virtual_counter_is_its_guests_own(lab: &mut Lab) -> Result {
    let program = program!("1: mrs x0, cntvct_el0", "mrs x1, cntpct_el0", "hvc #1", "b 1b");
    let guest = lab.guest()?;
    let offset = 1 << 40;
    guest.load(0, program);
    guest.vcpu.write(&mut lab.ipc, VcpuRegister::CntvOff, offset)?;
    guest.start(lab, &[])?;
    let x = lab.hvc_of(guest, 1)?.x;
    // Both are read one after the other, in far less than a second.
    let behind = x[1].wrapping_sub(x[0]);
    ensure!(behind.wrapping_sub(offset) < 1000 * MILLISECOND, "the offset is {behind:#x}");
    let native = program!("mrs x0, cntvct_el0", "mrs x1, cntpct_el0", "mov x7, #0x1000", "svc #0");
    let x = lab.outcome(native, &[])?.x;
    ensure!(x[1].wrapping_sub(x[0]) < 1000 * MILLISECOND, "a thread reads {x:x?}");
    Ok(())
}
