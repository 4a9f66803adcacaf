use koskit_llb::Digest;

use super::*;
use crate::snapshot::Snapshot;
use crate::testing::inside;

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn step(snapshots: &Snapshots, parent: &Snapshot, name: &str, bytes: usize) -> Snapshot {
    let mut active = snapshots.prepare(parent).unwrap();
    fs::write(active.path().join(name), vec![1; bytes]).unwrap();
    active.describe(name.to_owned());
    active.commit(&key(name)).unwrap()
}

/// Lets a layer look as if it was used last so many days ago.
fn age(snapshots: &Snapshots, name: &str, days: u64) {
    let path = snapshots.layer(&layer_name(&key(name))).join("snapshot.json");
    let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
}

fn described(usages: &[Usage]) -> Vec<&str> {
    usages.iter().map(|usage| usage.description.as_str()).collect()
}

/// Three layers, `a`, `b` on it, and `c`, of which nobody holds any.
fn three(dir: &Path) -> (Store, Snapshots) {
    let store = Store::open(dir.join("store")).unwrap();
    let snapshots = Snapshots::open(&dir.join("cache")).unwrap();
    let a = step(&snapshots, &Snapshot::scratch(), "a", 100_000);
    step(&snapshots, &a, "b", 10_000);
    step(&snapshots, &Snapshot::scratch(), "c", 50_000);
    drop(snapshots);
    let snapshots = Snapshots::open(&dir.join("cache")).unwrap();
    age(&snapshots, "a", 30);
    age(&snapshots, "b", 10);
    age(&snapshots, "c", 20);
    (store, snapshots)
}

#[test]
fn what_is_made_on_something_uses_it_and_goes_before_it() {
    inside(|_, dir| {
        let (store, snapshots) = three(dir);
        let all = snapshots.usage(&store).unwrap();
        assert_eq!(described(&all).len(), 3);
        let a = all.iter().find(|usage| usage.description == "a").unwrap();
        let b = all.iter().find(|usage| usage.description == "b").unwrap();
        assert!(a.size >= 100_000 && b.size >= 10_000 && b.size < 100_000);
        assert_eq!((a.last_used, &b.parents), (b.last_used, &vec![a.id.clone()]));
        let old = Filter { unused_for: Some(Duration::from_secs(15 * 86400)), ..Filter::default() };
        let prune = Prune { filter: old, ..Prune::default() };
        assert_eq!(described(&snapshots.prune(&store, &prune).unwrap()), ["c"]);
        let removed = snapshots.prune(&store, &Prune::default()).unwrap();
        assert_eq!(described(&removed), ["b", "a"]);
        assert_eq!(snapshots.get(&key("a")).unwrap(), None);
        for directory in ["layers", "trash"] {
            assert!(snapshots.names(directory).unwrap().is_empty(), "{directory}");
        }
    });
}

#[test]
fn what_a_build_has_found_stays_until_it_ends() {
    inside(|_, dir| {
        let (store, snapshots) = three(dir);
        let build = Snapshots::open(&dir.join("cache")).unwrap();
        let b = build.get(&key("b")).unwrap().unwrap();
        let all = snapshots.usage(&store).unwrap();
        assert_eq!(all.iter().filter(|usage| usage.in_use).count(), 2);
        assert_eq!(described(&snapshots.prune(&store, &Prune::default()).unwrap()), ["c"]);
        assert!(build.view(&b).unwrap().path().join("a").exists());
        drop(build);
        let removed = snapshots.prune(&store, &Prune::default()).unwrap();
        assert_eq!(described(&removed), ["b", "a"]);
    });
}

#[test]
fn no_more_goes_than_the_limits_ask_for() {
    inside(|_, dir| {
        let (store, snapshots) = three(dir);
        // `c` was unused for longer than `b`, and so than `a`.
        let limits = Limits { max_used: 130_000, ..Limits::default() };
        let prune = Prune { limits, ..Prune::default() };
        assert_eq!(described(&snapshots.prune(&store, &prune).unwrap()), ["c"]);
        assert!(snapshots.prune(&store, &prune).unwrap().is_empty());
        let limits = Limits { reserved: 1 << 40, max_used: 1, min_free: u64::MAX };
        let prune = Prune { limits, ..Prune::default() };
        assert!(snapshots.prune(&store, &prune).unwrap().is_empty());
    });
}

