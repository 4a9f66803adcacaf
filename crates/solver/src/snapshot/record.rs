//! Small files that say what a snapshot is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use koskit_llb::Digest;
use serde::{Deserialize, Serialize};

use super::{SnapshotError, failed};

/// `snapshot.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The whole key.
    pub key: String,
    /// The names of the layers below, lowest first.
    pub below: Vec<String>,
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
