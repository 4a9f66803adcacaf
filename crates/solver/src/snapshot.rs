//! File systems that are kept from one build to the next.
//!
//! A [`Snapshot`] is a stack of layer directories, each of which holds what one step changed, in
//! overlayfs's form. It is named by a key, a digest of everything that it depends on, which is
//! the caller's to compute. Layers of images are unpacked once, by their chain ID.
//!
//! ```text
//! build/                                 Snapshots::open
//!   IDS/                                 one for each mapping of users (see `namespace`)
//!     lock                               shared while something begins, exclusive while cleaning
//!     empty/1, empty/2                   the lowest layers of file systems that have too few
//!     layers/KEY/files/                  what a step changed
//!                snapshot.json           the key, and the names of the layers below
//!                layer….json             the packed layer, once it was wanted
//!     active/PID-N/                      what is being made, or a view, locked by its process
//!                  lock, files/, work/, merged/
//! ```
//!
//! # Concurrency and killed builds
//! A snapshot becomes one by a rename from `active` to `layers`, so there is no such thing as
//! half of one. If two builds make the same one, the first wins and the second uses that. What
//! is in `active` is locked by its process; the kernel drops the lock with the process, and the
//! next [`Snapshots::open`] removes what is not locked. Mounts lie in a mount namespace of the
//! process and end with it.
//!
//! That is about processes. A snapshot is not flushed to the disk, as that of no other builder is:
//! after a power failure within half a minute of a build, remove the cache's directory.
//!
//! # Whose the files are
//! With many users (see [`Ids::Many`]) some files belong to subordinate ones, and the user cannot
//! remove them but in a namespace with the same mapping: `podman unshare rm -rf …` is one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use koskit_image::layer::{OverlayXattr, Ownership, PackOptions, UnpackOptions, unpack};
use koskit_image::{Layer, LayerError, Store, oci};
use koskit_llb::Digest;
use rustix::fs::{CWD, FlockOperation, RenameFlags, Timespec, Timestamps, flock, renameat_with};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::namespace::{self, Ids};
use crate::overlay::{Overlay, detach};

mod combine;

/// The layer that an image brought: it is what it is, whatever the latest time is to be.
const FROM_IMAGE: &str = "layer-image.json";

/// What goes wrong with snapshots.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A file of the cache.
    #[error("cannot {action} {path:?} in the build cache")]
    File {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// overlayfs refuses.
    #[error("cannot mount an overlay of {layers} layers in the build cache {path:?}: {hint}")]
    Mount {
        /// How many directories.
        layers: usize,
        /// The cache.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A layer that cannot be unpacked.
    #[error("the layer {digest} cannot be unpacked")]
    Unpack {
        /// The blob's digest.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
}

/// All snapshots of a cache directory. Cheap to clone; any number of processes may use one.
#[derive(Clone, Debug)]
pub struct Snapshots {
    root: Arc<PathBuf>,
    ownership: Ownership,
}

/// A file system that does not change. [`Snapshot::scratch`] is empty; each other one is a layer
/// on its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The names of the layers, lowest first.
    layers: Vec<String>,
}

/// A file system that is being made of a snapshot: mounted, and writable. Without
/// [`Active::commit`] it leaves nothing.
#[derive(Debug)]
pub struct Active {
    work: Work,
    parent: Snapshot,
}

/// A snapshot, mounted. Nothing must be written to it.
#[derive(Debug)]
pub struct View {
    work: Work,
}

/// A locked directory in `active`, removed at the end.
#[derive(Debug)]
struct Work {
    snapshots: Snapshots,
    name: String,
    mounted: bool,
    _lock: File,
}

/// `snapshot.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: String,
    /// The names of the layers below, lowest first.
    below: Vec<String>,
}

/// `layer-TIME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    media_type: oci::MediaType,
    digest: String,
    size: u64,
    diff_id: String,
}

impl Snapshot {
    /// The empty file system.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// How many layers it has.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Its layers from a depth on, without those below.
    pub fn above(&self, depth: usize) -> Self {
        Self { layers: self.layers[depth..].to_vec() }
    }

