//! An image of the store to a registry: blobs side by side, then the documents that list them,
//! and the name last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use koskit_image::Store;
use koskit_llb::{Digest, Reference};
use oci_spec::image::Descriptor;

use crate::Error;
use crate::client::Session;
use crate::document::{self, Document, Kind};
use crate::progress::{Event, Part, Progress, State};
use crate::pull::MAX_DEPTH;
use crate::repository::{Blob, Repository, selector};
use crate::upload::{Source, upload};

/// Repositories that are tried for one blob.
const MAX_MOUNTS: usize = 3;

/// Pushes a manifest or index and all below it.
pub(crate) async fn push(
    session: &Session,
    store: &Store,
    target: &Descriptor,
    name: &Reference,
    progress: Progress<'_>,
) -> Result<Digest, Error> {
    let name = name.clone().tagged();
    let to = session.repository(&name, "pull,push").await?;
    let root = read(store, target)?;
    if let Some(digest) = name.digest().filter(|digest| **digest != root.digest()) {
        let what = format!("the name {}", name.familiar());
        let why = format!("the digest of the image is {}, and not {digest}", root.digest());
        return Err(koskit_image::Error::Invalid { what, why }.into());
    }
    let documents = tree(store, &to, &name, &root).await?;
    let mut blobs = BTreeMap::new();
    for document in &documents {
        if let Kind::Manifest(manifest) = &document.kind {
            blobs.insert(Blob::of(manifest.config()), Part::Config);
            let layers = manifest.layers().iter();
            let layers = layers.filter(|layer| !document::is_foreign(layer.media_type()));
            blobs.extend(layers.map(|layer| (Blob::of(layer), Part::Layer)));
        }
    }
    for (blob, part) in &blobs {
        let (digest, size) = (&blob.digest, blob.size);
        progress(&Event { digest, part: *part, size, state: State::Waiting });
    }
    let mounts = mounts(store, &name, blobs.keys());
    stream::iter(largest_first(&blobs))
        .map(|(blob, part)| {
            let (to, name) = (&to, &name);
            let mounts = mounts.get(&blob.digest).map_or(&[][..], Vec::as_slice);
            async move {
                // A layer that was never needed here goes from registry to registry.
                let elsewhere = store.source_of(&blob.digest);
                let elsewhere = elsewhere.filter(|_| !store.has_blob(&blob.digest));
                let from = match elsewhere {
                    Some(image) => Some(session.repository(&image, "pull").await?),
                    None => None,
                };
                let source = from.as_ref().map_or(Source::Store(store), Source::Repository);
                let done = upload(to, blob, *part, &source, mounts, progress).await;
                done.map_err(|error| match error {
                    Error::Store(koskit_image::Error::MissingBlob(digest)) => Error::Incomplete {
                        name: name.familiar(),
                        what: format!("the blob {digest}"),
                    },
                    other => other,
                })
            }
        })
        .buffer_unordered(session.options.parallel.max(1))
        .try_collect::<()>()
        .await?;
    documents_to(&to, &documents, &root, &selector(&name), progress).await?;
    Ok(root.digest())
}

/// Blobs in the order in which to begin with them: so that no large one is the last.
pub(crate) fn largest_first(blobs: &BTreeMap<Blob, Part>) -> Vec<(&Blob, &Part)> {
    let mut blobs: Vec<_> = blobs.iter().collect();
    blobs.sort_by_key(|(blob, _)| Reverse(blob.size));
    blobs
}

/// Writes documents, each after what it lists; the root, which is the last one, under its name.
pub(crate) async fn documents_to(
    to: &Repository,
    documents: &[Document],
    root: &Document,
    name: &str,
    progress: Progress<'_>,
) -> Result<(), Error> {
    for document in documents {
        let digest = document.digest();
        let name = if digest == root.digest() { name } else { digest.as_str() };
        to.write_document(name, document).await?;
        let size = document.descriptor.size();
        progress(&Event { digest: &digest, part: Part::Document, size, state: State::Done });
    }
    Ok(())
}

/// A document of the store.
fn read(store: &Store, descriptor: &Descriptor) -> Result<Document, Error> {
    let what = || format!("the manifest {}", descriptor.digest());
    let bytes = store.document(descriptor)?;
    Document::parse(Some(descriptor.media_type().as_ref()), bytes)
        .map_err(|e| koskit_image::Error::Invalid { what: what(), why: e.to_string() }.into())
}

/// A document of the store and all below it, what is below before what lists it. What is not
/// here, such as the images for other platforms, must be there.
async fn tree(
    store: &Store,
    to: &Repository,
    name: &Reference,
    root: &Document,
) -> Result<Vec<Document>, Error> {
    let mut known = BTreeSet::from([root.digest()]);
    let mut found = vec![root.clone()];
    let mut level = vec![root.clone()];
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for child in level.iter().flat_map(|document| document.children()) {
            let digest = document::digest(child);
            if !document::is_document(child.media_type().as_ref()) || !known.insert(digest.clone())
            {
                continue;
            }
            if store.has_blob(&digest) {
                below.push(read(store, child)?);
            } else if to.has_document(digest.as_str()).await?.is_none() {
                let what = match document::platform(child) {
                    Some(platform) => format!("the image for {platform}"),
                    None => format!("the manifest {digest}"),
                };
                return Err(Error::Incomplete { name: name.familiar(), what });
            }
        }
        found.extend(below.iter().cloned());
        level = below;
    }
    if !level.is_empty() {
        let what = format!("the index {}", root.digest());
        let why = "its indexes have no end".into();
        return Err(koskit_image::Error::Invalid { what, why }.into());
    }
    found.reverse();
    Ok(found)
}

/// For each blob the other repositories of the same registry that have it, as far as the names in
/// the store tell.
fn mounts<'a>(
    store: &Store,
    name: &Reference,
    blobs: impl Iterator<Item = &'a Blob>,
) -> BTreeMap<Digest, Vec<String>> {
    let mut mounts: BTreeMap<Digest, Vec<String>> =
        blobs.map(|blob| (blob.digest.clone(), Vec::new())).collect();
    for (digest, known) in &mut mounts {
        let from = store.source_of(digest).filter(|from| from.domain() == name.domain());
        known.extend(from.map(|from| from.path().to_owned()).filter(|path| path != name.path()));
    }
    // They only save work: where the store cannot be read, that is told elsewhere.
    for tagged in store.list().unwrap_or_default() {
        let (domain, path) = (tagged.reference.domain(), tagged.reference.path());
        if domain != name.domain() || path == name.path() {
            continue;
        }
        for (_, descriptor) in &tagged.platforms {
            let Ok(image) = store.image(descriptor) else { continue };
            for layer in &image.layers {
                if let Some(known) = mounts.get_mut(&layer.digest) {
                    if known.len() < MAX_MOUNTS && !known.iter().any(|one| one == path) {
                        known.push(path.to_owned());
                    }
                }
            }
        }
    }
    mounts
}
