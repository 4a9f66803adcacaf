//! What COPY and its kind do to directories, without any mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use koskit_llb::Patterns;
use proptest::prelude::*;

use super::earlier::Copied;
use super::*;
use crate::hashes::Hashes;

/// A directory to copy from and one to copy to, in a third.
struct Dirs(tempfile::TempDir);

impl Dirs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        Self(dir)
    }

    fn from(&self, path: &str) -> PathBuf {
        self.0.path().join("from").join(path)
    }

    fn to(&self, path: &str) -> PathBuf {
        self.0.path().join("to").join(path)
    }

    /// Makes files, each of which holds its own name, and the directories they are in.
    fn write(&self, paths: &[&str]) {
        for path in paths {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
        }
    }

    fn view(&self) -> View {
        View::image(Root::open(&self.from("")).unwrap(), Ownership::Ignored)
    }

    fn changes<T>(&self, change: impl FnOnce(Changes<'_>) -> T) -> T {
        let root = Root::open(&self.to("")).unwrap();
        change(Changes {
            root: &root,
            ownership: Ownership::Ignored,
            epoch: 0,
            warn: &|_| {},
            links: None,
        })
    }

    fn copy_with(&self, source: &str, target: Target, filter: &Filter) -> Result<()> {
        let find = Find { contents: target.contents, ..FIND };
        let view = self.view();
        let selection = view.select(source, find, filter)?;
        self.changes(|changes| changes.copy(&selection, &view, &target))
    }

    fn copy(&self, source: &str, target: &str) -> Result<()> {
        self.copy_with(source, to(target), &Filter::default())
    }

    /// All paths that were made, sorted, with a slash after directories.
    fn made(&self) -> Vec<String> {
        fn add(path: &Path, name: String, all: &mut Vec<String>) {
            if !path.symlink_metadata().unwrap().is_dir() {
                return all.push(name);
            }
            if !name.is_empty() {
                all.push(format!("{name}/"));
            }
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let inner = entry.file_name().into_string().unwrap();
                let separator = if name.is_empty() { "" } else { "/" };
                add(&entry.path(), format!("{name}{separator}{inner}"), all);
            }
        }
        let mut all = Vec::new();
        add(&self.to(""), String::new(), &mut all);
        all.sort();
        all
    }
}

const FIND: Find = Find { follow: true, wildcard: true, allow_none: true, contents: true };

fn to(path: &str) -> Target {
    Target {
        path: path.into(),
        owner: None,
        mode: ModeChange::Keep,
        parents: true,
        contents: true,
        time: None,
        unpack: false,
        replace: false,
    }
}

#[test]
fn the_end_of_the_destination_and_what_is_there_decide_on_the_name() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("f", "/new", &["new"]),
        ("f", "/new/", &["new/", "new/f"]),
        ("f", "/new/.", &["new/", "new/f"]),
        ("f", "/a/b/c", &["a/", "a/b/", "a/b/c"]),
        ("f", "/", &["f"]),
        ("d", "/", &["in", "sub/", "sub/deep"]),
        ("d", "/new", &["new/", "new/in", "new/sub/", "new/sub/deep"]),
        ("d/sub", "/x/", &["x/", "x/deep"]),
        ("d/s*b", "/", &["deep"]),
        ("*/in", "/y/", &["y/", "y/in"]),
        ("*.none", "/y/", &[]),
    ];
    for &(source, target, expected) in cases {
        let dirs = Dirs::new();
        dirs.write(&["from/f", "from/d/in", "from/d/sub/deep"]);
        dirs.copy(source, target).unwrap();
        assert_eq!(dirs.made(), expected, "COPY {source} {target}");
    }
}

#[test]
fn without_contents_a_directory_keeps_its_name() {
    let dirs = Dirs::new();
    dirs.write(&["from/d/in"]);
    fs::create_dir(dirs.to("there")).unwrap();
    let target = |path| Target { contents: false, ..to(path) };
    dirs.copy_with("d", target("/there"), &Filter::default()).unwrap();
    dirs.copy_with("d", target("/new"), &Filter::default()).unwrap();
    assert_eq!(dirs.made(), ["new/", "new/in", "there/", "there/d/", "there/d/in"]);
}

