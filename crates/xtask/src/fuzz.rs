//! `./x fuzz`: koskit's readers under libFuzzer.
//!
//! What the compiler needs for libFuzzer's feedback are options of its stable face, so that no
//! other toolchain is needed. The corpora in `fuzz/corpus` are the beginning; what a run adds to
//! them is in `target/fuzz`, until `--keep` takes over what covers something new.

use crate::host::{cargo, list, output, root, run, step};
use crate::packages;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is fuzzed, and how long.
pub struct Options {
    /// Names of targets; none is all.
    pub targets: Vec<String>,
    /// For each.
    pub seconds: u32,
    /// Whether the corpora in the tree take over what covers something new.
    pub keep: bool,
}

const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Clink-dead-code -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Inputs are no longer than this.
const MAX_LEN: &str = "-max_len=16384";

/// Builds the targets and runs them one after the other.
///
/// # Errors
/// There is no such target, or one of them found something: the input is in
/// `target/fuzz/findings`.
pub fn fuzz(options: &Options) -> Result<()> {
    packages::install(&[packages::FUZZ])?;
    let known: Vec<String> = list(&root().join("fuzz/corpus"))?.iter().map(|p| name(p)).collect();
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let targets = if options.targets.is_empty() { known } else { options.targets.clone() };
    let programs = step("compile the fuzz targets", build)?;
    let mut found = Vec::new();
    for target in &targets {
        let program = programs.join(format!("fuzz-{target}"));
        if let Err(error) = one(target, &program, options) {
            eprintln!("{error:#}");
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        bail!("something was found in {}; see target/fuzz/findings", found.join(", "));
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folder of the programs. It is apart, since everything is compiled with other flags; with
/// a target triple, which keeps the flags from build scripts and macros.
fn build() -> Result<PathBuf> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV does not name its host")?;
    let words = ["build", "--quiet", "--release", "--locked", "-p", "koskit-fuzz", "--bins"];
    let mut command = cargo();
    command.args(words).args(["--features", "libfuzzer", "--target", host]);
    command.args(["--target-dir", "target/fuzz/build"]).env("RUSTFLAGS", FLAGS);
    run(&mut command)?;
    Ok(root().join("target/fuzz/build").join(host).join("release"))
}

fn one(target: &str, program: &Path, options: &Options) -> Result<()> {
    let seeds = root().join("fuzz/corpus").join(target);
    let work = root().join("target/fuzz/corpus").join(target);
    let findings = root().join("target/fuzz/findings").join(target);
    for folder in [&work, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command.args([MAX_LEN, "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.args([&work, &seeds]);
    step(&format!("fuzz {target} for {} s", options.seconds), || run(&mut command))?;
    if options.keep {
        let mut merge = Command::new(program);
        merge.args(["-merge=1", "-max_len=2048"]).args([&seeds, &work]);
        step(&format!("take over what covers something new of {target}"), || run(&mut merge))?;
    }
    Ok(())
}
