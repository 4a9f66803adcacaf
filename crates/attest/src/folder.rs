//! The files below a folder, for who has an image's root file system and not its layers.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use koskit_image::Files;

/// Bytes that are kept at most, of all files together.
const MAX_KEPT: u64 = 64 << 20;

/// Shows all regular files, by their paths in the folder. Links are not followed, and no other
/// file system is entered by them.
pub(crate) fn each(
    root: &Path,
    show: &mut dyn FnMut(&Path, File) -> io::Result<()>,
) -> io::Result<()> {
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            let kind = entry?;
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() {
                let inside = path.strip_prefix(root).unwrap_or(&path);
                show(inside, File::open(&path)?)?;
            }
        }
    }
    Ok(())
}

/// The contents of the files that are wanted.
pub(crate) fn files(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> io::Result<Files> {
    let (mut files, mut left) = (Files::new(), MAX_KEPT);
    each(root, &mut |path, file| {
        if wanted(path) {
            let mut bytes = Vec::new();
            file.take(left + 1).read_to_end(&mut bytes)?;
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                io::Error::other("the package databases are larger than 64 MiB together")
            })?;
            files.insert(path.to_owned(), bytes);
        }
        Ok(())
    })?;
    Ok(files)
}
