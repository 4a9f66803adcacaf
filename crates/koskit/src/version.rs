//! `koskit version`: what this koskit is, and what its machines boot.

use crate::output::{self, Telling};
use anyhow::{Context, Result};
use clap::Args;
use koskit_llb::Digest;
use koskit_machine::Platform;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Show the versions of koskit and of its seL4 platform
#[derive(Args)]
pub struct Arguments {
    /// Text, or one JSON object
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Telling,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the versions. That there is no platform is no error: it is what is told.
///
/// # Errors
/// A file of the platform cannot be read.
pub fn version(arguments: &Arguments) -> Result<()> {
    let platform = Platform::find();
    let digest = |(name, path): (&str, PathBuf)| {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((name.to_owned(), Digest::of(&bytes)))
    };
    let files = platform.iter().flat_map(Platform::files).map(digest);
    let files = files.collect::<Result<Vec<_>>>()?;
    let kernel = platform.as_ref().ok().and_then(Platform::kernel);
    let text = match arguments.format {
        Telling::Json => {
            let platform = platform.ok().map(|platform| {
                let files = files.iter().map(|(name, digest)| (name, digest.as_str()));
                json!({
                    "Kernel": kernel,
                    "Folder": platform.folder(),
                    "Files": BTreeMap::from_iter(files),
                })
            });
            format!("{}\n", json!({ "Version": VERSION, "Platform": platform }))
        }
        Telling::Text => {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let folder = platform.map(|platform| platform.folder().display().to_string());
            let mut rows = vec![row("koskit", VERSION.into())];
            rows.extend(kernel.map(|kernel| row("kernel", kernel)));
            rows.push(row("platform", folder.unwrap_or_else(|error| error.to_string())));
            rows.extend(files.into_iter().map(|(name, digest)| {
                let name = name.strip_suffix(".elf").unwrap_or(&name);
                row(&format!("  {name}"), digest.to_string())
            }));
            output::table(&rows)
        }
    };
    output::print(&text)?;
    Ok(())
}
