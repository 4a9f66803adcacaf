//! Sockets: of the family unix, and of the container's own network, which ends where the
//! container does. Both work alike: what is sent goes to the receiver's [`Inbox`].

use super::address::{Address, Host, family};
use super::{Queue, Ready, poll};
use crate::errno::{Errno, Result};
use crate::fd::Open;
use crate::system::System;
use crate::tree::Pool;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Bytes that may wait for a receiver, as in Linux.
pub const BUFFER: usize = 212_992;
/// Messages that may.
const MESSAGES_MAX: usize = 1024;
/// Connections that may wait to be accepted.
const BACKLOG_MAX: usize = 4096;

/// What is sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Stream,
    /// Messages, each to any address.
    Datagram,
    /// Messages in a connection.
    Packets,
}

/// A socket.
pub struct Socket {
    /// Its number.
    pub ino: u64,
    /// The family of its addresses.
    pub family: u16,
    /// What is sent at once.
    pub kind: Kind,
    /// What was set of it, by level and option.
    pub options: RefCell<BTreeMap<(u32, u32), Vec<u8>>>,
    /// Its address.
    pub own: RefCell<Address>,
    /// The address that it was connected to.
    pub other: RefCell<Address>,
    /// The number of the file that it is bound to.
    pub file: Cell<u64>,
    /// What went wrong since it was asked.
    pub error: Cell<Option<Errno>>,
    state: RefCell<State>,
    inbox: RefCell<Inbox>,
    /// Nothing more is read, nothing more is written.
    shut: Cell<(bool, bool)>,
    input: Cell<u32>,
    output: Cell<u32>,
}

enum State {
    New,
    Listening {
        most: usize,
        queue: VecDeque<Rc<Socket>>,
    },
    Connected(Weak<Socket>),
    /// What is sent goes to the other address, whoever has it then.
    Directed,
}

/// What was sent to a socket and waits.
struct Inbox {
    bytes: Queue,
    /// Messages; of a stream, pieces with or without files.
    messages: VecDeque<Message>,
}

struct Message {
    length: usize,
    from: Address,
    files: Vec<Rc<Open>>,
}

/// What was received.
pub struct Received {
    /// Bytes that were copied.
    pub copied: usize,
    /// Bytes of the whole message.
    pub length: usize,
    /// Who sent it.
    pub from: Address,
    /// Open files that came along.
    pub files: Vec<Rc<Open>>,
}

impl Socket {
    /// A new socket.
    pub fn new(ino: u64, family: u16, kind: Kind, pool: &Rc<Pool>) -> Rc<Self> {
        let inbox = Inbox { bytes: Queue::new(pool), messages: VecDeque::new() };
        Rc::new(Self {
            ino,
            family,
            kind,
            options: RefCell::default(),
            own: RefCell::default(),
            other: RefCell::default(),
            file: Cell::new(0),
            error: Cell::new(None),
            state: RefCell::new(State::New),
            inbox: RefCell::new(inbox),
            shut: Cell::new((false, false)),
            input: Cell::new(0),
            output: Cell::new(0),
        })
    }

    /// Two sockets that are connected.
    pub fn pair(numbers: [u64; 2], family: u16, kind: Kind, pool: &Rc<Pool>) -> [Rc<Self>; 2] {
        let both = numbers.map(|ino| Self::new(ino, family, kind, pool));
        both[0].state.replace(State::Connected(Rc::downgrade(&both[1])));
        both[1].state.replace(State::Connected(Rc::downgrade(&both[0])));
        both
    }

    /// Whether connections are made with it before anything is sent.
    pub fn is_connected_kind(&self) -> bool {
        self.kind != Kind::Datagram
    }

    /// Whether it waits for connections.
    pub fn is_listening(&self) -> bool {
        matches!(*self.state.borrow(), State::Listening { .. })
    }

    /// Whether it is connected, or was.
    pub fn is_connected(&self) -> bool {
        matches!(*self.state.borrow(), State::Connected(_) | State::Directed)
    }

    /// The other end, if it is still there.
    fn peer(&self) -> Option<Rc<Self>> {
        match &*self.state.borrow() {
            State::Connected(peer) => peer.upgrade(),
            _ => None,
        }
    }

    fn input(&self) {
        self.input.set(self.input.get().wrapping_add(1));
    }

    fn output(&self) {
        self.output.set(self.output.get().wrapping_add(1));
    }

