//! A virtio console (Virtual I/O Device 1.1, sections 4.2 and 5.3): the line to the host.
//!
//! Two queues, one a direction, of eight buffers of a page each. What is to be sent is copied into
//! a buffer, which goes when it is full or when it is flushed; where all eight are on their way,
//! we wait. What arrives is told by an interrupt.
//!
//! They are those of the second port: the first is a console, of whose output QEMU drops what the
//! host does not take at once. Other ports are opened by messages in a queue of their own.

use crate::space::Space;
use crate::window::Window;
use core::sync::atomic::{Ordering, fence};
use core::{ptr, slice};
use koskit_abi::{Frame, Ipc, Object, Result, Untyped};

/// Physical address of the first transports of the board.
pub const DEVICE: u64 = 0x0a00_0000;
/// Number of the first transport's interrupt.
pub const INTERRUPT: u64 = 48;

/// Where we map its registers, and then the pages of both queues.
const REGISTERS: u64 = 0x1000_2000;
const QUEUES: u64 = 0x1001_0000;
/// Buffers of a queue, each a page.
const BUFFERS: u16 = 8;
const PAGE: u64 = 4096;
/// Bytes between the queues: a page for the rings, and the buffers.
const QUEUE: u64 = PAGE * (1 + BUFFERS as u64);
/// The feature of several ports.
const MULTIPORT: u32 = 1 << 1;

/// Registers.
mod register {
    pub const MAGIC: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const KIND: u64 = 0x08;
    pub const FEATURES: u64 = 0x20;
    pub const FEATURES_WORD: u64 = 0x24;
    pub const QUEUE_SELECT: u64 = 0x30;
    pub const QUEUE_SIZE: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const INTERRUPTS: u64 = 0x60;
    pub const INTERRUPTS_DONE: u64 = 0x64;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_TABLE: u64 = 0x80;
    pub const QUEUE_AVAILABLE: u64 = 0x90;
    pub const QUEUE_USED: u64 = 0xa0;
}

/// Offsets in the page of rings.
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0x200;
/// Where the messages are that open the port.
const MESSAGES: u64 = 0x300;

/// The console.
pub struct Virtio {
    /// Buffers that have arrived from the host and were looked at.
    seen: u16,
    /// Buffers that we have given to the device, in each queue.
    given: [u16; 3],
    /// Bytes in the buffer that is being filled.
    filled: usize,
}

/// Queues of the second port, and the one in which it is opened.
const FROM_HOST: usize = 0;
const TO_HOST: usize = 1;
const CONTROL: usize = 2;
/// What the device calls them.
const NUMBERS: [u32; 3] = [4, 5, 3];
/// The messages, each with a port, an event and a value: the driver is ready for the device, for
/// the second port, and has opened that.
const OPEN: [(u32, u16, u16); 3] = [(u32::MAX, 0, 1), (1, 3, 1), (1, 6, 1)];

impl Virtio {
    /// Takes the device of the first transport; `None` where that is no console.
    pub fn new(
        ipc: &mut Ipc,
        space: &mut Space,
        window: &mut Window,
        device: Untyped,
        memory: Untyped,
    ) -> Result<Option<Self>> {
        let registers = space.make(ipc, device, Object::SmallFrame)?;
        window.map_device(ipc, space, Frame::at(registers), REGISTERS)?;
        let identity = [register::MAGIC, register::VERSION, register::KIND].map(read);
        if identity != [0x7472_6976, 2, 3] {
            return Ok(None);
        }
        // Reset; we have seen it, and know how to drive it.
        write(register::STATUS, 0);
        write(register::STATUS, 1 | 2);
        // Of the features only several ports, and the one that says that there is a version 1.
        write(register::FEATURES_WORD, 1);
        write(register::FEATURES, 1);
        write(register::FEATURES_WORD, 0);
        write(register::FEATURES, MULTIPORT);
        write(register::STATUS, 1 | 2 | 8);
        for queue in [FROM_HOST, TO_HOST, CONTROL] {
            let mut pages = [0; 1 + BUFFERS as usize];
            let count = if queue == CONTROL { 1 } else { pages.len() };
            for (index, page) in pages[..count].iter_mut().enumerate() {
                let frame = Frame::at(space.make(ipc, memory, Object::SmallFrame)?);
                *page = frame.address(ipc)?;
                window.map_writable(ipc, space, frame, rings(queue) + index as u64 * PAGE)?;
            }
            if queue == CONTROL {
                let first = pages[0] + MESSAGES;
                for (index, page) in pages[1..=OPEN.len()].iter_mut().enumerate() {
                    *page = first + 8 * index as u64;
                }
            }
            set_up(queue, pages);
        }
        write(register::STATUS, 1 | 2 | 8 | 4);
        let mut console = Self { seen: 0, given: [0; 3], filled: 0 };
        for buffer in 0..BUFFERS {
            console.give(FROM_HOST, buffer);
        }
        notify(FROM_HOST);
        console.open();
        Ok(Some(console))
    }

    /// Opens the port. What is told of ports is not waited for: there is one.
    fn open(&mut self) {
        for (index, (port, event, value)) in (0..).zip(OPEN) {
            let at = rings(CONTROL) + MESSAGES + 8 * u64::from(index);
            set32(at, port);
            set16(at + 4, event);
            set16(at + 6, value);
            set32(rings(CONTROL) + 16 * u64::from(index) + 8, 8);
            self.give(CONTROL, index);
        }
        notify(CONTROL);
    }

