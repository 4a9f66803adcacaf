//! What a capability names, as the kernel itself tells it to whoever may use the capability. seL4
//! has no invocation for that; but each kind of object has invocations of its own, and a message
//! for one of them that is too short changes nothing: of the right kind, the kernel complains of
//! the message, of another one, of the invocation.

use crate::kernel::{self, label};
use crate::object::{CNode, Cap, Frame, Object, Untyped};
use crate::{Error, Ipc};

/// What a capability names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Memory of which objects are made.
    Untyped {
        /// Bytes of which nothing has been made.
        free: u64,
    },
    /// A table of slots.
    CNode,
    /// A thread.
    Tcb,
    /// The root of an address space.
    VSpace,
    /// A page table below that.
    Table,
    /// Memory that can be mapped.
    Frame {
        /// Its physical address.
        address: u64,
        /// log2 of its bytes; the kernel tells it only of a frame that is mapped.
        bits: Option<u32>,
    },
    /// An interrupt.
    IrqHandler,
    /// An endpoint or a notification: from outside they are not to be told apart.
    Signal,
    /// Something else.
    Other,
}

impl Named {
    /// Asks the kernel. The slot `empty` of `cnode` must be empty, and stays so.
    ///
    /// The capability must not be one that may send to an endpoint or a notification, or answer
    /// somebody: that would happen.
    pub fn ask(ipc: &mut Ipc, cap: Cap, cnode: CNode, empty: u64) -> Self {
        let kinds = [
            (label::UntypedRetype, Self::Untyped { free: 0 }),
            (label::TCBSetPriority, Self::Tcb),
            (label::CNodeDelete, Self::CNode),
            (kernel::OF_VSPACE, Self::VSpace),
            (kernel::table_map(0), Self::Table),
            (kernel::table_map(1), Self::Table),
            (kernel::table_map(2), Self::Table),
            (label::IRQSetIRQHandler, Self::IrqHandler),
        ];
        for (label, kind) in kinds {
            match (ipc.invoke(cap, label, &[], &[]), kind) {
                (Err(Error::InvalidCapability), _) => return Self::Signal,
                (Err(Error::TruncatedMessage), Self::Untyped { .. }) => {
                    // More than there can be: the kernel says what there is.
                    let all = Object::Untyped { bits: 47 };
                    let _ = Untyped(cap).retype(ipc, all, cnode, empty, 1);
                    return Self::Untyped { free: ipc.word(0) };
                }
                (Err(Error::TruncatedMessage), kind) => return kind,
                _ => {}
            }
        }
        match Frame(cap).address(ipc) {
            Ok(address) => Self::Frame { address, bits: size(ipc, Frame(cap)) },
            Err(_) => Self::Other,
        }
    }
}

/// A range behind the first 4 KiB is inside a large frame, and not inside a small one.
fn size(ipc: &mut Ipc, frame: Frame) -> Option<u32> {
    match frame.unify_instructions(ipc, 4096, 4160) {
        Ok(()) => Some(21),
        Err(Error::InvalidArgument) => Some(12),
        Err(_) => None,
    }
}
