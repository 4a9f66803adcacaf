//! What the build cache takes of the disk, and how it gives that back.
//!
//! Removed is what was not used for the longest time, never what a running build needs (see
//! `lease`) nor what something that stays is made on. A removal is a rename into `trash` while
//! nobody else holds `lock`, which is short, and the rest after that; if it is killed, the next
//! command goes on with it. All of it happens in the namespace in which the files were made, so
//! that files of subordinate users are no obstacle.
//!
//! By itself a build cleans up at most every ten minutes, with BuildKit's limits
//! ([`Prune::automatic`]).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use koskit_image::Store;
use rustix::fs::{FlockOperation, flock, statvfs};

use super::layers::chain_keys;
use super::lease::Lease;
use super::record::{layer_name, read_json, seconds};
use super::{SnapshotError, Snapshots, failed};

/// How long a build leaves the cache alone after another one has cleaned up.
const PAUSE: Duration = Duration::from_secs(600);

/// What a record of the cache is, by BuildKit's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a step made, or a layer of an image, unpacked.
    Regular,
    /// The content of a cache mount.
    CacheMount,
    /// What was fetched of a git repository.
    GitRepository,
}

/// One thing in the cache.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// What made it.
    pub description: String,
    /// Bytes on the disk.
    pub size: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// The same, within ten minutes: its own use, or that of what is made on it.
    pub last_used: u64,
    /// Whether a running build needs it.
    pub in_use: bool,
    /// Whether an image in the store has it as a layer.
    pub shared: bool,
    /// The names of those that it is made on, the lowest first.
    pub parents: Vec<String>,
}

/// Which things are meant. All that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not used for so long.
    pub unused_for: Option<Duration>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// With this name.
    pub id: Option<String>,
    /// Made on this one.
    pub parent: Option<String>,
    /// With these words in the description.
    pub description: Option<String>,
    /// In use, or not.
    pub in_use: Option<bool>,
    /// A layer of an image, or not.
    pub shared: Option<bool>,
}

/// Where removing ends, in bytes; with none of them it does not. BuildKit's meaning: no more than
/// `max_used` is kept, less where `min_free` of the disk would not be free, but never less than
/// `reserved`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What may always be kept.
    pub reserved: u64,
    /// The most that is kept; 0 is no limit.
    pub max_used: u64,
    /// What shall be free on the disk.
    pub min_free: u64,
}

/// What is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also what images in the store have as layers.
    pub all: bool,
    /// Which.
    pub filter: Filter,
    /// Where to end.
    pub limits: Limits,
}

impl Prune {
    /// BuildKit's own policies, for a disk of so many bytes: cache mounts that were not used for
    /// two days go if there are more than 512 MB of them, anything after 60 days if there is more
    /// than the limits allow, then anything until they hold. The limits: at most 80 % of the disk
    /// or 100 GB, 20 % of the disk free, and 10 % or 10 GB that may always be kept.
    pub fn automatic(disk: u64) -> Vec<Self> {
        let part = |percent: u64, most: u64| (disk / 100 * percent).min(most);
        let limits = Limits {
            reserved: part(10, 10_000_000_000),
            max_used: part(80, 100_000_000_000),
            min_free: disk / 100 * 20,
        };
        let day = 24 * 3600;
        let unused = |days: u64| Some(Duration::from_secs(days * day));
        vec![
            Self {
                all: false,
                filter: Filter {
                    unused_for: unused(2),
                    kind: Some(Kind::CacheMount),
                    ..Filter::default()
                },
                limits: Limits { max_used: 512_000_000, ..Limits::default() },
            },
            Self {
                all: true,
                filter: Filter { unused_for: unused(60), ..Filter::default() },
                limits,
            },
            Self { all: false, filter: Filter::default(), limits },
            Self { all: true, filter: Filter::default(), limits },
        ]
    }
}

impl Limits {
    /// How many bytes are to be kept of a total, while so many are free on the disk.
    fn keep(&self, total: u64, free: u64) -> u64 {
        if *self == Self::default() {
            return 0;
        }
        let mut keep = if self.max_used == 0 { u64::MAX } else { self.max_used };
        if self.min_free > free {
            keep = keep.min(total.saturating_sub(self.min_free - free));
        }
        keep.max(self.reserved)
    }
}

