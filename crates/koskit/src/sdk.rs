//! `koskit sdk import`: how `./x sdk` puts its images into the store.

use crate::names;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use koskit_image::{Limits, Tree};
use koskit_llb::{Platform, Reference};
use serde_json::json;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    Import(Import),
}

/// Make an image of a root file system
#[derive(Args)]
pub struct Import {
    /// Name of the image; images of other platforms keep theirs
    name: Reference,
    /// What the files are for
    #[arg(long)]
    platform: Platform,
    /// The files, as a tar archive. Device nodes are left out
    #[arg(long)]
    rootfs: PathBuf,
    /// An environment variable, NAME=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// A word of the command
    #[arg(long)]
    cmd: Vec<String>,
    /// A label, NAME=VALUE
    #[arg(long)]
    label: Vec<String>,
}

/// Makes the image.
///
/// # Errors
/// The archive cannot be read or holds what no layer may hold, or the store cannot be written.
/// The name stands for what it stood for, then.
pub fn import(arguments: &Import) -> Result<()> {
    let store = names::store()?;
    let unreadable = || format!("cannot read {}", arguments.rootfs.display());
    let file = File::open(&arguments.rootfs).with_context(unreadable)?;
    let mut writer = store.layer_writer(Default::default())?;
    without_devices(BufReader::new(file), &mut writer).with_context(unreadable)?;
    let layer = writer.finish()?;

    let labels = names::pairs("label", &arguments.label)?;
    let config = json!({
        "created": names::created(0),
        "architecture": arguments.platform.architecture,
        "os": arguments.platform.os,
        "config": { "Env": arguments.env, "Cmd": arguments.cmd, "Labels": labels },
        "history": [{ "created": names::created(0), "created_by": "koskit sdk import" }],
    });
    let image = store.add_image(&config, &[layer])?;
    // An archive that no build could use is better found now.
    Tree::read(&store, &image, &Limits::default())?;
    store.tag_platform(&arguments.name, &image)?;
    Ok(())
}

/// Copies a tar archive, but no device nodes. What makes a root file system likes to make
/// `/dev/null`; where it is mounted, `/dev` is another.
fn without_devices(from: impl Read, to: impl Write) -> Result<()> {
    let mut from = tar::Archive::new(from);
    let mut to = tar::Builder::new(to);
    // Long names and attributes come in entries of their own, before the one they are about.
    let mut about_next: Vec<(tar::Header, Vec<u8>)> = Vec::new();
    for entry in from.entries()?.raw(true) {
        let mut entry = entry?;
        let header = entry.header().clone();
        match header.entry_type() {
            tar::EntryType::XHeader | tar::EntryType::GNULongName | tar::EntryType::GNULongLink => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                about_next.push((header, bytes));
            }
            tar::EntryType::Char | tar::EntryType::Block => about_next.clear(),
            _ => {
                for (header, bytes) in about_next.drain(..) {
                    to.append(&header, bytes.as_slice())?;
                }
                to.append(&header, &mut entry)?;
            }
        }
    }
    to.finish()?;
    Ok(())
}
