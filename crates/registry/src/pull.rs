//! An image from a registry into the store: documents first, then blobs side by side.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use koskit_image::{Image, Store};
use koskit_llb::{Platform, Reference};
use oci_spec::image::Descriptor;

use crate::Error;
use crate::client::Session;
use crate::document::{self, Document, Kind, MAX_DOCUMENT};
use crate::download::into_store;
use crate::progress::{Event, Part, Progress, State};
use crate::repository::{Blob, Repository};

/// How deep an index may have others in it.
pub(crate) const MAX_DEPTH: usize = 4;
/// Documents under one name.
pub(crate) const MAX_DOCUMENTS: usize = 4096;

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What the name stands for: a manifest, or an index of several.
    pub descriptor: Descriptor,
    /// The images of it that are in the store now.
    pub images: Vec<Image>,
}

/// Pulls the image for a platform, or all that there is; with its layers or without them.
pub(crate) async fn pull(
    session: &Session,
    name: &Reference,
    platform: Option<&Platform>,
    store: &Store,
    layers: bool,
    progress: Progress<'_>,
) -> Result<Pulled, Error> {
    let name = name.clone().tagged();
    let from = session.repository(&name, "pull").await?;
    let root = from.document(&name).await?;
    keep(store, &root)?;
    let manifests = match platform {
        Some(platform) => vec![choose(&from, &name, root.clone(), platform, store).await?],
        None => all(&from, &root, store).await?,
    };
    for manifest in manifests.iter().filter(|_| platform.is_some()) {
        if !manifest.is_image() {
            let kind = manifest.artifact_type().unwrap_or_default();
            return Err(Error::NoImage { name: name.familiar(), kind });
        }
    }
    let mut wanted = BTreeSet::new();
    for manifest in &manifests {
        let is_image = manifest.is_image();
        let Kind::Manifest(manifest) = &manifest.kind else { continue };
        if is_image && manifest.config().size() > MAX_DOCUMENT {
            let what = format!("the configuration {}", manifest.config().digest());
            return Err(from.host.wrong(&what, &"it is larger than 4 MiB"));
        }
        wanted.insert((Rank::Config, Blob::of(manifest.config())));
        let own = manifest.layers().iter().filter(|_| layers);
        wanted.extend(own.map(|layer| (Rank::Layer, Blob::of(layer))));
    }
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_by_key(|(rank, blob)| (*rank, Reverse(blob.size)));
    let parts = wanted.into_iter().map(|(rank, blob)| (rank.part(), blob)).collect();
    blobs(&from, parts, store, session.options.parallel, progress).await?;
    // Whoever needs the layers that were not fetched finds here where they are.
    for manifest in &manifests {
        let Kind::Manifest(manifest) = &manifest.kind else { continue };
        for layer in manifest.layers().iter().filter(|_| !layers).map(document::digest) {
            if !store.has_blob(&layer) {
                store.note_source(&layer, &name)?;
            }
        }
    }
    let images = manifests.iter().filter(|manifest| manifest.is_image());
    let images = images.map(|manifest| store.image(&manifest.descriptor));
    Ok(Pulled { descriptor: root.descriptor, images: images.collect::<Result<_, _>>()? })
}

/// Configurations come first: they are small, and say what the layers are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Config,
    Layer,
}

impl Rank {
    fn part(&self) -> Part {
        match self {
            Self::Config => Part::Config,
            Self::Layer => Part::Layer,
        }
    }
}

/// Brings blobs into the store, several at once.
pub(crate) async fn blobs(
    from: &Repository,
    blobs: Vec<(Part, Blob)>,
    store: &Store,
    parallel: usize,
    progress: Progress<'_>,
) -> Result<(), Error> {
    for (part, blob) in &blobs {
        let (digest, size) = (&blob.digest, blob.size);
        progress(&Event { digest, part: *part, size, state: State::Waiting });
    }
    stream::iter(&blobs)
        .map(|(part, blob)| into_store(from, blob, *part, store, progress))
        .buffer_unordered(parallel.max(1))
        .try_collect()
        .await
}

/// Puts a document into the store, as it came.
fn keep(store: &Store, document: &Document) -> Result<(), Error> {
    if !store.has_blob(&document.digest()) {
        store.add_blob(&document.bytes)?;
    }
    Ok(())
}

/// The manifest for a platform.
async fn choose(
    from: &Repository,
    name: &Reference,
    mut document: Document,
    wanted: &Platform,
    store: &Store,
) -> Result<Document, Error> {
    for _ in 0..MAX_DEPTH {
        if let Kind::Manifest(_) = document.kind {
            return Ok(document);
        }
        let children = document.children();
        let fits = |child: &&Descriptor| document::platform(child).as_ref() == Some(wanted);
        // An index that says nothing of its only entry leaves no choice.
        let only = children.first().filter(|only| children.len() == 1 && only.platform().is_none());
        let Some(child) = children.iter().find(fits).or(only) else {
            let have = children.iter().filter_map(document::platform);
            let have: BTreeSet<String> =
                have.filter(|p| p.os != "unknown").map(|p| p.to_string()).collect();
            let have: Vec<String> = have.into_iter().collect();
            return Err(Error::NoPlatform {
                name: name.familiar(),
                wanted: Box::new(wanted.clone()),
                have: if have.is_empty() { "no platform".into() } else { have.join(", ") },
            });
        };
        document = from.child(child).await?;
        keep(store, &document)?;
    }
    Err(from
        .host
        .wrong(&format!("the manifest of {}", name.familiar()), &"its indexes have no end"))
}

/// All manifests under a document.
async fn all(from: &Repository, root: &Document, store: &Store) -> Result<Vec<Document>, Error> {
    let mut manifests = Vec::new();
    let documents = tree(from, root).await?;
    for document in documents {
        keep(store, &document)?;
        if let Kind::Manifest(_) = document.kind {
            manifests.push(document);
        }
    }
    Ok(manifests)
}

/// A document and all that is under it, each once, what is below before what lists it.
pub(crate) async fn tree(from: &Repository, root: &Document) -> Result<Vec<Document>, Error> {
    let what = format!("the index {}", root.digest());
    let mut known = BTreeSet::from([root.digest()]);
    let mut found = vec![root.clone()];
    let mut level = vec![root.clone()];
    for depth in 0.. {
        let mut below = Vec::new();
        for document in &level {
            for child in document.children() {
                if !document::is_document(child.media_type().as_ref()) {
                    // An index may list anything, such as a layer.
                    continue;
                }
                if known.insert(document::digest(child)) {
                    if depth >= MAX_DEPTH || known.len() > MAX_DOCUMENTS {
                        return Err(from.host.wrong(&what, &"it lists more than any image has"));
                    }
                    below.push(child.clone());
                }
            }
        }
        if below.is_empty() {
            break;
        }
        let fetched = stream::iter(&below).map(|child| from.child(child)).buffered(8);
        level = fetched.try_collect().await?;
        found.extend(level.iter().cloned());
    }
    found.reverse();
    Ok(found)
}
