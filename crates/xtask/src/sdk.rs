//! The SDK images, made from Debian packages:
//!
//! | image | holds |
//! |---|---|
//! | `kos/dev-c-aarch64-kos-linux-musl` | C and C++ compilers on the build platform, for static-pie programs |
//! | `kos/busybox` | a shell and small tools, on the build platform and for arm64 |
//! | `kos/debian`, `kos/erlang`, `kos/python`, `kos/source-mosquitto` | what `examples/` begin with |
//!
//! A rootfs is made by mmdebstrap's `extract` variant: packages are unpacked, nothing of them
//! is run. It is kept in the cache by the hash of its recipe; an image that carries that hash
//! in its label is not imported again.

mod recipes;

use crate::content::Key;
use crate::host::{cache, keep, root, run, step};
use anyhow::{Context, Result};
use recipes::Image;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Label of an SDK image: the hash of the recipe it was made by.
const RECIPE: &str = "com.koskit.sdk.recipe";
/// The Debian release that SDK images are made from.
const SUITE: &str = "bookworm";
/// Raise this where a change of this file changes the images.
const VERSION: &str = "3";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes and imports the images that everything needs, where the store has them not as they
/// should be.
///
/// # Errors
/// What keeps an image from being made; the images before it stay.
pub fn make() -> Result<()> {
    musl()?;
    recipes::BASE.iter().try_for_each(Image::make)
}

/// The same for the images that `examples/` begin with.
///
/// # Errors
/// As [`make`].
pub fn make_examples() -> Result<()> {
    recipes::EXAMPLES.iter().try_for_each(Image::make)
}

/// Makes `target/linux`: a link `NAME.tar` for the files of each image of unmodified programs.
///
/// # Errors
/// Their packages cannot be had.
pub fn make_programs() -> Result<()> {
    let folder = root().join("target/linux");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    recipes::PROGRAMS.iter().try_for_each(|image| {
        let name = image.name.rsplit('/').next().unwrap_or(image.name);
        link(&image.rootfs()?, &folder.join(format!("{name}.tar")))
    })
}

/// Makes `target/musl`, a link to musl for arm64 as it is in the C image (headers, libraries, specs
/// file): what tests compile their programs with.
///
/// # Errors
/// The rootfs of the C image cannot be made or unpacked.
pub fn musl() -> Result<()> {
    let parts =
        ["./usr/include/aarch64-linux-musl", "./usr/lib/aarch64-linux-musl", "./usr/lib/kos"];
    link(&recipes::DEV_C.unpacked("musl", &parts)?, &root().join("target/musl"))
}

/// The folder with Debian's kernel for arm64, `vmlinuz`, with `crun` and the libraries that it
/// needs.
///
/// # Errors
/// Their packages cannot be had.
pub fn linux() -> Result<PathBuf> {
    Ok(recipes::LINUX.unpacked("linux", &["./linux"])?.join("linux"))
}

/// Makes a link, in the place of an older one.
fn link(to: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == to) {
        return Ok(());
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(to, link)
        .with_context(|| format!("cannot create {}", link.display()))
}

impl Image {
    fn recipe(&self) -> Result<String> {
        let key = Key::default()
            .text(VERSION)
            .text(SUITE)
            .text(self.name)
            .text(self.architecture)
            .text(self.foreign)
            .text(self.packages)
            .text(self.source)
            .text(self.finish)
            .text(self.path)
            .text(self.mount)
            .text(self.links)
            .text(&self.env.join(" "));
        let key = if self.folder.is_empty() { key } else { key.files(&self.folder())? };
        Ok(key.finish())
    }

    /// The folder with its files.
    fn folder(&self) -> PathBuf {
        root().join("sdk").join(self.folder)
    }

    fn platform(&self) -> String {
        format!("linux/{}", self.architecture)
    }

    fn make(&self) -> Result<()> {
        let recipe = self.recipe()?;
        if self.present(&recipe) {
            return Ok(());
        }
        let rootfs = self.rootfs()?;
        step(&format!("import {} ({})", self.name, self.platform()), || {
            let mut command = koskit();
            command
                .args(["sdk", "import", self.name, "--platform", &self.platform()])
                .arg("--rootfs")
                .arg(&rootfs)
                .args(["--env", &format!("PATH={}{PATH}", self.path)])
                .args(["--cmd", "/bin/sh"])
                .args(["--label", &format!("{RECIPE}={recipe}")]);
            command.args(self.env.iter().flat_map(|entry| ["--env", entry]));
            if !self.mount.is_empty() {
                command.args(["--label", &format!("com.koskit.sdk.mount={}", self.mount)]);
            }
            if !self.links.is_empty() {
                command.args(["--label", &format!("com.koskit.sdk.links={}", self.links)]);
            }
            run(&mut command)
        })
    }

