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

/// Holds builds, push and pull against docker and buildah.
///
/// # Errors
/// What keeps it from working; a missing peer is only said.
pub fn bench_build(rounds: usize, only: Option<&str>) -> Result<()> {
    packages::install(&[packages::BUILD, packages::SDK, packages::TEST])?;
    run(cargo().args(["build", "--quiet", "--release", "--locked", "-p", "koskit"]))?;
    if let Err(why) = crate::peers::make() {
        eprintln!("=> without docker and buildah: {why:#}");
    }
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--locked", "-p", "koskit-bench"]);
    bench.args(["--bin", "koskit-bench-build", "--", "--rounds", &rounds.to_string()]);
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    run(&mut bench)
}

/// Holds native containers against Linux.
///
/// # Errors
/// What keeps it from working.
pub fn bench_native(format: &str) -> Result<()> {
    packages::install(&[packages::BUILD, packages::RUN, packages::SDK])?;
    platform::build()?;
    sdk::musl()?;
    let linux = sdk::linux()?;
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--locked", "-p", "koskit-bench"]);
    bench.args(["--bin", "koskit-bench-native", "--", "--format", format, "--linux"]);
    run(bench.arg(linux))
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
