//! Signals within the process: who gets one, and what he does about it.
//!
//! A signal waits in a queue until a thread that does not block it comes by: at the end of a call,
//! or instead of waiting in one. A thread that waits is woken for it, and one that runs in the
//! program is stopped and led here ([`System::interrupt`]), which calls [`Kos::attend`]. What the
//! handler then finds on its stack is in [`frame`](super::frame).

use super::frame::{self, Entry};
use super::wait::NEVER;
use super::{Kos, Next, PID, RESERVE};
use crate::context::Context;
use crate::errno::{Errno, Result};
use crate::number::*;
use crate::system::System;
use crate::user;
use alloc::vec::Vec;

pub(super) const SIGNALS: u64 = 64;
const SIGILL: u64 = 4;
const SIGTRAP: u64 = 5;
const SIGBUS: u64 = 7;
const SIGFPE: u64 = 8;
const SIGKILL: u64 = 9;
const SIGSEGV: u64 = 11;
pub(super) const SIGPIPE: u64 = 13;
const SIGSTOP: u64 = 19;
/// The first of the signals that are queued as often as they are sent.
const SIGRTMIN: u64 = 32;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
/// Signals that by default do nothing: CHLD, CONT, URG, WINCH; and STOP, TSTP, TTIN, TTOU, since
/// nobody could continue what they stop.
const IGNORED: u64 =
    bit(17) | bit(18) | bit(23) | bit(28) | bit(SIGSTOP) | bit(20) | bit(21) | bit(22);
/// Nobody blocks these, or handles them.
const MIGHTY: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// What an instruction caused comes before all others.
const CAUSED: u64 = bit(SIGILL) | bit(SIGTRAP) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGSEGV);
/// Most signals that wait, as RLIMIT_SIGPENDING.
const QUEUE_MAX: usize = 1024;

/// Flags of an action.
pub(super) mod sa {
    pub const SIGINFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// Flags of an alternate stack.
pub(super) mod ss {
    pub const ONSTACK: u64 = 1;
    pub const DISABLE: u64 = 2;
    pub const AUTODISARM: u64 = 1 << 31;
    /// Least size.
    pub const MIN: u64 = 5120;
}

pub(super) const fn bit(signal: u64) -> u64 {
    1 << (signal - 1)
}

/// What the process wants done about signals, and those that wait.
pub(super) struct Signals {
    actions: [Action; SIGNALS as usize],
    queue: Vec<Pending>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { actions: [Action::default(); SIGNALS as usize], queue: Vec::new() }
    }
}

/// `struct sigaction` of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

/// What of `siginfo_t` is not the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Siginfo {
    pub code: i32,
    /// What follows from offset 16 on.
    pub words: [u64; 2],
}

impl Siginfo {
    /// From a timer; the first word is its number.
    pub const TIMER: i32 = -2;
    const USER: i32 = 0;
    const TKILL: i32 = -6;
    const KERNEL: i32 = 0x80;

    /// From a call of this process.
    fn of_process(code: i32) -> Self {
        Self { code, words: [PID, 0] }
    }

    /// From the kernel, about nothing in particular.
    pub fn of_kernel() -> Self {
        Self { code: Self::KERNEL, words: [0; 2] }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    signal: u64,
    /// The place of the thread it is for; none where any will do.
    thread: Option<usize>,
    info: Siginfo,
}

/// What a thread has of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub blocked: u64,
    /// What it blocks again when the call that it is in is over.
    pub saved: Option<u64>,
    /// Address, flags and size of its alternate stack.
    pub stack: [u64; 3],
    /// What it waits for in `rt_sigtimedwait`.
    awaited: u64,
}

impl Default for Own {
    fn default() -> Self {
        Self { blocked: 0, saved: None, stack: [0, ss::DISABLE, 0], awaited: 0 }
    }
}

