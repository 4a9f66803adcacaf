//! What the tests of the whole have in common. They are in `tests/`, one file for a subject;
//! the programs that they run on seL4 are in `programs/`.
//!
//! `./x test` builds what they need. One by one they run as every test does, after `./x build`
//! and `./x sdk`: `cargo test -p koskit-tests --test root_server`.

mod docker;
mod home;
pub mod live;
mod peers;
pub mod registry;
pub mod server;

pub use docker::Docker;
pub use home::{Home, Said};
pub use peers::Peers;

use koskit_machine::{Container, Ended, Error, Message, Options, Platform};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the project")
}

/// The command line, as `./x build` left it.
///
/// # Panics
/// It is not built.
pub fn koskit() -> PathBuf {
    built("target/release/koskit")
}

/// What machines boot with, as `./x build` left it.
///
/// # Panics
/// It is not built.
pub fn platform() -> Platform {
    Platform::open(&platform_folder()).unwrap_or_else(|error| panic!("{error}"))
}

/// The folder of [`platform`]; it also has programs that only tests use.
///
/// # Panics
/// It is not built.
pub fn platform_folder() -> PathBuf {
    built("target/platform")
}

fn built(path: &str) -> PathBuf {
    let path = root().join(path);
    assert!(path.exists(), "{} is not there; run ./x build and ./x sdk", path.display());
    path
}

/// A program for arm64 Linux, made from `tests/programs/NAME.c` or `NAME.S`: the path of its ELF
/// file. C is compiled with musl to a static-pie file, as `kos/dev-c-aarch64-kos-linux-musl` does
/// it; assembler is linked with nothing, also to a static-pie file, and begins at `_start`.
///
/// # Panics
/// There is no such source, or it does not compile.
pub fn program(name: &str) -> PathBuf {
    let source = |ending| root().join("tests/programs").join(format!("{name}.{ending}"));
    let assembler = source("S");
    if assembler.exists() {
        let flags = ["-nostdlib", "-static-pie", "-Wl,--no-dynamic-linker,-z,text"];
        compile(name, &assembler, &flags.map(String::from))
    } else {
        compile_c(name, &source("c"))
    }
}

/// Compiles a file of C as [`program`] does.
///
/// # Panics
/// It does not compile.
pub fn compile_c(name: &str, source: &Path) -> PathBuf {
    compile(name, source, &["-O2".into(), format!("-specs={}", specs().display())])
}

/// Compiles a file of C or assembler with Debian's cross compiler and these flags only, and
/// returns the path of the ELF file.
///
/// # Panics
/// It does not compile.
pub fn compile(name: &str, source: &Path, flags: &[String]) -> PathBuf {
    let to = own_file(name);
    let output = Command::new("aarch64-linux-gnu-gcc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .args([&to, source])
        .args(flags)
        .output()
        .expect("cannot start aarch64-linux-gnu-gcc; ./x build installs it");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{complaints}", source.display());
    to
}

/// The image's specs file, with musl where it is on this machine.
fn specs() -> PathBuf {
    let musl = built("target/musl");
    let path = musl.join("usr/lib/kos/static-pie.specs");
    let mut text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for folder in ["/usr/include/aarch64-linux-musl", "/usr/lib/aarch64-linux-musl"] {
        text = text.replace(&format!("/opt/kos/sdk{folder}"), folder);
        text = text.replace(folder, &format!("{}{folder}", musl.display()));
    }
    let to = own_file("static-pie.specs");
    fs::write(&to, text).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    to
}

/// The path of a file that no other test has.
fn own_file(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = root().join(format!("target/tests/{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder.join(name)
}

/// Says that this test cannot run here; it shall return then. `./x test` counts it as skipped,
/// with the reason.
pub fn skip(why: impl Display) {
    println!("skipped: {why}");
}

/// What came out of a machine.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// What each container wrote to its standard output; the first is container 1.
    pub stdout: BTreeMap<u32, String>,
    /// What each container wrote to its standard error.
    pub stderr: BTreeMap<u32, String>,
    /// The lines for people, of the machine (0) and of the containers.
    pub log: Vec<(u32, String)>,
    /// What happened, in the form of the lines of [`koskit_machine::Event`].
    pub events: Vec<String>,
}

impl Ran {
    /// What container 1 wrote to its standard output.
    pub fn output(&self) -> &str {
        self.stdout.get(&1).map_or("", String::as_str)
    }

    /// Whether a line of the log has this in it.
    pub fn logged(&self, part: &str) -> bool {
        self.log.iter().any(|(_, line)| line.contains(part))
    }
}

/// Everything in the order of the machine's streams, for the message of a failed test.
impl Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|event| writeln!(f, "event: {event}"))?;
        self.log.iter().try_for_each(|(number, line)| writeln!(f, "log {number}: {line}"))?;
        let both = [("stdout", &self.stdout), ("stderr", &self.stderr)];
        both.iter().try_for_each(|(name, texts)| {
            texts.iter().try_for_each(|(number, text)| writeln!(f, "{name} {number}:\n{text}"))
        })
    }
}

/// Boots a machine of its own with these containers and waits until it has ended.
///
/// # Errors
/// Those of [`koskit_machine::boot`].
pub fn boot(containers: &[Container], options: &Options) -> Result<Ran, Error> {
    let (mut stdout, mut stderr) = (BTreeMap::new(), BTreeMap::new());
    let (mut log, mut events) = (Vec::new(), Vec::new());
    let ended = koskit_machine::boot(&platform(), containers, options, &mut |said| match said {
        Message::Output { container, bytes } => append(&mut stdout, container, bytes),
        Message::Error { container, bytes } => append(&mut stderr, container, bytes),
        Message::Log { container, line } => log.push((container, line.to_owned())),
        Message::Event(event) => events.push(event.to_string()),
    })?;
    Ok(Ran { ended, stdout: texts(stdout), stderr: texts(stderr), log, events })
}

fn append(streams: &mut BTreeMap<u32, Vec<u8>>, container: u32, bytes: &[u8]) {
    streams.entry(container).or_default().extend(bytes);
}

fn texts(streams: BTreeMap<u32, Vec<u8>>) -> BTreeMap<u32, String> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    streams.into_iter().map(|(number, bytes)| (number, text(bytes))).collect()
}
