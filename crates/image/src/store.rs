//! The store: an OCI image layout in the user's data directory.
//!
//! ```text
//! oci-layout      the layout's version
//! index.json      one descriptor for each name
//! blobs/sha256/   manifests, indexes, configurations, layers, each named by its digest
//! pieces/         what parts of compressed layers were made of (see `compress::pieces`)
//! sources/        for layers that are not here, the images in registries that have them
//! ingest/         blobs that are being written
//! lock            held while index.json is changed
//! users           held, shared, by everybody who has the store open
//! ```
//!
//! # Concurrency and killed commands
//! A blob is written into `ingest`, flushed to the disk, and renamed to its digest; `index.json`
//! is replaced by a rename as well. So whoever reads, without any lock, sees whole files, and a
//! command that is killed leaves nothing but a file in `ingest`. Its writer held a lock on it,
//! which the kernel drops with the process; [`Store::open`] removes those that are not locked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use koskit_llb::{Digest, Platform, Reference};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use crate::blob::{LayerReader, Verified, sync_directory};
use crate::compress::Pieces;
use crate::image::{digest, platform};
use crate::json::{self, MAX_DOCUMENT};
use crate::layer::{PackOptions, pack};
use crate::make::{Annotations, Form, Variant};
use crate::partial;
use crate::users::{Alone, Users};
use crate::{
    BlobReader, BlobWriter, Compression, Error, Image, Layer, LayerError, LayerWriter, folders,
};

/// The annotation of a name in `index.json`.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What the file `oci-layout` says.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The largest `index.json` that is read.
const MAX_INDEX: u64 = 64 << 20;

/// A directory of images. Cheap to clone; any number may be open, in any number of processes.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    users: Users,
}

/// A name in a store, and what it stands for.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// The full name, with a tag.
    pub reference: Reference,
    /// Of the manifest or, for several platforms, the index.
    pub descriptor: Descriptor,
    /// Of each platform's manifest.
    pub platforms: Vec<(Platform, Descriptor)>,
}

impl Store {
    /// `$XDG_DATA_HOME/koskit`, by default `~/.local/share/koskit`.
    ///
    /// # Errors
    /// The environment has neither variable, or only relative paths.
    pub fn default_path() -> Result<PathBuf, Error> {
        Ok(folders::data().ok_or(Error::NoHome)?.join("koskit"))
    }

