//! The serial port, which all streams share ([`koskit_wire`]). A byte is written when the
//! port can take it: who writes much waits, and so do all others, but nothing is lost.

use core::fmt::{self, Write};
use core::ptr;
use koskit_wire::{Encoder, Event, Kind, Stream};

/// Where `window` maps the PL011's registers.
pub const REGISTERS: u64 = 0x1000_0000;

/// The console. Its port must have been mapped before anything is written.
pub struct Console {
    encoder: Encoder,
}

impl Console {
    /// The console of a machine on which nothing has been written but the kernel's own log.
    pub fn new() -> Self {
        Self { encoder: Encoder::default() }
    }

    /// A console that assumes nothing about what was written before.
    pub fn after_panic() -> Self {
        let mut console = Self::new();
        // No stream has this number, so that the next write switches.
        console.stream(0xff, Kind::Log).write(b"");
        console
    }

    /// Tells what happened.
    pub fn tell(&mut self, event: Event<'_>) {
        let _ = writeln!(self.stream(0, Kind::Event), "{event}");
        // A debugging kernel writes to the same port. Its text shall be the machine's log, and
        // not the beginning of the next event's line.
        self.stream(0, Kind::Log).write(b"");
    }

    /// A stream of a container; 0 is the machine.
    pub fn stream(&mut self, container: u8, kind: Kind) -> Writer<'_> {
        Writer { console: self, stream: Stream { container, kind } }
    }
}

/// Writes to one stream.
pub struct Writer<'a> {
    console: &'a mut Console,
    stream: Stream,
}

impl Writer<'_> {
    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.console.encoder.write(self.stream, bytes, put);
    }
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

fn put(byte: u8) {
    // SAFETY: `serve` maps the PL011 here before it makes a console. These are its flag
    // register, whose bit 5 says that it can take no more, and its data register.
    unsafe {
        while ptr::read_volatile((REGISTERS + 0x18) as *const u32) & 1 << 5 != 0 {}
        ptr::write_volatile(REGISTERS as *mut u32, u32::from(byte));
    }
}

/// Does nothing for ever, and lets others run.
pub fn wait_forever() -> ! {
    loop {
        koskit_abi::ipc::yield_now();
    }
}
