//! The threads of seL4 behind those of the program, made of the handed untypeds: for each a TCB, a
//! notification to wait for, and a page for its block. What a thread leaves behind the next one
//! gets. All have the first one's CSpace, address space, IPC buffer (which is for whoever has the
//! lock) and priority.
//!
//! With the second thread comes another one, the clock, which waits for the root server's timer:
//! the others can then wait for each other. While there is one thread only, it waits for the timer
//! itself.

use crate::faults;
use crate::frames::Frames;
use crate::gate::{self, Block, Place};
use crate::lock;
use crate::start;
use alloc::alloc::{Layout, alloc};
use alloc::vec::Vec;
use koskit_abi::{Frame, Ipc, Notification, Object, Registers, Tcb, ipc};
use koskit_libkos::errno::{Errno, Result};
use koskit_libkos::kos::Cause;
use koskit_libkos::system::Spawn;
use koskit_spec::info::Info;
use koskit_spec::layout::{BLOCK_BASE, IPC_BUFFER, PAGE, slot};

/// All threads.
pub struct Threads {
    /// By their places.
    blocks: Vec<*mut Block>,
    /// Those that ended.
    free: Vec<*mut Block>,
    /// Whether there is a clock.
    clock: bool,
    priority: u8,
    max_priority: u8,
}

impl Threads {
    /// The first one, whose block the root server has mapped.
    pub fn new(ipc: &mut Ipc, frames: &mut Frames, info: &Info) -> Self {
        // SAFETY: the root server has mapped a page there for this, which nothing else uses.
        let first = unsafe { Block::open(BLOCK_BASE, slot::TCB, slot::TIMER) };
        faults::set_guard(64 - info.cnode_bits);
        // Where there is no memory for it, the container does without.
        let _ = faults::make(ipc, frames, first, above(info.priority, info.max_priority));
        Self {
            blocks: Vec::from([first]),
            free: Vec::new(),
            clock: false,
            priority: info.priority,
            max_priority: info.max_priority,
        }
    }

    /// As [`System::spawn`](koskit_libkos::system::System::spawn).
    ///
    /// # Errors
    /// ENOMEM.
    pub fn spawn(&mut self, ipc: &mut Ipc, frames: &mut Frames, thread: Spawn) -> Result<()> {
        let Spawn { place, tid, stack, tls } = thread;
        // For lists of so many, and a page in a place that is a multiple of its size.
        let lists = 8 * (self.blocks.len() + 1) * size_of::<*mut Block>();
        frames.reserve(ipc, lists + 2 * PAGE as usize)?;
        self.watch(ipc, frames)?;
        let block = match self.free.pop() {
            Some(block) => block,
            None => self.make(ipc, frames, self.priority)?,
        };
        self.blocks.resize(self.blocks.len().max(place + 1), block);
        self.blocks[place] = block;
        // Each of them may end.
        self.free.reserve(self.blocks.len());
        // SAFETY: the thread behind the block has ended, or never run; the calling thread's
        // own block is another one.
        let (block, parent) = unsafe { (&mut *block, &*Block::own()) };
        block.place = place as u64;
        block.copy_from(parent, tid, stack);
        let mut registers = Registers {
            pc: gate::beginning(),
            tpidr_el0: tls.unwrap_or_else(gate::thread_pointer),
            tpidrro_el0: &raw const *block as u64,
            ..Registers::default()
        };
        registers.x[19] = registers.tpidrro_el0;
        let tcb = Tcb::at(block.tcb);
        // Who ended may not have come to stop itself yet.
        let begun = tcb.suspend(ipc).and_then(|()| tcb.write_registers(ipc, registers, true));
        begun.map_err(|_| Errno::NOMEM)
    }

    /// As [`System::retire`](koskit_libkos::system::System::retire).
    pub fn retire(&mut self, place: usize) {
        // The first one's is the root server's.
        if place != 0 {
            self.free.push(self.blocks[place]);
        }
    }

    /// As [`System::wake`](koskit_libkos::system::System::wake). Without a clock there is but one
    /// thread, which is awake.
    pub fn wake(&self, place: usize) {
        if self.clock {
            // SAFETY: blocks are never unmapped, and this field is changed with the lock only,
            // as this is called.
            let notification = unsafe { (*self.blocks[place]).notification };
            ipc::signal(Notification::at(notification));
        }
    }

