//! The machine below libkos: the root server for output and the end, seL4 for memory.

use crate::faults;
use crate::frames::Frames;
use crate::gate;
use crate::threads::Threads;
use core::fmt;
use koskit_abi::{Endpoint, Ipc, MessageInfo, Tcb, ipc};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::memory::{Pages, Protection};
use koskit_libkos::system::{LOG, Spawn, System};
use koskit_spec::info::{Info, request};
use koskit_spec::layout::{IPC_BUFFER, slot};

/// What the container may use of the machine.
pub struct Machine {
    ipc: Ipc,
    frames: Frames,
    threads: Threads,
}

impl Machine {
    /// The machine, as far as the root server's information goes.
    ///
    /// # Errors
    /// ENOMEM where the memory that was handed over is too little for the list of it.
    pub fn new(info: &Info) -> Result<Self> {
        let mut ipc = messages();
        let mut frames = Frames::new(&mut ipc, info)?;
        let threads = Threads::new(&mut ipc, &mut frames, info);
        Ok(Self { ipc, frames, threads })
    }
}

/// Ends the container with a last line on the log, whatever state libkos is in.
pub fn fail(status: u8, reason: fmt::Arguments<'_>) -> ! {
    struct Log(Ipc);
    impl fmt::Write for Log {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for chunk in text.as_bytes().chunks(request::WRITE_MAX) {
                write(&mut self.0, LOG, chunk).map_err(|_| fmt::Error)?;
            }
            Ok(())
        }
    }
    let mut log = Log(messages());
    // Where the log cannot be written, nobody can be told.
    let _ = fmt::Write::write_fmt(&mut log, format_args!("libkos: {reason}\n"));
    exit(&mut log.0, status)
}

fn messages() -> Ipc {
    // SAFETY: the root server has mapped the first thread's IPC buffer there, which all threads
    // have. It is used by one machine, with the lock; and by `fail`, after which nothing else of
    // this thread runs.
    unsafe { Ipc::new(IPC_BUFFER) }
}

fn write(ipc: &mut Ipc, stream: u8, bytes: &[u8]) -> Result<usize> {
    let bytes = &bytes[..bytes.len().min(request::WRITE_MAX)];
    ipc.set_word(0, stream.into());
    ipc.set_word(1, bytes.len() as u64);
    let words = bytes.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let mut length = 2;
    for word in words {
        ipc.set_word(length, u64::from_le_bytes(word.try_into().unwrap_or_default()));
        length += 1;
    }
    if bytes.len() % 8 != 0 {
        ipc.set_word(length, u64::from_le_bytes(last));
        length += 1;
    }
    let message = MessageInfo::new(request::WRITE, length);
    match ipc.call(Endpoint::at(slot::REQUEST), message).label {
        0 => Ok((ipc.word(0) as usize).min(bytes.len())),
        errno => Err(Errno(errno as u16)),
    }
}

fn read(ipc: &mut Ipc, bytes: &mut [u8]) -> Result<usize> {
    let most = bytes.len().min(request::READ_MAX);
    if most == 0 {
        return Ok(0);
    }
    ipc.set_word(0, most as u64);
    let answer = ipc.call(Endpoint::at(slot::REQUEST), MessageInfo::new(request::READ, 1));
    if answer.label != 0 {
        return Err(Errno(answer.label as u16));
    }
    let length = (ipc.word(0) as usize).min(most);
    for (index, to) in bytes[..length].chunks_mut(8).enumerate() {
        to.copy_from_slice(&ipc.word(1 + index).to_le_bytes()[..to.len()]);
    }
    Ok(length)
}

fn exit(ipc: &mut Ipc, status: u8) -> ! {
    ipc.set_word(0, status.into());
    ipc.call(Endpoint::at(slot::REQUEST), MessageInfo::new(request::EXIT, 1));
    // A root server that answers does not know the request: at least nothing runs on.
    stop(slot::TCB)
}

/// Stops the calling thread, whose TCB this is. That takes no message of words, and so needs
/// no lock.
pub fn stop(tcb: u64) -> ! {
    let mut ipc = messages();
    loop {
        let _ = Tcb::at(tcb).suspend(&mut ipc);
    }
}

impl Pages for Machine {
    fn set(&mut self, start: u64, end: u64, protection: Protection) -> Result<()> {
        self.frames.set(&mut self.ipc, start, end, protection)
    }

    fn release(&mut self, start: u64, end: u64) -> Result<()> {
        self.frames.release(&mut self.ipc, start, end)
    }
}

impl System for Machine {
    fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<usize> {
        write(&mut self.ipc, stream, bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        read(&mut self.ipc, bytes)
    }

    fn exit(&mut self, status: u8) -> ! {
        exit(&mut self.ipc, status)
    }

    fn ticks(&self) -> u64 {
        let ticks;
        // SAFETY: reads the counter; the barrier keeps it from being read too early.
        unsafe {
            core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack))
        };
        ticks
    }

    fn pause(&mut self) {
        ipc::yield_now();
    }

    fn set_timer(&mut self, ticks: u64) {
        self.ipc.set_word(0, ticks);
        // There is nothing in it that the root server refuses.
        self.ipc.call(Endpoint::at(slot::REQUEST), MessageInfo::new(request::TIMER, 1));
    }

    fn spawn(&mut self, thread: Spawn) -> Result<()> {
        self.threads.spawn(&mut self.ipc, &mut self.frames, thread)
    }

    fn retire(&mut self, thread: usize) {
        self.threads.retire(thread);
    }

    fn wake(&mut self, thread: usize) {
        self.threads.wake(thread);
    }

    fn interrupt(&mut self, thread: usize) {
        self.threads.interrupt(&mut self.ipc, thread);
    }

    fn sigreturn(&self) -> u64 {
        faults::sigreturn()
    }

    fn watch(&mut self) -> Result<()> {
        self.threads.watch(&mut self.ipc, &mut self.frames)
    }

    fn save_vectors(&mut self, into: u64) {
        // SAFETY: the caller has such memory; libkos has not changed the registers.
        unsafe { gate::save_vectors(into as *mut _) }
    }

    fn load_vectors(&mut self, from: u64) {
        // SAFETY: the caller has such memory.
        unsafe { gate::load_vectors(from as *const _) }
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        self.frames.reserve(&mut self.ipc, bytes)
    }

    fn free_pages(&self) -> u64 {
        self.frames.left()
    }
}
