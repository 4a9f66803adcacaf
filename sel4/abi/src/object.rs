//! Capabilities by the kind of object they name, and the invocations of each kind.
//!
//! Invocations take the calling thread's [`Ipc`], for that is how they are made: as messages
//! to the kernel. All of them fail with [`Error`](crate::Error) and change nothing then.

use crate::kernel::{self, label};
use crate::{Ipc, Result};

/// A capability: an address in the calling thread's CSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(pub u64);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub Cap);

        impl $name {
            /// The capability at this address of the calling thread's CSpace.
            pub const fn at(address: u64) -> Self {
                Self(Cap(address))
            }
        }
    )*};
}

kinds! {
    /// Memory of which objects are made.
    Untyped
    /// A table of slots for capabilities.
    CNode
    /// A thread.
    Tcb
    /// A meeting point for messages.
    Endpoint
    /// A word of bits that can be waited for.
    Notification
    /// The root of an address space.
    VSpace
    /// A page table below the root.
    Table
    /// Memory that can be mapped.
    Frame
    /// A set of address space identifiers.
    AsidPool
    /// The right to make [`AsidPool`]s.
    AsidControl
    /// The right to make [`IrqHandler`]s.
    IrqControl
    /// One interrupt.
    IrqHandler
    /// A virtual CPU, which lets a thread run at EL1.
    Vcpu
}

/// What an untyped can be made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Untyped memory of 2^`bits` bytes.
    Untyped {
        /// log2 of its bytes.
        bits: u32,
    },
    /// A thread.
    Tcb,
    /// An endpoint.
    Endpoint,
    /// A notification.
    Notification,
    /// A CNode of 2^`bits` slots.
    CNode {
        /// log2 of its slots.
        bits: u32,
    },
    /// The root of an address space.
    VSpace,
    /// A page table of a level: 0 is the last, of 4 KiB pages.
    Table {
        /// Its level: 0 spans 2 MiB, 1 spans 1 GiB, 2 spans 512 GiB.
        level: u32,
    },
    /// 4 KiB of memory.
    SmallFrame,
    /// 2 MiB of memory.
    LargeFrame,
    /// A virtual CPU.
    Vcpu,
}

impl Object {
    /// log2 of the bytes that one takes, and to which it is aligned.
    pub const fn size_bits(self) -> u32 {
        kernel::size_bits(self)
    }
}

/// What a capability allows; a mask when one is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Receive from it, or map it readable.
    pub read: bool,
    /// Send to it, or map it writable.
    pub write: bool,
    /// Send capabilities through it, or be answered.
    pub grant: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, grant: true };
    /// Nothing.
    pub const NONE: Self = Self { read: false, write: false, grant: false };
    /// Read only.
    pub const READ: Self = Self { read: true, write: false, grant: false };
    /// Read and write, without grant.
    pub const READ_WRITE: Self = Self { read: true, write: true, grant: false };
    /// What a client of an endpoint needs to call it: send, and be answered.
    pub const CALL: Self = Self { read: false, write: true, grant: true };
}

/// How a page is mapped; the same in all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Ordinary memory that may be executed.
    pub const EXECUTE: Self = Self(3);
    /// Ordinary memory that may not be executed.
    pub const DATA: Self = Self(3 | 4);
    /// Registers of a device: neither cached nor executed.
    pub const DEVICE: Self = Self(4);
}

/// Bits that an address must begin with, before a CNode's own bits are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CNodeGuard {
    /// Their value.
    pub bits: u64,
    /// How many.
    pub size: u32,
}

/// A slot: where a capability is or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The CNode where the search begins.
    pub root: CNode,
    /// The slot's address from there on.
    pub index: u64,
    /// How many bits that address has.
    pub depth: u32,
}

impl Slot {
    fn words(self) -> [u64; 2] {
        [self.index, u64::from(self.depth)]
    }

