//! `koskit explain`: the graph that a build runs, and what it would be without koskit.

use crate::build::images::Images;
use crate::build::sources;
use crate::build::{build_args, context};
use crate::sel4::{self, Sel4};
use crate::{names, output};
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use koskit_frontend::convert;
use koskit_llb::{Inputs, Platform};
use koskit_transform::draw::Picture;
use std::path::PathBuf;

/// Show what a build does, and what of it koskit adds for seL4
///
/// Nothing is run. The build graph of the Dockerfile is shown with all that koskit adds to it
/// marked: without the marked parts it is the graph that any other builder would run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The Dockerfile, or - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Explain this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// A value for an ARG; without a value, that of the environment variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Another context, as in koskit build
    #[arg(long, value_name = "NAME=CONTEXT")]
    build_context: Vec<String>,
    /// A label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What the image is for
    #[arg(long, value_name = "PLATFORM", default_value = "linux/arm64")]
    platform: Platform,
    #[command(flatten)]
    sel4: Sel4,
    /// How to show it
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    format: Format,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The build context
    #[arg(value_name = "PATH")]
    path: String,
}

const EXAMPLES: &str = "\
Examples:
  koskit explain examples/hello                             lines for a terminal
  koskit explain --format svg -o hello.svg examples/hello   a picture
  koskit explain --format dot . | dot -Tpng -o build.png    Graphviz's layout of it
  koskit explain --format json . | jq .reason               for programs";

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Lines: + was added, ~ was changed
    #[default]
    Text,
    /// The language of Graphviz
    Dot,
    /// A picture
    Svg,
    /// Both graphs, for programs
    Json,
}

/// Shows it.
///
/// # Errors
/// The Dockerfile is wrong, an image cannot be had, or the file cannot be written.
pub fn explain(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let main = context::here(&arguments.path, arguments.file.as_deref())?;
    let mut inputs = Inputs::default();
    let contexts = sources::contexts(&arguments.build_context, &mut inputs)?;
    let mut options = koskit_frontend::Options {
        target: arguments.target.clone(),
        build_args: build_args(&arguments.build_arg),
        target_platform: arguments.platform.clone(),
        labels: names::pairs("label", &arguments.label)?,
        context: main.context,
        contexts,
        ..koskit_frontend::Options::default()
    };
    let adapting = arguments.sel4.options(&mut options)?;
    let images = Images::new(&store, false).with_layouts(inputs.oci_layouts);
    let mut build = convert(main.dockerfile, &options, &images)?;
    let before = build.definition.clone();
    let adapted = sel4::transform(&mut build, &adapting, &images)?;
    sel4::warn(&adapted.warnings);

    let title = format!("koskit build {}", arguments.path);
    let picture = Picture::new(&title, &before, &adapted)?;
    let text = match arguments.format {
        Format::Text => picture.text(),
        Format::Dot => picture.dot(),
        Format::Svg => picture.svg(),
        Format::Json => format!("{:#}\n", picture.json()),
    };
    match &arguments.output {
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(output::print(&text)?),
    }
}
