//! Builds that cannot go on: the disk is full, or somebody stops them.

use crate::common::{Home, text};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes that no compression makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs a script with a small disk at `DIR/small`, where it can mount one. The script finds
/// `koskit` as `$K`, and its data and cache there.
fn on_small_disk(home: &Home, kilobytes: usize, script: &str) -> Option<String> {
    fs::create_dir_all(home.path("small")).unwrap();
    let mount = format!("mount -t tmpfs -o size={kilobytes}k none small || exit 77\n{script}");
    let root = rustix_is_root();
    let mut command = Command::new("unshare");
    command.args(if root { &["-m"][..] } else { &["-rm"][..] });
    command.args(["sh", "-c", &mount]).current_dir(home.path(""));
    command.env("K", env!("CARGO_BIN_EXE_koskit"));
    for (name, value) in [("XDG_DATA_HOME", "small/data"), ("XDG_CACHE_HOME", "small/cache")] {
        command.env(name, home.path(value));
    }
    let output = command.stdin(Stdio::null()).output().ok()?;
    let said = text(&output.stdout) + &text(&output.stderr);
    match output.status.code() {
        Some(77) => {
            println!("skipped: no tmpfs can be mounted: {said}");
            None
        }
        _ => Some(said),
    }
}

fn rustix_is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    text(&id.stdout).trim() == "0"
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    let home = Home::new();
    home.write("app/Dockerfile", "FROM scratch\nCOPY large /\n");
    home.write("app/large", noise(3 << 20));
    home.write("tiny/Dockerfile", "FROM scratch\nCOPY x /\n");
    home.write("tiny/x", "x");
    // Where it becomes full: in the cache, in the store, in the output.
    for kilobytes in [2 << 10, 5 << 10, 8 << 10] {
        let script = "\
            $K build -q -t tiny tiny || exit 1
            $K build -t app -o type=oci,dest=small/app.tar -o small/out app && echo WORKED
            ls -A small/out small/data/koskit/ingest small/app.tar small 2>&1 | sed 's/^/LEFT /'
            rm -rf small/out small/cache
            $K build -q tiny >/dev/null && echo AGAIN
            $K images";
        let Some(said) = on_small_disk(&home, kilobytes, script) else { return };
        assert!(!said.contains("WORKED"), "{kilobytes}: {said}");
        assert!(said.contains("No space left on device"), "{kilobytes}: {said}");
        assert!(said.contains("AGAIN"), "{kilobytes}: {said}");
        // The names that there were are there, and no others.
        assert!(said.contains("tiny") && !said.contains("\napp "), "{kilobytes}: {said}");
        let left: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("LEFT ")).collect();
        let half = |name: &&&str| name.starts_with(".app") || name.starts_with(".koskit");
        assert_eq!(left.iter().filter(half).count(), 0, "{kilobytes}: {said}");
    }
}

#[test]
fn a_build_that_is_stopped_ends_by_its_signal_and_leaves_no_half_output() {
    let home = Home::new();
    home.write("app/Dockerfile", "FROM scratch\nCOPY large /\n");
    home.write("app/large", noise(48 << 20));
    home.must(&["build", "-q", "app"]);
    // While its layer is compressed.
    let mut build = home
        .command(&[
            "build",
            "-o",
            "type=oci,dest=app.tar,compression=zstd,compression-level=19",
            "-t",
            "late",
            "app",
        ])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = build.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = {
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut build.stderr.take().unwrap(), &mut said).unwrap();
        (build.wait().unwrap(), text(&said))
    };
    assert_eq!(output.0.signal(), Some(2), "{}", output.1);
    assert!(output.1.contains("CANCELED"), "{}", output.1);
    assert!(
        output.1.ends_with("koskit: canceled; steps that were finished are kept\n"),
        "{}",
        output.1
    );
    let left = names(&home.path(""));
    assert!(left.iter().all(|name| !name.contains("app.tar")), "{left:?}");
    let images = text(&home.must(&["images"]));
    assert!(!images.contains("late"), "{images}");
    home.must(&["build", "-q", "-o", "type=oci,dest=app.tar", "app"]);
    assert!(home.path("app.tar").is_file());
    assert_eq!(names(&home.path("data/koskit/ingest")), ["lock"]);
}
