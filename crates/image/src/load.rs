//! Images into the store from a tar archive: an OCI image layout, or what `docker save` and
//! `podman save` wrote before there were layouts. The archive may be compressed.
//!
//! It is read once, from its beginning to its end, since it may be a pipe: every file that can
//! be a blob becomes one while it passes, whatever the order. Names are given last, when all
//! that they reach is known to be there. Nothing in the archive is trusted.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use koskit_llb::{Digest, Reference};
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifestBuilder, MediaType,
};
use serde::Deserialize;

use crate::compress::Decoder;
use crate::image::digest;
use crate::layer::{EntryKind, LayerError, Reader};
use crate::save::FULL_NAME;
use crate::store::{is_manifest, ref_name, to_oci_digest};
use crate::{Error, Limits, Store, json};

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its name, if the archive has one for it.
    pub reference: Option<Reference>,
    /// Of its manifest or index.
    pub descriptor: Descriptor,
}

/// Files of an archive at most; more are no image's.
const MAX_FILES: usize = 100_000;
/// Bytes of all documents that are kept in memory.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// What an archive held.
#[derive(Default)]
struct Archive {
    /// Small files by path.
    documents: BTreeMap<PathBuf, Vec<u8>>,
    /// Files that became blobs.
    blobs: BTreeMap<PathBuf, (Digest, u64)>,
    /// Symbolic and hard links.
    links: BTreeMap<PathBuf, PathBuf>,
}

/// `manifest.json` of docker.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OldManifest {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<PathBuf>>,
}

impl Store {
    /// Loads all images of an archive, and lets their names stand for them.
    ///
    /// # Errors
    /// The archive is none, is damaged, or lacks something of an image; no name is changed,
    /// then, and what was read is left for [`Store::prune`]. Or the store cannot be written.
    pub fn load(&self, archive: impl Read) -> Result<Vec<Loaded>, Error> {
        let archive = self.read_archive(archive)?;
        let index = archive.documents.get(Path::new("index.json"));
        let loaded = match index {
            Some(index) => self.layout(&archive, index)?,
            None => self.old_layout(&archive)?,
        };
        for image in &loaded {
            if let Some(reference) = &image.reference {
                self.tag(reference, &image.descriptor)?;
            }
        }
        Ok(loaded)
    }

