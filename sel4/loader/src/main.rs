//! Boots seL4. QEMU puts this program at its link address and enters it at EL2, without MMU and
//! caches; the boot archive ([`koskit_spec::archive`]) is in memory already. In order:
//!
//! 1. take the time, see that this is EL2;
//! 2. copy the kernel to its physical address, and the root server behind it;
//! 3. build the page tables that the kernel expects, turn the MMU on;
//! 4. enter the kernel. It never comes back, and all memory of the loader becomes untyped.
//!
//! What is wrong is said in a sentence on the serial port, followed by the line by which a
//! host knows that nothing more will come. Every byte of the archive is checked before it is
//! used as a number, since a wrong one would otherwise end in silence.
#![no_std]
#![no_main]

mod board;

use crate::board::Entry;
use core::fmt::{self, Write};
use koskit_loader::{Image, ImageError, PAGE};
use koskit_spec::archive::{Archive, ArchiveError, Kind};

/// Called by `_start` with the ticks of CNTVCT_EL0 at reset.
pub fn boot(reset: u64) -> ! {
    let why = match run(reset) {
        Ok(entry) => board::enter(entry),
        Err(why) => why,
    };
    stop(format_args!("koskit: cannot boot seL4: {why}"))
}

/// Says why nothing more will come.
pub fn stop(why: fmt::Arguments<'_>) -> ! {
    let _ = writeln!(board::Serial, "{why}\nhalting...");
    board::wait_forever()
}

fn run(reset: u64) -> Result<Entry, Error> {
    match board::exception_level() {
        2 => {}
        other => return Err(Error::Level(other)),
    }
    let header = Archive::from_page(board::archive_bytes(0, PAGE)).map_err(Error::Archive)?;
    let file = |kind, name| {
        let entry = header.find(kind).ok_or(Error::Missing(name))?;
        let file = board::archive_bytes(entry.offset, entry.size);
        Image::parse(file).map_err(|error| Error::Image(name, error))
    };
    let kernel = file(Kind::Kernel, "kernel")?;
    let server = file(Kind::RootServer, "root server")?;

    let kernel_range = kernel.physical_range();
    if !board::KERNEL.contains(&kernel_range.start) || kernel_range.end > board::KERNEL.end {
        return Err(Error::Room("kernel"));
    }
    // The root server lies behind the kernel, and one page behind the root server takes
    // to it what only we know: the time of reset.
    let virtual_range = server.virtual_range();
    let (start, size) = (kernel_range.end, virtual_range.end - virtual_range.start);
    if size.saturating_add(PAGE) > board::KERNEL.end - start {
        return Err(Error::Room("root server"));
    }
    // SAFETY: `boot` is called once, and so is this.
    let mut memory = unsafe { board::Memory::take() };
    for segment in kernel.segments() {
        memory.put(segment.physical, segment.bytes, segment.size);
    }
    for segment in server.segments() {
        let to = segment.address - virtual_range.start + start;
        memory.put(to, segment.bytes, segment.size);
    }
    memory.put(start + size, &reset.to_le_bytes(), PAGE);
    Ok(Entry {
        kernel: kernel.entry,
        user_start: start,
        user_end: start + size + PAGE,
        offset: start.wrapping_sub(virtual_range.start),
        user_entry: server.entry,
    })
}

enum Error {
    Level(u64),
    Archive(ArchiveError),
    Missing(&'static str),
    Image(&'static str, ImageError),
    Room(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(level) => write!(
                f,
                "this machine starts programs at EL{level}, but the kernel needs EL2; \
                 start QEMU with -machine virt,virtualization=on"
            ),
            Self::Archive(error) => write!(f, "{error}"),
            Self::Missing(name) => write!(f, "there is no {name} in the boot archive"),
            Self::Image(name, error) => write!(f, "the {name} in the boot archive {error}"),
            Self::Room(name) => {
                write!(f, "the {name} in the boot archive does not fit where it must go")
            }
        }
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    stop(format_args!("koskit: the loader has a mistake: {info}"))
}
