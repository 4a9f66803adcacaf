//! What host and root server say to each other. So far: the machine's console, on which
//! several streams share one serial line without being able to forge one another.
//!
//! The root server is the only writer. Before bytes of another stream than the last, it
//! writes a switch: [`SWITCH`], the stream's number in two hexadecimal digits and its kind
//! (`o`, `e`, `l` or `v`). A container's own 0x10 and 0x1e bytes are escaped: [`ESCAPE`], then the
//! byte with bit 6 set. What comes before the first switch (loader, kernel) is the machine's log.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod event;

pub use event::{Event, STATUS_FAULTED, STATUS_REFUSED};

/// First byte of a switch to another stream (ASCII record separator).
pub const SWITCH: u8 = 0x1e;
/// First byte of an escaped byte (ASCII data link escape).
pub const ESCAPE: u8 = 0x10;
const FLIP: u8 = 0x40;

/// Where bytes on the console come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The container's number, from 1; 0 is the machine itself.
    pub container: u8,
    /// Which of its streams.
    pub kind: Kind,
}

/// The streams of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// What the machine has to say (about it), for people.
    #[default]
    Log,
    /// What happens, for programs: lines of [`Event`]. Only of stream 0.
    Event,
}

impl Kind {
    const ALL: [(Kind, u8); 4] =
        [(Kind::Output, b'o'), (Kind::Error, b'e'), (Kind::Log, b'l'), (Kind::Event, b'v')];

    fn letter(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(b'l', |(_, letter)| *letter)
    }
}

/// The root server's half: turns writes into console bytes.
#[derive(Default)]
pub struct Encoder {
    current: Stream,
}

impl Encoder {
    /// Sends `bytes` of `stream` to `put`, byte by byte.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], mut put: impl FnMut(u8)) {
        if self.current != stream {
            let hex = b"0123456789abcdef";
            put(SWITCH);
            put(hex[usize::from(stream.container >> 4)]);
            put(hex[usize::from(stream.container & 15)]);
            put(stream.kind.letter());
            self.current = stream;
        }
        for &byte in bytes {
            if byte == SWITCH || byte == ESCAPE {
                put(ESCAPE);
                put(byte ^ FLIP);
            } else {
                put(byte);
            }
        }
    }
}

/// The host's half: turns console bytes into pieces of streams. Total: a damaged switch is
/// taken as text of the stream it stands in.
#[cfg(feature = "alloc")]
#[derive(Default)]
pub struct Decoder {
    current: Stream,
    pending: alloc::vec::Vec<u8>,
}

#[cfg(feature = "alloc")]
impl Decoder {
    /// Takes the next bytes of the console and calls `piece` for each run of one stream.
    pub fn push(&mut self, bytes: &[u8], mut piece: impl FnMut(Stream, &[u8])) {
        let mut run = alloc::vec::Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match self.pending.first() {
                Some(&ESCAPE) => {
                    run.push(byte ^ FLIP);
                    self.pending.clear();
                }
                Some(_) => {
                    self.pending.push(byte);
                    if self.pending.len() == 4 {
                        let switch = core::mem::take(&mut self.pending);
                        if let Some(stream) = parse(&switch) {
                            if !run.is_empty() {
                                piece(self.current, &run);
                                run.clear();
                            }
                            self.current = stream;
                        } else {
                            run.extend_from_slice(&switch);
                        }
                    }
                }
                None if byte == SWITCH || byte == ESCAPE => self.pending.push(byte),
                None => run.push(byte),
            }
        }
        if !run.is_empty() {
            piece(self.current, &run);
        }
    }
}

#[cfg(feature = "alloc")]
fn parse(switch: &[u8]) -> Option<Stream> {
    let digits = core::str::from_utf8(switch.get(1..3)?).ok()?;
    let container = u8::from_str_radix(digits, 16).ok()?;
    let letter = *switch.get(3)?;
    let (kind, _) = Kind::ALL.into_iter().find(|(_, l)| *l == letter)?;
    Some(Stream { container, kind })
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn stream(container: u8, kind: u8) -> Stream {
        Stream { container, kind: Kind::ALL[kind as usize % 4].0 }
    }

    proptest! {
        #[test]
        fn streams_arrive_as_they_were_sent(
            writes in prop::collection::vec((0u8..4, 0u8..4, prop::collection::vec(any::<u8>(), 0..20)), 0..20),
            cut in 1usize..7,
        ) {
            let (mut encoder, mut line) = (Encoder::default(), Vec::new());
            for (container, kind, bytes) in &writes {
                encoder.write(stream(*container, *kind), bytes, |b| line.push(b));
            }
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for chunk in line.chunks(cut) {
                decoder.push(chunk, |s, bytes| got.extend(bytes.iter().map(|b| (s.container, s.kind.letter(), *b))));
            }
            let sent: Vec<_> = writes.iter().flat_map(|(c, k, bytes)| {
                let s = stream(*c, *k);
                bytes.iter().map(move |b| (s.container, s.kind.letter(), *b))
            }).collect();
            prop_assert_eq!(got, sent);
        }
    }
}
