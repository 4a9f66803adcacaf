//! A docker daemon of one's own, among the [`Peers`]: with its own data, without networks, ended
//! with the test process however that ends. It has the containerd image store, without which
//! BuildKit's `oci` exporter and multi-platform images are missing.
//!
//! Containers and RUN have no network but `--network=host` and `none`. Registries on 127.0.0.1
//! are this machine's, and docker takes them without TLS.

use crate::{Peers, Said, root};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

/// A running daemon.
pub struct Docker {
    peers: Peers,
    socket: PathBuf,
}

impl Docker {
    /// Starts a daemon without images and waits until it answers.
    ///
    /// # Errors
    /// Why this machine cannot have one: what [`skip`](crate::skip) shall say.
    ///
    /// # Panics
    /// It could, but the daemon does not start.
    pub fn start() -> Result<Self, String> {
        let mut peers = Peers::with_service(daemon)?;
        let socket = peers.folder().join("docker.sock");
        let start = Instant::now();
        while !answers(&socket) {
            let log = || fs::read_to_string(peers.folder().join("log")).unwrap_or_default();
            assert!(start.elapsed() < LIMIT, "dockerd does not answer:\n{}", log());
            assert!(!log().contains("failed to start daemon"), "dockerd fails:\n{}", log());
            assert!(!peers.has_ended(), "dockerd has ended");
            sleep(Duration::from_millis(50));
        }
        Ok(Self { peers, socket })
    }

    /// The daemon that all tests of one program have together, started by the first of them.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Docker, String>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(Clone::clone)
    }

    /// The other programs beside it.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The path of its socket, on both sides.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The value of DOCKER_HOST.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// `docker` with these words, in the folder `inside`, a path of the project's.
    pub fn command(&self, inside: &Path, words: &[&str]) -> Command {
        let mut command = self.peers.command(inside, "docker", words);
        command.env("DOCKER_HOST", self.host()).env_remove("DOCKER_CONFIG");
        command
    }

    /// Runs `docker` to its end, in the project's root.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn docker(&self, words: &[&str]) -> Said {
        Said::of(self.command(root(), words).output().unwrap())
    }

    /// The same, for what must work.
    ///
    /// # Panics
    /// It does not.
    pub fn must(&self, words: &[&str]) -> Said {
        let said = self.docker(words);
        assert_eq!(said.code, 0, "docker {words:?}:\n{}{}", said.stdout, said.stderr);
        said
    }
}

/// The daemon's command line. It may not touch the machine's own network.
fn daemon(folder: &Path) -> Vec<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    [
        "dockerd",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        "--feature=containerd-snapshotter=true",
        "--storage-driver=overlayfs",
        "--exec-root=/run/docker",
        "--pidfile=/run/docker.pid",
        &format!("--data-root={}", path("data")),
        &format!("--host=unix://{}", path("docker.sock")),
    ]
    .map(String::from)
    .to_vec()
}

/// Whether a daemon answers at the socket.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;

    #[test]
    fn docker_builds_from_files_of_a_home_and_ends_with_its_data() {
        let docker = match Docker::start() {
            Ok(docker) => docker,
            Err(why) => return crate::skip(why),
        };
        let home = Home::new();
        home.write("context/Dockerfile", "FROM scratch\nCOPY hello /\n");
        home.write("context/hello", "hello\n");
        let words = ["buildx", "build", "--quiet", "--output=out", "context"];
        let said = Said::of(docker.command(home.path(), &words).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(fs::read_to_string(home.path().join("out/hello")).unwrap(), "hello\n");
        assert!(docker.must(&["info"]).stdout.contains("driver-type: io.containerd.snapshotter"));
        let folder = docker.peers().folder().to_owned();
        drop(docker);
        assert!(!folder.exists());
    }
}
