//! What is removed and what is not, archives of images, and what two images differ in.

mod common;

use std::fs;
use std::io::Write as _;

use common::*;
use koskit_image::{Difference, Error, Image, Store};
use koskit_llb::{Digest, Reference};

fn name(text: &str) -> Reference {
    text.parse::<Reference>().unwrap().tagged()
}

fn named(store: &Store, text: &str, files: &[&str]) -> Image {
    let layers: Vec<_> = files.iter().map(|f| archive(&[file(f, f)])).collect();
    let image = image(store, &layers);
    store.tag(&name(text), &image.descriptor).unwrap();
    image
}

fn blobs(store: &Store) -> usize {
    fs::read_dir(store.path().join("blobs/sha256")).unwrap().count()
}

#[test]
fn prune_removes_what_no_name_reaches_and_nothing_else() {
    let (_directory, store) = store();
    let kept = named(&store, "kept", &["a", "shared"]);
    named(&store, "gone", &["shared", "b"]);
    store.add_blob(b"a blob of a command that was killed").unwrap();
    assert!(store.untag(&name("gone")).unwrap());
    // Two layers, manifest and configuration of the one; of the other all but the shared layer.
    assert_eq!(blobs(&store), 4 + 3 + 1);
    let pruned = store.prune(false).unwrap().unwrap();
    assert_eq!((pruned.blobs.len(), blobs(&store)), (4, 4));
    assert!(pruned.bytes > 0);
    let platform = "linux/arm64".parse().unwrap();
    assert_eq!(store.resolve(&name("kept"), &platform).unwrap().id(), kept.id());
    assert_eq!(store.prune(false).unwrap().unwrap().blobs, []);
}

#[test]
fn nothing_is_pruned_while_another_command_has_the_store_open() {
    let (_directory, store) = store();
    let other = Store::open(store.path()).unwrap();
    let digest = other.add_blob(b"made, and not named yet").unwrap();
    assert!(store.prune(false).unwrap().is_none());
    assert!(other.has_blob(&digest));
    drop(other);
    assert_eq!(store.prune(false).unwrap().unwrap().blobs, [digest]);
}

#[test]
fn prune_waits_for_other_commands_if_it_is_told_to() {
    let (_directory, store) = store();
    let other = Store::open(store.path()).unwrap();
    std::thread::scope(|scope| {
        let pruned = scope.spawn(|| store.prune(true).unwrap().unwrap());
        let digest = other.add_blob(b"blob").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(other.has_blob(&digest));
        drop(other);
        assert_eq!(pruned.join().unwrap().blobs, [digest]);
    });
}

#[test]
fn an_image_that_cannot_be_read_keeps_all_others_safe_and_can_be_removed() {
    let (_directory, store) = store();
    let image = named(&store, "broken", &["a"]);
    named(&store, "good", &["b"]);
    fs::write(store.blob_path(&image.digest()), "{").unwrap();
    assert!(store.prune(false).is_err());
    assert_eq!(store.names().unwrap().len(), 2);
    store.remove(&[name("broken")]).unwrap().unwrap();
    store.prune(false).unwrap().unwrap();
    assert_eq!(blobs(&store), 3);
}

#[test]
fn removing_a_name_frees_what_only_it_reached() {
    let (_directory, store) = store();
    named(&store, "a", &["own", "shared"]);
    named(&store, "b", &["shared"]);
    let unnamed = store.add_blob(b"not reached before either").unwrap();
    store.tag(&name("a:2"), &store.find(&name("a")).unwrap().unwrap()).unwrap();
    assert!(matches!(store.remove(&[name("a"), name("c")]), Err(Error::NotFound(_))));
    assert_eq!(store.names().unwrap().len(), 3);
    assert_eq!(store.remove(&[name("a")]).unwrap().unwrap().blobs, []);
    assert_eq!(store.remove(&[name("a:2")]).unwrap().unwrap().blobs.len(), 3);
    assert!(store.has_blob(&unnamed));
    assert_eq!(store.names().unwrap().len(), 1);
}

#[test]
fn space_is_counted_once_however_many_names_share_it() {
    let (_directory, store) = store();
    let image = named(&store, "a", &["own", "shared"]);
    named(&store, "b", &["shared"]);
    store.tag(&name("a:2"), &image.descriptor).unwrap();
    store.add_blob(&[7; 10_000]).unwrap();
    let space = store.space().unwrap();
    assert_eq!((space.blobs, space.names.len()), (7, 3));
    let [a, a2, b] = &space.names[..] else { panic!() };
    assert_eq!((a.bytes, a.own), (a2.bytes, a2.own), "two names of one image are one");
    assert!(a.own < a.bytes && b.own < b.bytes);
    assert!(space.unreached >= 10_000);
    let shared = a.bytes - a.own;
    assert_eq!(space.bytes, a.own + b.own + shared + space.unreached);
}

