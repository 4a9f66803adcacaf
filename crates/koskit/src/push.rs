//! `koskit push`: an image of the store to a registry.

use crate::names;
use crate::output;
use crate::registry::{Blobs, Transfer, Wanted};
use crate::sign;
use anyhow::{Result, bail};
use clap::Args;
use koskit_image::Store;
use koskit_image::oci::Descriptor;
use koskit_llb::Reference;
use koskit_registry::Client;
use serde_json::json;

/// Send an image to a registry
///
/// The registry is the first part of the image's name. Layers that it has are not sent, and those
/// that another of its repositories has are taken from there. Signatures go with it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Send one platform's image only [default: all that the name stands for]
    #[arg(long, value_name = "PLATFORM|all")]
    platform: Option<Wanted>,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    #[command(flatten)]
    transfer: Transfer,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit build -t registry.example/team/hello .   build an image of that name
  koskit login registry.example                   tell who you are
  koskit push registry.example/team/hello         send it";

/// Sends it.
///
/// # Errors
/// There is no such image, or the registry cannot be reached or refuses it.
pub fn push(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let client = arguments.transfer.client();
    let given = &arguments.name;
    if !arguments.all_tags {
        return one(arguments, &client, &store, &given.clone().tagged());
    }
    if given.tag().is_some() || given.digest().is_some() {
        bail!("--all-tags is for a name without a tag and without a digest");
    }
    let same = |name: &Reference| name.domain() == given.domain() && name.path() == given.path();
    let all: Vec<_> =
        store.list()?.into_iter().map(|tagged| tagged.reference).filter(same).collect();
    if all.is_empty() {
        return Err(names::missing(&store, given));
    }
    all.iter().try_for_each(|name| one(arguments, &client, &store, name))
}

fn one(arguments: &Arguments, client: &Client, store: &Store, name: &Reference) -> Result<()> {
    let target = target(arguments, store, name)?;
    let progress = arguments.transfer.progress();
    let pushed = progress.step(&format!("pushing {name}"), |step| {
        let blobs = Blobs::new(step);
        let pushed = client.push(store, &target, name, &|event| blobs.tell(event))?;
        sign::push(client, store, name, &target)?;
        Ok::<_, anyhow::Error>(pushed)
    });
    progress.finish();
    let digest = pushed?;
    if arguments.transfer.format.is_some() {
        let object = json!({
            "Name": name.to_string(),
            "Digest": digest.as_str(),
            "Size": target.size(),
        });
        output::print(&format!("{object}\n"))?;
    } else if arguments.transfer.quiet {
        output::print(&format!("{name}\n"))?;
    } else {
        let tag = name.tag().unwrap_or("latest");
        output::print(&format!("{tag}: digest: {digest} size: {}\n", target.size()))?;
    }
    Ok(())
}

/// What the name stands for, or the part of it for one platform.
fn target(arguments: &Arguments, store: &Store, name: &Reference) -> Result<Descriptor> {
    if let Some(Wanted::One(platform)) = &arguments.platform {
        let mut descriptor = names::resolve(store, name, platform)?.descriptor;
        descriptor.set_platform(None);
        return Ok(descriptor);
    }
    if name.digest().is_some() {
        bail!("an image is pushed by its tag: {} has a digest", name.familiar());
    }
    match store.find(name)? {
        Some(descriptor) => Ok(descriptor),
        None => Err(names::missing(store, name)),
    }
}
