//! Boots a seL4 machine, listens to it and ends it. The machine is QEMU's `virt` board; it
//! knows nothing of images: what it starts is a [`Container`], as `koskit-lower` makes it.
//!
//! One boot, step by step:
//!
//! 1. [`Platform`] finds loader, kernel, root server and libkos.
//! 2. `archive` puts kernel, root server, libkos and the containers into one boot archive
//!    ([`koskit_spec::archive`]), in memory that QEMU opens by our `/proc/PID/fd`: there is no
//!    file that somebody would have to delete.
//! 3. `qemu` starts QEMU. Its standard input is the socket of its control protocol (QMP), its
//!    standard output is the machine's serial port, its standard error is its own complaints; a
//!    virtio console is the line to the root server. It dies with us, however we die.
//! 4. `listener` hears the machine, and `console` takes apart what it says ([`koskit_wire`]): a
//!    container's output, the log for people, and events. `line` is the other direction.
//! 5. When the root server says that the last container has ended, QEMU is told to quit. The
//!    guest has no way to end the machine by itself, since that would also be a way for every
//!    container to reach the host (semihosting).
//!
//! A [`Machine`] (`live`) is booted without containers: they are created on request, from blobs
//! that the host has put into its memory, until somebody ends it.
//!
//! Whatever comes from the machine is bounded here: lines are cut, output is passed on as it
//! arrives.

mod archive;
mod boot;
mod console;
mod error;
mod line;
mod listener;
mod live;
mod platform;
mod qemu;

pub use archive::Container;
pub use boot::{ContainerTimes, Ended, Options, Timeline, boot};
pub use console::Message;
pub use error::Error;
pub use koskit_wire::{
    Digest, Event, PAGE, Request, STATUS_FAULTED, STATUS_KILLED, STATUS_REFUSED,
};
pub use line::Line;
pub use listener::Listener;
pub use live::Machine;
pub use platform::Platform;
