//! Linux on the machine that native containers run on, and the program as its process 1.

use crate::{Figures, INSTRUCTIONS, figures};
use anyhow::{Context, Result, ensure};
use koskit_image::{Node, Tree};
use koskit_tests::root;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was measured, and on what.
pub struct Linux {
    pub figures: Figures,
    /// `/proc/version` and the like, by their names.
    pub facts: Vec<(String, String)>,
}

/// Boots the kernel in `folder`, which also has crun and its libraries, with these words more on
/// its command line.
pub fn run(folder: &Path, program: &[u8], container: &Tree, words: &str) -> Result<Linux> {
    let mut tree = Tree::new();
    for name in ["dev", "lib", "proc", "run", "sys", "tmp"] {
        tree.insert(name, Node::directory(0o755));
    }
    tree.insert("init", Node::file(0o755, program.to_vec()));
    for entry in fs::read_dir(folder)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        match name.to_str() {
            Some("vmlinuz") | None => continue,
            Some("crun") => tree.insert("crun", Node::file(0o755, fs::read(path)?)),
            Some(name) => tree.insert(format!("lib/{name}"), Node::file(0o755, fs::read(path)?)),
        };
    }
    tree.insert("bundle", Node::directory(0o755));
    let config = fs::read(root().join("bench/programs/native.json"))?;
    tree.insert("bundle/config.json", Node::file(0o644, config));
    tree.insert("bundle/rootfs", Node::directory(0o755));
    for name in ["dev", "proc", "sys"] {
        tree.insert(format!("bundle/rootfs/{name}"), Node::directory(0o755));
    }
    for (path, node) in container.iter().filter(|(path, _)| !path.as_os_str().is_empty()) {
        tree.insert(Path::new("bundle/rootfs").join(path), node.clone());
    }
    let initrd = tempfile::NamedTempFile::new()?;
    fs::write(&initrd, koskit_lower::archive(&tree)?)?;
    let said = boot(&folder.join("vmlinuz"), initrd.path(), words)?;
    ensure!(
        said.lines().any(|line| line.trim() == "good"),
        "Linux did not get to its end:\n{said}"
    );

    let mut figures = figures(&said);
    let all = |name: &str| -> Vec<u64> {
        let number = |line: &str| line.trim().strip_prefix(name)?.parse().ok();
        said.lines().filter_map(number).collect()
    };
    let took: Vec<u64> =
        all("main=").iter().zip(all("asked=")).map(|(main, asked)| main - asked).collect();
    let (first, last) = took.first().zip(took.last()).context("crun's containers said nothing")?;
    figures.insert("first".into(), first * INSTRUCTIONS);
    figures.insert("start".into(), last * INSTRUCTIONS);
    let fact = |line: &str| {
        let (path, text) = line.trim().split_once('=').filter(|(path, _)| path.starts_with('/'))?;
        Some((path.rsplit('/').next()?.to_owned(), text.to_owned()))
    };
    Ok(Linux { figures, facts: said.lines().filter_map(fact).collect() })
}

/// The machine is `koskit_machine`'s, but for how it is booted and talks. Random numbers, which
/// also place the kernel, come from a fixed seed.
fn boot(kernel: &Path, initrd: &Path, words: &str) -> Result<String> {
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "virt,gic-version=2,virtualization=on", "-cpu", "cortex-a57"])
        .args(["-m", "1280M", "-serial", "stdio", "-icount", "shift=0,sleep=off", "-seed", "1"])
        .args(["-rtc", "base=2024-01-01,clock=vm"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", &format!("console=ttyAMA0 quiet panic=-1 {words}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = qemu.spawn().context("cannot start qemu-system-aarch64")?;
    let until = Instant::now() + PATIENCE;
    let said = child.stdout.take().map(|out| std::thread::spawn(|| std::io::read_to_string(out)));
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = said.context("Linux has no console")?.join();
    said.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("cannot hear Linux")
}