    /// Deletes the capability; the object goes with the last one.
    pub fn delete(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.root.0, label::CNodeDelete, &self.words(), &[])
    }

    /// Deletes everything that was derived from the capability: copies, badged ones, and for
    /// an untyped all objects made of it.
    pub fn revoke(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.root.0, label::CNodeRevoke, &self.words(), &[])
    }

    /// Copies a capability here, with fewer rights.
    pub fn copy(self, ipc: &mut Ipc, from: Slot, rights: Rights) -> Result<()> {
        let ([to, to_depth], [at, depth]) = (self.words(), from.words());
        let words = [to, to_depth, at, depth, kernel::encode_rights(rights)];
        ipc.invoke(self.root.0, label::CNodeCopy, &words, &[from.root.0])
    }

    /// Copies the capability to an endpoint or a notification here, with a badge.
    pub fn mint_badged(self, ipc: &mut Ipc, from: Slot, rights: Rights, badge: u64) -> Result<()> {
        self.mint(ipc, from, rights, kernel::encode_badge(badge))
    }

    /// Copies the capability to a CNode here, with a guard.
    pub fn mint_guarded(self, ipc: &mut Ipc, from: Slot, guard: CNodeGuard) -> Result<()> {
        self.mint(ipc, from, Rights::ALL, kernel::encode_guard(guard))
    }

    fn mint(self, ipc: &mut Ipc, from: Slot, rights: Rights, data: u64) -> Result<()> {
        let ([to, to_depth], [at, depth]) = (self.words(), from.words());
        let words = [to, to_depth, at, depth, kernel::encode_rights(rights), data];
        ipc.invoke(self.root.0, label::CNodeMint, &words, &[from.root.0])
    }

    /// Moves a capability here, with another guard where it has one. A capability that can have a
    /// badge stays where it is: [`Error::IllegalOperation`](crate::Error::IllegalOperation).
    pub fn take_guarded(self, ipc: &mut Ipc, from: Slot, guard: CNodeGuard) -> Result<()> {
        let ([to, to_depth], [at, depth]) = (self.words(), from.words());
        let words = [to, to_depth, at, depth, kernel::encode_guard(guard)];
        ipc.invoke(self.root.0, label::CNodeMutate, &words, &[from.root.0])
    }

    /// Moves a capability here.
    pub fn take(self, ipc: &mut Ipc, from: Slot) -> Result<()> {
        let ([to, to_depth], [at, depth]) = (self.words(), from.words());
        let words = [to, to_depth, at, depth];
        ipc.invoke(self.root.0, label::CNodeMove, &words, &[from.root.0])
    }

    /// Keeps here the right to answer the last message, so that another can be received.
    pub fn save_caller(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.root.0, label::CNodeSaveCaller, &self.words(), &[])
    }
}

impl Untyped {
    /// Most objects that one [`Untyped::retype`] makes.
    pub const RETYPE_MAX: u64 = 256;

    /// Makes `count` objects; their capabilities go to the slots of `into` from `first` on.
    pub fn retype(
        self,
        ipc: &mut Ipc,
        object: Object,
        into: CNode,
        first: u64,
        count: u64,
    ) -> Result<()> {
        let (kind, size) = kernel::object_type(object);
        // Depth 0: `into` is the CNode itself.
        let words = [kind, size, 0, 0, first, count];
        ipc.invoke(self.0, label::UntypedRetype, &words, &[into.0])
    }
}

/// What a thread runs with.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Address, in the thread's own CSpace, of the endpoint that its faults go to.
    pub fault_endpoint: u64,
    /// Root of its CSpace.
    pub cspace: CNode,
    /// Guard of that root.
    pub guard: CNodeGuard,
    /// Its address space.
    pub vspace: VSpace,
}

/// A thread's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the architecture's own names")]
pub struct Registers {
    pub pc: u64,
    pub sp: u64,
    pub spsr: u64,
    pub x: [u64; 31],
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
}

impl Tcb {
    /// Gives the thread its spaces, and its IPC buffer: `buffer`, mapped at `address`. At address
    /// 0 it has none, and `buffer` is not looked at.
    pub fn configure(self, ipc: &mut Ipc, space: Space, address: u64, buffer: Frame) -> Result<()> {
        let caps = [space.cspace.0, space.vspace.0, buffer.0];
        ipc.invoke(self.0, label::TCBConfigure, &kernel::configuration(space, address), &caps)
    }

    /// Gives the thread other spaces.
    pub fn set_space(self, ipc: &mut Ipc, space: Space) -> Result<()> {
        let caps = [space.cspace.0, space.vspace.0];
        ipc.invoke(self.0, label::TCBSetSpace, &kernel::spaces(space), &caps)
    }