    fn read_archive(&self, archive: impl Read) -> Result<Archive, Error> {
        let failed = |e: LayerError| Error::Archive(e);
        let decoder = Decoder::new(archive).map_err(|e| failed(LayerError::Read(e)))?;
        let limits = Limits { content: u64::MAX, metadata: 64 << 20 };
        let mut reader = Reader::new(decoder, &limits);
        let mut out = Archive::default();
        let mut kept = 0;
        while let Some(entry) = reader.next().map_err(failed)? {
            if out.documents.len() + out.blobs.len() + out.links.len() > MAX_FILES {
                return Err(unfit("it has more than 100,000 files"));
            }
            let path = entry.path;
            match entry.kind {
                EntryKind::File(size) if is_document(&path) && size <= json::MAX_DOCUMENT => {
                    kept += size;
                    if kept > MAX_DOCUMENTS {
                        return Err(unfit("its documents are larger than 64 MiB together"));
                    }
                    let mut bytes = Vec::new();
                    let mut content = reader.content();
                    let read = content.read_to_end(&mut bytes);
                    read.map_err(|e| failed(content.failed(e)))?;
                    out.documents.insert(path, bytes);
                }
                EntryKind::File(size) if is_blob(&path) => {
                    let blob = self.read_blob(&path, size, &mut reader)?;
                    out.blobs.insert(path, (blob, size));
                }
                EntryKind::Link(target) => {
                    out.links.insert(path, target);
                }
                EntryKind::Symlink(target) => {
                    let from = path.parent().unwrap_or(Path::new(""));
                    let target = koskit_llb::path::clean(&from.join(target).to_string_lossy());
                    out.links.insert(path, target.into());
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// Keeps a file as a blob. One that stands at its digest's path is to have that digest.
    fn read_blob<R: Read>(
        &self,
        path: &Path,
        size: u64,
        reader: &mut Reader<R>,
    ) -> Result<Digest, Error> {
        let named = path.strip_prefix("blobs/sha256").ok();
        let named = named.map(|hex| format!("sha256:{}", hex.display()).parse::<Digest>());
        let mut writer = self.blob_writer()?;
        let mut content = reader.content();
        if let Err(e) = io::copy(&mut content, &mut writer) {
            // Which of the two failed, nobody says; a full disk has its own kind.
            return Err(match e.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Error::file("write", self.blobs())(e)
                }
                _ => Error::Archive(content.failed(e)),
            });
        }
        match named {
            Some(Ok(digest)) => {
                writer.finish_as(&digest, size)?;
                Ok(digest)
            }
            Some(Err(_)) => Err(unfit(&format!("{path:?} is no digest"))),
            None => Ok(writer.finish()?.0),
        }
    }

    /// The images of an OCI image layout.
    fn layout(&self, archive: &Archive, index: &[u8]) -> Result<Vec<Loaded>, Error> {
        let index: ImageIndex = json::read(index, "the archive's index.json")?;
        let mut loaded = Vec::new();
        for descriptor in index.manifests() {
            self.check_complete(archive, descriptor)?;
            let annotation = |name| descriptor.annotations().as_ref().and_then(|a| a.get(name));
            let full =
                annotation(FULL_NAME).or_else(|| ref_name(descriptor).filter(|n| is_full(n)));
            let reference = match full {
                Some(name) => Some(name.parse::<Reference>().map_err(|e| unfit(&e.to_string()))?),
                None => None,
            };
            let mut descriptor = descriptor.clone();
            descriptor.set_annotations(None);
            // Only images and indexes of them have names in a store.
            loaded.push(Loaded { reference: reference.map(Reference::tagged), descriptor });
        }
        if loaded.is_empty() {
            return Err(unfit("it has no images"));
        }
        Ok(loaded)
    }

    /// All that a name will reach is in the archive, or is here already. Of an index, one
    /// image is enough: an archive may have some of the platforms only.
    fn check_complete(&self, archive: &Archive, descriptor: &Descriptor) -> Result<(), Error> {
        let digest = digest(descriptor)?;
        // A document that came by must be what it was named; others were checked when they came.
        if !archive.blobs.values().any(|(blob, _)| *blob == digest) && !self.has_blob(&digest) {
            return Err(Error::MissingBlob(digest));
        }
        let manifests = self.manifests(descriptor)?;
        if manifests.is_empty() {
            let missing = self.reach_all(descriptor)?.into_iter().find(|d| !self.can_have(d));
            if is_manifest(descriptor.media_type()) {
                self.image(descriptor)?;
            }
            return missing.map_or(Ok(()), |digest| Err(Error::MissingBlob(digest)));
        }
        let mut last = Ok(());
        for manifest in &manifests {
            match self.check_complete(archive, manifest) {
                Ok(()) => return Ok(()),
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// The images of an archive of docker's older form.
    fn old_layout(&self, archive: &Archive) -> Result<Vec<Loaded>, Error> {
        let Some(manifest) = archive.documents.get(Path::new("manifest.json")) else {
            return Err(unfit("it has neither index.json nor manifest.json"));
        };
        let manifests: Vec<OldManifest> = json::read(manifest, "the archive's manifest.json")?;
        let mut loaded = Vec::new();
        for manifest in manifests {
            let descriptor = self.old_image(archive, &manifest)?;
            let mut names = Vec::new();
            for name in manifest.repo_tags.iter().flatten() {
                names.push(name.parse::<Reference>().map_err(|e| unfit(&e.to_string()))?.tagged());
            }
            if names.is_empty() {
                loaded.push(Loaded { reference: None, descriptor: descriptor.clone() });
            }
            let named = names.into_iter().map(Some);
            loaded.extend(
                named.map(|reference| Loaded { reference, descriptor: descriptor.clone() }),
            );
        }
        if loaded.is_empty() {
            return Err(unfit("it has no images"));
        }
        Ok(loaded)
    }

    /// Makes a manifest for an image that has none. The configuration's bytes stay as they are,
    /// and with them the image's ID.
    fn old_image(&self, archive: &Archive, old: &OldManifest) -> Result<Descriptor, Error> {
        let config = archive.document(&old.config);
        let config = match config {
            Some(bytes) => bytes.to_vec(),
            None => {
                let (digest, size) = archive.blob(&old.config)?;
                let media_type = MediaType::ImageConfig;
                self.document(&Descriptor::new(media_type, size, to_oci_digest(&digest)))?
            }
        };
        let what = format!("the image configuration {:?}", old.config);
        let parsed: ImageConfiguration = json::read(&config, &what)?;
        let paths = old.layers.as_deref().unwrap_or_default();
        let diff_ids = parsed.rootfs().diff_ids();
        if paths.len() != diff_ids.len() {
            let why = format!("it has {} layers, its image {}", diff_ids.len(), paths.len());
            return Err(Error::Invalid { what, why });
        }
        let mut layers = Vec::new();
        for (path, diff_id) in paths.iter().zip(diff_ids) {
            let (digest, size) = archive.blob(path)?;
            let media_type = self.compression(&digest)?;
            if media_type == MediaType::ImageLayer && digest.as_str() != diff_id {
                let why = format!("its layer {path:?} should have the digest {diff_id}");
                return Err(Error::Invalid { what, why });
            }
            layers.push(Descriptor::new(media_type, size, to_oci_digest(&digest)));
        }
        let config = self.add_document(MediaType::ImageConfig, &config)?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers)
            .build()
            .expect("all fields are set");
        let descriptor = self.add_document(MediaType::ImageManifest, &json::write(&manifest))?;
        self.image(&descriptor)?;
        Ok(descriptor)
    }

    /// What a layer is, by its first bytes.
    fn compression(&self, layer: &Digest) -> Result<MediaType, Error> {
        let mut blob = self.blob(layer, self.blob_size(layer)?)?;
        let mut first = [0; 4];
        let read = blob.read(&mut first).map_err(Error::file("read", self.blob_path(layer)))?;
        Ok(match &first[..read] {
            [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
            [0x28, 0xb5, 0x2f, 0xfd] => MediaType::ImageLayerZstd,
            _ => MediaType::ImageLayer,
        })
    }
}

impl Archive {
    /// Where a path leads; a link to a link is followed, but not for ever.
    fn follow<'a>(&'a self, path: &'a Path) -> &'a Path {
        let mut at = path;
        for _ in 0..8 {
            match self.links.get(at) {
                Some(target) => at = target,
                None => break,
            }
        }
        at
    }

    fn document(&self, path: &Path) -> Option<&[u8]> {
        self.documents.get(self.follow(path)).map(Vec::as_slice)
    }

    fn blob(&self, path: &Path) -> Result<(Digest, u64), Error> {
        let blob = self.blobs.get(self.follow(path)).cloned();
        blob.ok_or_else(|| unfit(&format!("it lacks {path:?}, which an image in it needs")))
    }
}

/// Whether a file is kept in memory while the archive is read.
fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Whether a file can be a blob. `VERSION`, `json` and others of docker's first form are not.
fn is_blob(path: &Path) -> bool {
    path.starts_with("blobs") || path.extension().is_some_and(|extension| extension == "tar")
}

/// A tag alone, as skopeo writes it, is no name.
fn is_full(name: &str) -> bool {
    name.contains(['/', ':'])
}

fn unfit(why: &str) -> Error {
    Error::Invalid { what: "the archive".into(), why: why.into() }
}
