//! `koskit system df`: where the space went.

use crate::names;
use crate::output::{self, Listing};
use anyhow::Result;
use clap::{Args, Subcommand};
use koskit_image::Space;
use serde_json::json;

/// Look after what koskit keeps
#[derive(Subcommand)]
pub enum Command {
    Df(DfArguments),
}

/// Show the space that images take
///
/// Blobs are counted as the disk has them and each once, whoever shares it; what was never
/// fetched takes none. `koskit builder du` is for what builds remember.
#[derive(Args)]
pub struct DfArguments {
    /// Each image, with what only it needs
    #[arg(short, long)]
    verbose: bool,
    /// A table, or one JSON object
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

/// Prints it.
///
/// # Errors
/// The store cannot be read.
pub fn system(command: &Command) -> Result<()> {
    let Command::Df(arguments) = command;
    let space = names::store()?.space()?;
    output::print(&match arguments.format {
        Listing::Json => format!("{}\n", document(&space)),
        Listing::Table => table(&space, arguments.verbose),
    })?;
    Ok(())
}

fn table(space: &Space, verbose: bool) -> String {
    let row = |cells: &[String]| cells.to_vec();
    let head = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![head(&["TYPE", "NAMES", "BLOBS", "SIZE", "RECLAIMABLE"])];
    rows.push(row(&[
        "Images".into(),
        space.names.len().to_string(),
        space.blobs.to_string(),
        output::size(space.bytes),
        output::size(space.unreached),
    ]));
    let mut text = output::table(&rows);
    if verbose && !space.names.is_empty() {
        let mut rows = vec![head(&["NAME", "SIZE", "SHARED SIZE", "UNIQUE SIZE"])];
        rows.extend(space.names.iter().map(|name| {
            row(&[
                names::short(&name.reference),
                output::size(name.bytes),
                output::size(name.bytes - name.own),
                output::size(name.own),
            ])
        }));
        text += "\n";
        text += &output::table(&rows);
    }
    text
}

fn document(space: &Space) -> serde_json::Value {
    let images: Vec<_> = space
        .names
        .iter()
        .map(|name| {
            json!({
                "Name": name.reference.familiar(),
                "Digest": name.descriptor.digest().as_ref(),
                "Bytes": name.bytes,
                "UniqueBytes": name.own,
            })
        })
        .collect();
    json!({
        "Bytes": space.bytes,
        "Blobs": space.blobs,
        "ReclaimableBytes": space.unreached,
        "Images": images,
    })
}
