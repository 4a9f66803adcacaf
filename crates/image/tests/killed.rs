//! Stores that a killed or a broken command left behind, and several commands at once.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::*;
use koskit_image::{Error, Limits, Store, Tree};
use koskit_llb::Reference;

fn name() -> Reference {
    "hello".parse().unwrap()
}

fn ingest(store: &Store) -> usize {
    let files = fs::read_dir(store.path().join("ingest")).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name() != "lock").count()
}

#[test]
fn blobs_of_a_killed_command_are_removed_and_the_image_is_made_again() {
    let (_directory, store) = store();
    // What a writer leaves that never gets to its end: a file, and no lock on it.
    fs::write(store.path().join("ingest/4194304-0"), "half a blob").unwrap();
    fs::write(store.path().join("index.json.new"), "{\"schemaVers").unwrap();
    let store = Store::open(store.path()).unwrap();
    assert_eq!(ingest(&store), 0);
    let image = image(&store, &[archive(&[file("a", "x")])]);
    store.tag(&name(), &image.descriptor).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
    Tree::read(&store, &image, &Limits::default()).unwrap();
}

#[test]
fn a_blob_that_is_being_written_survives_another_command() {
    let (_directory, store) = store();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"first ").unwrap();
    let other = Store::open(store.path()).unwrap();
    assert_eq!(ingest(&other), 1);
    writer.write_all(b"second").unwrap();
    let (digest, size) = writer.finish().unwrap();
    assert_eq!(size, 12);
    assert!(other.has_blob(&digest));
    drop(other.blob_writer().unwrap());
    assert_eq!(ingest(&store), 0);
}

#[test]
fn a_store_whose_making_was_killed_is_made_whole() {
    for missing in ["oci-layout", "index.json", "ingest", "lock"] {
        let (_directory, store) = store();
        let path = store.path().join(missing);
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
        let store = Store::open(store.path()).unwrap();
        assert!(store.list().unwrap().is_empty());
        let image = image(&store, &[archive(&[file("a", missing)])]);
        store.tag(&name(), &image.descriptor).unwrap();
        assert!(store.path().join("oci-layout").exists());
    }
}

#[test]
fn a_blob_that_lost_its_bytes_is_told_and_mended_by_building_again() {
    let (_directory, store) = store();
    let archives = [archive(&[file("a", "x")])];
    let image = image(&store, &archives);
    let blob = store.path().join("blobs/sha256").join(image.layers[0].digest.hex());
    fs::write(&blob, "").unwrap();
    let error = Tree::read(&store, &image, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains(image.layers[0].digest.as_str()), "{error}");
    let again = common::image(&store, &archives);
    assert_eq!(again.digest(), image.digest());
    Tree::read(&store, &image, &Limits::default()).unwrap();
}

#[test]
fn a_manifest_that_is_damaged_missing_or_huge_is_an_error_and_no_panic() {
    let (_directory, store) = store();
    let image = image(&store, &[archive(&[file("a", "x")])]);
    store.tag(&name(), &image.descriptor).unwrap();
    let platform = "linux/arm64".parse().unwrap();
    let manifest = store.path().join("blobs/sha256").join(image.digest().hex());
    let good = fs::read(&manifest).unwrap();
    let resolve = || store.resolve(&name(), &platform);
    let mut changed = good.clone();
    changed[10] ^= 1;
    fs::write(&manifest, changed).unwrap();
    assert!(matches!(resolve(), Err(Error::Damaged { .. })));
    fs::write(&manifest, [&good[..], b" "].concat()).unwrap();
    assert!(matches!(resolve(), Err(Error::Damaged { .. })));
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(resolve(), Err(Error::MissingBlob(_))));
    let mut huge = image.descriptor.clone();
    huge.set_size(1 << 40);
    assert!(matches!(store.image(&huge), Err(Error::Invalid { .. })));
}

#[test]
fn commands_that_name_images_at_once_lose_no_name() {
    let (_directory, store) = store();
    let image = image(&store, &[archive(&[file("a", "x")])]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (path, descriptor) = (store.path(), &image.descriptor);
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                for i in 0..5 {
                    let name = format!("name-{thread}-{i}").parse().unwrap();
                    store.tag(&name, descriptor).unwrap();
                }
            });
        }
    });
    assert_eq!(store.list().unwrap().len(), 20);
}

#[test]
fn what_cannot_be_written_is_told_with_its_path() {
    let error = Store::open(Path::new("/proc/none")).unwrap_err();
    assert!(error.to_string().contains("/proc/none"), "{error}");
}