impl Filter {
    /// Whether something is meant.
    pub fn takes(&self, usage: &Usage) -> bool {
        let now = seconds(SystemTime::now());
        let has = |wanted: &Option<String>, found: &str| match wanted {
            Some(wanted) => wanted == found,
            None => true,
        };
        self.unused_for.is_none_or(|age| now.saturating_sub(usage.last_used) >= age.as_secs())
            && self.kind.is_none_or(|kind| kind == usage.kind)
            && has(&self.id, &usage.id)
            && self.parent.as_ref().is_none_or(|parent| usage.parents.last() == Some(parent))
            && self.description.as_ref().is_none_or(|words| usage.description.contains(words))
            && self.in_use.is_none_or(|in_use| in_use == usage.in_use)
            && self.shared.is_none_or(|shared| shared == usage.shared)
    }
}

impl Snapshots {
    /// All that there is, what was used last first.
    ///
    /// # Errors
    /// The cache or the store cannot be read.
    pub fn usage(&self, store: &Store) -> Result<Vec<Usage>, SnapshotError> {
        let sizes = self.measure()?;
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        self.all(store, &sizes)
    }

    /// Removes what is meant, and gives what that was, in the order of removal.
    ///
    /// # Errors
    /// The cache or the store cannot be read.
    pub fn prune(&self, store: &Store, prune: &Prune) -> Result<Vec<Usage>, SnapshotError> {
        let sizes = self.measure()?;
        let locked = self.lock(FlockOperation::LockExclusive)?;
        let all = self.all(store, &sizes)?;
        let total: u64 = all.iter().filter(|usage| in_scope(prune, usage)).map(|u| u.size).sum();
        let free = statvfs(self.root.as_path()).map(|disk| disk.f_bavail * disk.f_frsize);
        let keep = prune.limits.keep(total, free.unwrap_or(u64::MAX));
        let removed = victims(all, prune, total, keep);
        for usage in &removed {
            self.discard(&match usage.kind {
                Kind::Regular => self.layer(&usage.id),
                Kind::CacheMount => self.kept_path("mounts", &usage.id),
                Kind::GitRepository => self.kept_path("git", &usage.id),
            });
        }
        drop(locked);
        self.empty_trash();
        if prune.all && prune.filter == Filter::default() && prune.limits == Limits::default() {
            // They stand for keys of what is gone.
            let _ = fs::remove_dir_all(self.root.join("keys"));
            let _ = fs::remove_file(self.root.join("hashes"));
        }
        Ok(removed)
    }

    /// Cleans up as BuildKit would, unless that was done a moment ago.
    ///
    /// # Errors
    /// As [`Snapshots::prune`].
    pub fn clean_up(&self, store: &Store) -> Result<(), SnapshotError> {
        let path = self.root.join("cleaned");
        let last = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let recently = |last| SystemTime::now().duration_since(last).is_ok_and(|age| age < PAUSE);
        let first = last.is_err();
        if last.is_ok_and(recently) {
            return Ok(());
        }
        // First, so that others need not.
        fs::write(&path, "").map_err(failed("write", &path))?;
        if first {
            // There is nothing old in a new cache.
            return Ok(());
        }
        let disk = statvfs(self.root.as_path()).map(|disk| disk.f_blocks * disk.f_frsize);
        for prune in Prune::automatic(disk.unwrap_or(0)) {
            self.prune(store, &prune)?;
        }
        Ok(())
    }

