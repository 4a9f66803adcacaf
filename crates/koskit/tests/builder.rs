//! `koskit builder`: the cache that builds leave, as the command line shows and removes it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `koskit` with a home of its own.
fn koskit(home: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koskit"));
    command.args(words).current_dir(home).stdin(Stdio::null());
    command.env("XDG_DATA_HOME", home.join("data")).env("XDG_CACHE_HOME", home.join("cache"));
    command.output().unwrap()
}

fn must(home: &Path, words: &[&str]) -> String {
    let output = koskit(home, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_a_build_keeps_is_shown_and_goes() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::create_dir(home.join("context")).unwrap();
    fs::write(home.join("context/file"), vec![7; 50_000]).unwrap();
    fs::write(home.join("context/Dockerfile"), "FROM scratch\nCOPY file /file\n").unwrap();
    let built = koskit(home, &["build", "--quiet", "-t", "kept", "context"]);
    if !built.status.success() {
        let why = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(why.contains("namespace"), "{why}");
        return println!("skipped: {why}");
    }
    let lines = must(home, &["builder", "du", "--format", "json"]);
    let [line] = lines.lines().collect::<Vec<_>>()[..] else { panic!("{lines}") };
    let usage: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(usage["Bytes"].as_u64().unwrap() >= 50_000, "{usage}");
    assert_eq!((&usage["Shared"], &usage["InUse"]), (&true.into(), &false.into()));
    assert!(usage["Description"].as_str().unwrap().contains("COPY file /file"), "{usage}");

    let asks = koskit(home, &["builder", "prune"]);
    assert!(String::from_utf8_lossy(&asks.stderr).contains("--force"));
    // It is a layer of an image.
    assert_eq!(must(home, &["builder", "prune", "--force"]), "reclaimed: 0B\n");
    let until = ["builder", "prune", "--force", "--all", "--filter", "until=1h"];
    assert_eq!(must(home, &until), "reclaimed: 0B\n");
    let gone = must(home, &["builder", "prune", "--force", "--all"]);
    assert!(gone.contains("COPY file /file"), "{gone}");
    assert_eq!(must(home, &["builder", "du"]), "total: 0B\n");
    // The image stays, and the next build makes it anew.
    assert!(must(home, &["images"]).contains("kept"));
    must(home, &["build", "--quiet", "context"]);
    assert!(!must(home, &["builder", "du", "--format", "json"]).is_empty());
}
