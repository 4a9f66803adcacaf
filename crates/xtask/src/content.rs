//! Keys for caches: SHA-256 over the bytes that a thing is made from.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// Collects what a thing is made from.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds a text; its length counts, so that neighbours cannot run together.
    pub fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// Adds all files at or below `path`: names, whether they are executable, contents. Build
    /// output (`target`) does not count.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn files(mut self, path: &Path) -> Result<Self> {
        let mut found = Vec::new();
        collect(path, &mut found)?;
        for file in found {
            let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            self = self.text(&name);
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(&bytes);
        }
        Ok(self)
    }

    /// The key: 32 hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn collect(path: &Path, into: &mut Vec<std::path::PathBuf>) -> Result<()> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let mut entries = fs::read_dir(path)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .with_context(|| format!("cannot list {}", path.display()))?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        if entry.file_name() != "target" {
            collect(&entry.path(), into)?;
        }
    }
    Ok(())
}
