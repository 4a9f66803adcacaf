//! The commands around the store, as a person and as a program sees them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Home(tempfile::TempDir);

impl Home {
    /// With two images, the second on top of the first.
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for (name, dockerfile) in [
            ("one", "FROM scratch\nCOPY a /a\nENV X=y\nCMD [\"/a\"]\n"),
            ("two", "FROM one\nCOPY b /\nLABEL a=b\n"),
        ] {
            fs::write(home.path("Dockerfile"), dockerfile).unwrap();
            fs::write(home.path("a"), "the same").unwrap();
            fs::write(home.path("b"), "b".repeat(20_000)).unwrap();
            home.ok(&["build", "-q", "-t", name, "."]);
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koskit"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        self.ok(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn images_get_names_and_lose_them_and_then_their_space() {
    let home = Home::new();
    let id = home.ok(&["images", "-q", "two"]).trim().to_owned();
    home.ok(&["tag", &id[..6], "registry.example/three:3"]);
    assert_eq!(home.json(&["images", "--format", "json"]).len(), 3);
    assert!(home.fails(&["rmi", &id]).contains("registry.example/three:3"));
    assert_eq!(home.ok(&["rmi", "two"]), "Untagged: two:latest\n");
    let gone = home.ok(&["rmi", &id]);
    // Its layer, its configuration, its manifest; the layer of the first image stays.
    assert_eq!(gone.matches("Deleted: sha256:").count(), 3, "{gone}");
    assert!(home.fails(&["rmi", "two"]).contains("there is no image two"));
    assert!(home.run(&["rmi", "-f", "two"]).status.success());
    assert!(home.ok(&["history", "one"]).contains("COPY a /a"));
}

#[test]
fn space_is_told_by_blob_and_freed_by_prune() {
    let home = Home::new();
    let df = || home.json(&["system", "df", "--format", "json"]).remove(0);
    let before = df();
    assert_eq!((before["Blobs"].as_u64(), before["ReclaimableBytes"].as_u64()), (Some(6), Some(0)));
    // Another build of the same name leaves the old one without any.
    fs::write(home.path("b"), "other").unwrap();
    home.ok(&["build", "-q", "-t", "two", "."]);
    let reclaimable = df()["ReclaimableBytes"].as_u64().unwrap();
    assert!(reclaimable > 0);
    let pruned = home.json(&["prune", "--format", "json"]).remove(0);
    assert_eq!(pruned["SpaceReclaimed"].as_u64(), Some(reclaimable));
    assert_eq!(df()["ReclaimableBytes"].as_u64(), Some(0));
    assert!(home.ok(&["prune"]).contains("Total reclaimed space: 0B"));
    let table = home.ok(&["system", "df", "-v"]);
    assert!(table.contains("UNIQUE SIZE") && table.contains("two"), "{table}");
    assert!(home.fails(&["prune", "-a"]).contains("-f"));
    home.ok(&["prune", "-a", "-f"]);
    assert_eq!(df()["Blobs"].as_u64(), Some(0));
}

#[test]
fn an_archive_goes_from_one_store_to_another_through_a_pipe() {
    let home = Home::new();
    home.ok(&["save", "-o", "both.tar", "one", "two"]);
    let other = Home(tempfile::tempdir().unwrap());
    let mut save = home.command(&["save", "one", "two"]).stdout(Stdio::piped()).spawn().unwrap();
    let pipe = save.stdout.take().unwrap();
    let loaded = other.command(&["load"]).stdin(pipe).output().unwrap();
    assert!(save.wait().unwrap().success() && loaded.status.success());
    let text = String::from_utf8(loaded.stdout).unwrap();
    assert_eq!(text, "Loaded image: one:latest\nLoaded image: two:latest\n");
    assert_eq!(home.ok(&["images", "-q"]), other.ok(&["images", "-q"]));
    other.ok(&["load", "-q", "-i", home.path("both.tar").to_str().unwrap()]);
    fs::write(home.path("bad.tar"), "no archive").unwrap();
    assert!(home.fails(&["load", "-i", "bad.tar"]).contains("archive"));
    assert!(home.fails(&["save", "-o", "x.tar", "absent"]).contains("no image absent"));
    assert!(!home.path("x.tar").exists());
}

#[test]
fn history_and_differences_tell_what_was_done() {
    let home = Home::new();
    let steps = home.json(&["history", "--format", "json", "two"]);
    let by: Vec<_> = steps.iter().map(|step| step["CreatedBy"].as_str().unwrap()).collect();
    assert_eq!(by.len(), 5);
    assert!(by[0].starts_with("LABEL a=b") && by[1].starts_with("COPY b /"), "{by:?}");
    assert!(steps[1]["Layer"].is_string() && steps[0]["Layer"].is_null());
    assert_eq!(home.ok(&["history", "-q", "two"]).lines().count(), 2);
    assert_eq!(home.ok(&["diff", "one", "two"]), "A /b\n");
    assert_eq!(home.ok(&["diff", "two", "one"]), "D /b\n");
    assert_eq!(home.ok(&["diff", "two", "two"]), "");
}

#[test]
fn an_image_that_is_damaged_hides_no_other_and_can_be_removed() {
    let home = Home::new();
    let listed = home.json(&["images", "--format", "json", "two"]).remove(0);
    let digest = listed["Digest"].as_str().unwrap().replace("sha256:", "");
    fs::write(home.path("data/koskit/blobs/sha256").join(digest), "{").unwrap();
    let output = home.run(&["images"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("one"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("koskit rmi two"));
    home.fails(&["prune"]);
    home.ok(&["rmi", "two"]);
    home.ok(&["prune"]);
    assert_eq!(home.json(&["images", "--format", "json"]).len(), 1);
}
