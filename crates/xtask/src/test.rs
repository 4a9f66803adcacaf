//! `./x test`: every check and every test there is, and one summary of them all.

use crate::host::{cache, cargo, component, root, run, step};
use crate::kernel::{self, Variant};
use crate::sel4::{self, Toolchain};
use crate::tally::{Program, Tally};
use crate::{licences, packages, peers, platform, sdk};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Ends a test program that hangs, and what it has started.
const LIMIT: &str = "timeout --kill-after=10 20m";

/// Sets the machine up, checks and tests.
///
/// # Errors
/// The machine cannot be set up, or something failed; the summary has said what.
pub fn run_all() -> Result<()> {
    packages::install(&[packages::BUILD, packages::RUN, packages::SDK, packages::TEST])?;
    platform::build()?;
    sdk::make()?;
    sdk::make_examples()?;
    sdk::make_programs()?;
    let cache = cache()?;
    let prefix = kernel::build(Variant::Release, &cache)?;
    let toolchain = Toolchain::find()?;
    let clippy_of_sel4 = toolchain.clippy(&prefix);

    let mut tally = Tally::default();
    for manifest in ["Cargo.toml", "sel4/Cargo.toml"] {
        check(&mut tally, &format!("formatting of {manifest}"), || {
            component("fmt", "rustfmt").map_err(cannot)?;
            run(cargo().args(["fmt", "--all", "--check", "--manifest-path", manifest]))
        });
    }
    check(&mut tally, "clippy", || {
        component("clippy", "clippy").map_err(cannot)?;
        let words = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets"];
        run(cargo().args(words).args(["--", "-D", "warnings"]))
    });
    check(&mut tally, "clippy of what runs on seL4", || {
        run(clippy_of_sel4.map_err(cannot)?.args(["--", "-D", "warnings"]))
    });
    check(&mut tally, "licences of all dependencies", licences::check);
    check(&mut tally, "a root of peers to compare with", || {
        peers::make().map_err(cannot)?;
        Ok(())
    });
    check(&mut tally, "building the kernels twice gives the same bytes", || {
        kernel::check_reproducible(&cache)
    });
    tests(&mut tally, "compile the tests", &[], |_| {})?;
    // What of it does not need seL4.
    let words = ["--lib", "--manifest-path", "sel4/Cargo.toml"];
    tests(&mut tally, "compile the tests of what runs on seL4", &words, |cargo| {
        sel4::test_here(cargo, &prefix);
    })?;
    summary(&tally)
}

/// Why a check cannot be made here.
#[derive(Debug)]
struct CannotRun(String);

impl std::fmt::Display for CannotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotRun {}

fn cannot(error: anyhow::Error) -> CannotRun {
    CannotRun(format!("{error:#}"))
}

/// Makes a check, which counts as one test.
fn check(tally: &mut Tally, name: &str, work: impl FnOnce() -> Result<()>) {
    match step(name, work) {
        Ok(()) => tally.passed += 1,
        Err(error) => match error.downcast_ref::<CannotRun>() {
            Some(CannotRun(why)) => tally.skipped.push((name.to_owned(), why.clone())),
            None => {
                eprintln!("{error:#}");
                tally.failed.push(name.to_owned());
            }
        },
    }
}

/// Compiles the tests of a workspace, which is called `compile`, and runs them. `finish` has the
/// last word on the command.
fn tests(
    tally: &mut Tally,
    compile: &str,
    words: &[&str],
    finish: impl Fn(&mut Command),
) -> Result<()> {
    let command = |more: &[&str]| {
        // Both streams in one, in the order in which they are written: cargo names on the one
        // what then runs on the other.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(cargo().get_program());
        command
            .current_dir(root())
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(words);
        command.args(["--config", &format!("target.'cfg(unix)'.runner = '{LIMIT}'")]);
        command.args(more);
        finish(&mut command);
        command
    };
    let compiled = step(compile, || run(&mut command(&["--no-run", "--quiet"])));
    if let Err(error) = compiled {
        eprintln!("{error:#}");
        tally.failed.push(compile.to_owned());
        return Ok(());
    }
    // What earlier runs left behind. What of it belongs to other user ids is in nobody's way.
    let _ = fs::remove_dir_all(root().join("target/tests"));
    let mut child = command(&["--color=never", "--", "--show-output", "--color=never"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sh")?;
    let stdout = child.stdout.take().expect("it was asked for as a pipe");
    let (mut program, mut start) = (None, Instant::now());
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        match (Program::announced(&line), &mut program) {
            (Some(next), _) => {
                finished(tally, program.take(), start);
                eprint!("   {:28} ", next.name);
                (program, start) = (Some(next), Instant::now());
            }
            (None, Some(program)) => program.push(&line),
            (None, None) => {}
        }
    }
    finished(tally, program, start);
    let status = child.wait().context("cannot wait for the tests")?;
    if !status.success() && tally.failed.is_empty() {
        tally.failed.push(format!("cargo test ({status})"));
    }
    Ok(())
}

/// Adds and prints the results of a test program.
fn finished(tally: &mut Tally, program: Option<Program>, start: Instant) {
    let Some(program) = program else { return };
    let complaint = program.complaint();
    let results = program.finish();
    eprintln!("{results} ({:.1} s)", start.elapsed().as_secs_f64());
    if !results.failed.is_empty() {
        eprintln!("{complaint}");
    }
    tally.add(results);
}

fn summary(tally: &Tally) -> Result<()> {
    for (name, why) in &tally.skipped {
        println!("skipped: {name}: {why}");
    }
    for name in &tally.failed {
        println!("failed: {name}");
    }
    println!("{tally}");
    if !tally.failed.is_empty() {
        bail!("{} of the tests failed", tally.failed.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_be_made_is_skipped_and_one_that_fails_has_failed() {
        let mut tally = Tally::default();
        check(&mut tally, "one", || Ok(()));
        check(&mut tally, "two", || Err(cannot(anyhow::anyhow!("there is no cargo fmt")).into()));
        check(&mut tally, "three", || bail!("two spaces too many"));
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(tally.skipped, [("two".into(), "there is no cargo fmt".into())]);
    }
}
