//! Images out of the store, for other tools: an OCI image layout with nothing else in it, as a
//! directory or as a tar archive of one.
//!
//! Names are written in both of the usual ways: the tag alone for `skopeo` and `podman`
//! (`oci:DIR:TAG`), the full name for `docker load` and containerd. An archive may have docker's
//! own `manifest.json` besides, so that every version of `docker load` reads it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use koskit_llb::{Digest, Reference};
use oci_spec::image::{Descriptor, ImageIndex};

use crate::directory::{self, DirectoryError};
use crate::image::digest;
use crate::layer::{Entry, EntryKind, Writer};
use crate::make::{Annotations, annotations};
use crate::scratch::Scratch;
use crate::store::{LAYOUT, REF_NAME, empty_index, is_index};
use crate::{Error, Image, Store, json};

/// The annotation of a full name.
const FULL_NAME: &str = "io.containerd.image.name";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const DOCKER_FILE: &str = "manifest.json";
const BLOBS: &str = "blobs/sha256";

/// One image, or one index of several, that is written out.
#[derive(Clone, Debug)]
pub struct Export {
    /// Of the manifest or the index.
    pub root: Descriptor,
    /// What it is called there; may be empty.
    pub names: Vec<Reference>,
    /// Annotations of the descriptor, in the layout's own index.
    pub annotations: Annotations,
}

/// What an archive is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Archive {
    /// An OCI image layout.
    #[default]
    Oci,
    /// The same, with a `manifest.json` for docker.
    Docker,
}

impl Export {
    /// An image under one name, or none.
    pub fn of(image: &Image, name: Option<&Reference>) -> Self {
        let names = name.cloned().into_iter().collect();
        Self { root: image.descriptor.clone(), names, annotations: Annotations::new() }
    }
}

impl Store {
    /// Writes images as an OCI image layout that has nothing else. The directory is new or empty,
    /// or another layout, which is replaced.
    ///
    /// # Errors
    /// Something else is in the directory, a blob is missing or damaged, or the directory cannot
    /// be written. What was there is there as before.
    pub fn export(&self, images: &[Export], directory: &Path) -> Result<(), Error> {
        let index = layout_index(images);
        let blobs = self.blobs_of(images)?;
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

    /// Writes images as a tar archive to a new file, or instead of an old one: the same images
    /// and names give the same bytes.
    ///
    /// # Errors
    /// A blob is missing or damaged, or the file cannot be written. What was there is there as
    /// before.
    pub fn export_archive(
        &self,
        images: &[Export],
        kind: Archive,
        file: &Path,
    ) -> Result<(), Error> {
        replace_file(file, |to| self.write_archive(images, kind, to))
    }

    /// Writes the same archive to anything.
    ///
    /// # Errors
    /// A blob is missing or damaged, or it cannot be written there.
    pub fn write_archive(
        &self,
        images: &[Export],
        kind: Archive,
        to: impl Write,
    ) -> Result<(), Error> {
        let index = layout_index(images);
        let mut documents = vec![(LAYOUT_FILE, LAYOUT.to_vec()), (INDEX_FILE, index)];
        if kind == Archive::Docker {
            documents.push((DOCKER_FILE, self.docker_manifest(images)?));
        }
        let blobs = self.blobs_of(images)?;
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 16, to));
        let write = |writer: &mut Writer<_>| {
            for (name, bytes) in &documents {
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
            Ok(())
        };
        write(&mut writer).and_then(|()| writer.finish()).map_err(failed(Path::new("the archive")))
    }

    /// The manifests that images stand for, themselves or by their indexes.
    fn manifests_of(&self, root: &Descriptor) -> Result<Vec<Descriptor>, Error> {
        if !is_index(root.media_type()) {
            return Ok(vec![root.clone()]);
        }
        let what = format!("the index {}", root.digest());
        let index: ImageIndex = json::read(&self.document(root)?, &what)?;
        if index.manifests().iter().any(|inner| is_index(inner.media_type())) {
            let why = "it is an index of indexes, which no archive can hold".to_owned();
            return Err(Error::Invalid { what, why });
        }
        Ok(index.manifests().clone())
    }

    /// All blobs of images, each once, with its size.
    fn blobs_of(&self, images: &[Export]) -> Result<BTreeSet<(Digest, u64)>, Error> {
        let mut blobs = BTreeSet::new();
        let mut add = |descriptor: &Descriptor| {
            blobs.insert((digest(descriptor)?, descriptor.size()));
            Ok::<_, Error>(())
        };
        for image in images {
            add(&image.root)?;
            for manifest in self.manifests_of(&image.root)? {
                add(&manifest)?;
                let manifest = self.manifest(&manifest)?;
                add(manifest.config())?;
                manifest.layers().iter().try_for_each(&mut add)?;
            }
        }
        Ok(blobs)
    }

