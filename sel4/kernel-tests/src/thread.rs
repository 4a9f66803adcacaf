//! Threads at EL0, in our own address space and CSpace.

use crate::failure::{Result, ensure_eq, fail};
use crate::lab::{CNODE, Lab, TCB, VSPACE, slot_of};
use crate::program::Program;
use koskit_abi::{CNodeGuard, Fault, Object, Registers, Rights, Space, Tcb};

/// Priority of threads; ours is 255.
pub const PRIORITY: u8 = 100;

/// A thread, or a guest's virtual CPU.
#[derive(Clone, Copy)]
pub struct Thread {
    pub tcb: Tcb,
    /// Badge of its faults.
    pub number: u64,
    /// Address of its IPC buffer; 0 where it has none.
    pub buffer: u64,
}

/// What a thread says by a system call that seL4 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// x0 to x7; x7 is the number of the call.
    pub x: [u64; 8],
    /// Address of the call.
    pub pc: u64,
    /// Program status.
    pub spsr: u64,
}

impl Lab {
    /// A thread that does not run yet.
    pub fn thread(&mut self) -> Result<Thread> {
        let tcb = Tcb::at(self.make(Object::Tcb)?);
        let (number, fault_endpoint) = self.fault_cap()?;
        let buffer = self.page()?;
        let guard = CNodeGuard { bits: 0, size: 64 - self.cnode_bits() };
        let space = Space { fault_endpoint, cspace: CNODE, guard, vspace: VSPACE };
        tcb.configure(&mut self.ipc, space, buffer.address, buffer.frame)?;
        tcb.set_priority(&mut self.ipc, TCB, PRIORITY)?;
        Ok(Thread { tcb, number, buffer: buffer.address })
    }

    /// A new number, and a capability to the fault endpoint that has it as its badge.
    pub(crate) fn fault_cap(&mut self) -> Result<(u64, u64)> {
        let endpoint = self.fault_endpoint()?;
        let number = self.next_thread;
        self.next_thread += 1;
        let to = self.slot();
        let from = slot_of(endpoint.0.0);
        slot_of(to).mint_badged(&mut self.ipc, from, Rights::ALL, number)?;
        Ok((number, to))
    }

    /// A thread that runs a program with the first registers set.
    pub fn run(&mut self, program: Program, arguments: &[u64]) -> Result<Thread> {
        let thread = self.thread()?;
        thread.start(self, program, arguments)?;
        Ok(thread)
    }

    /// Waits until a certain thread stops. That another one does is a failure.
    pub fn fault_of(&mut self, thread: Thread) -> Result<Fault> {
        let (number, fault) = self.any_fault()?;
        ensure_eq!(format_args!("the thread that stopped by {fault:#x?}"), number, thread.number);
        Ok(fault)
    }

    /// Waits until some thread stops; returns its number.
    pub fn any_fault(&mut self) -> Result<(u64, Fault)> {
        let endpoint = self.fault_endpoint()?;
        let (info, badge) = self.receive(endpoint)?;
        match Fault::decode(info, &self.ipc) {
            Some(fault) => Ok((badge, fault)),
            None => fail!("thread {badge} sent {info:?}, which is no fault"),
        }
    }

    /// Waits for a thread's report. That anything else happens is a failure.
    pub fn report_of(&mut self, thread: Thread) -> Result<Report> {
        match self.fault_of(thread)? {
            Fault::UnknownSyscall { pc, number } => {
                let mut x = [0; 8];
                for (index, x) in x.iter_mut().enumerate() {
                    *x = self.ipc.word(index);
                }
                ensure_eq!("the number of the call in the message", number, x[7]);
                Ok(Report { x, pc, spsr: self.ipc.word(11) })
            }
            other => fail!("the thread stopped by {other:#x?}"),
        }
    }

    /// Runs a program to its report, and deletes the thread.
    pub fn outcome(&mut self, program: Program, arguments: &[u64]) -> Result<Report> {
        let thread = self.run(program, arguments)?;
        let report = self.report_of(thread)?;
        slot_of(thread.tcb.0.0).delete(&mut self.ipc)?;
        Ok(report)
    }
}

impl Thread {
    /// Lets the thread run a program with the first registers set.
    pub fn start(self, lab: &mut Lab, program: Program, arguments: &[u64]) -> Result {
        let mut registers = Registers { pc: program.begin, ..Registers::default() };
        registers.x[..arguments.len()].copy_from_slice(arguments);
        Ok(self.tcb.write_registers(&mut lab.ipc, registers, true)?)
    }

    /// Lets a thread that stopped go on, `skip` bytes further.
    pub fn go_on(self, lab: &mut Lab, skip: u64) -> Result {
        let mut registers = self.tcb.read_registers(&mut lab.ipc)?;
        registers.pc += skip;
        Ok(self.tcb.write_registers(&mut lab.ipc, registers, true)?)
    }

    /// Sets where the thread receives a capability: a slot of our CNode.
    pub fn receive_to(self, slot: u64) {
        // The last three words of an IPC buffer (koskit_abi::ipc).
        for (index, word) in [(125, CNODE.0.0), (126, slot), (127, 64)] {
            // SAFETY: the thread's buffer is mapped in our address space, too.
            unsafe { ((self.buffer + index * 8) as *mut u64).write_volatile(word) }
        }
    }
}
