//! Documents kept as an image that is none: a manifest whose layers they are, for no platform.

use koskit_image::oci::{Descriptor, MediaType};
use koskit_image::{Error, Store};
use serde_json::json;

/// One document.
pub struct Document {
    pub bytes: Vec<u8>,
    /// Name and value of the one annotation that its layer has.
    pub annotation: (&'static str, String),
}

/// Keeps documents of one media type, in this order.
///
/// # Errors
/// The store cannot be written.
pub fn write(store: &Store, media_type: &str, all: &[Document]) -> Result<Descriptor, Error> {
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for Document { bytes, annotation: (name, value) } in all {
        let digest = store.add_blob(bytes)?;
        layers.push(json!({
            "mediaType": media_type,
            "digest": digest.as_str(),
            "size": bytes.len(),
            "annotations": { *name: value },
        }));
        diff_ids.push(digest.as_str().to_owned());
    }
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = store.add_document(MediaType::ImageConfig, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest,
        "config": config,
        "layers": layers,
    });
    store.add_document(MediaType::ImageManifest, manifest.to_string().as_bytes())
}
