//! Commands that are killed at any moment: what was finished is there, what was not is either
//! done or not begun, and nothing is left over.

use koskit_image::{Limits, Store, Tree};
use koskit_llb::{Digest, Reference};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// So many commands are killed before they end.
const KILLS: usize = 200;

/// Numbers that look random, the same each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn koskit(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koskit"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.koskit(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn store(&self) -> Store {
        Store::open(self.path("data/koskit")).unwrap()
    }
}

/// An archive as docker wrote it before there were layouts, of one image with one file.
fn archive(path: &Path, name: &str, content: &[u8]) -> Vec<String> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "file", content);
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": "arm64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).as_str()] },
    });
    let names = [format!("{name}:1"), format!("{name}:2")];
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"] }
    ]);
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    append(&mut archive, "layer.tar", &layer);
    append(&mut archive, "config.json", config.to_string().as_bytes());
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap();
    names.to_vec()
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content).unwrap();
}

type Names = BTreeMap<String, String>;

/// What the store's names stand for. All that they reach is read.
fn names(store: &Store) -> Names {
    let read = |(name, descriptor): (Reference, koskit_image::oci::Descriptor)| {
        for (_, descriptor) in store.platforms(&descriptor).unwrap() {
            let image = store.image(&descriptor).unwrap();
            Tree::read(store, &image, &Limits::default()).unwrap();
        }
        (name.familiar(), descriptor.digest().to_string())
    };
    store.names().unwrap().into_iter().map(read).collect()
}

/// What is begun: a command, and the names that it may change.
fn choose(numbers: &mut Numbers) -> (Vec<&'static str>, Vec<&'static str>) {
    match numbers.next(8) {
        0 => (vec!["load", "-i", "a.tar"], vec!["a:1", "a:2"]),
        1 => (vec!["load", "-i", "b.tar"], vec!["b:1", "b:2"]),
        2 => (vec!["tag", "base", "copy"], vec!["copy:latest"]),
        3 => (vec!["rmi", "-f", "a:1", "copy"], vec!["a:1", "copy:latest"]),
        4 => (vec!["rmi", "-f", "b:1", "b:2"], vec!["b:1", "b:2"]),
        5 => (vec!["prune"], vec![]),
        6 => (vec!["save", "-o", "saved.tar", "base"], vec![]),
        _ => (vec!["build", "-q", "-t", "built", "context"], vec!["built:latest"]),
    }
}

#[test]
fn what_was_finished_survives_kills_at_two_hundred_random_moments() {
    let home = Home { folder: tempfile::tempdir().unwrap() };
    let large: Vec<u8> = (0..600_000u32).flat_map(|n| n.to_le_bytes()).collect();
    archive(&home.path("base.tar"), "base", b"base");
    archive(&home.path("a.tar"), "a", &large);
    archive(&home.path("b.tar"), "b", b"small");
    fs::create_dir(home.path("context")).unwrap();
    let dockerfile = "FROM scratch\nCOPY data /\nWORKDIR /x\n";
    fs::write(home.path("context/Dockerfile"), dockerfile).unwrap();
    home.run(&["load", "-i", "base.tar"]);
    home.run(&["tag", "base:1", "base"]);
    let base = names(&home.store());
    assert_eq!(base.len(), 3);

    let mut numbers = Numbers(20_261_125);
    // How long each command takes if it is left alone.
    let mut usual: BTreeMap<&str, Duration> = BTreeMap::new();
    let (mut kills, mut finished) = (0, 0);
    let mut before = base.clone();
    while kills < KILLS {
        let (command, may_change) = choose(&mut numbers);
        // A build that has something to do.
        fs::write(home.path("context/data"), numbers.next(1 << 40).to_string()).unwrap();
        let longest = usual.get(command[0]).copied().unwrap_or(Duration::from_millis(300));
        let delay = longest.mul_f64(numbers.next(1000) as f64 / 900.0);
        let begin = Instant::now();
        let mut child = home.koskit(&command).spawn().unwrap();
        std::thread::sleep(delay);
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let done = output.status.success();
        match output.status.code() {
            None => kills += 1,
            Some(0) => {
                finished += 1;
                usual.entry(command[0]).or_insert(begin.elapsed());
            }
            Some(_) => panic!("{command:?}: {output:?}"),
        }

        let store = home.store();
        let after = names(&store);
        for (name, digest) in &base {
            assert_eq!(after.get(name), Some(digest), "{command:?} touched {name}");
        }
        for (name, digest) in before.iter().filter(|(n, _)| !may_change.contains(&n.as_str())) {
            assert_eq!(after.get(name), Some(digest), "{command:?} lost {name}");
        }
        for name in after.keys().filter(|name| !before.contains_key(*name)) {
            assert!(may_change.contains(&name.as_str()), "{command:?} made {name}");
        }
        if done && matches!(command[0], "load" | "tag" | "build") {
            assert!(may_change.iter().all(|name| after.contains_key(*name)), "{command:?}");
        }
        if done && command[0] == "rmi" {
            assert!(may_change.iter().all(|name| !after.contains_key(*name)), "{command:?}");
        }
        let saved = home.path("saved.tar");
        if let Ok(file) = fs::File::open(&saved) {
            let other = tempfile::tempdir().unwrap();
            let loaded = Store::open(other.path()).unwrap().load(file).unwrap();
            assert_eq!(loaded.len(), 1, "a saved archive is whole");
            fs::remove_file(&saved).unwrap();
        }
        before = after;
    }
    println!("{kills} commands killed, {finished} finished before that");
    assert!(finished > 0, "some came to their end");

    // Nothing is left that the next commands do not clean up.
    home.run(&["prune"]);
    let space = home.store().space().unwrap();
    assert_eq!(space.unreached, 0);
    let ingest: Vec<_> = fs::read_dir(home.path("data/koskit/ingest"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "lock")
        .collect();
    assert!(ingest.is_empty(), "{ingest:?}");
    assert_eq!(names(&home.store()), before);
}
