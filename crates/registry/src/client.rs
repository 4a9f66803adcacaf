//! The face of this crate: calls that return when all is done.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use koskit_image::{Fetch, Layer, Store};
use koskit_llb::{Digest, Platform, Reference};
use oci_spec::image::{Descriptor, MediaType};
use tokio::runtime::Runtime;

use crate::credentials::{Credential, Credentials, Secret};
use crate::document::{self, Document};
use crate::host::Host;
use crate::progress::{Part, Progress};
use crate::pull::{self, Pulled};
use crate::push;
use crate::repository::{Blob, Repository, selector};
use crate::upload::{Source, upload};
use crate::{Error, auth, copy, download};

/// Docker's registry, as names have it.
pub const DOCKER_HUB: &str = "docker.io";

/// How registries are talked to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who we are.
    pub credentials: Credentials,
    /// Certificates of authorities to trust besides the system's, in PEM.
    pub ca_files: Vec<PathBuf>,
    /// Allow plain HTTP and any certificate. Registries on this machine may speak plain HTTP
    /// anyway.
    pub insecure: bool,
    /// Blobs that move at once. Of those that are sent, most wait for the registry's disk.
    pub parallel: usize,
    /// How often something that failed is tried again.
    pub retries: u32,
    /// The pause before the first of these attempts; it doubles each time.
    pub backoff: Duration,
    /// How long an answer may take, a connection may be silent, and a registry may ask to wait.
    pub patience: Duration,
    /// Send blobs in chunks of so many bytes, rather than in one request each.
    pub chunk: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: Credentials::user(),
            ca_files: Vec::new(),
            insecure: false,
            parallel: 6,
            retries: 5,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(60),
            chunk: None,
        }
    }
}

/// A client for any number of registries. What it has learnt of one (how to reach it, tokens) it
/// keeps as long as it lives.
///
/// It makes threads when it is used for the first time, which end with it.
pub struct Client {
    session: Session,
    runtime: OnceLock<Runtime>,
}

/// What the parts of this crate share.
pub(crate) struct Session {
    pub options: Options,
    hosts: tokio::sync::Mutex<HashMap<String, Arc<Host>>>,
}

impl Session {
    /// A repository, and the rights to `pull` or `pull,push`.
    pub async fn repository(&self, name: &Reference, actions: &str) -> Result<Repository, Error> {
        // Who asks for the same one at the same time waits for the first.
        let mut hosts = self.hosts.lock().await;
        let host = match hosts.get(name.domain()) {
            Some(host) => Arc::clone(host),
            None => {
                let host = Arc::new(Host::find(name.domain(), &self.options, None).await?);
                hosts.insert(name.domain().to_owned(), Arc::clone(&host));
                host
            }
        };
        Ok(Repository::new(host, name.path(), actions))
    }
}

impl Client {
    /// A client. Nothing is asked of anybody yet.
    pub fn new(options: Options) -> Self {
        let session = Session { options, hosts: tokio::sync::Mutex::default() };
        Self { session, runtime: OnceLock::new() }
    }

