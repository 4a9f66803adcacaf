//! Running a command in a file system.
//!
//! [`run`] starts this program again, twice, so that nothing but plain programs with one thread
//! ever enters a namespace, and no code runs between `fork` and `exec`:
//!
//! ```text
//! koskit ──► outer: leaves the terminal, makes the namespaces, waits
//!              └──► inner: process 1 of the new PID namespace. Mounts /proc, /dev, …, makes the
//!                   file system its root, gives up what it must, and becomes the command
//! ```
//!
//! The command is process 1, as under Docker: when it ends, the kernel ends what it started.
//! A socket between koskit and outer carries the task one way and the result the other. It is
//! also the lifeline: when koskit cancels or dies, however suddenly, the socket closes, outer
//! kills process 1, and with it everything inside goes.
//!
//! The program that is started again lies on a read-only mount, or is a sealed copy in memory.
//! Otherwise a command inside could find koskit's own file behind `/proc/PID/exe` and write to it
//! (as in CVE-2019-5736).
//!
//! # What the command sees
//! The mounts, a `/proc` of its own in which what belongs to the machine is hidden or read-only,
//! a `/dev` with the six usual devices, `pts` and `shm`, `/sys` read-only where the system allows
//! it, and `/etc/hosts` and `/etc/resolv.conf` of this run. What had to be made for these in the
//! file system is removed afterwards. [`Network::Host`] is the machine's own network. The
//! capabilities are those of Docker's containers; a setuid program works as there.
//!
//! An [insecure](Process::insecure) command, as BuildKit calls it, has all capabilities that
//! koskit has: an ordinary user's are those of a user namespace, and so is what they reach. It
//! sees all of `/proc`, and may write to `/sys` as far as the machine lets it.

mod limit;
mod mounts;
mod network;
mod program;
mod secret;
mod stage;
mod stubs;
mod user;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use limit::Limit;
pub use secret::Hidden;
pub(crate) use stage::init;
use stubs::Stubs;

use crate::emulate::Emulator;
use crate::namespace::{self, Ids, MORE_IDS};

/// A command and the world that it runs in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments. One without a slash is looked up in the `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The working directory, made if there is none; empty is `/`.
    pub cwd: String,
    /// `USER` or `USER:GROUP`, each a name or a number; empty is root.
    pub user: String,
    /// Variables that nothing shows, by name.
    pub secret_env: Vec<(String, Hidden)>,
    /// The name of the host; empty is `koskit`.
    pub hostname: String,
    /// What runs its programs, if they are of another machine.
    pub(crate) emulator: Option<Emulator>,
    /// More lines of `/etc/hosts`: names and addresses.
    pub hosts: Vec<(String, String)>,
    /// The statuses with which it ends well; none is 0 alone.
    pub valid_exit_codes: Vec<i32>,
    /// Which network it sees.
    pub network: Network,
    /// File systems in its root, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Whether it keeps all capabilities, and nothing of `/proc` and `/sys` is kept from it.
    pub insecure: bool,
    /// How much it may have.
    pub limits: Vec<Limit>,
}

/// Which network a command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The machine's.
    #[default]
    Host,
    /// One with a loopback interface and nothing else.
    None,
}

/// A file system in the root of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where, from the root. What is missing of it is made, and removed afterwards.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether the command may not change it.
    pub readonly: bool,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSource {
    /// A directory or file here.
    Directory {
        /// The root of a file system, as of a [`crate::snapshot::View`].
        root: PathBuf,
        /// The path in it; empty is all. Links are followed, and do not leave the root.
        selector: String,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// The largest size in bytes.
        size: Option<u64>,
    },
    /// A file in memory that nothing shows.
    Secret {
        /// What it holds.
        content: Hidden,
        /// Whose it is: user and group.
        owner: (u32, u32),
        /// Its permissions.
        mode: u32,
    },
}

/// Where a command wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// To its standard output.
    Stdout,
    /// To its standard error.
    Stderr,
}

