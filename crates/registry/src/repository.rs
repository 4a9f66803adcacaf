//! One repository of a registry: its documents, and which blobs it has.

use std::sync::Arc;

use bytes::Bytes;
use koskit_llb::{Digest, Reference};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LINK};

use crate::document::{self, Document, MAX_DOCUMENT};
use crate::host::{Call, Host};
use crate::{Error, answer};

/// Parts of a list that are asked for.
const MAX_PAGES: usize = 100;

/// A repository.
#[derive(Clone)]
pub(crate) struct Repository {
    pub host: Arc<Host>,
    /// `library/alpine`.
    pub path: String,
    /// What a token must allow.
    pub scopes: Vec<String>,
}

/// A blob, as a descriptor has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blob {
    pub digest: Digest,
    pub size: u64,
}

impl Blob {
    pub fn of(descriptor: &Descriptor) -> Self {
        Self { digest: document::digest(descriptor), size: descriptor.size() }
    }
}

impl Repository {
    pub fn new(host: Arc<Host>, path: &str, actions: &str) -> Self {
        let scopes = vec![format!("repository:{path}:{actions}")];
        Self { host, path: path.into(), scopes }
    }

    /// The manifest or index of a name. Its digest is the name's, where it has one.
    pub async fn document(&self, reference: &Reference) -> Result<Document, Error> {
        let name = selector(reference);
        let what = format!("the manifest of {}", reference.familiar());
        let document = self.read_document(&name, None, &what).await?;
        match reference.digest() {
            Some(wanted) if *wanted != document.digest() => {
                let why = format!("its digest is {} instead of {wanted}", document.digest());
                Err(self.host.wrong(&what, &why))
            }
            _ => Ok(document),
        }
    }

    /// The manifest or index that a descriptor names.
    pub async fn child(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        let digest = document::digest(descriptor);
        let what = format!("the manifest {digest}");
        let media_type = descriptor.media_type().to_string();
        let document = self.read_document(digest.as_str(), Some(&media_type), &what).await?;
        let (found, size) = (document.digest(), document.descriptor.size());
        if found != digest {
            let why = format!("its digest is {found}");
            return Err(self.host.wrong(&what, &why));
        }
        if size != descriptor.size() {
            let why = format!("it has {size} bytes instead of {}", descriptor.size());
            return Err(self.host.wrong(&what, &why));
        }
        Ok(document)
    }

    async fn read_document(
        &self,
        name: &str,
        media_type: Option<&str>,
        what: &str,
    ) -> Result<Document, Error> {
        let url = self.host.url(&format!("{}/manifests/{name}", self.path))?;
        let call = Call::new(Method::GET, url, &self.scopes, what).header(ACCEPT, document::ACCEPT);
        let response = self.host.send(&call).await?;
        let response = self.host.expect(&call, response, &[200]).await?;
        let sent_as = text(response.headers(), CONTENT_TYPE.as_str());
        let sent_digest = text(response.headers(), "docker-content-digest");
        let bytes = self.host.body(response, MAX_DOCUMENT, what).await?;
        let document = Document::parse(media_type.or(sent_as.as_deref()), bytes)
            .map_err(|e| self.host.wrong(what, &e))?;
        // Other algorithms are no contradiction.
        let sent = sent_digest.and_then(|digest| digest.parse::<Digest>().ok());
        if sent.as_ref().is_some_and(|sent| *sent != document.digest()) {
            let why = format!("its digest is {} and not the one that is told", document.digest());
            return Err(self.host.wrong(what, &why));
        }
        Ok(document)
    }

    /// Whether there is such a manifest, by tag or digest; its digest, where that is told.
    pub async fn has_document(&self, name: &str) -> Result<Option<Option<Digest>>, Error> {
        let what = format!("the manifest {name}");
        let url = self.host.url(&format!("{}/manifests/{name}", self.path))?;
        let call =
            Call::new(Method::HEAD, url, &self.scopes, &what).header(ACCEPT, document::ACCEPT);
        let response = self.host.send(&call).await?;
        if response.status() == 404 {
            return Ok(None);
        }
        let response = self.host.expect(&call, response, &[200]).await?;
        let digest = text(response.headers(), "docker-content-digest");
        Ok(Some(digest.and_then(|digest| digest.parse().ok())))
    }

    /// Whether there is such a blob.
    pub async fn has_blob(&self, blob: &Blob) -> Result<bool, Error> {
        let what = format!("the blob {}", blob.digest);
        let call = Call::new(Method::HEAD, self.blob_url(&blob.digest)?, &self.scopes, &what);
        let response = self.host.send(&call).await?;
        if response.status() == 404 {
            return Ok(false);
        }
        self.host.expect(&call, response, &[200]).await?;
        Ok(true)
    }

    /// Writes a document under a tag or its digest. Where it is about another one and the
    /// registry does not list such by itself, the list that takes its place is written, too
    /// (distribution specification, "Referrers Tag Schema").
    pub async fn write_document(&self, name: &str, document: &Document) -> Result<(), Error> {
        let answer = self.put_document(name, document).await?;
        match document.subject() {
            Some(subject) if text(&answer, "oci-subject").is_none() => {
                self.list_by_tag(subject, document).await
            }
            _ => Ok(()),
        }
    }

