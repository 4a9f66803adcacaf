//! A disk that is full: a clear error, nothing lost, and room again when something is removed.

use std::fs;
use std::path::Path;
use std::process::Command;

/// In a mount namespace of its own, with a file system of 3 MiB for the store.
const SCRIPT: &str = r#"
set -u
mount -t tmpfs -o size=3m none "$HOME/data" || exit 77
"$KOSKIT" load -q -i small.tar || exit 1
"$KOSKIT" load -q -i large.tar 2>message && exit 2
echo "message: $(cat message)"
"$KOSKIT" images -q small >listed || exit 3
[ -s listed ] || exit 4
[ "$(ls "$HOME/data/koskit/ingest" | grep -vc lock)" = 0 ] || exit 5
"$KOSKIT" save -o saved.tar small || exit 6
"$KOSKIT" load -q -i middle.tar || exit 7
"$KOSKIT" load -q -i other.tar 2>/dev/null && exit 8
"$KOSKIT" rmi middle >/dev/null || exit 9
"$KOSKIT" prune >/dev/null || exit 10
"$KOSKIT" load -q -i other.tar || exit 11
"#;

/// An archive of an image with one file that does not compress.
fn archive(path: &Path, name: &str, size: usize) {
    let mut state = size as u32;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(size)
    .collect();
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "file", &content);
    let layer = layer.into_inner().unwrap();
    let diff_id = koskit_llb::Digest::of(&layer);
    let config = serde_json::json!({
        "architecture": "arm64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [diff_id.as_str()] },
    });
    let manifest = serde_json::json!([
        { "Config": "c.json", "RepoTags": [format!("{name}:latest")], "Layers": ["l.tar"] }
    ]);
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    append(&mut archive, "l.tar", &layer);
    append(&mut archive, "c.json", config.to_string().as_bytes());
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap();
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, content).unwrap();
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("data")).unwrap();
    for (name, size) in
        [("small", 1000), ("middle", 2_000_000), ("other", 1_999_999), ("large", 5_000_000)]
    {
        archive(&home.path().join(format!("{name}.tar")), name, size);
    }
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", SCRIPT])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path().join("data"))
        .env("XDG_CACHE_HOME", home.path().join("cache"))
        .env("KOSKIT", env!("CARGO_BIN_EXE_koskit"))
        .output();
    let output = match output {
        // unshare itself ends with 1 where it may not; koskit has not begun then.
        Ok(output) if output.status.code() == Some(77) || output.stderr.starts_with(b"unshare") => {
            println!("skipped: no file system can be mounted here");
            return;
        }
        Ok(output) => output,
        Err(error) => {
            println!("skipped: unshare cannot be started: {error}");
            return;
        }
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("No space left on device"), "{text}");
    assert!(text.contains("cannot write"), "{text}");
}
