//! Guests: threads with a VCPU, each with an address space and a CSpace of its own.

use crate::failure::{Result, ensure_eq, fail};
use crate::lab::{ASID_POOL, CNODE, Lab, Page, TCB, VSPACE, slot_of};
use crate::program::Program;
use crate::thread::{PRIORITY, Thread};
use koskit_abi::{
    Attributes, CNode, CNodeGuard, Fault, Frame, Object, Registers, Rights, Slot, Space, Tcb,
    VSpace, Vcpu,
};

/// Where a guest's memory begins, as it sees it.
pub const RAM: u64 = 0x4000_0000;
/// Pages of it.
pub const PAGES: u64 = 8;
/// Where a guest finds its interrupt controller's CPU interface.
pub const GICC: u64 = 0x801_0000;
/// Physical address of the virtual CPU interface, 8 KiB.
const GICV: u64 = 0x804_0000;

/// EL1 with its own stack pointer, all interrupts masked.
pub const SPSR_EL1: u64 = 0x3c5;
/// Exception classes (ESR, bits 31 to 26).
pub const CLASS_WFI: u64 = 0x01;
pub const CLASS_HVC: u64 = 0x16;
pub const CLASS_SMC: u64 = 0x17;
pub const CLASS_REGISTER: u64 = 0x18;

/// log2 of the slots of a guest's CNode. In slot 1 is the endpoint of its faults.
const CNODE_BITS: u32 = 4;
const FAULT_SLOT: u64 = 1;

/// A guest.
#[derive(Clone, Copy)]
pub struct Guest {
    pub thread: Thread,
    pub vcpu: Vcpu,
    pub vspace: VSpace,
    /// Its memory's frames, in a row of slots, as they are mapped in our address space.
    frames: u64,
    /// The same frames' capabilities as they are mapped in the guest's.
    pub guest_frames: u64,
    /// Address of its memory in our address space.
    memory: u64,
}

impl Lab {
    /// A guest with empty memory that does not run yet.
    pub fn guest(&mut self) -> Result<Guest> {
        let vspace = VSpace::at(self.make(Object::VSpace)?);
        ASID_POOL.assign(&mut self.ipc, vspace)?;
        let (frames, guest_frames) = (self.slots_for(PAGES), self.slots_for(PAGES));
        self.memory().retype(&mut self.ipc, Object::SmallFrame, CNODE, frames, PAGES)?;
        let memory = self.addresses(PAGES);
        for page in 0..PAGES {
            let (ours, its) = (Frame::at(frames + page), Frame::at(guest_frames + page));
            slot_of(its.0.0).copy(&mut self.ipc, slot_of(ours.0.0), Rights::ALL)?;
            let (rights, attributes) = (Rights::READ_WRITE, Attributes::EXECUTE);
            self.map(VSPACE, ours, memory + page * 4096, rights, Attributes::DATA)?;
            self.map(vspace, its, RAM + page * 4096, rights, attributes)?;
        }

        let cspace = CNode::at(self.make(Object::CNode { bits: CNODE_BITS })?);
        let (number, faults) = self.fault_cap()?;
        let to = Slot { root: cspace, index: FAULT_SLOT, depth: CNODE_BITS };
        to.take(&mut self.ipc, slot_of(faults))?;
        let tcb = Tcb::at(self.make(Object::Tcb)?);
        let guard = CNodeGuard { bits: 0, size: 64 - CNODE_BITS };
        let space = Space { fault_endpoint: FAULT_SLOT, cspace, guard, vspace };
        tcb.configure(&mut self.ipc, space, 0, Frame::at(0))?;
        tcb.set_priority(&mut self.ipc, TCB, PRIORITY)?;
        let vcpu = Vcpu::at(self.make(Object::Vcpu)?);
        vcpu.set_tcb(&mut self.ipc, tcb)?;
        let thread = Thread { tcb, number, buffer: 0 };
        Ok(Guest { thread, vcpu, vspace, frames, guest_frames, memory })
    }

    /// A guest that runs a program at EL1 with its first registers set.
    pub fn run_guest(&mut self, program: Program, arguments: &[u64]) -> Result<Guest> {
        let guest = self.guest()?;
        guest.load(0, program);
        guest.start(self, arguments)?;
        Ok(guest)
    }

    /// Waits until a guest stops by an HVC of this number; returns its registers.
    pub fn hvc_of(&mut self, guest: Guest, number: u64) -> Result<Registers> {
        let syndrome = self.trap_of(guest)?;
        if syndrome >> 26 != CLASS_HVC {
            let pc = guest.thread.tcb.read_registers(&mut self.ipc)?.pc;
            fail!("the guest stopped at {pc:#x} by {syndrome:#x} instead of HVC {number}");
        }
        let registers = guest.thread.tcb.read_registers(&mut self.ipc)?;
        let is = syndrome & 0xffff;
        ensure_eq!(format_args!("the HVC (registers {:x?})", registers.x), is, number);
        Ok(registers)
    }

    /// Waits until a guest does something that its monitor must see to; returns the syndrome.
    pub fn trap_of(&mut self, guest: Guest) -> Result<u64> {
        match self.fault_of(guest.thread)? {
            Fault::Vcpu { syndrome } => Ok(syndrome),
            other => fail!("the guest stopped by {other:#x?}"),
        }
    }

    /// Gives guests the virtual CPU interface where they expect their own.
    pub fn map_gicv(&mut self, guests: &[Guest]) -> Result {
        let first = self.slots_for(2);
        let untyped = self.device_untyped(GICV);
        untyped.retype(&mut self.ipc, Object::SmallFrame, CNODE, first, 2)?;
        for guest in guests {
            for page in 0..2 {
                let frame = Frame::at(self.copy(Frame::at(first + page).0, Rights::ALL)?);
                let (address, rights) = (GICC + page * 4096, Rights::READ_WRITE);
                self.map(guest.vspace, frame, address, rights, Attributes::DEVICE)?;
            }
        }
        Ok(())
    }
}

impl Guest {
    /// Copies a program into its memory.
    pub fn load(self, offset: u64, program: Program) {
        assert!(offset % 4096 + program.bytes().len() as u64 <= 4096, "inside of a page");
        self.page(offset / 4096).write(offset % 4096, program.bytes());
    }

    /// Lets it run at EL1, from the beginning of its memory.
    pub fn start(self, lab: &mut Lab, arguments: &[u64]) -> Result {
        let mut registers = Registers { pc: RAM, spsr: SPSR_EL1, ..Registers::default() };
        registers.x[..arguments.len()].copy_from_slice(arguments);
        Ok(self.thread.tcb.write_registers(&mut lab.ipc, registers, true)?)
    }

    /// A page of its memory, as we see it.
    pub fn page(self, index: u64) -> Page {
        assert!(index < PAGES, "inside of its memory");
        Page { frame: Frame::at(self.frames + index), address: self.memory + index * 4096 }
    }

    /// Lets it go on, `skip` bytes further: 4 for all that traps but HVC.
    pub fn go_on(self, lab: &mut Lab, skip: u64) -> Result {
        self.thread.go_on(lab, skip)
    }
}
