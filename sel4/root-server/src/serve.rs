//! The machine's life, as the root server sees it.

use crate::clock::{self, Clock};
use crate::console::{self, Console, Text};
use crate::container::{self, Refusal};
use crate::create;
use crate::devices::Devices;
use crate::files::{File, Files, Pages};
use crate::memory::{Memory, Taken};
use crate::nodes::{Container, NODES, Node, Nodes};
use crate::space::{Space, TCB};
use crate::start::{self, Once, Start};
use crate::virtio::{self, Virtio};
use crate::window::Window;
use core::fmt::{self, Write};
use koskit_abi::bootinfo::slot;
use koskit_abi::{
    Endpoint, Error, Fault, Frame, Ipc, IrqControl, IrqHandler, MessageInfo, Notification, Object,
    Rights, Untyped, ipc,
};
use koskit_root_server::report::{self, Sentence};
use koskit_spec::archive::{ArchiveError, BASE, Kind};
use koskit_spec::info::request::{self, FAULT_BADGE};
use koskit_wire::{Decoder, Event, Kind as FrameKind, STATUS_FAULTED, STATUS_REFUSED};

/// Physical address of the serial port.
const UART: u64 = 0x0900_0000;
/// Linux: try again.
const EAGAIN: u64 = 11;
/// Linux: invalid argument.
const EINVAL: u64 = 22;
/// Linux: no such function.
const ENOSYS: u64 = 38;
/// log2 of the bytes that we need before we know how large the boot archive is.
const OURS: u32 = 18;
/// Set in the badge when something has come from the host.
const HOST_BADGE: u64 = 1 << 25;

// What is too large for the stack.
static MEMORY: Once<Memory> = Once::new(Memory::new());
static NODES_OF_ALL: Once<Nodes> = Once::new(Nodes::new());
static DECODER: Once<Decoder> = Once::new(Decoder::new());

/// Everything.
pub struct Server {
    /// This thread's messages.
    pub ipc: Ipc,
    /// Its CSpace.
    pub space: Space,
    /// Its address space.
    pub window: Window,
    /// To which all containers talk.
    pub endpoint: Endpoint,
    /// The boot archive.
    pub files: Files,
    /// The board's devices.
    pub devices: Devices,
    /// Memory that is free.
    pub memory: &'static mut Memory,
    /// What was made of the other.
    pub nodes: &'static mut Nodes,
    /// To the host, and from it.
    pub console: Console,
    /// Takes apart what comes from it.
    pub decoder: Option<&'static mut Decoder>,
    /// The blob whose pages the host sends.
    pub putting: Option<u16>,
    /// Free bytes when nothing had been created.
    pub free_at_start: u64,
    /// First of two slots for what is looked at.
    pub looking: u64,
    /// Containers that were created so far.
    pub created: u64,
    /// The virtio console's interrupt.
    interrupt: IrqHandler,
    /// The timer.
    clock: Clock,
    /// First of the slots for nodes, [`create::SLOTS`] each.
    slots: u64,
    /// Whether the machine was booted with containers, and ends with them.
    ends: bool,
    /// The last status that was not 0.
    status: u8,
    /// Index of libkos in the boot archive.
    libkos: Option<usize>,
}

/// What a container is created from.
pub struct Source {
    /// Its contract and its process block.
    pub bundle: File,
    /// Its program.
    pub program: File,
    /// Its initrd, which we never read.
    pub initrd: Pages,
    /// Nodes of the blobs that it keeps pages of; 0 is none.
    pub blobs: [u16; 2],
}

/// Why nothing goes on.
pub enum Stop {
    /// The boot archive is damaged.
    Archive(ArchiveError),
    /// There is not enough memory for ourselves.
    Memory {
        /// What we need in bytes.
        asked: u64,
        /// What there is.
        free: u64,
    },
    /// The kernel gave us less than we know it has.
    Device(&'static str),
    /// The kernel refused what it should not.
    Kernel(&'static str, Error),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "{error}"),
            Self::Memory { asked, free } => {
                write!(f, "the root server needs {asked} bytes itself, but {free} bytes are free")
            }
            Self::Device(what) => write!(f, "the kernel does not give us the {what}"),
            Self::Kernel(what, error) => write!(f, "the root server cannot {what}: {error}"),
        }
    }
}

