//! Frames.
//!
//! ```text
//! START  kind u8  number u32  length u16  payload  checksum u32  END
//! ```
//! Integers are little-endian. START, END and ESCAPE never occur inside a frame: such a byte is
//! sent as ESCAPE and the byte with bit 6 changed. So a frame begins wherever START is, and no
//! payload can look like one, not even after bytes were lost. The length is the payload's; the
//! checksum is CRC-32 (ISO-HDLC) of everything before it, unescaped.

/// First byte of a frame (ASCII record separator).
pub const START: u8 = 0x1e;
/// Last byte of a frame (ASCII unit separator).
pub const END: u8 = 0x1f;
/// First byte of an escaped byte (ASCII data link escape).
pub const ESCAPE: u8 = 0x10;
const FLIP: u8 = 0x40;

/// Most bytes of a payload: a page and what says where it goes.
pub const PAYLOAD_MAX: usize = 4096 + 64;
const HEADER: usize = 7;
const CONTENT_MAX: usize = HEADER + PAYLOAD_MAX + 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A container's standard output.
    Output = b'o',
    /// A container's standard error.
    Error = b'e',
    /// What the machine has to say about a container, for people.
    Log = b'l',
    /// What happens, for programs: an [`crate::Event`].
    Event = b'v',
    /// What the host asks: a [`crate::Request`]. The frame's number is its tag, which the answer
    /// repeats.
    Request = b'r',
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [Output, Error, Log, Event, Request].into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// A frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// The container that it is about, or the tag of a request.
    pub number: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Sends a frame to `put`, byte by byte. Its payload is all of `parts`, of which at most
/// [`PAYLOAD_MAX`] bytes are sent.
pub fn encode(kind: Kind, number: u32, parts: &[&[u8]], mut put: impl FnMut(u8)) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>().min(PAYLOAD_MAX);
    let mut header = [0; HEADER];
    header[0] = kind as u8;
    header[1..5].copy_from_slice(&number.to_le_bytes());
    header[5..].copy_from_slice(&(length as u16).to_le_bytes());
    let payload = parts.iter().copied().flatten().take(length);
    let mut checksum = Checksum::default();
    put(START);
    for &byte in header.iter().chain(payload) {
        checksum.add(byte);
        escape(byte, &mut put);
    }
    checksum.finish().into_iter().for_each(|byte| escape(byte, &mut put));
    put(END);
}

fn escape(byte: u8, put: &mut impl FnMut(u8)) {
    if matches!(byte, START | END | ESCAPE) {
        put(ESCAPE);
        put(byte ^ FLIP);
    } else {
        put(byte);
    }
}

/// What a line of bytes is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Bytes outside of frames.
    Text(&'a [u8]),
    /// Something that began as a frame and is none.
    Damaged,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Inside,
    Escaped,
}

/// Takes a line of bytes apart. It needs no memory but its own, and holds one frame at most.
pub struct Decoder {
    state: State,
    content: [u8; CONTENT_MAX],
    /// Bytes of the frame so far; more than fit where it is too long.
    length: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub const fn new() -> Self {
        Self { state: State::Outside, content: [0; CONTENT_MAX], length: 0 }
    }

    /// Takes the next bytes and calls `piece` for what they complete.
    pub fn push(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        // Where the text outside of frames begins that was not passed on yet.
        let mut text = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            match (self.state, byte) {
                (state, START) => {
                    if state != State::Outside {
                        piece(Piece::Damaged);
                    } else if text < at {
                        piece(Piece::Text(&bytes[text..at]));
                    }
                    (self.state, self.length) = (State::Inside, 0);
                }
                (State::Outside, _) => {}
                (_, END) => {
                    piece(self.frame().map_or(Piece::Damaged, Piece::Frame));
                    (self.state, text) = (State::Outside, at + 1);
                }
                (State::Inside, ESCAPE) => self.state = State::Escaped,
                (State::Inside, byte) => self.keep(byte),
                (State::Escaped, byte) => {
                    self.keep(byte ^ FLIP);
                    self.state = State::Inside;
                }
            }
        }
        if self.state == State::Outside && text < bytes.len() {
            piece(Piece::Text(&bytes[text..]));
        }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.content.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        } else {
            // One too many, for ever: no frame comes of it.
            self.length = CONTENT_MAX + 1;
        }
    }

    fn frame(&self) -> Option<Frame<'_>> {
        // An escape that nothing follows is no end of a frame either.
        let content = self.content.get(..self.length).filter(|_| self.state == State::Inside)?;
        let (checked, checksum) = content.split_at_checked(content.len().checked_sub(4)?)?;
        let (header, payload) = checked.split_at_checked(HEADER)?;
        let length = usize::from(u16::from_le_bytes([header[5], header[6]]));
        let number = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let kind = Kind::from_byte(header[0])?;
        let mut own = Checksum::default();
        checked.iter().for_each(|&byte| own.add(byte));
        (length == payload.len() && own.finish() == *checksum).then_some(Frame {
            kind,
            number,
            payload,
        })
    }
}

