//! `./x build`: everything that a machine boots with, in `target/platform`, and the command line,
//! `target/release/koskit`.

use crate::host::{cache, cargo, list, place, root, run, step};
use crate::kernel::{self, Variant};
use crate::packages;
use crate::sel4::{self, Toolchain};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::thread;

/// Builds what is not built yet: both kernels, the programs on seL4 and the command line.
///
/// # Errors
/// A package is missing and cannot be installed, or something does not build.
pub fn build() -> Result<()> {
    packages::install(&[packages::BUILD, packages::RUN])?;
    let cache = cache()?;
    let folder = root().join("target/platform");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let name = folder.join("kernel.txt");
    std::fs::write(&name, kernel::NAME)
        .with_context(|| format!("cannot write {}", name.display()))?;
    let kernel = |variant: Variant| -> Result<PathBuf> {
        let what = format!("build the {} kernel", variant.name());
        let prefix = step(&what, || kernel::build(variant, &cache))?;
        let name = format!("kernel-{}.elf", variant.name());
        place(&prefix.join("bin/kernel.elf"), &folder.join(name))?;
        Ok(prefix)
    };
    thread::scope(|scope| {
        let koskit = scope.spawn(|| step("build koskit", koskit));
        let debug = scope.spawn(|| kernel(Variant::Debug));
        let prefix = kernel(Variant::Release)?;
        // It may have to be installed, which takes longer than the rest has to wait for.
        let toolchain = Toolchain::find()?;
        let programs = step("build the programs that run on seL4", || {
            sel4::build(&toolchain, &prefix, &cache)
        })?;
        for file in list(&programs)? {
            let name = file.file_name().expect("a listed path has a name");
            place(&file, &folder.join(name))?;
        }
        joined(debug)?;
        joined(koskit)
    })
}

fn koskit() -> Result<()> {
    run(cargo().args(["build", "--quiet", "--release", "--locked", "-p", "koskit"]))
}

/// The result of a thread; its panic is ours.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