/// Runs the machine.
pub fn run(start: Start) -> ! {
    let (reset, ticks) = (start.reset, start.ticks);
    match Server::new(start) {
        Ok(mut server) => {
            server.ready(reset, ticks);
            server.create_all();
            server.serve()
        }
        Err(stop) => panic!("{stop}"),
    }
}

impl Server {
    /// Takes all memory, and opens the console and the boot archive.
    fn new(start: Start) -> Result<Self, Stop> {
        let Start { info, mut ipc, .. } = start;
        let device = |address| {
            let all = info.untypeds();
            let mut found = all.filter(|untyped| untyped.device && untyped.address == address);
            found.next().map(|untyped| Untyped::at(untyped.slot))
        };
        let ours = info
            .untypeds()
            .filter(|untyped| !untyped.device && untyped.bits >= OURS)
            .min_by_key(|untyped| untyped.bits)
            .map(|untyped| Untyped::at(untyped.slot))
            .ok_or(Stop::Memory { asked: 1 << OURS, free: 0 })?;
        let failed = |what| move |error| Stop::Kernel(what, error);

        let mut space = Space::new(&info, &mut ipc, ours).map_err(failed("make its own CSpace"))?;
        let mut window = Window::new(ours);
        let uart = device(UART).ok_or(Stop::Device("serial port"))?;
        space
            .make(&mut ipc, uart, Object::SmallFrame)
            .and_then(|frame| {
                window.map_device(&mut ipc, &mut space, Frame::at(frame), console::REGISTERS)
            })
            .map_err(failed("map the serial port"))?;
        let mut console = Console::new();
        let transports = device(virtio::DEVICE).ok_or(Stop::Device("virtio transports"))?;
        let virtio = Virtio::new(&mut ipc, &mut space, &mut window, transports, ours);
        let virtio = virtio.map_err(failed("take the virtio console"))?;
        console.connect(virtio.ok_or(Stop::Device("virtio console"))?);

        let taken = "what is there once was taken twice";
        let memory = MEMORY.take().ok_or(Stop::Device(taken))?;
        let nodes = NODES_OF_ALL.take().ok_or(Stop::Device(taken))?;
        memory.fill(info, &mut space, ours);
        let archive = device(BASE).ok_or(Stop::Device("boot archive"))?;
        let files = Files::open(&mut ipc, &mut space, &mut window, memory, archive)?;
        if files.archive().memory > 0 {
            memory.limit(&mut ipc, &space, u64::from(files.archive().memory) << 20);
        }
        let libkos = files.archive().iter().position(|entry| entry.kind == Kind::Libkos);
        let endpoint = space.endpoint(&mut ipc, ours).map_err(failed("make an endpoint"))?;
        let interrupt = interrupt(&mut ipc, &mut space, ours);
        let (interrupt, notification) =
            interrupt.map_err(failed("take the console's interrupt"))?;
        let clock = Clock::new(&mut ipc, &mut space, notification);
        let clock = clock.map_err(failed("take the timer"))?;
        let devices = Devices::new(info, &mut ipc, &mut space, memory);
        let devices = devices.map_err(failed("take the board's devices"))?;
        let slots = space.slots(NODES as u64 * create::SLOTS);
        let looking = space.slots(2);
        let free_at_start = memory.free();
        Ok(Self {
            ipc,
            space,
            window,
            endpoint,
            files,
            devices,
            memory,
            nodes,
            console,
            decoder: DECODER.take(),
            putting: None,
            free_at_start,
            looking,
            created: 0,
            interrupt,
            clock,
            slots,
            ends: false,
            status: 0,
            libkos,
        })
    }

    fn ready(&mut self, reset: u64, ticks: u64) {
        let (free, hz) = (self.free_at_start, start::ticks_per_second());
        self.console.tell(Event::Ready { free, reset, ticks, hz });
    }

