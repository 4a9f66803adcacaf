//! ADD: archives that are unpacked.

use std::io::Write;

use super::*;

/// A tar archive with one entry for each line: `file PATH TEXT`, `dir PATH`, `link PATH TARGET`,
/// `hard PATH TARGET`, `device PATH`.
fn archive(lines: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (kind, path) = (words.next().unwrap(), words.next().unwrap());
        let rest = words.next().unwrap_or_default();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(match kind {
            "file" => tar::EntryType::Regular,
            "dir" => tar::EntryType::Directory,
            "link" => tar::EntryType::Symlink,
            "hard" => tar::EntryType::Link,
            "device" => tar::EntryType::Char,
            _ => panic!("{line}"),
        });
        // As it is written: the crate refuses what is hostile.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(if kind == "dir" { 0o750 } else { 0o640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000_000);
        let data = if kind == "file" { rest.as_bytes() } else { b"" };
        if matches!(kind, "link" | "hard") {
            header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

impl World {
    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.context.join(name), bytes).unwrap();
    }
}

#[test]
fn archives_are_unpacked_whatever_they_are_compressed_with_and_called() {
    inside(|_, dir| {
        let world = World::new(dir);
        let plain = archive(&["dir d", "file d/f text", "link d/l f", "hard d/h d/f", "file g x"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&plain).unwrap();
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        xz.write_all(&plain).unwrap();
        world.put("plain", &plain);
        world.put("a.txt", &gzip.finish().unwrap());
        world.put("b.tar.gz", &bzip2.finish().unwrap());
        world.put("c", &xz.finish().unwrap());
        world.put("d", &zstd::encode_all(&plain[..], 1).unwrap());
        let expected = [
            "755 0:0 t/",
            "750 7:8 t/d/",
            "640 7:8 t/d/f text",
            "640 7:8 t/d/h text",
            "777 7:8 t/d/l -> f",
            "640 7:8 t/g x",
        ];
        let mut all = Vec::new();
        for name in ["plain", "a.txt", "b.tar.gz", "c", "d"] {
            let built = world.build(&format!("FROM scratch\nADD {name} /t/\n"));
            let mut files = world.files(&built);
            // Of a link, only root can change the owner.
            files.iter_mut().for_each(|line| *line = line.replace("777 0:0", "777 7:8"));
            assert_eq!(files, expected, "{name}");
            all.push(built.solved.layers);
        }
        assert!(all.iter().all(|layers| *layers == all[0]));
        let text = "FROM scratch\nADD --chown=1:2 --unpack=false plain /t/\nADD --chown=1:2 d /\n";
        let files = world.files(&world.build(text));
        assert!(files.contains(&"640 1:2 d/f text".into()), "{files:?}");
        assert!(files.iter().any(|line| line.starts_with("644 1:2 t/plain d")), "{files:?}");
    });
}

#[test]
fn what_is_no_archive_is_copied() {
    inside(|_, dir| {
        let world = World::new(dir);
        world.put("empty", b"");
        world.put("zeros", &[0; 1024]);
        world.put("text.tar", b"not a tar");
        world.put("gz", b"\x1f\x8b\x08 not gzip");
        let built = world.build("FROM scratch\nADD empty zeros text.tar gz /t/\n");
        assert_eq!(world.files(&built).len(), 5);
    });
}

#[test]
fn archives_merge_with_what_is_there_and_stay_inside() {
    inside(|_, dir| {
        let world = World::new(dir);
        fs::write(dir.join("outside"), "outside").unwrap();
        world.put(
            "base.tar",
            &archive(&[
                "dir usr/lib",
                "file usr/lib/old old",
                "link lib usr/lib",
                "file was-file x",
                "dir was-dir",
                "file was-dir/inner x",
                &format!("link up {}", "/etc"),
            ]),
        );
        world.put(
            "more.tar",
            &archive(&[
                "file lib/new new",
                "dir was-file",
                "file was-dir replaced",
                "device null",
                "file up/passwd inside",
            ]),
        );
        let built = world.build("FROM scratch\nADD base.tar /\nADD more.tar /\n");
        let warned = built.events.iter().filter_map(|event| match event {
            Event::Warning { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let left_out = "more.tar has the device node null, which is left out";
        assert_eq!(warned.collect::<Vec<_>>(), [left_out]);
        let files = world.files(&built);
        let names: Vec<_> = files.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
        let expected = [
            "etc/",
            "etc/passwd inside",
            "lib -> usr/lib",
            "up -> /etc",
            "usr/",
            "usr/lib/",
            "usr/lib/new new",
            "usr/lib/old old",
            "was-dir replaced",
            "was-file/",
        ];
        assert_eq!(names, expected);

        for (lines, why) in [
            (vec!["file a/.. x"], "only a directory can be the root"),
            (vec!["file ../outside x"], "its path leads out of where"),
            (vec!["file /../outside x"], "its path leads out of where"),
            (vec!["link l ../../outside"], "outside of the image"),
            (vec!["link l "], "the target of the link is empty"),
            (vec!["hard h /a/.."], "the target of the link is empty"),
            (vec!["hard h ../outside"], "outside of the image"),
            (vec!["hard h nothing"], "\"nothing\" is not in the file system that is built"),
        ] {
            world.put("bad.tar", &archive(&lines));
            let error = world.error("FROM scratch\nADD bad.tar /\n");
            assert!(error.contains(why), "{lines:?}: {error}");
        }
        let mut cut = archive(&["file f 0123456789"]);
        cut.truncate(512 + 5);
        world.put("bad.tar", &cut);
        let error = world.error("FROM scratch\nADD bad.tar /\n");
        let wanted = "the archive \"bad.tar\" cannot be unpacked: it ends too early";
        assert!(error.starts_with(wanted), "{error}");
        assert_eq!(fs::read_to_string(dir.join("outside")).unwrap(), "outside");
    });
}

#[test]
fn an_archive_reaches_nothing_outside_of_the_destination() {
    inside(|_, dir| {
        let world = World::new(dir);
        let outside = dir.join("outside");
        fs::write(&outside, "outside").unwrap();
        world.put("base.tar", &archive(&["file secret s", "link t/up ..", "dir etc"]));
        world.put(
            "hostile.tar",
            &archive(&[
                "file ./a/../above 1",
                "file /absolute 2",
                "file //a/../b/../c 3",
                "dir //d",
                "link conf /etc",
                "file conf/passwd 4",
                "link climb ..",
                "file climb/climbed 5",
                "link link ../secret",
                "hard /hard /x/../above",
                "file up/through 6",
                &format!("link out {}", outside.display()),
                &format!("file {}/x 7", outside.display()),
            ]),
        );
        let files =
            world.files(&world.build("FROM scratch\nADD base.tar /\nADD hostile.tar /t/\n"));
        let names: Vec<_> = files.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
        let inside = format!("t{}", outside.display());
        let expected = ["etc/", "secret s", "t/"];
        assert_eq!(names[..3], expected, "{names:?}");
        for wanted in [
            "t/above 1",
            "t/absolute 2",
            "t/c 3",
            "t/d/",
            "t/conf -> /etc",
            "t/etc/passwd 4",
            "t/climb -> ..",
            "t/climbed 5",
            "t/link -> ../secret",
            "t/hard 1",
            "t/up -> ..",
            "t/through 6",
            &format!("t/out -> {}", outside.display()),
            &format!("{inside}/x 7"),
        ] {
            assert!(names.contains(&wanted), "{wanted} is not among {names:#?}");
        }
        assert!(names[3..].iter().all(|name| name.starts_with("t/")), "{names:#?}");
        assert_eq!(fs::read_to_string(outside).unwrap(), "outside");
    });
}

#[test]
fn a_bomb_is_refused_before_the_disk_is_full() {
    inside(|_, dir| {
        let world = World::new(dir);
        let mut header = tar::Header::new_gnu();
        header.set_path("bomb").unwrap();
        header.set_size(17 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        world.put("bomb.tar", header.as_bytes());
        let error = world.error("FROM scratch\nADD bomb.tar /\n");
        assert!(error.contains("need more than 17179869184 bytes"), "{error}");
        // A window of 128 MiB, which is more memory than is to be had.
        world.put("window", &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0, 0, 0, 0, 0, 0]);
        let files = world.files(&world.build("FROM scratch\nADD window /\n"));
        assert_eq!(files.len(), 1);
    });
}
