//! Messages. The first four words of a message travel in registers, the others in the
//! thread's IPC buffer, a page that kernel and thread share; [`Ipc`] hides the difference.

use crate::kernel::{self, number};
use crate::object::{Cap, Endpoint, Notification};
use crate::syscall::enter;
use crate::{Error, Result};
use core::ptr;

/// Most words of a message.
pub const WORDS_MAX: usize = 120;
/// Most capabilities with a message.
pub const CAPS_MAX: usize = 3;
/// Words of a message that travel in registers.
const REGISTERS: usize = 4;

/// The IPC buffer; the same layout in all versions.
#[repr(C)]
struct Buffer {
    tag: u64,
    words: [u64; WORDS_MAX],
    user_data: u64,
    caps: [u64; CAPS_MAX],
    receive_cnode: u64,
    receive_index: u64,
    receive_depth: u64,
}

/// What comes with a message: its label, and how many words and capabilities it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// What the message is about.
    pub label: u64,
    /// Number of its words.
    pub length: usize,
    /// Number of capabilities.
    pub caps: usize,
}

impl MessageInfo {
    /// A message without capabilities.
    pub const fn new(label: u64, length: usize) -> Self {
        Self { label, length, caps: 0 }
    }
}

/// A thread's way of sending and receiving messages.
pub struct Ipc {
    buffer: *mut Buffer,
    registers: [u64; REGISTERS],
}

impl Ipc {
    /// The calling thread's IPC buffer.
    ///
    /// # Safety
    /// `address` is where the calling thread's IPC buffer is mapped, for as long as this value
    /// lives; and there is no other such value for this thread.
    pub const unsafe fn new(address: u64) -> Self {
        Self { buffer: address as *mut Buffer, registers: [0; REGISTERS] }
    }

    /// A word of the message; 0 beyond [`WORDS_MAX`].
    pub fn word(&self, index: usize) -> u64 {
        match self.registers.get(index) {
            Some(&word) => word,
            None if index < WORDS_MAX => {
                // SAFETY: `new`'s caller promised that the buffer is mapped; the index is
                // inside. Volatile, because the kernel writes it.
                unsafe { ptr::read_volatile(&raw const (*self.buffer).words[index]) }
            }
            None => 0,
        }
    }

    /// Sets a word of the message; nothing happens beyond [`WORDS_MAX`].
    pub fn set_word(&mut self, index: usize, word: u64) {
        match self.registers.get_mut(index) {
            Some(register) => *register = word,
            None if index < WORDS_MAX => {
                // SAFETY: as in `word`.
                unsafe { ptr::write_volatile(&raw mut (*self.buffer).words[index], word) }
            }
            None => {}
        }
    }

    /// Sets a capability to go with the next message; nothing happens beyond [`CAPS_MAX`].
    pub fn set_cap(&mut self, index: usize, cap: Cap) {
        if index < CAPS_MAX {
            // SAFETY: as in `word`.
            unsafe { ptr::write_volatile(&raw mut (*self.buffer).caps[index], cap.0) }
        }
    }

    /// After [`Error::FailedLookup`]: how many bits of the address were left to look up. For
    /// an address in a VSpace: 21 where the last level's table is missing, 30 and 39 for the
    /// levels above.
    pub fn missing_bits(&self) -> u64 {
        self.word(2)
    }

    /// Sends the message and waits for the answer, whose words are then here.
    pub fn call(&mut self, to: Endpoint, info: MessageInfo) -> MessageInfo {
        self.exchange(number::Call, to.0.0, info).1
    }

    /// Sends the message; waits until somebody takes it.
    pub fn send(&mut self, to: Endpoint, info: MessageInfo) {
        self.exchange(number::Send, to.0.0, info);
    }

    /// Sends the message if somebody waits for it, else drops it.
    pub fn nb_send(&mut self, to: Endpoint, info: MessageInfo) {
        self.exchange(number::NBSend, to.0.0, info);
    }

    /// Waits for a message; returns it with the sender's badge.
    pub fn recv(&mut self, from: Endpoint) -> (MessageInfo, u64) {
        let (badge, info) = self.exchange(number::Recv, from.0.0, MessageInfo::new(0, 0));
        (info, badge)
    }

    /// Answers the last message that came by `call`; nothing happens if there is none.
    pub fn reply(&mut self, info: MessageInfo) {
        self.exchange(number::Reply, 0, info);
    }

    /// Answers the last message and waits for the next; returns it with the sender's badge.
    pub fn reply_recv(&mut self, from: Endpoint, info: MessageInfo) -> (MessageInfo, u64) {
        let (badge, info) = self.exchange(number::ReplyRecv, from.0.0, info);
        (info, badge)
    }

    /// Waits for a notification; returns its word.
    pub fn wait(&mut self, on: Notification) -> u64 {
        self.exchange(number::Recv, on.0.0, MessageInfo::new(0, 0)).0
    }

    /// Invokes an object: the label says what, `arguments` and `caps` with what. The answer's
    /// words are here afterwards.
    pub(crate) fn invoke(
        &mut self,
        object: Cap,
        label: u64,
        arguments: &[u64],
        caps: &[Cap],
    ) -> Result<()> {
        for (index, &word) in arguments.iter().enumerate() {
            self.set_word(index, word);
        }
        for (index, &cap) in caps.iter().enumerate() {
            self.set_cap(index, cap);
        }
        let info = MessageInfo { label, length: arguments.len(), caps: caps.len() };
        Error::check(self.exchange(number::Call, object.0, info).1.label)
    }

    fn exchange(&mut self, number: i64, target: u64, info: MessageInfo) -> (u64, MessageInfo) {
        let encoded = kernel::encode_info(info);
        let (badge, answer) = enter(number, target, encoded, &mut self.registers);
        (badge, kernel::decode_info(answer))
    }
}

/// Waits for a notification; returns its word. No message is needed for that, so that it is the
/// same whatever the thread does with its messages.
pub fn wait(on: Notification) -> u64 {
    let info = kernel::encode_info(MessageInfo::new(0, 0));
    enter(number::Recv, on.0.0, info, &mut [0; REGISTERS]).0
}

/// Tells everybody who waits for the notification.
pub fn signal(notification: Notification) {
    let info = kernel::encode_info(MessageInfo::new(0, 0));
    enter(number::Send, notification.0.0, info, &mut [0; REGISTERS]);
}

/// Lets other threads of the same priority run.
pub fn yield_now() {
    enter(number::Yield, 0, 0, &mut [0; REGISTERS]);
}
