//! What libkos needs of the machine below it.

use crate::errno::Result;
use crate::memory::Pages;

/// The stream of a program's standard input.
pub const STDIN: u8 = 0;
/// The stream of a program's standard output.
pub const STDOUT: u8 = 1;
/// The stream of a program's standard error.
pub const STDERR: u8 = 2;
/// The stream of the machine's own log.
pub const LOG: u8 = 3;

/// A thread that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its place.
    pub place: usize,
    /// Its number, which GETTID gives.
    pub tid: u32,
    /// Its stack pointer.
    pub stack: u64,
    /// Its TPIDR_EL0, where it is not to be the same.
    pub tls: Option<u64>,
}

/// The machine below: seL4 and the root server, or a test.
pub trait System: Pages {
    /// Writes at most [`WRITE_MAX`](koskit_spec::info::request::WRITE_MAX) bytes to a stream;
    /// returns how many were taken.
    ///
    /// # Errors
    /// What the root server answers.
    fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<usize>;

    /// Reads at most [`READ_MAX`](koskit_spec::info::request::READ_MAX) bytes of standard input;
    /// waits until there are some, or none at its end.
    ///
    /// # Errors
    /// What the root server answers.
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize>;

    /// Ends the container.
    fn exit(&mut self, status: u8) -> !;

    /// The counter, which rises `Info::timer_hz` times a second.
    fn ticks(&self) -> u64;

    /// Lets others run.
    fn pause(&mut self);

    /// Sees to it that [`Kos::time_passed`](crate::kos::Kos::time_passed) is called, or a thread
    /// that waits served, when the counter has this value. Replaces what was said before.
    fn set_timer(&mut self, ticks: u64);

    /// Begins a thread, as a copy of the one whose call is being answered, with 0 in `x0`.
    ///
    /// # Errors
    /// ENOMEM.
    fn spawn(&mut self, thread: Spawn) -> Result<()>;

    /// The thread at this place has made its last call; the place may be used again.
    fn retire(&mut self, thread: usize);

    /// Has the thread at this place, which waits, served.
    fn wake(&mut self, thread: usize);

    /// Has [`Kos::attend`](crate::kos::Kos::attend) called for the thread at this place before it
    /// goes on in the program. Where it runs there, it is stopped for that.
    fn interrupt(&mut self, thread: usize);

    /// Where a handler returns to that names no such place: `mov x8, #139; svc #0`, whoever comes
    /// there makes that call. 0 where handlers cannot return.
    fn sigreturn(&self) -> u64;

    /// Has [`Kos::time_passed`](crate::kos::Kos::time_passed) called when the time of
    /// [`set_timer`](Self::set_timer) comes, though no thread may wait then.
    ///
    /// # Errors
    /// ENOMEM.
    fn watch(&mut self) -> Result<()>;

    /// Writes the vector registers of the thread that is served: v0 to v31, then FPSR and FPCR as
    /// words of 64 bits, in all 528 bytes that may be written.
    fn save_vectors(&mut self, into: u64);

    /// Sets them, from such bytes.
    fn load_vectors(&mut self, from: u64);

    /// Makes sure that `bytes` can be allocated, so that a call which has begun does not end
    /// halfway for lack of memory.
    ///
    /// # Errors
    /// ENOMEM.
    fn reserve(&mut self, bytes: usize) -> Result<()>;

    /// Pages that can still be had, for what a program asks about free memory.
    fn free_pages(&self) -> u64;
}
