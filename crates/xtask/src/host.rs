//! The developer's machine: where things are kept, and running programs on it.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

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
    std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
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

/// Does a step that takes a while: says what, then how long it took.
///
/// # Errors
/// Those of the step.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("=> {what}");
    let start = Instant::now();
    let result = work().with_context(|| format!("this step failed: {what}"))?;
    eprintln!("   {what}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

/// A cargo of the toolchain that built this program, in the project's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
