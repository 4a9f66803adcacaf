//! Small files that say what a snapshot is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use koskit_llb::Digest;
use serde::{Deserialize, Serialize};

use super::trust::Moment;
use super::{SnapshotError, failed};

/// How exactly it is known when something was used last.
const EXACTLY: Duration = Duration::from_secs(600);

/// `snapshot.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The whole key.
    pub key: String,
    /// The names of the layers below, lowest first.
    pub below: Vec<String>,
    /// When it was made.
    #[serde(default)]
    pub made: Moment,
    /// The same in seconds since 1970.
    #[serde(default)]
    pub created: u64,
    /// What made it, for people.
    #[serde(default)]
    pub description: String,
}

/// The directory of a key: short, so that many fit into the options of a mount.
pub(super) fn layer_name(key: &Digest) -> String {
    key.hex()[..32].into()
}

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(
    path: &Path,
) -> Result<Option<T>, SnapshotError> {
    match fs::read(path) {
        // What cannot be read is as good as absent: it is made again.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Writes a file at once or not at all.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), SnapshotError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{next}", std::process::id()));
    let bytes = serde_json::to_vec(value).expect("it has string keys only");
    fs::write(&temporary, bytes).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("write", path))
}

/// Notes that what a file belongs to was used: that is the file's time. Nothing depends on it.
pub(super) fn touch(path: &Path) {
    let now = SystemTime::now();
    let Ok(before) = fs::metadata(path).and_then(|metadata| metadata.modified()) else { return };
    if now.duration_since(before).is_ok_and(|age| age < EXACTLY) {
        return;
    }
    let set = |file: fs::File| file.set_times(fs::FileTimes::new().set_modified(now));
    let _ = fs::File::options().write(true).open(path).and_then(set);
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
