//! `package-lock.json` (versions 1 to 3), `yarn.lock` (both kinds), `pnpm-lock.yaml`.

use super::{Context, Found, text};
use crate::{Kind, Package};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Lock {
    /// Versions 2 and 3, by folder.
    #[serde(default)]
    packages: BTreeMap<String, Locked>,
    /// Version 1, by name.
    #[serde(default)]
    dependencies: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    link: bool,
    license: Option<serde_json::Value>,
    #[serde(default)]
    dependencies: serde_json::Value,
}

pub fn read_npm(_: &Context<'_>, bytes: &[u8]) -> Found {
    let lock: Lock = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let mut packages = Vec::new();
    for (folder, locked) in &lock.packages {
        // The project itself, and what lies elsewhere in it, have no folder in node_modules.
        let Some((_, name)) = folder.rsplit_once("node_modules/") else { continue };
        if !locked.link {
            push(&mut packages, locked.name.as_deref().unwrap_or(name), locked);
        }
    }
    if lock.packages.is_empty() {
        nested(&mut packages, &lock.dependencies)?;
    }
    Ok(packages)
}

/// Version 1: dependencies have dependencies.
fn nested(packages: &mut Vec<Package>, all: &BTreeMap<String, Locked>) -> Result<(), String> {
    for (name, locked) in all {
        push(packages, name, locked);
        if locked.dependencies.is_object() {
            let inner = serde_json::from_value(locked.dependencies.clone());
            nested(packages, &inner.map_err(|e| e.to_string())?)?;
        }
    }
    Ok(())
}

fn push(packages: &mut Vec<Package>, name: &str, locked: &Locked) {
    let mut package = named(name, locked.version.as_deref().unwrap_or_default());
    package.license = locked.license.as_ref().and_then(|v| v.as_str()).map(Into::into);
    packages.push(package);
}

fn named(name: &str, version: &str) -> Package {
    match name.split_once('/') {
        Some((scope, name)) => Package::new(Kind::Npm, name, version).within(scope),
        None => Package::new(Kind::Npm, name, version),
    }
}

/// Blocks of `"name@range", …:` and an indented `version "1.2.3"` or `version: 1.2.3`.
pub fn read_yarn(_: &Context<'_>, bytes: &[u8]) -> Found {
    let mut packages = Vec::new();
    let mut name = None;
    for line in text(bytes)?.lines() {
        if !line.starts_with([' ', '#']) {
            let first = line.split(',').next().unwrap_or_default();
            let first = first.trim_end_matches(':').trim_matches('"');
            // The @ of a scope is the first byte; workspaces are the project's own.
            let at = first.get(1..).and_then(|rest| rest.find('@'));
            name =
                at.filter(|_| !first.contains("@workspace:")).map(|at| first[..at + 1].to_owned());
        } else if let Some(version) = line.trim().strip_prefix("version") {
            let version = version.trim_start_matches(':').trim().trim_matches('"');
            if let Some(name) = name.take() {
                packages.push(named(&name, version));
            }
        }
    }
    Ok(packages)
}

/// Keys of `packages:`, as `/name@1.2.3:`, `'@scope/name@1.2.3(peer@2)':` or `/name/1.2.3:`.
pub fn read_pnpm(_: &Context<'_>, bytes: &[u8]) -> Found {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text(bytes)?.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            inside = line == "packages:";
        }
        let key = line.strip_prefix("  ").filter(|rest| inside && !rest.starts_with(' '));
        let Some(key) = key.and_then(|key| key.trim_end().strip_suffix(':')) else { continue };
        let key = key.trim_matches('\'').trim_start_matches('/');
        let key = key.split('(').next().unwrap_or(key);
        let split = match key.rsplit_once('@') {
            Some((name, version)) if !name.is_empty() => Some((name, version)),
            _ => key.rsplit_once('/'),
        };
        if let Some((name, version)) = split {
            packages.push(named(name, version));
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn npm_locks_of_all_versions_are_read() {
        let three = r#"{"lockfileVersion": 3, "packages": {
            "": {"name": "own", "version": "1.0.0"},
            "node_modules/@babel/core": {"version": "7.0.0", "license": "MIT"},
            "node_modules/a": {"link": true, "resolved": "a"},
            "node_modules/x/node_modules/y": {"version": "2.0.0"}}}"#;
        let expected = ["pkg:npm/%40babel/core@7.0.0", "pkg:npm/y@2.0.0"];
        assert_eq!(purls("package-lock.json", three), expected);
        let one = r#"{"lockfileVersion": 1, "dependencies": {"x": {"version": "1.0.0",
            "requires": {"y": "^2"}, "dependencies": {"y": {"version": "2.0.0"}}}}}"#;
        assert_eq!(purls("package-lock.json", one), ["pkg:npm/x@1.0.0", "pkg:npm/y@2.0.0"]);
    }

    #[test]
    fn yarn_locks_of_both_kinds_are_read() {
        let classic = "# yarn lockfile v1\n\n\"@babel/core@^7.0.0\", \"@babel/core@^7.1.0\":\n  \
            version \"7.2.0\"\n  resolved \"x\"\n\nleft-pad@1:\n  version \"1.3.0\"\n";
        let expected = ["pkg:npm/%40babel/core@7.2.0", "pkg:npm/left-pad@1.3.0"];
        assert_eq!(purls("yarn.lock", classic), expected);
        let berry = "__metadata:\n  version: 6\n\n\"left-pad@npm:1\":\n  version: 1.3.0\n\n\
            \"own@workspace:.\":\n  version: 0.0.0-use.local\n";
        assert_eq!(purls("yarn.lock", berry), ["pkg:npm/left-pad@1.3.0"]);
    }

    #[test]
    fn pnpm_locks_are_read() {
        let lock = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies: {}\npackages:\n\
            \n  '@babel/core@7.2.0(x@1.0.0)':\n    resolution: {integrity: sha512-x}\n\
            \n  /left-pad/1.3.0:\n    dev: false\nsnapshots:\n  z@1.0.0: {}\n";
        let expected = ["pkg:npm/%40babel/core@7.2.0", "pkg:npm/left-pad@1.3.0"];
        assert_eq!(purls("pnpm-lock.yaml", lock), expected);
    }
}
