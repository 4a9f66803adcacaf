//! Messages that the kernel sends to a thread's fault endpoint.

use crate::kernel::fault as label;
use crate::{Ipc, MessageInfo};

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It invoked an address of its CSpace at which there is no capability.
    Cap {
        /// Address of the instruction.
        pc: u64,
        /// What it invoked.
        cap: u64,
    },
    /// It made a system call that seL4 does not have.
    UnknownSyscall {
        /// Address of the instruction.
        pc: u64,
        /// The number in x7.
        number: u64,
    },
    /// It did something undefined: an instruction that does not exist, a breakpoint, …
    UserException {
        /// Address of the instruction.
        pc: u64,
        /// ESR: exception class in bits 26 to 31.
        syndrome: u64,
    },
    /// It touched an address where nothing is mapped that allows it.
    Vm {
        /// Address of the instruction.
        pc: u64,
        /// What it touched. For a guest: an intermediate physical address.
        address: u64,
        /// Whether it wanted to execute there.
        fetch: bool,
        /// ESR.
        syndrome: u64,
    },
    /// A guest is done with an interrupt.
    VgicMaintenance {
        /// The list register, if the kernel knows it.
        index: Option<u8>,
    },
    /// A guest did something that its monitor must see to.
    Vcpu {
        /// ESR.
        syndrome: u64,
    },
    /// A guest's own timer went off.
    Vppi {
        /// Number of the interrupt.
        irq: u64,
    },
}

impl Fault {
    /// Decodes a message that came through a fault endpoint; `None` where it is none. Words
    /// above the message's length are those of an older message, perhaps of somebody else, and
    /// are never looked at.
    pub fn decode(info: MessageInfo, ipc: &Ipc) -> Option<Self> {
        let word = |index| (index < info.length).then(|| ipc.word(index));
        Some(match info.label {
            label::CAP => Self::Cap { pc: word(0)?, cap: word(1)? },
            label::UNKNOWN_SYSCALL => Self::UnknownSyscall { pc: word(8)?, number: word(12)? },
            label::USER_EXCEPTION => Self::UserException { pc: word(0)?, syndrome: word(3)? },
            label::VM => Self::Vm {
                pc: word(0)?,
                address: word(1)?,
                fetch: word(2)? != 0,
                syndrome: word(3)?,
            },
            label::VGIC_MAINTENANCE => Self::VgicMaintenance { index: u8::try_from(word(0)?).ok() },
            label::VCPU => Self::Vcpu { syndrome: word(0)? },
            label::VPPI => Self::Vppi { irq: word(0)? },
            _ => return None,
        })
    }
}
