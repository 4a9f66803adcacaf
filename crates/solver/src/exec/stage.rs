//! The second and the third program: see [`super`].

use std::convert::Infallible;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{Limit, Network, Report, Task, mounts, network, program, receive, send, user};
use crate::namespace::{self, Ids};

/// The names by which the programs know what they are.
pub(super) const OUTER: &str = "koskit-sandbox-outer";
const INNER: &str = "koskit-sandbox-inner";

/// Does the work of the second or third program and ends, if this is one of them.
pub(crate) fn init() {
    let name = std::env::args_os().next().unwrap_or_default();
    if name != OUTER && name != INNER {
        return;
    }
    // Whoever started koskit may have left files open. A command must not get at them, not even by
    // the way of a working directory /proc/self/fd/N (as in CVE-2024-21626).
    // SAFETY: the program has only just begun: it owns the three standard streams alone.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } != 0 {
        std::process::exit(1);
    }
    let Ok(control) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        std::process::exit(1);
    };
    let report = match receive(&control) {
        Ok(task) if name == OUTER => outer(&control, &task).unwrap_or_else(Report::Failed),
        Ok(task) => match inner(&control, task) {
            Err(why) => Report::Failed(why),
            Ok(never) => match never {},
        },
        Err(_) => std::process::exit(1),
    };
    // If nobody listens any more, there is nobody to tell.
    let _ = send(&control, &report);
    std::process::exit(0);
}

fn outer(control: &UnixStream, task: &Task) -> Result<Report, String> {
    // Ctrl-C is for koskit, which then lets go of the lifeline.
    setsid().map_err(failed("leave the terminal"))?;
    // Held until the command has ended, and with it the list that it is in.
    let mut emulated = None;
    if let Some(emulator) = &task.process.emulator {
        namespace::enter_same().map_err(|e| e.to_string())?;
        // Without it, a program of another machine says why it cannot be started.
        emulated = emulator.register_alone().ok();
    }
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if task.process.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    // SAFETY: the table of open files stays shared, and there is one thread.
    unsafe { unshare_unsafe(flags) }.map_err(failed("make namespaces"))?;
    // SAFETY: as above. A kernel without cgroups has none of those.
    let _ = unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) };

    let (mut inner, theirs) = UnixStream::pair().map_err(failed("make a socket"))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0(INNER)
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .map_err(failed("start process 1"))?;
    let pid =
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("process 1 has no PID")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("watch process 1"))?;
    send(&mut inner, task).map_err(failed("tell process 1 what to do"))?;
    loop {
        let mut fds = [PollFd::new(control, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed("wait")(e)),
        }
        if !fds[1].revents().is_empty() {
            break;
        }
        if !fds[0].revents().is_empty() {
            let _ = child.kill();
            break;
        }
    }
    let status = child.wait().map_err(failed("wait for process 1"))?;
    // The command itself never had the socket, so whatever is in it says why there was none.
    let mut said = Vec::new();
    let _ = inner.read_to_end(&mut said);
    drop(emulated);
    match serde_json::from_slice(&said) {
        Ok(report) => Ok(report),
        Err(_) => Ok(of(status)),
    }
}

fn of(status: ExitStatus) -> Report {
    match (status.code(), status.signal()) {
        (Some(code), _) => Report::Exit(code),
        (None, signal) => Report::Signal(signal.unwrap_or_default()),
    }
}

/// Becomes the command.
fn inner(control: &UnixStream, task: Task) -> Result<Infallible, String> {
    let Task { root, process, resolv_conf } = task;
    let ids = namespace::ids();
    let hostname = match process.hostname.as_str() {
        "" => "koskit",
        name => name,
    };
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    mounts::mount_all(&root, &process, hostname, resolv_conf.as_deref())?;
    mounts::enter(&root)?;
    rustix::system::sethostname(hostname.as_bytes()).map_err(failed("set the host's name"))?;
    if process.network == Network::None {
        network::start_loopback().map_err(failed("start the loopback interface"))?;
    }
    let user = user::find(&process.user)?;
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    make_own(Path::new(cwd), &user).map_err(failed(format!("make the directory {cwd}")))?;
    std::env::set_current_dir(Path::new(cwd)).map_err(failed(format!("enter {cwd}")))?;
    // It has a name here only if it is in this root.
    std::env::current_dir().map_err(failed(format!("enter {cwd}")))?;

    let null = fs::File::open("/dev/null").map_err(failed("open /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(failed("set the standard input"))?;
    // What the shell's `>/dev/stderr` opens must be the user's.
    for pipe in [std::io::stdout().as_fd(), std::io::stderr().as_fd()] {
        let (uid, gid) = (user.uid(), user.gid());
        let _ = rustix::fs::fchown(pipe, Some(uid), Some(gid));
    }
    // Before the capabilities go, one of which may raise them.
    process.limits.iter().try_for_each(Limit::set)?;
    user.become_it(ids == Ids::Many, process.insecure)?;
    // Only now, since another user number resets it. If outer has died until here, its end of
    // the socket is closed.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("watch koskit"))?;
    let mut fds = [PollFd::new(control, PollFlags::empty())];
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0) {
        return Err("koskit has ended".into());
    }
    Err(program::execute(&process, &user.home))
}

/// Makes a directory, and those above it; what was not there is the user's, as in BuildKit.
fn make_own(path: &Path, user: &user::User) -> std::io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(path)?;
    for made in missing {
        // With one user ID alone, there is nobody else that it could be given to.
        let _ =
            std::os::unix::fs::chown(made, Some(user.uid().as_raw()), Some(user.gid().as_raw()));
    }
    Ok(())
}

/// A sentence of what cannot be done.
pub(super) fn failed<E: Into<std::io::Error>>(
    action: impl std::fmt::Display,
) -> impl FnOnce(E) -> String {
    move |e| format!("cannot {action}: {}", e.into())
}