    /// Each of its layers alone, lowest first.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.layers.iter().map(|name| Self { layers: vec![name.clone()] })
    }

    /// Whether the other one is made of this one and layers on it.
    pub fn begins(&self, other: &Self) -> bool {
        other.layers.starts_with(&self.layers)
    }
}

impl Snapshots {
    /// Opens the snapshots in a directory, makes it where there is none, and removes what killed
    /// builds have left. [`namespace::enter`] comes before.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn open(directory: &Path) -> Result<Self, SnapshotError> {
        let ids = namespace::ids_name();
        let ids = ids.map_err(failed("read the users of", directory))?;
        let ownership = match namespace::ids() {
            Ids::Many => Ownership::Real,
            Ids::Single => Ownership::Recorded,
        };
        let snapshots = Self { root: Arc::new(directory.join(ids)), ownership };
        for name in ["empty/1", "empty/2", "layers", "active"] {
            let path = snapshots.root.join(name);
            fs::create_dir_all(&path).map_err(failed("make", &path))?;
        }
        snapshots.remove_leftovers()?;
        Ok(snapshots)
    }

    /// The directory for other things that are kept for the same users, as the contents of cache
    /// mounts.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whose files are when a layer is unpacked, and what the owner of a new one must be
    /// recorded as.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// The snapshot that was committed with this key, if there is one.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn get(&self, key: &Digest) -> Result<Option<Snapshot>, SnapshotError> {
        let name = layer_name(key);
        let Some(record) = self.record(&name)? else { return Ok(None) };
        let whole = |name: &String| self.layer(name).join("snapshot.json").exists();
        // A key's name is only a part of it.
        if record.key != key.as_str() || !record.below.iter().all(whole) {
            return Ok(None);
        }
        let mut layers = record.below;
        layers.push(name);
        Ok(Some(Snapshot { layers }))
    }

    fn record(&self, name: &str) -> Result<Option<Record>, SnapshotError> {
        read_json(&self.layer(name).join("snapshot.json"))
    }

    /// Begins a snapshot: the parent's files, mounted so that they can be changed.
    ///
    /// # Errors
    /// The cache cannot be written, or the overlay not be mounted.
    pub fn prepare(&self, parent: &Snapshot) -> Result<Active, SnapshotError> {
        let mut work = self.work()?;
        let directory = work.path();
        for name in ["files", "work", "merged"] {
            let path = directory.join(name);
            fs::create_dir(&path).map_err(failed("make", &path))?;
        }
        let upper = directory.join("files");
        self.copy_root(parent, &upper).map_err(failed("make", &upper))?;
        let relative = Path::new("active").join(&work.name);
        let upper = Some((relative.join("files"), relative.join("work")));
        work.mount(&Overlay { lower: self.lower(parent, 1), upper })?;
        Ok(Active { work, parent: parent.clone() })
    }

    /// Mounts a snapshot, to be read.
    ///
    /// # Errors
    /// As [`Snapshots::prepare`].
    pub fn view(&self, snapshot: &Snapshot) -> Result<View, SnapshotError> {
        let mut work = self.work()?;
        let merged = work.path().join("merged");
        fs::create_dir(&merged).map_err(failed("make", &merged))?;
        work.mount(&Overlay { lower: self.lower(snapshot, 2), upper: None })?;
        Ok(View { work })
    }

    /// The file system of an image's layers, lowest first. Each is unpacked the first time that
    /// it is seen on those below it.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile, or the cache cannot be written.
    pub fn image(&self, store: &Store, layers: &[Layer]) -> Result<Snapshot, SnapshotError> {
        let mut snapshot = Snapshot::scratch();
        let mut chain = String::new();
        for layer in layers {
            // The chain ID of the OCI's image specification, config.md.
            chain = match chain.as_str() {
                "" => layer.diff_id.to_string(),
                below => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()).to_string(),
            };
            let key = Digest::of(format!("image {chain}").as_bytes());
            snapshot = match self.get(&key)? {
                Some(snapshot) => snapshot,
                None => self.unpack(store, &snapshot, layer, &key)?,
            };
            self.remember(&snapshot, FROM_IMAGE, layer)?;
        }
        Ok(snapshot)
    }

    /// The layers of a snapshot, lowest first. Those that came with an image are that image's;
    /// others are packed the first time that they are wanted.
    ///
    /// # Errors
    /// A file system has what no layer can have, or the store cannot be written.
    pub fn layers(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        options: &PackOptions,
    ) -> Result<Vec<Layer>, SnapshotError> {
        let depths = 1..=snapshot.layers.len();
        let stacks = depths.map(|depth| Snapshot { layers: snapshot.layers[..depth].to_vec() });
        stacks.map(|stack| self.top(store, &stack, options)).collect()
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

    /// The topmost layer.
    fn top(
        &self,
        store: &Store,
        snapshot: &Snapshot,
        options: &PackOptions,
    ) -> Result<Layer, SnapshotError> {
        let name = snapshot.layers.last().expect("the caller has one");
        let directory = self.layer(name);
        let own = match options.latest {
            None => "layer.json".into(),
            Some(latest) => format!("layer-{latest}.json"),
        };
        for file in [FROM_IMAGE, &own] {
            let packed: Option<Packed> = read_json(&directory.join(file))?;
            let layer = packed.and_then(Packed::layer);
            if let Some(layer) = layer.filter(|layer| store.has_blob(&layer.digest)) {
                return Ok(layer);
            }
        }
        let layer = store.add_layer(&directory.join("files"), options)?;
        self.remember(snapshot, &own, &layer)?;
        Ok(layer)
    }

    /// Notes that a snapshot's topmost layer is this one.
    fn remember(
        &self,
        snapshot: &Snapshot,
        file: &str,
        layer: &Layer,
    ) -> Result<(), SnapshotError> {
        let name = snapshot.layers.last().expect("the caller has one");
        let path = self.layer(name).join(file);
        let packed = Packed {
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            diff_id: layer.diff_id.to_string(),
        };
        write_json(&path, &packed)
    }

    fn unpack(
        &self,
        store: &Store,
        parent: &Snapshot,
        layer: &Layer,
        key: &Digest,
    ) -> Result<Snapshot, SnapshotError> {
        let work = self.work()?;
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

    /// A locked directory of its own.
    fn work(&self) -> Result<Work, SnapshotError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Against remove_leftovers, between the making of the directory and its lock.
        let _lock = self.lock(FlockOperation::LockShared)?;
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{next}", std::process::id());
            let path = self.root.join("active").join(&name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // A process of another PID namespace, or one that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed("make", &path)(e)),
            }
            let lock = path.join("lock");
            let file = File::create_new(&lock).map_err(failed("make", &lock))?;
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|e| failed("lock", &lock)(e.into()))?;
            return Ok(Work { snapshots: self.clone(), name, mounted: false, _lock: file });
        }
    }

    /// Removes what nobody has locked.
    fn remove_leftovers(&self) -> Result<(), SnapshotError> {
        let active = self.root.join("active");
        let entries = fs::read_dir(&active).map_err(failed("read", &active))?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let paths = paths.map_err(failed("read", &active))?;
        if paths.is_empty() {
            return Ok(());
        }
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        for path in paths {
            let free = match File::open(path.join("lock")) {
                Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
                Err(e) => e.kind() == io::ErrorKind::NotFound,
            };
            if free {
                // A process of the killed build may be dying and still write: then the next one
                // that opens has another try.
                let _ = fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }

    fn lock(&self, operation: FlockOperation) -> Result<File, SnapshotError> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        flock(&file, operation).map_err(|e| failed("lock", &path)(e.into()))?;
        Ok(file)
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.root.join("layers").join(name)
    }

    /// The directories of a snapshot, topmost first, at least so many, relative to the root.
    fn lower(&self, snapshot: &Snapshot, least: usize) -> Vec<PathBuf> {
        let names = snapshot.layers.iter().rev();
        let mut lower: Vec<PathBuf> =
            names.map(|name| Path::new("layers").join(name).join("files")).collect();
        // overlayfs does not take the same directory twice.
        let empty = ["empty/1", "empty/2"].iter().map(PathBuf::from);
        lower.extend(empty.take(least.saturating_sub(lower.len())));
        lower
    }

    /// Gives an upper directory what the parent's root has: overlayfs shows the upper one's.
    fn copy_root(&self, parent: &Snapshot, upper: &Path) -> io::Result<()> {
        let mode = match parent.layers.last() {
            None => 0o755,
            Some(name) => {
                let lower = self.layer(name).join("files");
                let metadata = fs::symlink_metadata(&lower)?;
                std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid()))?;
                let owner = koskit_image::layer::OWNER_XATTR;
                let mut value = [0; 32];
                if let Ok(len) = rustix::fs::lgetxattr(&lower, owner, &mut value) {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::lsetxattr(upper, owner, &value[..len], flags)?;
                }
                let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, upper, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
                metadata.mode() & 0o7777
            }
        };
        fs::set_permissions(upper, fs::Permissions::from_mode(mode))
    }
}

