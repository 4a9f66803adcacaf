//! Archives of images: docker loads what koskit saves, and the other way round, with the same
//! image IDs.

use koskit_image::Store;
use koskit_image::layer::PackOptions;
use koskit_llb::Reference;
use koskit_tests::{Docker, root, skip};
use std::fs::{self, File};

#[test]
fn docker_loads_what_koskit_saves_and_koskit_loads_what_docker_saves() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let base = root().join("target/tests");
    fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(base).unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("hello"), "hello").unwrap();
    let layer = store.add_layer(&files, &PackOptions::default()).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "os": "linux", "architecture": architecture, "config": { "Cmd": ["/hello"] },
    });
    let image = store.add_image(&config, &[layer]).unwrap();
    let name: Reference = "docker.io/library/saved-by-koskit:1".parse().unwrap();
    let archive = folder.path().join("saved.tar");
    let images = [(Some(name), image.descriptor.clone())];
    store.save(&images, File::create(&archive).unwrap()).unwrap();

    let said = docker.must(&["load", "-i", archive.to_str().unwrap()]);
    assert!(said.stdout.contains("saved-by-koskit:1"), "{}", said.stdout);
    let back = folder.path().join("back.tar");
    docker.must(&["save", "-o", back.to_str().unwrap(), "saved-by-koskit:1"]);
    let other = Store::open(folder.path().join("other")).unwrap();
    let loaded = other.load(File::open(&back).unwrap()).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].reference.as_ref().unwrap().familiar(), "saved-by-koskit:1");
    let platforms = other.platforms(&loaded[0].descriptor).unwrap();
    let again = other.image(&platforms[0].1).unwrap();
    assert_eq!((again.id(), again.digest()), (image.id(), image.digest()));
}