    /// Waits for connections.
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams, EINVAL where it is connected.
    pub fn listen(&self, backlog: u64) -> Result<()> {
        if !self.is_connected_kind() {
            return Err(Errno::OPNOTSUPP);
        }
        let most = (backlog as u32 as usize).min(BACKLOG_MAX);
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Listening { most: now, .. } => *now = most,
            State::New => *state = State::Listening { most, queue: VecDeque::new() },
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// Connects to a socket that listens.
    ///
    /// # Errors
    /// EISCONN, EINVAL where it listens itself, EPROTOTYPE, ECONNREFUSED, EAGAIN where too many
    /// wait to be accepted.
    pub fn connect(self: &Rc<Self>, to: &Rc<Self>, server: Rc<Self>) -> Result<()> {
        match &*self.state.borrow() {
            State::New => {}
            State::Listening { .. } => return Err(Errno::INVAL),
            _ => return Err(Errno::ISCONN),
        }
        if to.kind != self.kind {
            return Err(Errno::PROTOTYPE);
        }
        let mut state = to.state.borrow_mut();
        let State::Listening { most, queue } = &mut *state else { return Err(Errno::CONNREFUSED) };
        if queue.len() > *most {
            return Err(Errno::AGAIN);
        }
        server.state.replace(State::Connected(Rc::downgrade(self)));
        self.state.replace(State::Connected(Rc::downgrade(&server)));
        queue.push_back(server);
        to.input();
        self.output();
        Ok(())
    }

    /// Sends to another socket from now on, and to no other.
    pub fn direct(&self, to: Option<&Rc<Self>>) {
        self.state.replace(match to {
            Some(to) => State::Connected(Rc::downgrade(to)),
            None => State::Directed,
        });
    }

    /// Is not connected any more.
    pub fn disconnect(&self) {
        self.state.replace(State::New);
        self.other.replace(Address::None);
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// EINVAL where it does not listen, EAGAIN where there is none.
    pub fn accept(&self) -> Result<Rc<Self>> {
        match &mut *self.state.borrow_mut() {
            State::Listening { queue, .. } => queue.pop_front().ok_or(Errno::AGAIN),
            _ if !self.is_connected_kind() => Err(Errno::OPNOTSUPP),
            _ => Err(Errno::INVAL),
        }
    }

    /// Sends to the other end, or to `to`; returns how many bytes were sent.
    ///
    /// # Errors
    /// As Linux has them; EAGAIN where there is no room.
    pub fn send(
        self: &Rc<Self>,
        system: &mut dyn System,
        to: Option<&Rc<Self>>,
        bytes: &[u8],
        files: &[Rc<Open>],
    ) -> Result<usize> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.shut.get().1 {
            return Err(Errno::PIPE);
        }
        let peer = match (to, &*self.state.borrow()) {
            (Some(to), _) => to.clone(),
            (None, State::Connected(peer)) => match peer.upgrade() {
                Some(peer) => peer,
                None if self.is_connected_kind() => return Err(Errno::PIPE),
                None => return Err(Errno::CONNREFUSED),
            },
            _ if self.family == family::UNIX || self.is_connected_kind() => {
                return Err(Errno::NOTCONN);
            }
            _ => return Err(Errno::DESTADDRREQ),
        };
        if peer.shut.get().0 {
            return Err(Errno::PIPE);
        }
        if to.is_none() && self.kind == Kind::Datagram {
            let state = peer.state.borrow();
            // Who is connected hears its other end only.
            if matches!(&*state, State::Connected(other) if other.as_ptr() != Rc::as_ptr(self)) {
                return Err(Errno::PERM);
            }
        }
        let mut inbox = peer.inbox.borrow_mut();
        let room = BUFFER.saturating_sub(inbox.bytes.length());
        let part = match self.kind {
            Kind::Stream if bytes.is_empty() => return Ok(0),
            Kind::Stream => room.min(bytes.len()),
            _ if bytes.len() > BUFFER => return Err(Errno::MSGSIZE),
            _ => bytes.len(),
        };
        let full = part > room || part == 0 && !bytes.is_empty();
        if full || inbox.messages.len() >= MESSAGES_MAX {
            return Err(Errno::AGAIN);
        }
        const NOBUFS: Errno = Errno(105);
        if let Err(error) = inbox.bytes.push(system, &bytes[..part]) {
            let waits = error == Errno::NOSPC && inbox.bytes.length() > 0;
            return Err(if waits { Errno::AGAIN } else { NOBUFS });
        }
        match inbox.messages.back_mut() {
            Some(last)
                if self.kind == Kind::Stream && files.is_empty() && last.files.is_empty() =>
            {
                last.length += part;
            }
            _ => {
                let from = self.own.borrow().clone();
                let files = files.to_vec();
                inbox.messages.push_back(Message { length: part, from, files });
            }
        }
        peer.input();
        Ok(part)
    }

    /// Receives into pieces one after another. `peek` leaves everything where it is.
    ///
    /// # Errors
    /// As Linux has them; EAGAIN where nothing is there, but could come.
    pub fn receive(&self, into: &mut [&mut [u8]], peek: bool) -> Result<Received> {
        let mut inbox = self.inbox.borrow_mut();
        let Inbox { bytes, messages } = &mut *inbox;
        let mut received =
            Received { copied: 0, length: 0, from: Address::None, files: Vec::new() };
        let Some(first) = messages.front_mut() else {
            drop(inbox);
            return self.nothing(received);
        };
        received.from = first.from.clone();
        if self.kind != Kind::Stream {
            let mut at = 0;
            for piece in into.iter_mut() {
                let part = piece.len().min(first.length - at);
                at += bytes.peek(at, &mut piece[..part]);
            }
            (received.copied, received.length) = (at, first.length);
            if peek {
                received.files = first.files.clone();
            } else {
                received.files = core::mem::take(&mut first.files);
                bytes.skip(first.length);
                messages.pop_front();
            }
        } else {
            let wanted: usize = into.iter().map(|piece| piece.len()).sum();
            received.files = first.files.clone();
            // Bytes that came with other files come with another call.
            let behind = messages.iter().skip(1).take_while(|next| next.files.is_empty());
            let there = messages[0].length + behind.map(|next| next.length).sum::<usize>();
            let length = wanted.min(there);
            let mut at = 0;
            for piece in into.iter_mut() {
                let part = piece.len().min(length - at);
                at += bytes.peek(at, &mut piece[..part]);
            }
            (received.copied, received.length) = (length, length);
            if !peek && length > 0 {
                bytes.skip(length);
                let mut left = length;
                while let Some(front) = messages.front_mut() {
                    front.files.clear();
                    if front.length > left {
                        front.length -= left;
                        break;
                    }
                    left -= front.length;
                    messages.pop_front();
                    if left == 0 {
                        break;
                    }
                }
            }
        }
        drop(inbox);
        if let Some(peer) = self.peer().filter(|_| !peek) {
            peer.output();
        }
        Ok(received)
    }

    /// What is received where nothing waits.
    fn nothing(&self, received: Received) -> Result<Received> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let (no_more, _) = self.shut.get();
        match &*self.state.borrow() {
            _ if no_more => Ok(received),
            State::Connected(peer) if self.is_connected_kind() => match peer.upgrade() {
                Some(peer) if !peer.shut.get().1 => Err(Errno::AGAIN),
                _ => Ok(received),
            },
            State::Listening { .. } | State::New if self.is_connected_kind() => {
                let unix = self.family == family::UNIX;
                Err(if unix { Errno::INVAL } else { Errno::NOTCONN })
            }
            _ => Err(Errno::AGAIN),
        }
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    /// EINVAL, ENOTCONN.
    pub fn shutdown(&self, how: u64) -> Result<()> {
        let (read, write) = match how {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Errno::INVAL),
        };
        if !self.is_connected() && !self.is_listening() {
            return Err(Errno::NOTCONN);
        }
        let (before_read, before_write) = self.shut.get();
        self.shut.set((before_read || read, before_write || write));
        self.input();
        self.output();
        if let Some(peer) = self.peer() {
            peer.input();
            peer.output();
        }
        Ok(())
    }

