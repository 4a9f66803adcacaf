//! What the names of a store reach, and the space that it takes.
//!
//! Only what no name reaches is ever removed, and only while no other command has the store
//! open ([`crate::store`] says how that is known): a command that has made layers, but no name
//! yet, loses none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use koskit_llb::{Digest, Reference};
use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;

use crate::blob::sync_directory;
use crate::compress::forget_pieces;
use crate::image::digest;
use crate::store::{is_index, ref_name};
use crate::{Error, Store, json};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The blobs.
    pub blobs: Vec<Digest>,
    /// Bytes that the disk has more of.
    pub bytes: u64,
}

/// The space of a store on its disk.
#[derive(Clone, Debug, Default)]
pub struct Space {
    /// Of each name, sorted.
    pub names: Vec<NameSpace>,
    /// Bytes of all blobs.
    pub bytes: u64,
    /// How many there are.
    pub blobs: usize,
    /// Bytes of blobs that no name reaches: [`Store::prune`] removes them.
    pub unreached: u64,
}

/// The space of what one name reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSpace {
    /// The name.
    pub reference: Reference,
    /// What it stands for.
    pub descriptor: Descriptor,
    /// Bytes on the disk. Layers that were never fetched take none.
    pub bytes: u64,
    /// Those of them that no other image uses: what removing all names of this one would free.
    pub own: u64,
}

/// Documents first, so that an image of which a part is gone is not found at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Index,
    Manifest,
    Other,
}

type Reached = BTreeMap<Digest, Kind>;

/// The links of an index or a manifest, whatever it is of.
#[derive(Deserialize)]
struct Links {
    #[serde(rename = "mediaType")]
    media_type: Option<MediaType>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    blobs: Vec<Descriptor>,
}

impl Store {
    /// Removes what no name reaches. `wait` waits for other commands to end; else `None` tells
    /// that there are some.
    ///
    /// # Errors
    /// A document that a name reaches is missing or damaged, so that it is not known what
    /// belongs to it; or the store cannot be written. Nothing that a name reaches is removed.
    pub fn prune(&self, wait: bool) -> Result<Option<Pruned>, Error> {
        let Some(_alone) = self.alone(wait)? else { return Ok(None) };
        let reached = self.reached()?;
        let mut gone = Vec::new();
        for (digest, bytes) in self.blobs_on_disk()? {
            if !reached.contains_key(&digest) {
                gone.push((self.kind(&digest, bytes), digest, bytes));
            }
        }
        let pruned = self.remove_blobs(gone)?;
        self.forget_sources(&|digest| reached.contains_key(digest))?;
        Ok(Some(pruned))
    }

    /// Removes names, and then what only they reached. `None` tells that other commands have
    /// the store open: the names are removed nevertheless, and the next [`Store::prune`] frees
    /// the space.
    ///
    /// # Errors
    /// One of the names is not there, and then all stay; or the store cannot be written.
    pub fn remove(&self, names: &[Reference]) -> Result<Option<Pruned>, Error> {
        let mut before = Reached::new();
        {
            let _lock = self.lock()?;
            for name in names {
                let target = self.find(name)?;
                let target = target.ok_or_else(|| Error::NotFound(Box::new(name.clone())))?;
                // What of it cannot be read cannot be told either, and is left to `prune`.
                let _ = self.reach(&target, &mut before);
            }
            self.set_names(|_, name| !names.iter().any(|n| n.to_string() == *name))?;
        }
        let Some(_alone) = self.alone(false)? else { return Ok(None) };
        // Another image that cannot be read may need any of it.
        let Ok(reached) = self.reached() else { return Ok(Some(Pruned::default())) };
        before.retain(|digest, _| !reached.contains_key(digest));
        let sizes: BTreeMap<_, _> = self.blobs_on_disk()?.into_iter().collect();
        let gone = before
            .iter()
            .filter_map(|(digest, kind)| Some((*kind, digest.clone(), *sizes.get(digest)?)));
        let pruned = self.remove_blobs(gone.collect())?;
        self.forget_sources(&|digest| !before.contains_key(digest))?;
        Ok(Some(pruned))
    }

    /// The space that the store takes.
    ///
    /// # Errors
    /// The store cannot be read. An image with a document that is missing or damaged has the
    /// space of the rest.
    pub fn space(&self) -> Result<Space, Error> {
        let sizes: BTreeMap<_, _> = self.blobs_on_disk()?.into_iter().collect();
        let mut space = Space { blobs: sizes.len(), ..Space::default() };
        space.bytes = sizes.values().sum();
        let mut of_images: BTreeMap<Digest, Reached> = BTreeMap::new();
        for descriptor in self.descriptors()? {
            let mut reached = Reached::new();
            let _ = self.reach(&descriptor, &mut reached);
            of_images.insert(digest(&descriptor)?, reached);
        }
        let mut users: BTreeMap<&Digest, u32> = BTreeMap::new();
        for blob in of_images.values().flat_map(BTreeMap::keys) {
            *users.entry(blob).or_default() += 1;
        }
        let unreached = sizes.iter().filter(|(blob, _)| !users.contains_key(blob));
        space.unreached = unreached.map(|(_, bytes)| bytes).sum();
        for (reference, descriptor) in self.names()? {
            let reached = &of_images[&digest(&descriptor)?];
            let on_disk = || reached.keys().filter_map(|blob| Some((blob, *sizes.get(blob)?)));
            let own = on_disk().filter(|(blob, _)| users[blob] == 1).map(|(_, bytes)| bytes).sum();
            let bytes = on_disk().map(|(_, bytes)| bytes).sum();
            space.names.push(NameSpace { reference, descriptor, bytes, own });
        }
        Ok(space)
    }

