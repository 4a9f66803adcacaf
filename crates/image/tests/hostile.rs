//! Layers that somebody made to do harm, or that were damaged on their way.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::*;
use koskit_image::layer::{Ownership, Refusal, UnpackOptions, unpack};
use koskit_image::{LayerError, Limits, NodeKind, Tree};
use proptest::prelude::*;

/// A directory to unpack into, with files beside it that must not change.
struct Place {
    outside: tempfile::TempDir,
    before: Vec<(Vec<u8>, String)>,
}

impl Place {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::create_dir(outside.path().join("a")).unwrap();
        fs::create_dir(outside.path().join("layer")).unwrap();
        let mut place = Self { outside, before: vec![] };
        place.before = place.around();
        place
    }

    fn layer(&self) -> PathBuf {
        self.outside.path().join("layer")
    }

    /// What is there beside the layer.
    fn around(&self) -> Vec<(Vec<u8>, String)> {
        let mut all = listing(self.outside.path());
        all.retain(|(path, _)| !path.starts_with(b"layer/"));
        all
    }

    fn unpack(&self, archive: &[u8], limits: &Limits) -> Result<(), LayerError> {
        let options = UnpackOptions {
            ownership: Ownership::Ignored,
            limits: limits.clone(),
            ..UnpackOptions::default()
        };
        let result = unpack(archive, &self.layer(), &options);
        assert_eq!(self.around(), self.before, "something outside of the layer has changed");
        result
    }
}

/// The refusal, which is the same whether the layer becomes a directory or a tree in memory.
fn refusal(entries: &[Raw]) -> Refusal {
    let archive = archive(entries);
    let unpacked = match Place::new().unpack(&archive, &Limits::default()) {
        Err(LayerError::Refused { refusal, .. }) => refusal,
        other => panic!("unpack gave {other:?}"),
    };
    match tree(&archive, &Limits::default()) {
        Err(koskit_image::Error::Layer { source: LayerError::Refused { refusal, .. }, .. }) => {
            assert_eq!(refusal, unpacked);
        }
        other => panic!("Tree::read gave {other:?}"),
    }
    unpacked
}

#[test]
fn paths_that_are_absolute_or_climb_are_refused() {
    assert_eq!(refusal(&[file("/etc/passwd", "x")]), Refusal::Absolute);
    assert_eq!(refusal(&[file("../secret", "x")]), Refusal::Parent);
    assert_eq!(refusal(&[directory("a"), file("a/../../secret", "x")]), Refusal::Parent);
    assert_eq!(refusal(&[file("a/..", "x")]), Refusal::Parent);
    assert_eq!(refusal(&[file("", "x")]), Refusal::Empty);
    assert_eq!(refusal(&[file(".", "x")]), Refusal::Root);
}

#[test]
fn a_pax_record_cannot_smuggle_a_path() {
    let with = |key, value: &[u8], entry: Raw| Raw { pax: vec![(key, value.into())], ..entry };
    assert_eq!(refusal(&[with("path", b"../secret", file("a", "x"))]), Refusal::Parent);
    assert_eq!(refusal(&[with("path", b"/secret", file("a", "x"))]), Refusal::Absolute);
    assert_eq!(refusal(&[with("path", b"a\0b", file("a", "x"))]), Refusal::Nul);
    let long = [b"a/".repeat(3000), b"b".to_vec()].concat();
    assert_eq!(refusal(&[with("path", &long, file("a", "x"))]), Refusal::Long);
    let wide = b"a".repeat(256);
    assert_eq!(refusal(&[with("path", &wide, file("a", "x"))]), Refusal::Long);
    let linked = with("linkpath", b"../secret", hard_link("b", "a"));
    let leaves = Refusal::LinkLeaves("../secret".into());
    assert_eq!(refusal(&[file("a", "x"), linked]), leaves);
    assert_eq!(refusal(&[with("GNU.sparse.major", b"1", file("a", "x"))]), Refusal::Sparse);
}

#[test]
fn gnu_long_names_cannot_smuggle_a_path() {
    let name = Raw { content: b"../secret\0".to_vec(), ..raw(b'L', "././@LongLink") };
    assert_eq!(refusal(&[name, file("a", "x")]), Refusal::Parent);
}

#[test]
fn symbolic_links_that_leave_the_root_are_refused() {
    let leaves = |target: &str| Refusal::LinkLeaves(target.into());
    assert_eq!(refusal(&[symlink("a", "../secret")]), leaves("../secret"));
    assert_eq!(refusal(&[symlink("d/a", "b/../../../secret")]), leaves("b/../../../secret"));
    assert_eq!(refusal(&[symlink("a", "/../secret")]), leaves("/../secret"));
    assert_eq!(refusal(&[symlink("a", "")]), Refusal::LinkTarget);
}