impl Own {
    /// What a thread begins with that this one makes.
    pub fn inherited(self) -> Self {
        Self { blocked: self.blocked, ..Self::default() }
    }
}

/// Why [`Kos::attend`] is called.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it ([`System::interrupt`]).
    Signal,
    /// An instruction of the program failed.
    Fault(Fault),
    /// A handler returned to where [`System::sigreturn`] says.
    Return,
}

/// What an instruction did that it may not.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// ESR: exception class in bits 26 to 31.
    pub syndrome: u64,
    /// What it touched, or where it is.
    pub address: u64,
}

impl Fault {
    /// Signal and code, as in Linux's `arch/arm64/mm/fault.c` and `kernel/traps.c`. Whether
    /// something without access is mapped there is not in the syndrome.
    fn signal(self, is_mapped: bool) -> (u64, i32) {
        const FIRST: i32 = 1;
        const SECOND: i32 = 2;
        match (self.syndrome >> 26 & 0x3f, self.syndrome & 0x3f) {
            // Aborts of instructions and of data: permission; alignment; nothing is there.
            (0x20 | 0x24, 0x0c..=0x0f) => (SIGSEGV, SECOND),
            (0x20 | 0x24, 0x21) => (SIGBUS, FIRST),
            (0x20 | 0x24, _) => (SIGSEGV, if is_mapped { SECOND } else { FIRST }),
            // Alignment of the program counter, of the stack pointer.
            (0x22 | 0x26, _) => (SIGBUS, FIRST),
            // A floating-point exception, of which the code is not told.
            (0x2c, _) => (SIGFPE, 14),
            // Breakpoints, and steps.
            (0x30..=0x35 | 0x3c, _) => (SIGTRAP, FIRST),
            _ => (SIGILL, FIRST),
        }
    }
}

