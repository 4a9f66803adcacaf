//! The images that a Dockerfile names.

use crate::names;
use crate::registry::Connection;
use koskit_frontend::{BaseImage, ImageResolver, ResolveError};
use koskit_image::{Error, Image, Store};
use koskit_llb::{Platform, Reference};
use koskit_registry::Client;
use std::cell::OnceCell;

/// Images for FROM and COPY --from: those of the store, else those of registries, of which only
/// manifest and configuration are fetched.
///
/// It may have threads until it is dropped.
pub struct Images<'a> {
    store: &'a Store,
    client: OnceCell<Client>,
    /// Ask registries first, as names there may have been moved on.
    pull: bool,
}

impl<'a> Images<'a> {
    /// The images that a build can begin with. With `pull`, registries are asked first.
    pub fn new(store: &'a Store, pull: bool) -> Self {
        Self { store, client: OnceCell::new(), pull }
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
        match client.resolve(&tagged, platform, self.store) {
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
        Ok(BaseImage { digest: image.digest(), config })
    }
}
