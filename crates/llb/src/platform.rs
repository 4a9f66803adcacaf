//! `os/architecture/variant`, as containerd normalises it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::pb;

/// What an image or a step runs on. Always normalised: `aarch64` is `arm64`, `arm64/v8` is
/// `arm64`, `x86_64` is `amd64`, `armhf` is `arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// `arm64`, `amd64`, …
    pub architecture: String,
    /// `v7` of `arm/v7`; mostly empty.
    pub variant: String,
    /// The version after the OS in `windows(10.0.17763)/amd64`; mostly empty.
    pub os_version: String,
}

/// A text that is no platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a platform: {why}; expected OS/ARCHITECTURE[/VARIANT], as linux/arm64")]
pub struct PlatformError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".into(),
            other => other.to_owned(),
        };
        let variant = variant.to_ascii_lowercase();
        let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
            "i386" => ("386".into(), String::new()),
            "x86_64" | "x86-64" | "amd64" => ("amd64".into(), none_if(variant, "v1")),
            "aarch64" | "arm64" => ("arm64".into(), none_if(none_if(variant, "8"), "v8")),
            "armhf" => ("arm".into(), "v7".into()),
            "armel" => ("arm".into(), "v6".into()),
            "arm" => {
                let variant = match variant.as_str() {
                    "" | "7" => "v7".into(),
                    "5" | "6" | "8" => format!("v{variant}"),
                    _ => variant,
                };
                ("arm".into(), variant)
            }
            other => (other.to_owned(), variant),
        };
        Self { os, architecture, variant, os_version: String::new() }
    }

    /// Linux on the machine that this program was compiled for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// As LLB writes it.
    pub fn to_pb(&self) -> pb::Platform {
        pb::Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: Vec::new(),
        }
    }
}

fn none_if(variant: String, default: &str) -> String {
    if variant == default { String::new() } else { variant }
}

impl From<&pb::Platform> for Platform {
    fn from(platform: &pb::Platform) -> Self {
        let mut new = Self::new(&platform.os, &platform.architecture, &platform.variant);
        new.os_version.clone_from(&platform.os_version);
        new
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = |why| PlatformError { text: text.into(), why };
        let parts: Vec<&str> = text.split('/').collect();
        let (os, os_version) = match parts[0].split_once('(') {
            None => (parts[0], ""),
            Some((os, rest)) => {
                let version = rest.strip_suffix(')').ok_or(error("the ( has no )"))?;
                (os, version)
            }
        };
        let word = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !word(os) || !parts[1..].iter().copied().all(word) {
            return Err(error("a part is empty or has characters that no platform has"));
        }
        let mut platform = match parts[1..] {
            [] if is_os(os) => Self { os: os.to_ascii_lowercase(), ..Self::host() },
            [] if is_architecture(os) => Self::new("linux", os, ""),
            [] => return Err(error("it is neither a known system nor a known architecture")),
            [architecture] => Self::new(os, architecture, ""),
            [architecture, variant] => Self::new(os, architecture, variant),
            _ => return Err(error("it has more than three parts")),
        };
        platform.os_version = os_version.to_owned();
        Ok(platform)
    }
}

fn is_os(text: &str) -> bool {
    let known = ["linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "wasi"];
    known.iter().any(|k| k.eq_ignore_ascii_case(text))
}

fn is_architecture(text: &str) -> bool {
    let known = [
        "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc",
        "ppc64", "ppc64le", "riscv64", "s390x", "wasm", "aarch64", "x86_64", "x86-64", "i386",
        "armhf", "armel",
    ];
    known.iter().any(|k| k.eq_ignore_ascii_case(text))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_spellings_of_a_platform_are_equal() {
        let parse = |s: &str| s.parse::<Platform>().unwrap().to_string();
        assert_eq!(parse("linux/aarch64"), "linux/arm64");
        assert_eq!(parse("linux/arm64/v8"), "linux/arm64");
        assert_eq!(parse("Linux/x86_64"), "linux/amd64");
        assert_eq!(parse("linux/arm"), "linux/arm/v7");
        assert_eq!(parse("linux/arm/6"), "linux/arm/v6");
        assert_eq!(parse("arm64"), "linux/arm64");
        assert_eq!(parse("armhf"), "linux/arm/v7");
    }

    #[test]
    fn what_is_no_platform_is_refused_with_a_reason() {
        for bad in ["", "/", "linux/", "linux/a/b/c", "toaster", "linux(1/arm64", "li nux/arm64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
