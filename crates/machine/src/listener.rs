//! What a machine says, as it comes.

use crate::Error;
use crate::console::{Console, From, Message};
use crate::qemu::Streams;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::time::{Duration, Instant};

/// How long a machine may take until its root server speaks. A quiet host needs a tenth of a
/// second; a loaded one may need many.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Hears a machine.
pub struct Listener {
    streams: Streams,
    console: Console,
    buffer: Vec<u8>,
}

impl Listener {
    pub(crate) fn new(streams: Streams) -> Self {
        Self { streams, console: Console::default(), buffer: vec![0; 64 << 10] }
    }

    /// Waits until the machine says something, and tells all of that.
    ///
    /// # Errors
    /// The machine has stopped; or it has said nothing until `deadline`, if there is one.
    pub fn hear(
        &mut self,
        deadline: Option<Instant>,
        message: &mut dyn FnMut(Message<'_>),
    ) -> Result<(), Error> {
        let Self { streams, console, buffer } = self;
        let wait = |source| Error::Host { what: "wait for the machine", source };
        let left = deadline.map(|until| until.saturating_duration_since(Instant::now()));
        let (count, from) = match ready(streams, left).map_err(wait)? {
            Ready::Line => match streams.line.read(buffer) {
                // QEMU went while something was on its way to it.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    (0, From::Line)
                }
                other => (other.map_err(wait)?, From::Line),
            },
            Ready::Serial => (streams.serial.read(buffer).map_err(wait)?, From::Serial),
            Ready::Complaints => {
                let count = streams.complaints.read(buffer).map_err(wait)?;
                console.complaint(&buffer[..count]);
                return Ok(());
            }
            Ready::Nothing => {
                let (seconds, tail) = (PATIENCE.as_secs(), console.tail());
                return Err(Error::Silent { seconds, tail });
            }
        };
        if count == 0 {
            // QEMU is gone; if it had a reason, it is still in the pipe.
            let count = streams.complaints.read(buffer).map_err(wait)?;
            console.complaint(&buffer[..count]);
            return Err(Error::Stopped(console.tail()));
        }
        console.push(from, &buffer[..count], message);
        if console.halted() {
            return Err(Error::Stopped(console.tail()));
        }
        Ok(())
    }
}

/// What can be read without waiting.
#[derive(PartialEq, Eq)]
enum Ready {
    /// The line, or it has ended.
    Line,
    /// The serial port, and not the line.
    Serial,
    /// QEMU's complaints alone.
    Complaints,
    /// Nothing, in all the time that was left.
    Nothing,
}

fn ready(streams: &Streams, left: Option<Duration>) -> std::io::Result<Ready> {
    let mut fds = [
        PollFd::new(&streams.line, PollFlags::IN),
        PollFd::new(&streams.serial, PollFlags::IN),
        PollFd::new(&streams.complaints, PollFlags::IN),
    ];
    let left = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    while let Err(error) = poll(&mut fds, left.as_ref()) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let [line, serial, complaints] = fds.each_ref().map(|fd| !fd.revents().is_empty());
    Ok(match (line, serial, complaints) {
        (true, ..) => Ready::Line,
        (_, true, _) => Ready::Serial,
        (_, _, true) => Ready::Complaints,
        _ => Ready::Nothing,
    })
}
