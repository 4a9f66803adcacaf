//! The seL4 kernels: fetches the source by cargo, adds the port in `kernel/`, builds it with the
//! kernel's own makefiles, and lays the result out as seL4's own `install` does. What is built
//! is kept in the cache by the content of `kernel/` and the compiler's version.
//! `kernel/README.md` says what the port is and what of it is verified (nothing).

use crate::content::Key;
use crate::host::{cargo, keep, list, root};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The compiler's prefix.
const TOOLS: &str = "aarch64-linux-gnu-";

/// Which of the two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What machines boot.
    Release,
    /// Asserts, and prints what it does to the serial port; has the debugging system calls.
    Debug,
}

impl Variant {
    /// As in a file's name.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Release => "release",
            Variant::Debug => "debug",
        }
    }
}

/// What it is, for people.
pub const NAME: &str = "seL4 5.0.0 for QEMU virt, aarch64, at EL2 (unverified port)";

/// Builds a kernel, unless the cache has it. The folder has `bin/kernel.elf`, and below
/// `libsel4/include` the interface files and the configuration that go with it.
///
/// # Errors
/// The source cannot be fetched, or does not build; the sentence then names a log file.
pub fn build(variant: Variant, cache: &Path) -> Result<PathBuf> {
    let key = Key::default()
        .files(&root().join("kernel"))?
        .text(&compiler_version()?)
        .text(variant.name())
        .finish();
    let kept = cache.join("kernel").join(format!("{key}-{}", variant.name()));
    if !kept.exists() {
        let work = kept.with_extension(format!("work-{}", std::process::id()));
        let prefix = build_in(variant, &work)?;
        keep(&prefix, &kept)?;
        remove(&work)?;
    }
    Ok(kept)
}

/// Builds a kernel twice, in folders with names of different lengths, and compares all files.
///
/// # Errors
/// A build fails, or two files differ.
pub fn check_reproducible(cache: &Path) -> Result<()> {
    let folders = [cache.join("kernel/twice/a"), cache.join("kernel/twice/another-folder")];
    for variant in [Variant::Release, Variant::Debug] {
        let mut keys = Vec::new();
        for folder in &folders {
            keys.push(Key::default().files(&build_in(variant, folder)?)?.finish());
        }
        ensure!(
            keys[0] == keys[1],
            "two builds of the {} kernel differ: compare {} and {}",
            variant.name(),
            folders[0].display(),
            folders[1].display()
        );
    }
    remove(&cache.join("kernel/twice"))
}

/// Builds in a folder of its own, from nothing, and returns the install prefix in it.
fn build_in(variant: Variant, work: &Path) -> Result<PathBuf> {
    remove(work)?;
    let source = work.join("source");
    copy(&fetch()?, &source)?;
    copy(&root().join("kernel/port"), &source)?;
    apply_patches(&root().join("kernel/patches"), &source)?;

    let settings = settings(variant)?;
    let generated = work.join("include/generated");
    make_folder(&generated)?;
    write(&generated.join("autoconf.h"), &autoconf(&settings))?;
    // The makefiles and scripts call their interpreter `python`, which Debian does not have.
    let tools = work.join("tools");
    make_folder(&tools)?;
    std::os::unix::fs::symlink("/usr/bin/python3", tools.join("python"))
        .context("cannot link python to python3")?;
    make(variant, work)?;

    let prefix = work.join("prefix");
    let include = prefix.join("libsel4/include");
    let (arch, sel4_arch) = ("libsel4/arch_include/arm", "libsel4/sel4_arch_include/aarch64");
    for (from, to) in [
        ("kernel.elf".into(), prefix.join("bin/kernel.elf")),
        (
            "source/libsel4/include/interfaces/sel4.xml".into(),
            include.join("interfaces/object-api.xml"),
        ),
        (
            format!("source/{sel4_arch}/interfaces/sel4arch.xml"),
            include.join("interfaces/object-api-sel4-arch.xml"),
        ),
        (
            format!("source/{arch}/interfaces/sel4arch.xml"),
            include.join("interfaces/object-api-arch.xml"),
        ),
        ("source/libsel4/include/api/syscall.xml".into(), include.join("api/syscall.xml")),
    ] {
        make_folder(to.parent().expect("a file in the prefix is in a folder"))?;
        copy(&work.join(from), &to)?;
    }
    make_folder(&include.join("kernel"))?;
    write(&include.join("kernel/gen_config.json"), &format!("{:#}\n", json!(settings)))?;
    Ok(prefix)
}

/// Has cargo download the crate with the kernel's source, checked against `kernel/Cargo.lock`,
/// and returns where cargo unpacked it.
fn fetch() -> Result<PathBuf> {
    let manifest = root().join("kernel/Cargo.toml");
    let run = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = cargo()
            .args(arguments)
            .args(["--quiet", "--locked", "--manifest-path"])
            .arg(&manifest)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cannot fetch seL4: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    };
    run(&["fetch"])?;
    let metadata: Value =
        serde_json::from_slice(&run(&["metadata", "--offline", "--format-version", "1"])?)
            .context("cargo metadata does not speak JSON")?;
    let packages = metadata["packages"].as_array();
    packages
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "sel4-sys")
        .and_then(|package| package["manifest_path"].as_str())
        .map(|manifest| Path::new(manifest).with_file_name("seL4"))
        .context("cargo does not say where it unpacked sel4-sys")
}

