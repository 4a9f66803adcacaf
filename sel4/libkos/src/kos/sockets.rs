//! Sockets: those of the family unix, and those of the container's own network.

use super::options::{SOL_SOCKET, so};
use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Open, flag};
use crate::initrd::{S_IFMT, S_IFSOCK};
use crate::stream::address::{Address, Host, family};
use crate::stream::{Kind, Received, Socket};
use crate::system::System;
use crate::tree::{Body, Last, Node};
use crate::user;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Flags of what is sent and received.
mod msg {
    pub const OOB: u64 = 1;
    pub const PEEK: u64 = 2;
    pub const CTRUNC: u32 = 8;
    pub const TRUNC: u64 = 0x20;
    pub const DONTWAIT: u64 = 0x40;
    pub const WAITALL: u64 = 0x100;
    pub const NOSIGNAL: u64 = 0x4000;
    pub const WAITFORONE: u64 = 0x1_0000;
    pub const CMSG_CLOEXEC: u64 = 0x4000_0000;
}

const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most files that come along with one message.
const FILES_MAX: usize = 253;
/// Most pieces of one message.
const PIECES_MAX: u64 = 1024;
/// Bytes of `struct mmsghdr`.
const MMSGHDR: u64 = 64;

/// The parts of `struct msghdr`.
struct Header {
    name: [u64; 2],
    pieces: [u64; 2],
    control: [u64; 2],
}

impl Header {
    fn read(at: u64) -> Result<Self> {
        let [name, length, pieces, count, control, size, _]: [u64; 7] = user::words(at)?;
        if count > PIECES_MAX {
            return Err(Errno::MSGSIZE);
        }
        Ok(Self { name: [name, length], pieces: [pieces, count], control: [control, size] })
    }
}