    /// Bytes that can be received.
    pub fn waiting(&self) -> usize {
        let inbox = self.inbox.borrow();
        match self.kind {
            Kind::Stream | Kind::Packets => inbox.bytes.length(),
            Kind::Datagram => inbox.messages.front().map_or(0, |message| message.length),
        }
    }

    /// What can be done.
    pub fn ready(&self) -> Ready {
        let mut events = if self.error.get().is_some() { poll::ERR } else { 0 };
        let (no_read, no_write) = self.shut.get();
        let some = !self.inbox.borrow().messages.is_empty();
        events |= if some { poll::READ } else { 0 };
        match &*self.state.borrow() {
            State::Listening { queue, .. } => {
                events |= if queue.is_empty() { 0 } else { poll::READ };
            }
            State::New if self.is_connected_kind() => events |= poll::WRITE | poll::HUP,
            State::Connected(peer) => {
                let peer = peer.upgrade();
                let over = peer.as_ref().is_none_or(|peer| peer.shut.get().1);
                let room = peer
                    .as_ref()
                    .is_none_or(|peer| peer.inbox.borrow().bytes.length() < BUFFER / 2);
                events |= if room { poll::WRITE } else { 0 };
                if self.is_connected_kind() {
                    events |= if over || no_read { poll::READ | poll::RDHUP } else { 0 };
                    let gone = peer.is_none() && self.family == family::UNIX;
                    let both = (over || no_read) && no_write;
                    events |= if gone || both { poll::HUP } else { 0 };
                }
            }
            _ => events |= poll::WRITE,
        }
        if no_read && no_write {
            events |= poll::HUP | poll::READ | poll::RDHUP;
        }
        Ready { events, input: self.input.get(), output: self.output.get(), at: None }
    }