#[test]
fn a_saved_archive_loads_with_its_names_and_ids() {
    let (_directory, store) = store();
    let first = named(&store, "first", &["a", "b"]);
    let second = named(&store, "registry.example:5000/x/second:3", &["b"]);
    let images: Vec<_> =
        store.names().unwrap().into_iter().map(|(name, d)| (Some(name), d)).collect();
    let save = || {
        let mut archive = Vec::new();
        store.save(&images, &mut archive).unwrap();
        archive
    };
    let archive = save();
    assert_eq!(archive, save(), "the same bytes each time");
    let (_other_directory, other) = common::store();
    let loaded = other.load(&archive[..]).unwrap();
    assert_eq!(loaded.len(), 2);
    let platform = "linux/arm64".parse().unwrap();
    assert_eq!(other.resolve(&name("first"), &platform).unwrap().digest(), first.digest());
    let name = name("registry.example:5000/x/second:3");
    assert_eq!(other.resolve(&name, &platform).unwrap().id(), second.id());
    // docker's older form of the same, compressed on the way.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).unwrap();
    let loaded = common::store().1.load(&gzip.finish().unwrap()[..]).unwrap();
    assert_eq!(loaded.len(), 2);
}

/// What docker wrote before it knew layouts.
fn old_archive(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": "arm64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id, diff_id] },
    });
    let manifest = serde_json::json!([{
        "Config": "c.json", "RepoTags": ["old:1", "old:2"], "Layers": ["x/layer.tar", "y/layer.tar"],
    }]);
    archive(&[
        file("manifest.json", manifest.to_string()),
        directory("x"),
        file("x/layer.tar", layer),
        file("x/VERSION", "1.0"),
        symlink("y/layer.tar", "../x/layer.tar"),
        file("c.json", config.to_string()),
        file("repositories", "{}"),
    ])
}

#[test]
fn an_archive_of_dockers_old_form_loads_with_the_id_of_its_configuration() {
    let (_directory, store) = store();
    let layer = archive(&[file("a", "x")]);
    let diff_id = Digest::of(&layer);
    let loaded = store.load(&old_archive(&layer, diff_id.as_str())[..]).unwrap();
    let names: Vec<_> = loaded.iter().map(|l| l.reference.clone().unwrap().familiar()).collect();
    assert_eq!(names, ["old:1", "old:2"]);
    let image = store.image(&loaded[0].descriptor).unwrap();
    assert_eq!(image.layers[1].digest, diff_id);

    let wrong = Digest::of(b"another");
    let error = store.load(&old_archive(&layer, wrong.as_str())[..]).unwrap_err();
    assert!(error.to_string().contains(wrong.as_str()), "{error}");
}

#[test]
fn a_hostile_archive_names_nothing() {
    let (_directory, store) = store();
    let good = named(&store, "good", &["a"]);
    let mut saved = Vec::new();
    store.save(&[(Some(name("good")), good.descriptor.clone())], &mut saved).unwrap();
    let descriptor = |digest: &str, size: u64| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"annotations":{{"io.containerd.image.name":"docker.io/library/evil:latest"}}}}]}}"#
        )
    };
    let absent = Digest::of(b"absent");
    let hex = absent.hex();
    let cases = [
        Vec::new(),
        b"no archive".to_vec(),
        archive(&[]),
        archive(&[file("index.json", "{")]),
        archive(&[file("index.json", descriptor(absent.as_str(), 7))]),
        archive(&[
            file(format!("blobs/sha256/{hex}"), "other bytes"),
            file("index.json", descriptor(absent.as_str(), 11)),
        ]),
        archive(&[file("blobs/sha256/../../../x", "a")]),
        archive(&[file("/blobs/sha256/x", "a")]),
        archive(&[file("blobs/sha256/nothex", "a")]),
        archive(&[file("manifest.json", r#"[{"Config":"../../etc/passwd","Layers":[]}]"#)]),
        archive(&[
            symlink("c.json", "c.json"),
            file("manifest.json", r#"[{"Config":"c.json","Layers":[]}]"#),
        ]),
        saved[..saved.len() / 2].to_vec(),
    ];
    for case in cases {
        let (_directory, store) = common::store();
        assert!(store.load(&case[..]).is_err(), "{:?}", String::from_utf8_lossy(&case));
        assert_eq!(store.names().unwrap(), []);
        store.prune(false).unwrap().unwrap();
        assert_eq!(blobs(&store), 0);
    }
}

#[test]
fn two_images_differ_in_what_was_added_changed_and_deleted() {
    let (_directory, store) = store();
    let base = [file("same", "x"), file("other", "1"), file("gone", "y"), directory("d")];
    let old = image(&store, &[archive(&base)]);
    let top = [file("other", "2"), file(".wh.gone", ""), file("d/new", "z"), file("same", "x")];
    let new = image(&store, &[archive(&base), archive(&top)]);
    let diff: Vec<_> = store
        .diff(&old, &new)
        .unwrap()
        .into_iter()
        .map(|(path, what)| format!("{} {}", what.letter(), path.display()))
        .collect();
    assert_eq!(diff, ["A d/new", "D gone", "C other"]);
    assert_eq!(store.diff(&new, &new).unwrap(), [] as [(std::path::PathBuf, Difference); 0]);
}
