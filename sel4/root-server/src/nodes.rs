//! What was made of the machine's memory: containers and blobs. Each has a node of our CSpace
//! ([`crate::space`]), whose number is its index here, and the badge of a container's messages.

use crate::memory::Taken;
use koskit_wire::Digest;

/// How many there can be: the root of our CSpace has a slot for each.
pub const NODES: usize = 4095;

/// A container that runs.
#[derive(Clone, Copy)]
pub struct Container {
    /// The host's number for it.
    pub number: u32,
    /// Most bytes that it waits for from its standard input; 0 where it does not wait.
    pub asks: u32,
    /// Ticks when it wants to be woken, or [`NEVER`](crate::clock::NEVER).
    pub alarm: u64,
    /// All its memory.
    pub memory: Taken,
    /// Bytes that were free, or had by others, before it was created.
    pub before: u64,
    /// Nodes of the blobs whose pages it has; 0 where it has none.
    pub blobs: [u16; 2],
    /// log2 of the slots of its CNode.
    pub cnode_bits: u32,
    /// Its devices, as in its contract.
    pub devices: u32,
    /// Requests that it made.
    pub requests: u64,
    /// Bytes that it wrote.
    pub written: u64,
    /// Bytes that it read.
    pub read: u64,
}

/// Bytes that the host has put into the machine's memory.
#[derive(Clone, Copy)]
pub struct Blob {
    /// Their name.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// Pages that have come.
    pub pages: u64,
    /// Containers that have pages of it.
    pub users: u32,
    /// Its memory: a CNode, and the frames in it from slot 0 on.
    pub memory: Taken,
}

/// One of them. Zeroes are `Free`, so that the table takes no bytes of our ELF file.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Node {
    Free,
    Container(Container),
    Blob(Blob),
}

/// All of them.
pub struct Nodes {
    nodes: [Node; NODES],
    /// Above this index all are free.
    end: usize,
}

impl Nodes {
    /// None.
    pub const fn new() -> Self {
        Self { nodes: [Node::Free; NODES], end: 1 }
    }

    /// The lowest index that is free. Index 0 is the kernel's own CNode.
    pub fn free(&self) -> Option<u16> {
        let index = (1..=self.end).find(|&i| matches!(self.nodes.get(i), Some(Node::Free)))?;
        Some(index as u16)
    }

    /// Puts something at an index.
    pub fn set(&mut self, index: u16, node: Node) {
        let index = usize::from(index);
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
            self.end = self.end.max(index + 1);
        }
        while self.end > 1 && matches!(self.nodes.get(self.end - 1), Some(Node::Free)) {
            self.end -= 1;
        }
    }

    /// The container at an index.
    pub fn container(&mut self, index: u16) -> Option<&mut Container> {
        match self.nodes.get_mut(usize::from(index)) {
            Some(Node::Container(container)) => Some(container),
            _ => None,
        }
    }

    /// The blob at an index.
    pub fn blob(&mut self, index: u16) -> Option<&mut Blob> {
        match self.nodes.get_mut(usize::from(index)) {
            Some(Node::Blob(blob)) => Some(blob),
            _ => None,
        }
    }

    /// The index of the container with the host's number.
    pub fn numbered(&self, number: u32) -> Option<u16> {
        self.containers().find(|(_, container)| container.number == number).map(|(index, _)| index)
    }

    /// The index of the blob with a name.
    pub fn named(&self, digest: &Digest) -> Option<u16> {
        let named = |(index, node): (usize, &Node)| match node {
            Node::Blob(blob) if blob.digest == *digest => Some(index as u16),
            _ => None,
        };
        self.nodes.iter().enumerate().take(self.end).find_map(named)
    }

    /// All containers, by their index.
    pub fn containers(&self) -> impl Iterator<Item = (u16, &Container)> {
        self.nodes.iter().enumerate().take(self.end).filter_map(|(index, node)| match node {
            Node::Container(container) => Some((index as u16, container)),
            _ => None,
        })
    }

    /// Bytes that all of them have.
    pub fn held(&self) -> u64 {
        let held = self.nodes.iter().take(self.end).map(|node| match node {
            Node::Free => 0,
            Node::Container(container) => container.memory.bytes,
            Node::Blob(blob) => blob.memory.bytes,
        });
        held.sum()
    }
}
