//! `koskit rmi`: names away, and what only they reached.

use crate::{names, output};
use anyhow::{Result, bail};
use clap::Args;

/// Remove images
///
/// A name is removed, and with the last name of an image its blobs, as far as no other image
/// uses them.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Remove an image that is given by its ID although it has several names, and do not mind
    /// images that are not there
    #[arg(short, long)]
    force: bool,
    /// Names of images, or the first digits of their IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  koskit rmi hello          one name
  koskit rmi -f 3c5a90b1    all names of an image";

/// Removes them.
///
/// # Errors
/// There is no such image, and then none is removed; or the store cannot be written.
pub fn rmi(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let mut gone = Vec::new();
    for text in &arguments.images {
        let found = match names::any(&store, text) {
            Ok(found) => found,
            Err(_) if arguments.force => continue,
            Err(error) => return Err(error),
        };
        match (found.reference, found.all.len()) {
            (Some(reference), _) => gone.push(reference),
            (None, 2..) if !arguments.force => {
                let all: Vec<_> = found.all.iter().map(names::short).collect();
                bail!("the image {text} has the names {}; -f removes them all", all.join(", "));
            }
            (None, _) => gone.extend(found.all),
        }
    }
    gone.sort();
    gone.dedup();
    let pruned = store.remove(&gone)?;
    let mut text: String =
        gone.iter().map(|name| format!("Untagged: {}\n", name.familiar())).collect();
    match pruned {
        Some(pruned) => {
            text.extend(pruned.blobs.iter().map(|digest| format!("Deleted: {digest}\n")));
        }
        None => output::error(
            "other koskit commands are running; `koskit prune` frees the space when they are done\n",
        ),
    }
    output::print(&text)?;
    Ok(())
}
