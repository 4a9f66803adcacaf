//! The files of images, without layers: as a tar archive, or in a directory.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use koskit_llb::Digest;
use sha2::{Digest as _, Sha256};

use crate::compress::Decoder;
use crate::layer::flatten::{directory, flatten};
use crate::layer::{Entry, EntryKind, Limits, Ownership, Reader, UnpackOptions, Writer, unpack};
use crate::scratch::Scratch;
use crate::{Error, Layer, LayerError, Store};

/// The files of one image, and where they go.
#[derive(Clone, Debug)]
pub struct RootFs<'a> {
    /// A directory below which they go, as one for each platform; empty if there is none.
    pub below: PathBuf,
    /// The image's layers, the lowest first.
    pub layers: &'a [Layer],
    /// Files that are put beside those of the image, or in the place of one.
    pub added: Vec<Added>,
}

/// A small file that is in no layer.
#[derive(Clone, Debug)]
pub struct Added {
    /// Its name, in the same directory as the root of the image.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its time, in seconds since 1970.
    pub time: i64,
}

impl Store {
    /// Writes the files of images as a tar archive, as a container sees them. Memory depends on
    /// their number and not on their size.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile, or the archive cannot be written.
    pub fn write_tar(&self, images: &[RootFs<'_>], to: impl Write) -> Result<(), Error> {
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, to));
        let failed = |e| Error::from(LayerError::Write(e));
        for image in images {
            if !image.below.as_os_str().is_empty() {
                writer.entry(&directory(image.below.clone())).map_err(failed)?;
            }
            flatten(self, image.layers, &image.below, &Limits::default(), &mut writer)?;
            for added in &image.added {
                let size = added.content.len() as u64;
                let entry = Entry {
                    kind: EntryKind::File(size),
                    mode: 0o600,
                    mtime: added.time,
                    ..directory(image.below.join(&added.name))
                };
                writer.entry(&entry).map_err(failed)?;
                writer.content(&mut added.content.as_slice(), size).map_err(failed)?;
            }
        }
        writer.finish().map_err(failed)
    }

    /// The files of an image with their digests, as a container sees them, by their paths.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile.
    pub fn file_digests(&self, layers: &[Layer]) -> Result<BTreeMap<PathBuf, Digest>, Error> {
        let image = RootFs { below: PathBuf::new(), layers, added: Vec::new() };
        let (writer, reader) = pipe();
        std::thread::scope(|scope| {
            let written = scope.spawn(move || self.write_tar(&[image], writer));
            let digests = digests(Reader::new(reader, &Limits::default()));
            let written = written.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
            match (written, digests) {
                (Err(Error::Pack(LayerError::Write(_))), Err(error)) => Err(error.into()),
                (Err(error), _) => Err(error),
                (Ok(()), digests) => Ok(digests?),
            }
        })
    }

    /// Writes the files of images into a directory, and makes it where there is none. All files
    /// belong to the caller. What is in the directory stays, unless a file of the same name comes
    /// in its place.
    ///
    /// # Errors
    /// As [`Store::write_tar`]; or a file would take the place of a directory. Then nothing in
    /// the directory has changed.
    pub fn write_files(&self, images: &[RootFs<'_>], to: &Path) -> Result<(), Error> {
        let made = fs::create_dir_all(to);
        made.map_err(Error::file("make", to))?;
        let scratch = Scratch::new(to.join(format!(".koskit-{}", std::process::id())));
        let _ = fs::remove_dir_all(scratch.path());
        fs::create_dir(scratch.path()).map_err(Error::file("make", scratch.path()))?;
        self.unpack_files(images, scratch.path())?;
        check(scratch.path(), to)?;
        place(scratch.path(), to)
    }

    fn unpack_files(&self, images: &[RootFs<'_>], to: &Path) -> Result<(), Error> {
        let (writer, reader) = pipe();
        std::thread::scope(|scope| {
            let written = scope.spawn(move || self.write_tar(images, writer));
            let options =
                UnpackOptions { ownership: Ownership::Ignored, ..UnpackOptions::default() };
            let unpacked = unpack(reader, to, &options);
            let written = written.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
            match (written, unpacked) {
                // The one who writes fails where nobody reads any more.
                (Err(Error::Pack(LayerError::Write(_))), Err(error)) => Err(error.into()),
                (Err(error), _) => Err(error),
                (Ok(()), unpacked) => Ok(unpacked?),
            }
        })
    }
}

/// The digests of the files in an archive.
fn digests(mut reader: Reader<impl Read>) -> Result<BTreeMap<PathBuf, Digest>, LayerError> {
    let mut digests = BTreeMap::new();
    let mut buffer = vec![0; 1 << 16];
    while let Some(entry) = reader.next()? {
        let digest = match &entry.kind {
            EntryKind::File(_) => {
                let mut sha = Sha256::new();
                let mut content = reader.content();
                loop {
                    match content.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(n) => sha.update(&buffer[..n]),
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(content.failed(e)),
                    }
                }
                Digest::from_bytes(sha.finalize().into())
            }
            EntryKind::Link(target) => match digests.get(target) {
                Some(digest) => Digest::clone(digest),
                None => continue,
            },
            _ => continue,
        };
        digests.insert(entry.path, digest);
    }
    Ok(digests)
}

