//! What a copy of a context has made, kept beside its files for the next one (see
//! [`crate::files::Links`]).

use std::fs;
use std::path::Path;

use super::record::{read_json, write_json};
use super::{Snapshot, SnapshotError, Snapshots};
use crate::files::Links;

/// The list in the directory of a layer.
const LIST: &str = "copied.json";

impl Snapshots {
    /// For a step that copies what another one has copied before, if it has left a list.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub(crate) fn links(&self, earlier: Option<&Snapshot>) -> Result<Links, SnapshotError> {
        let Some(name) = earlier.and_then(|earlier| earlier.layers.last()) else {
            return Ok(Links::new(None));
        };
        let directory = self.layer(name);
        let copied = read_json(&directory.join(LIST))?;
        Ok(Links::new(copied.map(|copied| (directory.join("files"), copied))))
    }

    /// Makes links in the files of a directory that is to become a layer, and leaves the list.
    pub(super) fn link(&self, links: Links, directory: &Path) -> Result<(), SnapshotError> {
        if let Some(layer) = links.from().and_then(Path::parent) {
            // What it takes alone is less from now on.
            let _ = fs::remove_file(layer.join("size"));
        }
        let copied =
            links.make(&directory.join("files")).map_err(|e| SnapshotError::Link(Box::new(e)))?;
        write_json(&directory.join(LIST), &copied)
    }
}