#[test]
fn nothing_is_written_through_a_link() {
    let behind = Refusal::Behind("l".into());
    for target in ["/tmp", "a", "."] {
        assert_eq!(refusal(&[symlink("l", target), file("l/x", "x")]), behind);
        assert_eq!(refusal(&[symlink("l", target), directory("l/x")]), behind);
        let linked = [file("f", "x"), symlink("l", target), hard_link("l/x", "f")];
        assert_eq!(refusal(&linked), behind);
    }
    // A directory that a link replaces later.
    let swapped = [directory("l"), file("l/x", "1"), symlink("l", "/tmp"), file("l/x", "2")];
    assert_eq!(refusal(&swapped), behind);
    assert_eq!(refusal(&[file("l", "x"), file("l/x", "x")]), behind);
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let place = Place::new();
    let target = place.outside.path().join("secret");
    let target = target.to_str().unwrap();
    let archive = archive(&[symlink("a", target), file("a", "x")]);
    place.unpack(&archive, &Limits::default()).unwrap();
    assert_eq!(listing(&place.layer()), [(b"a".to_vec(), "file [120]".to_owned())]);
}

#[test]
fn hard_links_reach_only_files_of_the_same_layer() {
    let missing = |target: &str| Refusal::LinkMissing(target.into());
    let leaves = |target: &str| Refusal::LinkLeaves(target.into());
    assert_eq!(refusal(&[hard_link("a", "../secret")]), leaves("../secret"));
    assert_eq!(refusal(&[hard_link("a", "/etc/passwd")]), leaves("/etc/passwd"));
    assert_eq!(refusal(&[hard_link("a", "b")]), missing("b"));
    assert_eq!(refusal(&[hard_link("a", "a")]), missing("a"));
    assert_eq!(refusal(&[directory("d"), hard_link("a", "d")]), missing("d"));
    // It takes the place of the directory that its target is in.
    assert_eq!(refusal(&[file("d/a", "x"), hard_link("d", "d/a")]), missing("d/a"));
    // A link to a link to a file outside.
    assert_eq!(refusal(&[symlink("l", "/etc/passwd"), hard_link("a", "l")]), missing("l"));
    assert_eq!(refusal(&[symlink("l", "/etc"), hard_link("a", "l/passwd")]), missing("l/passwd"));
    assert_eq!(refusal(&[hard_link("a", "")]), Refusal::LinkTarget);
}

#[test]
fn device_nodes_and_unknown_entries_are_refused() {
    assert_eq!(refusal(&[raw(b'3', "null")]), Refusal::Device);
    assert_eq!(refusal(&[raw(b'4', "sda")]), Refusal::Device);
    assert_eq!(refusal(&[raw(b'V', "volume")]), Refusal::UnknownType(b'V'));
}

#[test]
fn whiteouts_that_mean_more_than_a_file_are_refused() {
    assert_eq!(refusal(&[file(".wh.", "")]), Refusal::Whiteout);
    assert_eq!(refusal(&[file(".wh..", "")]), Refusal::Whiteout);
    assert_eq!(refusal(&[file("a/.wh...", "")]), Refusal::Whiteout);
    assert_eq!(refusal(&[file(".wh.d/x", "")]), Refusal::Whiteout);
    assert_eq!(refusal(&[file(".wh..wh..opq", "")]), Refusal::HidesAll);
}

#[test]
fn a_truncated_archive_is_told_from_a_whole_one_wherever_it_ends() {
    let whole = archive(&[directory("d"), file("d/a", "x".repeat(700)), file("b", "y")]);
    let end = whole.len() - 1024;
    for cut in (0..end).step_by(100).chain([512, 1024, end]) {
        let place = Place::new();
        let result = place.unpack(&whole[..cut], &Limits::default());
        assert!(matches!(result, Err(LayerError::Truncated { .. })), "{cut}: {result:?}");
    }
    Place::new().unpack(&whole, &Limits::default()).unwrap();
}

#[test]
fn what_is_no_tar_archive_is_refused() {
    let mut wrong = archive(&[file("a", "x")]);
    wrong[0] = b'b';
    let result = Place::new().unpack(&wrong, &Limits::default());
    assert!(matches!(result, Err(LayerError::Header { at: 0, .. })), "{result:?}");
}

#[test]
fn more_than_the_limits_is_refused_before_it_is_written() {
    let limits = Limits { content: 1000, metadata: 10_000 };
    let large = archive(&[file("a", "x".repeat(600)), file("b", "x".repeat(600))]);
    let place = Place::new();
    let result = place.unpack(&large, &limits);
    assert!(matches!(result, Err(LayerError::TooLarge { what: "files", .. })));
    assert!(!place.layer().join("b").exists());
    assert!(tree(&large, &limits).is_err());
    let many: Vec<Raw> = (0..30).map(|i| file(i.to_string(), "")).collect();
    let result = Place::new().unpack(&archive(&many), &limits);
    assert!(matches!(result, Err(LayerError::TooLarge { what: "names and attributes", .. })));
    // Directories without entries count too.
    let deep = Raw { pax: vec![("path", b"d/".repeat(500))], ..directory("x") };
    let result = Place::new().unpack(&archive(&[deep]), &limits);
    assert!(matches!(result, Err(LayerError::TooLarge { .. })));
}

