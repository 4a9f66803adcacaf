//! `./x bench native`: what starting a container and system calls cost in a native container, and
//! on Linux on the same machine.
//!
//! Both run under `-icount shift=0`, by which the counter advances once in 16 instructions, so that
//! the figures are the same on every host. One program, `programs/native.c`, makes the calls on
//! both. Linux is Debian's kernel with its own defaults; the program is its process 1.
//!
//! A start is measured from the request to the program's `main`: here from when the root server
//! begins with the container, there from when process 1 forks to run `crun`. Both are warm: others
//! of the same image have run before, on Linux all files are in memory, and seL4 has cleared the
//! container's memory, as it does when another one is removed. The first start of all has the
//! memory cleared, and libkos mapped, on its way.

mod linux;
mod report;

use anyhow::{Context, Result, bail, ensure};
use koskit_image::{Node, Tree};
use koskit_lower::Options;
use koskit_machine::Container;
use koskit_tests::{Ran, compile_c, platform, root};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Instructions in a tick of the counter.
const INSTRUCTIONS: u64 = 16;
/// Containers that are started before the one that is measured.
const WARM: usize = 3;

/// A kind of call, as the program names it.
struct Row {
    key: &'static str,
    name: &'static str,
    /// How often Linux's count must be at least as large.
    factor: u64,
}

const ROWS: [Row; 10] = [
    Row { key: "start", name: "start: request to main", factor: 50 },
    Row { key: "first", name: "the first start of all", factor: 1 },
    Row { key: "getppid", name: "getppid", factor: 1 },
    Row { key: "clock_gettime", name: "clock_gettime", factor: 1 },
    Row { key: "pread", name: "pread of 4 KiB", factor: 1 },
    Row { key: "mmap", name: "mmap, touch, munmap: 4 KiB", factor: 1 },
    Row { key: "mmap_large", name: "the same of 256 KiB", factor: 1 },
    Row { key: "thread", name: "pthread_create and join", factor: 1 },
    Row { key: "futex", name: "futex wake, uncontended", factor: 1 },
    Row { key: "futex_contended", name: "futex, contended: round trip", factor: 1 },
];

/// Instructions by row.
type Figures = BTreeMap<String, u64>;

fn main() -> Result<()> {
    let mut linux = None;
    let mut json = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--linux", Some(folder)) => linux = Some(PathBuf::from(folder)),
            ("--format", Some(format)) => json = format == "json",
            _ => bail!("usage: koskit-bench-native --linux FOLDER [--format json|text]"),
        }
    }
    let linux = linux.context("--linux FOLDER is missing: ./x bench native gives it")?;
    let source = root().join("bench/programs/native.c");
    let program =
        fs::read(compile_c("native", &source)).context("cannot read what was compiled")?;
    let tree = image(&program);
    let native = native(&tree)?;
    // A kernel at a random address also takes care that programs cannot find it out (KPTI).
    let by_default = linux::run(&linux, &program, &tree, "")?;
    let open = linux::run(&linux, &program, &tree, "nokaslr")?;
    report::report(&native, &[by_default, open], json)
}

/// What both kinds of containers are made of.
fn image(program: &[u8]) -> Tree {
    let mut tree = Tree::new();
    let page: Vec<u8> = (0..8192).map(|at| (at % 251) as u8).collect();
    tree.insert("native", Node::file(0o755, program.to_vec()));
    tree.insert("page", Node::file(0o644, page));
    tree
}

/// Measures koskit's native containers.
fn native(tree: &Tree) -> Result<Figures> {
    // Memory for threads, and for what is mapped.
    let calls = boot(&[container(tree, &["calls", "/"], &[("spec.ut_large_page", "4")])?])?;
    let mut figures = figures(calls.output());
    figures.insert("first".into(), start(&boot(&[container(tree, &["main"], &[])?])?)?);
    // The last one has the highest priority, so that it runs first when all are created.
    let mut all = vec![container(tree, &["main"], &[])?; WARM];
    all.push(container(tree, &["main"], &[("spec.priority", "185")])?);
    figures.insert("start".into(), start(&boot(&all)?)?);
    Ok(figures)
}

/// Instructions from the request for the last container to its `main`.
fn start(ran: &Ran) -> Result<u64> {
    let containers = &ran.ended.timeline.containers;
    let said = ran.stdout.get(&(containers.len() as u32)).map_or("", String::as_str);
    let main = *figures(said).get("main").with_context(|| format!("no main in\n{ran}"))?;
    let times = containers.last().context("there was no container")?;
    let ticks = main.checked_sub(times.asked).context("main began before it was asked for")?;
    Ok(ticks * INSTRUCTIONS)
}

fn container(tree: &Tree, args: &[&str], labels: &[(&str, &str)]) -> Result<Container> {
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["/native"], "Cmd": args },
    });
    let label = |(key, value): &(&str, &str)| (format!("com.koskit.app.{key}"), (*value).into());
    let labels = labels.iter().map(label).collect();
    let options = Options { name: "native".into(), labels, ..Options::default() };
    let config = serde_json::from_value(config)?;
    let bundle = koskit_lower::lower(tree, &config, &options, &platform().libkos()?)?;
    let (process, contract) = (bundle.process(), bundle.contract);
    Ok(Container { contract, process, program: bundle.program, initrd: bundle.initrd })
}

fn boot(containers: &[Container]) -> Result<Ran> {
    let counting = koskit_machine::Options { icount: true, ..Default::default() };
    let ran = koskit_tests::boot(containers, &counting)?;
    ensure!(ran.ended.status == 0, "the program ended with {}:\n{ran}", ran.ended.status);
    Ok(ran)
}

/// What the program has said: `name=NUMBER` in each line. Of lines with the same name the last one
/// counts.
fn figures(said: &str) -> Figures {
    let figure = |line: &str| {
        let (name, number) = line.trim().split_once('=')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    said.lines().filter_map(figure).collect()
}
