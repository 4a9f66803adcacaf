//! libkos as it is linked at [`KOS_BASE`](koskit_spec::layout::KOS_BASE) of each native
//! container. The root server starts the first thread at `_start`; libkos prepares the
//! program's stack, enters the program, and from then on runs when a system call arrives at a
//! gate, in the thread that made it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod copy;
#[cfg(target_os = "none")]
mod faults;
#[cfg(target_os = "none")]
mod frames;
#[cfg(target_os = "none")]
mod gate;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
mod lock;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod threads;
#[cfg(target_os = "none")]
mod vdso;
#[cfg(target_os = "none")]
use start::{answer, attend, serve, start};

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("libkos runs on seL4 only; its library is what the host can test");
}
