//! `./x bench`: how many instructions a machine executes from its reset until hello has ended.
//!
//! QEMU counts: under `-icount shift=0` each instruction takes 1 ns, and CNTVCT_EL0 advances by one
//! every 16 ns, so a difference of its readings times 16 is a number of instructions, to within 16.
//! The figures are the same on every host. A machine that waits for something would count that,
//! too; here nothing waits.
//!
//! When `main` begins only the program can say. So there are two kinds of runs: of the image
//! `hello` as it is, and of the same image with `programs/hello.c` for its program, from which
//! only the time between its first instruction and its `main` is taken.

use anyhow::{Context, Result, ensure};
use koskit_image::{Image, Limits, Node, Store, Tree};
use koskit_llb::{Platform, Reference};
use koskit_lower::Options;
use koskit_machine::{Container, ContainerTimes};
use koskit_tests::{Ran, compile_c, platform, root};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Instructions in a tick of the counter: 16 ns of 1 ns each.
const INSTRUCTIONS: u64 = 16;
/// Ticks in a second, without which the above would not hold.
const HZ: u64 = 62_500_000;

fn main() -> Result<()> {
    let store = Store::open(Store::default_path()?)?;
    let name: Reference = "hello".parse()?;
    let image = store.resolve(&name, &Platform::new("linux", "arm64", ""))?;
    let mut tree = Tree::read(&store, &image, &Limits::default())?;

    let plain = boot(&tree, &image)?;
    ensure!(
        boot(&tree, &image)?.ended == plain.ended,
        "two runs of hello differ, so the machine is not counting instructions"
    );
    let source = root().join("bench/programs/hello.c");
    let program = fs::read(compile_c("hello", &source)).context("cannot read what was compiled")?;
    tree.insert("hello", Node::file(0o755, program));
    let probe = boot(&tree, &image)?;

    let phases = phases(&plain, until_main(&probe)?)?;
    report(&phases)
}

/// Runs the image's program with these files under `-icount`.
fn boot(tree: &Tree, image: &Image) -> Result<Ran> {
    let options = Options { name: "hello".into(), ..Options::default() };
    let bundle = koskit_lower::lower(tree, &image.config, &options, &platform().libkos()?)?;
    let container = Container {
        contract: bundle.contract,
        process: bundle.process(),
        program: bundle.program,
        initrd: bundle.initrd,
    };
    let counting = koskit_machine::Options { icount: true, ..Default::default() };
    let ran = koskit_tests::boot(&[container], &counting)?;
    ensure!(ran.ended.status == 0, "hello ended with status {}:\n{ran}", ran.ended.status);
    ensure!(ran.ended.timeline.hz == HZ, "the counter has {} Hz", ran.ended.timeline.hz);
    Ok(ran)
}

/// Times of the only container.
fn times(ran: &Ran) -> Result<ContainerTimes> {
    ran.ended.timeline.containers.first().copied().context("there was no container")
}

/// Ticks from the container's first instruction to its `main`, which it told.
fn until_main(ran: &Ran) -> Result<u64> {
    let told = ran.stderr.get(&1).map_or("", String::as_str);
    let main = told.lines().find_map(|line| line.strip_prefix("main=")?.parse::<u64>().ok());
    let main = main.with_context(|| format!("the program did not say when main began:\n{ran}"))?;
    main.checked_sub(times(ran)?.started).context("main began before the container started")
}

/// A part of the way and its instructions.
struct Phase {
    name: &'static str,
    instructions: u64,
}

/// The three parts that are promised, then what the second is made of.
fn phases(ran: &Ran, until_main: u64) -> Result<Vec<Phase>> {
    let timeline = &ran.ended.timeline;
    let times = times(ran)?;
    let main = times.started + until_main;
    let way = [
        ("machine reset to root server", timeline.reset, timeline.root_server),
        ("root server to main", timeline.root_server, main),
        ("main to exit", main, times.exited),
        ("  root server's own start", timeline.root_server, times.asked),
        ("  container is created", times.asked, times.started),
        ("  libkos and musl, until main", times.started, main),
    ];
    way.into_iter()
        .map(|(name, from, to)| {
            let ticks = to.checked_sub(from).with_context(|| format!("{name}: time ran back"))?;
            Ok(Phase { name: name.trim_start(), instructions: ticks * INSTRUCTIONS })
        })
        .collect()
}

/// Prints the figures and writes them to `bench/results`.
fn report(phases: &[Phase]) -> Result<()> {
    let mut table = String::from("examples/hello on seL4, release kernel\n\n");
    for (index, Phase { name, instructions }) in phases.iter().enumerate() {
        let part = if index == 3 { "\nOf root server to main:\n" } else { "" };
        writeln!(table, "{part}{name:32}{:>14}", grouped(*instructions))?;
    }
    table.push_str(
        "\nInstructions, to within 16: QEMU's -icount shift=0, by which CNTVCT_EL0 advances once in\n\
         16. Reset is the loader's first instruction. Exit is when the root server is told. Until\n\
         main is measured with a hello that tells when its main begins, the rest with hello itself.\n",
    );
    print!("{table}");
    let figures: serde_json::Map<_, _> =
        phases.iter().map(|phase| (phase.name.into(), phase.instructions.into())).collect();
    let results = json!({
        "benchmark": "hello",
        "unit": "instructions",
        "resolution": INSTRUCTIONS,
        "results": figures,
    });
    let folder = root().join("bench/results");
    write(&folder.join("hello.json"), &format!("{results:#}\n"))?;
    write(&folder.join("hello.txt"), &table)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let half = path.with_extension("tmp");
    fs::write(&half, text)
        .and_then(|()| fs::rename(&half, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let (first, rest) = digits.split_at((digits.len() + 2) % 3 + 1);
    let rest = rest.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group));
    std::iter::once(first.into()).chain(rest).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_stand_in_groups_of_three() {
        let texts = [0, 12, 123, 1234, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "12", "123", "1,234", "123,456", "1,234,567"]);
    }
}
