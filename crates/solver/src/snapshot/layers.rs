//! Snapshots and layers: what an image brings is unpacked, what a step made is packed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use koskit_image::layer::{OverlayXattr, PackOptions, UnpackOptions, unpack};
use koskit_image::{Compression, Fetch, Layer, Store, oci};
use koskit_llb::Digest;
use serde::{Deserialize, Serialize};

use super::record::{read_json, write_json};
use super::{Snapshot, SnapshotError, Snapshots, failed};

/// So many layers are fetched at once.
const PARALLEL: usize = 4;

/// `layer-TIME.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Packed {
    media_type: oci::MediaType,
    pub digest: String,
    size: u64,
    diff_id: String,
}

impl Snapshots {
    /// The file system of an image's layers, lowest first. Each is unpacked the first time that
    /// it is seen on those below it; one that is not in the store is fetched then, and not
    /// before.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile, or the cache cannot be written.
    pub fn image(
        &self,
        store: &Store,
        layers: &[Layer],
        fetch: Option<&dyn Fetch>,
    ) -> Result<Snapshot, SnapshotError> {
        let keys = chain_keys(layers);
        // The highest that is here already; all below it are as well.
        let mut snapshot = Snapshot::scratch();
        for key in keys.iter().rev() {
            if let Some(found) = self.get(key)? {
                snapshot = found;
                break;
            }
        }
        let (here, rest) = (snapshot.depth(), layers.get(snapshot.depth()..).unwrap_or_default());
        let fetched = Fetched::new(rest.len());
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let missing = rest.iter().any(|layer| !store.has_blob(&layer.digest));
            for _ in 0..if missing { PARALLEL.min(rest.len()) } else { 0 } {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(layer) = rest.get(index) else { return };
                        // A panic must not leave the other side waiting.
                        let _done = Done { fetched: &fetched, index };
                        let result = match stop.load(Ordering::Relaxed) {
                            true => Ok(()),
                            false => bring(store, layer, fetch),
                        };
                        fetched.put(index, result);
                    }
                });
            }
            for (index, layer) in rest.iter().enumerate() {
                let ready = if missing { fetched.take(index) } else { Ok(()) };
                let done = ready.and_then(|()| {
                    let key = &keys[here + index];
                    // Somebody else may be doing it.
                    let _claim = self.claim(key, &|| false)?;
                    match self.get(key)? {
                        Some(found) => Ok(found),
                        None => self.unpack(store, &snapshot, layer, key),
                    }
                });
                match done {
                    Ok(done) => snapshot = done,
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            Ok(snapshot)
        })
    }

    /// The layers of a snapshot that steps made, lowest first. They are packed the first
    /// time that they are wanted.
    ///
    /// # Errors
    /// A file system has what no layer can have, or the store cannot be written.
    pub fn layers(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        options: &PackOptions,
    ) -> Result<Vec<Layer>, SnapshotError> {
        let names = snapshot.layers.iter();
        names.map(|name| self.packed(store, name, options)).collect()
    }

    /// For each layer of a snapshot, lowest first, whether it differs from what it was made on.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn changed(&self, snapshot: &Snapshot) -> Result<Vec<bool>, SnapshotError> {
        let root = |name: &str| {
            let files = self.layer(name).join("files");
            let metadata = fs::symlink_metadata(&files).map_err(failed("read", &files))?;
            Ok::<_, SnapshotError>((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()))
        };
        let changed = snapshot.layers.iter().map(|name| {
            let files = self.layer(name).join("files");
            let mut names = fs::read_dir(&files).map_err(failed("read", &files))?;
            if names.next().is_some() {
                return Ok(true);
            }
            let below = self.record(name)?.and_then(|record| record.below.last().cloned());
            Ok(root(name)? != below.map_or(Ok((0o755, 0, 0)), |below| root(&below))?)
        });
        changed.collect()
    }

    /// One of a snapshot's layers in the store.
    fn packed(
        &self,
        store: &Store,
        name: &str,
        options: &PackOptions,
    ) -> Result<Layer, SnapshotError> {
        let directory = self.layer(name);
        let mut file = String::from("layer");
        if let Some(latest) = options.latest {
            file.push_str(&format!("-{latest}"));
        }
        if options.compression != Compression::default() {
            file.push_str(&format!("-{}", options.compression));
        }
        let file = directory.join(file + ".json");
        let packed: Option<Packed> = read_json(&file)?;
        let layer = packed.and_then(Packed::layer);
        if let Some(layer) = layer.filter(|layer| store.has_blob(&layer.digest)) {
            return Ok(layer);
        }
        let layer = store.add_layer(&directory.join("files"), options)?;
        let packed = Packed {
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.to_string(),
        };
        write_json(&file, &packed)?;
        Ok(layer)
    }

    fn unpack(
        &self,
        store: &Store,
        parent: &Snapshot,
        layer: &Layer,
        key: &Digest,
    ) -> Result<Snapshot, SnapshotError> {
        let mut work = self.work()?;
        work.description = format!("layer {} of an image", layer.digest);
        let files = work.path().join("files");
        fs::create_dir(&files).map_err(failed("make", &files))?;
        self.copy_root(parent, &files).map_err(failed("make", &files))?;
        let lower = parent.layers.iter().rev().map(|name| self.layer(name).join("files"));
        let options = UnpackOptions {
            ownership: self.ownership,
            overlay: OverlayXattr::User,
            lower: lower.collect(),
            ..UnpackOptions::default()
        };
        unpack(store.layer(layer)?, &files, &options)
            .map_err(|source| SnapshotError::Unpack { digest: layer.digest.clone(), source })?;
        work.keep(key, parent)
    }
}

