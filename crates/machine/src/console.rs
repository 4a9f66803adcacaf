//! The machine's line and its serial port, taken apart.

use crate::error::Tail;
use koskit_wire::{Decoder, Event, Frame, Kind, Piece};
use std::collections::{BTreeMap, VecDeque};

/// What a machine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A container wrote to its standard output.
    Output {
        /// Its number.
        container: u32,
        /// Exactly its bytes.
        bytes: &'a [u8],
    },
    /// A container wrote to its standard error.
    Error {
        /// Its number.
        container: u32,
        /// Exactly its bytes.
        bytes: &'a [u8],
    },
    /// A line for people, without control characters.
    Log {
        /// The container that it is about; 0: the machine.
        container: u32,
        /// The line, without its end.
        line: &'a str,
    },
    /// Something happened.
    Event(Event<'a>),
}

/// Longest line of the log in bytes; longer ones are broken.
const LINE_MAX: usize = 1024;
/// How many lines an error quotes.
const TAIL: usize = 12;

/// Where bytes come from.
#[derive(Clone, Copy)]
pub(crate) enum From {
    /// The root server's line.
    Line,
    /// The serial port.
    Serial,
}

/// Takes the bytes of both, gives messages.
#[derive(Default)]
pub(crate) struct Console {
    decoders: [Decoder; 2],
    /// Per container, what has come of a line of its log.
    log: BTreeMap<u32, Vec<u8>>,
    tail: VecDeque<String>,
}

impl Console {
    /// Takes the next bytes.
    pub fn push(&mut self, from: From, bytes: &[u8], message: &mut dyn FnMut(Message<'_>)) {
        let Self { decoders, log, tail } = self;
        let mut lines = |container: u32, bytes: &[u8], message: &mut dyn FnMut(Message<'_>)| {
            split(log.entry(container).or_default(), bytes, &mut |line| {
                let line = &clean(line);
                keep(tail, line);
                message(Message::Log { container, line });
            });
        };
        decoders[from as usize].push(bytes, |piece| match piece {
            Piece::Frame(Frame { kind: Kind::Output, number: container, payload: bytes }) => {
                message(Message::Output { container, bytes });
            }
            Piece::Frame(Frame { kind: Kind::Error, number: container, payload: bytes }) => {
                message(Message::Error { container, bytes });
            }
            Piece::Frame(Frame { kind: Kind::Log, number, payload }) => {
                lines(number, payload, message);
            }
            Piece::Frame(Frame { kind: Kind::Event, payload, .. }) => {
                let line = &clean(payload);
                match Event::parse(line) {
                    Some(event) => message(Message::Event(event)),
                    // A newer root server may tell more than we know of.
                    None => message(Message::Log { container: 0, line }),
                }
            }
            // Whoever knows of no frames: loader and kernel.
            Piece::Text(bytes) => lines(0, bytes, message),
            Piece::Frame(Frame { kind: Kind::Request, .. }) | Piece::Damaged => {
                let line = "a frame on the machine's line was damaged";
                message(Message::Log { container: 0, line });
            }
        });
    }

    /// Whether the kernel has said that it stopped for good.
    pub fn halted(&self) -> bool {
        self.tail.back().is_some_and(|line| line.trim_end() == "halting...")
    }

    /// Takes lines that did not come from the machine but belong to its last words.
    pub fn complaint(&mut self, lines: &[u8]) {
        lines.split(|&byte| byte == b'\n').for_each(|line| keep(&mut self.tail, &clean(line)));
    }

    /// The last lines of the log, unfinished ones too.
    pub fn tail(&mut self) -> Tail {
        for line in std::mem::take(&mut self.log).into_values() {
            if !line.is_empty() {
                keep(&mut self.tail, &clean(&line));
            }
        }
        Tail(std::mem::take(&mut self.tail).into())
    }
}

fn keep(tail: &mut VecDeque<String>, line: &str) {
    if !line.is_empty() {
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    }
}

/// Cuts `bytes` into lines; what comes before a line's end waits in `pending`.
fn split(pending: &mut Vec<u8>, bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
    for &byte in bytes {
        if byte == b'\n' || pending.len() == LINE_MAX {
            line(pending);
            pending.clear();
        }
        if byte != b'\n' {
            pending.push(byte);
        }
    }
}

/// The line as text that cannot move a terminal's cursor.
fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_wire::encode;

    /// What comes out where these frames are sent, and the line arrives byte by byte.
    fn messages(frames: &[(Kind, u32, &[u8])]) -> Vec<String> {
        let mut line = Vec::new();
        for (kind, number, payload) in frames {
            encode(*kind, *number, &[payload], |byte| line.push(byte));
        }
        let (mut console, mut got) = (Console::default(), Vec::new());
        for byte in line {
            console.push(From::Line, &[byte], &mut |message| got.push(format!("{message:?}")));
        }
        got
    }

    #[test]
    fn lines_of_different_containers_do_not_mix() {
        let log = |container, text: &'static str| (Kind::Log, container, text.as_bytes());
        let got = messages(&[log(1, "on"), log(2, "two\n"), log(1, "e\r\n")]);
        assert_eq!(
            got,
            [r#"Log { container: 2, line: "two" }"#, r#"Log { container: 1, line: "one" }"#]
        );
    }

    #[test]
    fn events_are_told_and_unknown_ones_are_logged() {
        let event = |line: &'static str| (Kind::Event, 0, line.as_bytes());
        let got = messages(&[event("end status=3 before=1 after=1"), event("party at=nine")]);
        assert_eq!(
            got,
            [
                "Event(End { status: 3, before: 1, after: 1 })",
                r#"Log { container: 0, line: "party at=nine" }"#
            ]
        );
    }

    #[test]
    fn an_endless_line_is_broken_and_a_terminal_is_safe_from_it() {
        let mut bytes = vec![b'x'; 3000];
        bytes[0] = 0x1b;
        let got = messages(&[(Kind::Log, 0, &bytes)]);
        assert_eq!(got.len(), 2);
        assert!(got.iter().all(|line| !line.contains('\x1b') && line.len() < 1100));
    }

    #[test]
    fn the_kernels_last_words_are_heard() {
        let mut console = Console::default();
        for line in 0..20 {
            console.push(From::Serial, format!("line {line}\r\n").as_bytes(), &mut |_| {});
        }
        assert!(!console.halted());
        console.push(From::Serial, b"halting...\r\nKernel ent", &mut |_| {});
        assert!(console.halted());
        let tail = console.tail().to_string();
        assert!(!tail.contains("line 7"), "{tail}");
        assert!(tail.ends_with("\n  line 19\n  halting...\n  Kernel ent"), "{tail}");
    }
}
