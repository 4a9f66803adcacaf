//! Servers for tests, on free ports of 127.0.0.1. They end with the test.

use crate::registry::installed;
use crate::{Home, Said};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Starts a program that ends with this one, however that ends.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(words: &[&str], folder: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(words).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

/// Makes a git repository of a folder, with one commit of all its files in the branch `main`.
///
/// # Panics
/// git fails.
pub fn commit(folder: &Path) {
    for words in [
        &["init", "-q", "-b", "main"][..],
        &["add", "."],
        &["-c", "user.name=k", "-c", "user.email=k@example.org", "commit", "-q", "-m", "first"],
    ] {
        git(folder, words);
    }
}

/// Runs git.
///
/// # Panics
/// It fails.
pub fn git(folder: &Path, words: &[&str]) {
    let said = Said::of(Command::new("git").args(words).current_dir(folder).output().unwrap());
    assert_eq!(said.code, 0, "git {words:?}: {}{}", said.stdout, said.stderr);
}

/// A web server of a folder of the home, and its URL; or what is missing here.
///
/// # Errors
/// There is no python3.
///
/// # Panics
/// It does not start.
pub fn serve_files(home: &Home, folder: &str) -> Result<(Running, String), String> {
    if !installed("python3") {
        return Err("there is no python3".into());
    }
    let words = ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"];
    let mut server = Running::start(&words, &home.path().join(folder));
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // Serving HTTP on 127.0.0.1 port 43210 (http://127.0.0.1:43210/) ...
    let url = line.split(['(', ')']).nth(1).unwrap_or_else(|| panic!("{line:?}"));
    Ok((server, url.trim_end_matches('/').to_owned()))
}

/// A server of all git repositories in the home, and its URL; or what is missing here.
///
/// # Errors
/// There is no git.
///
/// # Panics
/// It does not start.
pub fn serve_git(home: &Home) -> Result<(Running, String), String> {
    if !installed("git") {
        return Err("there is no git".into());
    }
    // git itself would start the server as a process of its own, which would stay.
    let folder = Command::new("git").arg("--exec-path").output().unwrap();
    let daemon = Path::new(String::from_utf8(folder.stdout).unwrap().trim()).join("git-daemon");
    let daemon = daemon.display().to_string();
    // Somebody else may take a port that was free.
    for _ in 0..5 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let base = format!("--base-path={}", home.path().display());
        let port_option = format!("--port={port}");
        let mut words = vec![daemon.as_str(), "--listen=127.0.0.1", "--export-all"];
        words.extend([base.as_str(), &port_option]);
        let mut server = Running::start(&words, home.path());
        let start = Instant::now();
        while server.0.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok((server, format!("git://127.0.0.1:{port}")));
            }
            assert!(start.elapsed() < Duration::from_secs(60), "git daemon does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Err("there is no free port".into())
}
