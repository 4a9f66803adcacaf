//! `koskit save`: images into an archive.

use crate::{names, output, registry};
use anyhow::{Context, Result, bail};
use clap::Args;
use koskit_image::Store;
use koskit_image::oci::Descriptor;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

/// Write images into a tar archive
///
/// It is an OCI image layout that docker, podman, skopeo and `koskit load` read, and has the
/// same bytes each time.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names of images, or the first digits of their IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  koskit save -o hello.tar hello     for `docker load -i hello.tar`
  koskit save a b | ssh host docker load";

/// Writes them.
///
/// # Errors
/// There is no such image, a layer cannot be had, or the file cannot be written; then there is
/// none.
pub fn save(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let mut images = Vec::new();
    for text in &arguments.images {
        let found = names::any(&store, text)?;
        complete(&store, &found.descriptor)?;
        images.push((found.reference, found.descriptor));
    }
    let Some(path) = &arguments.output else {
        if io::stdout().is_terminal() {
            bail!("an archive is nothing for a terminal; name a file by -o, or pipe it somewhere");
        }
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        store.save(&images, &mut out).map_err(broken_pipe)?;
        return out.flush().map_err(|e| output::WriteError(e).into());
    };
    let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
    let half = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let failed = || format!("{} cannot be written", path.display());
    let write = || -> Result<()> {
        let file = File::create(&half).with_context(failed)?;
        let mut out = BufWriter::with_capacity(1 << 16, &file);
        store.save(&images, &mut out)?;
        out.flush().with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&half, path).with_context(failed)
    };
    write().inspect_err(|_| {
        // It is of no use to anybody, and what went wrong is told.
        let _ = fs::remove_file(&half);
    })
}

/// Fetches layers that were not needed until now.
fn complete(store: &Store, descriptor: &Descriptor) -> Result<()> {
    for (_, descriptor) in store.platforms(descriptor)? {
        // An index may have platforms that were never fetched.
        if let Ok(image) = store.image(&descriptor) {
            registry::complete(store, &image)?;
        }
    }
    Ok(())
}

/// Who reads our output has gone; nobody is to be told that.
fn broken_pipe(error: koskit_image::Error) -> anyhow::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(at) = cause {
        let io = at.downcast_ref::<io::Error>();
        if io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return output::WriteError(io::ErrorKind::BrokenPipe.into()).into();
        }
        cause = at.source();
    }
    error.into()
}
