//! File systems that are being made, and mounts.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use koskit_llb::Digest;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::record::{Record, layer_name, seconds, write_json};
use super::trust::Moment;
use super::{Snapshot, SnapshotError, Snapshots, failed};
use crate::files::Links;
use crate::overlay::{Overlay, detach};

/// A file system that is being made of a snapshot: mounted, and writable. Without
/// [`Active::commit`] it leaves nothing.
#[derive(Debug)]
pub struct Active {
    pub(super) work: Work,
    pub(super) parent: Snapshot,
}

/// A snapshot, mounted. Nothing must be written to it.
#[derive(Debug)]
pub struct View {
    pub(super) work: Work,
}

/// A directory that is nobody else's, on the file system of the snapshots. It goes with this, or
/// with the process.
#[derive(Debug)]
pub(crate) struct Temporary {
    pub(super) work: Work,
}

/// A locked directory in `active`, removed at the end.
#[derive(Debug)]
pub(super) struct Work {
    snapshots: Snapshots,
    /// In `active`.
    pub name: String,
    /// What makes it, for people.
    pub description: String,
    mounted: bool,
    /// What a copy has made.
    copies: Option<Links>,
    pub(super) _lock: File,
}

impl Snapshots {
    /// A locked directory of its own.
    pub(super) fn work(&self) -> Result<Work, SnapshotError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Against remove_leftovers, between the making of the directory and its lock.
        let _lock = self.lock(FlockOperation::LockShared)?;
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{next}", std::process::id());
            let path = self.root.join("active").join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // A process of another PID namespace, or one that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed("make", &path)(e)),
            }
            let lock = path.join("lock");
            let file = File::create_new(&lock).map_err(failed("make", &lock))?;
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|e| failed("lock", &lock)(e.into()))?;
            let (snapshots, description) = (self.clone(), String::new());
            return Ok(Work {
                snapshots,
                name,
                description,
                mounted: false,
                copies: None,
                _lock: file,
            });
        }
    }

    /// Removes what nobody has locked.
    pub(super) fn remove_leftovers(&self) -> Result<(), SnapshotError> {
        let directory = self.root.join("active");
        let entries = fs::read_dir(&directory).map_err(failed("read", &directory))?;
        let active = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        let active = active.map_err(failed("read", &directory))?;
        if !active.is_empty() {
            let _lock = self.lock(FlockOperation::LockExclusive)?;
            for path in active {
                let free = match File::open(path.join("lock")) {
                    Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok(),
                    Err(e) => e.kind() == io::ErrorKind::NotFound,
                };
                if free {
                    self.discard(&path);
                }
            }
        }
        // A process of the killed build may be dying and still write: then the next one that
        // opens has another try.
        self.empty_trash();
        Ok(())
    }

    /// Takes a directory away from where it is, at once; it is to be removed in `trash`, which
    /// takes time. The caller holds `lock` alone.
    pub(super) fn discard(&self, path: &Path) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = format!("{name}.{}-{next}", std::process::id());
        let _ = fs::rename(path, self.root.join("trash").join(to));
    }

    /// Removes what was discarded.
    pub(super) fn empty_trash(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("trash")) else { return };
        entries.flatten().for_each(|entry| drop(fs::remove_dir_all(entry.path())));
    }

    pub(super) fn lock(&self, operation: FlockOperation) -> Result<File, SnapshotError> {
        lock(&self.root, operation)
    }
}

/// The lock of all snapshots in a directory.
pub(super) fn lock(root: &Path, operation: FlockOperation) -> Result<File, SnapshotError> {
    let path = root.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed("open", &path))?;
    flock(&file, operation).map_err(|e| failed("lock", &path)(e.into()))?;
    Ok(file)
}

impl Active {
    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.work.path().join("merged")
    }

    /// Says what makes it, for people.
    pub fn describe(&mut self, description: String) {
        self.work.description = description;
    }

    /// Takes what a copy has made: what it has left to be linked gets its names when this becomes
    /// a snapshot.
    pub(crate) fn copies(&mut self, links: Links) {
        self.work.copies = Some(links);
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

impl Temporary {
    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.work.path()
    }

    /// The files of the snapshot that it may become.
    pub fn files(&self) -> PathBuf {
        self.work.path().join("files")
    }

    /// Makes what is in [`Self::files`] a snapshot with a key. If there is one with this key
    /// already, that is the snapshot.
    pub fn commit(self, key: &Digest) -> Result<Snapshot, SnapshotError> {
        self.work.keep(key, &Snapshot::scratch())
    }
}

impl View {
    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.work.path().join("merged")
    }
}

impl Work {
    pub(super) fn path(&self) -> PathBuf {
        self.snapshots.root.join("active").join(&self.name)
    }

    pub(super) fn mount(&mut self, overlay: &Overlay) -> Result<(), SnapshotError> {
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

    pub(super) fn unmount(&mut self) -> Result<(), SnapshotError> {
        if self.mounted {
            let merged = self.path().join("merged");
            detach(&merged).map_err(failed("unmount", &merged))?;
            self.mounted = false;
        }
        Ok(())
    }

    pub(super) fn keep(
        mut self,
        key: &Digest,
        parent: &Snapshot,
    ) -> Result<Snapshot, SnapshotError> {
        self.unmount()?;
        let directory = self.path();
        for name in ["merged", "work"] {
            let path = directory.join(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        if let Some(links) = self.copies.take() {
            self.snapshots.link(links, &directory)?;
        }
        let record = Record {
            key: key.to_string(),
            below: parent.layers.clone(),
            made: Moment::now(),
            created: seconds(SystemTime::now()),
            description: std::mem::take(&mut self.description),
        };
        write_json(&directory.join("snapshot.json"), &record)?;
        let name = layer_name(key);
        let to = self.snapshots.layer(&name);
        let shared = &self.snapshots.shared;
        let _locked = self.snapshots.lock(FlockOperation::LockShared)?;
        shared.lease.add(&name).map_err(failed("write", &self.snapshots.root))?;
        shared.made.store(true, Ordering::Relaxed);
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