#[test]
fn what_several_layers_have_counts_for_the_last_one_that_goes() {
    inside(|_, dir| {
        let (store, snapshots) = three(dir);
        snapshots.usage(&store).unwrap();
        // `d` has the file of `a`, which was measured before, and one of its own.
        let mut active = snapshots.prepare(&Snapshot::scratch()).unwrap();
        fs::write(active.path().join("own"), vec![1; 20_000]).unwrap();
        let a = snapshots.get(&key("a")).unwrap();
        let of_a = snapshots.layer(&layer_name(&key("a"))).join("copied.json");
        fs::write(of_a, r#"{"a": "digest"}"#).unwrap();
        let links = snapshots.links(a.as_ref()).unwrap();
        let file = Path::new("a");
        assert!(links.has(file, "digest") && !links.has(file, "other"));
        fs::write(active.path().join("a"), "").unwrap();
        links.add(file);
        active.copies(links);
        active.commit(&key("d")).unwrap();
        drop(snapshots);
        let snapshots = Snapshots::open(&dir.join("cache")).unwrap();
        age(&snapshots, "a", 30);
        age(&snapshots, "b", 30);
        let size = |name: &str| {
            let all = snapshots.usage(&store).unwrap();
            all.iter().find(|usage| usage.id == layer_name(&key(name))).map(|usage| usage.size)
        };
        let around = |size: Option<u64>, bytes: u64| {
            size.is_some_and(|size| (bytes..bytes + 10_000).contains(&size))
        };
        assert!(
            around(size("d"), 120_000) && around(size("a"), 0),
            "{:?} {:?}",
            size("d"),
            size("a")
        );
        // Whoever was used last has it; and who is left has it alone.
        age(&snapshots, "d", 40);
        assert!(around(size("d"), 20_000) && around(size("a"), 100_000));
        let oldest =
            Filter { unused_for: Some(Duration::from_secs(35 * 86400)), ..Filter::default() };
        let prune = Prune { filter: oldest, ..Prune::default() };
        assert_eq!(snapshots.prune(&store, &prune).unwrap().len(), 1);
        assert!(size("d").is_none() && around(size("a"), 100_000));
    });
}

#[test]
fn layers_of_images_stay_unless_all_are_meant() {
    inside(|_, dir| {
        let (store, snapshots) = three(dir);
        let c = snapshots.get(&key("c")).unwrap().unwrap();
        let options = koskit_image::layer::PackOptions { latest: Some(0), ..Default::default() };
        let layers = snapshots.layers(&store, &c, &options).unwrap();
        let config = serde_json::json!({ "architecture": "arm64", "os": "linux" });
        let image = store.add_image(&config, &layers).unwrap();
        store.tag(&"c:latest".parse().unwrap(), &image.descriptor).unwrap();
        drop(snapshots);
        let snapshots = Snapshots::open(&dir.join("cache")).unwrap();
        let removed = snapshots.prune(&store, &Prune::default()).unwrap();
        assert_eq!(described(&removed), ["b", "a"]);
        let all = Prune { all: true, ..Prune::default() };
        assert_eq!(described(&snapshots.prune(&store, &all).unwrap()), ["c"]);
    });
}

#[test]
fn the_limits_are_those_of_buildkit() {
    let limits = Limits { reserved: 10, max_used: 100, min_free: 20 };
    assert_eq!(limits.keep(500, 1000), 100);
    assert_eq!(limits.keep(50, 5), 35);
    assert_eq!(limits.keep(20, 0), 10);
    assert_eq!(Limits::default().keep(500, 0), 0);
    assert_eq!(Limits { min_free: 20, ..Limits::default() }.keep(500, 10), 490);
    let policies = Prune::automatic(1_000_000_000_000);
    assert_eq!(policies.len(), 4);
    let limits =
        Limits { reserved: 10_000_000_000, max_used: 100_000_000_000, min_free: 200_000_000_000 };
    assert_eq!(policies[3].limits, limits);
}
