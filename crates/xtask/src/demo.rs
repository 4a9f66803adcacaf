//! `./x demo` and `./x bench`: koskit at work.

use crate::host::{cargo, root, run};
use crate::{packages, platform, sdk};
use anyhow::Result;
use std::process::Command;

/// Sets the machine up, builds the talk's hello from its Dockerfile and runs it on seL4.
///
/// # Errors
/// What keeps it from working.
pub fn demo() -> Result<()> {
    set_up()?;
    koskit(&["build", "-t", "hello", "examples/hello"])?;
    koskit(&["run", "hello"])
}

/// Sets the machine up, builds hello, and counts the instructions that it takes.
///
/// # Errors
/// What keeps it from working.
pub fn bench() -> Result<()> {
    set_up()?;
    koskit(&["build", "-t", "hello", "examples/hello"])?;
    run(cargo().args(["run", "--quiet", "--release", "--locked", "-p", "koskit-bench"]))
}

fn set_up() -> Result<()> {
    packages::install(&[packages::BUILD, packages::RUN, packages::SDK])?;
    platform::build()?;
    sdk::make()
}

/// Shows a command as a person would type it, and runs it.
fn koskit(words: &[&str]) -> Result<()> {
    println!("$ koskit {}", words.join(" "));
    run(Command::new(root().join("target/release/koskit")).current_dir(root()).args(words))
}