    /// Opens the store in a directory, and makes it where there is none.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let mut store = Self { root: root.into(), users: Users::new() };
        for directory in [store.blobs(), store.ingest()] {
            fs::create_dir_all(&directory).map_err(Error::file("make", directory))?;
        }
        store.users = Users::join(&store.root)?;
        if !store.index_path().exists() || !store.root.join("oci-layout").exists() {
            let _lock = store.lock()?;
            if !store.index_path().exists() {
                store.write_index(&empty_index())?;
            }
            store.replace("oci-layout", LAYOUT)?;
        }
        store.remove_leftovers()?;
        Ok(store)
    }

    /// The directory it is in.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether there is such a blob. Its bytes are not looked at.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Reads a blob, whose digest and size are checked at its end.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<BlobReader, Error> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Verified::new(file, digest.clone(), Some(size))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::MissingBlob(digest.clone()))
            }
            Err(e) => Err(Error::file("read", path)(e)),
        }
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn blob_writer(&self) -> Result<BlobWriter, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Against remove_leftovers, between the making of the file and its lock.
        let _lock = self.ingest_lock(FlockOperation::LockShared)?;
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.ingest().join(format!("{}-{next}", std::process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                // A process of another PID namespace, or one that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::file("make", path)(e)),
            };
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|e| Error::file("lock", &path)(e.into()))?;
            return Ok(BlobWriter::new(file, path, self.blobs()));
        }
    }

    /// Keeps some bytes as a blob.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(Error::file("write", self.blob_path(&digest)))?;
        Ok(writer.finish()?.0)
    }

    /// Reads a layer's tar archive, whose digests are checked at its end.
    ///
    /// # Errors
    /// There is no such blob, or it is compressed in an unknown way.
    pub fn layer(&self, layer: &Layer) -> Result<LayerReader, Error> {
        let blob = self.blob(&layer.digest, layer.size)?;
        let reader = LayerReader::new(blob, layer.diff_id.clone());
        reader
            .map_err(|e| Error::Layer { digest: layer.digest.clone(), source: LayerError::Read(e) })
    }

    /// Begins a layer, to which the tar archive is written.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn layer_writer(&self, compression: Compression) -> Result<LayerWriter, Error> {
        let pieces = Pieces::new(self.pieces(), self.blobs());
        LayerWriter::new(self.blob_writer()?, compression, pieces)
    }

    /// Packs a directory as a layer: see [`pack`].
    ///
    /// # Errors
    /// The directory has what no layer can have, or the store cannot be written.
    pub fn add_layer(&self, directory: &Path, options: &PackOptions) -> Result<Layer, Error> {
        let mut writer = self.layer_writer(options.compression)?;
        pack(directory, &mut writer, options)?;
        writer.finish()
    }

    /// The same layer, compressed in this way: itself if it is, with whatever level.
    ///
    /// # Errors
    /// It is missing or damaged, or the store cannot be written.
    pub fn convert_layer(&self, layer: &Layer, to: Compression) -> Result<Layer, Error> {
        if to.is_of(&layer.media_type) {
            return Ok(layer.clone());
        }
        let mut reader = self.layer(layer)?;
        let mut writer = self.layer_writer(to)?;
        let copied = io::copy(&mut reader, &mut writer);
        copied.map_err(|e| match e.downcast::<Error>() {
            Ok(error) => error,
            Err(e) => Error::file("convert", self.blob_path(&layer.digest))(e),
        })?;
        writer.finish()
    }

    /// Makes an image of a configuration and layers, the lowest first. The configuration is an
    /// [`ImageConfiguration`] or JSON with more than that; its `rootfs` is set here.
    ///
    /// # Errors
    /// The configuration is not valid, a layer is neither in the store nor known to be in a
    /// registry ([`Store::note_source`]), or the store cannot be written.
    pub fn add_image(&self, config: &impl Serialize, layers: &[Layer]) -> Result<Image, Error> {
        self.add_image_as(config, layers, &Form::default())
    }

    /// Reads the image that a manifest's descriptor stands for.
    ///
    /// # Errors
    /// A document is missing, damaged or not valid.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image, Error> {
        let what = format!("the manifest {}", descriptor.digest());
        if !is_manifest(descriptor.media_type()) {
            let why = format!("{:?} is no image manifest", descriptor.media_type().as_ref());
            return Err(Error::Invalid { what, why });
        }
        let manifest: ImageManifest = json::read(&self.document(descriptor)?, &what)?;
        let what = format!("the image configuration {}", manifest.config().digest());
        let config = self.document(manifest.config())?;
        Image::new(
            descriptor.clone(),
            manifest,
            json::read(&config, &what)?,
            json::read(&config, &what)?,
        )
    }

    /// Finds what a name stands for, for a platform. A name with a digest needs no tag.
    ///
    /// # Errors
    /// There is no such name, it has no image for the platform, or that cannot be read.
    pub fn resolve(&self, reference: &Reference, wanted: &Platform) -> Result<Image, Error> {
        let reference = reference.clone().tagged();
        let descriptor = match reference.digest() {
            Some(digest) => self.describe(digest).map_err(|e| match e {
                Error::MissingBlob(_) => Error::NotFound(Box::new(reference.clone())),
                other => other,
            })?,
            None => self
                .find(&reference)?
                .ok_or_else(|| Error::NotFound(Box::new(reference.clone())))?,
        };
        let platforms = self.platforms(&descriptor)?;
        match platforms.iter().find(|(platform, _)| platform == wanted) {
            Some((_, descriptor)) => self.image(descriptor),
            None => Err(Error::NoPlatform {
                name: reference.familiar(),
                wanted: Box::new(wanted.clone()),
                have: listed(&platforms),
            }),
        }
    }

    /// What a name with a tag stands for: a manifest, or an index of several.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, Error> {
        let name = tag_name(reference)?;
        let index = self.read_index()?;
        Ok(index.manifests().iter().find(|d| ref_name(d) == Some(&name)).cloned())
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Tagged>, Error> {
        let mut tagged = Vec::new();
        for descriptor in self.read_index()?.manifests() {
            let reference = ref_name(descriptor).and_then(|name| name.parse::<Reference>().ok());
            if let Some(reference) = reference {
                let platforms = self.platforms(descriptor)?;
                tagged.push(Tagged { reference, descriptor: descriptor.clone(), platforms });
            }
        }
        tagged.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(tagged)
    }

    /// Lets a name stand for a manifest or an index, whatever it stood for.
    ///
    /// # Errors
    /// The name has a digest, or the store cannot be written.
    pub fn tag(&self, reference: &Reference, target: &Descriptor) -> Result<(), Error> {
        let name = tag_name(reference)?;
        let _lock = self.lock()?;
        self.set(name, target)
    }

    /// Lets a name stand for this image on the image's platform, and on other platforms for
    /// what it stood for.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn tag_platform(&self, reference: &Reference, image: &Image) -> Result<(), Error> {
        let name = tag_name(reference)?;
        let _lock = self.lock()?;
        let mut platforms = match self.find(reference)? {
            Some(descriptor) => self.platforms(&descriptor)?,
            None => Vec::new(),
        };
        platforms.retain(|(platform, _)| *platform != image.platform);
        if platforms.is_empty() {
            return self.set(name, &image.descriptor);
        }
        platforms.push((image.platform.clone(), image.descriptor.clone()));
        let index = self.add_index(&platforms)?;
        self.set(name, &index)
    }

    /// Removes a name, and tells whether there was one. What it stood for stays in the store.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn untag(&self, reference: &Reference) -> Result<bool, Error> {
        let wanted = tag_name(reference)?;
        let _lock = self.lock()?;
        self.set_names(|_, name| *name != wanted)
    }

    /// Keeps some of the names, and tells whether others are gone; the lock is held.
    pub(crate) fn set_names(
        &self,
        keep: impl Fn(&Descriptor, &String) -> bool,
    ) -> Result<bool, Error> {
        let mut index = self.read_index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|descriptor| ref_name(descriptor).is_none_or(|n| keep(descriptor, n)));
        let found = manifests.len() < index.manifests().len();
        if found {
            index.set_manifests(manifests);
            self.write_index(&index)?;
        }
        Ok(found)
    }

    /// All that `index.json` names, as it stands there.
    pub(crate) fn descriptors(&self) -> Result<Vec<Descriptor>, Error> {
        Ok(self.read_index()?.manifests().clone())
    }

    /// Nobody else has the store open, until this is dropped.
    pub(crate) fn alone(&self, wait: bool) -> Result<Option<Alone<'_>>, Error> {
        self.users.alone(wait).map_err(Error::file("lock", self.root.join("users")))
    }

    /// Makes an index of several images, one for each platform.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_index(&self, images: &[(Platform, Descriptor)]) -> Result<Descriptor, Error> {
        let variant = |(platform, descriptor): &(Platform, Descriptor)| Variant {
            platform: platform.clone(),
            descriptor: descriptor.clone(),
            annotations: Annotations::new(),
        };
        let images: Vec<Variant> = images.iter().map(variant).collect();
        self.add_index_as(&images, &Form::default())
    }

    /// The images that a descriptor stands for and that are here: of a name that was pulled for
    /// one platform, that one. What has no platform, such as an attestation or a signature, is
    /// left out.
    ///
    /// # Errors
    /// A document is missing, damaged or not valid.
    pub fn platforms(&self, target: &Descriptor) -> Result<Vec<(Platform, Descriptor)>, Error> {
        if !is_index(target.media_type()) {
            if !is_config(self.manifest(target)?.config().media_type()) {
                return Ok(Vec::new());
            }
            let image = self.image(target)?;
            if is_unknown(&image.platform) {
                return Ok(Vec::new());
            }
            let mut descriptor = image.descriptor;
            descriptor.set_annotations(None);
            return Ok(vec![(image.platform, descriptor)]);
        }
        let what = format!("the index {}", target.digest());
        let index: ImageIndex = json::read(&self.document(target)?, &what)?;
        let images = index.manifests().iter().filter(|d| is_manifest(d.media_type()));
        let images = images.filter_map(|d| Some((platform(d)?, d.clone())));
        let images = images.filter(|(_, d)| digest(d).is_ok_and(|digest| self.has_blob(&digest)));
        Ok(images.filter(|(platform, _)| !is_unknown(platform)).collect())
    }

    /// A descriptor for a manifest or index that is known by its digest only.
    ///
    /// # Errors
    /// It is missing, damaged or not valid.
    pub fn describe(&self, digest: &Digest) -> Result<Descriptor, Error> {
        #[derive(serde::Deserialize)]
        struct Document {
            #[serde(rename = "mediaType")]
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let path = self.blob_path(digest);
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::MissingBlob(digest.clone()));
            }
            Err(e) => return Err(Error::file("read", path)(e)),
        };
        let mut descriptor = Descriptor::new(MediaType::ImageManifest, size, to_oci_digest(digest));
        let what = format!("the manifest {digest}");
        let document: Document = json::read(&self.document(&descriptor)?, &what)?;
        descriptor.set_media_type(match (document.media_type, document.manifests) {
            (Some(media_type), _) => media_type.as_str().into(),
            (None, Some(_)) => MediaType::ImageIndex,
            (None, None) => MediaType::ImageManifest,
        });
        Ok(descriptor)
    }

    /// Keeps a manifest, an index, a configuration or an artefact's document.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_document(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, Error> {
        let digest = to_oci_digest(&self.add_blob(bytes)?);
        Ok(Descriptor::new(media_type, bytes.len() as u64, digest))
    }

    /// Reads a manifest as it stands, whatever it is of.
    ///
    /// # Errors
    /// It is missing, damaged or not valid.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<ImageManifest, Error> {
        json::read(&self.document(descriptor)?, &format!("the manifest {}", descriptor.digest()))
    }

    /// The entries of an index, with what is not an image; none where it is a manifest.
    ///
    /// # Errors
    /// It is missing, damaged or not valid.
    pub fn manifests(&self, descriptor: &Descriptor) -> Result<Vec<Descriptor>, Error> {
        if !is_index(descriptor.media_type()) {
            return Ok(Vec::new());
        }
        let what = format!("the index {}", descriptor.digest());
        let index: ImageIndex = json::read(&self.document(descriptor)?, &what)?;
        Ok(index.manifests().clone())
    }

    /// A whole manifest, index or configuration.
    ///
    /// # Errors
    /// It is missing, damaged, or larger than 4 MiB.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.document_within(descriptor, MAX_DOCUMENT)
    }

    /// A whole document of so many bytes at most.
    ///
    /// # Errors
    /// It is missing, damaged, or larger.
    pub fn document_within(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>, Error> {
        let digest = digest(descriptor)?;
        if descriptor.size() > most {
            let what = format!("the document {digest}");
            let why = format!("it is larger than {} MiB", most >> 20);
            return Err(Error::Invalid { what, why });
        }
        let mut bytes = Vec::new();
        let mut blob = self.blob(&digest, descriptor.size())?;
        blob.read_to_end(&mut bytes).map_err(|e| match e.downcast::<Error>() {
            Ok(damaged) => damaged,
            Err(e) => Error::file("read", self.blob_path(&digest))(e),
        })?;
        Ok(bytes)
    }

    /// Changes one name; the lock is held.
    fn set(&self, name: String, target: &Descriptor) -> Result<(), Error> {
        let digest = digest(target)?;
        if !self.has_blob(&digest) {
            return Err(Error::MissingBlob(digest));
        }
        let mut index = self.read_index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|descriptor| ref_name(descriptor) != Some(&name));
        let mut target = target.clone();
        target.set_annotations(Some([(REF_NAME.to_owned(), name)].into()));
        manifests.push(target);
        index.set_manifests(manifests);
        self.write_index(&index)
    }

    fn read_index(&self) -> Result<ImageIndex, Error> {
        let path = self.index_path();
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(Error::file("read", &path))?;
        file.take(MAX_INDEX).read_to_end(&mut bytes).map_err(Error::file("read", &path))?;
        json::read(&bytes, &format!("the store's {}", path.display()))
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), Error> {
        self.replace("index.json", &json::write(index))
    }

    /// Replaces a file of the store; the lock is held.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.root.join(name);
        let half = self.root.join(format!("{name}.new"));
        let written = File::create(&half).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&half, &path)
        });
        written.map_err(Error::file("write", path))?;
        sync_directory(&self.root)
    }

    /// Keeps other commands from changing `index.json` until it is dropped.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        locked(self.root.join("lock"), FlockOperation::LockExclusive)
    }

    pub(crate) fn ingest_lock(&self, operation: FlockOperation) -> Result<File, Error> {
        locked(self.ingest().join("lock"), operation)
    }

    /// Removes blobs whose writer was killed.
    fn remove_leftovers(&self) -> Result<(), Error> {
        let ingest = self.ingest();
        // A store that is read only has no leftovers of ours, and somebody who is just
        // beginning a blob may tidy up another time.
        let Ok(_lock) = self.ingest_lock(FlockOperation::NonBlockingLockExclusive) else {
            return Ok(());
        };
        for entry in fs::read_dir(&ingest).map_err(Error::file("read", &ingest))? {
            let path = entry.map_err(Error::file("read", &ingest))?.path();
            if path.file_name().is_some_and(|name| name == "lock") || partial::is_waiting(&path) {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_file(&path).map_err(Error::file("remove", path))?;
            }
        }
        Ok(())
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn pieces(&self) -> PathBuf {
        self.root.join("pieces")
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }
}

