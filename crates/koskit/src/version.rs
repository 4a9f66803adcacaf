//! `koskit version`: what this koskit is, and what its machines boot.

use crate::output;
use anyhow::Result;
use clap::{Args, ValueEnum};
use koskit_llb::Digest;
use koskit_machine::Platform;
use serde_json::json;

/// Show the versions of koskit and of its seL4 platform
#[derive(Args)]
pub struct Arguments {
    /// Text, or one JSON object
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the versions. That there is no platform is no error: it is what is told.
///
/// # Errors
/// A file of the platform cannot be read.
pub fn version(arguments: &Arguments) -> Result<()> {
    let (folder, files) = match Platform::find() {
        Ok(platform) => {
            let read = |(name, path): (&str, std::path::PathBuf)| {
                let bytes = std::fs::read(&path)?;
                Ok::<_, std::io::Error>((name.to_owned(), Digest::of(&bytes)))
            };
            let files: Result<Vec<_>, _> = platform.files().map(read).collect();
            (Ok(platform.folder().display().to_string()), files?)
        }
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let text = match arguments.format {
        Format::Json => {
            let files: serde_json::Map<_, _> =
                files.iter().map(|(name, digest)| (name.clone(), json!(digest.as_str()))).collect();
            let platform = folder.ok().map(|folder| json!({ "Folder": folder, "Files": files }));
            format!("{}\n", json!({ "Version": VERSION, "Platform": platform }))
        }
        Format::Text => {
            let mut rows = vec![vec!["koskit".to_owned(), VERSION.to_owned()]];
            rows.push(vec!["platform".to_owned(), folder.unwrap_or_else(|why| why)]);
            rows.extend(files.into_iter().map(|(name, digest)| {
                let name = name.strip_suffix(".elf").unwrap_or(&name);
                vec![format!("  {name}"), digest.to_string()]
            }));
            output::table(&rows)
        }
    };
    output::print(&text)?;
    Ok(())
}
