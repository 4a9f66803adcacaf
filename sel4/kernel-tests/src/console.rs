//! The machine's console: a PL011, which the lab maps.

use core::fmt::{self, Arguments, Write};
use core::ptr;
use koskit_wire::{Event, Kind, PAYLOAD_MAX, encode};

/// Where the lab maps its registers.
pub const ADDRESS: u64 = 0x3000_0000;
/// Physical address.
pub const DEVICE: u64 = 0x900_0000;
const DATA: *mut u32 = ADDRESS as *mut u32;
const FLAGS: *const u32 = (ADDRESS + 0x18) as *const u32;
const FLAGS_FULL: u32 = 1 << 5;

/// Writes a line of the tests' output.
pub fn say(line: Arguments) {
    write(Kind::Output, 1, format_args!("{line}\n"));
}

/// Says that the machine is done.
pub fn end(status: u8) {
    let event = Event::End { status, before: 0, after: 0 };
    write(Kind::Event, 0, format_args!("{event}"));
}

/// Writes one frame; what does not fit is cut off.
fn write(kind: Kind, container: u32, text: Arguments) {
    let mut to = Text { bytes: [0; PAYLOAD_MAX], length: 0 };
    let _ = to.write_fmt(text);
    encode(kind, container, &[&to.bytes[..to.length]], put);
}

struct Text {
    bytes: [u8; PAYLOAD_MAX],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
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
