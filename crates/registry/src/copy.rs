//! From one registry to another, or within one: all that is under a name, and what refers to it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use koskit_llb::{Digest, Reference};

use crate::Error;
use crate::client::Session;
use crate::document::{self, Document, Kind};
use crate::progress::{Event, Part, Progress, State};
use crate::pull::{MAX_DOCUMENTS, tree};
use crate::push::{documents_to, largest_first};
use crate::repository::{Blob, Repository, selector};
use crate::upload::{Source, upload};

/// The tags under which cosign keeps what belongs to a document, where it is not listed as
/// referring to it.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The document under the name, all that it lists, and what refers to any of these: signatures
    /// and attestations.
    All,
    /// The document under the name and all that it lists.
    WithoutReferrers,
}

/// Copies what is under a name.
pub(crate) async fn copy(
    session: &Session,
    from: &Reference,
    to: &Reference,
    what: What,
    progress: Progress<'_>,
) -> Result<Digest, Error> {
    let (from_name, to_name) = (from.clone().tagged(), to.clone().tagged());
    let source = session.repository(&from_name, "pull").await?;
    let target = session.repository(&to_name, "pull,push").await?;
    let root = source.document(&from_name).await?;
    if let Some(digest) = to_name.digest().filter(|digest| **digest != root.digest()) {
        let why = format!("its digest is {}, and the copy is to have {digest}", root.digest());
        return Err(source.host.wrong(&format!("the manifest of {}", from.familiar()), &why));
    }
    let copy = Copy { source, target, parallel: session.options.parallel, progress };
    let documents = copy.tree(&root, &selector(&to_name)).await?;
    if what == What::All {
        copy.referrers(documents, &root).await?;
    }
    Ok(root.digest())
}

struct Copy<'a> {
    source: Repository,
    target: Repository,
    parallel: usize,
    progress: Progress<'a>,
}

impl Copy<'_> {
    /// Copies a document and what is below it, and gives the digests of all of these.
    async fn tree(&self, root: &Document, name: &str) -> Result<Vec<Digest>, Error> {
        let documents = tree(&self.source, root).await?;
        let mut blobs = BTreeMap::new();
        for document in &documents {
            match &document.kind {
                Kind::Manifest(manifest) => {
                    blobs.insert(Blob::of(manifest.config()), Part::Config);
                    let layers = manifest.layers().iter();
                    let layers = layers.filter(|layer| !document::is_foreign(layer.media_type()));
                    blobs.extend(layers.map(|layer| (Blob::of(layer), Part::Layer)));
                }
                Kind::Index(index) => {
                    // What an index lists besides documents, such as the layers of a build cache.
                    let others = index.manifests().iter();
                    let others = others.filter(|d| !document::is_document(d.media_type().as_ref()));
                    blobs.extend(others.map(|blob| (Blob::of(blob), Part::Layer)));
                }
            }
        }
        for (blob, part) in &blobs {
            let (digest, size) = (&blob.digest, blob.size);
            (self.progress)(&Event { digest, part: *part, size, state: State::Waiting });
        }
        let same_registry = self.source.host.domain == self.target.host.domain;
        let mounts = match same_registry && self.source.path != self.target.path {
            true => vec![self.source.path.clone()],
            false => Vec::new(),
        };
        let source = Source::Repository(&self.source);
        stream::iter(largest_first(&blobs))
            .map(|(blob, part)| upload(&self.target, blob, *part, &source, &mounts, self.progress))
            .buffer_unordered(self.parallel.max(1))
            .try_collect::<()>()
            .await?;
        documents_to(&self.target, &documents, root, name, self.progress).await?;
        Ok(documents.iter().map(Document::digest).collect())
    }

    /// Copies what refers to these documents, and what refers to that.
    async fn referrers(&self, of: Vec<Digest>, root: &Document) -> Result<(), Error> {
        let mut known: BTreeSet<Digest> = of.iter().cloned().collect();
        let mut queue = of;
        while let Some(subject) = queue.pop() {
            for referrer in self.source.referrers(&subject).await? {
                if !known.insert(document::digest(&referrer)) {
                    continue;
                }
                if known.len() > MAX_DOCUMENTS {
                    let what = format!("the list of what refers to {subject}");
                    return Err(self.source.host.wrong(&what, &"it lists more than any image has"));
                }
                let document = self.source.child(&referrer).await?;
                queue.extend(self.tree(&document, document.digest().as_str()).await?);
            }
        }
        for kind in COSIGN {
            let tag = format!("sha256-{}.{kind}", root.digest().hex());
            if self.source.has_document(&tag).await?.is_none() {
                continue;
            }
            let name = format!("{}/{}:{tag}", self.source.host.domain, self.source.path);
            let name: Reference = name.parse().expect("its parts are those of a name");
            let document = self.source.document(&name).await?;
            self.tree(&document, &tag).await?;
        }
        Ok(())
    }
}