    /// How it talks.
    pub fn options(&self) -> &Options {
        &self.session.options
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                // The network needs one thread, the caller's; what blocks gets others.
                let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let made = made.map_err(Error::Runtime)?;
                // Where two came at once, one of them is as good.
                self.runtime.get_or_init(|| made)
            }
        };
        runtime.block_on(work)
    }

    /// Brings the manifest and the configuration of an image into the store, but no layers: what
    /// is needed to build on it. Where the layers are is noted ([`Store::note_source`]). Nothing
    /// is named.
    ///
    /// # Errors
    /// The registry cannot be reached or has no such image for the platform, or what it gives is
    /// not valid.
    pub fn resolve(
        &self,
        name: &Reference,
        platform: &Platform,
        store: &Store,
    ) -> Result<Pulled, Error> {
        self.run(pull::pull(&self.session, name, Some(platform), store, false, &|_| {}))
    }

    /// Brings an image into the store: that for a platform, or, without one, all that is under
    /// this name. Layers that are there already are not fetched. Nothing is named.
    ///
    /// # Errors
    /// As [`Client::resolve`]. What has arrived whole stays.
    pub fn pull(
        &self,
        name: &Reference,
        platform: Option<&Platform>,
        store: &Store,
        progress: Progress<'_>,
    ) -> Result<Pulled, Error> {
        self.run(pull::pull(&self.session, name, platform, store, true, progress))
    }

    /// Brings one layer of an image into the store.
    ///
    /// # Errors
    /// The registry cannot be reached, has no such blob, or gives another one.
    pub fn layer(
        &self,
        name: &Reference,
        layer: &Layer,
        store: &Store,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let blob = Blob { digest: layer.digest.clone(), size: layer.size };
        self.blob_into(name, blob, store, progress)
    }

    /// Sends an image of the store, or an index with all that it lists, and names it.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses it, or a part is neither here nor there.
    pub fn push(
        &self,
        store: &Store,
        target: &Descriptor,
        name: &Reference,
        progress: Progress<'_>,
    ) -> Result<Digest, Error> {
        self.run(push::push(&self.session, store, target, name, progress))
    }

    /// Copies what is under a name to another name, there or in another registry: an index with
    /// all that it lists, and what refers to it. Blobs do not touch this machine's disk.
    ///
    /// # Errors
    /// As those of [`Client::pull`] and [`Client::push`].
    pub fn copy(
        &self,
        from: &Reference,
        to: &Reference,
        what: copy::What,
        progress: Progress<'_>,
    ) -> Result<Digest, Error> {
        self.run(copy::copy(&self.session, from, to, what, progress))
    }

    /// The manifest or index under a name.
    ///
    /// # Errors
    /// The registry cannot be reached, has none, or gives one that is not valid.
    pub fn document(&self, name: &Reference) -> Result<Document, Error> {
        self.run(async { self.session.repository(name, "pull").await?.document(name).await })
    }

    /// Writes a manifest or an index under a name. The blobs and manifests that it lists must be
    /// there.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses it.
    pub fn put_document(&self, name: &Reference, document: &Document) -> Result<(), Error> {
        self.run(async {
            let to = self.session.repository(name, "pull,push").await?;
            to.write_document(&selector(name), document).await
        })
    }

    /// A blob of a repository, in memory. `limit` is the most bytes that it may have.
    ///
    /// # Errors
    /// As [`Client::layer`], or it is larger.
    pub fn blob(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let blob = self.described(name, descriptor)?;
        self.run(async {
            let from = self.session.repository(name, "pull").await?;
            download::bytes(&from, &blob, limit).await
        })
    }

    /// Sends a small blob to a repository.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses it.
    pub fn put_blob(
        &self,
        name: &Reference,
        media_type: MediaType,
        bytes: Vec<u8>,
    ) -> Result<Descriptor, Error> {
        let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        let digest = document::to_oci(&blob.digest);
        let source = Source::Bytes(Bytes::from(bytes));
        self.run(async {
            let to = self.session.repository(name, "pull,push").await?;
            upload(&to, &blob, Part::Layer, &source, &[], &|_| {}).await
        })?;
        Ok(Descriptor::new(media_type, blob.size, digest))
    }

    /// Brings a blob of a repository into the store.
    ///
    /// # Errors
    /// As [`Client::layer`].
    pub fn pull_blob(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        store: &Store,
    ) -> Result<(), Error> {
        let blob = self.described(name, descriptor)?;
        self.blob_into(name, blob, store, &|_| {})
    }

    /// Sends a blob of the store to a repository.
    ///
    /// # Errors
    /// The registry cannot be reached or refuses it, or the store has no such blob.
    pub fn push_blob(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        store: &Store,
    ) -> Result<(), Error> {
        let blob = self.described(name, descriptor)?;
        self.run(async {
            let to = self.session.repository(name, "pull,push").await?;
            upload(&to, &blob, Part::Layer, &Source::Store(store), &[], &|_| {}).await
        })
    }

    /// What refers to a document, such as its signatures and attestations: the descriptors of
    /// their manifests. The name has the digest of the document.
    ///
    /// # Errors
    /// The registry cannot be reached or gives what is not valid, or the name has no digest.
    pub fn referrers(&self, name: &Reference) -> Result<Vec<Descriptor>, Error> {
        let why = "has no digest, and only documents that are named by one are referred to";
        let digest =
            name.digest().ok_or_else(|| Error::Name { name: Box::new(name.clone()), why })?;
        self.run(async { self.session.repository(name, "pull").await?.referrers(digest).await })
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// The registry cannot be reached or has no such repository.
    pub fn tags(&self, name: &Reference) -> Result<Vec<String>, Error> {
        self.run(async { self.session.repository(name, "pull").await?.tags().await })
    }

    /// Asks a registry whether it knows a user, and gives what to keep of that: an identity token
    /// where it has such, else the password.
    ///
    /// # Errors
    /// It cannot be reached, or does not know the user.
    pub fn check(&self, domain: &str, user: &str, password: Secret) -> Result<Credential, Error> {
        let given = Credential::Password { user: user.into(), password: password.clone() };
        self.run(async {
            let host = Host::find(domain, &self.session.options, Some(given.clone())).await?;
            match host.log_in().await? {
                Some((realm, service)) => {
                    let service = service.as_deref();
                    let token = auth::identity(&host, &realm, service, user, &password).await?;
                    Ok(token.map_or(given, Credential::IdentityToken))
                }
                None => Ok(given),
            }
        })
    }

    fn blob_into(
        &self,
        name: &Reference,
        blob: Blob,
        store: &Store,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        self.run(async {
            let from = self.session.repository(name, "pull").await?;
            download::into_store(&from, &blob, Part::Layer, store, progress).await
        })
    }

    fn described(&self, name: &Reference, descriptor: &Descriptor) -> Result<Blob, Error> {
        let digest = descriptor.digest().as_ref();
        let digest = digest.parse().map_err(|e: koskit_llb::DigestError| Error::Answer {
            registry: name.domain().into(),
            what: "a descriptor".into(),
            why: e.to_string(),
        })?;
        Ok(Blob { digest, size: descriptor.size() })
    }
}

/// Layers that were not fetched with their image, when they are needed.
impl Fetch for Client {
    fn layer(
        &self,
        image: &Reference,
        layer: &Layer,
        store: &Store,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(Client::layer(self, image, layer, store, &|_| {})?)
    }
}