/// Unpacks a tar archive, which may be compressed with gzip or zstd, into an empty directory. All
/// files belong to the caller.
///
/// # Errors
/// The archive is damaged or hostile, or the directory cannot be written.
pub fn unpack_archive(archive: impl Read, to: &Path) -> Result<(), LayerError> {
    let archive = Decoder::new(archive).map_err(LayerError::Read)?;
    let options = UnpackOptions { ownership: Ownership::Ignored, ..UnpackOptions::default() };
    unpack(archive, to, &options)
}

/// Whether all files of one directory can be put into another.
fn check(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let is_directory = entry.file_type().map_err(Error::file("read", &from))?.is_dir();
        // A link is not followed: it may lead anywhere.
        let there = to.symlink_metadata().is_ok_and(|there| there.is_dir());
        match (is_directory, there) {
            (true, true) => {
                open_up(&from)?;
                check(&from, &to)?;
            }
            (false, true) => {
                let source = io::ErrorKind::IsADirectory.into();
                return Err(Error::File { action: "replace by a file", path: to, source });
            }
            (_, false) => {}
        }
    }
    Ok(())
}

/// Moves all files of one directory into another.
fn place(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().map_err(Error::file("read", &from))?;
        let there = to.symlink_metadata().ok();
        if metadata.is_dir() && there.as_ref().is_some_and(|there| there.is_dir()) {
            place(&from, &to)?;
            continue;
        }
        if metadata.is_dir() && there.is_some() {
            fs::remove_file(&to).map_err(Error::file("replace", &to))?;
        }
        fs::rename(&from, &to).map_err(Error::file("write", &to))?;
    }
    Ok(())
}

/// Lets the owner look into a directory and take things out of it.
fn open_up(path: &Path) -> Result<(), Error> {
    let metadata = fs::symlink_metadata(path).map_err(Error::file("read", path))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o700 != 0o700 {
        let opened = fs::set_permissions(path, Permissions::from_mode(mode | 0o700));
        opened.map_err(Error::file("open", path))?;
    }
    Ok(())
}

/// A pipe inside of the process, which holds a few buffers.
fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(8);
    (PipeWriter(sender), PipeReader { receiver, current: Vec::new(), read: 0 })
}

struct PipeWriter(SyncSender<Vec<u8>>);