impl<S: System> Kos<'_, S> {
    pub(super) fn sigaction(&mut self, signal: u64, new: u64, old: u64, size: u64) -> Result {
        if size != 8 || signal == 0 || signal > SIGNALS {
            return Err(Errno::INVAL);
        }
        if new != 0 && bit(signal) & MIGHTY != 0 {
            return Err(Errno::INVAL);
        }
        let before = self.signals.actions[signal as usize - 1];
        if new != 0 {
            let [handler, flags, restorer, mask] = user::words(new)?;
            if handler > SIG_IGN && self.system.sigreturn() == 0 {
                // Nothing is there that would lead a handler back.
                return Err(Errno::NOMEM);
            }
            let mask = mask & !MIGHTY;
            self.signals.actions[signal as usize - 1] = Action { handler, flags, restorer, mask };
            if self.does_nothing(signal) {
                self.signals.queue.retain(|pending| pending.signal != signal);
            }
        }
        if old != 0 {
            let Action { handler, flags, restorer, mask } = before;
            user::set_words(old, &[handler, flags, restorer, mask])?;
        }
        Ok(0)
    }

    pub(super) fn sigprocmask(&mut self, how: u64, new: u64, old: u64, size: u64) -> Result {
        if size != 8 {
            return Err(Errno::INVAL);
        }
        let before = self.own().blocked;
        if new != 0 {
            let [set] = user::words(new)?;
            let blocked = match how {
                0 => before | set,
                1 => before & !set,
                2 => set,
                _ => return Err(Errno::INVAL),
            };
            self.set_blocked(blocked);
        }
        if old != 0 {
            user::set_words(old, &[before])?;
        }
        Ok(0)
    }

    fn set_blocked(&mut self, blocked: u64) {
        let own = self.own();
        let more = blocked & !own.blocked;
        own.blocked = blocked & !MIGHTY;
        if more != 0 {
            self.offer();
        }
        if self.is_due(self.current) {
            self.system.interrupt(self.current);
        }
    }

    pub(super) fn sigpending(&mut self, into: u64, size: u64) -> Result {
        if size > 8 {
            return Err(Errno::INVAL);
        }
        let mine = |pending: &&Pending| pending.thread.is_none_or(|place| place == self.current);
        let set: u64 =
            self.signals.queue.iter().filter(mine).fold(0, |set, of| set | bit(of.signal));
        let set = set & self.threads[self.current].signals.blocked;
        user::bytes_mut(into, size)?.copy_from_slice(&set.to_le_bytes()[..size as usize]);
        Ok(0)
    }

    pub(super) fn sigsuspend(&mut self, mask: u64, size: u64) -> Result {
        self.with_mask(mask, size, |kos| Err(kos.wait(super::wait::Event::Time, NEVER)))
    }

    /// Answers a call with other signals blocked while it waits; 0 is the address of no set.
    pub(super) fn with_mask(
        &mut self,
        mask: u64,
        size: u64,
        call: impl FnOnce(&mut Self) -> Result,
    ) -> Result {
        if mask != 0 && self.own().saved.is_none() {
            if size != 8 {
                return Err(Errno::INVAL);
            }
            let [mask] = user::words(mask)?;
            let own = self.own();
            own.saved = Some(own.blocked);
            own.blocked = mask & !MIGHTY;
        }
        let result = call(self);
        if !matches!(result, Err(Errno::WAIT | Errno::RESTART)) {
            self.restore_mask();
        }
        result
    }

    /// Blocks again what was blocked before the call.
    fn restore_mask(&mut self) {
        if let Some(blocked) = self.own().saved.take() {
            self.set_blocked(blocked);
        }
    }

    pub(super) fn sigtimedwait(&mut self, set: u64, info: u64, timeout: u64, size: u64) -> Result {
        if size != 8 {
            return Err(Errno::INVAL);
        }
        let until = self.until_after(timeout)?;
        let [set] = user::words(set)?;
        let set = set & !MIGHTY;
        self.own().awaited = 0;
        if let Some(pending) = self.take_signal(self.current, set) {
            if info != 0 {
                let into = user::bytes_mut(info, frame::INFO_SIZE)?;
                frame::put_info(into, pending.signal, &pending.info);
            }
            return Ok(pending.signal);
        }
        if self.is_over(until) {
            return Err(Errno::AGAIN);
        }
        let waits = self.wait(super::wait::Event::Time, until);
        if waits == Errno::WAIT {
            self.own().awaited = set;
        }
        Err(waits)
    }

    /// `kill`: the process can only reach itself.
    pub(super) fn kill(&mut self, target: u64, signal: u64) -> Result {
        if signal > SIGNALS {
            return Err(Errno::INVAL);
        }
        if target as u32 as u64 != PID && target as i32 != 0 && target as i32 != -1 {
            return Err(Errno::SRCH);
        }
        if signal != 0 {
            self.send(signal, None, Siginfo::of_process(Siginfo::USER))?;
        }
        Ok(0)
    }

    /// `tgkill` and `tkill`, which have no process.
    pub(super) fn tgkill(&mut self, process: Option<u64>, tid: u64, signal: u64) -> Result {
        let is_number = |number: u64| (number as i32) > 0;
        if signal > SIGNALS || !process.is_none_or(is_number) || !is_number(tid) {
            return Err(Errno::INVAL);
        }
        if process.is_some_and(|process| process as u32 as u64 != PID) {
            return Err(Errno::SRCH);
        }
        let place = self.place_of(tid)?;
        if signal != 0 {
            self.send(signal, Some(place), Siginfo::of_process(Siginfo::TKILL))?;
        }
        Ok(0)
    }

    /// `rt_sigqueueinfo`, and `rt_tgsigqueueinfo`, which has a thread.
    pub(super) fn sigqueueinfo(
        &mut self,
        process: u64,
        tid: Option<u64>,
        signal: u64,
        info: u64,
    ) -> Result {
        if signal > SIGNALS {
            return Err(Errno::INVAL);
        }
        if process as u32 as u64 != PID {
            return Err(Errno::SRCH);
        }
        let thread = tid.map(|tid| self.place_of(tid)).transpose()?;
        let [_, code, first, second] = user::words(info)?;
        if signal != 0 {
            let info = Siginfo { code: code as i32, words: [first, second] };
            self.send(signal, thread, info)?;
        }
        Ok(0)
    }

    /// Tells the thread that nobody reads what it writes.
    pub(super) fn broken_pipe(&mut self) -> Errno {
        let info = Siginfo::of_process(Siginfo::USER);
        // Where there is no memory to queue it, the call's error says it all.
        let _ = self.send(SIGPIPE, Some(self.current), info);
        Errno::PIPE
    }

    /// Sends a signal to a thread, or to whoever does not block it.
    ///
    /// # Errors
    /// EAGAIN where too many wait already.
    pub(super) fn send(&mut self, signal: u64, thread: Option<usize>, info: Siginfo) -> Result<()> {
        let eligible = |place: &usize| thread.is_none_or(|only| only == *place);
        let alive = (0..self.threads.len()).filter(|place| self.threads[*place].tid != 0);
        let all = alive.filter(eligible);
        let waiting = all.clone().find(|&place| {
            let thread = &self.threads[place];
            thread.attempt.is_waiting() && thread.signals.awaited & bit(signal) != 0
        });
        let open =
            all.clone().find(|&place| self.threads[place].signals.blocked & bit(signal) == 0);
        if waiting.is_none() && open.is_some() {
            if self.does_nothing(signal) {
                return Ok(());
            }
            if self.action(signal).handler == SIG_DFL {
                self.system.exit(128 + signal as u8);
            }
        }
        let queue = &mut self.signals.queue;
        let same = |of: &Pending| of.signal == signal && of.thread == thread;
        if signal < SIGRTMIN && queue.iter().any(same) {
            return Ok(());
        }
        if queue.len() >= QUEUE_MAX {
            return Err(Errno::AGAIN);
        }
        let room = 4 * (queue.len() + 1) * size_of::<Pending>();
        self.system.reserve(RESERVE + room).map_err(|_| Errno::AGAIN)?;
        self.signals.queue.push(Pending { signal, thread, info });
        if let Some(place) = waiting {
            self.wake_for_signal(place, false);
        } else if let Some(place) = open {
            self.rouse(place);
        }
        Ok(())
    }

    /// Has a thread come to see its signals.
    fn rouse(&mut self, place: usize) {
        if self.threads[place].attempt.is_waiting() {
            self.wake_for_signal(place, true);
        } else {
            self.system.interrupt(place);
        }
    }

    /// Rouses, for the signals that are for anybody, threads that do not block them.
    fn offer(&mut self) {
        for index in 0..self.signals.queue.len() {
            let Pending { signal, thread, .. } = self.signals.queue[index];
            let open = |of: &super::Thread| of.tid != 0 && of.signals.blocked & bit(signal) == 0;
            if let (None, Some(place)) = (thread, self.threads.iter().position(open)) {
                self.rouse(place);
            }
        }
    }

    /// Forgets the signals of the current thread, which ends, and offers others what it could
    /// have taken.
    pub(super) fn leave_signals(&mut self) {
        let current = self.current;
        self.signals.queue.retain(|pending| pending.thread != Some(current));
        self.own().blocked = u64::MAX;
        self.offer();
    }

    fn action(&self, signal: u64) -> Action {
        self.signals.actions[signal as usize - 1]
    }

    /// Whether a signal is one that nobody cares for.
    fn does_nothing(&self, signal: u64) -> bool {
        match self.action(signal).handler {
            SIG_DFL => bit(signal) & IGNORED != 0,
            handler => handler == SIG_IGN,
        }
    }

    /// Whether there is a signal for a thread that it does not block.
    pub(super) fn is_due(&self, place: usize) -> bool {
        let blocked = self.threads[place].signals.blocked;
        let due = |of: &Pending| {
            blocked & bit(of.signal) == 0 && of.thread.is_none_or(|thread| thread == place)
        };
        self.signals.queue.iter().any(due)
    }

    /// Takes the next signal of a set for a thread: what an instruction caused, then the lowest
    /// number, its own before anybody's.
    fn take_signal(&mut self, place: usize, set: u64) -> Option<Pending> {
        let queue = &mut self.signals.queue;
        let ours = |of: &Pending| of.thread.is_none_or(|thread| thread == place);
        let order = |of: &Pending| (bit(of.signal) & CAUSED == 0, of.thread.is_none(), of.signal);
        let (index, _) = queue
            .iter()
            .enumerate()
            .filter(|(_, of)| set & bit(of.signal) != 0 && ours(of))
            .min_by_key(|(_, of)| order(of))?;
        let mut pending = queue.remove(index);
        if pending.info.code == Siginfo::TIMER {
            self.alarms.taken(&mut pending.info);
        }
        Some(pending)
    }

    /// Takes the next signal that the current thread does not block.
    fn next_signal(&mut self) -> Option<Pending> {
        let open = !self.own().blocked;
        self.take_signal(self.current, open)
    }

    /// Whether this very signal waits already.
    pub(super) fn is_queued(&self, signal: u64, info: &Siginfo) -> bool {
        self.signals.queue.iter().any(|of| of.signal == signal && of.info == *info)
    }

    /// Forgets the signal of a timer.
    pub(super) fn forget_timer(&mut self, number: u64) {
        let is_its =
            |of: &Siginfo| of.code == Siginfo::TIMER && of.words[0] as u32 == number as u32;
        self.signals.queue.retain(|pending| !is_its(&pending.info));
    }

    /// The current thread's.
    fn own(&mut self) -> &mut Own {
        &mut self.threads[self.current].signals
    }

    /// Does what the thread at a place has been interrupted for; its registers are these. It
    /// stands between two instructions of the program.
    pub fn attend(&mut self, thread: usize, context: &mut Context, cause: Cause) -> Next {
        self.current = thread;
        match cause {
            Cause::Signal => {}
            Cause::Return => self.sigreturn(context),
            Cause::Fault(fault) => {
                let is_mapped = self.memory.is_mapped(fault.address);
                let (signal, code) = fault.signal(is_mapped);
                let action = self.action(signal);
                if action.handler <= SIG_IGN || self.own().blocked & bit(signal) != 0 {
                    return Next::Fault;
                }
                let info = Siginfo { code, words: [fault.address, 0] };
                self.handle(context, signal, &info, Some(&fault));
            }
        }
        self.deliver(context);
        Next::Go
    }

    /// Leads the current thread to the handlers of all signals that are due.
    fn deliver(&mut self, context: &mut Context) {
        while let Some(pending) = self.next_signal() {
            self.act(context, &pending);
        }
    }

    /// Does what the process wants done about a signal.
    fn act(&mut self, context: &mut Context, pending: &Pending) {
        match self.action(pending.signal).handler {
            _ if self.does_nothing(pending.signal) => {}
            SIG_DFL => self.system.exit(128 + pending.signal as u8),
            _ => self.handle(context, pending.signal, &pending.info, None),
        }
    }

    /// Has a handler run when the thread goes on.
    fn handle(
        &mut self,
        context: &mut Context,
        signal: u64,
        info: &Siginfo,
        fault: Option<&Fault>,
    ) {
        let action = self.action(signal);
        let own = *self.own();
        let entry = Entry {
            signal,
            info,
            action: &action,
            blocked: own.saved.unwrap_or(own.blocked),
            stack: own.stack,
            fault,
            restorer: match action.flags & sa::RESTORER {
                0 => self.system.sigreturn(),
                _ => action.restorer,
            },
        };
        if frame::enter(context, &entry, &mut self.system).is_err() {
            // No room for it is a fault that nobody can handle.
            self.system.exit(128 + SIGSEGV as u8);
        }
        let own = self.own();
        own.saved = None;
        if own.stack[1] & ss::AUTODISARM != 0 {
            own.stack = Own::default().stack;
        }
        own.blocked |= action.mask | if action.flags & sa::NODEFER == 0 { bit(signal) } else { 0 };
        if action.flags & sa::RESETHAND != 0 {
            self.signals.actions[signal as usize - 1].handler = SIG_DFL;
        }
        // The call that it was in, if any, is over.
        *self.attempt() = super::wait::Attempt::default();
    }

    /// `rt_sigreturn`: the thread goes on as the frame on its stack says.
    pub(super) fn sigreturn(&mut self, context: &mut Context) {
        let Ok((blocked, stack)) = frame::leave(context, &mut self.system) else {
            self.system.exit(128 + SIGSEGV as u8)
        };
        let own = self.own();
        // What else it says of the stack is as `sigaltstack` would have it.
        own.stack = stack;
        self.set_blocked(blocked);
    }

    /// Ends a call that a signal interrupts, and leads to the handler; whether there is one, else
    /// the call goes on waiting.
    pub(super) fn interrupted(&mut self, context: &mut Context) -> bool {
        let [_, b, _, d, ..] = context.x;
        let number = context.x[8];
        let attempt = *self.attempt();
        self.own().awaited = 0;
        while let Some(pending) = self.next_signal() {
            let action = self.action(pending.signal);
            if action.handler > SIG_IGN {
                let timed = attempt.until.is_some_and(|until| until != NEVER);
                let once = matches!(
                    number,
                    PPOLL
                        | PSELECT6
                        | EPOLL_PWAIT
                        | EPOLL_PWAIT2
                        | NANOSLEEP
                        | CLOCK_NANOSLEEP
                        | RT_SIGSUSPEND
                        | RT_SIGTIMEDWAIT
                );
                if attempt.done > 0 {
                    context.x[0] = attempt.done;
                } else if once || timed || action.flags & sa::RESTART == 0 {
                    let left = match number {
                        NANOSLEEP => b,
                        CLOCK_NANOSLEEP if b & 1 == 0 => d,
                        _ => 0,
                    };
                    if let (true, Some(until)) = (left != 0, attempt.until) {
                        self.tell_rest(left, until);
                    }
                    context.x[0] = Errno::encode(Err(Errno::INTR));
                } else {
                    // The handler finds the call not yet made.
                    frame::present(context);
                    context.pc = context.pc.wrapping_sub(4);
                }
            }
            self.act(context, &pending);
            if action.handler > SIG_IGN {
                self.deliver(context);
                return true;
            }
        }
        false
    }

    /// `sigaltstack`, which needs to know where the stack pointer is.
    pub(super) fn sigaltstack(&mut self, context: &Context) -> Result {
        let [new, old, ..] = context.x;
        let before = self.own().stack;
        let inside = frame::is_within(context.sp, before);
        if new != 0 {
            let [address, flags, size] = user::words(new)?;
            let flags = flags & u64::from(u32::MAX);
            if inside {
                return Err(Errno::PERM);
            }
            if !matches!(flags & !ss::AUTODISARM, 0 | ss::ONSTACK | ss::DISABLE) {
                return Err(Errno::INVAL);
            }
            if flags & ss::DISABLE == 0 && size < ss::MIN {
                return Err(Errno::NOMEM);
            }
            self.own().stack = match flags & ss::DISABLE {
                0 => [address, flags & ss::AUTODISARM, size],
                _ => [0, ss::DISABLE, 0],
            };
        }
        if old != 0 {
            let [address, flags, size] = before;
            user::set_words(
                old,
                &[address, if inside { flags | ss::ONSTACK } else { flags }, size],
            )?;
        }
        Ok(0)
    }
}
