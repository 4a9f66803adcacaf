//! Layers that are elsewhere: an image of a registry may be known before its layers are here.
//!
//! The store holds the manifest and the configuration then, and for each layer that is missing a
//! note of the image that has it. Whoever needs such a layer's files has it fetched; who only
//! names it, as an image that is built on it does, need not.

use std::error::Error as StdError;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use koskit_llb::{Digest, Reference};

use crate::{Error, Layer, Store};

/// Brings layers from where they are.
pub trait Fetch: Send + Sync {
    /// Puts the blob of a layer into the store, from the registry of an image that has it. May be
    /// called from several threads at once.
    ///
    /// # Errors
    /// It cannot be had, as a sentence.
    fn layer(
        &self,
        image: &Reference,
        layer: &Layer,
        store: &Store,
    ) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

impl Store {
    /// Notes that an image, in its registry, has a blob that is not here.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn note_source(&self, blob: &Digest, image: &Reference) -> Result<(), Error> {
        if self.source_of(blob).as_ref() == Some(image) {
            return Ok(());
        }
        let directory = self.path().join("sources");
        fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        let path = directory.join(blob.hex());
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let half = path.with_extension(format!("{}-{next}", std::process::id()));
        let write = || {
            fs::write(&half, image.to_string())?;
            fs::rename(&half, &path)
        };
        write().map_err(Error::file("write", &path))
    }

    /// The image that was noted last for a blob.
    pub fn source_of(&self, blob: &Digest) -> Option<Reference> {
        let path = self.path().join("sources").join(blob.hex());
        fs::read_to_string(path).ok()?.parse().ok()
    }

    /// Whether a blob is here or it is known where it is.
    pub fn can_have(&self, blob: &Digest) -> bool {
        self.has_blob(blob) || self.source_of(blob).is_some()
    }

    /// Fetches those layers of an image that are not here: before it is written somewhere, or run.
    ///
    /// # Errors
    /// One cannot be had, or nobody knows where it is.
    pub fn complete(
        &self,
        layers: &[Layer],
        fetch: &dyn Fetch,
    ) -> Result<(), Box<dyn StdError + Send + Sync>> {
        for layer in layers.iter().filter(|layer| !self.has_blob(&layer.digest)) {
            let from = self.source_of(&layer.digest);
            let from = from.ok_or_else(|| Error::MissingBlob(layer.digest.clone()))?;
            fetch.layer(&from, layer, self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_elsewhere_may_be_part_of_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(b"a layer");
        let layer = Layer {
            media_type: oci_spec::image::MediaType::ImageLayerGzip,
            digest: digest.clone(),
            size: 7,
            diff_id: Digest::of(b"its archive"),
        };
        let config = serde_json::json!({ "architecture": "arm64", "os": "linux" });
        let layers = [layer];
        assert!(matches!(store.add_image(&config, &layers), Err(Error::MissingBlob(_))));
        let from: Reference = "registry.example/base:1".parse().unwrap();
        store.note_source(&digest, &from).unwrap();
        assert_eq!(store.source_of(&digest), Some(from));
        assert!(store.can_have(&digest) && !store.has_blob(&digest));
        assert_eq!(store.add_image(&config, &layers).unwrap().layers, layers);
    }
}