impl<S: System> Kos<'_, S> {
    pub(super) fn socket(&mut self, domain: u64, kind: u64, protocol: u64) -> Result {
        let flags = kind as u32 & (flag::NONBLOCK | flag::CLOEXEC);
        let (domain, kind) = parse_kind(domain, kind & !u64::from(flags), protocol)?;
        self.system.reserve(RESERVE)?;
        let socket = Socket::new(self.tree.number(), domain, kind, &self.tree.pool);
        self.open_object(Object::Socket(socket), flag::RDWR | flags)
    }

    pub(super) fn socketpair(
        &mut self,
        domain: u64,
        kind: u64,
        protocol: u64,
        into: u64,
    ) -> Result {
        let flags = kind as u32 & (flag::NONBLOCK | flag::CLOEXEC);
        let (domain, kind) = parse_kind(domain, kind & !u64::from(flags), protocol)?;
        if domain != family::UNIX {
            return Err(Errno::OPNOTSUPP);
        }
        self.system.reserve(RESERVE)?;
        let numbers = [self.tree.number(), self.tree.number()];
        let both = Socket::pair(numbers, domain, kind, &self.tree.pool);
        let [first, second] =
            both.map(|socket| Open::new(Object::Socket(socket), flag::RDWR | flags));
        self.open_two(first, second, flags & flag::CLOEXEC != 0, into)
    }

    /// The socket behind a descriptor.
    pub(super) fn socket_of(&self, fd: u64) -> Result<(Rc<Open>, Rc<Socket>)> {
        let open = self.files.get(fd)?;
        match &open.object {
            Object::Socket(socket) => Ok((open.clone(), socket.clone())),
            Object::Path(_) => Err(Errno::BADF),
            _ => Err(Errno::NOTSOCK),
        }
    }

    pub(super) fn bind(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        self.prepare()?;
        self.system.reserve(RESERVE + self.names.cost())?;
        let address = Address::read(address, length, socket.family)?;
        let bound = *socket.own.borrow() != Address::None;
        match address {
            // That the name is taken is noticed before.
            _ if bound && !matches!(address, Address::Path(_)) => Err(Errno::INVAL),
            Address::None if socket.family == family::UNIX => self.name(&socket),
            Address::None => Err(Errno::AFNOSUPPORT),
            Address::Abstract(_) => {
                if self.names.name(&address).is_some() {
                    return Err(Errno::ADDRINUSE);
                }
                self.give(&socket, address)
            }
            Address::Path(ref path) => {
                let place = self.place(super::files::AT_FDCWD as u64, path, false)?;
                if place.node.is_some() || place.last != Last::Name {
                    return Err(Errno::ADDRINUSE);
                }
                if bound {
                    return Err(Errno::INVAL);
                }
                let mode = S_IFSOCK | 0o777 & !self.tree.umask;
                let inode = self.tree.create(&place, mode, (0, 0), Body::Special)?;
                socket.file.set(inode.ino);
                self.give(&socket, address)
            }
            Address::Port(host, port) => {
                if !host.is_here() {
                    return Err(Errno::ADDRNOTAVAIL);
                }
                let port = self.names.choose(&socket, host, port)?;
                self.give(&socket, Address::Port(host, port))
            }
        }
    }

    /// Gives a socket an address that nobody else has.
    fn give(&mut self, socket: &Rc<Socket>, address: Address) -> Result {
        socket.own.replace(address);
        self.names.add(socket);
        Ok(0)
    }

    /// Gives a socket of the family unix some name.
    fn name(&mut self, socket: &Rc<Socket>) -> Result {
        for number in 0..0x10_0000 {
            let name = Address::Abstract(alloc::format!("{number:05x}").into_bytes());
            if self.names.name(&name).is_none() {
                return self.give(socket, name);
            }
        }
        Err(Errno::ADDRINUSE)
    }

    /// Gives a socket of the network an address, if it has none.
    fn choose_port(&mut self, socket: &Rc<Socket>, to: Host) -> Result<()> {
        if socket.family == family::UNIX || socket.port().is_some() {
            return Ok(());
        }
        self.system.reserve(RESERVE + self.names.cost())?;
        let port = self.names.choose(socket, to, 0)?;
        self.give(socket, Address::Port(to, port)).map(|_| ())
    }

    pub(super) fn listen(&mut self, fd: u64, backlog: u64) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        if socket.family == family::UNIX && *socket.own.borrow() == Address::None {
            return Err(Errno::INVAL);
        }
        if socket.is_connected_kind() {
            self.choose_port(&socket, Host::any(socket.family))?;
        }
        socket.listen(backlog)?;
        self.changed();
        Ok(0)
    }

    pub(super) fn accept(&mut self, fd: u64, address: u64, length: u64, flags: u64) -> Result {
        let flags = flags as u32;
        if flags & !(flag::NONBLOCK | flag::CLOEXEC) != 0 {
            return Err(Errno::INVAL);
        }
        let (open, socket) = self.socket_of(fd)?;
        self.system.reserve(self.files.cost(0) + RESERVE)?;
        let until = self.timeout(&socket, so::RCVTIMEO)?;
        match socket.accept() {
            Ok(new) => {
                let other = new.other.borrow().clone();
                let fd = self.open_object(Object::Socket(new), flag::RDWR | flags)?;
                other.tell(socket.family, address, length)?;
                self.changed();
                Ok(fd)
            }
            Err(Errno::AGAIN) if !open.nonblocking() && !self.is_over(until) => {
                Err(self.block(Some(until)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn connect(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let (open, socket) = self.socket_of(fd)?;
        self.prepare()?;
        self.system.reserve(RESERVE + self.names.cost())?;
        let address = Address::read(address, length, socket.family)?;
        if address == Address::None {
            socket.disconnect();
            return Ok(0);
        }
        if !socket.is_connected_kind() {
            let to = match address {
                Address::Port(host, _) => {
                    self.choose_port(&socket, reachable(host)?)?;
                    None
                }
                _ => Some(self.receiver(&socket, &address)?),
            };
            socket.direct(to.as_ref());
            socket.other.replace(address);
            return Ok(0);
        }
        if socket.is_connected() {
            return Err(Errno::ISCONN);
        }
        let listener = self.receiver(&socket, &address)?;
        let own = match address {
            Address::Port(host, port) => {
                self.choose_port(&socket, host.concrete())?;
                Address::Port(host.concrete(), port)
            }
            _ => listener.own.borrow().clone(),
        };
        let until = self.timeout(&socket, so::SNDTIMEO)?;
        let Socket { family, kind, .. } = *socket;
        let server = Socket::new(self.tree.number(), family, kind, &self.tree.pool);
        server.own.replace(own.clone());
        server.other.replace(socket.own.borrow().clone());
        *server.options.borrow_mut() = listener.options.borrow().clone();
        match socket.connect(&listener, server) {
            Ok(()) => {
                socket.other.replace(own);
                self.changed();
                Ok(0)
            }
            Err(Errno::AGAIN) if !open.nonblocking() && !self.is_over(until) => {
                Err(self.block(Some(until)))
            }
            Err(error) => Err(error),
        }
    }

    /// The socket that has an address.
    ///
    /// # Errors
    /// ECONNREFUSED where nobody has it.
    fn receiver(&mut self, from: &Socket, address: &Address) -> Result<Rc<Socket>> {
        let found = match address {
            Address::None => None,
            Address::Abstract(_) => self.names.name(address),
            Address::Path(path) => {
                let node = self.find(super::files::AT_FDCWD as u64, path, true)?;
                if self.tree.stat(&node).mode & S_IFMT != S_IFSOCK {
                    return Err(Errno::CONNREFUSED);
                }
                let Node::Upper(inode) = node else { return Err(Errno::CONNREFUSED) };
                self.names.file(inode.ino)
            }
            Address::Port(host, port) => {
                self.names.port(from.is_connected_kind(), reachable(*host)?, *port)
            }
        };
        let found = found.ok_or(Errno::CONNREFUSED)?;
        if found.kind != from.kind { Err(Errno::PROTOTYPE) } else { Ok(found) }
    }

    pub(super) fn getsockname(&mut self, fd: u64, into: u64, length: u64) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        socket.own.borrow().tell(socket.family, into, length)?;
        Ok(0)
    }

    pub(super) fn getpeername(&mut self, fd: u64, into: u64, length: u64) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        if !socket.is_connected() {
            return Err(Errno::NOTCONN);
        }
        socket.other.borrow().tell(socket.family, into, length)?;
        Ok(0)
    }

    pub(super) fn shutdown(&mut self, fd: u64, how: u64) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        socket.shutdown(how)?;
        self.changed();
        Ok(0)
    }

    pub(super) fn sendto(
        &mut self,
        fd: u64,
        [bytes, length]: [u64; 2],
        flags: u64,
        [name, size]: [u64; 2],
    ) -> Result {
        let (open, socket) = self.socket_of(fd)?;
        let to = if name == 0 { None } else { Some(Address::read(name, size, socket.family)?) };
        let bytes = user::bytes(bytes, length)?;
        self.transmit(&open, &socket, bytes, to.as_ref(), &[], flags)
    }

    pub(super) fn sendmsg(&mut self, fd: u64, header: u64, flags: u64) -> Result {
        let (open, socket) = self.socket_of(fd)?;
        let Header { name: [name, size], pieces: [pieces, count], control } = Header::read(header)?;
        let to = if name == 0 { None } else { Some(Address::read(name, size, socket.family)?) };
        let files = self.files_sent(&socket, control)?;
        // A message is one piece; what is large goes to a stream piece by piece.
        let mut total = 0u64;
        for index in 0..count {
            let [_, length] = user::words(pieces + 16 * index)?;
            total = total.saturating_add(length);
        }
        let whole = usize::try_from(total).unwrap_or(usize::MAX);
        if whole > crate::stream::BUFFER {
            if socket.kind != Kind::Stream {
                return Err(Errno::MSGSIZE);
            }
            let [bytes, length] = user::words(pieces)?;
            let bytes = user::bytes(bytes, length)?;
            if bytes.is_empty() {
                return Err(Errno::MSGSIZE);
            }
            return self.transmit(&open, &socket, bytes, to.as_ref(), &files, flags);
        }
        self.system.reserve(2 * whole + RESERVE)?;
        let mut bytes = Vec::with_capacity(whole);
        for index in 0..count {
            let [piece, length] = user::words(pieces + 16 * index)?;
            bytes.extend_from_slice(user::bytes(piece, length)?);
        }
        self.transmit(&open, &socket, &bytes, to.as_ref(), &files, flags)
    }

    pub(super) fn sendmmsg(&mut self, fd: u64, list: u64, count: u64, flags: u64) -> Result {
        several(list, count, |header, is_first| {
            // Once there is something, nothing is waited for.
            let flags = if is_first { flags } else { flags | msg::DONTWAIT };
            self.sendmsg(fd, header, flags)
        })
    }

    /// Sends bytes, and waits for room where it has to and may.
    fn transmit(
        &mut self,
        open: &Rc<Open>,
        socket: &Rc<Socket>,
        bytes: &[u8],
        to: Option<&Address>,
        files: &[Rc<Open>],
        flags: u64,
    ) -> Result {
        if flags & msg::OOB != 0 {
            return Err(Errno::OPNOTSUPP);
        }
        let until = self.timeout(socket, so::SNDTIMEO)?;
        let mut done = self.attempt().done as usize;
        loop {
            let files = if done == 0 { files } else { &[] };
            match self.send_now(socket, &bytes[done..], to, files, flags & msg::NOSIGNAL != 0) {
                Ok(part) => {
                    done += part as usize;
                    if done == bytes.len() || socket.kind != Kind::Stream {
                        return Ok(done as u64);
                    }
                }
                Err(Errno::AGAIN) => {
                    let waits = !open.nonblocking() && flags & msg::DONTWAIT == 0;
                    if waits && !self.is_over(until) {
                        self.attempt().done = done as u64;
                        return Err(self.block(Some(until)));
                    }
                    return if done == 0 { Err(Errno::AGAIN) } else { Ok(done as u64) };
                }
                Err(error) => return if done == 0 { Err(error) } else { Ok(done as u64) },
            }
        }
    }

    /// Sends what there is room for.
    pub(super) fn send_now(
        &mut self,
        socket: &Rc<Socket>,
        bytes: &[u8],
        to: Option<&Address>,
        files: &[Rc<Open>],
        quiet: bool,
    ) -> Result {
        self.system.reserve(RESERVE + self.names.cost())?;
        let to = match to {
            Some(_) if socket.is_connected_kind() => {
                if !socket.is_connected() {
                    return Err(Errno::NOTCONN);
                }
                // Linux looks at it in streams of the family unix only.
                if socket.family == family::UNIX {
                    return Err(Errno::ISCONN);
                }
                None
            }
            Some(address) => Some(address.clone()),
            None if socket.family != family::UNIX && socket.kind == Kind::Datagram => {
                Some(socket.other.borrow().clone()).filter(|other| *other != Address::None)
            }
            None => None,
        };
        let receiver = match &to {
            None => None,
            Some(address) => {
                if let Address::Port(host, _) = address {
                    self.choose_port(socket, reachable(*host)?.concrete())?;
                }
                match self.receiver(socket, address) {
                    Ok(receiver) => Some(receiver),
                    // On a network what nobody takes is lost, and told later if at all.
                    Err(Errno::CONNREFUSED) if socket.family != family::UNIX => {
                        if socket.is_connected() {
                            socket.error.set(Some(Errno::CONNREFUSED));
                        }
                        return Ok(bytes.len() as u64);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        match socket.send(&mut self.system, receiver.as_ref(), bytes, files) {
            Ok(done) => {
                self.changed();
                Ok(done as u64)
            }
            Err(Errno::AGAIN) if receiver.is_some() && socket.family != family::UNIX => {
                Ok(bytes.len() as u64)
            }
            Err(Errno::PIPE) if quiet || !socket.is_connected_kind() => Err(Errno::PIPE),
            Err(Errno::PIPE) => Err(self.broken_pipe()),
            Err(error) => Err(error),
        }
    }

    /// The open files that a message takes along.
    fn files_sent(&self, socket: &Socket, [control, size]: [u64; 2]) -> Result<Vec<Rc<Open>>> {
        let mut files = Vec::new();
        let mut at = 0;
        while control != 0 && at + 16 <= size {
            let [length, kind] = user::words(control + at)?;
            if length < 16 || length > size - at {
                return Err(Errno::INVAL);
            }
            let (level, kind) = (kind as u32, (kind >> 32) as u32);
            if level == SOL_SOCKET && kind == SCM_RIGHTS {
                if socket.family != family::UNIX {
                    return Err(Errno::INVAL);
                }
                for fd in user::bytes(control + at + 16, length - 16)?.chunks_exact(4) {
                    let fd = u32::from_le_bytes([fd[0], fd[1], fd[2], fd[3]]);
                    files.push(self.files.get(fd.into())?.clone());
                }
                if files.len() > FILES_MAX {
                    return Err(Errno::INVAL);
                }
            }
            at += length.next_multiple_of(8);
        }
        Ok(files)
    }

    pub(super) fn recvfrom(
        &mut self,
        fd: u64,
        [into, length]: [u64; 2],
        flags: u64,
        [name, size]: [u64; 2],
    ) -> Result {
        let (open, socket) = self.socket_of(fd)?;
        let into = user::bytes_mut(into, length.min(i32::MAX as u64))?;
        let received = self.take(&open, &socket, &mut [into], flags)?;
        let answer = answer(&received, flags);
        if name != 0 && socket.kind != Kind::Stream {
            tell_sender(&socket, &received.from, name, size)?;
        }
        for open in received.files {
            self.let_go(open);
        }
        Ok(answer)
    }

    pub(super) fn recvmsg(&mut self, fd: u64, header: u64, flags: u64) -> Result {
        let (open, socket) = self.socket_of(fd)?;
        let Header { name: [name, _], pieces: [pieces, count], control } = Header::read(header)?;
        self.system.reserve(RESERVE + 32 * count as usize)?;
        let mut list = Vec::with_capacity(count as usize);
        for index in 0..count {
            let [piece, length] = user::words(pieces + 16 * index)?;
            list.push(user::bytes_mut(piece, length)?);
        }
        let received = self.take(&open, &socket, &mut list, flags)?;
        let answer = answer(&received, flags);
        if name != 0 && socket.kind != Kind::Stream {
            tell_sender(&socket, &received.from, name, header + 8)?;
        } else {
            user::bytes_mut(header + 8, 4)?.fill(0);
        }
        let mut told = if received.length > received.copied { msg::TRUNC as u32 } else { 0 };
        let (size, cut) = self.tell_files(&socket, received.files, control, flags)?;
        told |= if cut { msg::CTRUNC } else { 0 };
        if flags & msg::CMSG_CLOEXEC != 0 {
            told |= msg::CMSG_CLOEXEC as u32;
        }
        user::set_words(header + 40, &[size])?;
        user::bytes_mut(header + 48, 4)?.copy_from_slice(&told.to_le_bytes());
        Ok(answer)
    }

    pub(super) fn recvmmsg(&mut self, fd: u64, list: u64, count: u64, flags: u64) -> Result {
        several(list, count, |header, is_first| {
            // What was received must not be received again, so nothing more is waited for.
            let flags = if is_first { flags } else { flags | msg::DONTWAIT };
            self.recvmsg(fd, header, flags & !msg::WAITFORONE)
        })
    }

    /// Receives, and waits where it has to and may.
    fn take(
        &mut self,
        open: &Open,
        socket: &Socket,
        into: &mut [&mut [u8]],
        flags: u64,
    ) -> Result<Received> {
        if flags & msg::OOB != 0 {
            return Err(if socket.family == family::UNIX {
                Errno::OPNOTSUPP
            } else {
                Errno::INVAL
            });
        }
        self.system.reserve(RESERVE)?;
        let until = self.timeout(socket, so::RCVTIMEO)?;
        let waits = !open.nonblocking() && flags & msg::DONTWAIT == 0 && !self.is_over(until);
        let wanted: usize = into.iter().map(|piece| piece.len()).sum();
        // All that is wanted has to be there, or never be.
        let all = flags & msg::WAITALL != 0 && flags & msg::PEEK == 0;
        let whole = wanted.min(crate::stream::BUFFER / 2);
        if all && waits && socket.kind == Kind::Stream && socket.waiting() < whole {
            const OVER: u32 = crate::stream::poll::RDHUP | crate::stream::poll::ERR;
            if socket.ready().events & OVER == 0 && socket.is_connected() {
                return Err(self.block(Some(until)));
            }
        }
        match socket.receive(into, flags & msg::PEEK != 0) {
            Ok(received) => {
                self.changed();
                Ok(received)
            }
            Err(Errno::AGAIN) if waits => Err(self.block(Some(until))),
            Err(error) => Err(error),
        }
    }

    /// Reads from a socket as from a file.
    pub(super) fn receive_now(&mut self, socket: &Socket, into: &mut [u8]) -> Result {
        self.system.reserve(RESERVE)?;
        let received = socket.receive(&mut [into], false)?;
        for open in received.files {
            self.let_go(open);
        }
        self.changed();
        Ok(received.copied as u64)
    }

    /// Opens the files that came along; returns the bytes of what tells of them, and whether
    /// there was no room for some.
    fn tell_files(
        &mut self,
        socket: &Socket,
        files: Vec<Rc<Open>>,
        [control, size]: [u64; 2],
        flags: u64,
    ) -> Result<(u64, bool)> {
        let mut used = 0;
        let mut cut = false;
        if socket.is_set(SOL_SOCKET, so::PASSCRED) {
            const CREDENTIALS: u64 = 28;
            if size >= CREDENTIALS {
                let kind = u64::from(SCM_CREDENTIALS) << 32 | u64::from(SOL_SOCKET);
                user::set_words(control, &[CREDENTIALS, kind, super::PID])?;
                user::bytes_mut(control + 24, 4)?.fill(0);
                used = CREDENTIALS.next_multiple_of(8).min(size);
            } else {
                cut = true;
            }
        }
        if files.is_empty() {
            return Ok((used, cut));
        }
        let room = (size - used).saturating_sub(16) / 4;
        let count = room.min(files.len() as u64);
        cut |= count < files.len() as u64;
        let most = self.files.count() + files.len() as u64;
        self.system.reserve(self.files.cost(most))?;
        let mut opened = 0;
        let start = control + used;
        for open in files {
            if opened < count {
                match self.files.add(open, flags & msg::CMSG_CLOEXEC != 0) {
                    Ok(fd) => {
                        let out = user::bytes_mut(start + 16 + 4 * opened, 4)?;
                        out.copy_from_slice(&(fd as u32).to_le_bytes());
                        opened += 1;
                    }
                    Err(_) => cut = true,
                }
            } else {
                self.let_go(open);
            }
        }
        if opened > 0 {
            let length = 16 + 4 * opened;
            let kind = u64::from(SCM_RIGHTS) << 32 | u64::from(SOL_SOCKET);
            user::set_words(start, &[length, kind])?;
            used = (used + length.next_multiple_of(8)).min(size);
        }
        Ok((used, cut))
    }
}

/// Family and kind, as `socket` is told them.
fn parse_kind(domain: u64, kind: u64, protocol: u64) -> Result<(u16, Kind)> {
    const KINDS: u64 = 0xf;
    if kind & !KINDS != 0 {
        return Err(Errno::INVAL);
    }
    let domain = match u16::try_from(domain) {
        Ok(domain @ (family::UNIX | family::INET | family::INET6)) => domain,
        _ => return Err(Errno::AFNOSUPPORT),
    };
    let kind = match kind {
        1 => Kind::Stream,
        2 => Kind::Datagram,
        5 if domain == family::UNIX => Kind::Packets,
        // Raw sockets are for who may do more.
        3 if domain != family::UNIX => return Err(Errno::PERM),
        3 => Kind::Datagram,
        _ => return Err(Errno::SOCKTNOSUPPORT),
    };
    let fits = match (domain, kind, protocol) {
        (_, _, 0) | (family::UNIX, _, 1) => true,
        (family::UNIX, ..) => false,
        (_, Kind::Stream, 6) | (_, Kind::Datagram, 17) => true,
        _ => false,
    };
    if fits { Ok((domain, kind)) } else { Err(Errno::PROTONOSUPPORT) }
}

/// A host that can be reached: this one.
///
/// # Errors
/// ENETUNREACH.
fn reachable(host: Host) -> Result<Host> {
    if host.is_here() { Ok(host) } else { Err(Errno::NETUNREACH) }
}

/// Writes who sent something; who has no name, has no family either.
fn tell_sender(socket: &Socket, from: &Address, into: u64, length: u64) -> Result<()> {
    if *from == Address::None {
        user::bytes_mut(length, 4)?.fill(0);
        return Ok(());
    }
    from.tell(socket.family, into, length)
}

/// What a call gives that received something.
fn answer(received: &Received, flags: u64) -> u64 {
    let length = if flags & msg::TRUNC != 0 { received.length } else { received.copied };
    length as u64
}

/// Does a list of messages one by one, up to one that fails: how many were done, each with its
/// length noted behind its header. The error of the first is that of all.
fn several(list: u64, count: u64, mut one: impl FnMut(u64, bool) -> Result) -> Result {
    let count = count.min(PIECES_MAX);
    for index in 0..count {
        let header = list + MMSGHDR * index;
        match one(header, index == 0) {
            Ok(length) => {
                let out = user::bytes_mut(header + 56, 4)?;
                out.copy_from_slice(&(length as u32).to_le_bytes());
            }
            Err(error) if index == 0 => return Err(error),
            Err(_) => return Ok(index),
        }
    }
    Ok(count)
}
