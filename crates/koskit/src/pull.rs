//! `koskit pull`: an image from a registry into the store.

use crate::names;
use crate::output;
use crate::registry::{Blobs, Transfer, Wanted};
use crate::sign;
use anyhow::{Result, bail};
use clap::Args;
use koskit_image::Store;
use koskit_llb::{Platform, Reference};
use koskit_registry::{Client, Error, Pulled};
use serde_json::json;

/// Fetch an image from a registry
///
/// Layers that are here already are not fetched again, and what was fetched of others when a pull
/// is stopped is of use to the next one. Signatures come with it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which platform's image, or all [default: linux/arm64, which seL4 machines run]
    #[arg(long, value_name = "PLATFORM|all")]
    platform: Option<Wanted>,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    #[command(flatten)]
    transfer: Transfer,
    /// The image; without a registry it is one of docker.io, without a tag it is latest
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: Reference,
}

const EXAMPLES: &str = "\
Examples:
  koskit pull alpine                              docker.io/library/alpine:latest for linux/arm64
  koskit pull --platform linux/amd64 ghcr.io/a/b  for this machine instead
  koskit pull --platform all 127.0.0.1:5000/a:1   for all platforms, with attestations

Passwords are those of `koskit login` and `docker login`. Certificates of authorities that the
system does not know can also be in ~/.config/koskit/certs.d/HOST[:PORT]/ca.crt, or where docker
looks for them.";

/// Fetches it and names it.
///
/// # Errors
/// There is no such image, the registry cannot be reached, or gives what is not valid.
pub fn pull(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let client = arguments.transfer.client();
    let given = &arguments.name;
    let all = match arguments.all_tags {
        true if given.tag().is_some() || given.digest().is_some() => {
            bail!("--all-tags is for a name without a tag and without a digest");
        }
        true => {
            let tagged = |tag: String| format!("{}/{}:{tag}", given.domain(), given.path()).parse();
            client.tags(given)?.into_iter().map(tagged).collect::<Result<Vec<_>, _>>()?
        }
        false => vec![given.clone().tagged()],
    };
    for name in &all {
        one(arguments, &client, &store, name)?;
    }
    Ok(())
}

fn one(arguments: &Arguments, client: &Client, store: &Store, name: &Reference) -> Result<()> {
    let before = match name.digest() {
        Some(digest) => store.has_blob(digest),
        None => store.find(name)?.is_some(),
    };
    let old = if name.digest().is_none() { store.find(name)? } else { None };
    let default = names::target();
    let platform = match &arguments.platform {
        None => Some(&default),
        Some(Wanted::One(platform)) => Some(platform),
        Some(Wanted::All) => None,
    };
    let progress = arguments.transfer.progress();
    let pulled = progress.step(&format!("pulling {name}"), |step| {
        let blobs = Blobs::new(step);
        let pulled = client.pull(name, platform, store, &|event| blobs.tell(event))?;
        sign::pull(client, store, name, &pulled.descriptor)?;
        Ok::<_, anyhow::Error>(pulled)
    });
    progress.finish();
    let pulled = pulled?;
    if let Some(Wanted::One(wanted)) = &arguments.platform {
        // An image that is for one platform only is pulled whatever that is, but not if another
        // one was asked for.
        fits(name, &pulled, wanted)?;
    }
    if name.digest().is_none() {
        store.tag(name, &pulled.descriptor)?;
    }
    let digest = pulled.descriptor.digest();
    if arguments.transfer.format.is_some() {
        let platforms = pulled.images.iter().map(|image| image.platform.to_string());
        let object = json!({
            "Name": name.to_string(),
            "Digest": digest.as_ref(),
            "Platforms": platforms.collect::<Vec<_>>(),
        });
        output::print(&format!("{object}\n"))?;
    } else if arguments.transfer.quiet {
        output::print(&format!("{name}\n"))?;
    } else {
        let same =
            old.is_some_and(|old| old.digest() == digest) || name.digest().is_some() && before;
        let status = if same { "Image is up to date for" } else { "Downloaded newer image for" };
        let short = name.familiar();
        output::print(&format!("Digest: {}\nStatus: {status} {short}\n{name}\n", digest.as_ref()))?;
    }
    Ok(())
}

fn fits(name: &Reference, pulled: &Pulled, wanted: &Platform) -> Result<(), Error> {
    let have: Vec<String> = pulled.images.iter().map(|image| image.platform.to_string()).collect();
    if pulled.images.iter().any(|image| image.platform == *wanted) {
        return Ok(());
    }
    let (wanted, have) = (Box::new(wanted.clone()), have.join(", "));
    Err(Error::NoPlatform { name: name.familiar(), wanted, have })
}
