//! The licence check: every crate we depend on must be under a licence that lets koskit be
//! Apache-2.0 OR MIT, and nothing under the GPL may be a dependency of anything but `kernel/`.

use crate::host::{cargo, root};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Licences that ask for nothing but notices.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

/// Checks the dependencies of the host's and of the seL4 side's workspace.
///
/// # Errors
/// Names every crate whose licence is not allowed, or is not stated.
pub fn check() -> Result<()> {
    let mut bad = Vec::new();
    let mut count = 0;
    for manifest in ["Cargo.toml", "sel4/Cargo.toml"] {
        let output = cargo()
            .args(["metadata", "--locked", "--format-version", "1", "--manifest-path"])
            .arg(root().join(manifest))
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata of {manifest}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        for package in metadata["packages"].as_array().into_iter().flatten() {
            count += 1;
            let licence = package["license"].as_str().unwrap_or("");
            if !allowed(licence) {
                bad.push(format!("{} {}: '{licence}'", package["name"], package["version"]));
            }
        }
    }
    bad.sort();
    bad.dedup();
    if !bad.is_empty() {
        bail!("these crates have licences that are not allowed:\n  {}", bad.join("\n  "));
    }
    eprintln!("   {count} crates have licences that are allowed");
    Ok(())
}

/// Whether an SPDX expression can be met with allowed licences alone. An unreadable one cannot.
fn allowed(expression: &str) -> bool {
    // Old crates separate alternatives by a slash.
    let expression = expression.replace('/', " OR ");
    let Ok(expression) = spdx::Expression::parse(&expression) else { return false };
    expression.evaluate(|requirement| {
        requirement.license.id().is_some_and(|id| ALLOWED.contains(&id.name))
    })
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn a_choice_is_allowed_if_one_side_is_and_a_sum_if_both_are() {
        assert!(allowed("MIT OR GPL-2.0-only"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!allowed("MIT AND GPL-2.0-only"));
        assert!(!allowed("GPL-2.0-only"));
        assert!(!allowed(""));
    }
}
