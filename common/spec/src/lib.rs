//! The resource contract: what a native container may hold, where it finds it, and how
//! the parts that must agree on that (`lower` on the host, the root server and libkos on
//! seL4) write it down.
//!
//! | module | says |
//! |---|---|
//! | [`label`] | the names of the image labels that state a contract |
//! | [`contract`] | the contract itself, and the process it is for |
//! | [`elf`] | which ELF files are accepted, and what pages they need |
//! | [`plan`] | what kernel objects a contract comes to, in bytes |
//! | [`layout`] | the address space and the CSpace of a container |
//! | [`info`] | what the root server tells libkos at its start, and what libkos may ask |
//! | [`gate`] | how a rewritten `svc #0` reaches libkos |
//! | [`board`] | the devices that a container can have |
//! | [`archive`] | how kernel, root server, libkos and bundles lie in memory at boot |
//!
//! All integers in memory and in files are little-endian. Everything here parses bytes of
//! strangers: no function panics on any input, and none allocates without the feature `alloc`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod board;
pub mod contract;
pub mod elf;
pub mod gate;
pub mod info;
pub mod label;
pub mod layout;
pub mod plan;

mod bytes;