    /// As [`System::watch`](koskit_libkos::system::System::watch).
    ///
    /// # Errors
    /// ENOMEM.
    pub fn watch(&mut self, ipc: &mut Ipc, frames: &mut Frames) -> Result<()> {
        if self.clock { Ok(()) } else { self.make_clock(ipc, frames) }
    }

    /// As [`System::interrupt`](koskit_libkos::system::System::interrupt).
    pub fn interrupt(&mut self, ipc: &mut Ipc, place: usize) {
        /// From a stub it is a few instructions to libkos.
        const TRIES: usize = 16;
        // SAFETY: blocks are never unmapped; what other threads read of them is atomic, or read
        // while they are stopped.
        let block = unsafe { &mut *self.blocks[place] };
        block.call_for_attention();
        if core::ptr::eq(block, Block::own()) || faults::sigreturn() == 0 {
            return;
        }
        let tcb = Tcb::at(block.tcb);
        for _ in 0..TRIES {
            // Who has just been woken in libkos would wait again if he were stopped there: seL4 5.0.0
            // goes on with the system call itself.
            let is_within =
                |at: &Registers| matches!(gate::place(at.pc), Place::Within | Place::Refault);
            if faults::is_busy()
                || tcb.read_registers(ipc).as_ref().is_ok_and(is_within)
                || tcb.suspend(ipc).is_err()
            {
                return;
            }
            let Ok(mut registers) = tcb.read_registers(ipc) else { return };
            match gate::place(registers.pc) {
                Place::Program => block.divert(&mut registers, Cause::Signal),
                Place::Leaving | Place::Resume => block.lead(&mut registers),
                Place::Stub => {
                    let _ = tcb.resume(ipc);
                    ipc::yield_now();
                    continue;
                }
                Place::Within | Place::Refault => {
                    let _ = tcb.resume(ipc);
                    return;
                }
            }
            let _ = tcb.write_registers(ipc, registers, true);
            return;
        }
    }

    fn make_clock(&mut self, ipc: &mut Ipc, frames: &mut Frames) -> Result<()> {
        let first = frames.make_small(ipc, Object::Notification)?;
        lock::set_notification(frames.make_small(ipc, Object::Notification)?);
        // So that the time is noticed while others run.
        let priority = above(self.priority, self.max_priority);
        let block = self.make(ipc, frames, priority)?;
        let registers = Registers {
            pc: start::clock as *const () as u64,
            sp: block as u64 + PAGE,
            tpidrro_el0: block as u64,
            ..Registers::default()
        };
        // SAFETY: the block was made just now.
        let tcb = Tcb::at(unsafe { (*block).tcb });
        tcb.write_registers(ipc, registers, true).map_err(|_| Errno::NOMEM)?;
        // SAFETY: it is this thread's own block, and this thread does not wait.
        unsafe { (*self.blocks[0]).notification = first };
        self.clock = true;
        frames.reserve(ipc, 2 * PAGE as usize)
    }

    /// Makes all that a thread needs.
    fn make(&self, ipc: &mut Ipc, frames: &mut Frames, priority: u8) -> Result<*mut Block> {
        let tcb = frames.make_small(ipc, Object::Tcb)?;
        let notification = frames.make_small(ipc, Object::Notification)?;
        // SAFETY: the layout's size is not 0.
        let page = unsafe { alloc(Layout::new::<Page>()) };
        if page.is_null() {
            return Err(Errno::NOMEM);
        }
        // SAFETY: it was allocated just now, and is never freed.
        let block = unsafe { Block::open(page as u64, tcb, notification) };
        // SAFETY: nobody else has it yet.
        let spaces = faults::space(faults::endpoint_for(ipc, frames, unsafe { &*block })?);
        let (own, buffer) = (Tcb::at(slot::TCB), Frame::at(slot::BUFFER));
        let thread = Tcb::at(tcb);
        thread
            .configure(ipc, spaces, IPC_BUFFER, buffer)
            .and_then(|()| thread.set_max_priority(ipc, own, self.max_priority))
            .and_then(|()| thread.set_priority(ipc, own, priority))
            .map_err(|_| Errno::NOMEM)?;
        Ok(block)
    }
}

/// The priority of what must not wait for the program's threads.
fn above(priority: u8, most: u8) -> u8 {
    most.min(priority.saturating_add(1))
}

#[repr(align(4096))]
#[expect(dead_code, reason = "only its layout is used")]
struct Page([u8; PAGE as usize]);
