//! `Cargo.lock`.

use super::{Context, Found, text};
use crate::{Kind, Package};
use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

pub fn read(_: &Context<'_>, bytes: &[u8]) -> Found {
    let lock: Lock = toml::from_str(text(bytes)?).map_err(|e| e.message().to_owned())?;
    let packages = lock.package.into_iter().map(|locked| Package {
        sha256: locked.checksum.filter(|checksum| is_sha256(checksum)),
        ..Package::new(Kind::Cargo, locked.name, locked.version)
    });
    Ok(packages.collect())
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn crates_are_found_with_or_without_a_source() {
        let lock = "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\
            dependencies = [\"serde\"]\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\n\
            source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"00\"\n";
        assert_eq!(purls("src/Cargo.lock", lock), ["pkg:cargo/own@0.1.0", "pkg:cargo/serde@1.0.2"]);
    }
}
