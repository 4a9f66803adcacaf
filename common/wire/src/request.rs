//! What the host asks of the root server: the payload of a frame of [`crate::Kind::Request`].
//! Its first byte says which request it is; integers are little-endian.

use core::fmt;

/// Bytes of a page: all pages of a blob but its last are sent whole.
pub const PAGE: usize = 4096;

/// The name of a blob: the SHA-256 digest of its bytes. The machine takes it as a name only; that
/// it is right is the host's business, as the bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A request. Each but [`Request::Page`] and [`Request::Input`] has one answer, which has the tag
/// of the request's frame or the number of its container: what is said of an answer below, or
/// [`crate::Event::Failed`] with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which version the root server speaks: [`crate::Event::Hello`].
    Hello {
        /// The host's.
        version: u32,
    },
    /// Whether the machine has a blob: [`crate::Event::Blob`].
    Have {
        /// Its name.
        digest: Digest,
    },
    /// Makes room for a blob, whose pages follow: [`crate::Event::Done`]. A blob that was not
    /// finished is forgotten.
    Put {
        /// Its name.
        digest: Digest,
        /// Its bytes.
        size: u64,
    },
    /// The next page of the blob that is being put. Only the last one is answered, by
    /// [`crate::Event::Done`].
    Page {
        /// Its number, from 0.
        index: u32,
        /// [`PAGE`] bytes, or what is left.
        bytes: &'a [u8],
    },
    /// Forgets a blob that no container uses: [`crate::Event::Done`].
    Drop {
        /// Its name.
        digest: Digest,
    },
    /// Creates a container and starts it: [`crate::Event::Started`] or
    /// [`crate::Event::Refused`].
    Create {
        /// Its number, which no other container has.
        container: u32,
        /// The blob with its contract and process block. It is not used any more afterwards.
        bundle: Digest,
        /// The blob with its program.
        program: Digest,
        /// The blob with its initrd.
        initrd: Digest,
    },
    /// Ends a container: [`crate::Event::Exited`] with status 137, [`crate::Event::Removed`],
    /// [`crate::Event::Done`].
    Kill {
        /// Its number.
        container: u32,
    },
    /// Answers [`crate::Event::Asks`]. Where nobody has asked, nothing happens.
    Input {
        /// Its number.
        container: u32,
        /// What its standard input has; nothing at its end.
        bytes: &'a [u8],
    },
    /// What a container holds: [`crate::Event::Stats`].
    Stats {
        /// Its number.
        container: u32,
    },
    /// What is in the slots of a container's CNode: an [`crate::Event::Cap`] for each that is not
    /// empty, then [`crate::Event::Caps`].
    Caps {
        /// Its number.
        container: u32,
        /// The first slot to look at.
        first: u32,
    },
    /// Which containers there are: an [`crate::Event::Running`] each, then
    /// [`crate::Event::Done`].
    List,
    /// How much memory is free: [`crate::Event::Memory`].
    Memory,
}

impl<'a> Request<'a> {
    /// Calls `send` with the payload, in pieces.
    pub fn encode<T>(&self, send: impl FnOnce(&[&[u8]]) -> T) -> T {
        let number = |n: &u32| n.to_le_bytes();
        match self {
            Self::Hello { version } => send(&[b"h", &number(version)]),
            Self::Have { digest } => send(&[b"?", &digest.0]),
            Self::Put { digest, size } => send(&[b"+", &digest.0, &size.to_le_bytes()]),
            Self::Page { index, bytes } => send(&[b"p", &number(index), bytes]),
            Self::Drop { digest } => send(&[b"-", &digest.0]),
            Self::Create { container, bundle, program, initrd } => {
                send(&[b"c", &number(container), &bundle.0, &program.0, &initrd.0])
            }
            Self::Kill { container } => send(&[b"k", &number(container)]),
            Self::Input { container, bytes } => send(&[b"i", &number(container), bytes]),
            Self::Stats { container } => send(&[b"s", &number(container)]),
            Self::Caps { container, first } => send(&[b"a", &number(container), &number(first)]),
            Self::List => send(&[b"l"]),
            Self::Memory => send(&[b"m"]),
        }
    }

    /// Reads a payload; `None` where it is no request.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (&[letter], mut rest) = payload.split_first_chunk()?;
        let request = match letter {
            b'h' => Self::Hello { version: number(&mut rest)? },
            b'?' => Self::Have { digest: digest(&mut rest)? },
            b'+' => {
                let digest = digest(&mut rest)?;
                Self::Put { digest, size: u64::from_le_bytes(*take(&mut rest)?) }
            }
            b'p' => {
                let index = number(&mut rest)?;
                let bytes = core::mem::take(&mut rest);
                (bytes.len() <= PAGE).then_some(Self::Page { index, bytes })?
            }
            b'-' => Self::Drop { digest: digest(&mut rest)? },
            b'c' => Self::Create {
                container: number(&mut rest)?,
                bundle: digest(&mut rest)?,
                program: digest(&mut rest)?,
                initrd: digest(&mut rest)?,
            },
            b'k' => Self::Kill { container: number(&mut rest)? },
            b'i' => {
                let container = number(&mut rest)?;
                Self::Input { container, bytes: core::mem::take(&mut rest) }
            }
            b's' => Self::Stats { container: number(&mut rest)? },
            b'a' => Self::Caps { container: number(&mut rest)?, first: number(&mut rest)? },
            b'l' => Self::List,
            b'm' => Self::Memory,
            _ => return None,
        };
        rest.is_empty().then_some(request)
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(first)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest).copied().map(u32::from_le_bytes)
}

fn digest(rest: &mut &[u8]) -> Option<Digest> {
    take(rest).copied().map(Digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn bytes(request: &Request<'_>) -> Vec<u8> {
        request.encode(|parts| parts.concat())
    }

    #[test]
    fn a_request_survives_its_encoding_and_nothing_may_follow_it() {
        let [a, b, c] = [1, 2, 3].map(|byte| Digest([byte; 32]));
        let container = 0x1234_5678;
        let all = [
            Request::Hello { version: 7 },
            Request::Have { digest: a },
            Request::Put { digest: b, size: 1 << 40 },
            Request::Page { index: 9, bytes: &[5; PAGE] },
            Request::Drop { digest: c },
            Request::Create { container, bundle: a, program: b, initrd: c },
            Request::Kill { container },
            Request::Input { container, bytes: b"typed\n" },
            Request::Input { container, bytes: b"" },
            Request::Stats { container },
            Request::Caps { container, first: 256 },
            Request::List,
            Request::Memory,
        ];
        for request in all {
            let mut bytes = bytes(&request);
            assert!(bytes.len() <= crate::PAYLOAD_MAX);
            assert_eq!(Request::parse(&bytes), Some(request));
            bytes.push(0);
            let open = matches!(request, Request::Input { .. });
            assert_eq!(Request::parse(&bytes).is_some(), open, "{request:?}");
        }
        assert_eq!(Request::parse(b""), None);
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(payload in prop::collection::vec(any::<u8>(), 0..150)) {
            if let Some(request) = Request::parse(&payload) {
                prop_assert_eq!(bytes(&request), payload);
            }
        }
    }
}
