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
//!     leases/PID-N                       what running builds need (see `lease`)
//!     doing/KEY                          what somebody is making (see `claim`)
//!     flushed.json                       what survives a power failure (see `trust`)
//!     mounts/ID/                         the contents of cache mounts
//!     trash/                             what is being removed
//!     empty/1, empty/2                   the lowest layers of file systems that have too few
//!     layers/KEY/files/                  what a step changed
//!                snapshot.json           the key, and the names of the layers below
//!                copied.json             what a COPY of a context made, for the next one (see `copies`)
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
//! A machine that loses its power is another matter: see `trust`.
//!
//! # What is removed
//! `gc` removes what was not used for long, or what there is too much of, and never what a
//! running build has found or made.
//!
//! # Whose the files are
//! With many users (see [`Ids::Many`]) some files belong to subordinate ones, and the user cannot
//! remove them but in a namespace with the same mapping: `podman unshare rm -rf …` is one.

mod claim;
mod combine;
mod copies;
mod gc;
mod layers;
mod lease;
mod record;
mod trust;
mod work;

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use koskit_image::LayerError;
use koskit_image::layer::Ownership;
use koskit_llb::Digest;
use rustix::fs::{CWD, FlockOperation, Timespec, Timestamps};
use thiserror::Error;

use crate::files::FileError;
use crate::namespace::{self, Ids};
use crate::overlay::Overlay;
pub use claim::Claim;
pub(crate) use claim::same;
pub use gc::{Filter, Kind, Limits, Prune, Usage};
pub(crate) use layers::bring;
use lease::Lease;
use record::{Record, layer_name, read_json};
use trust::Flushed;
pub(crate) use work::Temporary;
pub use work::{Active, View};

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
    /// A layer that is elsewhere and cannot be brought here.
    #[error("the layer {digest} of {image} cannot be fetched")]
    Fetch {
        /// The blob's digest.
        digest: Digest,
        /// The image that it was to come from.
        image: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// What was copied before and cannot be used again.
    #[error("files of an earlier build cannot be used in the build cache")]
    Link(#[source] Box<FileError>),
    /// The store.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
}

/// All snapshots of a cache directory. Cheap to clone; any number of processes may use one.
#[derive(Clone, Debug)]
pub struct Snapshots {
    root: Arc<PathBuf>,
    ownership: Ownership,
    shared: Arc<Shared>,
}

/// What all clones of a [`Snapshots`] have together.
#[derive(Debug)]
struct Shared {
    lease: Lease,
    flushed: Flushed,
    /// Whether something was made that is not flushed yet.
    made: AtomicBool,
}

/// A file system that does not change. [`Snapshot::scratch`] is empty; each other one is a layer
/// on its parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The names of the layers, lowest first.
    layers: Vec<String>,
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
        let root = directory.join(ids);
        for name in ["empty/1", "empty/2", "layers", "active", "leases", "doing", "trash"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(failed("make", &path))?;
        }
        let locked = work::lock(&root, FlockOperation::LockShared)?;
        let leases = root.join("leases");
        let lease = Lease::begin(&leases).map_err(failed("write", &leases))?;
        drop(locked);
        let flushed = Flushed::load(&root);
        let shared = Arc::new(Shared { lease, flushed, made: AtomicBool::new(false) });
        let snapshots = Self { root: Arc::new(root), ownership, shared };
        snapshots.remove_leftovers()?;
        Ok(snapshots)
    }

    /// Writes all that was made to the disk, if there is any, so that it survives a power failure.
    /// If that would take long it is left to [`Snapshots::flush_earlier`] of a later build.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub fn flush(&self) -> Result<(), SnapshotError> {
        if !self.shared.made.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let late = self.root.join("unflushed");
        if trust::is_long() {
            return fs::write(&late, "").map_err(failed("write", &late));
        }
        trust::flush(&self.root).map_err(failed("write", &self.root))
    }

    /// Begins to write what an earlier build has left, in a thread of its own: the kernel has
    /// written most of it, and who ends meanwhile leaves it to the next one.
    pub fn flush_earlier(&self) {
        let late = self.root.join("unflushed");
        let old = |time: SystemTime| time.elapsed().is_ok_and(|age| age > trust::WRITTEN);
        if !fs::metadata(&late).and_then(|metadata| metadata.modified()).is_ok_and(old) {
            return;
        }
        let root = Arc::clone(&self.root);
        std::thread::spawn(move || {
            if trust::flush(&root).is_ok() {
                let _ = fs::remove_file(&late);
            }
        });
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

    /// The snapshot that was committed with this key, if there is one. It stays for as long as
    /// this [`Snapshots`] and its clones do.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn get(&self, key: &Digest) -> Result<Option<Snapshot>, SnapshotError> {
        let name = layer_name(key);
        let _locked = match self.shared.lease.has(&name) {
            true => None,
            false => Some(self.lock(FlockOperation::LockShared)?),
        };
        let Some(record) = self.record(&name)? else { return Ok(None) };
        let whole = |name: &String| self.layer(name).join("snapshot.json").exists();
        // A key's name is only a part of it.
        if record.key != key.as_str()
            || !self.shared.flushed.covers(&record.made)
            || !record.below.iter().all(whole)
        {
            return Ok(None);
        }
        self.shared.lease.add(&name).map_err(failed("write", &self.root.join("leases")))?;
        record::touch(&self.layer(&name).join("snapshot.json"));
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

    /// A directory for what is needed for a while, or is to become a snapshot.
    pub(crate) fn temporary(&self) -> Result<Temporary, SnapshotError> {
        let work = self.work()?;
        let files = work.path().join("files");
        fs::create_dir(&files).map_err(failed("make", &files))?;
        self.copy_root(&Snapshot::scratch(), &files).map_err(failed("make", &files))?;
        Ok(Temporary { work })
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

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::File { action, path, source }
}

#[cfg(test)]
mod tests;
