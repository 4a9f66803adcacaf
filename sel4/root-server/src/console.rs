//! The serial port: what is said to the host and heard from it, as frames ([`koskit_wire`]). A
//! byte is written when the port can take it: who writes much waits, and so do all others, but
//! nothing is lost. Bytes that arrive are told by an interrupt.

use core::fmt::{self, Write};
use core::ptr;
use koskit_wire::{Event, Kind, encode};

/// Where `window` maps the PL011's registers.
pub const REGISTERS: u64 = 0x1000_0000;
/// Number of its interrupt.
pub const INTERRUPT: u64 = 33;

/// Its data register.
const DATA: u64 = 0;
/// Its flag register: bit 4, nothing has arrived; bit 5, it can take no more.
const FLAGS: u64 = 0x18;
/// Its line control register: bit 4, bytes wait in queues; bits 5 and 6, they have 8 bits.
const LINE: u64 = 0x2c;
/// Its interrupt mask: bit 4, something has arrived; bit 6, and nothing has for a while.
const MASK: u64 = 0x38;

/// The console. Its port must have been mapped before anything is done with it.
pub struct Console(());

impl Console {
    /// The console.
    pub fn new() -> Self {
        Self(())
    }

    /// Has the port tell by its interrupt when bytes arrive.
    pub fn listen(&mut self) {
        write(LINE, 7 << 4);
        write(MASK, 1 << 4 | 1 << 6);
    }

    /// Takes bytes that have arrived; none where there are none.
    pub fn receive<'a>(&mut self, to: &'a mut [u8]) -> &'a [u8] {
        let mut length = 0;
        while length < to.len() && read(FLAGS) & 1 << 4 == 0 {
            to[length] = read(DATA) as u8;
            length += 1;
        }
        &to[..length]
    }

    /// Tells what happened.
    pub fn tell(&mut self, event: Event<'_>) {
        let mut line = Text::default();
        // What does not fit is cut off.
        let _ = write!(line, "{event}");
        self.send(Kind::Event, 0, line.as_str().as_bytes());
    }

    /// Sends a frame.
    pub fn send(&mut self, kind: Kind, container: u32, bytes: &[u8]) {
        encode(kind, container, &[bytes], put);
    }

    /// The log of a container, for people; 0 is the machine.
    pub fn log(&mut self, container: u32) -> Log<'_> {
        Log { console: self, container, text: Text::default() }
    }
}

/// Text for a log. It is sent when there is much of it, and at the end.
pub struct Log<'a> {
    console: &'a mut Console,
    container: u32,
    text: Text,
}

impl Log<'_> {
    fn flush(&mut self) {
        self.console.send(Kind::Log, self.container, self.text.as_str().as_bytes());
        self.text = Text::default();
    }
}

impl Write for Log<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.text.write_str(text).is_err() {
            self.flush();
            return self.text.write_str(text);
        }
        Ok(())
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A bounded piece of text. What does not fit is not taken.
pub struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 512], length: 0 }
    }
}

impl Text {
    /// All that was taken.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("?")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

fn put(byte: u8) {
    while read(FLAGS) & 1 << 5 != 0 {}
    write(DATA, u32::from(byte));
}

fn read(register: u64) -> u32 {
    // SAFETY: `serve` maps the PL011 here before it makes a console, and this is one of its
    // registers.
    unsafe { ptr::read_volatile((REGISTERS + register) as *const u32) }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`; none of the registers that are written here reaches memory.
    unsafe { ptr::write_volatile((REGISTERS + register) as *mut u32, value) }
}

/// Does nothing for ever, and lets others run.
pub fn wait_forever() -> ! {
    loop {
        koskit_abi::ipc::yield_now();
    }
}
