use super::*;
use koskit_cpio::Entry;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn read(archive: &[u8]) -> BTreeMap<&str, Entry<'_>> {
    let entries = koskit_cpio::entries(archive).map(|entry| entry.unwrap().1);
    entries.map(|entry| (std::str::from_utf8(entry.name).unwrap(), entry)).collect()
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    let shared: Arc<[u8]> = b"shared bytes"[..].into();
    tree.insert("a", Node::file(0o4755, shared.clone()));
    tree.insert("dir", Node::directory(0o1777));
    tree.insert("dir/b", Node::file(0o4755, shared));
    tree.insert("dir/link", Node::symlink("../a"));
    tree.insert("empty", Node::file(0o600, &b""[..]));
    tree.insert("pipe", Node { kind: NodeKind::Fifo, ..Node::directory(0o644) });
    tree.insert("time", Node { mtime: -5, uid: 7, gid: 8, ..Node::file(0o640, &b"x"[..]) });
    tree
}

#[test]
fn every_kind_of_file_is_written() {
    let archive = write(&tree()).unwrap();
    let entries = read(&archive);
    let modes: Vec<_> = entries.iter().map(|(name, e)| (*name, e.meta.mode)).collect();
    assert_eq!(
        modes,
        [
            (".", 0o040_755),
            ("a", 0o104_755),
            ("dir", 0o041_777),
            ("dir/b", 0o104_755),
            ("dir/link", 0o120_777),
            ("empty", 0o100_600),
            ("pipe", 0o010_644),
            ("time", 0o100_640),
        ]
    );
    assert_eq!(entries["dir/link"].data, b"../a");
}

#[test]
fn hard_links_share_an_inode_and_the_last_has_the_bytes() {
    let archive = write(&tree()).unwrap();
    let entries = read(&archive);
    let (a, b) = (&entries["a"], &entries["dir/b"]);
    assert_eq!((a.meta.ino, a.meta.nlink, b.meta.nlink), (b.meta.ino, 2, 2));
    assert_eq!((a.data, b.data), (&b""[..], &b"shared bytes"[..]));
    assert_eq!(entries["empty"].meta.nlink, 1);
}

#[test]
fn a_file_named_as_the_archives_end_is_refused() {
    let mut tree = tree();
    tree.insert("dir/TRAILER!!!", Node::file(0o644, &b""[..]));
    write(&tree).unwrap();
    tree.insert("TRAILER!!!", Node::file(0o644, &b""[..]));
    assert!(matches!(write(&tree), Err(LowerError::Trailer(_))));
}

#[test]
fn more_files_than_fit_are_refused_before_they_are_copied() {
    let size = write(&tree()).unwrap().len() as u64;
    write_at_most(&tree(), size).unwrap();
    let error = write_at_most(&tree(), size - 1).unwrap_err();
    assert!(matches!(error, LowerError::InitrdSize { max, .. } if max == size - 1));
}

#[test]
fn gnu_cpio_unpacks_it() {
    unpacks("cpio", &["-idm", "--quiet"]);
}

#[test]
fn bsdtar_unpacks_it() {
    unpacks("bsdtar", &["-xpf", "-"]);
}

fn unpacks(tool: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let mut command = Command::new(tool);
    let child = command.args(arguments).current_dir(at).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("skipped: {tool} is not installed");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &write(&tree()).unwrap()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read(at.join("a")).unwrap(), b"shared bytes");
    let inode = |name| std::fs::metadata(at.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("dir/b"));
    assert_eq!(std::fs::read_link(at.join("dir/link")).unwrap(), Path::new("../a"));
    assert!(std::fs::metadata(at.join("pipe")).unwrap().file_type().is_fifo());
    let mode = std::fs::metadata(at.join("dir")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
}

proptest! {
    #[test]
    fn whatever_goes_in_comes_out(
        files in prop::collection::btree_map("[a-z]{1,9}(/[a-z]{1,9}){0,2}", prop::collection::vec(any::<u8>(), 0..40), 0..9)
    ) {
        let mut tree = Tree::new();
        for (path, bytes) in &files {
            tree.insert(path, Node::file(0o644, bytes.clone()));
        }
        let archive = write(&tree).unwrap();
        let entries = read(&archive);
        prop_assert_eq!(entries.len(), tree.iter().count());
        for (path, node) in tree.iter().skip(1) {
            let NodeKind::File(bytes) = &node.kind else { continue };
            prop_assert_eq!(entries[path.to_str().unwrap()].data, &bytes[..]);
        }
    }
}