    /// What was set of it.
    pub fn option(&self, level: u32, option: u32) -> Option<Vec<u8>> {
        self.options.borrow().get(&(level, option)).cloned()
    }

    /// Whether something was set that is on or off.
    pub fn is_set(&self, level: u32, option: u32) -> bool {
        self.option(level, option).is_some_and(|value| value.iter().any(|&byte| byte != 0))
    }

    /// The host that it is bound to, and the port.
    pub fn port(&self) -> Option<(Host, u16)> {
        match *self.own.borrow() {
            Address::Port(host, port) => Some((host, port)),
            _ => None,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(peer) = self.peer() else { return };
        if self.is_connected_kind() {
            // What was not read is lost, and the other end is told.
            if !self.inbox.borrow().messages.is_empty() {
                peer.error.set(Some(Errno::CONNRESET));
            }
        }
        peer.input();
        peer.output();
    }
}

/// The sockets that have addresses.
#[derive(Default)]
pub struct Names {
    bound: Vec<Weak<Socket>>,
    next: u16,
}

/// Ports that are given to who asks for none.
const PORTS: core::ops::RangeInclusive<u16> = 32_768..=60_999;
const SOL_SOCKET: u32 = 1;
const REUSEADDR: u32 = 2;
const REUSEPORT: u32 = 15;

impl Names {
    /// Notes that a socket has an address.
    pub fn add(&mut self, socket: &Rc<Socket>) {
        self.bound.retain(|socket| socket.strong_count() > 0);
        self.bound.push(Rc::downgrade(socket));
    }

    /// Bytes that one more takes.
    pub fn cost(&self) -> usize {
        64 * self.bound.len() + 1024
    }

    fn all(&self) -> impl Iterator<Item = Rc<Socket>> + '_ {
        self.bound.iter().filter_map(Weak::upgrade)
    }

    /// The socket that is bound to a file.
    pub fn file(&self, ino: u64) -> Option<Rc<Socket>> {
        self.all().find(|socket| socket.file.get() == ino)
    }

    /// The socket that has a name of its own kind.
    pub fn name(&self, name: &Address) -> Option<Rc<Socket>> {
        self.all().find(|socket| *socket.own.borrow() == *name)
    }

    /// The socket that hears what is sent to an address.
    pub fn port(&self, connected: bool, host: Host, port: u16) -> Option<Rc<Socket>> {
        let hears = |socket: &Rc<Socket>| {
            socket.is_connected_kind() == connected
                && (!connected || socket.is_listening())
                && socket.port().is_some_and(|(own, number)| number == port && own.hears(host))
        };
        self.all().find(hears)
    }

    /// Whether a socket can have an address beside those that others have.
    fn is_free(&self, socket: &Rc<Socket>, host: Host, port: u16) -> bool {
        !self.all().any(|other| {
            let same = other.is_connected_kind() == socket.is_connected_kind();
            let overlaps = other.port().is_some_and(|(own, number)| {
                number == port && (own.hears(host) || host.hears(own))
            });
            let both =
                |option| other.is_set(SOL_SOCKET, option) && socket.is_set(SOL_SOCKET, option);
            let shared = both(REUSEPORT) || both(REUSEADDR) && !other.is_listening();
            same && overlaps && !shared
        })
    }

    /// A port for a socket: this one, or one of those for who asks for none (0).
    ///
    /// # Errors
    /// EADDRINUSE.
    pub fn choose(&mut self, socket: &Rc<Socket>, host: Host, port: u16) -> Result<u16> {
        if port != 0 {
            return if self.is_free(socket, host, port) { Ok(port) } else { Err(Errno::ADDRINUSE) };
        }
        for _ in PORTS {
            self.next =
                if PORTS.contains(&(self.next + 1)) { self.next + 1 } else { *PORTS.start() };
            if self.is_free(socket, host, self.next) {
                return Ok(self.next);
            }
        }
        Err(Errno::ADDRINUSE)
    }
}