    /// Finds out all sizes; those of layers by their directories. It takes a while, so nobody
    /// shall have to wait for it: `lock` is not held.
    ///
    /// A file that several layers have counts for the one that was used last: what was not used
    /// for longer is removed first, and that file stays then.
    fn measure(&self) -> Result<HashMap<PathBuf, u64>, SnapshotError> {
        let mut sizes = HashMap::new();
        let used = |name: &String| {
            let record = self.layer(name).join("snapshot.json");
            fs::metadata(record).and_then(|metadata| metadata.modified()).ok()
        };
        let mut layers = self.names("layers")?;
        layers.sort_by_cached_key(|name| (Reverse(used(name)), name.clone()));
        let mut seen = HashSet::new();
        for name in layers {
            let directory = self.layer(&name);
            let size = layer_size(&directory, &mut seen);
            sizes.insert(directory, size);
        }
        for (directory, files) in [("mounts", "files"), ("git", "repo")] {
            for name in self.names(directory)? {
                let path = self.kept_path(directory, &name).join(files);
                let (size, _) = on_disk(&path, &mut HashSet::new());
                sizes.insert(path, size);
            }
        }
        Ok(sizes)
    }

    fn all(
        &self,
        store: &Store,
        sizes: &HashMap<PathBuf, u64>,
    ) -> Result<Vec<Usage>, SnapshotError> {
        let leases = self.root.join("leases");
        let leased = Lease::all(&leases).map_err(failed("read", &leases))?;
        let images = Images::of(store)?;
        let mut all = Vec::new();
        for name in self.names("layers")? {
            let Some(record) = self.record(&name)? else { continue };
            let path = self.layer(&name).join("snapshot.json");
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
            all.push(Usage {
                size: sizes.get(&self.layer(&name)).copied().unwrap_or(0),
                kind: Kind::Regular,
                description: record.description,
                created: record.created,
                last_used: used.map_or(record.created, seconds),
                in_use: leased.contains(&name),
                shared: images.have(&name, &self.layer(&name))?,
                parents: record.below,
                id: name,
            });
        }
        spread(&mut all);
        for name in self.names("mounts")? {
            all.push(self.kept_usage(Kind::CacheMount, name, sizes));
        }
        for name in self.names("git")? {
            all.push(self.kept_usage(Kind::GitRepository, name, sizes));
        }
        all.sort_by(|a, b| b.last_used.cmp(&a.last_used).then(a.id.cmp(&b.id)));
        Ok(all)
    }

    /// What has a directory with a lock of its own.
    fn kept_usage(&self, kind: Kind, name: String, sizes: &HashMap<PathBuf, u64>) -> Usage {
        let (directory, files, what) = match kind {
            Kind::GitRepository => ("git", "repo", "git repository"),
            _ => ("mounts", "files", "cache mount"),
        };
        let directory = self.kept_path(directory, &name);
        let lock = File::open(directory.join("lock"));
        let in_use = lock
            .as_ref()
            .is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_err());
        let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let used = time(&directory.join("lock")).map_or(0, seconds);
        let description = fs::read_to_string(directory.join("id")).unwrap_or_default();
        Usage {
            kind,
            description: format!("{what} {description}").trim_end().to_owned(),
            size: sizes.get(&directory.join(files)).copied().unwrap_or(0),
            created: fs::metadata(&directory).and_then(|m| m.created()).map_or(used, seconds),
            last_used: used,
            in_use,
            shared: false,
            parents: Vec::new(),
            id: name,
        }
    }

    fn kept_path(&self, directory: &str, name: &str) -> PathBuf {
        self.root.join(directory).join(name)
    }

    /// The names in a directory; none if there is no such.
    fn names(&self, directory: &str) -> Result<Vec<String>, SnapshotError> {
        let path = self.root.join(directory);
        let entries = match fs::read_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &path))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(failed("read", &path))
    }
}

/// What images in the store have as layers.
struct Images {
    /// The names of their file systems.
    names: HashSet<String>,
    /// The digests of their blobs.
    blobs: HashSet<String>,
}

impl Images {
    fn of(store: &Store) -> Result<Self, SnapshotError> {
        let mut images = Self { names: HashSet::new(), blobs: HashSet::new() };
        for tagged in store.list()? {
            for (_, descriptor) in &tagged.platforms {
                // A damaged image keeps nothing alive, and is told elsewhere.
                let Ok(image) = store.image(descriptor) else { continue };
                images.names.extend(chain_keys(&image.layers).iter().map(layer_name));
                images.blobs.extend(image.layers.iter().map(|layer| layer.digest.to_string()));
            }
        }
        Ok(images)
    }