    /// The bytes of docker's `manifest.json`: it knows images for one platform only, so that
    /// an index is there by its first image.
    fn docker_manifest(&self, images: &[Export]) -> Result<Vec<u8>, Error> {
        let path = |descriptor: &Descriptor| {
            Ok::<_, Error>(format!("{BLOBS}/{}", digest(descriptor)?.hex()))
        };
        let mut all = Vec::new();
        for image in images {
            let manifests = self.manifests_of(&image.root)?;
            let Some(manifest) = manifests.first() else { continue };
            let manifest = self.manifest(manifest)?;
            let layers = manifest.layers().iter().map(path).collect::<Result<Vec<_>, _>>()?;
            let names = image.names.iter().map(|name| name.clone().tagged().familiar());
            let names = Some(names.collect::<Vec<_>>()).filter(|names| !names.is_empty());
            let config = path(manifest.config())?;
            all.push(serde_json::json!({ "Config": config, "RepoTags": names, "Layers": layers }));
        }
        Ok(serde_json::to_vec(&all).expect("a JSON value can be written"))
    }
}

/// Writes a file beside another one, and puts it in its place when it is whole.
///
/// # Errors
/// Those of `fill`, or the file cannot be written. What was there is there as before.
pub fn replace_file(
    file: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Error>,
) -> Result<(), Error> {
    let base = file.file_name().ok_or_else(|| DirectoryError::Name(file.into()))?;
    // A terminal or a pipe is written to and not replaced.
    let special = fs::metadata(file).is_ok_and(|there| !there.is_file() && !there.is_dir());
    if special {
        let to = File::options().write(true).open(file);
        return fill(&mut to.map_err(Error::file("write", file))?);
    }
    let mut half = OsString::from(".");
    half.push(base);
    half.push(format!(".{}", std::process::id()));
    let half = Scratch::new(file.with_file_name(half));
    let mut to = File::create(half.path()).map_err(Error::file("write", file))?;
    fill(&mut to).map_err(|error| match error {
        // The name that the user has given tells more.
        Error::File { action: "write", path, source } if path == Path::new("the archive") => {
            Error::File { action: "write", path: file.into(), source }
        }
        other => other,
    })?;
    let renamed = to.sync_all().and_then(|()| fs::rename(half.path(), file));
    renamed.map_err(Error::file("write", file))
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

/// The bytes of `index.json`: a descriptor for each name.
fn layout_index(images: &[Export]) -> Vec<u8> {
    let mut manifests = Vec::new();
    for image in images {
        let with = |more: &[(&str, String)]| {
            let mut all = image.annotations.clone();
            all.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            let mut target = image.root.clone();
            target.set_annotations(annotations(&all));
            target
        };
        if image.names.is_empty() {
            manifests.push(with(&[]));
        }
        for name in &image.names {
            let name = name.clone().tagged();
            let tag = name.tag().unwrap_or("latest").to_owned();
            manifests.push(with(&[(REF_NAME, tag), (FULL_NAME, name.to_string())]));
        }
    }
    let mut index = empty_index();
    index.set_manifests(manifests);
    json::write(&index)
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    let (uid, gid, mtime, xattrs) = (0, 0, 0, Default::default());
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
            store.export(&[Export::of(&image, Some(&"hello".parse().unwrap()))], &to).unwrap();
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
        let images = [Export::of(&image(&store), Some(&"hello:1".parse().unwrap()))];
        let archive = || {
            let path = directory.path().join("hello.tar");
            store.export_archive(&images, Archive::Oci, &path).unwrap();
            fs::read(path).unwrap()
        };
        let to = directory.path().join("layout");
        store.export(&images, &to).unwrap();
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
        let error = store.export(&[Export::of(&image, None)], &to).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error =
            store.export_archive(&[Export::of(&image, None)], Archive::Oci, &to).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let error =
            store.export(&[Export::of(&image(&store), None)], directory.path()).unwrap_err();
        assert!(matches!(error, Error::Directory(DirectoryError::Occupied { .. })), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_archive_for_docker_says_what_its_own_format_does() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let image = image(&store);
        let names = ["a:1", "localhost:5000/b"].map(|name| name.parse().unwrap()).to_vec();
        let mut bytes = Vec::new();
        let export = Export { names, ..Export::of(&image, None) };
        store.write_archive(&[export], Archive::Docker, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut documents = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if path.ends_with(".json") {
                let document: serde_json::Value = serde_json::from_reader(entry).unwrap();
                documents.insert(path, document);
            }
        }
        let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let expected = serde_json::json!([{
            "Config": path(&image.id()),
            "RepoTags": ["a:1", "localhost:5000/b:latest"],
            "Layers": [path(&image.layers[0].digest)],
        }]);
        assert_eq!(documents["manifest.json"], expected);
        let named = documents["index.json"]["manifests"].as_array().unwrap();
        assert_eq!((named.len(), &named[1]["annotations"][REF_NAME]), (2, &"latest".into()));
    }
}
