//! One run of a machine.

use crate::archive::{self, Container, World};
use crate::console::Message;
use crate::error::Error;
use crate::line::Line;
use crate::listener::{Listener, PATIENCE};
use crate::qemu::{Qemu, Streams};
use crate::{Event, Platform};
use koskit_wire::Request;
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
    /// MiB of memory that the machine may use at most; 0 is the 1024 that its kernel manages.
    pub memory: u32,
    /// Gives our own standard input to the containers that [`boot`] runs; else they get its end.
    pub input: bool,
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
    let (qemu, streams) = start(platform, containers, options)?;
    let line = Line::new(&streams)?;
    let (asks, asked) = channel();
    let input = options.input;
    thread::spawn(move || pass_input(input, &asked, &line));
    let mut listener = Listener::new(streams);
    let mut run = Run { timeline: Timeline::default(), ended: None };
    run.timeline.containers.resize(containers.len(), ContainerTimes::default());
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        let deadline = (run.timeline.hz == 0).then_some(deadline);
        let heard = listener.hear(deadline, &mut |said| {
            if let Message::Event(event) = said {
                run.note(event);
                if let Event::Asks { container, most } = event {
                    // Whoever reads it ends with the machine.
                    let _ = asks.send((container, most));
                }
            }
            message(said);
        });
        if let Some(ended) = run.ended {
            break ended;
        }
        heard?;
    };
    qemu.quit()?;
    Ok(ended)
}

/// Answers those who ask for standard input, one after the other.
fn pass_input(input: bool, asked: &Receiver<(u32, u32)>, line: &Line) {
    while let Ok((container, most)) = asked.recv() {
        let mut bytes = vec![0; most as usize];
        // What cannot be read is at its end.
        let count = if input { std::io::stdin().read(&mut bytes).unwrap_or(0) } else { 0 };
        if line.send(0, &Request::Input { container, bytes: &bytes[..count] }).is_err() {
            return;
        }
    }
}

/// Starts QEMU with a boot archive of these containers.
pub(crate) fn start(
    platform: &Platform,
    containers: &[Container],
    options: &Options,
) -> Result<(Qemu, Streams), Error> {
    let kernel =
        if options.debug_kernel { Platform::KERNEL_DEBUG } else { Platform::KERNEL_RELEASE };
    let bytes = archive::assemble(platform, kernel, containers, world(options)?)?;
    let file = archive::nameless(&bytes)?;
    drop(bytes);
    Qemu::start(&platform.path(Platform::LOADER), file, options.icount)
}

fn world(options: &Options) -> Result<World, Error> {
    let (mut seed, memory) = ([0; 32], options.memory);
    if options.icount {
        return Ok(World { seed, epoch_ns: FIXED_EPOCH, memory });
    }
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::Host { what: "get random numbers", source: error.into() })?;
    let epoch_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    Ok(World { seed, epoch_ns, memory })
}

/// What is known of a run so far.
struct Run {
    timeline: Timeline,
    ended: Option<Ended>,
}

impl Run {
    fn note(&mut self, event: Event<'_>) {
        let timeline = &mut self.timeline;
        let mut of = |container: u32, change: &dyn Fn(&mut ContainerTimes)| {
            let index = (container as usize).wrapping_sub(1);
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
            _ => {}
        }
    }
}