fn apply_patches(patches: &Path, source: &Path) -> Result<()> {
    for patch in list(patches)? {
        let input =
            fs::File::open(&patch).with_context(|| format!("cannot read {}", patch.display()))?;
        let output = Command::new("patch")
            .args(["--strip=1", "--batch", "--fuzz=0", "--no-backup-if-mismatch", "--silent"])
            .current_dir(source)
            .stdin(input)
            .output()
            .context("cannot start patch (Debian package patch)")?;
        if !output.status.success() {
            bail!(
                "{} does not apply:\n{}",
                patch.display(),
                String::from_utf8_lossy(&output.stdout).trim()
            );
        }
    }
    Ok(())
}

/// The configuration: that in `kernel/config.json`, and what makes a debug kernel.
fn settings(variant: Variant) -> Result<Map<String, Value>> {
    let path = root().join("kernel/config.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut settings: Map<String, Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a JSON object", path.display()))?;
    let debug = variant == Variant::Debug;
    settings.insert("DEBUG_BUILD".into(), debug.into());
    settings.insert("PRINTING".into(), debug.into());
    if debug {
        settings.insert("USER_STACK_TRACE_LENGTH".into(), 16.into());
    }
    Ok(settings)
}

/// The same as C: switches that are off are not defined.
fn autoconf(settings: &Map<String, Value>) -> String {
    let mut text = "#define AUTOCONF_INCLUDED\n".to_owned();
    for (name, value) in settings {
        match value {
            Value::Bool(false) => {}
            Value::Bool(true) => text += &format!("#define CONFIG_{name} 1\n"),
            value => text += &format!("#define CONFIG_{name} {value}\n"),
        }
    }
    text
}

/// Runs the kernel's makefile, in the mode in which a larger build configures it. All paths are
/// relative, so that the folder's name does not get into the kernel.
fn make(variant: Variant, work: &Path) -> Result<()> {
    let mut path = work.join("tools").into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut defines =
        "HAVE_AUTOCONF AARCH64 ARCH_ARM ARMV8_A ARM_CORTEX_A57 __KERNEL_64__".to_owned();
    let mut command = Command::new("make");
    if variant == Variant::Debug {
        defines += " DEBUG";
        command.arg("DEBUG=1");
    }
    let log_path = work.join("build.log");
    let log = fs::File::create(&log_path)
        .with_context(|| format!("cannot create {}", log_path.display()))?;
    let status = command
        .args(["--no-print-directory", "--file=source/Makefile", "SOURCE_ROOT=source"])
        .args(["ARCH=arm", "SEL4_ARCH=aarch64", "PLAT=qemuvirt", "PLAT_LIST=qemuvirt"])
        .args(["CPU=cortex-a57", "ARMV=armv8-a", "PYTHON=python", "kernel.elf"])
        .arg(format!("TOOLPREFIX={TOOLS}"))
        .current_dir(work)
        .env_clear()
        .env("PATH", path)
        .env("LC_ALL", "C")
        // What the kernel's part of a larger build would set.
        .env("NK_CFLAGS", "1")
        .env("HAVE_AUTOCONF", "1")
        .env("srctree", ".")
        .env("TYPE_SUFFIX", "64")
        .env("__ARM_64__", "y")
        .env("CONFIG_OPTIMISATION_O2", "y")
        .env("DEFINES", defines)
        .env("CPPFLAGS", "-Iinclude/generated")
        .env(
            "CFLAGS",
            format!(
                "-march=armv8-a -mtune=cortex-a57 -Iinclude/generated -ffile-prefix-map={}=.",
                work.display()
            ),
        )
        // The code generators walk through hash tables.
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log file")?)
        .stderr(log)
        .status()
        .context("cannot start make (Debian package make)")?;
    ensure!(
        status.success(),
        "the {} kernel does not build; see {}",
        variant.name(),
        log_path.display()
    );
    Ok(())
}

fn compiler_version() -> Result<String> {
    let gcc = format!("{TOOLS}gcc");
    let output = Command::new(&gcc)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {gcc} (Debian package gcc-aarch64-linux-gnu)"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Copies a file, or a folder into what may be there already.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        make_folder(to)?;
        for entry in list(from)? {
            copy(&entry, &to.join(entry.file_name().expect("a listed path has a name")))?;
        }
        return Ok(());
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

/// Removes a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_that_are_off_are_not_defined() {
        let settings = serde_json::from_str(r#"{"ON": true, "OFF": false, "BITS": 16}"#).unwrap();
        assert_eq!(
            autoconf(&settings),
            "#define AUTOCONF_INCLUDED\n#define CONFIG_ON 1\n#define CONFIG_BITS 16\n"
        );
    }

    #[test]
    fn only_the_debug_kernel_prints() {
        assert_eq!(settings(Variant::Debug).unwrap()["PRINTING"], true);
        assert_eq!(settings(Variant::Release).unwrap()["PRINTING"], false);
    }
}
