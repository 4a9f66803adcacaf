//! Programs that do the same in a container as under Linux: each runs twice, and says the same.
//! Linux is the one that the tests run on, with QEMU's user mode for the processor.

use koskit_image::{Node, Tree};
use koskit_machine::{Container, Options};
use koskit_tests::{platform, program};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

/// The directory that programs run in, in the image.
const DIRECTORY: &str = "work";

/// Runs a program under Linux, in a directory with the same files as in the image.
fn under_linux(file: &Path, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("sub/deep/er")).unwrap();
    fs::write(at("sub/inner"), "inner\n").unwrap();
    fs::write(at("motd"), "0123456789abcde\n").unwrap();
    fs::set_permissions(at("motd"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(at("motd"), at("hard")).unwrap();
    symlink("motd", at("link")).unwrap();
    let output = Command::new("qemu-aarch64-static")
        .arg(file)
        .args(args)
        .current_dir(folder.path())
        .output()
        .expect("cannot start qemu-aarch64-static; ./x test installs it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Runs a program in a container.
fn in_container(file: &Path, args: &[&str]) -> String {
    let mut tree = Tree::new();
    let motd = Node::file(0o640, &b"0123456789abcde\n"[..]);
    for (path, node) in [
        ("bin", Node::directory(0o755)),
        ("bin/tool", Node::file(0o755, fs::read(file).unwrap())),
        ("tmp", Node::directory(0o1777)),
        ("work", Node::directory(0o755)),
        ("work/hard", motd.clone()),
        ("work/link", Node::symlink("motd")),
        // One file with two names.
        ("work/motd", motd),
        ("work/sub", Node::directory(0o755)),
        ("work/sub/deep", Node::directory(0o755)),
        ("work/sub/deep/er", Node::directory(0o755)),
        ("work/sub/inner", Node::file(0o644, &b"inner\n"[..])),
    ] {
        tree.insert(path, node);
    }
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "Entrypoint": ["/bin/tool"], "Cmd": args, "WorkingDir": format!("/{DIRECTORY}") },
    });
    let config = serde_json::from_value(config).unwrap();
    let options = koskit_lower::Options::default();
    let bundle =
        koskit_lower::lower(&tree, &config, &options, &platform().libkos().unwrap()).unwrap();
    let (process, contract) = (bundle.process(), bundle.contract);
    let container = Container { contract, process, program: bundle.program, initrd: bundle.initrd };
    let ran = koskit_tests::boot(&[container], &Options::default()).unwrap();
    assert_eq!(ran.ended.status, 0, "{ran}");
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    ran.output().into()
}

/// Runs a program both ways.
fn compare(name: &str) {
    let file = program(name);
    assert_same(name, &under_linux(&file, &[]), &in_container(&file, &[]));
}

/// Compares what a program said line by line.
fn assert_same(name: &str, linux: &str, container: &str) {
    let mut differ = String::new();
    for (linux, container) in linux.lines().zip(container.lines()) {
        if linux != container {
            differ += &format!("under Linux:  {linux}\nin container: {container}\n");
        }
    }
    assert!(differ.is_empty(), "{name} says other things:\n{differ}");
    assert_eq!(container.lines().count(), linux.lines().count(), "{container}");
}

#[test]
fn files_change_as_under_linux() {
    compare("tree");
}

#[test]
fn pipes_sockets_counters_and_polling_work_as_under_linux() {
    compare("ends");
}

#[test]
fn thousands_of_changes_drawn_by_lot_come_out_as_under_linux() {
    compare("churn");
}

#[test]
fn signals_reach_their_handlers_as_under_linux() {
    compare("signals");
}
