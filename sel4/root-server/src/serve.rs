//! The machine's life, as the root server sees it.

use crate::console::Console;
use crate::container::{self, Admitted, Refusal};
use crate::create::{self, FAULT_BADGE};
use crate::files::Files;
use crate::memory::{Memory, Taken};
use crate::space::Space;
use crate::start::{self, Start};
use crate::window::Window;
use core::fmt::{self, Write};
use koskit_abi::{Endpoint, Error, Fault, Frame, Ipc, MessageInfo, Object, Tcb, Untyped};
use koskit_root_server::report::{self, Sentence};
use koskit_spec::archive::{ArchiveError, BASE, ENTRIES_MAX, Kind};
use koskit_spec::contract::Contract;
use koskit_spec::info::request;
use koskit_wire::{Event, Kind as StreamKind, STATUS_FAULTED, STATUS_REFUSED};

/// Physical address of the serial port.
const UART: u64 = 0x0900_0000;
/// Linux: invalid argument.
const EINVAL: u64 = 22;
/// Linux: no such function.
const ENOSYS: u64 = 38;
/// log2 of the bytes that we need before we know how large the boot archive is.
const OURS: u32 = 15;

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
    memory: Memory,
    console: Console,
    containers: [Option<Container>; ENTRIES_MAX],
    /// First of the slots for containers, [`create::SLOTS`] each.
    slots: u64,
    /// The last status that was not 0.
    status: u8,
    /// Free bytes when nothing had been created.
    free_at_start: u64,
    /// Index of libkos in the boot archive.
    libkos: Option<usize>,
}

/// A container that runs.
#[derive(Clone, Copy)]
struct Container {
    contract: Contract,
    memory: Taken,
    tcb: Tcb,
    /// Bytes that were free or had by other containers before it was created.
    before: u64,
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
            .and_then(|frame| window.map_console(&mut ipc, &mut space, Frame::at(frame)))
            .map_err(failed("map the serial port"))?;
        let console = Console::new();

