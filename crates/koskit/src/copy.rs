//! `koskit copy`: an image from one registry to another, past this machine's store.

use crate::output;
use crate::registry::{Blobs, Transfer};
use anyhow::Result;
use clap::Args;
use koskit_llb::Reference;
use koskit_registry::What;
use serde_json::json;

/// Copy an image from one registry to another
///
/// All of it is copied as it is, for all platforms, with signatures and attestations; so the copy
/// has the same digest. Nothing is kept here.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Leave out what refers to the image, such as signatures
    #[arg(long)]
    no_referrers: bool,
    #[command(flatten)]
    transfer: Transfer,
    /// The image
    #[arg(value_name = "FROM[:TAG|@DIGEST]")]
    from: Reference,
    /// The name of the copy
    #[arg(value_name = "TO[:TAG]")]
    to: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit copy alpine:3 registry.example/mirror/alpine:3
  koskit copy registry.example/team/app:rc1 registry.example/team/app:1.0";

/// Copies it.
///
/// # Errors
/// There is no such image, or one of the registries cannot be reached or refuses it.
pub fn copy(arguments: &Arguments) -> Result<()> {
    let client = arguments.transfer.client();
    let (from, to) = (arguments.from.clone().tagged(), arguments.to.clone().tagged());
    let what = if arguments.no_referrers { What::WithoutReferrers } else { What::All };
    let progress = arguments.transfer.progress();
    let copied = progress.step(&format!("copying {from} to {to}"), |step| {
        let blobs = Blobs::new(step);
        client.copy(&from, &to, what, &|event| blobs.tell(event))
    });
    progress.finish();
    let digest = copied?;
    if arguments.transfer.format.is_some() {
        let object = json!({ "Name": to.to_string(), "Digest": digest.as_str() });
        output::print(&format!("{object}\n"))?;
    } else if arguments.transfer.quiet {
        output::print(&format!("{to}\n"))?;
    } else {
        output::print(&format!("{to}: digest: {digest}\n"))?;
    }
    Ok(())
}
