//! Readers of images and graphs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use koskit_image::layer::{Ownership, UnpackOptions, unpack};
use koskit_image::{Limits, Store, Tree};
use koskit_llb::{Graph, Platform, pb};
use prost::Message;
use tempfile::TempDir;

/// A place in memory, where there is one.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("koskit-fuzz-").tempdir_in(base).expect("a place to write")
    };
    SCRATCH.get_or_init(make).path()
}

const LIMITS: Limits = Limits { content: 1 << 20, metadata: 1 << 18 };

/// The tar archive of a layer, unpacked.
pub fn layer(data: &[u8]) {
    let around = tempfile::tempdir_in(scratch()).expect("a place to write");
    let root = around.path().join("root");
    let beside = around.path().join("beside");
    fs::create_dir(&root).expect("an empty directory");
    fs::write(&beside, "untouched").expect("a file beside it");
    let options =
        UnpackOptions { ownership: Ownership::Ignored, limits: LIMITS, ..UnpackOptions::default() };
    let _ = unpack(data, &root, &options);
    assert_eq!(fs::read_to_string(&beside).ok().as_deref(), Some("untouched"));
    let names = fs::read_dir(around.path()).expect("it is there").count();
    assert_eq!(names, 2, "nothing is made outside of the root");
    // Directories without permissions would outlive their parent.
    open(&root);
}

fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open(&entry.path());
        }
    }
}

/// The documents of an image, each ended by a zero byte: what `index.json` says, then blobs
/// that it may name by `#1`, `#2`, … for the digest and `@1`, … for the size.
pub fn image(data: &[u8]) {
    let around = tempfile::tempdir_in(scratch()).expect("a place to write");
    let Ok(store) = Store::open(around.path()) else { return };
    let mut parts: Vec<Vec<u8>> = data.split(|b| *b == 0).take(6).map(<[u8]>::to_vec).collect();
    parts.reverse();
    let mut known: Vec<(String, String)> = Vec::new();
    let count = parts.len();
    for (i, part) in parts.into_iter().enumerate() {
        let mut bytes = part;
        for (number, (digest, size)) in known.iter().enumerate() {
            let number = count - 1 - number;
            bytes = replace(&bytes, &format!("#{number}"), digest);
            bytes = replace(&bytes, &format!("@{number}"), size);
        }
        if i + 1 == count {
            fs::write(around.path().join("index.json"), bytes).expect("the store is ours");
        } else if let Ok(digest) = store.add_blob(&bytes) {
            known.push((digest.to_string(), bytes.len().to_string()));
        }
    }
    let Ok(tags) = store.list() else { return };
    for tag in tags {
        let wanted = Platform::new("linux", "arm64", "");
        let Ok(image) = store.resolve(&tag.reference, &wanted) else { continue };
        let _ = (image.size(), image.id(), image.digest());
        let _ = Tree::read(&store, &image, &LIMITS);
    }
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    // Documents that are no text have no names of others to be replaced.
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(from, to).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// A build graph from a client.
pub fn graph(data: &[u8]) {
    let Ok(definition) = pb::Definition::decode(data) else { return };
    let Ok(graph) = Graph::new(&definition) else { return };
    for vertex in graph.vertices() {
        let _ = vertex.name();
    }
}