#[test]
fn files_replace_files_and_links_but_not_directories() {
    let dirs = Dirs::new();
    dirs.write(&["from/new/x", "from/dir/x/y", "to/x", "to/outside", "to/sub/x/y"]);
    fs::remove_file(dirs.to("x")).unwrap();
    symlink("outside", dirs.to("x")).unwrap();
    dirs.copy("new", "/").unwrap();
    assert!(dirs.to("x").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(dirs.to("outside")).unwrap(), b"outside");
    let error = dirs.copy("new", "/sub").unwrap_err().to_string();
    assert_eq!(error, r#""sub/x" is a directory, which a file cannot replace"#);
    let error = dirs.copy("dir", "/").unwrap_err().to_string();
    assert_eq!(error, r#""x" is not a directory, which a directory cannot replace"#);
    let error = dirs.copy("new/x", "/outside/z").unwrap_err().to_string();
    assert_eq!(error, r#""outside" is not a directory"#);
}

#[test]
fn hard_links_permissions_and_times_are_kept() {
    let dirs = Dirs::new();
    dirs.write(&["from/d/a"]);
    fs::hard_link(dirs.from("d/a"), dirs.from("d/b")).unwrap();
    fs::set_permissions(dirs.from("d/a"), fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let file = fs::File::options().write(true).open(dirs.from("d/a")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time)).unwrap();
    dirs.copy("d", "/").unwrap();
    let (a, b) = (dirs.to("a").metadata().unwrap(), dirs.to("b").metadata().unwrap());
    assert_eq!(a.ino(), b.ino());
    assert_eq!((a.mode() & 0o7777, a.mtime()), (0o4751, 1_000_000));
}

#[test]
fn included_and_excluded_files_bring_no_empty_directories() {
    let dirs = Dirs::new();
    dirs.write(&["from/a.c", "from/a.o", "from/x/b.c", "from/x/y/c.o", "from/z/d.c"]);
    let filter = Filter {
        include: Patterns::new(&["**/*.c"]).unwrap(),
        exclude: Patterns::new(&["z", "!z/none"]).unwrap(),
    };
    dirs.copy_with("/", to("/"), &filter).unwrap();
    assert_eq!(dirs.made(), ["a.c", "x/", "x/b.c"]);
}

#[test]
fn directories_may_be_deep() {
    let dirs = Dirs::new();
    let depth = 500;
    let deep = "d/".repeat(depth);
    fs::create_dir_all(dirs.from(&deep)).unwrap();
    fs::write(dirs.from(&deep).join("f"), "").unwrap();
    dirs.copy("/", "/").unwrap();
    assert!(dirs.to(&deep).join("f").exists());
    dirs.changes(|changes| changes.remove("/d", false, false)).unwrap();
    assert!(dirs.made().is_empty());
}

#[test]
fn a_copy_without_parents_needs_them() {
    let dirs = Dirs::new();
    dirs.write(&["from/f"]);
    let target = |path| Target { parents: false, ..to(path) };
    assert!(dirs.copy_with("f", target("/a/b"), &Filter::default()).is_err());
    dirs.copy_with("f", target("/b"), &Filter::default()).unwrap();
    assert_eq!(dirs.made(), ["b"]);
}

#[test]
fn files_directories_and_links_are_made_and_removed() {
    let dirs = Dirs::new();
    let owner = (0, 0);
    dirs.changes(|changes| {
        changes.mkdir("/a/b", 0o700, true, owner, None).unwrap();
        changes.mkdir("/a/b", 0o755, false, owner, None).unwrap();
        assert!(changes.mkdir("/no/parent", 0o755, false, owner, None).is_err());
        changes.mkfile("/a/f", 0o640, b"one", owner, Some(5_000_000_000)).unwrap();
        changes.symlink("f", "/a/l", owner, None).unwrap();
        // Through the link, to what it leads to.
        changes.mkfile("/a/l", 0o600, b"two", owner, Some(5_000_000_000)).unwrap();
        assert!(changes.mkfile("/none/f", 0o600, b"", owner, None).is_err());
    });
    assert_eq!(dirs.made(), ["a/", "a/b/", "a/f", "a/l"]);
    assert_eq!(fs::read(dirs.to("a/f")).unwrap(), b"two");
    let file = dirs.to("a/f").metadata().unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o600, 5));
    assert_eq!(dirs.to("a/b").metadata().unwrap().mode() & 0o7777, 0o700);

    dirs.write(&["to/a/b/deep/x", "to/keep"]);
    symlink(dirs.to("keep"), dirs.to("a/b/deep/out")).unwrap();
    dirs.changes(|changes| {
        changes.remove("/a/b*", false, true).unwrap();
        changes.remove("/a/l", false, false).unwrap();
        changes.remove("/a/l", true, false).unwrap();
        let error = changes.remove("/a/l", false, false).unwrap_err().to_string();
        assert!(error.starts_with(r#""a/l" is not in"#), "{error}");
        assert!(changes.remove("/", false, false).is_err());
    });
    assert_eq!(dirs.made(), ["a/", "a/f", "keep"]);
}

#[test]
fn a_digest_is_of_all_that_is_copied_and_of_nothing_else() {
    let dirs = Dirs::new();
    dirs.write(&["from/d/a", "from/d/b", "from/other"]);
    let digest = || {
        let view = dirs.view();
        view.select("d", FIND, &Filter::default()).unwrap().digest(&view).unwrap()
    };
    let mut seen = vec![digest()];
    let mut differs = |what: &str| {
        let now = digest();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fs::write(dirs.from("d/a"), "b").unwrap();
    differs("content");
    fs::set_permissions(dirs.from("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
    differs("permissions");
    fs::rename(dirs.from("d/b"), dirs.from("d/c")).unwrap();
    differs("name");
    fs::remove_file(dirs.from("d/c")).unwrap();
    differs("removed");
    symlink("a", dirs.from("d/l")).unwrap();
    differs("link");
    fs::hard_link(dirs.from("d/a"), dirs.from("d/h")).unwrap();
    differs("second name");
    fs::remove_file(dirs.from("d/h")).unwrap();
    fs::copy(dirs.from("d/a"), dirs.from("d/h")).unwrap();
    differs("copy in place of the second name");
    fs::create_dir(dirs.from("d/empty")).unwrap();
    differs("empty directory");
    fs::write(dirs.from("other"), "changed").unwrap();
    fs::set_permissions(dirs.from("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(digest(), *seen.last().unwrap());
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_noticed() {
    let dirs = Dirs::new();
    dirs.write(&["from/f"]);
    let hashes = Arc::new(Hashes::load(dirs.0.path().join("hashes")));
    let view = View::context(Root::open(&dirs.from("")).unwrap(), Patterns::default(), hashes);
    let mut selection = view.select("f", FIND, &Filter::default()).unwrap();
    selection.digest(&view).unwrap();
    fs::write(dirs.from("f"), "g").unwrap();
    let copied = dirs.changes(|changes| changes.copy(&selection, &view, &to("/")));
    assert!(matches!(copied, Err(FileError::Changed(_))));
}

#[test]
fn many_files_are_copied_side_by_side_and_one_that_changes_is_noticed() {
    let dirs = Dirs::new();
    let names: Vec<String> = (0..200).map(|n| format!("from/d{}/f{n}", n % 7)).collect();
    dirs.write(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let hashes = Arc::new(Hashes::load(dirs.0.path().join("hashes")));
    let view = View::context(Root::open(&dirs.from("")).unwrap(), Patterns::default(), hashes);
    let mut selection = view.select("/", FIND, &Filter::default()).unwrap();
    selection.digest(&view).unwrap();
    let copy = |path: &str| dirs.changes(|changes| changes.copy(&selection, &view, &to(path)));
    copy("/whole").unwrap();
    for name in &names {
        let name = name.strip_prefix("from/").unwrap();
        let copied = dirs.0.path().join("to/whole").join(name);
        assert_eq!(fs::read(&copied).unwrap(), fs::read(dirs.from(name)).unwrap(), "{name}");
    }
    fs::write(dirs.from("d3/f101"), "another").unwrap();
    let copied = copy("/not");
    let Err(FileError::Changed(at)) = copied else { panic!("{copied:?}") };
    assert!(at.ends_with("d3/f101"), "{at:?}");
}

/// Copies a context to a directory of its own as a step does that has done it before, or has not.
fn copy_again(dirs: &Dirs, to: &str, earlier: Option<(&str, &Copied)>) -> Copied {
    let to = dirs.0.path().join(to);
    fs::create_dir_all(to.join("dst")).unwrap();
    let earlier = earlier.map(|(name, copied)| (dirs.0.path().join(name), copied.clone()));
    let links = Links::new(earlier);
    let hashes = Arc::new(Hashes::load(dirs.0.path().join("hashes")));
    let view = View::context(Root::open(&dirs.from("")).unwrap(), Patterns::default(), hashes);
    let mut selection = view.select("*", FIND, &Filter::default()).unwrap();
    selection.digest(&view).unwrap();
    let root = Root::open(&to).unwrap();
    let (ownership, links_of) = (Ownership::Ignored, Some(&links));
    let changes = Changes { root: &root, ownership, epoch: 7, warn: &|_| {}, links: links_of };
    changes.copy(&selection, &view, &self::to("/dst/")).unwrap();
    links.make(&to).unwrap()
}

#[test]
fn a_copy_that_is_done_again_links_what_has_not_changed() {
    let dirs = Dirs::new();
    dirs.write(&["from/a/same", "from/a/other", "from/a/mode", "from/b/same", "from/b/in/x"]);
    // Where two sources have a file of one name, the later one wins.
    dirs.write(&["from/a/two", "from/b/two"]);
    fs::write(dirs.from("b/two"), "the later one").unwrap();
    fs::hard_link(dirs.from("a/same"), dirs.from("a/named")).unwrap();
    let copied = copy_again(&dirs, "one", None);
    fs::write(dirs.from("a/other"), "changed").unwrap();
    fs::set_permissions(dirs.from("a/mode"), fs::Permissions::from_mode(0o600)).unwrap();
    // What was there in the first copy is there again, and in the way.
    dirs.write(&["two/dst/other", "two/dst/in/x"]);
    let again = copy_again(&dirs, "two", Some(("one", &copied)));

    let at = |tree: &str, name: &str| dirs.0.path().join(tree).join("dst").join(name);
    let stat = |tree, name| at(tree, name).symlink_metadata().unwrap();
    let linked = |name| stat("one", name).ino() == stat("two", name).ino();
    for (name, expected) in [
        ("same", true),
        ("two", true),
        ("in/x", true),
        ("other", false),
        ("mode", false),
        // It has another name in the context, and is written with that one.
        ("named", false),
    ] {
        assert_eq!(linked(name), expected, "{name}");
    }
    let read = |tree, name| fs::read_to_string(at(tree, name)).unwrap();
    assert_eq!(read("two", "two"), "the later one");
    assert_eq!(read("two", "other"), "changed");
    assert_eq!(read("one", "other"), "other");
    assert_eq!((stat("two", "mode").mode() & 0o7777, stat("two", "in").mtime()), (0o600, 7));
    // The list is that of a copy that had none to begin with.
    assert_eq!(again, copy_again(&dirs, "three", None));
    // An earlier copy that is gone, or is not what its list says, is as good as none.
    fs::remove_dir_all(dirs.0.path().join("one")).unwrap();
    assert_eq!(again, copy_again(&dirs, "four", Some(("one", &copied))));
}

#[test]
fn a_directory_does_not_take_the_place_of_a_file_that_is_to_be_linked() {
    let dirs = Dirs::new();
    dirs.write(&["from/a/x"]);
    let copied = copy_again(&dirs, "one", None);
    dirs.write(&["from/b/x/y"]);
    let failed = std::panic::catch_unwind(|| copy_again(&dirs, "two", Some(("one", &copied))));
    let why = failed.unwrap_err();
    let why = why.downcast_ref::<String>().unwrap();
    assert!(why.contains("OverFile"), "{why}");
}

proptest! {
    /// Links to anywhere in the root that is copied to: whatever the destination, what lies
    /// beside the root stays as it was.
    #[test]
    fn no_copy_writes_outside(
        links in prop::collection::vec(
            ("[abc](/[abc])?", "(/|)([abc]|\\.\\.)(/([abc]|\\.\\.)){0,4}"), 0..5),
        targets in prop::collection::vec("/([abc]|\\.\\.)(/([abc]|\\.\\.)){0,3}/?", 1..4),
    ) {
        let dirs = Dirs::new();
        dirs.write(&["from/d/a/b", "from/d/c", "outside/a/b", "a", "b/c", "c"]);
        let base = dirs.to("").canonicalize().unwrap();
        for (name, target) in links {
            let at = dirs.to(&name);
            let parent = at.parent().unwrap();
            let _ = fs::create_dir(parent);
            // Not through an earlier link.
            let straight = base.join(Path::new(&name).parent().unwrap());
            if parent.canonicalize().is_ok_and(|real| real == straight) {
                let _ = symlink(target, at);
            }
        }
        for target in targets {
            let _ = dirs.copy("d", &target);
            let _ = dirs.copy("d/c", &target);
            dirs.changes(|changes| {
                let _ = changes.mkfile(&target, 0o644, b"written", (0, 0), None);
                let _ = changes.mkdir(&target, 0o755, true, (0, 0), None);
                let _ = changes.remove(&target, true, true);
            });
        }
        let mut names: Vec<_> =
            fs::read_dir(dirs.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        prop_assert_eq!(names, ["a", "b", "c", "from", "outside", "to"]);
        for (path, content) in [("a", "a"), ("b/c", "c"), ("c", "c"), ("outside/a/b", "b")] {
            prop_assert_eq!(fs::read_to_string(dirs.0.path().join(path)).unwrap(), content);
        }
        prop_assert_eq!(fs::read_dir(dirs.0.path().join("b")).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(dirs.0.path().join("outside/a")).unwrap().count(), 1);
    }
}
