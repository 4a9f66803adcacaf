//! The developer's machine: where things are kept, and running programs on it.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What a person waits for without wondering.
const MOMENT: Duration = Duration::from_millis(500);

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/xtask has two parents")
}

/// `$XDG_CACHE_HOME/koskit`, created: what can be made again.
///
/// # Errors
/// Neither XDG_CACHE_HOME nor HOME is set, or the folder cannot be made.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => {
            let home = std::env::var_os("HOME");
            PathBuf::from(
                home.context("set HOME or XDG_CACHE_HOME, so that there is a place for the cache")?,
            )
            .join(".cache")
        }
    };
    let path = base.join("koskit");
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

/// Runs a program to its end, its output going where ours goes.
///
/// # Errors
/// It cannot be started, or it fails; the sentence names the program.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// It cannot be started, or it fails; the sentence has what it complained of.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Does a step. Where it takes longer than a moment it says what, and then how long it took.
///
/// # Errors
/// Those of the step.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    thread::scope(|scope| {
        let (done, waiter) = mpsc::channel::<()>();
        let announcer = scope.spawn(move || {
            let slow = waiter.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout);
            if slow {
                eprintln!("=> {what}");
            }
            slow
        });
        let result = work();
        drop(done);
        if announcer.join().expect("it only prints") && result.is_ok() {
            eprintln!("   {what}: done in {:.1} s", start.elapsed().as_secs_f64());
        }
        result.with_context(|| format!("this step failed: {what}"))
    })
}

/// Copies a file in one go: nobody sees half of it, and a copy that is the same is not touched.
///
/// # Errors
/// The file cannot be read, or not be written there.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let half = to.with_extension(format!("half-{}", std::process::id()));
    fs::write(&half, bytes)
        .and_then(|()| fs::rename(&half, to))
        .with_context(|| format!("cannot write {}", to.display()))
}

/// Gives a finished folder its name in the cache; where somebody else has made the same in the
/// meantime, removes it.
///
/// # Errors
/// It can be neither renamed nor removed.
pub fn keep(finished: &Path, kept: &Path) -> Result<()> {
    let renamed = fs::rename(finished, kept);
    if renamed.is_err() && kept.exists() {
        return fs::remove_dir_all(finished)
            .with_context(|| format!("cannot remove {}", finished.display()));
    }
    renamed.with_context(|| format!("cannot keep {}", kept.display()))
}

/// What is in a folder, by name.
///
/// # Errors
/// It cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot list {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// A cargo of the toolchain that built this program, in the project's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Makes sure that [`cargo`] has a command, which is in a component of rustup's.
///
/// # Errors
/// It has not; the sentence says how to get it.
pub fn component(command: &str, component: &str) -> Result<()> {
    if output(cargo().args([command, "--version"])).is_err() {
        bail!("cargo {command} is missing; run `rustup component add {component}`");
    }
    Ok(())
}
