use super::*;
use std::string::String;
use std::vec;

/// One file of an archive: its path, its mode and its data.
pub(crate) type Listed<'a> = (&'a str, u32, &'a str);

/// An archive of files, whose inodes are their places in the list from 1 on.
pub(crate) fn archive(files: &[Listed<'_>]) -> Vec<u8> {
    let linked: Vec<_> = (1u32..).zip(files).map(|(ino, &file)| (ino, 1, file)).collect();
    archive_of(&linked)
}

/// An archive of files with their inodes and numbers of links.
pub(crate) fn archive_of(files: &[(u32, u32, Listed<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let trailer = [(0, 1, ("TRAILER!!!", 0, ""))];
    for &(ino, nlink, (path, mode, data)) in files.iter().chain(&trailer) {
        let meta = Meta { ino, nlink, mode, size: data.len() as u32, mtime: 7, ..Meta::default() };
        out.extend_from_slice(&meta.header(path.len()));
        for part in [path.as_bytes(), b"\0"] {
            out.extend_from_slice(part);
        }
        out.resize(out.len() + cpio::padding(out.len()), 0);
        out.extend_from_slice(data.as_bytes());
        out.resize(out.len() + cpio::padding(out.len()), 0);
    }
    out
}

pub(crate) const DIR: u32 = S_IFDIR | 0o755;
pub(crate) const FILE: u32 = S_IFREG | 0o644;
pub(crate) const LINK: u32 = S_IFLNK | 0o777;

pub(crate) fn tree() -> Vec<u8> {
    archive(&[
        (".", DIR, ""),
        ("a", DIR, ""),
        ("a/b", DIR, ""),
        ("a/b/deep", FILE, "deep"),
        ("a/up", LINK, "../file"),
        ("a-b", FILE, "sorted between"),
        ("abs", LINK, "/a/b"),
        ("dangling", LINK, "nowhere"),
        ("escape", LINK, "../../../file"),
        ("file", FILE, "contents"),
        ("loop1", LINK, "loop2"),
        ("loop2", LINK, "loop1"),
    ])
}

fn names(initrd: &Initrd<'_>, path: &str) -> Vec<String> {
    let directory = initrd.find(path.as_bytes()).unwrap();
    let mut from = 0;
    let mut out = vec![];
    while let Some((node, name)) = initrd.child(directory, from) {
        from = initrd.after(node);
        out.push(String::from_utf8(name.to_vec()).unwrap());
    }
    out
}

#[test]
fn directories_list_what_is_directly_in_them() {
    let archive = tree();
    let initrd = Initrd::new(&archive).unwrap();
    let root = ["a", "a-b", "abs", "dangling", "escape", "file", "loop1", "loop2"];
    assert_eq!(names(&initrd, ""), root);
    assert_eq!(names(&initrd, "a"), ["b", "up"]);
    assert_eq!(names(&initrd, "a/b"), ["deep"]);
}

#[test]
fn any_order_and_any_form_of_names_will_do() {
    let archive = archive(&[
        ("./z/y", FILE, "new"),
        ("/z/y", FILE, "newest"),
        ("./b", FILE, "b"),
        ("z/", DIR, ""),
        ("z/x/deeper", FILE, "has no directory of its own"),
    ]);
    let initrd = Initrd::new(&archive).unwrap();
    assert_eq!(names(&initrd, ""), ["b", "z"]);
    assert_eq!(names(&initrd, "z"), ["y"]);
    assert_eq!(initrd.data(initrd.find(b"z/y").unwrap()), b"newest");
    assert!(initrd.is_directory(initrd.root()));
}

#[test]
fn hard_links_share_the_data_of_one() {
    let archive = archive_of(&[
        (5, 2, ("a", FILE, "")),
        (6, 1, ("b", FILE, "other")),
        (5, 2, ("c", FILE, "shared")),
    ]);
    let initrd = Initrd::new(&archive).unwrap();
    let a = initrd.find(b"a").unwrap();
    assert_eq!((initrd.data(a), initrd.meta(a).size), (&b"shared"[..], 6));
    assert_eq!(initrd.meta(a).ino, initrd.meta(initrd.find(b"c").unwrap()).ino);
}

#[test]
fn an_empty_archive_is_an_empty_root() {
    let initrd = Initrd::new(&[]).unwrap();
    assert_eq!(names(&initrd, ""), Vec::<String>::new());
    assert_eq!(initrd.meta(initrd.root()).mode, DIR);
    assert!(Initrd::new(b"not an archive").is_err());
}

#[test]
fn no_damage_to_an_archive_makes_it_panic() {
    let good = archive_of(&[
        (1, 2, (".", DIR, "")),
        (2, 2, ("a", DIR, "")),
        (3, 2, ("a/file", FILE, "")),
        (4, 1, ("a/link", LINK, "../b")),
        (3, 2, ("b", FILE, "contents")),
    ]);
    let mut random = 1u64;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = (random >> 33) as usize % bytes.len();
        // Digits and names do more harm than what no header may hold.
        bytes[at] = b"0123456789ABCDEF/.\0a\xff"[(random >> 20) as usize % 21];
        let Ok(initrd) = Initrd::new(&bytes) else { continue };
        for path in ["a/link", "a/file", "b", "a/link/x"] {
            if let Some(node) = initrd.find(path.as_bytes()) {
                let file = initrd.file(node);
                assert_eq!(initrd.contents(&file), initrd.data(node));
                assert_eq!(initrd.meta(node), initrd.meta_of(&file));
            }
        }
        let mut from = 0;
        while let Some((node, _)) = initrd.child(initrd.root(), from) {
            assert!(initrd.after(node) > from);
            from = initrd.after(node);
        }
    }
}
