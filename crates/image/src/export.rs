//! Images written out of the store, as OCI image layouts of their own.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use koskit_llb::Reference;
use oci_spec::image::Descriptor;

use crate::image::digest;
use crate::store::{LAYOUT, REF_NAME, empty_index};
use crate::{Error, Image, Store, json};

/// The annotation with which containerd, docker and BuildKit say a full name.
const IMAGE_NAME: &str = "io.containerd.image.name";

impl Store {
    /// Writes an image to a directory, as an OCI image layout that has this image only. Blobs of
    /// an older layout in that directory stay. All digests are checked on the way; `index.json`
    /// is written last, so that a layout is there as a whole or as it was before.
    ///
    /// # Errors
    /// The directory has files in it and is no layout, a blob is missing or damaged, or the
    /// directory cannot be written.
    pub fn export(
        &self,
        image: &Image,
        name: Option<&Reference>,
        directory: &Path,
    ) -> Result<(), Error> {
        let occupied = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
        if occupied && !directory.join("oci-layout").is_file() {
            return Err(Error::Occupied(directory.into()));
        }
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::file("make", &blobs))?;
        let layers = image.manifest.layers();
        for descriptor in layers.iter().chain([image.manifest.config(), &image.descriptor]) {
            self.copy_blob(descriptor, &blobs)?;
        }
        put(directory, "oci-layout", &mut &*LAYOUT)?;

        let mut descriptor = image.descriptor.clone();
        let name = name.map(|name| name.clone().tagged());
        let tag = name.as_ref().and_then(|name| name.tag().map(str::to_owned));
        let annotations = name.zip(tag).map(|(name, tag)| {
            [(IMAGE_NAME.to_owned(), name.to_string()), (REF_NAME.to_owned(), tag)].into()
        });
        descriptor.set_annotations(annotations);
        let mut index = empty_index();
        index.set_manifests(vec![descriptor]);
        put(directory, "index.json", &mut json::write(&index).as_slice())
    }

    fn copy_blob(&self, descriptor: &Descriptor, blobs: &Path) -> Result<(), Error> {
        let digest = digest(descriptor)?;
        let mut blob = self.blob(&digest, descriptor.size())?;
        put(blobs, digest.hex(), &mut blob)
    }
}

/// Makes a file of all that is read, under its name only when it is whole.
fn put(directory: &Path, name: &str, from: &mut dyn io::Read) -> Result<(), Error> {
    let (path, half) = (directory.join(name), directory.join(format!(".{name}.half")));
    let written = File::create(&half).and_then(|mut file| {
        io::copy(from, &mut file)?;
        file.sync_all()?;
        fs::rename(&half, &path)
    });
    written.map_err(|error| {
        // It is of no use to anybody, and what went wrong is told.
        let _ = fs::remove_file(&half);
        match error.downcast::<Error>() {
            Ok(damaged) => damaged,
            Err(error) => Error::file("write", path)(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(store: &Store) -> Image {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("file"), "text").unwrap();
        let options = crate::layer::PackOptions { latest: Some(0) };
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
        assert_eq!(descriptor["annotations"][IMAGE_NAME], "docker.io/library/hello:latest");
        let count = |path: &str| fs::read_dir(to.join(path)).unwrap().count();
        assert_eq!((count(""), count("blobs/sha256")), (3, 3));
        let opened = Store::open(&to).unwrap();
        assert_eq!(opened.image(&image.descriptor).unwrap().id(), image.id());
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
        assert!(!to.join("index.json").exists());
        assert_eq!(fs::read_dir(to.join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_of_other_files_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let error = store.export(&image(&store), None, directory.path()).unwrap_err();
        assert!(matches!(error, Error::Occupied(_)), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
