//! `koskit sign` and `koskit verify`: who vouches for an image.

use crate::{names, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use koskit_attest::{Key, Payload, PublicKey, SignatureError, signature_name};
use koskit_image::Store;
use koskit_image::oci::Descriptor;
use koskit_llb::{Digest, Reference};
use koskit_registry::Client;
use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

/// Sign images
///
/// Signatures are cosign's: kept beside the image as REPOSITORY:sha256-….sig, and pushed with it.
/// The password of the key is taken from COSIGN_PASSWORD, else asked for.
#[derive(Args)]
#[command(after_help = SIGN)]
pub struct Sign {
    /// The private key: cosign's or skopeo's, or any on P-256 in PEM form
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Something else that the signature is to say
    #[arg(short, long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Names of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

const SIGN: &str = "\
Examples:
  koskit trust generate                       make a key: cosign.key and cosign.pub
  koskit sign --key cosign.key hello          sign an image, for all its platforms
  koskit verify --key cosign.pub hello        see that it is signed
  koskit trust set --key cosign.pub docker.io/library   run only what is signed";

/// Verify that images are signed
///
/// Prints what was signed, a JSON array for each image. The exit status is 1 where an image is
/// not signed by that key.
#[derive(Args)]
#[command(after_help = VERIFY)]
pub struct Verify {
    /// The public key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Names of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
}

const VERIFY: &str = "\
Examples:
  koskit verify --key cosign.pub hello
  koskit verify --key cosign.pub -q hello && koskit run hello";

/// Signs them.
///
/// # Errors
/// The key cannot be used, there is no such image, or the store cannot be written.
pub fn sign(arguments: &Sign) -> Result<()> {
    let store = names::store()?;
    let notes = names::pairs("annotation", &arguments.annotation)?;
    let all = arguments.images.iter().map(|name| Ok((name, digests(&store, name)?)));
    let all = all.collect::<Result<Vec<_>>>()?;
    let key = private_key(&arguments.key)?;
    for (name, digests) in all {
        for digest in &digests {
            koskit_attest::sign(&store, name, digest, &key, &notes)?;
        }
        output::print(&format!("signed {} {}\n", names::short(name), digests[0]))?;
    }
    Ok(())
}

/// Verifies them.
///
/// # Errors
/// The key cannot be used, there is no such image, or one is not signed by it.
pub fn verify(arguments: &Verify) -> Result<()> {
    let store = names::store()?;
    let key = public_key(&arguments.key)?;
    for name in &arguments.images {
        let payloads = verified(&store, name, &key)?;
        if !arguments.quiet {
            let text = serde_json::to_string(&payloads).context("cannot print a signature")?;
            output::print(&format!("{text}\n"))?;
        }
    }
    Ok(())
}

fn verified(store: &Store, name: &Reference, key: &PublicKey) -> Result<Vec<Payload>> {
    let mut why = None;
    for digest in digests(store, name)? {
        match koskit_attest::verify(store, name, &digest, key) {
            Ok(payloads) => return Ok(payloads),
            Err(error @ SignatureError::Store(_)) => return Err(error.into()),
            Err(error) => {
                why.get_or_insert(error);
            }
        }
    }
    let why = why.map(|why| why.to_string()).unwrap_or_default();
    bail!("the image {} is not verified: {why}", names::short(name))
}

/// What a signature of an image can be about: what its name stands for, and the manifest of each
/// platform.
///
/// # Errors
/// There is no such image.
pub fn digests(store: &Store, name: &Reference) -> Result<Vec<Digest>> {
    if let Some(digest) = name.digest() {
        return Ok(vec![digest.clone()]);
    }
    let Some(target) = store.find(&name.clone().tagged())? else {
        return Err(names::missing(store, &name.clone().tagged()));
    };
    about(store, &target)
}

fn about(store: &Store, target: &Descriptor) -> Result<Vec<Digest>> {
    let digest = |text: &str| text.parse::<Digest>().context("a digest of the store is malformed");
    let mut digests = vec![digest(target.digest().as_ref())?];
    for (_, descriptor) in store.platforms(target)? {
        let digest = digest(descriptor.digest().as_ref())?;
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    Ok(digests)
}

/// Sends the signatures of an image along with it.
///
/// # Errors
/// The registry cannot be reached or refuses them.
pub fn push(client: &Client, store: &Store, name: &Reference, target: &Descriptor) -> Result<()> {
    for digest in about(store, target)? {
        let signatures = signature_name(name, &digest);
        if let Some(descriptor) = store.find(&signatures)? {
            client.push(store, &descriptor, &signatures, &|_| {})?;
        }
    }
    Ok(())
}

/// Fetches the signatures of an image along with it, where there are any.
///
/// # Errors
/// The registry cannot be reached, or what it gives is not valid.
pub fn pull(client: &Client, store: &Store, name: &Reference, target: &Descriptor) -> Result<()> {
    for digest in about(store, target)? {
        let signatures = signature_name(name, &digest);
        match client.pull(&signatures, None, store, &|_| {}) {
            Ok(pulled) => store.tag(&signatures, &pulled.descriptor)?,
            Err(koskit_registry::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn private_key(path: &Path) -> Result<Key> {
    let pem = read(path)?;
    let password = match Key::is_encrypted(&pem) {
        true => password(&format!("Password of {}: ", path.display()))?,
        false => String::new(),
    };
    Key::from_pem(&pem, password.as_bytes())
        .with_context(|| format!("the key {} cannot be used", path.display()))
}

/// Reads a public key.
///
/// # Errors
/// There is none.
pub fn public_key(path: &Path) -> Result<PublicKey> {
    PublicKey::from_pem(&read(path)?)
        .with_context(|| format!("the key {} cannot be used", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))
}

/// The password of a key: of the environment, or of the person at the terminal.
///
/// # Errors
/// There is neither.
pub fn password(ask: &str) -> Result<String> {
    if let Ok(password) = std::env::var("COSIGN_PASSWORD") {
        return Ok(password);
    }
    if !stdin().is_terminal() {
        bail!("there is no terminal to ask for the key's password; set COSIGN_PASSWORD");
    }
    rpassword::prompt_password(ask).context("cannot ask for the password")
}