    fn have(&self, name: &str, directory: &Path) -> Result<bool, SnapshotError> {
        if self.names.contains(name) {
            return Ok(true);
        }
        let entries = fs::read_dir(directory).map_err(failed("read", directory))?;
        for entry in entries {
            let entry = entry.map_err(failed("read", directory))?;
            if entry.file_name().to_string_lossy().starts_with("layer") {
                let packed: Option<super::layers::Packed> = read_json(&entry.path())?;
                if packed.is_some_and(|packed| self.blobs.contains(&packed.digest)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// What is made on something uses it.
fn spread(all: &mut [Usage]) {
    let places: HashMap<String, usize> =
        all.iter().enumerate().map(|(place, usage)| (usage.id.clone(), place)).collect();
    for place in 0..all.len() {
        let (last_used, in_use) = (all[place].last_used, all[place].in_use);
        for parent in all[place].parents.clone() {
            if let Some(&place) = places.get(&parent) {
                all[place].last_used = all[place].last_used.max(last_used);
                all[place].in_use |= in_use;
            }
        }
    }
}

/// Whether something counts towards the limits.
fn in_scope(prune: &Prune, usage: &Usage) -> bool {
    prune.filter.kind.is_none_or(|kind| kind == usage.kind)
}

/// What is removed of all: the longest unused first, and nothing that something else needs.
fn victims(all: Vec<Usage>, prune: &Prune, total: u64, keep: u64) -> Vec<Usage> {
    let mut children: HashMap<String, usize> = HashMap::new();
    for parent in all.iter().flat_map(|usage| &usage.parents) {
        *children.entry(parent.clone()).or_default() += 1;
    }
    let mut left = all;
    // What others are made on comes after them.
    left.sort_by(|a, b| a.last_used.cmp(&b.last_used).then(b.parents.len().cmp(&a.parents.len())));
    let (mut total, mut removed) = (total, Vec::new());
    loop {
        let before = removed.len();
        let mut rest = Vec::new();
        for usage in left {
            let goes = total > keep
                && !usage.in_use
                && (prune.all || !usage.shared)
                && children.get(&usage.id).is_none_or(|&count| count == 0)
                && prune.filter.takes(&usage);
            if !goes {
                rest.push(usage);
                continue;
            }
            total = total.saturating_sub(usage.size);
            for parent in &usage.parents {
                children.entry(parent.clone()).and_modify(|count| *count -= 1);
            }
            removed.push(usage);
        }
        left = rest;
        if removed.len() == before {
            return removed;
        }
    }
}

/// Bytes that a layer takes, without the files that were seen in others. It does not change, so
/// it is noted, unless others have files of it.
fn layer_size(directory: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let note = directory.join("size");
    if let Some(size) = fs::read_to_string(&note).ok().and_then(|text| text.parse().ok()) {
        return size;
    }
    let (size, alone) = on_disk(&directory.join("files"), seen);
    if alone {
        // Half of a number would be a wrong one.
        let half = directory.join(format!("size.{}", std::process::id()));
        let _ = fs::write(&half, size.to_string()).and_then(|()| fs::rename(&half, &note));
    }
    size
}

/// Bytes that a directory takes, and whether all names of its files are in it. A file that was
/// seen before counts no more.
fn on_disk(directory: &Path, seen: &mut HashSet<(u64, u64)>) -> (u64, bool) {
    let mut size = 0;
    // For each file with several names, how many of them are elsewhere as far as is known.
    let mut elsewhere: HashMap<(u64, u64), u64> = HashMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.nlink() > 1 {
                let file = (metadata.dev(), metadata.ino());
                *elsewhere.entry(file).or_insert(metadata.nlink()) -= 1;
                if !seen.insert(file) {
                    continue;
                }
            }
            size += metadata.blocks() * 512;
        }
    }
    (size, elsewhere.values().all(|&names| names == 0))
}

#[cfg(test)]
mod tests;
