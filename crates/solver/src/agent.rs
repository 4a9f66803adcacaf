//! An SSH agent, handed on into a command.
//!
//! The agent's own socket belongs to the user and lies where it lies. A command gets another one,
//! with the owner and the permissions that its mount says, behind which a thread passes on what
//! comes. It ends with the command: nobody is left with a way to the agent.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

/// The most connections at once: a command has no use for more.
const MAX_CONNECTIONS: usize = 64;

/// A socket that leads to an agent, for as long as this is there.
pub(crate) struct Agent {
    /// Closed to end the thread.
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// The name of the socket in its directory.
    pub const SOCKET: &'static str = "agent";

    /// Makes a socket in a directory that nobody else can enter.
    pub fn forward(agent: &Path, directory: &Path, mode: u32) -> io::Result<Self> {
        // So that one that is not there is told before the command begins.
        drop(connect(agent)?);
        let listener = bind(directory)?;
        let socket = directory.join(Self::SOCKET);
        fs::set_permissions(&socket, Permissions::from_mode(mode & 0o777))?;
        let (stop, stopped) = UnixStream::pair()?;
        let agent = agent.to_owned();
        let thread = std::thread::Builder::new()
            .name("ssh agent".into())
            .spawn(move || serve(&listener, &stopped, &agent))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The address of a socket has room for 107 bytes only, so its directory goes by a number.
fn by_number<T>(path: &Path, call: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new(".")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    call(Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

fn bind(directory: &Path) -> io::Result<UnixListener> {
    by_number(&directory.join(Agent::SOCKET), UnixListener::bind)
}

fn connect(agent: &Path) -> io::Result<UnixStream> {
    by_number(agent, UnixStream::connect)
}

/// Passes on each connection, until it is told to stop.
fn serve(listener: &UnixListener, stop: &UnixStream, agent: &Path) {
    // Both ends of all connections, to be closed at the end.
    let open: Arc<Mutex<Vec<(u64, UnixStream)>>> = Arc::default();
    let lock = |open: &Mutex<Vec<_>>| open.lock().unwrap_or_else(PoisonError::into_inner).len();
    let mut number = 0;
    std::thread::scope(|scope| {
        loop {
            let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            let _ = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                break;
            }
            if fds[0].revents().is_empty() {
                continue;
            }
            let Ok((theirs, _)) = listener.accept() else { continue };
            if lock(&open) >= 2 * MAX_CONNECTIONS {
                continue;
            }
            let Ok(ours) = connect(agent) else { continue };
            let (Ok(one), Ok(other)) = (theirs.try_clone(), ours.try_clone()) else { continue };
            let pair = [(number, one), (number, other)];
            open.lock().unwrap_or_else(PoisonError::into_inner).extend(pair);
            let (this, open) = (number, Arc::clone(&open));
            number += 1;
            scope.spawn(move || {
                pass(&theirs, &ours);
                let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
                open.retain(|(number, _)| *number != this);
            });
        }
        for (_, socket) in open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    });
}

/// Copies both ways until both ends are closed.
fn pass(theirs: &UnixStream, ours: &UnixStream) {
    let copy = |mut from: &UnixStream, mut to: &UnixStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| copy(theirs, ours));
        copy(ours, theirs);
        // An agent that has closed its end answers nothing any more.
        let _ = theirs.shutdown(Shutdown::Both);
    });
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_it_ends_with_the_value() {
        let dir = tempfile::tempdir().unwrap();
        // Longer than the address of a socket may be.
        let deep = dir.path().join("x".repeat(120));
        let inside = dir.path().join("y".repeat(120));
        fs::create_dir(&deep).unwrap();
        fs::create_dir(&inside).unwrap();
        let agent = bind(&deep).unwrap();
        let echo = std::thread::spawn(move || {
            for connection in agent.incoming().take(2) {
                let mut connection = connection.unwrap();
                let mut bytes = [0; 5];
                if connection.read_exact(&mut bytes).is_ok() {
                    connection.write_all(&bytes).unwrap();
                    // It stays open.
                    let _ = connection.read(&mut bytes);
                }
            }
        });
        let forward = Agent::forward(&deep.join(Agent::SOCKET), &inside, 0o600).unwrap();
        let socket = inside.join(Agent::SOCKET);
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = connect(&socket).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        drop(forward);
        assert_eq!(client.read(&mut answer).unwrap(), 0);
        assert!(connect(&socket).is_err());
        echo.join().unwrap();
    }

    #[test]
    fn an_agent_that_is_not_there_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Agent::forward(&dir.path().join("none"), dir.path(), 0o600).is_err());
    }
}
