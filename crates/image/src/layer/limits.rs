//! How much may be made of one layer.

use std::path::Path;

use super::LayerError;

/// Limits of one layer. A few kilobytes of compressed tar can name a million directories or
/// hold gigabytes of zeros; the reader stops before the disk or the memory is full.
///
/// There is no limit on the ratio of compression: an honest file of zeros compresses as well
/// as a bomb does.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of all files together, holes included. 16 GiB by default.
    pub content: u64,
    /// Bytes of everything else: 512 for each entry, and its names and attributes. 1 GiB by
    /// default, which is enough for more than half a million files.
    pub metadata: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { content: 16 << 30, metadata: 1 << 30 }
    }
}

/// What is left of the limits.
pub(crate) struct Budget {
    limits: Limits,
    content: u64,
    metadata: u64,
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), content: limits.content, metadata: limits.metadata }
    }

    pub fn content(&mut self, len: u64) -> Result<(), LayerError> {
        let what = "files";
        let too_large = LayerError::TooLarge { what, limit: self.limits.content };
        self.content = self.content.checked_sub(len).ok_or(too_large)?;
        Ok(())
    }

    pub fn metadata(&mut self, len: u64) -> Result<(), LayerError> {
        let what = "names and attributes";
        let too_large = LayerError::TooLarge { what, limit: self.limits.metadata };
        self.metadata = self.metadata.checked_sub(len).ok_or(too_large)?;
        Ok(())
    }

    /// Takes a directory that has no entry of its own. A path of 2,000 parts makes as many, each
    /// with a path of its own.
    pub fn implied(&mut self, directory: &Path) -> Result<(), LayerError> {
        self.metadata(512 + directory.as_os_str().len() as u64)
    }

    pub fn left(&self) -> Limits {
        Limits { content: self.content, metadata: self.metadata }
    }
}
