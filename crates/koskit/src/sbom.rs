//! `koskit sbom`: the software in an image.

use crate::{inspect, names, output};
use anyhow::{Context, Result};
use clap::Args;
use koskit_attest::sbom::{Format, Subject};
use koskit_attest::{Scan, attached, scan};
use koskit_image::{Image, Store};
use koskit_llb::{Platform, Reference};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Show the software bill of materials of an image
///
/// Packages are found in the databases of dpkg and apk and in lock files of Rust, Node.js, Python,
/// Go, Ruby, PHP, Erlang and Elixir. An image that was built with --sbom has its bill with it, and
/// that one is shown.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How it is written: spdx (2.3) or cyclonedx (1.5), both as JSON
    #[arg(long, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Look into the image even where it has a bill with it
    #[arg(long)]
    rescan: bool,
    /// A file for it, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name of an image
    image: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit sbom hello                                   an SPDX document
  koskit sbom --format cyclonedx -o bom.json hello    a CycloneDX document, in a file
  koskit build --sbom=true -t hello .                 build an image that has its bill with it";

/// Prints it.
///
/// # Errors
/// There is no such image, or it cannot be read.
pub fn sbom(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let image = inspect::find(&store, &arguments.image, arguments.platform.as_ref())?;
    let kept = match arguments.rescan {
        true => None,
        false => kept(&store, &arguments.image, &image, arguments.format)?,
    };
    let document = match kept {
        Some(document) => document,
        None => {
            let scan = scan(&store, &image)?;
            warn(&scan);
            arguments.format.write(&subject(Some(&arguments.image), &image), &scan, &[])
        }
    };
    let text = format!("{document:#}\n");
    match &arguments.output {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(output::print(&text)?),
    }
}

/// The bill that an image has with it.
fn kept(store: &Store, name: &Reference, image: &Image, format: Format) -> Result<Option<Value>> {
    let Some(index) = store.find(&name.clone().tagged())? else { return Ok(None) };
    let predicates = attached(store, &index, &image.digest())?;
    let wanted = predicates.into_iter().find(|p| p.kind == format.predicate_type());
    Ok(wanted.map(|predicate| predicate.document))
}

/// What a bill is of.
pub fn subject(name: Option<&Reference>, image: &Image) -> Subject {
    Subject {
        name: name.map(|name| name.clone().tagged()),
        digest: image.digest(),
        platform: image.platform.clone(),
        created: image.config.created().clone().unwrap_or_else(|| names::created(0)),
    }
}

/// Tells what could not be read.
pub fn warn(scan: &Scan) {
    let head = output::Paint::stderr().with("1;33", "warning:");
    for skipped in &scan.skipped {
        let path = skipped.path.display();
        output::error(&format!("{head} the packages of /{path} are not listed: {}\n", skipped.why));
    }
}
