//! One process for each running machine, the *keeper*, and how commands reach it.
//!
//! `koskit machine start` starts it in the background. It owns QEMU, which dies with it, and
//! listens on a unix socket; commands come and go. There is no daemon beyond that: with its
//! machine it ends, and with it the machine.
//!
//! | module | is |
//! |---|---|
//! | `place` | where a machine's socket, lock and files are; what a dead keeper left |
//! | `protocol` | what commands and keeper say to each other |
//! | `client` | a command's end |
//! | `keep` | the keeper's end: one thread hears the machine, one accepts, one per command |
//! | `containers` | what the keeper knows of containers and blobs, and how that changes |
//! | `log` | what a container has said, in files, with bounds |
//! | `names` | names for containers that were given none |
//!
//! The machine enforces contracts; the keeper decides what runs. So names, restart policies, exit
//! statuses and logs are here, and none of them is in the root server.

mod client;
mod containers;
mod error;
mod keep;
mod log;
mod names;
mod place;
mod protocol;

pub use client::{Client, Piece};
pub use containers::{Policy, State, Told};
pub use error::Error;
pub use keep::keep;
pub use place::{Place, stopped};
pub use protocol::{Ask, BlobName, Run, Stream};