/// Why a command did not end well.
#[derive(Debug, Error)]
pub enum ExecError {
    /// It ended with a status other than 0.
    #[error("the command {command} failed with exit code {code}")]
    Exit {
        /// As one would type it.
        command: String,
        /// Its status.
        code: i32,
    },
    /// A signal ended it.
    #[error("the command {command} was ended by signal {signal}{}", if *.signal == 9 {
        " (is the machine out of memory?)"
    } else {
        ""
    })]
    Signal {
        /// As one would type it.
        command: String,
        /// The number.
        signal: i32,
    },
    /// It could not be started. The reason is a sentence without a full stop.
    #[error("the command {command} cannot be started: {why}")]
    Start {
        /// As one would type it.
        command: String,
        /// Why.
        why: String,
    },
    /// [`Cancel::cancel`] was called.
    #[error("the command {command} was cancelled")]
    Cancelled {
        /// As one would type it.
        command: String,
    },
    /// The system fails.
    #[error("cannot {action} to run a command")]
    System {
        /// A verb and its object.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl ExecError {
    /// That a command was cancelled before it began.
    pub(crate) fn cancelled(args: &[String]) -> Self {
        Self::Cancelled { command: shown(args) }
    }

    /// What to do about it, where the machine may be to blame rather than the command.
    pub fn hint(&self) -> Option<String> {
        let single = matches!(self, Self::Exit { .. }) && namespace::ids() == Ids::Single;
        single.then(|| {
            format!(
                "here is only one user, and programs such as apt, su and chown need more: \
                 {MORE_IDS}"
            )
        })
    }
}

/// Ends commands. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<Mutex<Lifelines>>,
}

#[derive(Debug, Default)]
struct Lifelines {
    cancelled: bool,
    next: u64,
    sockets: HashMap<u64, UnixStream>,
}

/// What the second and third programs are told.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    root: PathBuf,
    process: Process,
    /// What is to be in `/etc/resolv.conf`, if it is to be there.
    resolv_conf: Option<String>,
}

/// What they answer.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Exit(i32),
    Signal(i32),
    Failed(String),
}

/// Runs a command in a root until it ends, and whatever it started. Output comes as whole lines
/// where there are lines, from another thread.
///
/// The root is a directory that [`crate::snapshot::Active::path`] gives, or any other. This
/// process has called [`crate::init`] at its start, and [`crate::namespace::enter`].
///
/// # Errors
/// The command cannot be started, fails, or is cancelled.
pub fn run(
    process: &Process,
    root: &Path,
    cancel: &Cancel,
    output: &(dyn Fn(Stream, &[u8]) + Sync),
) -> Result<(), ExecError> {
    let command = shown(&process.args);
    let failed = |why: String| ExecError::Start { command: command.clone(), why };
    let stubs = Stubs::make(root, process).map_err(failed)?;
    let result = run_outer(process, root, cancel, output);
    stubs.remove();
    match result? {
        _ if cancel.is_cancelled() => Err(ExecError::Cancelled { command }),
        Some(Report::Exit(0)) if process.valid_exit_codes.is_empty() => Ok(()),
        Some(Report::Exit(code)) if process.valid_exit_codes.contains(&code) => Ok(()),
        Some(Report::Exit(code)) => Err(ExecError::Exit { command, code }),
        Some(Report::Signal(signal)) => Err(ExecError::Signal { command, signal }),
        Some(Report::Failed(why)) => Err(failed(why)),
        None => Err(failed("what was to start it was killed".into())),
    }
}

fn run_outer(
    process: &Process,
    root: &Path,
    cancel: &Cancel,
    output: &(dyn Fn(Stream, &[u8]) + Sync),
) -> Result<Option<Report>, ExecError> {
    let system = |action| move |source| ExecError::System { action, source };
    let program = this_program().map_err(system("protect this program"))?;
    let (mut control, theirs) = UnixStream::pair().map_err(system("make a socket"))?;
    let lifeline = control.try_clone().map_err(system("make a socket"))?;
    let Some(_registered) = cancel.register(lifeline) else { return Ok(None) };
    let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(stage::OUTER)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(system("start this program again"))?;
    let resolv_conf = (process.network == Network::Host)
        .then(|| std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let mut process = process.clone();
    // Where the emulator is known already, nothing is left to be done inside.
    process.emulator = process.emulator.filter(|emulator| !emulator.prepare());
    let task = Task { root: root.into(), process, resolv_conf };
    // If it fails, there is no answer either.
    let _ = send(&mut control, &task);
    let stdout = child.stdout.take().map(|pipe| (Stream::Stdout, OwnedFd::from(pipe)));
    let stderr = child.stderr.take().map(|pipe| (Stream::Stderr, OwnedFd::from(pipe)));
    let pipes: Vec<_> = stdout.into_iter().chain(stderr).map(Pipe::new).collect();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| pump(pipes, output));
        let report = receive(&control).ok();
        child.wait().map(|_| report)
    });
    report.map_err(system("wait"))
}

