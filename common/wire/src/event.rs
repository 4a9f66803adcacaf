//! What happens on a machine, told by the root server on the stream [`crate::Kind::Event`]:
//! one line of text each, `name key=value …`, so that a person reading the raw console can
//! follow it. A text (`reason`, `what`) is the last value and goes to the end of the line.
//!
//! Ticks are readings of CNTVCT_EL0; under QEMU's `-icount shift=0` they count instructions.

use core::fmt;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The root server runs and holds all memory.
    Ready {
        /// Bytes that containers can get.
        free: u64,
        /// Ticks when the loader got control.
        reset: u64,
        /// Ticks when the root server got control.
        ticks: u64,
        /// Ticks in a second.
        hz: u64,
    },
    /// A container was refused; nothing of it was created.
    Refused {
        /// Its number, from 1.
        container: u8,
        /// Why, as the end of a sentence.
        reason: &'a str,
    },
    /// A container's first thread was started.
    Started {
        /// Its number.
        container: u8,
        /// Bytes left to other containers.
        free: u64,
        /// Ticks when its creation began.
        asked: u64,
        /// Ticks when its thread was resumed.
        ticks: u64,
    },
    /// A container ended by itself.
    Exited {
        /// Its number.
        container: u8,
        /// Its exit status, 0 to 255.
        status: u8,
        /// Ticks when it said so.
        ticks: u64,
    },
    /// A container was ended because of a fault. Registers follow on its log stream.
    Faulted {
        /// Its number.
        container: u8,
        /// The fault and its address, as a sentence.
        what: &'a str,
    },
    /// All of a container was given back: then `before` and `after` are equal, whatever other
    /// containers came and went in the meantime.
    Removed {
        /// Its number.
        container: u8,
        /// Bytes that were free or had by other containers before it was created.
        before: u64,
        /// Bytes that are free or had by other containers now.
        after: u64,
    },
    /// The last container has ended; nothing happens on this machine any more.
    End {
        /// What the machine ends with: the last container's status that was not 0, or 0.
        status: u8,
        /// Free bytes when the root server was ready.
        before: u64,
        /// Free bytes now.
        after: u64,
    },
}

/// Exit status of a container that was ended because of a fault: 128 + SIGSEGV.
pub const STATUS_FAULTED: u8 = 139;
/// Exit status of a container that was refused: docker's "the container could not be run".
pub const STATUS_REFUSED: u8 = 125;

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { free, reset, ticks, hz } => {
                write!(f, "ready free={free} reset={reset} ticks={ticks} hz={hz}")
            }
            Self::Refused { container, reason } => {
                write!(f, "refused container={container} reason={reason}")
            }
            Self::Started { container, free, asked, ticks } => {
                write!(f, "started container={container} free={free} asked={asked} ticks={ticks}")
            }
            Self::Exited { container, status, ticks } => {
                write!(f, "exited container={container} status={status} ticks={ticks}")
            }
            Self::Faulted { container, what } => {
                write!(f, "faulted container={container} what={what}")
            }
            Self::Removed { container, before, after } => {
                write!(f, "removed container={container} before={before} after={after}")
            }
            Self::End { status, before, after } => {
                write!(f, "end status={status} before={before} after={after}")
            }
        }
    }
}

impl<'a> Event<'a> {
    /// Reads a line, without its line ending; `None` where it is no event.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (name, mut rest) = line.split_once(' ')?;
        let event = match name {
            "ready" => Self::Ready {
                free: number(&mut rest, "free")?,
                reset: number(&mut rest, "reset")?,
                ticks: number(&mut rest, "ticks")?,
                hz: number(&mut rest, "hz")?,
            },
            "refused" => {
                let container = number(&mut rest, "container")?;
                Self::Refused { container, reason: text(&mut rest, "reason")? }
            }
            "started" => Self::Started {
                container: number(&mut rest, "container")?,
                free: number(&mut rest, "free")?,
                asked: number(&mut rest, "asked")?,
                ticks: number(&mut rest, "ticks")?,
            },
            "exited" => Self::Exited {
                container: number(&mut rest, "container")?,
                status: number(&mut rest, "status")?,
                ticks: number(&mut rest, "ticks")?,
            },
            "faulted" => {
                let container = number(&mut rest, "container")?;
                Self::Faulted { container, what: text(&mut rest, "what")? }
            }
            "removed" => Self::Removed {
                container: number(&mut rest, "container")?,
                before: number(&mut rest, "before")?,
                after: number(&mut rest, "after")?,
            },
            "end" => Self::End {
                status: number(&mut rest, "status")?,
                before: number(&mut rest, "before")?,
                after: number(&mut rest, "after")?,
            },
            _ => return None,
        };
        rest.is_empty().then_some(event)
    }
}

fn value<'a>(rest: &&'a str, key: &str) -> Option<&'a str> {
    rest.strip_prefix(key)?.strip_prefix('=')
}

fn number<T: core::str::FromStr>(rest: &mut &str, key: &str) -> Option<T> {
    let from = value(rest, key)?;
    let (number, after) = from.split_once(' ').unwrap_or((from, ""));
    *rest = after;
    number.parse().ok()
}

fn text<'a>(rest: &mut &'a str, key: &str) -> Option<&'a str> {
    let text = value(rest, key)?;
    *rest = "";
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn an_event_survives_its_line() {
        let all = [
            Event::Ready { free: 1 << 30, reset: 3, ticks: 5, hz: 62_500_000 },
            Event::Refused { container: 1, reason: "heap_pages is 9, but …" },
            Event::Started { container: 255, free: 0, asked: 1, ticks: u64::MAX },
            Event::Exited { container: 2, status: 255, ticks: 7 },
            Event::Faulted { container: 3, what: "it read address 0x0" },
            Event::Removed { container: 3, before: 9, after: 9 },
            Event::End { status: 1, before: 10, after: 10 },
        ];
        for event in all {
            assert_eq!(Event::parse(&event.to_string()), Some(event));
        }
        assert_eq!(Event::parse("end status=1 before=2 after=3 more=4"), None);
        assert_eq!(Event::parse("end status=256 before=2 after=3"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".*") {
            let _ = Event::parse(&line);
        }
    }
}
