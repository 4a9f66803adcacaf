//! This thread's own CSpace.
//!
//! The kernel gives one large CNode. We put it below a root of our own, in which every container
//! and every blob has a slot too, for the CNode in which its objects' capabilities are kept: so
//! that we can use a capability where it lies.
//!
//! ```text
//! address  63…36   35…24    23…0
//!          zero    node     slot in the node's CNode
//!                  0        the kernel's CNode: the same addresses as before
//!                  1…4094   what is kept of a container or blob ([`crate::nodes`])
//!                  4095     the frames of the boot archive
//! ```

use crate::nodes::NODES;
use koskit_abi::bootinfo::slot;
use koskit_abi::{
    AsidControl, AsidPool, BootInfo, CNode, CNodeGuard, Endpoint, Ipc, Object, Result, Rights,
    Slot, Space as Spaces, Tcb, Untyped, VSpace,
};

/// Node of the boot archive's frames.
pub const ARCHIVE: u16 = 4095;
/// Bits of a slot's address below its node.
const NODE_SHIFT: u32 = 24;
/// log2 of the slots of the root.
const ROOT_BITS: u32 = 12;

/// This thread's own TCB.
pub const TCB: Tcb = Tcb::at(slot::TCB);
/// This thread's own address space.
pub const VSPACE: VSpace = VSpace::at(slot::VSPACE);

/// The CSpace, with the slots of the kernel's CNode that nobody has used yet.
pub struct Space {
    /// The root, as it was made: no guard.
    root: CNode,
    /// The root with the guard that makes addresses 64 bits long.
    whole: CNode,
    next: u64,
    end: u64,
    /// By the node of a container divided by [`POOL`]: the slot of its ASID pool; 0 where there is
    /// none yet.
    pools: [u64; POOLS],
}

/// Nodes that share an ASID pool. It has 512 identifiers, of which one is never given and one is
/// ours.
const POOL: usize = 256;
/// Most ASID pools.
pub const POOLS: usize = NODES.div_ceil(POOL);

impl Space {
    /// Makes the root, from `memory`, and moves this thread to it.
    pub fn new(info: &BootInfo<'_>, ipc: &mut Ipc, memory: Untyped) -> Result<Self> {
        let empty = info.empty();
        let [root, whole] = [empty.start, empty.start + 1].map(CNode::at);
        let kernels = CNode::at(slot::CNODE);
        let old = |index| Slot { root: kernels, index, depth: 64 };
        memory.retype(ipc, Object::CNode { bits: ROOT_BITS }, kernels, root.0.0, 1)?;
        let guard = CNodeGuard { bits: 0, size: 64 - ROOT_BITS - NODE_SHIFT };
        old(whole.0.0).mint_guarded(ipc, old(root.0.0), guard)?;
        let first = Slot { root, index: 0, depth: ROOT_BITS };
        let short = CNodeGuard { bits: 0, size: NODE_SHIFT - info.cnode_bits() };
        first.mint_guarded(ipc, old(slot::CNODE), short)?;
        // Its faults go nowhere: a root server that faults stops.
        let spaces = Spaces { fault_endpoint: 0, cspace: root, guard, vspace: VSPACE };
        TCB.set_space(ipc, spaces)?;
        let mut pools = [0; POOLS];
        pools[0] = slot::ASID_POOL;
        Ok(Self { root, whole, next: empty.start + 2, end: empty.end, pools })
    }

    /// The first of `count` slots that nobody else gets.
    pub fn slots(&mut self, count: u64) -> u64 {
        let first = self.next;
        self.next += count;
        assert!(self.next <= self.end, "the kernel's CNode has too few slots");
        first
    }

    /// Makes one object, from `memory`, into a slot that nobody else gets.
    pub fn make(&mut self, ipc: &mut Ipc, memory: Untyped, object: Object) -> Result<u64> {
        let at = self.slots(1);
        memory.retype(ipc, object, self.kernels(), at, 1)?;
        Ok(at)
    }

    /// Makes an endpoint, from `memory`.
    pub fn endpoint(&mut self, ipc: &mut Ipc, memory: Untyped) -> Result<Endpoint> {
        Ok(Endpoint::at(self.make(ipc, memory, Object::Endpoint)?))
    }

    /// The ASID pool of a node's container, made from `memory` if need be.
    pub fn asid_pool(&mut self, ipc: &mut Ipc, node: u16, memory: Untyped) -> Result<AsidPool> {
        let index = usize::from(node) / POOL;
        if self.pools[index] == 0 {
            let of = Untyped::at(self.make(ipc, memory, Object::Untyped { bits: 12 })?);
            let at = self.slots(1);
            AsidControl::at(slot::ASID_CONTROL).make_pool(ipc, of, self.slot(at))?;
            self.pools[index] = at;
        }
        Ok(AsidPool::at(self.pools[index]))
    }

    /// Makes the slots of a CNode reachable as a node.
    pub fn set_node(&self, ipc: &mut Ipc, node: u16, cnode: CNode, bits: u32) -> Result<()> {
        let to = Slot { root: self.root, index: u64::from(node), depth: ROOT_BITS };
        let guard = CNodeGuard { bits: 0, size: NODE_SHIFT - bits };
        to.mint_guarded(ipc, self.slot(cnode.0.0), guard)
    }

    /// The kernel's CNode, to make objects into.
    pub fn kernels(&self) -> CNode {
        CNode::at(slot::CNODE)
    }

    /// The slot at an address of this CSpace.
    pub fn slot(&self, address: u64) -> Slot {
        Slot { root: self.whole, index: address, depth: 64 }
    }

    /// Copies a capability within this CSpace.
    pub fn copy(&self, ipc: &mut Ipc, from: u64, to: u64, rights: Rights) -> Result<()> {
        self.slot(to).copy(ipc, self.slot(from), rights)
    }
}

/// The address of a slot of a node.
pub const fn address(node: u16, slot: u64) -> u64 {
    (node as u64) << NODE_SHIFT | slot
}
