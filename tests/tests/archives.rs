//! Archives of images: docker loads what koskit saves, and the other way round, with the same
//! image IDs.

use koskit_image::Store;
use koskit_image::layer::PackOptions;
use koskit_llb::Reference;
use koskit_tests::{Docker, Home, Said, root, skip};
use std::fs::{self, File};
use std::path::Path;

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

/// A tar archive of the user 0, with the path of each file as it is, and links as `PATH -> TO`.
fn hostile(lines: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in lines {
        let mut header = tar::Header::new_gnu();
        let (path, to) = line.split_once(" -> ").unwrap_or((line, ""));
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_entry_type(match (to, path) {
            ("", path) if path.ends_with('/') => tar::EntryType::Directory,
            ("", _) => tar::EntryType::Regular,
            _ => tar::EntryType::Symlink,
        });
        header.set_mode(0o755);
        header.set_size(if to.is_empty() && !path.ends_with('/') { path.len() as u64 } else { 0 });
        header.set_cksum();
        let data = if to.is_empty() && !path.ends_with('/') { path.as_bytes() } else { b"" };
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// All below a folder, one line each.
fn listing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            let metadata = path.symlink_metadata().unwrap();
            lines.push(if metadata.is_dir() {
                left.push(path);
                format!("{name}/")
            } else if metadata.is_symlink() {
                format!("{name} -> {}", fs::read_link(path).unwrap().display())
            } else {
                format!("{name} {}", fs::read_to_string(path).unwrap())
            });
        }
    }
    lines.sort();
    lines
}

#[test]
fn what_of_an_archive_leads_out_of_the_destination_ends_where_docker_puts_it() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let home = Home::new();
    home.write("context/Dockerfile", "FROM scratch\nADD base.tar /\nADD more.tar /t/\n");
    let base = hostile(&["secret", "t/"]);
    fs::write(home.path().join("context/base.tar"), base).unwrap();
    let more = [
        "/absolute",
        "//a/../b/../c",
        "x/../above",
        "//d/",
        "conf -> /etc",
        "conf/passwd",
        "link -> ../secret",
    ];
    fs::write(home.path().join("context/more.tar"), hostile(&more)).unwrap();
    home.must(&["build", "--output=type=local,dest=koskit", "context"]);
    let words = ["buildx", "build", "--quiet", "--output=type=local,dest=docker", "context"];
    let said = Said::of(docker.command(home.path(), &words).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let theirs = listing(&home.path().join("docker"));
    assert_eq!(listing(&home.path().join("koskit")), theirs);
    assert!(theirs.contains(&"t/etc/passwd conf/passwd".into()), "{theirs:#?}");
}

#[test]
fn an_archive_that_climbs_out_of_the_destination_is_refused_as_by_docker() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    for name in ["../outside", "/../outside", "a/../../outside"] {
        let home = Home::new();
        home.write("context/Dockerfile", "FROM scratch\nADD bad.tar /t/\n");
        fs::write(home.path().join("context/bad.tar"), hostile(&[name])).unwrap();
        let ours = home.koskit(&["build", "--output=type=local,dest=koskit", "context"]);
        assert_eq!(ours.code, 1, "{}", ours.stderr);
        assert!(ours.stderr.contains("leads out of where the archive"), "{}", ours.stderr);
        let words = ["buildx", "build", "--quiet", "--output=type=local,dest=docker", "context"];
        let theirs = Said::of(docker.command(home.path(), &words).output().unwrap());
        assert_ne!(theirs.code, 0, "docker takes {name}");
    }
}