/// CRC-32 as in Ethernet and zip: polynomial 0x04c1_1db7, reflected.
struct Checksum(u32);

impl Default for Checksum {
    fn default() -> Self {
        Self(!0)
    }
}

impl Checksum {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let (mut value, mut bit) = (index as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index] = value;
            index += 1;
        }
        table
    };

    fn add(&mut self, byte: u8) {
        self.0 = Self::TABLE[usize::from(self.0 as u8 ^ byte)] ^ self.0 >> 8;
    }

    fn finish(&self) -> [u8; 4] {
        (!self.0).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    const KINDS: [Kind; 5] = [Kind::Output, Kind::Error, Kind::Log, Kind::Event, Kind::Request];

    fn frame(kind: Kind, number: u32, payload: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        encode(kind, number, &[payload], |byte| line.push(byte));
        line
    }

    /// What comes out, where the line arrives in pieces of `cut` bytes. Neighbouring texts are one.
    fn decode(line: &[u8], cut: usize) -> Vec<String> {
        let (mut decoder, mut got) = (Decoder::new(), Vec::new());
        let mut text = Vec::new();
        for bytes in line.chunks(cut) {
            decoder.push(bytes, |piece| match piece {
                Piece::Text(bytes) => text.extend_from_slice(bytes),
                other => {
                    if !text.is_empty() {
                        got.push(format!("text {text:?}"));
                        text.clear();
                    }
                    got.push(format!("{other:?}"));
                }
            });
        }
        if !text.is_empty() {
            got.push(format!("text {text:?}"));
        }
        got
    }

    #[test]
    fn the_checksum_is_crc_32() {
        let mut checksum = Checksum::default();
        b"123456789".iter().for_each(|&byte| checksum.add(byte));
        assert_eq!(u32::from_le_bytes(checksum.finish()), 0xcbf4_3926);
    }

    #[test]
    fn what_is_longer_than_a_frame_is_cut_when_sent_and_damaged_when_received() {
        let line = frame(Kind::Output, 1, &[7; PAYLOAD_MAX + 9]);
        let all = Frame { kind: Kind::Output, number: 1, payload: &[7; PAYLOAD_MAX] };
        assert_eq!(decode(&line, 100), [format!("{:?}", Piece::Frame(all))]);
        let mut long = [b'x'; CONTENT_MAX + 9];
        (long[0], long[CONTENT_MAX + 8]) = (START, END);
        assert_eq!(decode(&long, 100), ["Damaged"]);
    }

    proptest! {
        #[test]
        fn frames_arrive_as_they_were_sent_with_text_between_them(
            pieces in prop::collection::vec(
                (0usize..6, any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cut in 1usize..9,
        ) {
            let (mut line, mut sent) = (Vec::new(), Vec::new());
            let mut text = Vec::new();
            for (kind, number, payload) in &pieces {
                if let Some(&kind) = KINDS.get(*kind) {
                    if !text.is_empty() {
                        sent.push(format!("text {text:?}"));
                        text.clear();
                    }
                    line.extend(frame(kind, *number, payload));
                    let frame = Frame { kind, number: *number, payload };
                    sent.push(format!("{:?}", Piece::Frame(frame)));
                } else {
                    // Whoever does not know of frames writes text.
                    let plain = payload.iter().copied().filter(|&byte| byte != START);
                    text.extend(plain.clone());
                    line.extend(plain);
                }
            }
            if !text.is_empty() {
                sent.push(format!("text {text:?}"));
            }
            prop_assert_eq!(decode(&line, cut), sent);
        }

        #[test]
        fn one_changed_byte_never_makes_another_frame(
            payload in prop::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            change in 1u8..,
        ) {
            let mut line = frame(Kind::Output, 3, &payload);
            let at = at.index(line.len());
            line[at] ^= change;
            let good = Frame { kind: Kind::Output, number: 3, payload: &payload };
            let good = format!("{:?}", Piece::Frame(good));
            let others = decode(&line, 9);
            prop_assert!(others.iter().all(|p| !p.starts_with("Frame") || *p == good), "{:?}", others);
        }

        #[test]
        fn no_bytes_make_it_panic_and_the_next_frame_is_heard(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            cut in 1usize..9,
        ) {
            let mut line = noise.clone();
            let next = Frame { kind: Kind::Event, number: 9, payload: b"next" };
            line.extend(frame(next.kind, next.number, next.payload));
            let got = decode(&line, cut);
            prop_assert_eq!(got.last(), Some(&format!("{:?}", Piece::Frame(next))));
        }
    }
}
