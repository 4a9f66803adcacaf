//! One image out of the store, for other tools: an OCI image layout with nothing else in it, as
//! a directory or as a tar archive of one.
//!
//! The name is written in both of the usual ways: the tag alone for `skopeo` and `podman`
//! (`oci:DIR:TAG`), the full name for `docker load` and containerd.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use koskit_llb::{Digest, Reference};

use crate::directory::{self, DirectoryError};
use crate::image::digest;
use crate::layer::{Entry, EntryKind, Writer};
use crate::store::{LAYOUT, REF_NAME, empty_index};
use crate::{Error, Image, Store, json};

/// The annotation of a full name.
const FULL_NAME: &str = "io.containerd.image.name";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

impl Store {
    /// Writes an image as an OCI image layout that has this image only, and `name` into it if
    /// there is one. The directory is new or empty, or another layout, which is replaced.
    ///
    /// # Errors
    /// Something else is in the directory, a blob is missing or damaged, or the directory cannot
    /// be written. What was there is there as before.
    pub fn export(
        &self,
        image: &Image,
        name: Option<&Reference>,
        directory: &Path,
    ) -> Result<(), Error> {
        let index = layout_index(image, name);
        let blobs = blobs_of(image)?;
        directory::replace(directory, LAYOUT_FILE, |at| {
            directory::write(&at.join(LAYOUT_FILE), LAYOUT)?;
            directory::write(&at.join(INDEX_FILE), &index)?;
            let to = at.join(BLOBS);
            fs::create_dir_all(&to).map_err(Error::file("make", &to))?;
            for (digest, size) in blobs {
                let to = to.join(digest.hex());
                let mut blob = self.blob(&digest, size)?;
                let written = File::create(&to).and_then(|mut file| {
                    io::copy(&mut blob, &mut file)?;
                    file.sync_all()
                });
                written.map_err(failed(&to))?;
            }
            Ok(())
        })
    }

    /// Writes the same as a tar archive to a new file, or instead of an old one: the same image
    /// and name give the same bytes.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the file cannot be written. What was there is there as
    /// before.
    pub fn export_archive(
        &self,
        image: &Image,
        name: Option<&Reference>,
        file: &Path,
    ) -> Result<(), Error> {
        let index = layout_index(image, name);
        let blobs = blobs_of(image)?;
        let base = file.file_name().ok_or_else(|| DirectoryError::Name(file.into()))?;
        let mut half = OsString::from(".");
        half.push(base);
        half.push(format!(".{}", std::process::id()));
        let half = file.with_file_name(half);
        let written = File::create(&half).and_then(|to| {
            let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, &to));
            for (name, bytes) in [(LAYOUT_FILE, LAYOUT), (INDEX_FILE, &index)] {
                let size = bytes.len() as u64;
                writer.entry(&entry(name, EntryKind::File(size)))?;
                writer.content(&mut &bytes[..], size)?;
            }
            for directory in ["blobs", BLOBS] {
                writer.entry(&entry(directory, EntryKind::Directory))?;
            }
            for (digest, size) in blobs {
                let name = format!("{BLOBS}/{}", digest.hex());
                writer.entry(&entry(&name, EntryKind::File(size)))?;
                let mut blob = self.blob(&digest, size).map_err(io::Error::other)?;
                writer.content(&mut blob, size)?;
                // The digest is checked by the read that gives nothing.
                io::copy(&mut blob, &mut io::sink())?;
            }
            writer.finish()?;
            to.sync_all()?;
            fs::rename(&half, file)
        });
        written.map_err(|e| {
            // It is of no use to anybody, and what went wrong is told.
            let _ = fs::remove_file(&half);
            failed(file)(e)
        })
    }
}

/// The store's own error, where one is inside of another.
fn failed(to: &Path) -> impl FnOnce(io::Error) -> Error {
    let to = to.to_owned();
    move |e| e.downcast::<Error>().unwrap_or_else(Error::file("write", to))
}

impl From<DirectoryError> for Error {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

/// All blobs of an image, each once, with its size.
fn blobs_of(image: &Image) -> Result<BTreeSet<(Digest, u64)>, Error> {
    let own = [&image.descriptor, image.manifest.config()];
    let all = own.into_iter().chain(image.manifest.layers());
    all.map(|descriptor| Ok((digest(descriptor)?, descriptor.size()))).collect()
}

/// The bytes of `index.json`.
fn layout_index(image: &Image, name: Option<&Reference>) -> Vec<u8> {
    let mut target = image.descriptor.clone();
    target.set_annotations(name.map(|name| {
        let name = name.clone().tagged();
        let tag = name.tag().unwrap_or("latest").to_owned();
        [(REF_NAME.to_owned(), tag), (FULL_NAME.to_owned(), name.to_string())].into()
    }));
    let mut index = empty_index();
    index.set_manifests(vec![target]);
    json::write(&index)
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let (uid, gid, mtime, xattrs) = (0, 0, 0, BTreeMap::new());
    Entry { path: path.into(), kind, mode, uid, gid, mtime, xattrs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(store: &Store) -> Image {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("file"), "text").unwrap();
        let options = crate::layer::PackOptions { latest: Some(0), ..Default::default() };
        let layer = store.add_layer(files.path(), &options).unwrap();
        let config = serde_json::json!({ "os": "linux", "architecture": "arm64" });
        store.add_image(&config, &[layer]).unwrap()
    }

    #[test]
    fn an_exported_image_is_a_layout_that_has_it_under_its_tag() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let image = image(&store);
        let to = directory.path().join("a/layout");
        for _ in 0..2 {
            store.export(&image, Some(&"hello".parse().unwrap()), &to).unwrap();
        }
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["digest"], image.digest().as_str());
        assert_eq!(descriptor["annotations"][REF_NAME], "latest");
        assert_eq!(descriptor["annotations"][FULL_NAME], "docker.io/library/hello:latest");
        let count = |path: &str| fs::read_dir(to.join(path)).unwrap().count();
        assert_eq!((count(""), count("blobs/sha256")), (3, 3));
        let opened = Store::open(&to).unwrap();
        assert_eq!(opened.image(&image.descriptor).unwrap().id(), image.id());
    }

    #[test]
    fn an_archive_has_the_same_files_as_a_directory_and_always_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let (image, name) = (image(&store), "hello:1".parse().unwrap());
        let archive = || {
            let path = directory.path().join("hello.tar");
            store.export_archive(&image, Some(&name), &path).unwrap();
            fs::read(path).unwrap()
        };
        let to = directory.path().join("layout");
        store.export(&image, Some(&name), &to).unwrap();
        let bytes = archive();
        assert_eq!(bytes, archive());
        let mut count = 0;
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = to.join(entry.path().unwrap());
            if entry.header().entry_type().is_file() {
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                assert_eq!(bytes, fs::read(path).unwrap());
                count += 1;
            }
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn a_damaged_blob_is_not_exported() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let image = image(&store);
        fs::write(store.blob_path(&image.layers[0].digest), "other").unwrap();
        let to = directory.path().join("layout");
        let error = store.export(&image, None, &to).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = store.export_archive(&image, None, &to).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let error = store.export(&image(&store), None, directory.path()).unwrap_err();
        assert!(matches!(error, Error::Directory(DirectoryError::Occupied { .. })), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