    async fn put_document(&self, name: &str, document: &Document) -> Result<HeaderMap, Error> {
        let what = format!("the manifest {name} of {}", self.path);
        let url = self.host.url(&format!("{}/manifests/{name}", self.path))?;
        let media_type = document.descriptor.media_type().to_string();
        let mut call = Call::new(Method::PUT, url, &self.scopes, &what);
        call.body = Some((&media_type, Bytes::from(document.bytes.clone())));
        let response = self.host.send(&call).await?;
        let response = self.host.expect(&call, response, &[200, 201, 202, 204]).await?;
        let headers = response.headers().clone();
        let digest = text(&headers, "docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        if digest.as_ref().is_some_and(|digest| *digest != document.digest()) {
            let why = format!("it has kept it as {}", digest.expect("it is some"));
            return Err(self.host.wrong(&what, &why));
        }
        Ok(headers)
    }

    /// Adds a document to the index under the tag that stands for the list.
    async fn list_by_tag(&self, subject: &Descriptor, document: &Document) -> Result<(), Error> {
        let subject = document::digest(subject);
        let mut listed = self.listed_by_tag(&subject).await?;
        let digest = document.digest();
        if listed.iter().any(|one| document::digest(one) == digest) {
            return Ok(());
        }
        listed.push(describe(document));
        let mut index = ImageIndex::default();
        index.set_schema_version(2);
        index.set_media_type(Some(MediaType::ImageIndex));
        index.set_manifests(listed);
        let bytes = serde_json::to_vec(&index).expect("an index can be written");
        let list = Document::parse(None, bytes)
            .map_err(|e| self.host.wrong("the list of referrers", &e))?;
        self.put_document(&tag_of(&subject), &list).await?;
        Ok(())
    }

    async fn listed_by_tag(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let what = format!("the list of what refers to {subject}");
        match self.read_document(&tag_of(subject), None, &what).await {
            Ok(document) => Ok(document.children().to_vec()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What refers to a document, such as its signatures: by the registry's own list, else by the
    /// tag that stands for one.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let what = format!("the list of what refers to {subject}");
        let mut url = self.host.url(&format!("{}/referrers/{subject}", self.path))?;
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let call = Call::new(Method::GET, url.clone(), &self.scopes, &what)
                .header(ACCEPT, "application/vnd.oci.image.index.v1+json");
            let response = self.host.send(&call).await?;
            // Registries that do not know it answer in many ways.
            if page == 0 && matches!(response.status().as_u16(), 400 | 404 | 405) {
                return self.listed_by_tag(subject).await;
            }
            let response = self.host.expect(&call, response, &[200]).await?;
            let link = text(response.headers(), LINK.as_str());
            let next = link.as_deref().and_then(answer::next).map(|next| url.join(next));
            let sent_as = text(response.headers(), CONTENT_TYPE.as_str());
            let bytes = self.host.body(response, MAX_DOCUMENT, &what).await?;
            let list = Document::parse(sent_as.as_deref(), bytes);
            let list = match list {
                Ok(list) => list,
                // A page for people.
                Err(_) if page == 0 => return self.listed_by_tag(subject).await,
                Err(e) => return Err(self.host.wrong(&what, &e)),
            };
            found.extend_from_slice(list.children());
            match next {
                Some(Ok(next)) if next.origin() == url.origin() => url = next,
                Some(_) => {
                    return Err(self.host.wrong(&what, &"it goes on at another registry"));
                }
                None => return Ok(found),
            }
        }
        Err(self.host.wrong(&what, &"it has no end"))
    }

    /// The tags, sorted.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let what = format!("the tags of {}", self.path);
        let mut url = self.host.url(&format!("{}/tags/list", self.path))?;
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let call = Call::new(Method::GET, url.clone(), &self.scopes, &what);
            let response = self.host.send(&call).await?;
            let response = self.host.expect(&call, response, &[200]).await?;
            let link = text(response.headers(), LINK.as_str());
            let next = link.as_deref().and_then(answer::next).map(|next| url.join(next));
            let bytes = self.host.body(response, MAX_DOCUMENT, &what).await?;
            let tags: Tags =
                serde_json::from_slice(&bytes).map_err(|e| self.host.wrong(&what, &e))?;
            found.extend(tags.tags.unwrap_or_default());
            match next {
                Some(Ok(next)) if next.origin() == url.origin() => url = next,
                Some(_) => {
                    return Err(self.host.wrong(&what, &"it goes on at another registry"));
                }
                None => {
                    found.sort();
                    return Ok(found);
                }
            }
        }
        Err(self.host.wrong(&what, &"it has no end"))
    }

    pub fn blob_url(&self, digest: &Digest) -> Result<reqwest::Url, Error> {
        self.host.url(&format!("{}/blobs/{digest}", self.path))
    }
}

/// What a name is asked for by: its digest, else its tag.
pub(crate) fn selector(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}

/// The tag under which the list of a document's referrers is, where the registry keeps none.
fn tag_of(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// How a list of referrers describes a document.
fn describe(document: &Document) -> Descriptor {
    let mut descriptor = document.descriptor.clone();
    descriptor.set_artifact_type(document.artifact_type().map(|kind| kind.as_str().into()));
    let annotations = match &document.kind {
        document::Kind::Manifest(manifest) => manifest.annotations().clone(),
        document::Kind::Index(index) => index.annotations().clone(),
    };
    descriptor.set_annotations(annotations);
    descriptor
}

pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
