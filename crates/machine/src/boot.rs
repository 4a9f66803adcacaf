//! One run of a machine.

use crate::archive::{self, Container, World};
use crate::console::{Console, Message};
use crate::error::Error;
use crate::qemu::{Qemu, Streams};
use crate::{Event, Platform};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How a machine is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Counts instructions instead of time, so that figures are the same on every host and
    /// every day: ticks advance by one for 16 instructions (a tick of 62.5 MHz is 16 ns, and an
    /// instruction counts as 1 ns). So that nothing else differs, random numbers come from a
    /// fixed seed and the clock starts at 2024-01-01.
    pub icount: bool,
    /// Boots the kernel that checks itself and prints what it does.
    pub debug_kernel: bool,
}

/// A machine that ran until its last container had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The last container's status that was not 0, or 0.
    pub status: u8,
    /// Free bytes of the machine before the first container was created.
    pub before: u64,
    /// Free bytes after the last one was removed.
    pub after: u64,
    /// When things happened.
    pub timeline: Timeline,
}

/// When things happened, in ticks of CNTVCT_EL0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Ticks in a second.
    pub hz: u64,
    /// The loader got control.
    pub reset: u64,
    /// The root server got control.
    pub root_server: u64,
    /// The containers in the order of their numbers; container 1 is the first.
    pub containers: Vec<ContainerTimes>,
}

/// When things happened to a container; 0 where they did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerTimes {
    /// The root server began to create it.
    pub asked: u64,
    /// Its first thread was started.
    pub started: u64,
    /// It said that it ends.
    pub exited: u64,
}

/// How long a machine may take until its root server speaks. A quiet host needs a tenth of a
/// second; a loaded one may need many.
const PATIENCE: Duration = Duration::from_secs(60);
/// 2024-01-01 in nanoseconds since 1970.
const FIXED_EPOCH: u64 = 1_704_067_200_000_000_000;

/// Boots a machine with these containers and returns when the last of them has ended. What
/// the machine says in the meantime goes to `message`, at once.
///
/// # Errors
/// The machine could not be started, or stopped with containers in it. QEMU has ended in any
/// case.
pub fn boot(
    platform: &Platform,
    containers: &[Container],
    options: &Options,
    message: &mut dyn FnMut(Message<'_>),
) -> Result<Ended, Error> {
    let kernel =
        if options.debug_kernel { Platform::KERNEL_DEBUG } else { Platform::KERNEL_RELEASE };
    let bytes = archive::assemble(platform, kernel, containers, world(options)?)?;
    let file = archive::nameless(&bytes)?;
    drop(bytes);
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let loader = platform.path(Platform::LOADER);
    let (qemu, streams) = Qemu::start(&loader, &PathBuf::from(path), options.icount)?;
    let mut run = Run { timeline: Timeline::default(), ended: None };
    run.timeline.containers.resize(containers.len(), ContainerTimes::default());
    let ended = run.listen(streams, message)?;
    qemu.quit()?;
    Ok(ended)
}

fn world(options: &Options) -> Result<World, Error> {
    let mut seed = [0; 32];
    if options.icount {
        return Ok(World { seed, epoch_ns: FIXED_EPOCH });
    }
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::Host { what: "get random numbers", source: error.into() })?;
    let epoch_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    Ok(World { seed, epoch_ns })
}

/// What is known of a run so far.
struct Run {
    timeline: Timeline,
    ended: Option<Ended>,
}

impl Run {
    fn listen(
        mut self,
        mut streams: Streams,
        message: &mut dyn FnMut(Message<'_>),
    ) -> Result<Ended, Error> {
        let mut console = Console::default();
        let mut buffer = vec![0; 64 << 10];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = match self.timeline.hz {
                0 => Some(deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            let wait = |source| Error::Host { what: "wait for the machine", source };
            let ready = ready(&streams, left).map_err(wait)?;
            let count = match ready {
                Ready::Serial => streams.serial.read(&mut buffer).map_err(wait)?,
                Ready::Complaints => {
                    let count = streams.complaints.read(&mut buffer).map_err(wait)?;
                    console.complaint(&buffer[..count]);
                    continue;
                }
                Ready::Nothing => {
                    let (seconds, tail) = (PATIENCE.as_secs(), console.tail());
                    return Err(Error::Silent { seconds, tail });
                }
            };
            if count == 0 {
                // QEMU is gone; if it had a reason, it is still in the pipe.
                let count = streams.complaints.read(&mut buffer).map_err(wait)?;
                console.complaint(&buffer[..count]);
                return Err(Error::Stopped(console.tail()));
            }
            console.push(&buffer[..count], &mut |said| {
                if let Message::Event(event) = said {
                    self.note(event);
                }
                message(said);
            });
            if let Some(ended) = self.ended {
                return Ok(ended);
            }
            if console.halted() {
                return Err(Error::Stopped(console.tail()));
            }
        }
    }

    fn note(&mut self, event: Event<'_>) {
        let timeline = &mut self.timeline;
        let mut of = |container: u8, change: &dyn Fn(&mut ContainerTimes)| {
            let index = usize::from(container).wrapping_sub(1);
            timeline.containers.get_mut(index).into_iter().for_each(change);
        };
        match event {
            Event::Ready { reset, ticks, hz, .. } => {
                (timeline.reset, timeline.root_server, timeline.hz) = (reset, ticks, hz);
            }
            Event::Started { container, asked, ticks, .. } => {
                of(container, &|times| (times.asked, times.started) = (asked, ticks));
            }
            Event::Exited { container, ticks, .. } => {
                of(container, &|times| times.exited = ticks);
            }
            Event::End { status, before, after } => {
                let timeline = std::mem::take(timeline);
                self.ended = Some(Ended { status, before, after, timeline });
            }
            Event::Refused { .. } | Event::Faulted { .. } | Event::Removed { .. } => {}
        }
    }
}

/// What can be read without waiting.
#[derive(PartialEq, Eq)]
enum Ready {
    /// The serial line, or it has ended.
    Serial,
    /// QEMU's complaints alone.
    Complaints,
    /// Nothing, in all the time that was left.
    Nothing,
}

fn ready(streams: &Streams, left: Option<Duration>) -> std::io::Result<Ready> {
    let mut fds = [
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
    let [serial, complaints] = fds.each_ref().map(|fd| !fd.revents().is_empty());
    Ok(match (serial, complaints) {
        (true, _) => Ready::Serial,
        (false, true) => Ready::Complaints,
        (false, false) => Ready::Nothing,
    })
}
