use super::*;
use crate::initrd::tests::{FILE, LINK, Listed, archive, tree as files};
use std::string::String;

fn walk(tree: &Tree<'_>, path: &str, follow: bool) -> core::result::Result<String, Errno> {
    let node = tree.find(&tree.root(), path.as_bytes(), follow, &Table::default())?;
    Ok(String::from_utf8(tree.path(&node).0).unwrap())
}

#[test]
fn paths_lead_to_files_through_links() {
    let archive = files();
    let tree = Tree::new(Initrd::new(&archive).unwrap());
    for (path, canonical) in [
        ("/", "/"),
        ("/..", "/"),
        ("/file", "/file"),
        ("a//b/./deep", "/a/b/deep"),
        ("/a/b/../up", "/file"),
        ("/abs/deep", "/a/b/deep"),
        ("abs/", "/a/b"),
        ("escape", "/file"),
        ("a-b", "/a-b"),
    ] {
        assert_eq!(walk(&tree, path, true), Ok(canonical.into()), "{path}");
    }
    assert_eq!(walk(&tree, "/a/up", false), Ok("/a/up".into()));
    assert_eq!(walk(&tree, "/abs/", false), Ok("/a/b".into()));
    let base = tree.find(&tree.root(), b"a/b", true, &Table::default()).unwrap();
    let up = tree.find(&base, b"../up", true, &Table::default()).unwrap();
    assert_eq!(tree.path(&up), (b"/file".to_vec(), true));
}

#[test]
fn paths_that_lead_nowhere_fail_as_on_linux() {
    let archive = files();
    let tree = Tree::new(Initrd::new(&archive).unwrap());
    let long = "x".repeat(256);
    for (path, errno) in [
        ("", Errno::NOENT),
        ("/nothing", Errno::NOENT),
        ("/nothing/at/all", Errno::NOENT),
        ("/dangling", Errno::NOENT),
        ("/file/", Errno::NOTDIR),
        ("/file/.", Errno::NOTDIR),
        ("/file/..", Errno::NOTDIR),
        ("/file/x", Errno::NOTDIR),
        ("/loop1", Errno::LOOP),
        ("/loop1/x", Errno::LOOP),
        (&long, Errno::NAMETOOLONG),
    ] {
        assert_eq!(walk(&tree, path, true), Err(errno), "{path}");
    }
    assert_eq!(walk(&tree, "/loop1", false), Ok("/loop1".into()));
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let names: Vec<_> =
        (0..42).map(|n| (std::format!("l{n:02}"), std::format!("l{:02}", n + 1))).collect();
    let mut files: Vec<Listed<'_>> =
        names.iter().map(|(name, target)| (name.as_str(), LINK, target.as_str())).collect();
    files.push(("l42", FILE, "end"));
    let archive = archive(&files);
    let tree = Tree::new(Initrd::new(&archive).unwrap());
    assert_eq!(walk(&tree, "/l02", true), Ok("/l42".into()));
    assert_eq!(walk(&tree, "/l01", true), Err(Errno::LOOP));
}
