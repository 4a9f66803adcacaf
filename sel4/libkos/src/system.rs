//! What libkos needs of the machine below it.

use crate::errno::Result;
use crate::memory::Pages;

/// The stream of a program's standard output.
pub const STDOUT: u8 = 1;
/// The stream of a program's standard error.
pub const STDERR: u8 = 2;
/// The stream of the machine's own log.
pub const LOG: u8 = 3;

/// The machine below: seL4 and the root server, or a test.
pub trait System: Pages {
    /// Writes at most [`WRITE_MAX`](koskit_spec::info::request::WRITE_MAX) bytes to a stream;
    /// returns how many were taken.
    ///
    /// # Errors
    /// What the root server answers.
    fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<usize>;

    /// Ends the container.
    fn exit(&mut self, status: u8) -> !;

    /// The counter, which rises `Info::timer_hz` times a second.
    fn ticks(&self) -> u64;

    /// Lets others run.
    fn pause(&mut self);

    /// Makes sure that `bytes` can be allocated, so that a call which has begun does not end
    /// halfway for lack of memory.
    ///
    /// # Errors
    /// ENOMEM.
    fn reserve(&mut self, bytes: usize) -> Result<()>;

    /// Pages that can still be had, for what a program asks about free memory.
    fn free_pages(&self) -> u64;
}
