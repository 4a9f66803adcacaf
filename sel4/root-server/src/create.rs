//! Makes a container: all its objects, from its one untyped, as its plan says.
//!
//! The order of sizes matters, since seL4 aligns every object to its own size and the plan
//! counts no padding: first the five objects whose capabilities lie in our own CNode, largest
//! first; then all of 4 KiB; then the untypeds of 2 MiB. Where the objects together fit a power
//! of two, they fit it in this order with what is lost to alignment.

use crate::container::{Admitted, Refusal};
use crate::devices::Devices;
use crate::files::{File, Pages};
use crate::serve::Server;
use crate::space::{self, Space, TCB};
use crate::start;
use crate::window::{self, Window};
use koskit_abi::{
    Attributes, CNode, CNodeGuard, Endpoint, Error, Frame, Ipc, Notification, Object, Registers,
    Result, Rights, Slot, Space as Spaces, Table, Tcb, Untyped, VSpace,
};
use koskit_root_server::{piece, seed};
use koskit_spec::board;
use koskit_spec::contract::Contract;
use koskit_spec::elf::{Access, Elf, Segment};
use koskit_spec::info::Info;
use koskit_spec::info::request::FAULT_BADGE;
use koskit_spec::layout::{self, LARGE_PAGE, PAGE, slot};
use koskit_spec::plan::{Plan, VSPACE_BITS};

/// Slots of our own CNode that a container needs while it lives.
pub const SLOTS: u64 = 6;

/// The first TCB of a container, by the first of its slots.
pub const fn tcb(slots: u64) -> Tcb {
    Tcb::at(slots + 3)
}

/// A container's own CNode.
pub const fn cnode(slots: u64) -> CNode {
    CNode::at(slots + 1)
}

/// Where the right to answer a container is kept while it waits.
pub const fn reply(slots: u64) -> u64 {
    slots + 4
}

/// The notification that tells a container its time.
pub const fn timer(slots: u64) -> Notification {
    Notification::at(slots + 5)
}

/// Creates a container and lets it run. On an error, all of it is still in `untyped`.
pub fn create(
    server: &mut Server,
    node: u16,
    untyped: Untyped,
    admitted: &Admitted,
) -> core::result::Result<(), Refusal> {
    let step = |what| move |error| Refusal::Kernel(what, error);
    let slots = server.slots(node);
    let Server { ipc, space, window, endpoint, devices, .. } = server;
    let dma = devices.address(ipc, admitted.contract.devices);
    let dma = dma.map_err(step("ask for a physical address"))?;
    let mut objects = Objects {
        ipc,
        space,
        window,
        untyped,
        node,
        keep: CNode::at(slots),
        cnode: cnode(slots),
        vspace: VSpace::at(slots + 2),
        tcb: tcb(slots),
        timer: timer(slots),
        next: 1,
    };
    let epoch_ns = server.files.archive().epoch_ns;
    let machine_seed = server.files.archive().seed;
    let (program, libkos) = (&admitted.program, &admitted.libkos);
    let contract = &admitted.contract;
    let info = Info {
        load_bias: program.0.bias,
        entry: program.0.entry,
        phdr: program.0.phdr,
        phent: 56,
        phnum: program.0.phnum.into(),
        heap_base: program.0.end(),
        heap_pages: contract.heap_pages.into(),
        stack_pages: contract.stack_pages.into(),
        initrd_size: admitted.initrd.size,
        ut_large_page: contract.ut_large_page,
        ut_4k_pages: contract.ut_4k_pages,
        cnode_bits: contract.cnode_bits,
        process_size: admitted.process.len() as u32,
        timer_hz: start::ticks_per_second(),
        epoch_ns,
        priority: contract.priority,
        max_priority: contract.max_priority,
        threads: contract.threads,
        devices: contract.devices,
        dma,
        seed: seed::of_container(&machine_seed, server.created),
    };

    objects.found(&admitted.plan, contract.cnode_bits).map_err(step("make its objects"))?;
    objects.load(program).map_err(step("load its program"))?;
    objects.load(libkos).map_err(step("load libkos"))?;
    let initrd = admitted.initrd.count();
    objects
        .share(layout::INITRD_BASE, &admitted.initrd, 0, initrd, Attributes::DATA)
        .map_err(step("map its initrd"))?;
    let buffer =
        objects.memory(contract.heap_pages.into(), contract.stack_pages.into(), &program.0);
    let buffer = buffer.map_err(step("map its memory"))?;
    objects.inform(&info, admitted.process).map_err(step("write its words"))?;
    objects.hand_over(contract, *endpoint, buffer).map_err(step("fill its CNode"))?;
    objects.attach(contract, devices).map_err(step("give it its devices"))?;
    objects.start(admitted, buffer).map_err(step("start its thread"))?;
    Ok(())
}

