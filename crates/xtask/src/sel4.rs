//! The programs that run on seL4: builds the workspace in `sel4/`. They are kept in the cache by
//! the content of their source, the compiler and the kernel's interface, so that a fresh clone
//! builds none of them.
//!
//! The compiler is the first of these that can do it, since no machine has all of them:
//!
//! 1. the toolchain on the PATH, where it has the target (`rustup target add`);
//! 2. the same, where it has the source of Rust's core library (`rustup component add rust-src`);
//! 3. Debian's, with Debian's source. It is installed if need be.

use crate::content::Key;
use crate::host::{cargo, component, keep, output, place, root, run};
use crate::packages;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Without NEON: a call into libkos must not change the program's vector registers.
const TARGET: &str = "aarch64-unknown-none-softfloat";
/// Raise this where a change of this file changes the programs.
const VERSION: &str = "1";
/// The programs' names. Machines boot with the first three; the last is for tests only.
const PROGRAMS: [&str; 4] = ["loader", "root-server", "libkos", "kernel-tests"];

/// A cargo and a compiler that can build for seL4.
pub struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// What the compiler says it is.
    version: String,
    /// Whether the core library has to be built, too.
    build_std: bool,
}

impl Toolchain {
    /// The first that this machine has; installs Debian's if there is none.
    ///
    /// # Errors
    /// There is none, and Debian's cannot be installed. The sentence says what can be done.
    pub fn find() -> Result<Self> {
        let rustup = [cargo().get_program().into(), PathBuf::from("rustc")];
        if let Some(found) = Self::probe(rustup) {
            return Ok(found);
        }
        let debian = || ["cargo", "rustc"].map(|name| Path::new("/usr/bin").join(name));
        let installed = packages::install(&[packages::RUST]);
        if let (Ok(()), Some(found)) = (&installed, Self::probe(debian())) {
            return Ok(found);
        }
        let why =
            installed.err().map_or("Debian's Rust has no core library".into(), |e| e.to_string());
        bail!(
            "Rust cannot build for {TARGET} here; run `rustup target add {TARGET}`, or, where \
             that cannot be downloaded, `apt-get install {}` ({why})",
            packages::RUST.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
        )
    }

    fn probe([cargo, rustc]: [PathBuf; 2]) -> Option<Self> {
        let ask = |words: &[&str]| {
            let answer = output(Command::new(&rustc).current_dir(root()).args(words)).ok()?;
            Some(answer.trim().to_owned())
        };
        let version = ask(&["--version", "--verbose"])?;
        let prebuilt = ask(&["--print", "target-libdir", "--target", TARGET])
            .is_some_and(|folder| Path::new(&folder).is_dir());
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        let source = sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file();
        (prebuilt || source).then_some(Self { cargo, rustc, version, build_std: !prebuilt })
    }

    /// Clippy for all of the workspace in `sel4/`.
    ///
    /// # Errors
    /// There is none for this compiler.
    pub fn clippy(&self, prefix: &Path) -> Result<Command> {
        let mut program = self.cargo.clone();
        if self.rustc == Path::new("/usr/bin/rustc") {
            packages::install(&[packages::CLIPPY])?;
            // Debian's cargo would take the subcommand of rustup, which is earlier on the PATH.
            program = "/usr/bin/cargo-clippy".into();
        } else {
            component("clippy", "clippy")?;
        }
        let mut command = self.command(&program, &["clippy"], prefix);
        command.env("CARGO", &self.cargo);
        Ok(command)
    }

    /// A cargo command on the workspace in `sel4/`, for the kernel in `prefix`.
    fn command(&self, program: &Path, words: &[&str], prefix: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(root().join("sel4"))
            .args(words)
            .args(["--quiet", "--locked", "--target", TARGET])
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_DIR", root().join("target/sel4"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags().join("\x1f"))
            .env("KOSKIT_SEL4_PREFIX_DIR", prefix);
        if self.build_std {
            // Building the core library is unstable, but what it is built from is the compiler's own.
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .arg("-Zbuild-std=core,alloc,compiler_builtins")
                .arg("-Zbuild-std-features=compiler-builtins-mem");
        }
        command
    }
}

/// Builds the programs for the kernel in `prefix`, unless the cache has them, and returns the
/// folder that they are in, each as `NAME.elf`.
///
/// # Errors
/// One of them does not build.
pub fn build(toolchain: &Toolchain, prefix: &Path, cache: &Path) -> Result<PathBuf> {
    let key = content(toolchain, prefix)?;
    let kept = cache.join("sel4").join(&key);
    if kept.exists() {
        return Ok(kept);
    }
    let mut words = vec!["build", "--release"];
    words.extend(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    run(&mut toolchain.command(&toolchain.cargo, &words, prefix))?;
    ensure!(
        content(toolchain, prefix)? == key,
        "files in sel4/ or common/ were changed while they were compiled; do it again"
    );

    let half = kept.with_extension(format!("half-{}", std::process::id()));
    fs::create_dir_all(&half).with_context(|| format!("cannot create {}", half.display()))?;
    let built = root().join("target/sel4").join(TARGET).join("release");
    for name in PROGRAMS {
        place(&built.join(name), &half.join(format!("{name}.elf")))?;
    }
    keep(&half, &kept)?;
    Ok(kept)
}

/// Of everything that the programs are made from.
fn content(toolchain: &Toolchain, prefix: &Path) -> Result<String> {
    let kernel = prefix.file_name().unwrap_or_default().to_string_lossy();
    Ok(Key::default()
        .text(VERSION)
        .text(&toolchain.version)
        .text(&kernel)
        .files(&root().join("sel4"))?
        .files(&root().join("common"))?
        .finish())
}

/// Has a `cargo test` of the workspace in `sel4/` run on this machine.
pub fn test_here(cargo: &mut Command, prefix: &Path) {
    cargo.env("KOSKIT_SEL4_PREFIX_DIR", prefix).env("CARGO_TARGET_DIR", root().join("target/sel4"));
}

/// What every program is compiled with. Paths in them are relative to the project, so that a
/// clone somewhere else builds the same bytes.
fn flags() -> [String; 4] {
    [
        "-Clinker=aarch64-linux-gnu-ld".into(),
        "-Clinker-flavor=ld".into(),
        "-Crelocation-model=static".into(),
        format!("--remap-path-prefix={}=.", root().display()),
    ]
}
