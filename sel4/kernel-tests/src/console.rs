//! The machine's console: a PL011, which the lab maps.

use core::fmt::{self, Arguments, Write};
use core::ptr;
use koskit_wire::{Encoder, Event, Kind, Stream};

/// Where the lab maps its registers.
pub const ADDRESS: u64 = 0x3000_0000;
/// Physical address.
pub const DEVICE: u64 = 0x900_0000;
const DATA: *mut u32 = ADDRESS as *mut u32;
const FLAGS: *const u32 = (ADDRESS + 0x18) as *const u32;
const FLAGS_FULL: u32 = 1 << 5;

/// Writes a line of the tests' output.
pub fn say(line: Arguments) {
    write(Stream { container: 1, kind: Kind::Output }, line);
}

/// Says that the machine is done.
pub fn end(status: u8) {
    let event = Event::End { status, before: 0, after: 0 };
    write(Stream { container: 0, kind: Kind::Event }, format_args!("{event}"));
}

fn write(stream: Stream, line: Arguments) {
    let mut to = Line { encoder: Encoder::default(), stream };
    // Never fails: `Line` does not.
    let _ = to.write_fmt(line);
    let _ = to.write_char('\n');
    // Back to the log, to which the debug kernel's own messages belong.
    to.encoder.write(Stream::default(), b"", put);
}

struct Line {
    encoder: Encoder,
    stream: Stream,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.encoder.write(self.stream, text.as_bytes(), put);
        Ok(())
    }
}

fn put(byte: u8) {
    // SAFETY: the lab maps the device before anything is said, for ever; and nobody else has it.
    unsafe {
        while ptr::read_volatile(FLAGS) & FLAGS_FULL != 0 {}
        ptr::write_volatile(DATA, byte.into());
    }
}