struct Objects<'a> {
    ipc: &'a mut Ipc,
    space: &'a mut Space,
    window: &'a mut Window,
    untyped: Untyped,
    node: u16,
    /// The CNode in which capabilities to its frames and page tables are kept. It goes with
    /// the container, and the capabilities to shared frames go with it.
    keep: CNode,
    cnode: CNode,
    vspace: VSpace,
    tcb: Tcb,
    timer: Notification,
    /// First empty slot of `keep`.
    next: u64,
}

impl Objects<'_> {
    /// Makes the objects that are not of 4 KiB.
    fn found(&mut self, plan: &Plan, cnode_bits: u32) -> Result<()> {
        let mut objects = [
            (self.keep.0.0, Object::CNode { bits: plan.keep_bits }),
            (self.cnode.0.0, Object::CNode { bits: cnode_bits }),
            (self.vspace.0.0, Object::VSpace),
            (self.tcb.0.0, Object::Tcb),
            (self.timer.0.0, Object::Notification),
        ];
        objects.sort_unstable_by_key(|(_, object)| core::cmp::Reverse(object.size_bits()));
        for (at, object) in objects {
            self.untyped.retype(self.ipc, object, self.space.kernels(), at, 1)?;
        }
        debug_assert!(Object::VSpace.size_bits() <= VSPACE_BITS);
        self.space.set_node(self.ipc, self.node, self.keep, plan.keep_bits)?;
        let pool = self.space.asid_pool(self.ipc, self.node, self.window.memory())?;
        pool.assign(self.ipc, self.vspace)
    }

    /// Maps an ELF file: read-only segments are the archive's own pages.
    fn load(&mut self, (elf, file): &(Elf, File)) -> Result<()> {
        for segment in elf.segments() {
            match segment.access {
                Access::Write => self.copy(segment, file.bytes)?,
                access => {
                    let attributes = match access {
                        Access::Execute => Attributes::EXECUTE,
                        _ => Attributes::DATA,
                    };
                    let first = segment.offset / PAGE;
                    let pages = segment.pages();
                    self.share(segment.start(), &file.pages, first, pages, attributes)?;
                }
            }
        }
        Ok(())
    }

    /// Maps a copy of a segment; what is not in the file is zero.
    fn copy(&mut self, segment: &Segment, file: &[u8]) -> Result<()> {
        let from = segment.offset as usize;
        let bytes = &file[from..from + segment.file_size as usize];
        let first = self.frames(segment.pages())?;
        // The segment's first byte may lie within its first page.
        let head = (segment.address - segment.start()) as usize;
        for page in 0..segment.pages() {
            let frame = self.kept(first + page);
            let (start, end) = piece(head, bytes.len(), page as usize);
            if start < end {
                let at = head + start - page as usize * PAGE as usize;
                self.window.fill(self.ipc, self.space, frame, |to| {
                    to[at..at + end - start].copy_from_slice(&bytes[start..end]);
                })?;
            }
            let address = segment.start() + page * PAGE;
            self.map(frame, address, Rights::READ_WRITE, Attributes::DATA)?;
        }
        Ok(())
    }

    /// Maps `count` frames of a file from the page `first` on, which belong to all containers of
    /// an image, read-only.
    fn share(
        &mut self,
        address: u64,
        pages: &Pages,
        first: u64,
        count: u64,
        attributes: Attributes,
    ) -> Result<()> {
        for page in 0..count {
            let to = self.kept(self.next).0.0;
            self.space.copy(self.ipc, pages.frame(first + page).0.0, to, Rights::READ)?;
            self.next += 1;
            self.map(Frame::at(to), address + page * PAGE, Rights::READ, attributes)?;
        }
        Ok(())
    }

    /// Maps empty memory. Returns the frame of the IPC buffer.
    fn memory(&mut self, heap: u64, stack: u64, program: &Elf) -> Result<Frame> {
        self.empty(program.end(), heap)?;
        self.empty(layout::STACK_TOP - stack * PAGE, stack)?;
        let kos_stack = layout::KOS_STACK_PAGES;
        self.empty(layout::KOS_STACK_TOP - kos_stack * PAGE, kos_stack)?;
        self.empty(layout::BLOCK_BASE, 1)?;
        let buffer = self.empty(layout::IPC_BUFFER, 1)?;
        Ok(self.kept(buffer))
    }

    /// Maps pages of zeroes; the slot in `keep` of the first.
    fn empty(&mut self, address: u64, pages: u64) -> Result<u64> {
        let first = self.frames(pages)?;
        for page in 0..pages {
            let frame = self.kept(first + page);
            self.map(frame, address + page * PAGE, Rights::READ_WRITE, Attributes::DATA)?;
        }
        Ok(first)
    }

    /// Writes what libkos is told.
    fn inform(&mut self, info: &Info, process: &[u8]) -> Result<()> {
        let info = info.to_bytes();
        let pages = (info.len() + process.len()).div_ceil(PAGE as usize);
        let first = self.frames(pages as u64)?;
        for page in 0..pages {
            let frame = self.kept(first + page as u64);
            self.window.fill(self.ipc, self.space, frame, |to| {
                if page == 0 {
                    to[..info.len()].copy_from_slice(&info);
                }
                let (start, end) = piece(info.len(), process.len(), page);
                if start < end {
                    let at = info.len() + start - page * PAGE as usize;
                    to[at..at + end - start].copy_from_slice(&process[start..end]);
                }
            })?;
            let address = layout::INFO_BASE + page as u64 * PAGE;
            self.map(frame, address, Rights::READ, Attributes::DATA)?;
        }
        Ok(())
    }

    /// Fills the container's own CNode: all the authority that it gets.
    fn hand_over(&mut self, contract: &Contract, endpoint: Endpoint, buffer: Frame) -> Result<()> {
        let (large, small) = (u64::from(contract.ut_large_page), u64::from(contract.ut_4k_pages));
        let bits = PAGE.trailing_zeros();
        self.untypeds(bits, slot::UNTYPED + large, small)?;
        let bits = LARGE_PAGE.trailing_zeros();
        self.untypeds(bits, slot::UNTYPED, large)?;

        let cnode_bits = contract.cnode_bits;
        let to = |index| Slot { root: self.cnode, index, depth: cnode_bits };
        let from = |address| self.space.slot(address);
        let guard = guard(cnode_bits);
        to(slot::TCB).copy(self.ipc, from(self.tcb.0.0), Rights::ALL)?;
        to(slot::CNODE).mint_guarded(self.ipc, from(self.cnode.0.0), guard)?;
        to(slot::VSPACE).copy(self.ipc, from(self.vspace.0.0), Rights::ALL)?;
        to(slot::BUFFER).copy(self.ipc, from(buffer.0.0), Rights::READ_WRITE)?;
        to(slot::TIMER).copy(self.ipc, from(self.timer.0.0), Rights::READ)?;
        let (endpoint, node) = (from(endpoint.0.0), u64::from(self.node));
        to(slot::REQUEST).mint_badged(self.ipc, endpoint, Rights::CALL, node)?;
        to(slot::FAULT).mint_badged(self.ipc, endpoint, Rights::CALL, FAULT_BADGE | node)
    }

    /// Maps its devices, and has their interrupts come to its notification.
    fn attach(&mut self, contract: &Contract, devices: &Devices) -> Result<()> {
        let handed = u64::from(contract.ut_large_page) + u64::from(contract.ut_4k_pages);
        for (count, (index, _)) in board::devices(contract.devices).enumerate() {
            for (page, frame) in devices.frames(index).enumerate() {
                let to = self.kept(self.next);
                self.space.copy(self.ipc, frame.0.0, to.0.0, Rights::READ_WRITE)?;
                self.next += 1;
                let how = if page == 0 { Attributes::DEVICE } else { Attributes::DATA };
                let address = board::registers(index) + page as u64 * PAGE;
                self.map(to, address, Rights::READ_WRITE, how)?;
            }
            let handler = devices.interrupt(index);
            handler.set_notification(self.ipc, self.timer)?;
            let at = slot::UNTYPED + handed + count as u64;
            let to = Slot { root: self.cnode, index: at, depth: contract.cnode_bits };
            to.copy(self.ipc, self.space.slot(handler.0.0), Rights::ALL)?;
        }
        Ok(())
    }

    fn start(&mut self, admitted: &Admitted, buffer: Frame) -> Result<()> {
        let contract = &admitted.contract;
        let spaces = Spaces {
            fault_endpoint: slot::FAULT,
            cspace: self.cnode,
            guard: guard(contract.cnode_bits),
            vspace: self.vspace,
        };
        self.tcb.configure(self.ipc, spaces, layout::IPC_BUFFER, buffer)?;
        self.tcb.set_max_priority(self.ipc, TCB, contract.max_priority)?;
        self.tcb.set_priority(self.ipc, TCB, contract.priority)?;
        let registers = Registers {
            pc: admitted.libkos.0.entry,
            sp: layout::KOS_STACK_TOP,
            tpidrro_el0: layout::BLOCK_BASE,
            ..Registers::default()
        };
        self.tcb.write_registers(self.ipc, registers, true)
    }

    /// Makes untypeds of 2^`bits` bytes into the container's CNode.
    fn untypeds(&mut self, bits: u32, first: u64, count: u64) -> Result<()> {
        self.retype(Object::Untyped { bits }, self.cnode, first, count)
    }

    /// Makes frames; the slot in `keep` of the first.
    fn frames(&mut self, count: u64) -> Result<u64> {
        let first = self.next;
        self.next += count;
        self.retype(Object::SmallFrame, self.keep, first, count)?;
        Ok(first)
    }

    fn retype(&mut self, object: Object, into: CNode, first: u64, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let some = (count - done).min(Untyped::RETYPE_MAX);
            self.untyped.retype(self.ipc, object, into, first + done, some)?;
            done += some;
        }
        Ok(())
    }

    fn map(&mut self, frame: Frame, at: u64, rights: Rights, how: Attributes) -> Result<()> {
        let Self { untyped, keep, next, node, .. } = self;
        let table = |ipc: &mut Ipc, level| -> core::result::Result<Table, Error> {
            untyped.retype(ipc, Object::Table { level }, *keep, *next, 1)?;
            let table = Table::at(space::address(*node, *next));
            *next += 1;
            Ok(table)
        };
        window::map(self.ipc, self.vspace, frame, at, rights, how, table)
    }

    /// The frame in a slot of `keep`.
    fn kept(&self, slot: u64) -> Frame {
        Frame::at(space::address(self.node, slot))
    }
}

/// With this guard the addresses of a CNode's slots have 64 bits.
fn guard(bits: u32) -> CNodeGuard {
    CNodeGuard { bits: 0, size: 64 - bits }
}
