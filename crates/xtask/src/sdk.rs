//! The SDK images, made from Debian packages:
//!
//! | image | holds |
//! |---|---|
//! | `kos/dev-c-aarch64-kos-linux-musl` | C and C++ compilers on the build platform, for static-pie programs |
//! | `kos/busybox` | a shell and small tools, on the build platform and for arm64 |
//!
//! A rootfs is made by mmdebstrap's `extract` variant: packages are unpacked, nothing of them
//! is run. It is kept in the cache by the hash of its recipe; an image that carries that hash
//! in its label is not imported again.

use crate::content::Key;
use crate::host::{cache, keep, root, run, step};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Label of an SDK image: the hash of the recipe it was made by.
const RECIPE: &str = "com.koskit.sdk.recipe";
/// The Debian release that SDK images are made from.
const SUITE: &str = "bookworm";
/// Raise this where a change of this file changes the images.
const VERSION: &str = "2";

struct Image {
    name: &'static str,
    /// Debian's name of the architecture.
    architecture: &'static str,
    /// Further architectures of which it has packages.
    foreign: &'static str,
    packages: &'static str,
    /// Folder in `sdk/` with files that go into the image.
    folder: &'static str,
    /// Shell commands that finish the rootfs in `$1`, with the folder in `$2`.
    finish: &'static str,
    path: &'static str,
    /// Where it is mounted as a toolchain; empty where it is none.
    mount: &'static str,
    /// Variables of its configuration besides PATH. Those of a toolchain are what the commands of
    /// builds for seL4 get.
    env: &'static [&'static str],
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Debian's name of the build platform's architecture.
const BUILD: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

const DEV_C: Image = Image {
    name: "kos/dev-c-aarch64-kos-linux-musl",
    architecture: BUILD,
    foreign: "arm64",
    packages: "coreutils,dash,diffutils,findutils,g++-aarch64-linux-gnu,gcc-aarch64-linux-gnu,\
               grep,gzip,make,musl-dev:arm64,pkgconf-bin,sed,tar",
    folder: "dev-c",
    // The compiler's own programs get the loader and the libraries at the place where the image
    // is mounted, so that they run in stages with another C library, or with none. In the image
    // itself that place is a link to the root.
    finish: r#"
        sdk=/opt/kos/sdk
        install -D -m 644 "$2/static-pie.specs" "$1/usr/lib/kos/static-pie.specs"
        install -D -m 644 "$2/toolchain.cmake" "$1/opt/kos/share/toolchain.cmake"
        install -D -m 644 "$2/config.site" "$1/opt/kos/share/config.site"
        mkdir -p "$1/opt/kos/bin"
        ln -s / "$1$sdk"
        for name in gcc cc g++ c++ pkg-config; do
            case $name in cc) from=gcc ;; c++) from=g++ ;; *) from=$name ;; esac
            install -m 755 "$2/$from" "$1/opt/kos/bin/$name"
            ln -s $name "$1/opt/kos/bin/aarch64-kos-linux-musl-$name"
        done
        cd "$1/opt/kos/bin"
        for tool in ar as ld nm objcopy objdump ranlib readelf size strip; do
            ln -s "../../../usr/bin/aarch64-linux-gnu-$tool" $tool
            ln -s $tool aarch64-kos-linux-musl-$tool
        done
        cd "$1"
        # Sanitizers need glibc, and nobody asks for these: half of the size.
        rm -f usr/aarch64-linux-gnu/lib/lib*san* usr/bin/*lto-dump-12 \
            usr/lib/gcc-cross/aarch64-linux-gnu/12/lib*san* \
            usr/bin/aarch64-linux-gnu-dwp usr/bin/aarch64-linux-gnu-ld.gold
        rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/lib/*/gconv
        for program in usr/bin/aarch64-linux-gnu-* usr/bin/pkgconf usr/lib/gcc-cross/*/*/*; do
            [ -f "$program" ] && [ ! -L "$program" ] || continue
            loader=$(patchelf --print-interpreter "$program" 2>/dev/null) || continue
            libraries=$(cd lib && echo ??*-linux-gnu)
            patchelf --set-interpreter "$sdk/lib/$libraries/${loader##*/}" --force-rpath \
                --set-rpath "$sdk/lib/$libraries:$sdk/usr/lib/$libraries" "$program"
        done
    "#,
    path: "/opt/kos/bin:",
    mount: "/opt/kos/sdk",
    env: &[
        "CC=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-gcc",
        "CXX=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-g++",
        "AR=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-ar",
        "AS=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-as",
        "LD=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-ld",
        "NM=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-nm",
        "OBJCOPY=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-objcopy",
        "OBJDUMP=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-objdump",
        "RANLIB=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-ranlib",
        "READELF=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-readelf",
        "STRIP=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-strip",
        "PKG_CONFIG=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-pkg-config",
        "CMAKE_TOOLCHAIN_FILE=/opt/kos/sdk/opt/kos/share/toolchain.cmake",
        "CONFIG_SITE=/opt/kos/sdk/opt/kos/share/config.site",
        "CC_aarch64_unknown_linux_musl=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-gcc",
        "AR_aarch64_unknown_linux_musl=/opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-ar",
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=\
         /opt/kos/sdk/opt/kos/bin/aarch64-kos-linux-musl-gcc",
    ],
};