impl Active {
    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.work.path().join("merged")
    }

    /// Makes it a snapshot with a key, and unmounts it. If there is one with this key already,
    /// that is the snapshot.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn commit(self, key: &Digest) -> Result<Snapshot, SnapshotError> {
        self.work.keep(key, &self.parent)
    }
}

impl View {
    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.work.path().join("merged")
    }
}

impl Work {
    fn path(&self) -> PathBuf {
        self.snapshots.root.join("active").join(&self.name)
    }

    fn mount(&mut self, overlay: &Overlay) -> Result<(), SnapshotError> {
        let target = Path::new("active").join(&self.name).join("merged");
        overlay.mount(&self.snapshots.root, &target).map_err(|source| SnapshotError::Mount {
            layers: overlay.lower.len(),
            path: self.snapshots.root.to_path_buf(),
            hint: mount_hint(&self.snapshots.root),
            source,
        })?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), SnapshotError> {
        if self.mounted {
            let merged = self.path().join("merged");
            detach(&merged).map_err(failed("unmount", &merged))?;
            self.mounted = false;
        }
        Ok(())
    }

    fn keep(mut self, key: &Digest, parent: &Snapshot) -> Result<Snapshot, SnapshotError> {
        self.unmount()?;
        let directory = self.path();
        for name in ["merged", "work"] {
            let path = directory.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        let record = Record { key: key.to_string(), below: parent.layers.clone() };
        write_json(&directory.join("snapshot.json"), &record)?;
        let name = layer_name(key);
        let to = self.snapshots.layer(&name);
        if let Err(e) = fs::rename(&directory, &to) {
            if let Some(other) = self.snapshots.get(key)? {
                return Ok(other);
            }
            // What is there is no snapshot any more: it takes our place, to be removed.
            let exchange = RenameFlags::EXCHANGE;
            renameat_with(CWD, &directory, CWD, &to, exchange)
                .map_err(|_| failed("make", &to)(e))?;
        }
        // It was needed until now, lest somebody takes the directory for a leftover.
        let _ = fs::remove_file(to.join("lock"));
        let mut layers = parent.layers.clone();
        layers.push(name);
        Ok(Snapshot { layers })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // After a rename there is nothing, or what was in its place. What fails here is left to
        // the next build.
        let _ = self.unmount();
        let _ = fs::remove_dir_all(self.path());
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

/// What may help where overlayfs does not take a directory.
fn mount_hint(cache: &Path) -> &'static str {
    /// OVERLAYFS_SUPER_MAGIC.
    const OVERLAYFS: u64 = 0x794c_7630;
    match rustix::fs::statfs(cache) {
        Ok(found) if found.f_type as u64 == OVERLAYFS => {
            "it is on an overlay itself, as in a container; set XDG_CACHE_HOME to a directory on \
             another file system, such as a volume or a tmpfs"
        }
        _ => {
            "that takes Linux 5.11 or newer, and a file system with extended attributes; set \
             XDG_CACHE_HOME to a directory on another one"
        }
    }
}

/// The directory of a key: short, so that many fit into the options of a mount.
fn layer_name(key: &Digest) -> String {
    key.hex()[..32].into()
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, SnapshotError> {
    match fs::read(path) {
        // What cannot be read is as good as absent: it is made again.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Writes a file at once or not at all.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), SnapshotError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{next}", std::process::id()));
    let bytes = serde_json::to_vec(value).expect("it has string keys only");
    fs::write(&temporary, bytes).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("write", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::File { action, path, source }
}

#[cfg(test)]
mod tests;
