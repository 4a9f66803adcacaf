//! What happens on a machine, told by the root server in frames of [`crate::Kind::Event`]:
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
        /// Its number.
        container: u32,
        /// Why, as the end of a sentence.
        reason: &'a str,
    },
    /// A container's first thread was started.
    Started {
        /// Its number.
        container: u32,
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
        container: u32,
        /// Its exit status, 0 to 255.
        status: u8,
        /// Ticks when it said so.
        ticks: u64,
    },
    /// A container was ended because of a fault. Registers follow on its log stream.
    Faulted {
        /// Its number.
        container: u32,
        /// The fault and its address, as a sentence.
        what: &'a str,
    },
    /// All of a container was given back: then `before` and `after` are equal, whatever other
    /// containers came and went in the meantime.
    Removed {
        /// Its number.
        container: u32,
        /// Bytes that were free or had by other containers before it was created.
        before: u64,
        /// Bytes that are free or had by other containers now.
        after: u64,
    },
    /// A container waits for its standard input; [`crate::Request::Input`] answers.
    Asks {
        /// Its number.
        container: u32,
        /// Most bytes that it takes.
        most: u32,
    },
    /// The answer to [`crate::Request::Hello`].
    Hello {
        /// The request's tag.
        tag: u32,
        /// The root server's version.
        version: u32,
    },
    /// What was asked for was done.
    Done {
        /// The request's tag.
        tag: u32,
    },
    /// What was asked for was not done, and nothing has changed.
    Failed {
        /// The request's tag; 0 where what came was no request.
        tag: u32,
        /// Why, as a sentence.
        reason: &'a str,
    },
    /// The answer to [`crate::Request::Have`].
    Blob {
        /// The request's tag.
        tag: u32,
        /// 1 where the machine has all of it, else 0.
        held: u32,
    },
    /// The answer to [`crate::Request::Memory`].
    Memory {
        /// The request's tag.
        tag: u32,
        /// Bytes that containers could get if there were none, and no blobs.
        total: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes of the largest untyped that a container could get.
        largest: u64,
    },
    /// A part of the answer to [`crate::Request::List`].
    Running {
        /// The request's tag.
        tag: u32,
        /// A container's number.
        container: u32,
    },
    /// The answer to [`crate::Request::Stats`].
    Stats {
        /// The request's tag.
        tag: u32,
        /// Bytes of the container's untyped.
        memory: u64,
        /// Requests that it has made of the root server.
        requests: u64,
        /// Bytes that it has written to its streams.
        written: u64,
        /// Bytes that it has read from its standard input.
        read: u64,
    },
    /// A part of the answer to [`crate::Request::Caps`]: a capability that a container holds.
    Cap {
        /// The request's tag.
        tag: u32,
        /// Its slot.
        slot: u32,
        /// What it names: `untyped`, `cnode`, `tcb`, `vspace`, `table`, `frame`, `interrupt`,
        /// `signal` (an endpoint or a notification) or `other`.
        object: &'a str,
        /// log2 of the bytes of a frame or table; 0 where that is not known.
        bits: u32,
        /// Of an untyped, the bytes that are free; of a frame, its physical address.
        value: u64,
    },
    /// The end of the answer to [`crate::Request::Caps`].
    Caps {
        /// The request's tag.
        tag: u32,
        /// The first slot that was not looked at, or 0 where that were all.
        next: u32,
        /// The badge of the container's messages.
        badge: u32,
    },
    /// The last container of a machine that was booted with containers has ended; nothing happens
    /// on this machine any more.
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
/// Exit status of a container that was killed: 128 + SIGKILL.
pub const STATUS_KILLED: u8 = 137;
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
            Self::Asks { container, most } => write!(f, "asks container={container} most={most}"),
            Self::Hello { tag, version } => write!(f, "hello tag={tag} version={version}"),
            Self::Done { tag } => write!(f, "done tag={tag}"),
            Self::Failed { tag, reason } => write!(f, "failed tag={tag} reason={reason}"),
            Self::Blob { tag, held } => write!(f, "blob tag={tag} held={held}"),
            Self::Memory { tag, total, free, largest } => {
                write!(f, "memory tag={tag} total={total} free={free} largest={largest}")
            }
            Self::Running { tag, container } => {
                write!(f, "running tag={tag} container={container}")
            }
            Self::Stats { tag, memory, requests, written, read } => write!(
                f,
                "stats tag={tag} memory={memory} requests={requests} written={written} read={read}"
            ),
            Self::Cap { tag, slot, object, bits, value } => {
                write!(f, "cap tag={tag} slot={slot} object={object} bits={bits} value={value}")
            }
            Self::Caps { tag, next, badge } => {
                write!(f, "caps tag={tag} next={next} badge={badge}")
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
            "asks" => Self::Asks {
                container: number(&mut rest, "container")?,
                most: number(&mut rest, "most")?,
            },
            "hello" => Self::Hello {
                tag: number(&mut rest, "tag")?,
                version: number(&mut rest, "version")?,
            },
            "done" => Self::Done { tag: number(&mut rest, "tag")? },
            "failed" => {
                let tag = number(&mut rest, "tag")?;
                Self::Failed { tag, reason: text(&mut rest, "reason")? }
            }
            "blob" => {
                Self::Blob { tag: number(&mut rest, "tag")?, held: number(&mut rest, "held")? }
            }
            "memory" => Self::Memory {
                tag: number(&mut rest, "tag")?,
                total: number(&mut rest, "total")?,
                free: number(&mut rest, "free")?,
                largest: number(&mut rest, "largest")?,
            },
            "running" => Self::Running {
                tag: number(&mut rest, "tag")?,
                container: number(&mut rest, "container")?,
            },
            "stats" => Self::Stats {
                tag: number(&mut rest, "tag")?,
                memory: number(&mut rest, "memory")?,
                requests: number(&mut rest, "requests")?,
                written: number(&mut rest, "written")?,
                read: number(&mut rest, "read")?,
            },
            "cap" => Self::Cap {
                tag: number(&mut rest, "tag")?,
                slot: number(&mut rest, "slot")?,
                object: word(&mut rest, "object")?,
                bits: number(&mut rest, "bits")?,
                value: number(&mut rest, "value")?,
            },
            "caps" => Self::Caps {
                tag: number(&mut rest, "tag")?,
                next: number(&mut rest, "next")?,
                badge: number(&mut rest, "badge")?,
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

fn word<'a>(rest: &mut &'a str, key: &str) -> Option<&'a str> {
    let from = value(rest, key)?;
    let (word, after) = from.split_once(' ').unwrap_or((from, ""));
    *rest = after;
    Some(word)
}

fn number<T: core::str::FromStr>(rest: &mut &str, key: &str) -> Option<T> {
    word(rest, key)?.parse().ok()
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
            Event::Asks { container: 70_000, most: 944 },
            Event::Hello { tag: 1, version: 2 },
            Event::Done { tag: u32::MAX },
            Event::Failed { tag: 0, reason: "what came was no request" },
            Event::Blob { tag: 1, held: 1 },
            Event::Memory { tag: 2, total: 3, free: 2, largest: 1 },
            Event::Running { tag: 4, container: 5 },
            Event::Stats { tag: 4, memory: 1 << 20, requests: 3, written: 2, read: 1 },
            Event::Cap { tag: 5, slot: 9, object: "frame", bits: 12, value: 1 << 30 },
            Event::Caps { tag: 5, next: 256, badge: 2 },
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
