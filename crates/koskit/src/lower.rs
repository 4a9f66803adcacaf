//! `koskit lower`: an image as the root server takes it.

use crate::output::Paint;
use crate::{names, output, registry, trust};
use anyhow::{Context, Result};
use clap::Args;
use koskit_image::{Image, Limits, Store, Tree};
use koskit_llb::Reference;
use koskit_lower::{Bundle, Options};
use koskit_machine::Platform;
use serde_json::Value;
use std::path::PathBuf;

/// Write an image's bundle: what the seL4 root server gets
///
/// A bundle is a directory with spec.json (the container's kernel objects and its process), the
/// program with its system calls rewritten, and initrd.cpio (its files).
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    process: Process,
    /// Directory of the bundle; new, empty, or an older bundle
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Name of an image
    image: Reference,
    /// Arguments of the program, instead of the image's CMD
    #[arg(last = true, value_name = "ARG")]
    args: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  koskit lower hello -o bundle                what `koskit run hello` gives to the machine
  koskit lower hello -o bundle -- one two     with other arguments";

/// What the command line says of a process, instead of the image.
#[derive(Args)]
pub struct Process {
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Set an environment variable; without a value, to the one it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Program, instead of the image's ENTRYPOINT and CMD
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// A label of the image that counts for this container
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

impl Process {
    /// The bundle of an image, changed as the command line says.
    ///
    /// # Errors
    /// There is no such image for linux/arm64, the policy refuses it, it cannot be read, or it
    /// cannot run natively.
    pub fn lower(&self, platform: &Platform, name: &Reference, args: &[String]) -> Result<Bundle> {
        let store = names::store()?;
        let image = names::resolve(&store, name, &names::target())?;
        trust::obey(&store, name, &image)?;
        registry::complete(&store, &image)?;
        let options = self.options(name, args)?;
        lower(&store, &image, &options, platform)
            .with_context(|| format!("the image {} cannot run natively", names::short(name)))
    }

    fn options(&self, name: &Reference, args: &[String]) -> Result<Options> {
        let mut labels = names::pairs("label", &self.label)?;
        if let Some(name) = &self.name {
            labels.insert(koskit_spec::label::NAME.to_owned(), name.clone());
        }
        Ok(Options {
            name: name.familiar(),
            args: args.to_vec(),
            entrypoint: self.entrypoint.clone(),
            env: self.env.iter().map(|entry| variable(entry)).collect(),
            workdir: self.workdir.clone(),
            labels,
        })
    }
}

/// `NAME` alone is the variable as it is here; where it is not set, it is to be removed.
fn variable(entry: &str) -> String {
    match std::env::var(entry) {
        Ok(value) if !entry.contains('=') => format!("{entry}={value}"),
        _ => entry.to_owned(),
    }
}

/// An image's bundle.
///
/// # Errors
/// A layer or libkos cannot be read, or the image cannot run natively.
pub fn lower(
    store: &Store,
    image: &Image,
    options: &Options,
    platform: &Platform,
) -> Result<Bundle> {
    let tree = Tree::read(store, image, &Limits::default())?;
    Ok(koskit_lower::lower(&tree, &image.config, options, &platform.libkos()?)?)
}

/// Writes the bundle and prints its table.
///
/// # Errors
/// As [`Process::lower`], or the directory cannot be written.
pub fn write(arguments: &Arguments) -> Result<()> {
    let platform = Platform::find()?;
    let bundle = arguments.process.lower(&platform, &arguments.image, &arguments.args)?;
    bundle.write(&arguments.output)?;
    for (path, why) in &bundle.refused {
        let paint = Paint::stderr().with("1;33", "warning:");
        output::error(&format!("{paint} /{} is left as it is: {why}\n", path.display()));
    }
    output::print(&table(&bundle))?;
    Ok(())
}

/// The kernel objects of a container and its program, as a table.
pub fn table(bundle: &Bundle) -> String {
    let spec = bundle.spec_json();
    let rows = ["Untyped", "VSpace", "TCB", "CNode", "Frames", "Cmd", "Binary"].map(|name| {
        let value = match &spec[name] {
            Value::String(text) => text.clone(),
            Value::Array(words) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                format!("[{}]", words.join(", "))
            }
            other => other.to_string(),
        };
        vec![name.to_owned(), value]
    });
    output::table(&rows)
}
