//! The images that a Dockerfile names.

use crate::names;
use koskit_frontend::{BaseImage, ImageResolver, ResolveError};
use koskit_image::Store;
use koskit_llb::{Platform, Reference};

/// The images of the store, for FROM and COPY --from.
pub struct Images<'a>(pub &'a Store);

impl ImageResolver for Images<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let image = names::resolve(self.0, name, platform)?;
        let config = serde_json::from_value(image.config_json.clone())?;
        Ok(BaseImage { digest: image.digest(), config })
    }
}
