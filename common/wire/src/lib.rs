//! What host and root server say to each other, in both directions, over a line of bytes: a
//! serial port, or a virtio console.
//!
//! Everything is said in frames ([`frame`]), each with a length and a checksum. The host sends
//! [`Request`]s; the root server sends what containers write, lines for people, and [`Event`]s.
//! What is on the line outside of frames is text of whoever else writes there: the loader and a
//! debugging kernel.
//!
//! ```text
//! host                                      root server
//!                                           ready free=… …
//! Hello {version}                        ─► hello tag=… version=…
//! Have {digest}                          ─► blob tag=… held=0
//! Put {digest, size}                     ─► done tag=…
//! Page {index, bytes} …                  ─► done tag=…          (of the last page)
//! Create {container, three digests}      ─► started container=…  or  refused container=… reason=…
//!                                           output and errors, as they are written
//!                                           asks container=… most=…
//! Input {container, bytes}
//!                                           exited container=… status=…
//!                                           removed container=… …
//! ```
//!
//! Containers are numbered by the host; 0 is the machine itself. Whatever bytes arrive, on
//! either side: they are decoded, or told as damaged, and nothing else happens.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod event;
pub mod frame;
mod request;

pub use event::{Event, STATUS_FAULTED, STATUS_KILLED, STATUS_REFUSED};
pub use frame::{Decoder, Frame, Kind, PAYLOAD_MAX, Piece, encode};
pub use request::{Digest, PAGE, Request};

/// Version of all this; both sides must have the same.
pub const VERSION: u32 = 1;
