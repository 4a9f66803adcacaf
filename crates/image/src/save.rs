//! Images out of the store as one tar archive, for `docker load` of any age, `podman load`,
//! `skopeo` (`oci-archive:` and `docker-archive:`) and [`Store::load`].
//!
//! It is an OCI image layout, and has a `manifest.json` besides, which is what docker read
//! before it knew layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use koskit_llb::{Digest, Reference};
use oci_spec::image::Descriptor;
use serde_json::json;

use crate::image::digest;
use crate::layer::{Entry, EntryKind, Writer};
use crate::store::{LAYOUT, REF_NAME, empty_index};
use crate::{Error, Image, Store, json};

/// The annotation of a full name.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Writes images as one archive: the same images and names give the same bytes. An image
    /// of several platforms comes with all of them that are here.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the archive cannot be written.
    pub fn save(
        &self,
        images: &[(Option<Reference>, Descriptor)],
        to: impl Write,
    ) -> Result<(), Error> {
        let mut blobs: BTreeSet<Digest> = BTreeSet::new();
        let mut descriptors = Vec::new();
        let mut compatible: BTreeMap<String, serde_json::Value> = BTreeMap::new();
        for (name, descriptor) in images {
            blobs.extend(self.saved(descriptor)?);
            let mut descriptor = descriptor.clone();
            descriptor.set_annotations(name.as_ref().map(|name| {
                let name = name.clone().tagged();
                let tag = name.tag().unwrap_or("latest").to_owned();
                [(REF_NAME.to_owned(), tag), (FULL_NAME.to_owned(), name.to_string())].into()
            }));
            if !descriptors.contains(&descriptor) {
                descriptors.push(descriptor.clone());
            }
            if let Some(image) = self.first_image(&descriptor)? {
                let entry = compatible.entry(image.id().to_string());
                let entry = entry.or_insert_with(|| old_manifest(&image));
                let tags = entry["RepoTags"].as_array_mut().expect("it is made as one");
                tags.extend(name.as_ref().map(|name| name.familiar().into()));
            }
        }
        let mut index = empty_index();
        index.set_manifests(descriptors);
        let index = json::write(&index);
        let compatible: Vec<_> = compatible.into_values().collect();
        let compatible = json::write(&compatible);

        let mut writer = Writer::new(to);
        let write = |e: io::Error| {
            e.downcast::<Error>().unwrap_or_else(Error::file("write", "the archive"))
        };
        for name in ["blobs", "blobs/sha256"] {
            writer.entry(&entry(name, EntryKind::Directory)).map_err(write)?;
        }
        for digest in blobs {
            let size = self.blob_size(&digest)?;
            let name = format!("blobs/sha256/{}", digest.hex());
            writer.entry(&entry(&name, EntryKind::File(size))).map_err(write)?;
            let mut blob = self.blob(&digest, size)?;
            writer.content(&mut blob, size).map_err(write)?;
            // The read that gives no bytes is the one that checks the digest.
            io::copy(&mut blob, &mut io::sink()).map_err(write)?;
        }
        let documents = [
            ("index.json", &index[..]),
            ("manifest.json", &compatible[..]),
            ("oci-layout", LAYOUT),
        ];
        for (name, bytes) in documents {
            let size = bytes.len() as u64;
            writer.entry(&entry(name, EntryKind::File(size))).map_err(write)?;
            writer.content(&mut &bytes[..], size).map_err(write)?;
        }
        writer.finish().map_err(write)
    }

    /// The blobs of an image. Of an index, those manifests that are here come with all of
    /// theirs.
    fn saved(&self, descriptor: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let manifests = self.manifests(descriptor)?;
        if manifests.is_empty() {
            let all = self.reach_all(descriptor)?;
            if let Some(missing) = all.iter().find(|digest| !self.has_blob(digest)) {
                return Err(Error::MissingBlob(missing.clone()));
            }
            return Ok(all);
        }
        let mut all = BTreeSet::from([digest(descriptor)?]);
        for manifest in manifests {
            if self.has_blob(&digest(&manifest)?) {
                all.extend(self.saved(&manifest)?);
            }
        }
        Ok(all)
    }

    /// The image, or the first of several that is here.
    fn first_image(&self, descriptor: &Descriptor) -> Result<Option<Image>, Error> {
        for (_, descriptor) in self.platforms(descriptor)? {
            if self.has_blob(&digest(&descriptor)?) {
                return self.image(&descriptor).map(Some);
            }
        }
        Ok(None)
    }

    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<u64, Error> {
        let path = self.blob_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::MissingBlob(digest.clone()))
            }
            Err(e) => Err(Error::file("read", path)(e)),
        }
    }
}

fn old_manifest(image: &Image) -> serde_json::Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let layers: Vec<_> = image.layers.iter().map(|layer| path(&layer.digest)).collect();
    json!({ "Config": path(&image.id()), "RepoTags": [], "Layers": layers })
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let (uid, gid, mtime, xattrs) = (0, 0, 0, BTreeMap::new());
    Entry { path: path.into(), kind, mode, uid, gid, mtime, xattrs }
}
