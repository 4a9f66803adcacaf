//! What descriptors without a file stand for: pipes, counters, timers, sockets, and what waits
//! for them.
//!
//! Each tells what could be done with it now ([`Ready`]). Who changes something says so to
//! whoever waits, by [`Kos`](crate::kos::Kos).

pub mod address;
mod counter;
mod epoll;
mod pipe;
mod queue;
mod socket;

pub use counter::{Counter, Timer};
pub use epoll::{Epoll, Interest};
pub use pipe::{End, PIPE_BUF, Pipe};
pub use queue::Queue;
pub use socket::{BUFFER, Kind, Names, Received, Socket};

/// What can be done with a descriptor at the moment: bits of `poll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The bits.
    pub events: u32,
    /// Changes so far that can have made reading possible.
    pub input: u32,
    /// Changes so far that can have made writing possible.
    pub output: u32,
    /// When it changes by itself: nanoseconds of the monotonic clock.
    pub at: Option<u64>,
}

/// Bits of `poll` and `epoll`.
#[expect(missing_docs, reason = "Linux's own names")]
pub mod poll {
    pub const IN: u32 = 1;
    pub const PRI: u32 = 2;
    pub const OUT: u32 = 4;
    pub const ERR: u32 = 8;
    pub const HUP: u32 = 0x10;
    pub const NVAL: u32 = 0x20;
    pub const RDNORM: u32 = 0x40;
    pub const WRNORM: u32 = 0x100;
    pub const RDHUP: u32 = 0x2000;
    /// There is something to read.
    pub const READ: u32 = IN | RDNORM;
    /// Something can be written.
    pub const WRITE: u32 = OUT | WRNORM;
}

impl Ready {
    /// What never changes.
    pub fn always(events: u32) -> Self {
        Self { events, ..Self::default() }
    }
}
