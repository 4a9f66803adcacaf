//! The tools, and how long their commands take.

use anyhow::{Context, Result, ensure};
use koskit_tests::{Docker, Home, Peers, root};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One of those that are compared. The first one is koskit.
pub enum Tool<'a> {
    Koskit(&'a Home),
    Docker(&'a Docker),
    Buildah(&'a Peers),
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    pub seconds: f64,
    /// The largest resident size of its first process, in bytes. Docker's work is its daemon's.
    pub memory: u64,
}

impl Tool<'_> {
    pub fn label(&self) -> &'static str {
        match self {
            Self::Koskit(_) => "koskit",
            Self::Docker(_) => "docker",
            Self::Buildah(_) => "buildah",
        }
    }

    /// Its version, in its own words.
    pub fn version(&self) -> String {
        let mut command = match self {
            Self::Koskit(home) => home.command(&["--version"]),
            Self::Docker(docker) => {
                docker.command(root(), &["version", "--format", "{{.Server.Version}}"])
            }
            Self::Buildah(peers) => peers.command(root(), "buildah", &["--version"]),
        };
        let said = command.output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Builds a context for this machine and names it.
    pub fn build(&self, name: &str, context: &Path) -> Command {
        let context = context.to_str().expect("it is in the project");
        match self {
            Self::Koskit(home) => {
                let platform = format!("--platform={}", koskit_llb::Platform::host());
                home.command(&["build", "--quiet", &platform, "-t", name, context])
            }
            Self::Docker(docker) => {
                let words = ["buildx", "build", "--quiet", "--provenance=false", "--network=host"];
                docker.command(root(), &[&words[..], &["-t", name, context]].concat())
            }
            Self::Buildah(peers) => {
                let words = ["build", "--quiet", "--layers", "--isolation=chroot"];
                self.buildah(
                    peers,
                    &[&words[..], &["--network=host", "-t", name, context]].concat(),
                )
            }
        }
    }

    /// Takes an image from an archive.
    pub fn load(&self, archive: &Path) -> Command {
        let archive = archive.to_str().expect("it is in the project");
        match self {
            Self::Koskit(home) => home.command(&["load", "-i", archive]),
            Self::Docker(docker) => docker.command(root(), &["load", "-i", archive]),
            Self::Buildah(peers) => {
                self.buildah(peers, &["pull", &format!("oci-archive:{archive}")])
            }
        }
    }

    /// Gives an image one more name.
    pub fn name(&self, old: &str, new: &str) -> Vec<Command> {
        vec![match self {
            Self::Koskit(home) => home.command(&["tag", old, new]),
            Self::Docker(docker) => docker.command(root(), &["tag", old, new]),
            Self::Buildah(peers) => self.buildah(peers, &["tag", old, new]),
        }]
    }

    /// Removes names, and with them their image.
    pub fn forget(&self, names: &[&str]) -> Vec<Command> {
        match self {
            Self::Koskit(_) => Vec::new(),
            Self::Docker(docker) => vec![
                docker.command(root(), &[&["rmi", "--force"], names].concat()),
                docker.command(root(), &["buildx", "prune", "--all", "--force"]),
            ],
            Self::Buildah(peers) => {
                vec![self.buildah(peers, &[&["rmi", "--force"], names].concat())]
            }
        }
    }

    /// Removes one name of an image that has others.
    pub fn untag(&self, name: &str) -> Vec<Command> {
        match self {
            Self::Koskit(_) => Vec::new(),
            Self::Docker(docker) => vec![docker.command(root(), &["rmi", name])],
            Self::Buildah(peers) => vec![self.buildah(peers, &["rmi", name])],
        }
    }

    pub fn push(&self, name: &str) -> Command {
        match self {
            Self::Koskit(home) => home.command(&["push", name]),
            Self::Docker(docker) => docker.command(root(), &["push", "--quiet", name]),
            Self::Buildah(peers) => {
                self.buildah(peers, &["push", "--quiet", "--tls-verify=false", name])
            }
        }
    }

    pub fn pull(&self, name: &str) -> Command {
        match self {
            Self::Koskit(home) => home.command(&["pull", name]),
            Self::Docker(docker) => docker.command(root(), &["pull", "--quiet", name]),
            Self::Buildah(peers) => {
                self.buildah(peers, &["pull", "--quiet", "--tls-verify=false", name])
            }
        }
    }

    /// `buildah`, whose store is on the same disk as that of the others.
    fn buildah(&self, peers: &Peers, words: &[&str]) -> Command {
        let storage = |name: &str| peers.folder().join("data").join(name).display().to_string();
        let (root, run) = (storage("storage"), storage("run"));
        let options = ["--storage-driver=overlay", "--root", &root, "--runroot", &run];
        let words = [&options[..], words].concat();
        let mut command = peers.command(koskit_tests::root(), "buildah", &words);
        command.env("CONTAINERS_CONF", peers.folder().join("helpers/containers.conf"));
        command
    }
}

/// buildah does not start without a program for networks, though none of these builds has one.
pub fn stand_in(peers: &Peers) -> Result<()> {
    let folder = peers.folder().join("helpers");
    fs::create_dir_all(&folder)?;
    let program = folder.join("netavark");
    fs::write(&program, "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    // Nor may everybody raise the limits that it would raise.
    let text = format!(
        "[engine]\nhelper_binaries_dir = [{folder:?}]\n\
         [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
    );
    Ok(fs::write(folder.join("containers.conf"), text)?)
}

/// Runs a command that must work, and measures it.
pub fn measure(mut command: Command) -> Result<Ran> {
    let shown = format!("{command:?}");
    // What another tool has left for the disk is not this one's to wait for.
    rustix::fs::sync();
    let start = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    let status = format!("/proc/{}/status", child.id());
    let mut stderr = child.stderr.take().expect("it was asked for");
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut memory = 0;
    let code = loop {
        // The kernel keeps the largest size itself; only its last moment may be missed.
        memory = memory.max(peak(&status).unwrap_or(0));
        match child.try_wait()? {
            Some(code) => break code,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let words = words.join().unwrap_or_default();
    ensure!(code.success(), "{shown} has failed:\n{words}");
    Ok(Ran { seconds, memory })
}

/// Runs a command that must work.
pub fn must(command: Command) -> Result<()> {
    measure(command).map(drop)
}

/// VmHWM of a process.
fn peak(status: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
