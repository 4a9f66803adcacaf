//! Cache mounts: directories that are kept for the next command that names them.
//!
//! ```text
//! mounts/NAME/lock     held by who uses it: by any number, or by one alone
//!             files/   what is in it, at once complete with what it begins with
//! ```
//!
//! Two that share one with others wait for who does not, and the other way round. Where several
//! are wanted they are locked in the order of their names, or two commands could wait for each
//! other for ever.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use koskit_llb::{Digest, pb};
use pb::{CacheSharingOpt, MountType};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Problem;
use crate::exec::{Cancel, ExecError};
use crate::snapshot::same;

/// How long to wait before the next look at a lock that somebody has.
const PAUSE: Duration = Duration::from_millis(20);

/// The cache mounts of a command, for which they are locked while this is there.
pub(super) struct CacheMounts {
    directories: BTreeMap<String, PathBuf>,
    _locks: Vec<File>,
}

/// Fills the directory of a cache mount with what it begins with: the input of that number.
pub(super) type Fill<'a> = &'a dyn Fn(usize, &Path) -> Result<(), Problem>;

impl CacheMounts {
    /// Waits for those that an op names. `ids` names its inputs.
    pub fn lock(
        op: &pb::ExecOp,
        root: &Path,
        ids: &[&str],
        cancel: &Cancel,
        fill: Fill<'_>,
    ) -> Result<Self, Problem> {
        let args = op.meta.as_ref().map(|meta| meta.args.as_slice()).unwrap_or_default();
        let mut wanted: BTreeMap<String, (CacheSharingOpt, i64)> = BTreeMap::new();
        for mount in op.mounts.iter().filter(|mount| mount.mount_type() == MountType::Cache) {
            let sharing = mount.cache_opt.as_ref().map_or(CacheSharingOpt::Shared, |o| o.sharing());
            let entry = wanted.entry(name(mount, ids)).or_insert((sharing, mount.input));
            // The command itself shares what it names twice.
            if entry.0 == CacheSharingOpt::Shared {
                entry.0 = sharing;
            }
        }
        let mut mounts = Self { directories: BTreeMap::new(), _locks: Vec::new() };
        for (name, (sharing, input)) in wanted {
            let (directory, lock) = directory(root, &name, sharing, args, cancel)?;
            let files = directory.join("files");
            if !files.exists() {
                let new = tempfile::tempdir_in(&directory);
                let new = new.map_err(Problem::cache("write", &directory))?;
                let inside = new.path().join("files");
                fs::create_dir(&inside).map_err(Problem::cache("make", &inside))?;
                if let Ok(input) = usize::try_from(input) {
                    fill(input, &inside)?;
                }
                // Whoever was faster has made the same.
                if let Err(e) = fs::rename(&inside, &files) {
                    if !files.exists() {
                        return Err(Problem::cache("make", &files)(e));
                    }
                }
            }
            mounts.directories.insert(name, files);
            mounts._locks.push(lock);
        }
        Ok(mounts)
    }

    /// The directory of a mount of the op.
    pub fn directory(&self, mount: &pb::Mount, ids: &[&str]) -> PathBuf {
        self.directories[&name(mount, ids)].clone()
    }
}

/// What tells a cache mount from others: its ID, and what it begins with.
fn name(mount: &pb::Mount, ids: &[&str]) -> String {
    let id = mount.cache_opt.as_ref().map_or("", |options| &options.id);
    let id = if id.is_empty() { &mount.dest } else { id };
    match usize::try_from(mount.input) {
        Ok(input) => format!("{id} {}", ids[input]),
        Err(_) => id.to_owned(),
    }
}

/// The directory of a cache mount, and the lock on it.
fn directory(
    root: &Path,
    name: &str,
    sharing: CacheSharingOpt,
    args: &[String],
    cancel: &Cancel,
) -> Result<(PathBuf, File), Problem> {
    let mut number = 0;
    loop {
        let digest = Digest::of(format!("{number} {name}").as_bytes());
        let directory = root.join("mounts").join(&digest.hex()[..32]);
        fs::create_dir_all(&directory).map_err(Problem::cache("make", &directory))?;
        let path = directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Problem::cache("open", &path))?;
        let operation = match sharing {
            CacheSharingOpt::Shared => FlockOperation::NonBlockingLockShared,
            CacheSharingOpt::Locked | CacheSharingOpt::Private => {
                FlockOperation::NonBlockingLockExclusive
            }
        };
        match flock(&file, operation) {
            Ok(()) if same(&file, &path) => {
                // For people, and for those who clean up.
                let _ = fs::write(directory.join("id"), name);
                let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
                return Ok((directory, file));
            }
            // It was removed before it was locked.
            Ok(()) => {}
            // Somebody has it, so there is another one.
            Err(Errno::WOULDBLOCK) if sharing == CacheSharingOpt::Private => number += 1,
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                if cancel.is_cancelled() {
                    return Err(ExecError::cancelled(args).into());
                }
                std::thread::sleep(PAUSE);
            }
            Err(e) => return Err(Problem::cache("lock", &path)(e.into())),
        }
    }
}
