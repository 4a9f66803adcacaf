//! Addresses of sockets, as programs write them.

use crate::errno::{Errno, Result};
use crate::user;
use alloc::vec::Vec;

/// Families of addresses.
#[expect(missing_docs, reason = "Linux's own names")]
pub mod family {
    pub const UNSPEC: u16 = 0;
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
}

/// Where a socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Address {
    /// It has no name.
    #[default]
    None,
    /// A name in the tree of files.
    Path(Vec<u8>),
    /// A name of its own kind.
    Abstract(Vec<u8>),
    /// A port of the container's own network, which has nothing but itself.
    Port(Host, u16),
}

/// Addresses of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Of IPv4.
    V4([u8; 4]),
    /// Of IPv6.
    V6([u8; 16]),
}

const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// What IPv4 addresses begin with in IPv6.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// Bytes of the name in `sockaddr_un`.
const PATH: usize = 108;

impl Host {
    /// No address in particular, in a family.
    pub fn any(family: u16) -> Self {
        if family == family::INET6 { Self::V6([0; 16]) } else { Self::V4([0; 4]) }
    }

    /// IPv4 in IPv6 is IPv4.
    fn plain(self) -> Self {
        match self {
            Self::V6(bytes) if bytes.starts_with(&MAPPED) => {
                Self::V4([bytes[12], bytes[13], bytes[14], bytes[15]])
            }
            other => other,
        }
    }

    /// Whether it stands for every address.
    pub fn is_any(self) -> bool {
        matches!(
            self.plain(),
            Self::V4([0, 0, 0, 0]) | Self::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        )
    }

    /// Whether it is this host.
    pub fn is_here(self) -> bool {
        self.is_any() || matches!(self.plain(), Self::V4([127, ..]) | Self::V6(LOOPBACK6))
    }

    /// What is meant where somebody calls any address: this host.
    pub fn concrete(self) -> Self {
        match self {
            Self::V4([0, 0, 0, 0]) => Self::V4([127, 0, 0, 1]),
            Self::V6(bytes) if bytes == [0; 16] => Self::V6(LOOPBACK6),
            other => other,
        }
    }

    /// Whether what is sent to `other` arrives here.
    pub fn hears(self, other: Self) -> bool {
        let (own, other) = (self.plain(), other.concrete().plain());
        // A socket of IPv6 for any address hears IPv4, too.
        let both = matches!(self, Self::V6(_)) && self.is_any();
        own == other
            || self.is_any() && (both || matches!(own, Self::V4(_)) == matches!(other, Self::V4(_)))
    }
}

impl Address {
    /// Reads an address, which must be of this family.
    ///
    /// # Errors
    /// EINVAL for what is too short or too long, EAFNOSUPPORT for another family.
    pub fn read(at: u64, length: u64, family: u16) -> Result<Self> {
        let length = u64::from(length as u32);
        if !(2..=128).contains(&length) {
            return Err(Errno::INVAL);
        }
        let bytes = user::bytes(at, length)?;
        let found = u16::from_le_bytes([bytes[0], bytes[1]]);
        if found == family::UNSPEC {
            return Ok(Self::None);
        }
        if found != family {
            return Err(if family == family::UNIX { Errno::INVAL } else { Errno::AFNOSUPPORT });
        }
        let name = &bytes[2..];
        match family {
            family::UNIX if name.len() > PATH => Err(Errno::INVAL),
            family::UNIX => Ok(match name {
                [] => Self::None,
                [0, rest @ ..] => Self::Abstract(rest.into()),
                _ => Self::Path(name.split(|&byte| byte == 0).next().unwrap_or_default().into()),
            }),
            _ => {
                let (size, start) = if family == family::INET { (4, 2) } else { (16, 6) };
                let host = name.get(start..start + size).ok_or(Errno::INVAL)?;
                let port = u16::from_be_bytes([name[0], name[1]]);
                let host = match host.try_into() {
                    Ok(bytes) => Host::V4(bytes),
                    Err(_) => Host::V6(host.try_into().map_err(|_| Errno::INVAL)?),
                };
                Ok(Self::Port(host, port))
            }
        }
    }

    /// The address as programs read it.
    pub fn bytes(&self, family: u16) -> Vec<u8> {
        let mut out = Vec::from(family.to_le_bytes());
        match self {
            Self::None if family == family::UNIX => {}
            Self::None => return Self::Port(Host::any(family), 0).bytes(family),
            Self::Path(path) => {
                out.extend_from_slice(path);
                out.push(0);
            }
            Self::Abstract(name) => {
                out.push(0);
                out.extend_from_slice(name);
            }
            Self::Port(host, port) => {
                out.extend_from_slice(&port.to_be_bytes());
                match (host, family) {
                    (Host::V4(bytes), family::INET6) => {
                        out.extend_from_slice(&[0; 4]);
                        out.extend_from_slice(&MAPPED);
                        out.extend_from_slice(bytes);
                        out.extend_from_slice(&[0; 4]);
                    }
                    (Host::V4(bytes), _) => {
                        out.extend_from_slice(bytes);
                        out.extend_from_slice(&[0; 8]);
                    }
                    (Host::V6(bytes), _) => {
                        out.extend_from_slice(&[0; 4]);
                        out.extend_from_slice(bytes);
                        out.extend_from_slice(&[0; 4]);
                    }
                }
            }
        }
        out
    }

    /// Writes an address where a call wants it: as far as there is room, with its whole length.
    ///
    /// # Errors
    /// EFAULT, EINVAL for a length that cannot be.
    pub fn tell(&self, family: u16, into: u64, length: u64) -> Result<()> {
        if into == 0 {
            return Ok(());
        }
        let bytes = self.bytes(family);
        let size = user::bytes_mut(length, 4)?;
        let room = i32::from_le_bytes([size[0], size[1], size[2], size[3]]);
        let room = usize::try_from(room).map_err(|_| Errno::INVAL)?.min(bytes.len());
        user::bytes_mut(into, room as u64)?.copy_from_slice(&bytes[..room]);
        size.copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_being_read_and_written() {
        for (address, family) in [
            (Address::None, family::UNIX),
            (Address::Path(b"/a/b".to_vec()), family::UNIX),
            (Address::Abstract(b"x\0y".to_vec()), family::UNIX),
            (Address::Port(Host::V4([127, 0, 0, 1]), 80), family::INET),
            (Address::Port(Host::V6(LOOPBACK6), 80), family::INET6),
        ] {
            let bytes = address.bytes(family);
            let read = Address::read(bytes.as_ptr() as u64, bytes.len() as u64, family);
            assert_eq!(read, Ok(address));
        }
        let inet = Address::None.bytes(family::INET);
        assert_eq!((inet.len(), inet[0]), (16, 2));
    }

    #[test]
    fn any_address_is_this_host() {
        let v4 = Host::V4([127, 0, 0, 1]);
        let mut mapped = [0; 16];
        mapped[..12].copy_from_slice(&MAPPED);
        mapped[12..].copy_from_slice(&[127, 0, 0, 1]);
        assert!(Host::any(family::INET).hears(v4) && Host::any(family::INET6).hears(v4));
        assert!(v4.hears(Host::any(family::INET)) && v4.hears(Host::V6(mapped)));
        assert!(!Host::any(family::INET).hears(Host::V6(LOOPBACK6)));
        assert!(!Host::V4([127, 0, 0, 2]).hears(v4));
        assert!(!Host::V4([8, 8, 8, 8]).is_here() && Host::V6(mapped).is_here());
    }
}