    /// Whether the store has this image, made by this recipe.
    fn present(&self, recipe: &str) -> bool {
        let asked = koskit()
            .args(["inspect", "--platform", &self.platform(), "--format", "json", self.name])
            .output();
        let Ok(output) = asked else { return false };
        let Ok(found) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
            return false;
        };
        found[0]["Config"]["Labels"][RECIPE] == *recipe
    }

    /// The rootfs as a tar file, from the cache or made now.
    fn rootfs(&self) -> Result<PathBuf> {
        let folder = cache()?.join("sdk").join(self.recipe()?);
        let rootfs = folder.join("rootfs.tar");
        if rootfs.exists() {
            return Ok(rootfs);
        }
        fs::create_dir_all(&folder)?;
        let half = folder.join("half.tar");
        step(&format!("make {} ({}) from Debian packages", self.name, self.platform()), || {
            self.bootstrap(&folder, &half)
        })?;
        fs::rename(&half, &rootfs)?;
        Ok(rootfs)
    }

    /// A folder with parts of the rootfs, beside it in the cache.
    fn unpacked(&self, name: &str, parts: &[&str]) -> Result<PathBuf> {
        let rootfs = self.rootfs()?;
        let folder = rootfs.with_file_name(name);
        if !folder.exists() {
            let half = rootfs.with_file_name(format!("{name}.half-{}", std::process::id()));
            fs::create_dir_all(&half)?;
            run(Command::new("tar").arg("-xf").arg(&rootfs).arg("-C").arg(&half).args(parts))?;
            keep(&half, &folder)?;
        }
        Ok(folder)
    }

    fn bootstrap(&self, folder: &Path, rootfs: &Path) -> Result<()> {
        let script = folder.join("finish.sh");
        let finish = if self.source.is_empty() { self.finish } else { SOURCE };
        fs::write(&script, format!("set -eu\n{STATUS}\n{finish}\n"))?;
        let mut architectures = self.architecture.to_owned();
        if !self.foreign.is_empty() && self.foreign != self.architecture {
            architectures = format!("{architectures},{}", self.foreign);
        }
        let mut command = Command::new("mmdebstrap");
        command
            .env("SOURCE_DATE_EPOCH", "0")
            .env("SOURCE_PACKAGE", self.source)
            .env("ROOTFS", rootfs)
            .arg("--variant=extract")
            .arg(format!("--architectures={architectures}"))
            .arg(format!("--include={}", self.packages));
        let hook = format!("sh {} \"$1\" {}", quoted(&script), quoted(&self.folder()));
        command.arg(format!("--extract-hook={hook}"));
        match self.source.is_empty() {
            true => command.args(["--format=tar", SUITE]).arg(rootfs),
            false => command.arg("--format=null").arg(format!("--setup-hook={DEB_SRC}")).arg(SUITE),
        };
        let output = command.output().context("cannot start mmdebstrap")?;
        if !output.status.success() {
            anyhow::bail!("mmdebstrap failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Says in the rootfs which packages it is made of, as images without dpkg do: what a bill of
/// materials is written from. `extract` itself leaves dpkg's database empty.
const STATUS: &str = r#"
    mkdir -p "$1/var/lib/dpkg/status.d"
    for deb in "$1"/var/cache/apt/archives/*.deb; do
        name=$(dpkg-deb --show --showformat='${Package}_${Architecture}' "$deb")
        dpkg-deb --field "$deb" >"$1/var/lib/dpkg/status.d/$name"
    done
"#;

/// Lets apt know the source packages of wherever it has the binary ones from.
const DEB_SRC: &str = r#"sed -n 's/^deb /deb-src /p' "$1/etc/apt/sources.list" \
    >"$1/etc/apt/sources.list.d/source.list""#;

/// Unpacks a source package and makes the rootfs of it; mmdebstrap's own is dropped.
const SOURCE: &str = r#"
    export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
    at=$(mktemp -d)
    trap 'rm -rf "$at"' EXIT
    mkdir -p "$at/download" "$at/root/usr/src"
    cd "$at/download"
    apt-get source --only-source -qq "$SOURCE_PACKAGE"
    mv "$at"/download/*/ "$at/root/usr/src/$SOURCE_PACKAGE"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$at/root" -cf "$ROOTFS" .
"#;

fn koskit() -> Command {
    Command::new(root().join("target/release/koskit"))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
