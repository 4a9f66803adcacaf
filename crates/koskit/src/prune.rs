//! `koskit prune`: blobs away that no name reaches.

use crate::names;
use crate::output::{self, Telling};
use anyhow::{Result, bail};
use clap::Args;
use koskit_image::{Pruned, Store};
use koskit_llb::{Digest, Reference};
use serde_json::json;
use std::io::{self, IsTerminal, Write};

/// Remove what no image needs
///
/// Builds without a name, images whose name was given to another, and what a command left that
/// was stopped. It waits for other koskit commands to end, so that nothing is removed that one
/// of them has just made. `koskit builder prune` is for what builds remember.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Remove all images, not only what has no name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// For people, or one JSON object
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Telling,
}

const EXAMPLES: &str = "\
Examples:
  koskit prune              what has no name
  koskit prune -a -f        everything";

/// Removes it.
///
/// # Errors
/// An image cannot be read, so that it is not known what it needs; or the store cannot be
/// written.
pub fn prune(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    if arguments.all {
        if !arguments.force && !agreed()? {
            bail!("nothing was removed");
        }
        let all: Vec<Reference> = store.names()?.into_iter().map(|(name, _)| name).collect();
        store.remove(&all)?;
    }
    let mut pruned = once(&store)?;
    // Signatures have names of their own, which nobody needs when the image is gone.
    let orphans: Vec<_> = store.names()?.into_iter().map(|(name, _)| name).collect();
    let orphans: Vec<_> = orphans.into_iter().filter(|name| is_orphan(&store, name)).collect();
    if !orphans.is_empty() {
        store.remove(&orphans)?;
        let more = once(&store)?;
        pruned.blobs.extend(more.blobs);
        pruned.bytes += more.bytes;
    }
    let text = match arguments.format {
        Telling::Json => {
            let blobs: Vec<_> = pruned.blobs.iter().map(Digest::as_str).collect();
            format!("{}\n", json!({ "Deleted": blobs, "SpaceReclaimed": pruned.bytes }))
        }
        Telling::Text => {
            let lines = pruned.blobs.iter().map(|digest| format!("Deleted: {digest}\n"));
            let size = output::size(pruned.bytes);
            lines.collect::<String>() + &format!("Total reclaimed space: {size}\n")
        }
    };
    output::print(&text)?;
    Ok(())
}

fn once(store: &Store) -> Result<Pruned> {
    if let Some(pruned) = store.prune(false)? {
        return Ok(pruned);
    }
    output::error("waiting for other koskit commands to end\n");
    Ok(store.prune(true)?.unwrap_or_default())
}

/// The name of a signature (`sha256-….sig`, `.att`) whose image is not here.
fn is_orphan(store: &Store, name: &Reference) -> bool {
    let hex = name.tag().and_then(|tag| tag.strip_prefix("sha256-"));
    let hex = hex.and_then(|rest| rest.split_once('.')).map(|(hex, _)| hex);
    let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
    digest.is_some_and(|digest| !store.has_blob(&digest))
}

fn agreed() -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is nobody to ask; -f removes all images without asking");
    }
    io::stderr().write_all(b"This removes all images. Go on? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
