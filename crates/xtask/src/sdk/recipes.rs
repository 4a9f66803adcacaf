//! What is in each image: the packages it is made of, and what is done with them.

/// An image that is made of Debian packages.
pub struct Image {
    pub name: &'static str,
    /// Debian's name of the architecture.
    pub architecture: &'static str,
    /// Further architectures of which it has packages.
    pub foreign: &'static str,
    /// Separated by commas.
    pub packages: &'static str,
    /// The source package that it has unpacked, patches applied, below `/usr/src`; nothing else is
    /// in the image, then.
    pub source: &'static str,
    /// Folder in `sdk/` with files that go into the image.
    pub folder: &'static str,
    /// Shell commands that finish the rootfs in `$1`, with the folder in `$2`.
    pub finish: &'static str,
    /// What is before the usual PATH.
    pub path: &'static str,
    /// Where it is mounted as a toolchain; empty where it is none.
    pub mount: &'static str,
    /// The packages of which parts are in the programs that it links, separated by commas.
    pub links: &'static str,
    /// Variables of its configuration besides PATH. Those of a toolchain are what the commands of
    /// builds for seL4 get.
    pub env: &'static [&'static str],
}

/// An image for the build platform with nothing in it.
const EMPTY: Image = Image {
    name: "",
    architecture: BUILD,
    foreign: "",
    packages: "",
    source: "",
    folder: "",
    finish: "",
    path: "",
    mount: "",
    links: "",
    env: &[],
};

/// Debian's name of the build platform's architecture.
const BUILD: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// The images that everything needs.
pub const BASE: [Image; 3] = [DEV_C, busybox(BUILD), busybox("arm64")];

/// The images that `examples/` begin with.
pub const EXAMPLES: [Image; 6] = [
    DEBIAN,
    erlang(BUILD),
    erlang("arm64"),
    python(BUILD),
    python("arm64"),
    Image { name: "kos/source-mosquitto", source: "mosquitto", packages: "base-files", ..EMPTY },
];

/// Unmodified programs of Debian for arm64, which tests run on seL4: the files of images, but no
/// images of the SDK.
pub const PROGRAMS: [Image; 2] = [TOOLS, python("arm64")];

const TOOLS: Image = Image {
    name: "kos/tools",
    architecture: "arm64",
    packages: "bash,busybox-static,fd-find,fzf,jq,lua5.4,musl,openssl,perl-base,redis-server,\
               ripgrep,sqlite3,tini",
    finish: r#"
        cd "$1"
        rm -rf usr/share usr/lib/*/gconv usr/lib/*/systemd lib/systemd usr/lib/systemd \
            var/lib/dpkg/info
        mkdir -p root tmp
        chmod 1777 tmp
        printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
        printf 'root:x:0:\n' >etc/group
    "#,
    ..EMPTY
};

/// What native containers are measured beside: a kernel, an engine that starts containers, and its
/// libraries, all in one folder.
pub const LINUX: Image = Image {
    name: "kos/linux",
    architecture: "arm64",
    packages: "crun,linux-image-arm64",
    finish: r#"
        cd "$1"
        mkdir linux
        cp boot/vmlinuz-* linux/vmlinuz
        cp usr/bin/crun linux/crun
        for name in ld-linux-aarch64.so.1 libc.so.6 libcap.so.2 libgcrypt.so.20 libgpg-error.so.0 \
            liblz4.so.1 liblzma.so.5 libseccomp.so.2 libsystemd.so.0 libyajl.so.2 libzstd.so.1; do
            for file in lib/$name lib/*/$name usr/lib/*/$name; do
                [ ! -e "$file" ] || cp -L "$file" linux/
            done
        done
        rm -rf bin boot lib sbin usr
    "#,
    ..EMPTY
};

pub const DEV_C: Image = Image {
    name: "kos/dev-c-aarch64-kos-linux-musl",
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
    links: "musl-dev,libgcc-12-dev-arm64-cross,libc6-dev-arm64-cross,libstdc++-12-dev-arm64-cross",
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
    ..EMPTY
};

const fn busybox(architecture: &'static str) -> Image {
    Image {
        name: "kos/busybox",
        architecture,
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
        ..EMPTY
    }
}

/// Build tools without a compiler: builds for seL4 bring theirs.
const DEBIAN: Image = Image {
    name: "kos/debian",
    packages: "coreutils,dash,diffutils,findutils,grep,gzip,make,mawk,patch,sed,tar,xz-utils",
    finish: r#"
        cd "$1"
        rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/lib/*/gconv
        ln -s mawk usr/bin/awk
        mkdir -p root tmp
        chmod 1777 tmp
        printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
        printf 'root:x:0:\n' >etc/group
    "#,
    ..EMPTY
};

const fn erlang(architecture: &'static str) -> Image {
    Image {
        name: "kos/erlang",
        architecture,
        packages: "coreutils,dash,erlang-base,sed",
        // What its package needs to be installed is of no use to who runs Erlang.
        finish: r#"
            cd "$1"
            rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/perl \
                usr/lib/*/gconv usr/lib/*/perl* usr/bin/perl* usr/share/zoneinfo usr/share/i18n \
                lib/systemd usr/lib/systemd usr/lib/*/systemd var/lib/dpkg/info
            mkdir -p root tmp
            chmod 1777 tmp
            printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
            printf 'root:x:0:\n' >etc/group
        "#,
        ..EMPTY
    }
}

const fn python(architecture: &'static str) -> Image {
    Image {
        name: "kos/python",
        architecture,
        packages: "coreutils,dash,libpython3-stdlib,python3-minimal",
        finish: r#"
            cd "$1"
            rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info \
                usr/lib/*/gconv usr/share/zoneinfo usr/lib/python3*/test var/lib/dpkg/info
            mkdir -p root tmp
            chmod 1777 tmp
            printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
            printf 'root:x:0:\n' >etc/group
        "#,
        ..EMPTY
    }
}
