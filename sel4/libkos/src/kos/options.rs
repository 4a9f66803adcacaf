//! Options of sockets. They are kept as they were set; few have effects.

use super::wait::NEVER;
use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::stream::address::family;
use crate::stream::{Kind, Socket};
use crate::system::System;
use crate::user;
use alloc::vec::Vec;

/// The level of options that all sockets have.
pub(super) const SOL_SOCKET: u32 = 1;

/// Options of the level SOL_SOCKET.
pub(super) mod so {
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const SNDBUF: u32 = 7;
    pub const RCVBUF: u32 = 8;
    pub const LINGER: u32 = 13;
    pub const PASSCRED: u32 = 16;
    pub const PEERCRED: u32 = 17;
    pub const RCVLOWAT: u32 = 18;
    pub const RCVTIMEO: u32 = 20;
    pub const SNDTIMEO: u32 = 21;
    pub const ACCEPTCONN: u32 = 30;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
    pub const LAST: u32 = 80;
}

impl<S: System> Kos<'_, S> {
    pub(super) fn setsockopt(
        &mut self,
        fd: u64,
        level: u64,
        option: u64,
        value: u64,
        size: u64,
    ) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        let (level, option, size) = (level as u32, option as u32, u64::from(size as u32));
        known(&socket, level, option)?;
        let least = match (level, option) {
            (SOL_SOCKET, so::RCVTIMEO | so::SNDTIMEO) => 16,
            (SOL_SOCKET, so::LINGER) => 8,
            (SOL_SOCKET, so::TYPE | so::ERROR | so::ACCEPTCONN | so::PROTOCOL | so::DOMAIN) => {
                return Err(Errno::NOPROTOOPT);
            }
            (SOL_SOCKET, _) => 4,
            _ => 1,
        };
        if size < least || size > 256 {
            return Err(Errno::INVAL);
        }
        let mut value: Vec<u8> = user::bytes(value, size)?.into();
        if matches!(option, so::RCVTIMEO | so::SNDTIMEO) && level == SOL_SOCKET {
            let word = |at: usize| value[at..].first_chunk().map_or(0, |b| i64::from_le_bytes(*b));
            const DOM: Errno = Errno(33);
            if !(0..1_000_000).contains(&word(8)) {
                return Err(DOM);
            }
        }
        if matches!(option, so::SNDBUF | so::RCVBUF) && level == SOL_SOCKET {
            // Linux takes twice what it is told.
            let size = value.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
            value = (size.clamp(1152, 212_992) * 2).to_le_bytes().into();
        }
        self.system.reserve(RESERVE)?;
        socket.options.borrow_mut().insert((level, option), value);
        Ok(0)
    }

    pub(super) fn getsockopt(
        &mut self,
        fd: u64,
        level: u64,
        option: u64,
        into: u64,
        size: u64,
    ) -> Result {
        let (_, socket) = self.socket_of(fd)?;
        let (level, option) = (level as u32, option as u32);
        known(&socket, level, option)?;
        let number = |number: u32| Vec::from(number.to_le_bytes());
        let value = match (level, option) {
            (SOL_SOCKET, so::TYPE) => number(match socket.kind {
                Kind::Stream => 1,
                Kind::Datagram => 2,
                Kind::Packets => 5,
            }),
            (SOL_SOCKET, so::ERROR) => number(socket.error.take().map_or(0, |e| e.0.into())),
            (SOL_SOCKET, so::ACCEPTCONN) => number(socket.is_listening().into()),
            (SOL_SOCKET, so::DOMAIN) => number(socket.family.into()),
            (SOL_SOCKET, so::PROTOCOL) => number(match (socket.family, socket.kind) {
                (family::UNIX, _) => 0,
                (_, Kind::Stream) => 6,
                _ => 17,
            }),
            (SOL_SOCKET, so::PEERCRED) => {
                let pid = if socket.is_connected() { super::PID as u32 } else { 0 };
                let id = if socket.is_connected() { 0 } else { u32::MAX };
                [number(pid), number(id), number(id)].concat()
            }
            _ => socket.option(level, option).unwrap_or_else(|| match (level, option) {
                (SOL_SOCKET, so::SNDBUF | so::RCVBUF) => number(crate::stream::BUFFER as u32),
                (SOL_SOCKET, so::RCVLOWAT) => number(1),
                (SOL_SOCKET, so::LINGER) => alloc::vec![0; 8],
                (SOL_SOCKET, so::RCVTIMEO | so::SNDTIMEO) => alloc::vec![0; 16],
                _ => number(0),
            }),
        };
        let room = user::bytes(size, 4)?;
        let room = u32::from_le_bytes([room[0], room[1], room[2], room[3]]) as usize;
        let length = room.min(value.len());
        user::bytes_mut(into, length as u64)?.copy_from_slice(&value[..length]);
        user::bytes_mut(size, 4)?.copy_from_slice(&(length as u32).to_le_bytes());
        Ok(0)
    }

    /// Until when a call on a socket waits.
    pub(super) fn timeout(&mut self, socket: &Socket, option: u32) -> Result {
        let time = socket.option(SOL_SOCKET, option).and_then(|value| {
            let word = |at: usize| value.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b));
            Some(word(0)?.saturating_mul(1_000_000).saturating_add(word(8)?).saturating_mul(1000))
        });
        match time.filter(|&time| time > 0) {
            None => Ok(NEVER),
            Some(time) => self.until(|kos| Ok(kos.now(1)?.saturating_add(time))),
        }
    }
}

/// # Errors
/// EOPNOTSUPP or ENOPROTOOPT for an option that Linux does not have for such a socket.
fn known(socket: &Socket, level: u32, option: u32) -> Result<()> {
    const IP: u32 = 0;
    const TCP: u32 = 6;
    const UDP: u32 = 17;
    const IPV6: u32 = 41;
    match level {
        SOL_SOCKET if option <= so::LAST => Ok(()),
        SOL_SOCKET => Err(Errno::NOPROTOOPT),
        _ if socket.family == family::UNIX => Err(Errno::OPNOTSUPP),
        TCP if socket.kind == Kind::Stream => Ok(()),
        UDP if socket.kind == Kind::Datagram => Ok(()),
        IP => Ok(()),
        IPV6 if socket.family == family::INET6 => Ok(()),
        _ => Err(Errno::NOPROTOOPT),
    }
}