/// This program, where nobody can change it, to be executed.
fn this_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: Mutex<Option<&'static OwnedFd>> = Mutex::new(None);
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = *program {
        return Ok(program);
    }
    let found = mounts::read_only_program().or_else(|_| copied_program())?;
    // One for the life of the process.
    Ok(program.insert(Box::leak(Box::new(found))))
}

/// This program in memory. It may be large, so this is for where there is no mount to be had.
fn copied_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(memfd_create("koskit", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Writes a value as one line.
fn send(mut to: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads a value that is one line.
fn receive<T: for<'a> Deserialize<'a>>(from: impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(from).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// One end of what a command writes to.
struct Pipe {
    stream: Stream,
    file: File,
    /// The beginning of a line.
    held: Vec<u8>,
}

impl Pipe {
    fn new((stream, fd): (Stream, OwnedFd)) -> Self {
        Self { stream, file: fd.into(), held: Vec::new() }
    }

    /// Reads once, passes on what is whole, and tells whether there may be more.
    fn read(&mut self, output: &dyn Fn(Stream, &[u8])) -> bool {
        const MOST: usize = 1 << 14;
        let mut buffer = [0; MOST];
        let read = match self.file.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            read => read.unwrap_or(0),
        };
        self.held.extend_from_slice(&buffer[..read]);
        // A carriage return ends a line as well: that of a progress bar.
        let end = self.held.iter().rposition(|&b| b == b'\n' || b == b'\r');
        let end = end.map_or(0, |at| at + 1);
        let all = read == 0 || self.held.len() - end > MOST;
        let end = if all { self.held.len() } else { end };
        if end > 0 {
            output(self.stream, &self.held[..end]);
            self.held.drain(..end);
        }
        read > 0
    }
}

/// Passes on what comes through pipes, cut where lines end, until all are closed. One thread for
/// both keeps what is written to one after the other in order as far as that can be seen.
fn pump(mut pipes: Vec<Pipe>, output: &dyn Fn(Stream, &[u8])) {
    while !pipes.is_empty() {
        let mut fds: Vec<_> =
            pipes.iter().map(|pipe| PollFd::new(&pipe.file, PollFlags::IN)).collect();
        // Interrupted, it tells of none.
        let _ = poll(&mut fds, None);
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        pipes.retain_mut(|pipe| ready.next() == Some(false) || pipe.read(output));
    }
}

/// A command as one would type it, and not too long. `/bin/sh -c` before a script is left out.
fn shown(args: &[String]) -> String {
    let text = match args {
        [shell, option, script] if shell == "/bin/sh" && option == "-c" => script.clone(),
        args => args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" "),
    };
    let short: String = text.chars().take(200).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("`{short}{dots}`")
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.into();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

impl Cancel {
    /// One that has not been called.
    pub fn new() -> Self {
        Self::default()
    }

    /// Kills all commands that run with it, and lets no other start.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        for (_, socket) in state.sockets.drain() {
            // It is closed already where its command has ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether it was called.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn register(&self, socket: UnixStream) -> Option<impl Drop> {
        struct Registered(Cancel, u64);
        impl Drop for Registered {
            fn drop(&mut self) {
                self.0.lock().sockets.remove(&self.1);
            }
        }
        let mut state = self.lock();
        if state.cancelled {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.sockets.insert(number, socket);
        Some(Registered(self.clone(), number))
    }

    fn lock(&self) -> MutexGuard<'_, Lifelines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
