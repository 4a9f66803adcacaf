//! The images that a Dockerfile names.

use crate::build::layout;
use crate::names;
use crate::registry::Connection;
use koskit_frontend::{BaseImage, ImageResolver, ResolveError};
use koskit_image::{Error, Image, Store};
use koskit_llb::{Digest, Platform, Reference};
use koskit_progress::Progress;
use koskit_registry::Client;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Images for FROM and COPY --from: those of the store, else those of registries, of which only
/// manifest and configuration are fetched.
///
/// It may have threads until it is dropped.
pub struct Images<'a> {
    store: &'a Store,
    client: OnceCell<Client>,
    /// Ask registries first, as names there may have been moved on.
    pull: bool,
    /// The user's OCI layouts, by the names that they have as contexts.
    layouts: BTreeMap<String, PathBuf>,
    progress: Option<&'a Progress>,
}

impl<'a> Images<'a> {
    /// The images that a build can begin with. With `pull`, registries are asked first.
    pub fn new(store: &'a Store, pull: bool) -> Self {
        let (client, layouts) = (OnceCell::new(), BTreeMap::new());
        Self { store, client, pull, layouts, progress: None }
    }

    /// The same, and it shows when a registry is asked.
    pub fn with_progress(self, progress: &'a Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// The same, with the images of the user's OCI layouts.
    pub fn with_layouts(self, layouts: BTreeMap<String, PathBuf>) -> Self {
        Self { layouts, ..self }
    }

    /// The digest of what a name stands for, as BuildKit has it in its graphs: that of the index,
    /// where there is one that this image is in.
    fn named(&self, name: &Reference, image: &Image) -> Option<Digest> {
        let digest = match name.digest() {
            Some(digest) => digest.clone(),
            None => {
                let named = self.store.find(&name.clone().tagged()).ok()??;
                named.digest().as_ref().parse().ok()?
            }
        };
        let known = name.clone().with_digest(digest.clone());
        let found = self.store.resolve(&known, &image.platform).ok()?;
        (found.digest() == image.digest()).then_some(digest)
    }

    fn image(&self, name: &Reference, platform: &Platform) -> anyhow::Result<Image> {
        let here = self.store.resolve(name, platform);
        let asks = match &here {
            // These are made by the SDK, and only here.
            _ if names::is_ours(name) => false,
            Ok(_) => self.pull && name.digest().is_none(),
            Err(Error::NotFound(_) | Error::NoPlatform { .. } | Error::MissingBlob(_)) => true,
            Err(_) => false,
        };
        if !asks {
            return names::resolve(self.store, name, platform);
        }
        let client = self.client.get_or_init(|| Connection::default().client());
        let tagged = name.clone().tagged();
        let resolve = || client.resolve(&tagged, platform, self.store);
        let resolved = match self.progress {
            Some(progress) => {
                progress.step(&format!("[internal] load metadata for {tagged}"), |_| resolve())
            }
            None => resolve(),
        };
        match resolved {
            Ok(pulled) => {
                // The next build finds it here. A name that stands for an image of this machine,
                // of other platforms, goes on to do so.
                let free = !matches!(here, Err(Error::NoPlatform { .. }));
                if tagged.digest().is_none() && free {
                    self.store.tag(&tagged, &pulled.descriptor)?;
                }
                let found = pulled.images.into_iter().find(|image| image.platform == *platform);
                // If there is none, this tells why.
                found.map_or_else(|| names::resolve(self.store, name, platform), Ok)
            }
            Err(error) => Err(names::unknown(self.store, name, error)),
        }
    }
}

impl ImageResolver for Images<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let image = self.image(name, platform)?;
        let config = serde_json::from_value(image.config_json.clone())?;
        let digest = self.named(name, &image).unwrap_or_else(|| image.digest());
        Ok(BaseImage { digest, config })
    }

    fn resolve_layout(
        &self,
        store: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        match self.layouts.get(store) {
            Some(path) => layout::resolve(path, digest, platform),
            None => Err(format!("there is no OCI layout {store} among the build contexts").into()),
        }
    }
}
