//! `koskit tag`: another name for an image.

use crate::names;
use anyhow::Result;
use clap::Args;
use koskit_llb::Reference;

/// Give an image another name
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The image: its name, or the first digits of its ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Its new name; what had that name before loses it
    #[arg(value_name = "NAME[:TAG]")]
    name: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit tag hello registry.example/hello:1    so that `koskit push` knows where to";

/// Names it.
///
/// # Errors
/// There is no such image, or the store cannot be written.
pub fn tag(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let image = names::any(&store, &arguments.image)?;
    store.tag(&arguments.name.clone().tagged(), &image.descriptor)?;
    Ok(())
}