    /// Sets the thread's priority, at most the maximum of the thread `authority`.
    pub fn set_priority(self, ipc: &mut Ipc, authority: Tcb, priority: u8) -> Result<()> {
        ipc.invoke(self.0, label::TCBSetPriority, &[u64::from(priority)], &[authority.0])
    }

    /// Sets the highest priority that the thread may give to threads.
    pub fn set_max_priority(self, ipc: &mut Ipc, authority: Tcb, priority: u8) -> Result<()> {
        ipc.invoke(self.0, label::TCBSetMCPriority, &[u64::from(priority)], &[authority.0])
    }

    /// Reads all registers of a thread that is not the calling one.
    pub fn read_registers(self, ipc: &mut Ipc) -> Result<Registers> {
        let words = [0, kernel::REGISTERS as u64];
        ipc.invoke(self.0, label::TCBReadRegisters, &words, &[])?;
        let mut registers = Registers::default();
        for index in 0..kernel::REGISTERS {
            if let Some(register) = kernel::register(&mut registers, index) {
                *register = ipc.word(index);
            }
        }
        Ok(registers)
    }

    /// Writes all registers of a thread, and lets it run if `resume` is set.
    pub fn write_registers(
        self,
        ipc: &mut Ipc,
        mut registers: Registers,
        resume: bool,
    ) -> Result<()> {
        let mut words = [0; 2 + kernel::REGISTERS];
        words[0] = u64::from(resume);
        words[1] = kernel::REGISTERS as u64;
        for index in 0..kernel::REGISTERS {
            if let Some(register) = kernel::register(&mut registers, index) {
                words[2 + index] = *register;
            }
        }
        ipc.invoke(self.0, label::TCBWriteRegisters, &words, &[])
    }

    /// Stops the thread.
    pub fn suspend(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.0, label::TCBSuspend, &[], &[])
    }

    /// Lets the thread run.
    pub fn resume(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.0, label::TCBResume, &[], &[])
    }

    /// Copies all registers of another thread, and lets this one run if `resume` is set.
    /// Neither may be the calling one.
    pub fn copy_registers(self, ipc: &mut Ipc, from: Tcb, resume: bool) -> Result<()> {
        let flags = u64::from(resume) << 1 | 1 << 2 | 1 << 3;
        ipc.invoke(self.0, label::TCBCopyRegisters, &[flags], &[from.0])
    }

    /// Lets notifications wake the thread where it waits for messages.
    pub fn bind_notification(self, ipc: &mut Ipc, notification: Notification) -> Result<()> {
        ipc.invoke(self.0, label::TCBBindNotification, &[], &[notification.0])
    }
}

impl Table {
    /// Puts a page table of a level, as in [`Object::Table`], into an address space.
    pub fn map(self, ipc: &mut Ipc, level: u32, vspace: VSpace, address: u64) -> Result<()> {
        let words = [address, Attributes::EXECUTE.0];
        ipc.invoke(self.0, kernel::table_map(level), &words, &[vspace.0])
    }

    /// Takes a page table out of its address space.
    pub fn unmap(self, ipc: &mut Ipc, level: u32) -> Result<()> {
        ipc.invoke(self.0, kernel::table_unmap(level), &[], &[])
    }
}

impl Frame {
    /// Maps the frame. One capability maps a frame once; copy it to map it elsewhere too.
    pub fn map(
        self,
        ipc: &mut Ipc,
        vspace: VSpace,
        address: u64,
        rights: Rights,
        attributes: Attributes,
    ) -> Result<()> {
        let words = [address, kernel::encode_rights(rights), attributes.0];
        ipc.invoke(self.0, label::ARMPageMap, &words, &[vspace.0])
    }

    /// Changes how the frame is mapped at the address where this capability mapped it.
    pub fn remap(
        self,
        ipc: &mut Ipc,
        vspace: VSpace,
        address: u64,
        rights: Rights,
        attributes: Attributes,
    ) -> Result<()> {
        let (label, words) = kernel::remapping(address, rights, attributes.0);
        ipc.invoke(self.0, label, &words, &[vspace.0])
    }

