//! One image for one platform.

use koskit_llb::{Digest, Platform};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};

use crate::Error;

/// An image of a [`crate::Store`], for one platform: its manifest and configuration are read
/// and agree with each other, its layers are named.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest, with the platform.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration, as far as the OCI describes it.
    pub config: ImageConfiguration,
    /// The whole configuration, with what Docker adds (`Healthcheck`, `Shell`, `OnBuild`).
    pub config_json: serde_json::Value,
    /// What it is for, as the configuration says.
    pub platform: Platform,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
}

/// A layer, by name: the blob, and the tar archive in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What the blob says it is.
    pub media_type: MediaType,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The digest of the tar archive, uncompressed.
    pub diff_id: Digest,
}

impl Image {
    /// The manifest's digest.
    pub fn digest(&self) -> Digest {
        digest(&self.descriptor).expect("it was read by its digest")
    }

    /// The configuration's digest, which Docker calls the image's ID.
    pub fn id(&self) -> Digest {
        digest(self.manifest.config()).expect("it was read by its digest")
    }

    /// Bytes of all blobs together.
    pub fn size(&self) -> u64 {
        let layers = self.layers.iter().map(|layer| layer.size).sum::<u64>();
        self.descriptor.size() + self.manifest.config().size() + layers
    }

    /// Puts the parts together.
    pub(crate) fn new(
        mut descriptor: Descriptor,
        manifest: ImageManifest,
        config: ImageConfiguration,
        config_json: serde_json::Value,
    ) -> Result<Self, Error> {
        let what = || format!("the image {}", descriptor.digest());
        let invalid = |why: String| Error::Invalid { what: what(), why };
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != manifest.layers().len() {
            let (layers, ids) = (manifest.layers().len(), diff_ids.len());
            return Err(invalid(format!(
                "its manifest has {layers} layers, its configuration {ids}"
            )));
        }
        let layers = manifest.layers().iter().zip(diff_ids).map(|(blob, diff_id)| {
            Ok(Layer {
                media_type: blob.media_type().clone(),
                digest: digest(blob)?,
                size: blob.size(),
                diff_id: diff_id.parse().map_err(|e| invalid(format!("{e}")))?,
            })
        });
        let layers = layers.collect::<Result<_, Error>>()?;
        let variant = config.variant().as_deref().unwrap_or_default();
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        let platform = Platform::new(&os, &architecture, variant);
        descriptor.set_platform(Some(to_oci(&platform)));
        Ok(Self { descriptor, manifest, config, config_json, platform, layers })
    }
}

/// A descriptor's digest. Only SHA-256 is read.
pub(crate) fn digest(descriptor: &Descriptor) -> Result<Digest, Error> {
    let text = descriptor.digest().as_ref();
    text.parse().map_err(|e| Error::Invalid { what: "a descriptor".into(), why: format!("{e}") })
}

/// What a descriptor says that its target is for.
pub(crate) fn platform(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    let variant = platform.variant().as_deref().unwrap_or_default();
    Some(Platform::new(&platform.os().to_string(), &platform.architecture().to_string(), variant))
}

pub(crate) fn to_oci(platform: &Platform) -> oci_spec::image::Platform {
    let mut oci = oci_spec::image::Platform::default();
    oci.set_os(platform.os.as_str().into());
    oci.set_architecture(platform.architecture.as_str().into());
    oci.set_variant(Some(platform.variant.clone()).filter(|variant| !variant.is_empty()));
    oci
}