    /// Adds a byte to what is to be sent.
    pub fn put(&mut self, byte: u8) {
        let buffer = self.given[TO_HOST] % BUFFERS;
        if self.filled == 0 {
            // All buffers are on their way: we wait for the oldest, which is this one.
            while self.given[TO_HOST].wrapping_sub(used(TO_HOST)) >= BUFFERS {}
        }
        let at = address(TO_HOST, buffer) + self.filled as u64;
        // SAFETY: inside the buffer, which the device has given back.
        unsafe { ptr::write_volatile(at as *mut u8, byte) };
        self.filled += 1;
        if self.filled == PAGE as usize {
            self.flush();
        }
    }

    /// Sends what was added.
    pub fn flush(&mut self) {
        if self.filled > 0 {
            let buffer = self.given[TO_HOST] % BUFFERS;
            // The descriptor's length.
            set32(rings(TO_HOST) + 16 * u64::from(buffer) + 8, self.filled as u32);
            self.filled = 0;
            self.give(TO_HOST, buffer);
            notify(TO_HOST);
        }
    }

    /// The next bytes that have arrived, with the buffer that they are in. It is to be given back
    /// by `done` before the next is asked for.
    pub fn received(&mut self) -> Option<(u16, &'static [u8])> {
        if self.seen == used(FROM_HOST) {
            return None;
        }
        let entry = rings(FROM_HOST) + USED + 4 + 8 * u64::from(self.seen % BUFFERS);
        let (buffer, length) = (get32(entry) as u16 % BUFFERS, get32(entry + 4) as usize);
        self.seen = self.seen.wrapping_add(1);
        let (at, length) = (address(FROM_HOST, buffer), length.min(PAGE as usize));
        // SAFETY: inside the buffer, which the device does not write until it is given back.
        Some((buffer, unsafe { slice::from_raw_parts(at as *const u8, length) }))
    }

    /// Gives the buffer of bytes that arrived back to the device.
    pub fn done(&mut self, buffer: u16) {
        self.give(FROM_HOST, buffer);
        notify(FROM_HOST);
    }

    /// Lets the device tell again that something has arrived.
    pub fn acknowledge(&mut self) {
        write(register::INTERRUPTS_DONE, read(register::INTERRUPTS));
    }

    fn give(&mut self, queue: usize, buffer: u16) {
        let (ring, given) = (rings(queue) + AVAILABLE, &mut self.given[queue]);
        set16(ring + 4 + 2 * u64::from(*given % BUFFERS), buffer);
        // The device sees the entry before it sees that there is one.
        fence(Ordering::SeqCst);
        *given = given.wrapping_add(1);
        set16(ring + 2, *given);
        fence(Ordering::SeqCst);
    }
}

/// Tells the device where a queue is, whose first page has the rings, by physical addresses.
fn set_up(queue: usize, pages: [u64; 1 + BUFFERS as usize]) {
    let [first, buffers @ ..] = pages;
    for (index, page) in buffers.into_iter().enumerate() {
        let descriptor = rings(queue) + 16 * index as u64;
        set32(descriptor, page as u32);
        set32(descriptor + 4, (page >> 32) as u32);
        set32(descriptor + 8, PAGE as u32);
        // The device writes to what is from the host.
        set16(descriptor + 12, if queue == FROM_HOST { 2 } else { 0 });
    }
    // What was sent is no reason for an interrupt.
    set16(rings(queue) + AVAILABLE, u16::from(queue != FROM_HOST));
    write(register::QUEUE_SELECT, NUMBERS[queue]);
    write(register::QUEUE_SIZE, u32::from(BUFFERS));
    for (register, offset) in [
        (register::QUEUE_TABLE, 0),
        (register::QUEUE_AVAILABLE, AVAILABLE),
        (register::QUEUE_USED, USED),
    ] {
        write(register, (first + offset) as u32);
        write(register + 4, ((first + offset) >> 32) as u32);
    }
    write(register::QUEUE_READY, 1);
}

/// Tells the device that a queue has more.
fn notify(queue: usize) {
    write(register::QUEUE_NOTIFY, NUMBERS[queue]);
}

/// Address of a queue's rings.
fn rings(queue: usize) -> u64 {
    QUEUES + queue as u64 * QUEUE
}

/// Address of a buffer.
fn address(queue: usize, buffer: u16) -> u64 {
    rings(queue) + PAGE * (1 + u64::from(buffer % BUFFERS))
}

/// How many buffers the device has given back.
fn used(queue: usize) -> u16 {
    let at = rings(queue) + USED + 2;
    // SAFETY: in the page of the rings, which `new` has mapped.
    let count = unsafe { ptr::read_volatile(at as *const u16) };
    fence(Ordering::SeqCst);
    count
}

fn get32(at: u64) -> u32 {
    // SAFETY: all callers' addresses are in the page of the rings, which `new` has mapped.
    unsafe { ptr::read_volatile(at as *const u32) }
}

fn set32(at: u64, value: u32) {
    // SAFETY: as in `get32`.
    unsafe { ptr::write_volatile(at as *mut u32, value) }
}

fn set16(at: u64, value: u16) {
    // SAFETY: as in `get32`.
    unsafe { ptr::write_volatile(at as *mut u16, value) }
}

fn read(register: u64) -> u32 {
    // SAFETY: one of the device's registers, which `new` has mapped before.
    unsafe { ptr::read_volatile((REGISTERS + register) as *const u32) }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`. The device writes to no memory but the buffers that it is told of.
    unsafe { ptr::write_volatile((REGISTERS + register) as *mut u32, value) }
}
