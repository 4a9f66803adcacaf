//! Some files of an image, as a container sees them, without the others in memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::compress::Decoder;
use crate::layer::{Change, Entry, EntryKind, LayerError, Reader};
use crate::{Error, Layer, Limits, Store};

/// Bytes that are kept at most, of all files together.
const MAX_KEPT: u64 = 64 << 20;

/// The contents of files by their paths, which are relative and clean (`etc/os-release`).
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Store {
    /// The contents of those regular files whose path is wanted, of layers from the lowest to the
    /// topmost. They are read through once, and nothing else of them is kept. Symbolic links are
    /// not followed.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile, or the files are larger than 64 MiB together.
    pub fn files(&self, layers: &[Layer], wanted: &dyn Fn(&Path) -> bool) -> Result<Files, Error> {
        let mut files = Files::new();
        let mut left = MAX_KEPT;
        for layer in layers {
            let applied = apply(&mut files, self.layer(layer)?, wanted, &mut left);
            applied.map_err(|source| Error::Layer { digest: layer.digest.clone(), source })?;
        }
        Ok(files)
    }
}

/// The contents of those regular files of a tar archive, which may be compressed with gzip or zstd,
/// whose path is wanted.
///
/// # Errors
/// The archive is damaged or hostile, or the files are larger than 64 MiB together.
pub fn files_of_archive(
    archive: impl Read,
    wanted: &dyn Fn(&Path) -> bool,
) -> Result<Files, LayerError> {
    let (mut files, mut left) = (Files::new(), MAX_KEPT);
    let archive = Decoder::new(archive).map_err(LayerError::Read)?;
    apply(&mut files, archive, wanted, &mut left)?;
    Ok(files)
}

/// Applies one layer. What it removes is removed from `files`, the layers below; what it puts
/// comes last, whatever the order of its entries.
fn apply(
    files: &mut Files,
    layer: impl Read,
    wanted: &dyn Fn(&Path) -> bool,
    left: &mut u64,
) -> Result<(), LayerError> {
    let mut upper = Files::new();
    let mut reader = Reader::new(layer, &Limits::default());
    while let Some(entry) = reader.next()? {
        match Change::of(entry)? {
            Some(Change::Put(entry)) => {
                cover(files, &entry);
                cover(&mut upper, &entry);
                if !wanted(&entry.path) {
                    continue;
                }
                match entry.kind {
                    EntryKind::File(_) => {
                        let bytes = content(&mut reader, left)?;
                        upper.insert(entry.path, bytes);
                    }
                    EntryKind::Link(target) => {
                        if let Some(bytes) = upper.get(&target).cloned() {
                            take(left, bytes.len() as u64)?;
                            upper.insert(entry.path, bytes);
                        }
                    }
                    _ => {}
                }
            }
            Some(Change::Remove(path)) => {
                files.remove(&path);
                remove_inside(files, &path);
            }
            Some(Change::Hide(path)) => remove_inside(files, &path),
            None => {}
        }
    }
    files.append(&mut upper);
    Ok(())
}

/// Forgets what an entry takes the place of.
fn cover(files: &mut Files, entry: &Entry) {
    if files.is_empty() {
        return;
    }
    for path in entry.path.ancestors() {
        files.remove(path);
    }
    if entry.kind != EntryKind::Directory {
        remove_inside(files, &entry.path);
    }
}

fn remove_inside(files: &mut Files, directory: &Path) {
    let after = (Bound::Excluded(directory.to_owned()), Bound::Unbounded);
    let inside = files.range(after).map(|(path, _)| path);
    let inside: Vec<PathBuf> =
        inside.take_while(|path| path.starts_with(directory)).cloned().collect();
    for path in inside {
        files.remove(&path);
    }
}

fn content<R: Read>(reader: &mut Reader<R>, left: &mut u64) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    let mut content = reader.content();
    let read = content.by_ref().take(*left + 1).read_to_end(&mut bytes);
    read.map_err(|e| content.failed(e))?;
    take(left, bytes.len() as u64)?;
    Ok(bytes)
}

fn take(left: &mut u64, len: u64) -> Result<(), LayerError> {
    let too_large = LayerError::TooLarge { what: "files of package databases", limit: MAX_KEPT };
    *left = left.checked_sub(len).ok_or(too_large)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    fn layer(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_path(path).unwrap();
            if kind.is_file() {
                header.set_size(content.len() as u64);
            } else if !kind.is_dir() {
                header.set_link_name(content).unwrap();
            }
            header.set_cksum();
            let bytes = if kind.is_file() { content.as_bytes() } else { b"" };
            tar.append(&header, bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn merged(layers: &[&[(&str, EntryType, &str)]]) -> Vec<(String, String)> {
        let (mut files, mut left) = (Files::new(), MAX_KEPT);
        for entries in layers {
            let wanted = |path: &Path| !path.ends_with("other");
            apply(&mut files, &layer(entries)[..], &wanted, &mut left).unwrap();
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        files.into_iter().map(|(p, b)| (p.display().to_string(), text(b))).collect()
    }

    const FILE: EntryType = EntryType::Regular;

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn the_topmost_layer_that_has_a_file_decides() {
        let got = merged(&[
            &[("a/x", FILE, "1"), ("a/y", FILE, "1"), ("a/other", FILE, "no")],
            &[("a/y", FILE, "2"), ("a/z", EntryType::Link, "a/y")],
        ]);
        assert_eq!(got, pairs(&[("a/x", "1"), ("a/y", "2"), ("a/z", "2")]));
    }

    #[test]
    fn whiteouts_remove_what_is_below_and_not_what_is_beside() {
        let below: &[_] = &[("a/x", FILE, "1"), ("a/b/y", FILE, "1"), ("c", FILE, "1")];
        assert_eq!(merged(&[below, &[(".wh.a", FILE, "")]]), pairs(&[("c", "1")]));
        let got = merged(&[below, &[("a/new", FILE, "2"), ("a/.wh..wh..opq", FILE, "")]]);
        assert_eq!(got, pairs(&[("a/new", "2"), ("c", "1")]));
    }

    #[test]
    fn what_takes_the_place_of_a_file_or_a_directory_hides_it() {
        let below: &[_] = &[("a/x", FILE, "1"), ("c", FILE, "1")];
        let got = merged(&[below, &[("a", EntryType::Symlink, "c"), ("c/d", FILE, "2")]]);
        assert_eq!(got, pairs(&[("c/d", "2")]));
    }

    #[test]
    fn files_that_are_too_large_together_are_refused() {
        let (mut files, mut left) = (Files::new(), 3);
        let tar = layer(&[("a", FILE, "12"), ("b", FILE, "12")]);
        let error = apply(&mut files, &tar[..], &|_| true, &mut left).unwrap_err();
        assert!(matches!(error, LayerError::TooLarge { .. }), "{error}");
    }
}
