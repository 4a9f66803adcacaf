//! What commands and keeper say to each other on the socket: parts, each a byte that says what it
//! is, the length of what follows (u32, little-endian), and that. Both are of one version, as a
//! keeper is started by the koskit that its user has.
//!
//! A command sends one [`Ask`]. The answer is one part of JSON, `{"ok": …}` or `{"error": "…"}`.
//! Where it is asked to follow, parts of output come first; where it runs a container, the keeper
//! first names the blobs that the machine needs, `{"need": […]}`, and the command sends them.

use crate::Error;
use koskit_machine::Digest;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// JSON.
    Json = b'J',
    /// A blob that the machine needs.
    Blob = b'B',
    /// Bytes for a container's standard input; none at its end.
    Input = b'i',
    /// What a container wrote: nanoseconds since 1970 (u64), then bytes.
    Output = b'o',
    /// The same, of standard error.
    Error = b'e',
    /// The same, a line about it.
    Log = b'l',
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Json, Self::Blob, Self::Input, Self::Output, Self::Error, Self::Log];
}

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// What the machine says about it.
    Log,
}

/// Most bytes of a part: the largest initrd.
const PART_MAX: u32 = 512 << 20;
/// Most bytes of a part that is no blob.
const SMALL_MAX: u32 = 16 << 20;

/// Sends a part.
pub(crate) fn send(mut to: impl Write, kind: Kind, pieces: &[&[u8]]) -> Result<(), Error> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let length = u32::try_from(length).ok().filter(|&length| length <= PART_MAX);
    let mut head = [kind as u8; 5];
    head[1..].copy_from_slice(&length.ok_or(Error::Protocol)?.to_le_bytes());
    let mut bytes = head.to_vec();
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    to.write_all(&bytes).map_err(gone)
}

/// Receives a part; `None` at the end.
pub(crate) fn receive(mut from: impl Read) -> Result<Option<(Kind, Vec<u8>)>, Error> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(gone)?,
    }
    let kind = Kind::ALL.into_iter().find(|&kind| kind as u8 == head[0]).ok_or(Error::Protocol)?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if length > if kind == Kind::Blob { PART_MAX } else { SMALL_MAX } {
        return Err(Error::Protocol);
    }
    // What is not sent takes no memory.
    let mut bytes = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut bytes).map_err(gone)?;
    if bytes.len() != length as usize { Ok(None) } else { Ok(Some((kind, bytes))) }
}

fn gone(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Gone,
        _ => Error::Socket(error),
    }
}

/// What a command asks. Names are names or the beginnings of ids of containers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are the options of the commands with these names")]
pub enum Ask {
    /// About the machine.
    Info,
    /// All containers.
    List,
    Inspect {
        name: String,
    },
    Run(Box<Run>),
    Logs {
        name: String,
        follow: bool,
        tail: Option<usize>,
    },
    Stop {
        name: String,
        seconds: u64,
    },
    Kill {
        name: String,
    },
    Remove {
        name: String,
        force: bool,
    },
    Wait {
        name: String,
    },
    Stats {
        name: String,
    },
    /// Each capability that a container holds.
    Holds {
        name: String,
    },
    /// What the machine itself says.
    Console {
        follow: bool,
    },
    /// Ends the machine.
    End,
}

/// A container to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The name that was given to it.
    pub name: Option<String>,
    /// Name of its image.
    pub image: String,
    /// Its words.
    pub command: Vec<String>,
    /// Its contract, for people.
    pub spec: serde_json::Value,
    /// When it is started again.
    pub restart: crate::Policy,
    /// Whether its standard input is that of the command.
    pub interactive: bool,
    /// Whether it runs in the background.
    pub detach: bool,
    /// Whether it is forgotten when it has ended.
    pub remove: bool,
    /// Contract with process block, program, initrd.
    pub blobs: [BlobName; 3],
}

/// The name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobName(pub Digest);

impl Serialize for BlobName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BlobName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |at: usize| text.get(at..at + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(|index| digit(2 * index)).collect();
        let bytes = bytes.filter(|_| text.len() == 64).and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| serde::de::Error::custom("no digest of 64 digits"))?;
        Ok(Self(Digest(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_arrives_and_a_longer_one_than_allowed_is_refused() {
        let mut line = Vec::new();
        send(&mut line, Kind::Output, &[b"a", b"bc"]).unwrap();
        let mut from = &line[..];
        assert_eq!(receive(&mut from).unwrap(), Some((Kind::Output, b"abc".to_vec())));
        assert_eq!(receive(&mut from).unwrap(), None);
        assert_eq!(receive(&line[..6]).unwrap(), None);
        assert!(receive(&b"J\xff\xff\xff\xff"[..]).is_err());
        assert!(receive(&b"?\0\0\0\0"[..]).is_err());
    }

    #[test]
    fn an_ask_survives_its_json() {
        let ask = Ask::Logs { name: "web".into(), follow: true, tail: Some(3) };
        let json = serde_json::to_string(&ask).unwrap();
        assert_eq!(json, r#"{"ask":"logs","name":"web","follow":true,"tail":3}"#);
        let name = BlobName(Digest([0xab; 32]));
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<BlobName>(&json).unwrap(), name);
        assert!(serde_json::from_str::<BlobName>("\"abc\"").is_err());
    }
}