    /// Creates all containers of the boot archive, numbered from 1.
    fn create_all(&mut self) {
        let mut number = 0;
        for index in 0..self.files.archive().len() {
            let entry = self.files.archive().get(index);
            if entry.is_none_or(|entry| entry.kind != Kind::Container) {
                continue;
            }
            number += 1;
            self.ends = true;
            let asked = start::ticks();
            let created = self.source(index).and_then(|source| self.create(number, source));
            self.tell_created(number, asked, created);
        }
        self.end_if_empty();
    }

    /// What an entry of the boot archive says of a container.
    fn source(&mut self, index: usize) -> Result<Source, Refusal> {
        let (entry, bundle) = self.read(index, Kind::Container, "contract")?;
        let (_, program) = self.read(entry.program as usize, Kind::Program, "program")?;
        let initrd = self.files.archive().get(entry.initrd as usize);
        let initrd = initrd.filter(|initrd| initrd.kind == Kind::Initrd);
        let initrd = Pages::of_entry(&initrd.ok_or(Refusal::Reference("initrd"))?);
        Ok(Source { bundle, program, initrd, blobs: [0; 2] })
    }

    fn read(&mut self, index: usize, kind: Kind, what: &'static str) -> Result<Read, Refusal> {
        let Self { ipc, space, window, files, .. } = self;
        let read = files.read(ipc, space, window, index);
        let read = read.map_err(|error| Refusal::Kernel("read the boot archive", error))?;
        read.filter(|(entry, _)| entry.kind == kind).ok_or(Refusal::Reference(what))
    }

    /// Creates a container and lets it run.
    pub fn create(&mut self, number: u32, source: Source) -> Result<(), Refusal> {
        let libkos = self.libkos.ok_or(Refusal::Reference("libkos"))?;
        let (_, libkos) = self.read(libkos, Kind::Libkos, "libkos")?;
        let Source { bundle, program, initrd, blobs } = source;
        let admitted = container::admit(bundle.bytes, program, libkos, initrd)?;
        self.devices.admit(admitted.contract.devices)?;
        let full = "the machine has as many containers and blobs as it can have";
        let node = self.nodes.free().ok_or(Refusal::Other(full))?;
        let bits = admitted.contract.untyped_bits;
        let before = self.memory.free() + self.nodes.held();
        let taken = self.memory.take(&mut self.ipc, &self.space, bits);
        let memory = taken.map_err(|error| {
            let (free, largest) = (self.memory.free(), self.memory.largest());
            Refusal::of_memory(error, 1 << bits, free, largest)
        })?;
        let devices = admitted.contract.devices;
        if let Err(refusal) = create::create(self, node, memory.untyped, &admitted) {
            self.give_back(memory, devices);
            return Err(refusal);
        }
        self.devices.set_user(devices, number);
        self.created += 1;
        for blob in blobs {
            if let Some(blob) = self.nodes.blob(blob) {
                blob.users += 1;
            }
        }
        let container = Container {
            number,
            asks: 0,
            alarm: clock::NEVER,
            memory,
            before,
            blobs,
            cnode_bits: admitted.contract.cnode_bits,
            devices,
            requests: 0,
            written: 0,
            read: 0,
        };
        self.nodes.set(node, Node::Container(container));
        Ok(())
    }

    /// Tells what came of a container that was to be created.
    pub fn tell_created(&mut self, number: u32, asked: u64, created: Result<(), Refusal>) {
        let Err(refusal) = created else {
            let (free, ticks) = (self.memory.free(), start::ticks());
            return self.console.tell(Event::Started { container: number, free, asked, ticks });
        };
        let reason = &mut Text::default();
        let _ = write!(reason, "{refusal}");
        self.console.tell(Event::Refused { container: number, reason: reason.as_str() });
        self.note(STATUS_REFUSED);
    }