        let mut memory = Memory::new(info, &mut space, ours);
        let archive = device(BASE).ok_or(Stop::Device("boot archive"))?;
        let files = Files::open(&mut ipc, &mut space, &mut window, &mut memory, archive)?;
        let libkos = files.archive().iter().position(|entry| entry.kind == Kind::Libkos);
        let endpoint = space.endpoint(&mut ipc, ours).map_err(failed("make an endpoint"))?;
        let slots = space.slots(ENTRIES_MAX as u64 * create::SLOTS);
        let containers = [None; ENTRIES_MAX];
        let status = 0;
        Ok(Self {
            ipc,
            space,
            window,
            endpoint,
            files,
            memory,
            console,
            containers,
            slots,
            status,
            free_at_start: 0,
            libkos,
        })
    }

    fn ready(&mut self, reset: u64, ticks: u64) {
        self.free_at_start = self.memory.free();
        let (free, hz) = (self.free_at_start, start::ticks_per_second());
        self.console.tell(Event::Ready { free, reset, ticks, hz });
    }

    /// Creates all containers of the boot archive, numbered from 1.
    fn create_all(&mut self) {
        let mut id = 0;
        for index in 0..self.files.archive().len() {
            let Some(entry) = self.files.archive().get(index) else { continue };
            if entry.kind != Kind::Container {
                continue;
            }
            // There are at most ENTRIES_MAX entries.
            id += 1;
            let asked = start::ticks();
            match self.create(id, index) {
                Ok(()) => {
                    let (free, ticks) = (self.memory.free(), start::ticks());
                    self.console.tell(Event::Started { container: id, free, asked, ticks });
                }
                Err(refusal) => self.refuse(id, refusal),
            }
        }
        self.end_if_empty();
    }

    fn create(&mut self, id: u8, index: usize) -> Result<(), Refusal> {
        let admitted = self.admit(index)?;
        let bits = admitted.contract.untyped_bits;
        let (asked, free, largest) = (1 << bits, self.memory.free(), self.memory.largest());
        let before = free + self.held();
        let memory = self
            .memory
            .take(&mut self.ipc, &self.space, bits)
            .map_err(|error| Refusal::of_memory(error, asked, free, largest))?;
        let slots = self.slots + (u64::from(id) - 1) * create::SLOTS;
        match create::create(self, id, slots, memory.untyped, &admitted) {
            Ok(tcb) => {
                let contract = admitted.contract;
                self.containers[usize::from(id) - 1] =
                    Some(Container { contract, memory, tcb, before });
                Ok(())
            }
            Err(refusal) => {
                self.give_back(memory);
                Err(refusal)
            }
        }
    }

    /// Checks a container, but for free memory; nothing is created.
    fn admit(&mut self, index: usize) -> Result<Admitted, Refusal> {
        let Self { ipc, space, window, files, libkos, .. } = self;
        let mut read = |index: usize| {
            let read = files.read(ipc, space, window, index);
            read.map_err(|error| Refusal::Kernel("read the boot archive", error))
        };
        let (entry, bytes) = read(index)?.ok_or(Refusal::Reference("contract"))?;
        let program = read(entry.program as usize)?;
        let libkos = match *libkos {
            Some(index) => read(index)?,
            None => None,
        };
        let initrd = self.files.archive().get(entry.initrd as usize);
        container::admit(bytes, program, libkos, initrd)
    }

    fn refuse(&mut self, id: u8, refusal: Refusal) {
        let reason = &mut Line::default();
        let _ = write!(reason, "{refusal}");
        self.console.tell(Event::Refused { container: id, reason: reason.text() });
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
            // A badge of ours has been minted by us alone.
            let id = badge as u8;
            answer = if badge & FAULT_BADGE != 0 {
                self.fault(id, info);
                None
            } else {
                self.request(id, info)
            };
        }
    }

    /// Serves a request. The label of the answer, whose one word has been set; none where the
    /// container is gone.
    fn request(&mut self, id: u8, info: MessageInfo) -> Option<u64> {
        let (first, second) = (self.ipc.word(0), self.ipc.word(1));
        // What lies above the length is of an older message, perhaps another container's.
        let result = match info.label {
            request::WRITE if info.length >= 2 => self.write(id, first, second, info.length - 2),
            request::EXIT if info.length >= 1 => {
                let status = first as u8;
                let ticks = start::ticks();
                self.console.tell(Event::Exited { container: id, status, ticks });
                self.note(status);
                self.remove(id);
                return None;
            }
            request::WRITE | request::EXIT => Err(EINVAL),
            _ => Err(ENOSYS),
        };
        let (label, word) = result.map_or_else(|errno| (errno, 0), |taken| (0, taken));
        self.ipc.set_word(0, word);
        Some(label)
    }

    /// Writes `length` bytes of the message, which has so many words from the third on.
    fn write(&mut self, id: u8, stream: u64, length: u64, words: usize) -> Result<u64, u64> {
        let kind = match stream {
            1 => StreamKind::Output,
            2 => StreamKind::Error,
            3 => StreamKind::Log,
            _ => return Err(EINVAL),
        };
        let most = request::WRITE_MAX.min(words * 8);
        let length = usize::try_from(length).ok().filter(|&l| l <= most).ok_or(EINVAL)?;
        let mut bytes = [0; request::WRITE_MAX];
        for (index, chunk) in bytes.chunks_exact_mut(8).take(length.div_ceil(8)).enumerate() {
            chunk.copy_from_slice(&self.ipc.word(2 + index).to_le_bytes());
        }
        self.console.stream(id, kind).write(&bytes[..length]);
        Ok(length as u64)
    }

    /// Ends a container because of a fault, and says why.
    fn fault(&mut self, id: u8, info: MessageInfo) {
        let fault = Fault::decode(info, &self.ipc);
        let Some(container) = self.container(id) else { return };
        let what = &mut Line::default();
        let _ = match fault {
            Some(fault) => write!(what, "{}", Sentence(fault)),
            // Only the container itself can have sent that.
            None => write!(what, "it sent a message to its own fault endpoint"),
        };
        self.console.tell(Event::Faulted { container: id, what: what.text() });
        let registers = container.tcb.read_registers(&mut self.ipc);
        let mut log = self.console.stream(id, StreamKind::Log);
        let _ = writeln!(log, "{}: {}", container.contract.name(), what.text());
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
        self.note(STATUS_FAULTED);
        self.remove(id);
    }

    /// Removes a container and gives its memory back.
    fn remove(&mut self, id: u8) {
        let slot = usize::from(id).checked_sub(1).and_then(|i| self.containers.get_mut(i));
        let Some(container) = slot.and_then(Option::take) else { return };
        self.give_back(container.memory);
        let (before, after) = (container.before, self.memory.free() + self.held());
        self.console.tell(Event::Removed { container: id, before, after });
        self.end_if_empty();
    }

    fn give_back(&mut self, memory: Taken) {
        if let Err(error) = self.memory.give(&mut self.ipc, &self.space, memory) {
            // It stays taken, and so the sum of free bytes tells it too.
            let mut log = self.console.stream(0, StreamKind::Log);
            let _ = writeln!(log, "{} bytes cannot be given back: {error}", memory.bytes);
        }
    }

    fn end_if_empty(&mut self) {
        if self.containers.iter().all(Option::is_none) {
            let (status, before, after) = (self.status, self.free_at_start, self.memory.free());
            self.console.tell(Event::End { status, before, after });
        }
    }

    fn note(&mut self, status: u8) {
        if status != 0 {
            self.status = status;
        }
    }

    fn container(&self, id: u8) -> Option<Container> {
        *usize::from(id).checked_sub(1).and_then(|index| self.containers.get(index))?
    }

    /// Bytes that containers have.
    fn held(&self) -> u64 {
        self.containers.iter().flatten().map(|container| container.memory.bytes).sum()
    }
}

/// A line of text; what does not fit is cut off.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }
}

impl Line {
    fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("?")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let end = self.length + c.len_utf8();
            match self.bytes.get_mut(self.length..end) {
                Some(to) => c.encode_utf8(to),
                None => return Ok(()),
            };
            self.length = end;
        }
        Ok(())
    }
}
