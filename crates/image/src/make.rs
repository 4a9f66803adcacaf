//! Images and indexes that are made.

use std::collections::BTreeMap;

use koskit_llb::Platform;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType};
use serde::Serialize;

use crate::compress::Compression;
use crate::image::to_oci;
use crate::store::{empty_index, to_oci_digest};
use crate::{Error, Image, Layer, Store, json};

/// Notes in a manifest, an index or a descriptor, by their names.
pub type Annotations = BTreeMap<String, String>;

/// In what form an image or an index is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// With the media types of docker's own formats, instead of the OCI's. Annotations have no
    /// place in those, but are written all the same, as BuildKit does.
    pub docker: bool,
    /// The annotations of the manifest or the index.
    pub annotations: Annotations,
}

/// An image for an index.
#[derive(Clone, Debug)]
pub struct Variant {
    /// What it is for.
    pub platform: Platform,
    /// Of its manifest.
    pub descriptor: Descriptor,
    /// The annotations of the descriptor.
    pub annotations: Annotations,
}

impl Store {
    /// Makes an image of a configuration and layers, the lowest first. The configuration is an
    /// [`ImageConfiguration`] or JSON with more than that; its `rootfs` is set here.
    ///
    /// # Errors
    /// The configuration is not valid, a layer is not in the store and nobody knows where it is,
    /// or the store cannot be written.
    pub fn add_image_as(
        &self,
        config: &impl Serialize,
        layers: &[Layer],
        form: &Form,
    ) -> Result<Image, Error> {
        let what = "the image's configuration";
        let invalid = |why: &str| Error::Invalid { what: what.into(), why: why.into() };
        if let Some(layer) = layers.iter().find(|layer| !self.can_have(&layer.digest)) {
            return Err(Error::MissingBlob(layer.digest.clone()));
        }
        let config = serde_json::to_value(config);
        let mut config = config.map_err(|source| Error::Json { what: what.into(), source })?;
        let fields = config.as_object_mut().ok_or_else(|| invalid("it is no JSON object"))?;
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        fields
            .insert("rootfs".into(), serde_json::json!({ "type": "layers", "diff_ids": diff_ids }));
        let bytes = json::write(&config);
        let _: ImageConfiguration = json::read(&bytes, what)?;
        let (of_config, of_manifest) = match form.docker {
            false => (MediaType::ImageConfig, MediaType::ImageManifest),
            true => (
                "application/vnd.docker.container.image.v1+json".into(),
                "application/vnd.docker.distribution.manifest.v2+json".into(),
            ),
        };
        let config = self.add_document(of_config, &bytes)?;
        let layers = layers.iter().map(|layer| {
            let digest = to_oci_digest(&layer.digest);
            Descriptor::new(media_type(&layer.media_type, form.docker), layer.size, digest)
        });
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(of_manifest.clone())
            .config(config)
            .layers(layers.collect::<Vec<_>>())
            .build()
            .expect("all fields are set");
        manifest.set_annotations(annotations(&form.annotations));
        let descriptor = self.add_document(of_manifest, &json::write(&manifest))?;
        self.image(&descriptor)
    }

    /// Makes an index of several images.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_index_as(&self, images: &[Variant], form: &Form) -> Result<Descriptor, Error> {
        let mut images: Vec<&Variant> = images.iter().collect();
        images.sort_by(|a, b| a.platform.cmp(&b.platform));
        let manifests = images.into_iter().map(|image| {
            let mut descriptor = image.descriptor.clone();
            descriptor.set_platform(Some(to_oci(&image.platform)));
            descriptor.set_annotations(annotations(&image.annotations));
            descriptor
        });
        let mut index = empty_index();
        index.set_manifests(manifests.collect());
        let media_type = match form.docker {
            false => MediaType::ImageIndex,
            true => "application/vnd.docker.distribution.manifest.list.v2+json".into(),
        };
        index.set_media_type(Some(media_type.clone()));
        index.set_annotations(annotations(&form.annotations));
        self.add_document(media_type, &json::write(&index))
    }
}

/// Annotations as the crate `oci-spec` has them.
pub(crate) fn annotations(
    given: &Annotations,
) -> Option<std::collections::HashMap<String, String>> {
    Some(given.clone().into_iter().collect()).filter(|_| !given.is_empty())
}

/// What a layer is called in a manifest of the OCI's or of docker's.
fn media_type(own: &MediaType, docker: bool) -> MediaType {
    const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    let kinds = [Compression::Gzip(0), Compression::Zstd(1), Compression::None];
    let kind = kinds.into_iter().find(|kind| kind.is_of(own)).unwrap_or(Compression::None);
    if !docker {
        // Others may mean something that we do not know.
        return if own.as_ref().starts_with(DOCKER) { kind.media_type() } else { own.clone() };
    }
    match kind {
        Compression::Gzip(_) => format!("{DOCKER}.gzip").as_str().into(),
        Compression::Zstd(_) => format!("{DOCKER}.zstd").as_str().into(),
        Compression::None => DOCKER.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_image_in_docker_s_form_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let layers = [Compression::None, Compression::Gzip(1), Compression::Zstd(3)].map(|kind| {
            let mut writer = store.layer_writer(kind).unwrap();
            writer.write_all(&[0; 1024]).unwrap();
            writer.finish().unwrap()
        });
        let config = serde_json::json!({ "os": "linux", "architecture": "arm64" });
        let note = || Annotations::from([("a".into(), "b".into())]);
        let form = Form { docker: true, annotations: note() };
        let image = store.add_image_as(&config, &layers, &form).unwrap();
        let names: Vec<&str> = image.layers.iter().map(|l| l.media_type.as_ref()).collect();
        let docker = "application/vnd.docker.image.rootfs.diff.tar";
        assert_eq!(names, [docker.into(), format!("{docker}.gzip"), format!("{docker}.zstd")]);
        assert_eq!(image.manifest.annotations().as_ref().unwrap()["a"], "b");
        // And back: the same layers make the same image as ever.
        let again = store.add_image(&config, &image.layers).unwrap();
        assert_eq!(again.digest(), store.add_image(&config, &layers).unwrap().digest());

        let platform = image.platform.clone();
        let descriptor = image.descriptor.clone();
        let variant = Variant { platform: platform.clone(), descriptor, annotations: note() };
        let index = store.add_index_as(&[variant], &form).unwrap();
        assert_eq!(store.platforms(&index).unwrap()[0].0, platform);
        let document = store.document(&index).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["annotations"]["a"], "b");
        assert_eq!(document["manifests"][0]["annotations"]["a"], "b");
    }
}
