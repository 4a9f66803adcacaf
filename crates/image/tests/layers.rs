//! Layers of honest tools, and layers that are packed and unpacked again.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink as link};
use std::path::Path;
use std::process::Command;

use common::{archive, directory, file, hard_link, listing, raw, store, symlink, tree};
use koskit_image::layer::{Ownership, PackOptions, UnpackOptions, pack, unpack};
use koskit_image::{Limits, NodeKind, Tree};
use proptest::prelude::*;

fn packed(from: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    pack(from, &mut archive, &PackOptions { latest: Some(1_000_000), ..PackOptions::default() })
        .unwrap();
    archive
}

fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let options = UnpackOptions { ownership: Ownership::Ignored, ..UnpackOptions::default() };
    unpack(archive, to.path(), &options).unwrap();
    to
}

/// A directory with one of each.
fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir_all(at.join("d/empty")).unwrap();
    fs::write(at.join("d/file"), "content").unwrap();
    fs::set_permissions(at.join("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(at.join("d/file"), at.join("other")).unwrap();
    link("d/file", at.join("link")).unwrap();
    link("nowhere", at.join("broken")).unwrap();
    let long = "n".repeat(200);
    fs::create_dir_all(at.join(&long)).unwrap();
    fs::write(at.join(&long).join(&long), "long").unwrap();
    directory
}

#[test]
fn the_same_files_give_the_same_bytes_whenever_and_wherever_they_are() {
    let first = packed(files().path());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let elsewhere = files();
    assert_eq!(packed(elsewhere.path()), first);
    assert_eq!(packed(unpacked(&first).path()), first);
}

#[test]
fn what_is_packed_is_unpacked_again() {
    let (from, to) = (files(), unpacked(&packed(files().path())));
    assert_eq!(listing(to.path()), listing(from.path()));
    let metadata = |name| fs::metadata(to.path().join(name)).unwrap();
    assert_eq!(metadata("d/file").ino(), metadata("other").ino());
    assert_eq!(metadata("d/file").mode() & 0o7777, 0o4711);
    assert_eq!(metadata("d/file").mtime(), 1_000_000);
}

#[test]
fn gnu_tar_reads_what_is_packed_and_is_read() {
    let from = files();
    let at = tempfile::tempdir().unwrap();
    fs::write(at.path().join("layer.tar"), packed(from.path())).unwrap();
    let to = at.path().join("to");
    fs::create_dir(&to).unwrap();
    let tar = |arguments: &[&str], at: &Path| {
        Command::new("tar").args(arguments).current_dir(at).output()
    };
    let Ok(output) = tar(&["-xf", "../layer.tar"], &to) else {
        println!("skipped: tar is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(listing(&to), listing(from.path()));

    // A file with a hole, which GNU's own form keeps sparse.
    let sparse = fs::File::create(from.path().join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (1 << 20) - 3).unwrap();
    for format in ["gnu", "pax", "ustar"] {
        // ustar has no room for the long name.
        let exclude = if format == "ustar" { "--exclude=nnn*" } else { "--exclude=none" };
        let sparse = if format == "gnu" { "--sparse" } else { "--no-xattrs" };
        let format = format!("--format={format}");
        let arguments = ["-cf", "-", sparse, exclude, &format, "."];
        let output = tar(&arguments, from.path()).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut expected = listing(from.path());
        expected.retain(|(path, _)| exclude.ends_with("none") || !path.starts_with(b"nnn"));
        assert_eq!(listing(unpacked(&output.stdout).path()), expected, "{format}");
    }
}

#[test]
fn a_layer_removes_replaces_and_hides_what_is_below() {
    let below = [
        directory("d"),
        file("d/gone", "1"),
        file("d/stays", "1"),
        directory("o"),
        file("o/hidden", "1"),
        directory("becomes-file"),
        file("becomes-file/x", "1"),
        file("becomes-directory", "1"),
    ];
    let above = [
        file("d/.wh.gone", ""),
        // The marker may come after what it does not hide.
        file("o/new", "2"),
        file("o/.wh..wh..opq", ""),
        file("becomes-file", "2"),
        file("becomes-directory/x", "2"),
        file(".wh.never-was", ""),
    ];
    let (_directory, store) = store();
    let image = common::image(&store, &[archive(&below), archive(&above)]);
    let tree = Tree::read(&store, &image, &Limits::default()).unwrap();
    let paths: Vec<&str> = tree.iter().skip(1).map(|(path, _)| path.to_str().unwrap()).collect();
    let expected =
        ["becomes-directory", "becomes-directory/x", "becomes-file", "d", "d/stays", "o", "o/new"];
    assert_eq!(paths, expected);
}

#[test]
fn whiteouts_become_those_of_overlayfs_and_come_back() {
    let whiteouts = archive(&[
        directory("d"),
        file("d/.wh..wh..opq", ""),
        file("d/x", ""),
        file(".wh.gone", ""),
    ]);
    let to = unpacked(&whiteouts);
    let gone = fs::symlink_metadata(to.path().join("gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let again = packed(to.path());
    let names: Vec<String> = tar::Archive::new(&again[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["./", "d/", "d/.wh..wh..opq", "d/x", ".wh.gone"]);
}

#[test]
fn hard_links_share_their_bytes_in_a_tree() {
    let archive = archive(&[file("a", "x"), hard_link("b", "a"), raw(b'6', "pipe")]);
    let tree = tree(&archive, &Limits::default()).unwrap();
    let bytes = |path: &str| match &tree.get(path).unwrap().kind {
        NodeKind::File(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    assert!(std::sync::Arc::ptr_eq(&bytes("a"), &bytes("b")));
    assert_eq!(tree.get("pipe").unwrap().kind, NodeKind::Fifo);
}

#[test]
fn links_in_a_tree_lead_to_where_they_lead_in_a_container() {
    let archive = archive(&[
        directory("usr/bin"),
        file("usr/bin/sh", "x"),
        symlink("bin", "usr/bin"),
        symlink("abs", "/bin/sh"),
        symlink("loop", "loop"),
        symlink("up", "usr/../bin/../bin/sh"),
    ]);
    let tree = tree(&archive, &Limits::default()).unwrap();
    for path in ["/bin/sh", "abs", "up", "../../bin/sh", "usr/./bin//sh"] {
        assert_eq!(tree.resolve(path).unwrap().0, Path::new("usr/bin/sh"), "{path}");
    }
    for path in ["loop", "abs/x", "bin/none"] {
        assert!(tree.resolve(path).is_err(), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn any_files_survive_packing(
        names in prop::collection::btree_map("[a-c]{1,3}(/[d-f]{1,3}){0,2}", prop::collection::vec(any::<u8>(), 0..2000), 0..12),
    ) {
        let from = tempfile::tempdir().unwrap();
        for (name, bytes) in &names {
            let path = from.path().join(name);
            // One name may be a directory of another one; then it is not both.
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = fs::write(path, bytes);
        }
        let archive = packed(from.path());
        let to = unpacked(&archive);
        prop_assert_eq!(listing(to.path()), listing(from.path()));
        let read = tree(&archive, &Limits::default()).unwrap();
        prop_assert_eq!(read.iter().count(), listing(from.path()).len() + 1);
    }
}
