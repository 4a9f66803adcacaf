//! `composer.lock`.

use super::{Context, Found};
use crate::{Kind, Package};
use serde::Deserialize;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Vec<Locked>,
    #[serde(default, rename = "packages-dev")]
    dev: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    #[serde(default)]
    license: Vec<String>,
}

pub fn read(_: &Context<'_>, bytes: &[u8]) -> Found {
    let lock: Lock = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let packages = lock.packages.into_iter().chain(lock.dev).map(|locked| {
        let (vendor, name) = locked.name.split_once('/').unwrap_or(("", &locked.name));
        let license = Some(locked.license.join(" OR ")).filter(|license| !license.is_empty());
        Package { license, ..Package::new(Kind::Composer, name, locked.version).within(vendor) }
    });
    Ok(packages.collect())
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn packages_are_found_with_their_vendor() {
        let text = r#"{"packages": [{"name": "monolog/monolog", "version": "3.5.0",
            "license": ["MIT"]}], "packages-dev": []}"#;
        assert_eq!(purls("composer.lock", text), ["pkg:composer/monolog/monolog@3.5.0"]);
    }
}