    /// Answers containers, for ever.
    fn serve(&mut self) -> ! {
        let mut answer = None;
        loop {
            let (info, badge) = match answer {
                Some(label) => self.ipc.reply_recv(self.endpoint, MessageInfo::new(label, 1)),
                None => self.ipc.recv(self.endpoint),
            };
            // A badge of ours has been minted by us alone. Interrupts come together.
            let node = (badge & 0xfff) as u16;
            answer = None;
            if badge & HOST_BADGE != 0 {
                if let Some(virtio) = self.console.virtio() {
                    virtio.acknowledge();
                }
                self.hear();
                // The handler is ours, and stays.
                let _ = self.interrupt.acknowledge(&mut self.ipc);
            }
            if badge & clock::BADGE != 0 {
                self.ring();
            }
            if badge & (HOST_BADGE | clock::BADGE) != 0 {
                continue;
            }
            if badge & FAULT_BADGE != 0 {
                self.fault(node, info);
            } else {
                answer = self.request(node, info);
            }
        }
    }

    /// Serves a request. The label of the answer, whose one word has been set; none where the
    /// container is gone, or waits.
    fn request(&mut self, node: u16, info: MessageInfo) -> Option<u64> {
        let (first, second) = (self.ipc.word(0), self.ipc.word(1));
        let container = self.nodes.container(node)?;
        container.requests += 1;
        // What lies above the length is of an older message, perhaps another container's.
        let result = match info.label {
            request::WRITE if info.length >= 2 => self.write(node, first, second, info.length - 2),
            request::READ if info.length >= 1 => match self.ask(node, first) {
                Ok(()) => return None,
                Err(errno) => Err(errno),
            },
            request::EXIT if info.length >= 1 => {
                let (container, status, ticks) = (container.number, first as u8, start::ticks());
                self.console.tell(Event::Exited { container, status, ticks });
                self.note(status);
                self.remove(node);
                return None;
            }
            request::TIMER if info.length >= 1 => {
                container.alarm = first;
                self.clock.set(self.next_alarm());
                Ok(0)
            }
            request::WRITE | request::READ | request::EXIT | request::TIMER => Err(EINVAL),
            _ => Err(ENOSYS),
        };
        let (label, word) = result.map_or_else(|errno| (errno, 0), |taken| (0, taken));
        self.ipc.set_word(0, word);
        Some(label)
    }

    /// Tells all containers whose time has come.
    fn ring(&mut self) {
        self.clock.acknowledge(&mut self.ipc);
        let now = start::ticks();
        let due = |nodes: &Nodes| nodes.containers().find(|(_, of)| of.alarm <= now).map(|of| of.0);
        while let Some(node) = due(self.nodes) {
            if let Some(container) = self.nodes.container(node) {
                container.alarm = clock::NEVER;
            }
            ipc::signal(create::timer(self.slots(node)));
        }
        self.clock.set(self.next_alarm());
    }

    /// Ticks when the next container wants to be woken.
    fn next_alarm(&self) -> u64 {
        self.nodes.containers().map(|(_, of)| of.alarm).min().unwrap_or(clock::NEVER)
    }

    /// Asks the host for a container's standard input. The container is answered by `input`.
    fn ask(&mut self, node: u16, most: u64) -> Result<(), u64> {
        let reply = create::reply(self.slots(node));
        let container = self.nodes.container(node).ok_or(EINVAL)?;
        if container.asks > 0 {
            // Only one of its threads can wait.
            return Err(EAGAIN);
        }
        let most = most.clamp(1, request::READ_MAX as u64) as u32;
        self.space.slot(reply).save_caller(&mut self.ipc).map_err(|_| EINVAL)?;
        container.asks = most;
        self.console.tell(Event::Asks { container: container.number, most });
        Ok(())
    }

    /// Writes `length` bytes of the message, which has so many words from the third on.
    fn write(&mut self, node: u16, stream: u64, length: u64, words: usize) -> Result<u64, u64> {
        let kind = match stream {
            1 => FrameKind::Output,
            2 => FrameKind::Error,
            3 => FrameKind::Log,
            _ => return Err(EINVAL),
        };
        let most = request::WRITE_MAX.min(words * 8);
        let length = usize::try_from(length).ok().filter(|&l| l <= most).ok_or(EINVAL)?;
        let mut bytes = [0; request::WRITE_MAX];
        for (index, chunk) in bytes.chunks_exact_mut(8).take(length.div_ceil(8)).enumerate() {
            chunk.copy_from_slice(&self.ipc.word(2 + index).to_le_bytes());
        }
        let container = self.nodes.container(node).ok_or(EINVAL)?;
        container.written += length as u64;
        self.console.send(kind, container.number, &bytes[..length]);
        Ok(length as u64)
    }

