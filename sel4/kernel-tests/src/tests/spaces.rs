//! Address spaces are apart, and the TLB does not confuse them.

use crate::failure::{Result, ensure, ensure_eq};
use crate::guest::{Guest, PAGES, RAM};
use crate::lab::{ASID_POOL, Lab, VSPACE, slot_of};
use crate::program::{Program, program};
use koskit_abi::{Attributes, Frame, Object, Rights, VSpace};

/// Reads the word at x1 for ever and compares it with x0; counts rounds at x2.
fn watcher() -> Program {
    program!(
        "1: ldr x3, [x1]",
        "cmp x3, x0",
        "b.ne 2f",
        "ldr x4, [x2]",
        "add x4, x4, #1",
        "str x4, [x2]",
        "b 1b",
        "2: hvc #9",
    )
}

/// A guest that watches a word in its own memory.
fn watching(lab: &mut Lab, value: u64) -> Result<Guest> {
    let guest = lab.guest()?;
    guest.load(0, watcher());
    guest.page(3).set_word(0, value);
    guest.start(lab, &[value, RAM + 0x3000, RAM + 0x5000])?;
    Ok(guest)
}

fn rounds(guest: Guest) -> u64 {
    guest.page(5).word(0)
}

/// VMIDs are the lower 8 bits of ASIDs: 256 address spaces further on, two have the same.
pub fn address_spaces_that_share_a_vmid_stay_apart(lab: &mut Lab) -> Result {
    let one = watching(lab, 111)?;
    for _ in 1..256 {
        let vspace = VSpace::at(lab.make(Object::VSpace)?);
        ASID_POOL.assign(&mut lab.ipc, vspace)?;
    }
    let two = watching(lab, 222)?;
    for _ in 0..10 {
        let before = (rounds(one), rounds(two));
        lab.run_until(|| rounds(one) > before.0 && rounds(two) > before.1)?;
    }
    Ok(())
}

/// The first free ASID is taken again at once.
pub fn an_address_space_with_a_used_asid_sees_its_own_pages(lab: &mut Lab) -> Result {
    for value in 1..=5 {
        let guest = watching(lab, value)?;
        lab.run_until(|| rounds(guest) > 10)?;
        // The thread holds a copy.
        slot_of(guest.vspace.0.0).revoke(&mut lab.ipc)?;
        slot_of(guest.vspace.0.0).delete(&mut lab.ipc)?;
        // Its thread has no address space now, and stops where it is.
        let before = rounds(guest);
        lab.any_fault()?;
        lab.sleep(2)?;
        ensure_eq!("rounds without an address space", rounds(guest), before);
    }
    Ok(())
}

pub fn a_page_is_shared_by_all_who_map_it(lab: &mut Lab) -> Result {
    let (one, two) = (watching(lab, 1)?, watching(lab, 2)?);
    // The second's counter page becomes the first's.
    let page = Frame::at(lab.copy(one.page(5).frame.0, Rights::ALL)?);
    Frame::at(two.guest_frames + 5).unmap(&mut lab.ipc)?;
    lab.map(two.vspace, page, RAM + 0x5000, Rights::READ_WRITE, Attributes::DATA)?;
    one.thread.tcb.suspend(&mut lab.ipc)?;
    let before = (rounds(one), rounds(two));
    lab.run_until(|| rounds(one) > before.0)?;
    ensure_eq!("what the second does to its old page", rounds(two), before.1);
    Ok(())
}

pub fn a_deleted_frame_is_gone_from_every_address_space(lab: &mut Lab) -> Result {
    let guest = watching(lab, 7)?;
    lab.run_until(|| rounds(guest) > 0)?;
    // All capabilities to its frames are copies of ours.
    for page in 0..PAGES {
        slot_of(guest.page(page).frame.0.0).revoke(&mut lab.ipc)?;
    }
    let (number, fault) = lab.any_fault()?;
    ensure!(
        matches!(fault, koskit_abi::Fault::Vm { address, .. } if address & !0xfff == RAM
            || address & !0xfff == RAM + 0x3000 || address & !0xfff == RAM + 0x5000),
        "the guest stopped by {fault:#x?}"
    );
    ensure_eq!("the thread that stopped", number, guest.thread.number);
    Ok(())
}

/// Patch 05: the kernel must not use user level's addresses.
pub fn flushing_works_on_frames_of_any_address_space(lab: &mut Lab) -> Result {
    let guest = lab.guest()?;
    for page in 0..PAGES {
        Frame::at(guest.guest_frames + page).unify_instructions(&mut lab.ipc, 0, 4096)?;
    }
    let own = lab.page()?;
    own.frame.unify_instructions(&mut lab.ipc, 64, 128)?;
    let unaligned = own.frame.unify_instructions(&mut lab.ipc, 1, 3);
    ensure!(unaligned.is_ok(), "part of a line: {unaligned:?}");
    let beyond = own.frame.unify_instructions(&mut lab.ipc, 4096, 8192);
    ensure!(beyond.is_err(), "beyond the page's end: {beyond:?}");
    let backwards = own.frame.unify_instructions(&mut lab.ipc, 64, 64);
    ensure!(backwards.is_err(), "an empty range: {backwards:?}");
    // A device, which is in no cache.
    let gicv = lab.device(0x804_0000)?;
    let address = lab.addresses(1);
    lab.map(VSPACE, gicv, address, Rights::READ_WRITE, Attributes::DEVICE)?;
    gicv.unify_instructions(&mut lab.ipc, 0, 4096)?;
    let unmapped = Frame::at(lab.make(Object::SmallFrame)?);
    let refused = unmapped.unify_instructions(&mut lab.ipc, 0, 4096);
    ensure!(refused.is_err(), "a frame that is mapped nowhere: {refused:?}");
    Ok(())
}
