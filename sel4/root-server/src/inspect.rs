//! What a container holds: each capability in its CNode, looked at where it is, as the kernel tells
//! it. A container may have moved, copied and removed what it was given, and made more; so nothing
//! here comes from our books.
//!
//! A capability is moved to a slot of ours, asked, and moved back; nobody else runs meanwhile. One
//! to an endpoint or notification stays where it is (seL4 does not let it be moved with another
//! guard), as asking it would be to send a message: of it, and of a CNode, a copy without rights is
//! asked.

use crate::create;
use crate::host::{Failure, Result};
use crate::serve::Server;
use koskit_abi::object::Cap;
use koskit_abi::{CNode, CNodeGuard, Error, Ipc, Named, Rights, Slot};
use koskit_wire::Event;

/// Slots that one request looks at, so that nobody waits for long.
const AT_ONCE: u64 = 256;
/// No CNode can have that, with the bits of its own.
const WRONG: CNodeGuard = CNodeGuard { bits: 0, size: 63 };

impl Server {
    /// Tells what is in the slots of a container's CNode, from `first` on.
    pub fn caps(&mut self, tag: u32, number: u32, first: u32) -> Result<()> {
        let node = self.nodes.numbered(number).ok_or(Failure::NoContainer)?;
        let bits = self.nodes.container(node).ok_or(Failure::NoContainer)?.cnode_bits;
        let cnode = create::cnode(self.slots(node));
        let first = u64::from(first).min(1 << bits);
        let end = (first + AT_ONCE).min(1 << bits);
        for index in first..end {
            let slot = Slot { root: cnode, index, depth: bits };
            let Some(named) = self.look(slot)? else { continue };
            let (object, size, value) = match named {
                Named::Untyped { free } => ("untyped", 0, free),
                Named::CNode => ("cnode", 0, 0),
                Named::Tcb => ("tcb", 0, 0),
                Named::VSpace => ("vspace", 0, 0),
                Named::Table => ("table", 12, 0),
                Named::Frame { address, bits } => ("frame", bits.unwrap_or(0), address),
                Named::IrqHandler => ("interrupt", 0, 0),
                Named::Signal => ("signal", 0, 0),
                Named::Other => ("other", 0, 0),
            };
            self.console.tell(Event::Cap { tag, slot: index as u32, object, bits: size, value });
        }
        let next = if end < 1 << bits { end as u32 } else { 0 };
        self.console.tell(Event::Caps { tag, next, badge: node.into() });
        Ok(())
    }

    /// What is in a slot of somebody else; `None` where it is empty.
    fn look(&mut self, at: Slot) -> Result<Option<Named>> {
        let Self { ipc, space, looking, .. } = self;
        let ours = space.slot(*looking);
        let ask = |ipc: &mut Ipc| {
            let (cnode, empty): (CNode, u64) = (space.kernels(), *looking + 1);
            Named::ask(ipc, Cap(*looking), cnode, empty)
        };
        match ours.take_guarded(ipc, at, WRONG) {
            Err(Error::FailedLookup) => Ok(None),
            Ok(()) => {
                let named = ask(ipc);
                at.take(ipc, ours)?;
                Ok(Some(named))
            }
            Err(_) => {
                ours.copy(ipc, at, Rights::NONE)?;
                let named = ask(ipc);
                ours.delete(ipc)?;
                Ok(Some(named))
            }
        }
    }
}