struct PipeReader {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    read: usize,
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PipeReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() {
            let Ok(next) = self.receiver.recv() else { return Ok(0) };
            (self.current, self.read) = (next, 0);
        }
        let n = bytes.len().min(self.current.len() - self.read);
        bytes[..n].copy_from_slice(&self.current[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::PackOptions;
    use crate::{NodeKind, Tree};
    use std::os::unix::fs::symlink;

    /// A layer of an archive that is written here.
    fn layer(store: &Store, fill: impl FnOnce(&mut tar::Builder<&mut Vec<u8>>)) -> Layer {
        let mut bytes = Vec::new();
        let mut builder = tar::Builder::new(&mut bytes);
        fill(&mut builder);
        builder.into_inner().unwrap();
        let mut writer = store.layer_writer(Default::default()).unwrap();
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap()
    }

    fn add(builder: &mut tar::Builder<&mut Vec<u8>>, path: &str, kind: tar::EntryType, text: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o750 } else { 0o640 });
        header.set_mtime(7);
        header.set_uid(5);
        header.set_gid(6);
        if kind.is_hard_link() || kind.is_symlink() {
            header.set_size(0);
            builder.append_link(&mut header, path, text).unwrap();
        } else {
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }

    /// Three layers with everything that one can do to the others.
    fn layers(store: &Store) -> Vec<Layer> {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let first = layer(store, |b| {
            add(b, "a", Directory, "");
            add(b, "a/kept", Regular, "kept");
            add(b, "a/removed", Regular, "removed");
            add(b, "original", Regular, "linked");
            add(b, "a/link", Link, "original");
            add(b, "a/other", Link, "a/link");
            add(b, "hidden/x", Regular, "x");
            add(b, "directory/x", Regular, "x");
            add(b, "file", Regular, "file");
            add(b, "implied/deep/file", Regular, "deep");
        });
        let second = layer(store, |b| {
            add(b, "a/.wh.removed", Regular, "");
            add(b, ".wh.original", Regular, "");
            add(b, "hidden/new", Regular, "new");
            add(b, "hidden/.wh..wh..opq", Regular, "");
            add(b, "directory", Regular, "now a file");
            add(b, "file", Directory, "");
            add(b, "file/inside", Regular, "inside");
        });
        let third = layer(store, |b| {
            add(b, "a/symlink", Symlink, "/etc");
            add(b, "a/kept", Regular, "changed");
        });
        vec![first, second, third]
    }

    #[test]
    fn an_archive_of_files_has_what_a_container_sees() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let layers = layers(&store);
        let config = serde_json::json!({ "os": "linux", "architecture": "arm64" });
        let image = store.add_image(&config, &layers).unwrap();
        let expected = Tree::read(&store, &image, &Limits::default()).unwrap();

        let mut archive = Vec::new();
        let files = RootFs { below: PathBuf::new(), layers: &layers, added: Vec::new() };
        store.write_tar(std::slice::from_ref(&files), &mut archive).unwrap();
        let mut writer = store.layer_writer(Default::default()).unwrap();
        writer.write_all(&archive).unwrap();
        let image = store.add_image(&config, &[writer.finish().unwrap()]).unwrap();
        let found = Tree::read(&store, &image, &Limits::default()).unwrap();
        assert_eq!(found, expected);
        let NodeKind::File(link) = &found.get("a/link").unwrap().kind else { panic!() };
        let NodeKind::File(other) = &found.get("a/other").unwrap().kind else { panic!() };
        assert!(std::sync::Arc::ptr_eq(link, other));

        let mut again = Vec::new();
        let below = RootFs { below: "linux_arm64".into(), ..files };
        store.write_tar(&[below], &mut again).unwrap();
        let mut again = tar::Archive::new(&again[..]);
        let paths = again.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned());
        assert!(paths.into_iter().all(|path| path.starts_with("linux_arm64")));
    }

    #[test]
    fn files_are_put_into_a_directory_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let layers = layers(&store);
        let to = directory.path().join("new/to");
        let files = [RootFs { below: PathBuf::new(), layers: &layers, added: Vec::new() }];
        store.write_files(&files, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/kept")).unwrap(), "changed");
        assert_eq!(fs::read_link(to.join("a/symlink")).unwrap(), Path::new("/etc"));
        assert!(!to.join("original").exists() && !to.join("a/removed").exists());
        assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o777, 0o750);

        fs::write(to.join("a/mine"), "mine").unwrap();
        fs::remove_dir_all(to.join("file")).unwrap();
        // Nothing is written through a link that leads elsewhere.
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, to.join("file")).unwrap();
        store.write_files(&files, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/mine")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(to.join("file/inside")).unwrap(), "inside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

        fs::remove_file(to.join("directory")).unwrap();
        fs::create_dir(to.join("directory")).unwrap();
        fs::write(to.join("a/kept"), "mine").unwrap();
        let error = store.write_files(&files, &to).unwrap_err();
        assert!(error.to_string().starts_with("cannot replace by a file"), "{error}");
        assert_eq!(fs::read_to_string(to.join("a/kept")).unwrap(), "mine");
        let names = fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".koskit")));
    }

    #[test]
    fn a_damaged_layer_leaves_a_directory_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let files = directory.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("x"), "x".repeat(1 << 20)).unwrap();
        let layer = store.add_layer(&files, &PackOptions::default()).unwrap();
        let path = store.blob_path(&layer.digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        fs::write(&path, bytes).unwrap();
        let to = directory.path().join("to");
        let layers = [layer];
        let files = RootFs { below: PathBuf::new(), layers: &layers, added: Vec::new() };
        store.write_files(&[files], &to).unwrap_err();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    }
}
