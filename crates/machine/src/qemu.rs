//! QEMU as a child process.
//!
//! Four streams connect us: standard input is a socket for its control protocol, standard output
//! the machine's serial port, standard error its complaints; and another socket is the line to the
//! machine, a virtio console.

use crate::Error;
use koskit_spec::archive;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "qemu-system-aarch64";
/// Memory of the board in MiB: what the kernel manages, and room for the largest archive.
const MEMORY: u64 = (archive::BASE - 0x4000_0000 + archive::SIZE_MAX) >> 20;
/// How long QEMU may take to end when it was told to.
const QUIT: Duration = Duration::from_secs(5);

/// A running QEMU; killed when dropped.
pub(crate) struct Qemu {
    child: Child,
    control: UnixStream,
    /// What it reads before the machine begins.
    archive: Option<File>,
}

/// What QEMU writes.
pub(crate) struct Streams {
    /// The line to the machine's root server, in both directions.
    pub line: UnixStream,
    /// The machine's serial port: what loader and kernel say.
    pub serial: ChildStdout,
    /// QEMU's own complaints.
    pub complaints: ChildStderr,
}

impl Qemu {
    /// Starts a machine.
    ///
    /// It lives as long as the calling thread at most.
    pub fn start(loader: &Path, archive: File, icount: bool) -> Result<(Self, Streams), Error> {
        let host = |what| move |source| Error::Host { what, source };
        let pair = || UnixStream::pair().map_err(host("make a socket for QEMU"));
        let (control, control_end) = pair()?;
        let (line, line_end) = pair()?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), archive.as_raw_fd());
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments(loader, Path::new(&path), line_end.as_raw_fd(), icount))
            .stdin(Stdio::from(OwnedFd::from(control_end)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_us(&mut command);
        inherit(&mut command, &line_end);
        let mut child = command.spawn().map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::NoQemu,
            _ => Error::Host { what: "start qemu-system-aarch64", source },
        })?;
        let streams = child.stdout.take().zip(child.stderr.take());
        let (serial, complaints) = streams.expect("both were asked for as pipes");
        Ok((Self { child, control, archive: Some(archive) }, Streams { line, serial, complaints }))
    }

    /// The machine has begun: the boot archive is in its memory.
    pub fn begun(&mut self) {
        self.archive = None;
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the machine.
    pub fn quit(mut self) -> Result<(), Error> {
        // The answers are not waited for: they fit the socket's buffer, and the proof that the
        // command arrived is that QEMU ends.
        let command = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
        let asked = self.control.write_all(command);
        let until = Instant::now() + QUIT;
        while asked.is_ok() && Instant::now() < until {
            if self.ended()? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is no use any more, whatever it still does; dropping kills it.
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Error> {
        let status = self.child.try_wait();
        let status = status.map_err(|source| Error::Host { what: "wait for QEMU", source })?;
        Ok(status.is_some())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only where it has already ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(loader: &Path, archive: &Path, line: RawFd, icount: bool) -> Vec<OsString> {
    let mut words: Vec<OsString> = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
        "virt,gic-version=2,virtualization=on",
        "-cpu",
        "cortex-a57",
        // A guest that breaks into QEMU finds a process that cannot start another.
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-serial",
        "file:/dev/stdout",
        "-global",
        "virtio-mmio.force-legacy=off",
        "-device",
        "virtio-serial-device,bus=virtio-mmio-bus.0,max_ports=2",
        "-device",
        // Not a console, whose output QEMU drops where we are slow.
        "virtserialport,nr=1,chardev=line",
        "-chardev",
        "socket,id=control,fd=0",
        "-mon",
        "chardev=control,mode=control",
    ]
    .map(OsString::from)
    .into();
    words.extend(["-chardev".into(), format!("socket,id=line,fd={line}").into()]);
    words.extend(["-m".into(), format!("{MEMORY}M").into()]);
    words.extend(["-kernel".into(), loader.into()]);
    let mut device = OsString::from("loader,force-raw=on,file=");
    device.push(archive);
    device.push(format!(",addr={:#x}", archive::BASE));
    words.extend(["-device".into(), device]);
    if icount {
        // One instruction is one nanosecond, and a machine with nothing to do does not wait.
        words.extend(["-icount".into(), "shift=0,sleep=off".into()]);
    }
    words
}

/// Has the kernel kill the child when the thread that starts it ends, for whatever reason.
fn die_with_us(command: &mut Command) {
    let parent = rustix::process::getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Where we died before the line above, nobody will send that signal.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(ErrorKind::Other)) }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called; the closure
    // makes two system calls, and allocates nothing (`io::Error` of a kind needs no memory).
    unsafe { command.pre_exec(ask) };
}

/// Lets the child have a socket of ours under the same number.
fn inherit(command: &mut Command, socket: &UnixStream) {
    let fd = socket.as_raw_fd();
    let ask = move || {
        // SAFETY: the caller has it open until the child runs.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: as in `die_with_us`; this is one system call.
    unsafe { command.pre_exec(ask) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_placed_where_the_loader_looks_for_it() {
        let words = arguments(Path::new("/p/loader.elf"), Path::new("/proc/7/fd/3"), 9, false);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let last = |flag| words[words.iter().rposition(|word| *word == flag).unwrap() + 1];
        let after = |flag| words[words.iter().position(|word| *word == flag).unwrap() + 1];
        assert_eq!(last("-device"), "loader,force-raw=on,file=/proc/7/fd/3,addr=0x80000000");
        assert_eq!(after("-chardev"), "socket,id=control,fd=0");
        assert!(words.contains(&"socket,id=line,fd=9"));
        assert_eq!((after("-kernel"), after("-m")), ("/p/loader.elf", "1280M"));
        assert!(!words.contains(&"-icount"));
    }
}