    /// Ends a container because of a fault, and says why.
    fn fault(&mut self, node: u16, info: MessageInfo) {
        let fault = Fault::decode(info, &self.ipc);
        let Some(container) = self.nodes.container(node).map(|container| container.number) else {
            return;
        };
        let what = &mut Text::default();
        let _ = match fault {
            Some(fault) => write!(what, "{}", Sentence(fault)),
            // Only the container itself can have sent that.
            None => write!(what, "it sent a message to its own fault endpoint"),
        };
        self.console.tell(Event::Faulted { container, what: what.as_str() });
        let registers = create::tcb(self.slots(node)).read_registers(&mut self.ipc);
        let mut log = self.console.log(container);
        let _ = writeln!(log, "{}", what.as_str());
        let _ = match registers {
            Ok(registers) => {
                let faulted = fault.and_then(|fault| report::instruction(&fault));
                if faulted.is_some_and(|pc| pc != registers.pc) {
                    let _ = writeln!(log, "  (the registers are those of its first thread)");
                }
                write!(log, "{}", report::Table(&registers))
            }
            Err(error) => writeln!(log, "  its registers cannot be read: {error}"),
        };
        drop(log);
        self.note(STATUS_FAULTED);
        self.remove(node);
    }

    /// Removes a container and gives its memory back.
    pub fn remove(&mut self, node: u16) {
        let Some(&mut container) = self.nodes.container(node) else { return };
        self.nodes.set(node, Node::Free);
        self.give_back(container.memory, container.devices);
        for blob in container.blobs {
            if let Some(blob) = self.nodes.blob(blob) {
                blob.users -= 1;
            }
        }
        let (before, after) = (container.before, self.memory.free() + self.nodes.held());
        self.console.tell(Event::Removed { container: container.number, before, after });
        self.end_if_empty();
    }

    /// Gives memory back with all that was made of it, and devices.
    pub fn give_back(&mut self, memory: Taken, devices: u32) {
        if let Err(error) = self.devices.take_back(&mut self.ipc, &self.space, devices) {
            let mut log = self.console.log(0);
            let _ = writeln!(log, "devices {devices:#b} cannot be taken back: {error}");
        }
        if let Err(error) = self.memory.give(&mut self.ipc, &self.space, memory) {
            // It stays taken, and so the sum of free bytes tells it too.
            let mut log = self.console.log(0);
            let _ = writeln!(log, "{} bytes cannot be given back: {error}", memory.bytes);
        }
    }

    fn end_if_empty(&mut self) {
        if self.ends && self.nodes.containers().next().is_none() {
            let (status, before, after) = (self.status, self.free_at_start, self.memory.free());
            self.console.tell(Event::End { status, before, after });
        }
    }

    fn note(&mut self, status: u8) {
        if status != 0 {
            self.status = status;
        }
    }

    /// First of the slots of a node.
    pub fn slots(&self, node: u16) -> u64 {
        self.slots + u64::from(node) * create::SLOTS
    }
}

/// An entry of the boot archive, and its bytes.
type Read = (koskit_spec::archive::Entry, File);

/// Has the interrupt of the virtio console come where this thread receives messages.
/// Also the notification, which is bound to it: there can be one.
fn interrupt(
    ipc: &mut Ipc,
    space: &mut Space,
    memory: Untyped,
) -> koskit_abi::Result<(IrqHandler, u64)> {
    let notification = space.make(ipc, memory, Object::Notification)?;
    let (badged, handler) = (space.slots(1), space.slots(1));
    space.slot(badged).mint_badged(ipc, space.slot(notification), Rights::ALL, HOST_BADGE)?;
    IrqControl::at(slot::IRQ_CONTROL).get(ipc, virtio::INTERRUPT, space.slot(handler))?;
    let handler = IrqHandler::at(handler);
    handler.set_notification(ipc, Notification::at(badged))?;
    TCB.bind_notification(ipc, Notification::at(notification))?;
    Ok((handler, notification))
}