impl Packed {
    fn layer(self) -> Option<Layer> {
        Some(Layer {
            media_type: self.media_type,
            digest: self.digest.parse().ok()?,
            size: self.size,
            diff_id: self.diff_id.parse().ok()?,
        })
    }
}

/// What fetched layers came to, from the threads that fetch to the one that unpacks.
struct Fetched {
    results: Mutex<Vec<Option<Result<(), SnapshotError>>>>,
    changed: Condvar,
}

impl Fetched {
    fn new(len: usize) -> Self {
        let results = (0..len).map(|_| None).collect();
        Self { results: Mutex::new(results), changed: Condvar::new() }
    }

    fn put(&self, index: usize, result: Result<(), SnapshotError>) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        self.changed.notify_all();
    }

    /// Waits for one.
    fn take(&self, index: usize) -> Result<(), SnapshotError> {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = results[index].take() {
                return result;
            }
            results = self.changed.wait(results).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Marks a layer as done with when it is dropped, whatever became of it.
struct Done<'a> {
    fetched: &'a Fetched,
    index: usize,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What is not in the store is told by who unpacks it.
            self.fetched.put(self.index, Ok(()));
        }
    }
}

/// Sees to it that a layer's blob is in the store.
pub(crate) fn bring(
    store: &Store,
    layer: &Layer,
    fetch: Option<&dyn Fetch>,
) -> Result<(), SnapshotError> {
    if store.has_blob(&layer.digest) {
        return Ok(());
    }
    let missing = || koskit_image::Error::MissingBlob(layer.digest.clone());
    let fetch = fetch.ok_or_else(missing)?;
    let image = store.source_of(&layer.digest).ok_or_else(missing)?;
    fetch.layer(&image, layer, store).map_err(|source| SnapshotError::Fetch {
        digest: layer.digest.clone(),
        image: image.familiar(),
        source,
    })?;
    if store.has_blob(&layer.digest) { Ok(()) } else { Err(missing().into()) }
}

/// For each layer of an image, the key of the file system that it is the topmost layer of.
pub(super) fn chain_keys(layers: &[Layer]) -> Vec<Digest> {
    let mut chain = String::new();
    let keys = layers.iter().map(|layer| {
        // The chain ID of the OCI's image specification, config.md.
        chain = match chain.as_str() {
            "" => layer.diff_id.to_string(),
            below => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()).to_string(),
        };
        Digest::of(format!("image {chain}").as_bytes())
    });
    keys.collect()
}