pub(crate) fn to_oci_digest(digest: &Digest) -> oci_spec::image::Digest {
    digest.as_str().parse().expect("it is a digest in both crates")
}

pub(crate) fn empty_index() -> ImageIndex {
    ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![])
        .build()
        .expect("all fields are set")
}

pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    *media_type == MediaType::ImageManifest || media_type.as_ref() == docker
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json";
    *media_type == MediaType::ImageIndex || media_type.as_ref() == docker
}

fn is_config(media_type: &MediaType) -> bool {
    let docker = "application/vnd.docker.container.image.v1+json";
    *media_type == MediaType::ImageConfig || media_type.as_ref() == docker
}

/// Attestations say `unknown`, cosign's signatures nothing.
fn is_unknown(platform: &Platform) -> bool {
    platform.os.is_empty() || platform.os == "unknown"
}

fn locked(path: PathBuf, operation: FlockOperation) -> Result<File, Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::file("lock", &path))?;
    flock(&file, operation).map_err(|e| Error::file("lock", path)(e.into()))?;
    Ok(file)
}

pub(crate) fn ref_name(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations().as_ref()?.get(REF_NAME)
}

/// The name as it stands in `index.json`.
fn tag_name(reference: &Reference) -> Result<String, Error> {
    let reference = reference.clone().tagged();
    if reference.digest().is_some() {
        let what = format!("the name {reference}");
        return Err(Error::Invalid {
            what,
            why: "a name for an image cannot have a digest".into(),
        });
    }
    Ok(reference.to_string())
}

fn listed(platforms: &[(Platform, Descriptor)]) -> String {
    let names: Vec<String> = platforms.iter().map(|(platform, _)| platform.to_string()).collect();
    if names.is_empty() { "no platform".into() } else { names.join(", ") }
}
