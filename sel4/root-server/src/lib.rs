//! What of the root server does not need seL4 to run, and so is tested where it is built: the
//! books of memory, faults in words, seeds.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod buddy;
pub mod report;
pub mod seed;
