//! The store, as commands use it.

use std::fs;

use koskit_image::layer::PackOptions;
use koskit_image::{Image, Limits, NodeKind, Store, Tree};
use koskit_llb::{Platform, Reference};
use serde_json::json;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    (directory, store)
}

fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

fn platform(name: &str) -> Platform {
    name.parse().unwrap()
}

/// An image with one layer, of one file that holds its architecture.
fn image(store: &Store, architecture: &str) -> Image {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("architecture"), architecture).unwrap();
    let options = PackOptions { latest: Some(0), ..PackOptions::default() };
    let layer = store.add_layer(files.path(), &options).unwrap();
    let config = json!({
        "os": "linux",
        "architecture": architecture,
        "config": { "Cmd": ["/bin/sh"], "Labels": { "b": "1", "a": "2" }, "Shell": ["/bin/ash"] },
    });
    store.add_image(&config, &[layer]).unwrap()
}

#[test]
fn an_image_is_found_by_its_name_and_read_back() {
    let (_directory, store) = store();
    let image = image(&store, "arm64");
    store.tag(&reference("hello"), &image.descriptor).unwrap();
    let found = store.resolve(&reference("hello:latest"), &platform("linux/arm64")).unwrap();
    assert_eq!(found.digest(), image.digest());
    assert_eq!(found.config_json["config"]["Shell"], json!(["/bin/ash"]));
    let tree = Tree::read(&store, &found, &Limits::default()).unwrap();
    let (_, node) = tree.resolve("/architecture").unwrap();
    assert_eq!(node.kind, NodeKind::File(b"arm64"[..].into()));
    let by_digest = reference("hello").with_digest(image.digest());
    assert_eq!(store.resolve(&by_digest, &platform("arm64")).unwrap().id(), image.id());
}
