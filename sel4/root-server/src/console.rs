//! What is said to the host and heard from it, as frames ([`koskit_wire`]): over the virtio
//! console, and before there is one, or after a panic, over the serial port. Who writes much waits,
//! and so do all others, but nothing is lost.

use crate::virtio::Virtio;
use core::fmt::{self, Write};
use core::ptr;
use koskit_wire::{Event, Kind, encode};

/// Where `window` maps the PL011's registers.
pub const REGISTERS: u64 = 0x1000_0000;

/// The console. The serial port must have been mapped before anything is done with it.
pub struct Console {
    virtio: Option<Virtio>,
}

impl Console {
    /// The console, without a virtio console: the serial port.
    pub fn new() -> Self {
        Self { virtio: None }
    }

    /// From now on everything goes over the virtio console.
    pub fn connect(&mut self, virtio: Virtio) {
        self.virtio = Some(virtio);
    }

    /// The virtio console, once there is one.
    pub fn virtio(&mut self) -> Option<&mut Virtio> {
        self.virtio.as_mut()
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
        match &mut self.virtio {
            Some(virtio) => {
                encode(kind, container, &[bytes], |byte| virtio.put(byte));
                virtio.flush();
            }
            None => encode(kind, container, &[bytes], put),
        }
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

/// Writes a byte to the serial port.
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
