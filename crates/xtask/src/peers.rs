//! Peers: programs of others that koskit is held against, in a root of Debian's newest packages.
//! The release that the machine itself runs may be older than what users of docker have now, and
//! a daemon is not installed on somebody's machine for a test.
//!
//! The root is made by mmdebstrap and kept in the cache by its recipe; `target/peers` is a link
//! to it. `koskit_tests::Peers` enters it, each time with a layer of its own above, so that
//! nothing is ever written to it.

use crate::content::Key;
use crate::host::{cache, keep, output, root, step};
use crate::packages;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Debian release that peers are taken from.
const SUITE: &str = "sid";
/// Raise this where the root is to be made anew: its packages stay as they were on that day.
const VERSION: &str = "1";

/// What the root is made for; the packages that these need come with them.
const PACKAGES: &[packages::Package] = &[
    ("buildah", "another builder without a daemon"),
    ("ca-certificates", "what docker trusts"),
    ("docker-buildx", "the command that builds with docker's BuildKit"),
    ("docker-cli", "docker's commands"),
    ("docker.io", "docker's daemon, with BuildKit in it"),
    ("git", "git contexts of docker's builds"),
    ("skopeo", "a stranger that reads the images we write"),
];

/// Makes `target/peers`, where it is not there yet. This asks for root, as its daemon does.
///
/// # Errors
/// It cannot be made on this machine; tests that need it are skipped, then.
pub fn make() -> Result<PathBuf> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("only root can run docker's daemon");
    }
    let folder = cache()?.join("peers").join(recipe());
    if !folder.exists() {
        packages::install(&[packages::SDK])?;
        eprintln!("=> these packages of Debian {SUITE} go to {}:", folder.display());
        for (name, why) in PACKAGES {
            eprintln!("   {name:24} {why}");
        }
        step("make a root of them", || bootstrap(&folder))?;
    }
    link(&folder)?;
    Ok(folder)
}

fn recipe() -> String {
    let key = Key::default().text(VERSION).text(SUITE).text(&names()).text(std::env::consts::ARCH);
    key.finish()
}

fn names() -> String {
    PACKAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

fn bootstrap(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.parent().expect("it is in the cache"))?;
    let half = folder.with_extension(format!("half-{}", std::process::id()));
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--mode=root", "--variant=minbase", "--format=directory"])
        .arg(format!("--include={}", names()))
        // A mirror that is frozen at some day is as good as any for this.
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    for path in ["doc", "info", "locale", "man"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
    }
    let output = command.arg(SUITE).arg(&half).output().context("cannot start mmdebstrap")?;
    if !output.status.success() {
        // What is left of it may be as large as the whole.
        let _ = fs::remove_dir_all(&half);
        bail!("mmdebstrap failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    keep(&half, folder)
}

fn link(folder: &Path) -> Result<()> {
    let link = root().join("target/peers");
    if fs::read_link(&link).is_ok_and(|there| there == folder) {
        return Ok(());
    }
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(folder, &link)
        .with_context(|| format!("cannot create {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_kept_by_what_is_in_it() {
        assert_eq!(recipe(), recipe());
        assert_eq!(recipe().len(), 32);
        assert!(names().starts_with("buildah,ca-certificates,"), "{}", names());
    }
}
