//! The Debian packages that the project uses, and installing those that are missing.

use crate::host::step;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// A package and what for.
pub type Package = (&'static str, &'static str);

/// To build the kernel, and to link what runs on it.
pub const BUILD: &[Package] = &[
    ("gcc-aarch64-linux-gnu", "compiles the kernel, links Rust for seL4"),
    ("libxml2-utils", "checks the kernel's interface files"),
    ("make", "runs the kernel's own makefiles"),
    ("patch", "adds the port to the kernel's source"),
    ("python3", "runs the kernel's code generators"),
    ("python3-ply", "used by the kernel's code generators"),
    ("python3-six", "used by the kernel's code generators"),
    ("python3-tempita", "used by the kernel's code generators"),
];

/// To build Rust for seL4 where the toolchain at hand cannot.
pub const RUST: &[Package] = &[
    ("cargo-web", "builds Rust for seL4, which the installed toolchain cannot"),
    ("rust-web-src", "Rust's core library, to be built for seL4"),
    ("rustc-web", "compiles Rust for seL4, which the installed toolchain cannot"),
];

/// To check Rust for seL4, where Debian's compiler builds it.
pub const CLIPPY: &[Package] = &[("rust-web-clippy", "checks Rust for seL4")];

/// To boot machines.
pub const RUN: &[Package] = &[("qemu-system-arm", "the machine that seL4 runs on")];

/// To make the SDK images.
pub const SDK: &[Package] = &[
    ("dpkg-dev", "unpacks the sources that an example is built from"),
    ("mmdebstrap", "unpacks Debian packages into SDK images"),
    ("patchelf", "lets the SDK's programs run where the SDK is mounted"),
    ("uidmap", "lets an unprivileged build use more than one user id"),
];

/// To build libFuzzer.
pub const FUZZ: &[Package] = &[("g++", "compiles libFuzzer, which is C++")];

/// To run every test.
pub const TEST: &[Package] = &[
    ("apache2-utils", "makes the password file of the registry that tests use"),
    ("buildah", "a stranger that pulls what we push, and pushes what we pull"),
    ("cpio", "a stranger that reads the initrds we write"),
    ("docker-registry", "a registry to push to and pull from"),
    ("libarchive-tools", "another one, bsdtar"),
    ("openssh-server", "serves repositories to git; it is not started as a service"),
    ("procps", "finds and ends what tests have started"),
    ("qemu-user-static", "runs rewritten programs without seL4, to compare"),
    ("skopeo", "a stranger that reads the images we write"),
];

/// Installs those of the packages in these groups that are missing, after naming them.
///
/// # Errors
/// The machine has no apt, we are neither root nor have sudo, or apt fails.
pub fn install(groups: &[&[Package]]) -> Result<()> {
    let all = groups.iter().copied().flatten();
    let missing: Vec<_> = all.filter(|(name, _)| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("=> {} Debian package(s) are missing and will be installed:", missing.len());
    for (name, why) in &missing {
        eprintln!("   {name:24} {why}");
    }
    if missing.iter().any(|(name, _)| *name == "openssh-server") {
        keep_ssh_from_serving()?;
    }
    step("ask Debian which versions there are", || apt(&["update", "-qq"]))?;
    let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
    words.extend(missing.iter().map(|(name, _)| *name));
    step("install them", || apt(&words))
}

/// Tests start an SSH server of their own. Debian would also start one for everybody: it does not
/// where this file is.
fn keep_ssh_from_serving() -> Result<()> {
    let file = "/etc/ssh/sshd_not_to_be_run";
    eprintln!("   {file} is made, so that nobody can log in; remove it to have the service");
    let script = format!("mkdir -p /etc/ssh && touch {file}");
    crate::host::run(as_root("sh")?.args(["-c", &script]))
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// A program that runs as root, if need be by sudo.
fn as_root(program: &str) -> Result<Command> {
    let id = Command::new("id").arg("-u").output().context("cannot ask who we are (id -u)")?;
    if id.stdout.trim_ascii() == b"0" {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("sudo");
    command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
    Ok(command)
}

fn apt(words: &[&str]) -> Result<()> {
    let mut command = as_root("apt-get")?;
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "a");
    // apt's own chatter is of no use unless it fails.
    let output = command.output().context("cannot start apt-get; koskit is built on Debian")?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed:\n{}{}",
            words.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