const fn busybox(architecture: &'static str) -> Image {
    Image {
        name: "kos/busybox",
        architecture,
        foreign: "",
        packages: "busybox-static",
        folder: "busybox",
        // The list of applets is in the folder: an arm64 busybox cannot be asked here.
        finish: r#"
            cd "$1"
            rm -rf usr/share
            for applet in $(cat "$2/applets"); do
                mkdir -p "./${applet%/*}"
                [ -e "./$applet" ] || ln -s /bin/busybox "./$applet"
            done
            mkdir -p root tmp
            chmod 1777 tmp
            printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
            printf 'root:x:0:\n' >etc/group
        "#,
        path: "",
        mount: "",
        env: &[],
    }
}

/// Makes and imports every SDK image that is not in the store as it should be.
///
/// # Errors
/// What keeps an image from being made; the images before it stay.
pub fn make() -> Result<()> {
    musl()?;
    for image in [DEV_C, busybox(BUILD), busybox("arm64")] {
        image.make()?;
    }
    Ok(())
}

/// Makes `target/musl`, a link to musl for arm64 as it is in the C image (headers, libraries, specs
/// file): what tests compile their programs with.
///
/// # Errors
/// The rootfs of the C image cannot be made or unpacked.
pub fn musl() -> Result<()> {
    let rootfs = DEV_C.rootfs()?;
    let musl = rootfs.with_file_name("musl");
    if !musl.exists() {
        let half = rootfs.with_file_name(format!("musl.half-{}", std::process::id()));
        fs::create_dir_all(&half)?;
        run(Command::new("tar").arg("-xf").arg(&rootfs).arg("-C").arg(&half).args([
            "./usr/include/aarch64-linux-musl",
            "./usr/lib/aarch64-linux-musl",
            "./usr/lib/kos",
        ]))?;
        keep(&half, &musl)?;
    }
    let link = root().join("target/musl");
    if fs::read_link(&link).is_ok_and(|there| there == musl) {
        return Ok(());
    }
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", link.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(&musl, &link)
        .with_context(|| format!("cannot create {}", link.display()))
}

impl Image {
    fn recipe(&self) -> Result<String> {
        Ok(Key::default()
            .text(VERSION)
            .text(SUITE)
            .text(self.name)
            .text(self.architecture)
            .text(self.foreign)
            .text(self.packages)
            .text(self.finish)
            .text(self.path)
            .text(self.mount)
            .text(&self.env.join(" "))
            .files(&root().join("sdk").join(self.folder))?
            .finish())
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

    fn bootstrap(&self, folder: &Path, rootfs: &Path) -> Result<()> {
        let script = folder.join("finish.sh");
        fs::write(&script, format!("set -eu\n{}\n", self.finish))?;
        let hook = format!(
            "sh {} \"$1\" {}",
            quoted(&script),
            quoted(&root().join("sdk").join(self.folder))
        );
        let mut architectures = self.architecture.to_owned();
        if !self.foreign.is_empty() && self.foreign != self.architecture {
            architectures = format!("{architectures},{}", self.foreign);
        }
        let output = Command::new("mmdebstrap")
            .env("SOURCE_DATE_EPOCH", "0")
            .args(["--variant=extract", "--format=tar"])
            .arg(format!("--architectures={architectures}"))
            .arg(format!("--include={}", self.packages))
            .arg(format!("--extract-hook={hook}"))
            .arg(SUITE)
            .arg(rootfs)
            .output()
            .context("cannot start mmdebstrap")?;
        if !output.status.success() {
            anyhow::bail!("mmdebstrap failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

fn koskit() -> Command {
    Command::new(root().join("target/release/koskit"))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