#[test]
fn a_layer_that_was_changed_in_the_store_is_found_out() {
    let (directory, store) = store();
    let image = image(&store, &[archive(&[file("a", "x".repeat(3000))])]);
    let layer = &image.layers[0];
    let path = directory.path().join("store/blobs/sha256").join(layer.digest.hex());
    let good = fs::read(&path).unwrap();
    Tree::read(&store, &image, &Limits::default()).unwrap();
    let longer = [&good[..], &good[..]].concat();
    let shorter = good[..good.len() - 5].to_vec();
    let mut flipped = good.clone();
    // The time in the gzip header, which no decoder looks at.
    flipped[5] ^= 1;
    for (what, bytes) in [("longer", longer), ("shorter", shorter), ("flipped", flipped)] {
        fs::write(&path, bytes).unwrap();
        let error = Tree::read(&store, &image, &Limits::default()).expect_err(what);
        assert!(error.to_string().contains(layer.digest.as_str()), "{what}: {error}");
    }
    fs::remove_file(&path).unwrap();
    let error = Tree::read(&store, &image, &Limits::default()).unwrap_err();
    assert!(matches!(error, koskit_image::Error::MissingBlob(_)), "{error}");
}

#[test]
fn a_layer_with_another_diff_id_than_the_configuration_says_is_refused() {
    let (_directory, store) = store();
    let one = image(&store, &[archive(&[file("a", "1")])]);
    let two = image(&store, &[archive(&[file("a", "2")])]);
    let mut mixed = one.clone();
    mixed.layers[0].diff_id = two.layers[0].diff_id.clone();
    let error = Tree::read(&store, &mixed, &Limits::default()).unwrap_err();
    let koskit_image::Error::Layer { source: LayerError::Read(e), .. } = error else {
        panic!("{error:?}");
    };
    assert!(e.to_string().contains("is damaged"), "{e}");
}

/// Entries that fit together more often than not, with all that is dangerous among them.
fn entry() -> impl Strategy<Value = Raw> {
    let names = ["a", "b", "a/b", "a/b/c", "b/a", "./a", "a//b/", "d", "d/a"];
    let bad = ["../secret", "/a", "a/../../secret", ".", "", ".wh.a", "a/.wh.b", "a/.wh..wh..opq"];
    let path = || {
        prop_oneof![
            8 => prop::sample::select(names.to_vec()),
            1 => prop::sample::select(bad.to_vec()),
        ]
    };
    let targets = ["a", "b", "../a", "..", ".", "/", "/tmp", "../../secret", "a/b", "/a/../b"];
    prop_oneof![
        4 => (path(), "[xy]{0,3}").prop_map(|(path, content)| file(path, content)),
        3 => path().prop_map(directory),
        2 => (path(), prop::sample::select(targets.to_vec())).prop_map(|(p, t)| symlink(p, t)),
        2 => (path(), path()).prop_map(|(path, target)| hard_link(path, target)),
        1 => path().prop_map(|path| raw(b'6', path)),
    ]
}

/// Not many: each case writes blobs, and waits for the disk. No file of failures, which would
/// lie in the sources.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_in_an_archive_nothing_outside_changes_and_both_readers_agree(
        entries in prop::collection::vec(entry(), 1..8)
    ) {
        let archive = archive(&entries);
        let place = Place::new();
        let unpacked = place.unpack(&archive, &Limits::default());
        let read = tree(&archive, &Limits::default());
        prop_assert_eq!(unpacked.is_ok(), read.is_ok(), "{:?}, {:?}", unpacked, read);
        let Ok(read) = read else { return Ok(()) };
        let in_memory: Vec<_> = read.iter().skip(1).map(|(path, node)| {
            let what = match &node.kind {
                NodeKind::Directory => "directory".into(),
                NodeKind::File(bytes) => format!("file {bytes:?}"),
                NodeKind::Symlink(target) => format!("-> {target:?}"),
                NodeKind::Fifo => "other".into(),
            };
            (path.to_owned(), what)
        }).collect();
        let mut on_disk: Vec<_> = listing(&place.layer()).into_iter().map(|(path, what)| {
            (PathBuf::from(String::from_utf8(path).unwrap()), what)
        }).collect();
        // Whiteouts are device nodes on the disk, and nothing in a tree of one layer.
        on_disk.retain(|(path, _)| !is_whiteout(&place.layer().join(path)));
        on_disk.sort();
        prop_assert_eq!(on_disk, in_memory);
    }

    #[test]
    fn no_damaged_archive_makes_a_reader_panic_or_reaches_outside(
        entries in prop::collection::vec(entry(), 1..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut archive = archive(&entries);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        archive.truncate(cut.index(archive.len() * 2));
        // With room for little: a size field can say anything.
        let limits = Limits { content: 1 << 20, metadata: 1 << 20 };
        let _ = Place::new().unpack(&archive, &limits);
    }
}

fn is_whiteout(path: &Path) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = path.symlink_metadata().unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}
