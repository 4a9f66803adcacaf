//! The machine's serial line, taken apart.

use crate::error::Tail;
use koskit_wire::{Decoder, Event, Kind, Stream};
use std::collections::{BTreeMap, VecDeque};

/// What a machine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A container wrote to its standard output.
    Output {
        /// Its number, from 1.
        container: u8,
        /// Exactly its bytes.
        bytes: &'a [u8],
    },
    /// A container wrote to its standard error.
    Error {
        /// Its number.
        container: u8,
        /// Exactly its bytes.
        bytes: &'a [u8],
    },
    /// A line for people, without control characters.
    Log {
        /// The container that it is about; 0: the machine.
        container: u8,
        /// The line, without its end.
        line: &'a str,
    },
    /// Something happened.
    Event(Event<'a>),
}

/// Longest line of the log and of an event in bytes; longer ones are broken.
const LINE_MAX: usize = 1024;
/// How many lines an error quotes.
const TAIL: usize = 12;

/// Takes the bytes of the serial line, gives messages.
#[derive(Default)]
pub(crate) struct Console {
    decoder: Decoder,
    /// Per container, what has come of a line of its log.
    log: BTreeMap<u8, Vec<u8>>,
    event: Vec<u8>,
    tail: VecDeque<String>,
}

impl Console {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8], message: &mut dyn FnMut(Message<'_>)) {
        let Self { decoder, log, event, tail } = self;
        decoder.push(bytes, |Stream { container, kind }, bytes| match kind {
            Kind::Output => message(Message::Output { container, bytes }),
            Kind::Error => message(Message::Error { container, bytes }),
            Kind::Log => split(log.entry(container).or_default(), bytes, &mut |line| {
                let line = &clean(line);
                keep(tail, line);
                message(Message::Log { container, line });
            }),
            Kind::Event => split(event, bytes, &mut |line| {
                let line = &clean(line);
                match Event::parse(line) {
                    Some(event) => message(Message::Event(event)),
                    // A newer root server may tell more than we know of.
                    None => message(Message::Log { container: 0, line }),
                }
            }),
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
    use koskit_wire::Encoder;

    const LOG: Stream = Stream { container: 0, kind: Kind::Log };

    /// What comes out where these pieces are sent, and the serial line arrives byte by byte.
    fn messages(pieces: &[(Stream, &[u8])]) -> Vec<String> {
        let (mut encoder, mut line) = (Encoder::default(), Vec::new());
        for (stream, bytes) in pieces {
            encoder.write(*stream, bytes, |byte| line.push(byte));
        }
        let (mut console, mut got) = (Console::default(), Vec::new());
        for byte in line {
            console.push(&[byte], &mut |message| got.push(format!("{message:?}")));
        }
        got
    }

    #[test]
    fn lines_of_different_containers_do_not_mix() {
        let of = |container| Stream { container, kind: Kind::Log };
        let got = messages(&[(of(1), b"on"), (of(2), b"two\n"), (of(1), b"e\r\n")]);
        assert_eq!(
            got,
            [r#"Log { container: 2, line: "two" }"#, r#"Log { container: 1, line: "one" }"#]
        );
    }

    #[test]
    fn events_are_told_and_unknown_ones_are_logged() {
        let events = Stream { container: 0, kind: Kind::Event };
        let got = messages(&[(events, b"end status=3 before=1 after=1\nparty at=nine\n")]);
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
        let got = messages(&[(LOG, &bytes)]);
        assert_eq!(got.len(), 2);
        assert!(got.iter().all(|line| !line.contains('\x1b') && line.len() < 1100));
    }

    #[test]
    fn the_kernels_last_words_are_heard() {
        let mut console = Console::default();
        for line in 0..20 {
            console.push(format!("line {line}\r\n").as_bytes(), &mut |_| {});
        }
        assert!(!console.halted());
        console.push(b"halting...\r\nKernel ent", &mut |_| {});
        assert!(console.halted());
        let tail = console.tail().to_string();
        assert!(!tail.contains("line 7"), "{tail}");
        assert!(tail.ends_with("\n  line 19\n  halting...\n  Kernel ent"), "{tail}");
    }
}
