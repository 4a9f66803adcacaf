//! Snapshots, as root and as users.

use koskit_image::Store;
use koskit_image::layer::PackOptions;
use rustix::fs::FlockOperation;

use super::*;
use crate::testing::inside;

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn step(snapshots: &Snapshots, parent: &Snapshot, name: &str, change: impl Fn(&Path)) -> Snapshot {
    let active = snapshots.prepare(parent).unwrap();
    change(&active.path());
    active.commit(&key(name)).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn steps_add_up_and_the_second_build_finds_them() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let one = step(&snapshots, &Snapshot::scratch(), "one", |root| {
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/a"), "a").unwrap();
            fs::write(root.join("d/b"), "b").unwrap();
        });
        let two = step(&snapshots, &one, "two", |root| {
            fs::remove_file(root.join("d/a")).unwrap();
            fs::write(root.join("c"), "c").unwrap();
        });
        let again = Snapshots::open(dir).unwrap();
        assert_eq!(again.get(&key("two")).unwrap(), Some(two.clone()));
        assert_eq!(again.get(&key("three")).unwrap(), None);
        let view = again.view(&two).unwrap();
        assert_eq!(names(&view.path()), ["c", "d"]);
        assert_eq!(names(&view.path().join("d")), ["b"]);
        assert_eq!(names(&again.view(&one).unwrap().path().join("d")), ["a", "b"]);
        assert!(names(&again.view(&Snapshot::scratch()).unwrap().path()).is_empty());
    });
}

#[test]
fn what_is_not_committed_leaves_nothing() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let active = snapshots.prepare(&Snapshot::scratch()).unwrap();
        fs::write(active.path().join("file"), "").unwrap();
        // Another build begins: what is in use stays.
        Snapshots::open(dir).unwrap();
        assert!(active.path().join("file").exists());
        drop(active);
        assert!(names(&snapshots.root.join("active")).is_empty());
    });
}

#[test]
fn the_next_build_removes_what_a_killed_one_left() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let mut active = snapshots.prepare(&Snapshot::scratch()).unwrap();
        let path = active.work.path();
        fs::create_dir_all(active.path().join("deep/er")).unwrap();
        active.work.unmount().unwrap();
        // A killed process drops its lock and runs no destructors.
        rustix::fs::flock(&active.work._lock, FlockOperation::Unlock).unwrap();
        std::mem::forget(active);
        assert!(path.join("files/deep/er").exists());
        fs::create_dir(snapshots.root.join("active/1-1")).unwrap();
        Snapshots::open(dir).unwrap();
        assert!(names(&snapshots.root.join("active")).is_empty());
    });
}

#[test]
fn two_builds_may_make_the_same_snapshot() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let (a, b) = (Snapshot::scratch(), Snapshot::scratch());
        let (a, b) = (snapshots.prepare(&a).unwrap(), snapshots.prepare(&b).unwrap());
        fs::write(a.path().join("a"), "").unwrap();
        fs::write(b.path().join("b"), "").unwrap();
        let (a, b) = (a.commit(&key("same")).unwrap(), b.commit(&key("same")).unwrap());
        assert_eq!(a, b);
        assert_eq!(names(&snapshots.view(&b).unwrap().path()), ["a"]);
        assert!(names(&snapshots.root.join("active")).is_empty());
    });
}

#[test]
fn two_hundred_layers_are_not_too_many() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let mut snapshot = Snapshot::scratch();
        for n in 0..200 {
            // As Snapshots::prepare does it, without the mount.
            let work = snapshots.work().unwrap();
            fs::create_dir(work.path().join("files")).unwrap();
            fs::write(work.path().join("files").join(n.to_string()), "").unwrap();
            snapshot = work.keep(&key(&n.to_string()), &snapshot).unwrap();
        }
        let active = match snapshots.prepare(&snapshot) {
            Ok(active) => active,
            Err(SnapshotError::Mount { source, .. }) if source.raw_os_error() == Some(22) => {
                return println!("skipped: this kernel has no lowerdir+");
            }
            Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e)),
        };
        fs::write(active.path().join("last"), "").unwrap();
        let snapshot = active.commit(&key("last")).unwrap();
        assert_eq!(snapshot.depth(), 201);
        assert_eq!(names(&snapshots.view(&snapshot).unwrap().path()).len(), 201);
        assert_eq!(snapshots.get(&key("last")).unwrap(), Some(snapshot));
    });
}

#[test]
fn layers_are_packed_once_and_unpacked_to_the_same_files() {
    inside(|_, dir| {
        let store = Store::open(dir.join("store")).unwrap();
        let snapshots = Snapshots::open(&dir.join("cache")).unwrap();
        let one = step(&snapshots, &Snapshot::scratch(), "one", |root| {
            fs::create_dir_all(root.join("d/e")).unwrap();
            fs::write(root.join("d/e/f"), "f").unwrap();
            fs::write(root.join("gone"), "").unwrap();
            fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o2750)).unwrap();
        });
        let two = step(&snapshots, &one, "two", |root| {
            fs::remove_dir_all(root.join("d/e")).unwrap();
            fs::create_dir(root.join("d/e")).unwrap();
            fs::write(root.join("d/e/g"), "g").unwrap();
            fs::remove_file(root.join("gone")).unwrap();
        });
        let options = PackOptions { latest: Some(1_000_000_000), ..PackOptions::default() };
        let layers = snapshots.layers(&store, &two, &options).unwrap();
        assert_eq!(layers.len(), 2);
        assert_eq!(snapshots.layers(&store, &two, &options).unwrap(), layers);
        let other = Snapshots::open(&dir.join("other")).unwrap();
        let image = other.image(&store, &layers, None).unwrap();
        assert_eq!(image, other.image(&store, &layers, None).unwrap());
        let view = other.view(&image).unwrap();
        assert_eq!(names(&view.path()), ["d"]);
        assert_eq!(names(&view.path().join("d/e")), ["g"]);
        let mode = fs::metadata(view.path().join("d")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o2750);
    });
}

#[test]
fn a_damaged_record_is_made_again() {
    inside(|_, dir| {
        let snapshots = Snapshots::open(dir).unwrap();
        let one = step(&snapshots, &Snapshot::scratch(), "one", |_| {});
        let record = snapshots.layer(&one.layers[0]).join("snapshot.json");
        fs::write(&record, "").unwrap();
        assert_eq!(snapshots.get(&key("one")).unwrap(), None);
        let again = step(&snapshots, &Snapshot::scratch(), "one", |root| {
            fs::write(root.join("new"), "").unwrap();
        });
        assert_eq!(snapshots.get(&key("one")).unwrap(), Some(again.clone()));
        assert_eq!(names(&snapshots.view(&again).unwrap().path()), ["new"]);
        assert!(names(&snapshots.root.join("active")).is_empty());
    });
}

#[test]
fn a_cache_that_is_on_an_overlay_itself_is_told_what_to_do() {
    inside(|_, dir| {
        // A snapshot's mount is one, and at hand.
        let outer = Snapshots::open(dir).unwrap();
        let active = outer.prepare(&Snapshot::scratch()).unwrap();
        let inner = Snapshots::open(&active.path()).unwrap();
        let error = inner.prepare(&Snapshot::scratch()).unwrap_err().to_string();
        assert!(error.contains("XDG_CACHE_HOME to a directory on another file system"), "{error}");
    });
}
