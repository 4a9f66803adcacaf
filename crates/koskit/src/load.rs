//! `koskit load`: images out of an archive.

use crate::names;
use crate::output::{self, Telling};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

/// Load images from a tar archive
///
/// The archive is of `koskit save`, `docker save`, `podman save` or `skopeo copy`, and may be
/// compressed with gzip or zstd.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The file to read [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing but names
    #[arg(short, long)]
    quiet: bool,
    /// For people, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Telling,
}

const EXAMPLES: &str = "\
Examples:
  koskit load -i hello.tar
  docker save alpine | koskit load";

/// Loads them.
///
/// # Errors
/// The archive is damaged or not one of images; no name is changed, then.
pub fn load(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let input: Box<dyn Read> = match &arguments.input {
        Some(path) => {
            let file = File::open(path);
            Box::new(file.with_context(|| format!("{} cannot be read", path.display()))?)
        }
        None if io::stdin().is_terminal() => {
            bail!("there is no archive on a terminal; name a file by -i, or pipe one in");
        }
        None => Box::new(io::stdin().lock()),
    };
    let mut text = String::new();
    for image in store.load(input)? {
        let digest = image.descriptor.digest();
        text += &match (&image.reference, arguments.format) {
            (reference, Telling::Json) => {
                let name = reference.as_ref().map(|name| name.familiar());
                format!("{}\n", json!({ "Name": name, "Digest": digest.as_ref() }))
            }
            (Some(name), _) if arguments.quiet => format!("{}\n", name.familiar()),
            (Some(name), _) => format!("Loaded image: {}\n", name.familiar()),
            (None, _) if arguments.quiet => format!("{digest}\n"),
            (None, _) => format!(
                "Loaded image without a name: {digest}\n\
                 koskit tag {digest} NAME gives it one; koskit prune removes it\n"
            ),
        };
    }
    output::print(&text)?;
    Ok(())
}
