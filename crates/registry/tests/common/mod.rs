//! What the tests of this crate have in common.
#![allow(dead_code)] // Not every file of tests uses all of it.

pub mod fake;
pub mod proxy;
pub mod server;

use std::path::Path;
use std::time::Duration;

use koskit_image::{Image, Layer, Store};
use koskit_llb::{Platform, Reference};
use koskit_registry::{Client, Credentials, Options};
use koskit_tests::registry::Registry;

/// Options of an impatient client that knows nobody.
pub fn options() -> Options {
    Options {
        credentials: Credentials::none(),
        backoff: Duration::from_millis(10),
        ..Options::default()
    }
}

/// A client with the password and the authority of a registry, where it has such.
pub fn client_of(registry: &Registry, password: bool, tls: bool) -> Client {
    let mut options = options();
    if password {
        options.credentials = Credentials::file(registry.docker_config().join("config.json"));
    }
    if tls {
        options.ca_files = vec![registry.ca()];
    }
    Client::new(options)
}

pub fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn arm64() -> Platform {
    "linux/arm64".parse().unwrap()
}

pub fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// A store with nothing in it.
pub fn store() -> (tempfile::TempDir, Store) {
    let parent = koskit_tests::root().join("target/tests");
    std::fs::create_dir_all(&parent).unwrap();
    let folder = tempfile::tempdir_in(parent).unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    (folder, store)
}

/// An image of as many layers, each of a file with so many bytes that do not compress.
pub fn image(store: &Store, architecture: &str, layers: usize, bytes: usize) -> Image {
    let layers: Vec<Layer> = (0..layers).map(|n| layer(store, n as u64 + 1, bytes)).collect();
    let config = serde_json::json!({ "os": "linux", "architecture": architecture });
    store.add_image(&config, &layers).unwrap()
}

/// A layer of a file with bytes that depend on the number.
pub fn layer(store: &Store, number: u64, bytes: usize) -> Layer {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join(format!("file{number}")), noise(number, bytes)).unwrap();
    store
        .add_layer(
            files.path(),
            &koskit_image::layer::PackOptions { latest: Some(0), ..Default::default() },
        )
        .unwrap()
}

/// Bytes that no compressor makes smaller: xorshift.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// Whether all that an image is made of is in the store, with the right bytes.
pub fn is_whole(store: &Store, image: &Image) -> bool {
    image.layers.iter().all(|layer| {
        let blob = store.blob(&layer.digest, layer.size);
        blob.is_ok_and(|mut blob| std::io::copy(&mut blob, &mut std::io::sink()).is_ok())
    })
}

/// The files in a store's folder for what is being written.
pub fn leftovers(store: &Store) -> usize {
    let entries = std::fs::read_dir(store.path().join("ingest")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != "lock").count()
}

/// Says what a command said where it failed.
pub fn must(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn is_file(path: impl AsRef<Path>) -> bool {
    path.as_ref().is_file()
}
