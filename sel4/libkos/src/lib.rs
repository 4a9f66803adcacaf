//! The library operating system inside each native container: Linux's system calls as function
//! calls, answered from an archive of files, memory of the container's own, and a few
//! requests to the root server.
//!
//! | module | holds |
//! |---|---|
//! | [`kos`] | the state of a container, and which function answers which call |
//! | [`tree`] | files: the image's below, what changes above, paths |
//! | [`initrd`] | the image's files: an index over the archive |
//! | [`proc`] | `/dev`, `/proc` and `/sys` |
//! | [`context`] | a thread's registers |
//! | [`fd`] | file descriptors |
//! | [`memory`] | which ranges of addresses are mapped |
//! | [`process`] | what a program finds on its stack when it starts |
//! | [`stream`] | pipes, sockets, timers and what waits for them |
//! | [`user`] | reading and writing the program's memory |
//!
//! This library knows nothing of seL4: what it needs of the machine is the trait
//! [`System`](system::System), so it runs in tests on any host. The binary beside it is what
//! is linked at [`KOS_BASE`](koskit_spec::layout::KOS_BASE).
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[cfg(test)]
mod abi;
pub mod context;
pub mod errno;
pub mod fd;
pub mod initrd;
pub mod kos;
pub mod memory;
pub mod number;
pub mod proc;
pub mod process;
pub mod stat;
pub mod stream;
pub mod system;
pub mod tree;
pub mod user;