    /// Takes the frame out of the address space that this capability mapped it in.
    pub fn unmap(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.0, label::ARMPageUnmap, &[], &[])
    }

    /// Makes instructions written to the mapped frame visible to instruction fetches.
    pub fn unify_instructions(self, ipc: &mut Ipc, from: u64, to: u64) -> Result<()> {
        ipc.invoke(self.0, label::ARMPageUnify_Instruction, &[from, to], &[])
    }

    /// Physical address of the frame.
    pub fn address(self, ipc: &mut Ipc) -> Result<u64> {
        ipc.invoke(self.0, label::ARMPageGetAddress, &[], &[])?;
        Ok(ipc.word(0))
    }
}

impl AsidControl {
    /// Makes a pool out of an untyped of 4 KiB.
    pub fn make_pool(self, ipc: &mut Ipc, of: Untyped, to: Slot) -> Result<()> {
        let caps = [of.0, to.root.0];
        ipc.invoke(self.0, label::ARMASIDControlMakePool, &to.words(), &caps)
    }
}

impl AsidPool {
    /// Gives an address space an identifier, without which nothing can be mapped in it.
    pub fn assign(self, ipc: &mut Ipc, vspace: VSpace) -> Result<()> {
        ipc.invoke(self.0, label::ARMASIDPoolAssign, &[], &[vspace.0])
    }
}

impl IrqControl {
    /// Makes the handler of an interrupt.
    pub fn get(self, ipc: &mut Ipc, irq: u64, to: Slot) -> Result<()> {
        let [index, depth] = to.words();
        ipc.invoke(self.0, label::IRQIssueIRQHandler, &[irq, index, depth], &[to.root.0])
    }
}

impl IrqHandler {
    /// Lets the interrupt come again.
    pub fn acknowledge(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.0, label::IRQAckIRQ, &[], &[])
    }

    /// Has the interrupt signal a notification.
    pub fn set_notification(self, ipc: &mut Ipc, notification: Notification) -> Result<()> {
        ipc.invoke(self.0, label::IRQSetIRQHandler, &[], &[notification.0])
    }

    /// Has the interrupt signal nobody.
    pub fn clear(self, ipc: &mut Ipc) -> Result<()> {
        ipc.invoke(self.0, label::IRQClearIRQHandler, &[], &[])
    }
}

impl Vcpu {
    /// Makes the thread run on this virtual CPU.
    pub fn set_tcb(self, ipc: &mut Ipc, tcb: Tcb) -> Result<()> {
        ipc.invoke(self.0, label::ARMVCPUSetTCB, &[], &[tcb.0])
    }

    /// Makes interrupt `virq` pending in list register `index`.
    pub fn inject_irq(
        self,
        ipc: &mut Ipc,
        virq: u16,
        priority: u8,
        group: u8,
        index: u8,
    ) -> Result<()> {
        let words = kernel::encode_injection(virq, priority, group, index);
        ipc.invoke(self.0, label::ARMVCPUInjectIRQ, &words, &[])
    }

    /// Reads a register of the virtual CPU.
    pub fn read(self, ipc: &mut Ipc, register: VcpuRegister) -> Result<u64> {
        let words = [kernel::vcpu_register(register)];
        ipc.invoke(self.0, label::ARMVCPUReadReg, &words, &[])?;
        Ok(ipc.word(0))
    }

    /// Writes a register of the virtual CPU.
    pub fn write(self, ipc: &mut Ipc, register: VcpuRegister, value: u64) -> Result<()> {
        let words = [kernel::vcpu_register(register), value];
        ipc.invoke(self.0, label::ARMVCPUWriteReg, &words, &[])
    }

    /// Lets the virtual CPU's own interrupt `irq` come again, as a
    /// [`Fault::Vppi`](crate::Fault::Vppi): that of its virtual timer is 27.
    pub fn acknowledge_vppi(self, ipc: &mut Ipc, irq: u64) -> Result<()> {
        ipc.invoke(self.0, label::ARMVCPUAckVPPI, &[irq], &[])
    }
}

/// Registers of a virtual CPU that its thread's registers do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the architecture's own names")]
pub enum VcpuRegister {
    Sctlr,
    Ttbr0,
    Ttbr1,
    Tcr,
    Mair,
    Amair,
    ContextIdr,
    Actlr,
    Cpacr,
    Afsr0,
    Afsr1,
    Esr,
    Far,
    /// Cannot be written.
    Isr,
    Vbar,
    Tpidr,
    Sp,
    Elr,
    Spsr,
    CntvCtl,
    CntvCval,
    CntvOff,
    CntkCtl,
    Par,
    Csselr,
    Vmpidr,
}