    /// All names with what they stand for, sorted. Nothing else is read, so that an image that
    /// is damaged is among them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn names(&self) -> Result<Vec<(Reference, Descriptor)>, Error> {
        let descriptors = self.descriptors()?;
        let name = |d: &Descriptor| ref_name(d).and_then(|name| name.parse::<Reference>().ok());
        let named = descriptors.into_iter().filter_map(|d| Some((name(&d)?, d)));
        let mut names: Vec<_> = named.collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// All that is reached from `index.json`.
    fn reached(&self) -> Result<Reached, Error> {
        let mut reached = Reached::new();
        for descriptor in self.descriptors()? {
            self.reach(&descriptor, &mut reached)?;
        }
        Ok(reached)
    }

    /// Adds what a descriptor reaches. An index may name manifests that were never fetched, for
    /// other platforms: there is nothing of them.
    pub(crate) fn reach_all(&self, root: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let mut reached = Reached::new();
        self.reach(root, &mut reached)?;
        Ok(reached.into_keys().collect())
    }

    fn reach(&self, root: &Descriptor, reached: &mut Reached) -> Result<(), Error> {
        let mut todo = vec![(root.clone(), true)];
        let mut failed = None;
        while let Some((descriptor, needed)) = todo.pop() {
            let digest = digest(&descriptor)?;
            let kind = kind_of(descriptor.media_type());
            if reached.insert(digest.clone(), kind).is_some() || kind == Kind::Other {
                continue;
            }
            if !needed && !self.has_blob(&digest) {
                continue;
            }
            let what = format!("the document {digest}");
            let read = self.document(&descriptor).and_then(|bytes| json::read(&bytes, &what));
            let links: Links = match read {
                Ok(links) => links,
                // The others are followed nevertheless, for those who count.
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            todo.extend(links.manifests.into_iter().map(|d| (d, false)));
            let parts = links.config.into_iter().chain(links.layers).chain(links.blobs);
            for part in parts {
                reached.entry(crate::image::digest(&part)?).or_insert(Kind::Other);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What a blob is that nobody has named; only small ones can be documents.
    fn kind(&self, digest: &Digest, bytes: u64) -> Kind {
        let path = self.blob_path(digest);
        if bytes > json::MAX_DOCUMENT {
            return Kind::Other;
        }
        let links = fs::read(path).ok().and_then(|b| serde_json::from_slice::<Links>(&b).ok());
        match links {
            Some(links) if !links.manifests.is_empty() => Kind::Index,
            Some(Links { media_type: Some(media_type), .. }) => kind_of(&media_type),
            Some(Links { config: Some(_), .. }) => Kind::Manifest,
            _ => Kind::Other,
        }
    }

    /// All blobs with their bytes on the disk.
    fn blobs_on_disk(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let directory = self.blobs();
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::file("read", &directory))? {
            let entry = entry.map_err(Error::file("read", &directory))?;
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            // What has another name is not ours.
            let Ok(digest) = name.parse::<Digest>() else { continue };
            match entry.metadata() {
                Ok(metadata) => blobs.push((digest, metadata.blocks() * 512)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file("read", entry.path())(e)),
            }
        }
        Ok(blobs)
    }

    fn remove_blobs(&self, mut gone: Vec<(Kind, Digest, u64)>) -> Result<Pruned, Error> {
        gone.sort();
        let mut pruned = Pruned::default();
        let mut last = None;
        for (kind, digest, bytes) in gone {
            if last.replace(kind).is_some_and(|last| last != kind) {
                // A power failure must not bring back a manifest whose layers are gone.
                sync_directory(&self.blobs())?;
            }
            let path = self.blob_path(&digest);
            match fs::remove_file(&path) {
                Ok(()) => pruned.bytes += bytes,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file("remove", path)(e)),
            }
            forget_pieces(&self.pieces(), digest.hex());
            pruned.blobs.push(digest);
        }
        sync_directory(&self.blobs())?;
        Ok(pruned)
    }

    /// Forgets where blobs are to be had that nobody needs any more.
    fn forget_sources(&self, is_needed: &dyn Fn(&Digest) -> bool) -> Result<(), Error> {
        let directory = self.path().join("sources");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::file("read", directory)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::file("read", &directory))?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse();
            // What is no digest was being written when its command was killed.
            if digest.is_ok_and(|digest| is_needed(&digest)) {
                continue;
            }
            fs::remove_file(entry.path()).map_err(Error::file("remove", entry.path()))?;
        }
        Ok(())
    }
}

fn kind_of(media_type: &MediaType) -> Kind {
    match media_type {
        _ if is_index(media_type) => Kind::Index,
        _ if crate::store::is_manifest(media_type) => Kind::Manifest,
        MediaType::ArtifactManifest => Kind::Manifest,
        _ => Kind::Other,
    }
}
