//! The machine below libkos: the root server for output and the end, seL4 for memory.

use crate::frames::Frames;
use koskit_abi::{Endpoint, Ipc, MessageInfo, Tcb, ipc};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::memory::{Pages, Protection};
use koskit_libkos::system::System;
use koskit_spec::info::{Info, request};
use koskit_spec::layout::{IPC_BUFFER, slot};

/// What the container may use of the machine.
pub struct Machine {
    ipc: Ipc,
    frames: Frames,
}

impl Machine {
    /// The machine, as far as the root server's information goes.
    pub fn new(info: &Info) -> Self {
        // SAFETY: the root server has mapped the first thread's IPC buffer there. There is one
        // machine, but for one more where libkos fails and the first is not used any more.
        Self { ipc: unsafe { Ipc::new(IPC_BUFFER) }, frames: Frames::new(info) }
    }
}

impl Pages for Machine {
    fn set(&mut self, start: u64, end: u64, protection: Protection) -> Result<()> {
        self.frames.set(&mut self.ipc, start, end, protection)
    }

    fn release(&mut self, start: u64, end: u64) {
        self.frames.release(&mut self.ipc, start, end);
    }
}

impl System for Machine {
    fn write(&mut self, stream: u8, bytes: &[u8]) -> Result<usize> {
        let bytes = &bytes[..bytes.len().min(request::WRITE_MAX)];
        self.ipc.set_word(0, stream.into());
        self.ipc.set_word(1, bytes.len() as u64);
        let words = bytes.chunks_exact(8);
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        let mut length = 2;
        for word in words {
            self.ipc.set_word(length, u64::from_le_bytes(word.try_into().unwrap_or_default()));
            length += 1;
        }
        self.ipc.set_word(length, u64::from_le_bytes(last));
        if bytes.len() % 8 != 0 {
            length += 1;
        }
        let message = MessageInfo::new(request::WRITE, length);
        match self.ipc.call(Endpoint::at(slot::REQUEST), message).label {
            0 => Ok((self.ipc.word(0) as usize).min(bytes.len())),
            errno => Err(Errno(errno as u16)),
        }
    }

    fn exit(&mut self, status: u8) -> ! {
        self.ipc.set_word(0, status.into());
        self.ipc.call(Endpoint::at(slot::REQUEST), MessageInfo::new(request::EXIT, 1));
        // A root server that answers does not know the request: at least nothing runs on.
        loop {
            let _ = Tcb::at(slot::TCB).suspend(&mut self.ipc);
        }
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

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        self.frames.reserve(&mut self.ipc, bytes)
    }
}
