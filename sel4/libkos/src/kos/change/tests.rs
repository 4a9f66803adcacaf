use crate::errno::Errno;
use crate::fd::flag::*;
use crate::kos::tests::{CWD, Test, c, call, kos, list, open, read};
use crate::number::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

fn write(kos: &mut Test, fd: u64, text: &str) -> Result<u64, Errno> {
    call(kos, WRITE, &[fd, text.as_ptr() as u64, text.len() as u64])
}

/// All of a file.
fn text(kos: &mut Test, path: &str) -> Result<String, Errno> {
    let fd = open(kos, path, RDONLY)?;
    let text = read(kos, fd, 100);
    call(kos, CLOSE, &[fd]).unwrap();
    text
}

fn names(kos: &mut Test, path: &str) -> Vec<String> {
    let fd = open(kos, path, DIRECTORY).unwrap();
    let names = list(kos, fd, 64).unwrap();
    call(kos, CLOSE, &[fd]).unwrap();
    names.iter().skip(2).map(|name| name.split_once(':').unwrap().1.into()).collect()
}

fn rename(kos: &mut Test, from: &str, to: &str, flags: u64) -> Result<u64, Errno> {
    call(kos, RENAMEAT2, &[CWD, c(from), CWD, c(to), flags])
}

/// Mode, names, size.
fn stat(kos: &mut Test, path: &str) -> Result<(u32, u32, u64), Errno> {
    let mut stat = [0u64; 16];
    call(kos, NEWFSTATAT, &[CWD, c(path), stat.as_mut_ptr() as u64, 0x100])?;
    Ok((stat[2] as u32, (stat[2] >> 32) as u32, stat[6]))
}

#[test]
fn a_file_of_the_image_changes_for_everybody_who_has_it_open() {
    let mut kos = kos();
    let before = open(&mut kos, "/foo.txt", RDONLY).unwrap();
    let fd = open(&mut kos, "/link", RDWR).unwrap();
    assert_eq!(read(&mut kos, fd, 1), Ok("f".into()));
    assert_eq!(write(&mut kos, fd, "aaaaa"), Ok(5));
    assert_eq!(read(&mut kos, before, 9), Ok("faaaaa".into()));
    assert_eq!(text(&mut kos, "/foo.txt"), Ok("faaaaa".into()));
    assert_eq!(call(&mut kos, FTRUNCATE, &[fd, 2]), Ok(0));
    assert_eq!(call(&mut kos, FTRUNCATE, &[fd, 4]), Ok(0));
    assert_eq!(text(&mut kos, "/foo.txt"), Ok("fa\0\0".into()));
    assert_eq!(call(&mut kos, FTRUNCATE, &[before, 2]), Err(Errno::INVAL));
    assert_eq!(call(&mut kos, PWRITE64, &[fd, c("x"), 1, 8191]), Ok(1));
    assert_eq!(stat(&mut kos, "/foo.txt"), Ok((0o100_644, 1, 8192)));
    let fd = open(&mut kos, "/foo.txt", WRONLY | TRUNC | APPEND).unwrap();
    assert_eq!(write(&mut kos, fd, "one"), Ok(3));
    assert_eq!(call(&mut kos, PWRITE64, &[fd, c("two"), 3, 0]), Ok(3));
    assert_eq!(text(&mut kos, "/foo.txt"), Ok("onetwo".into()));
}

#[test]
fn what_is_unlinked_lives_as_long_as_it_is_open() {
    let mut kos = kos();
    let fd = open(&mut kos, "/new", RDWR | CREAT).unwrap();
    assert_eq!(write(&mut kos, fd, "text"), Ok(4));
    let lower = open(&mut kos, "/foo.txt", RDONLY).unwrap();
    for path in ["/new", "/foo.txt"] {
        assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c(path), 0]), Ok(0));
        assert_eq!(text(&mut kos, path), Err(Errno::NOENT));
    }
    assert_eq!(read(&mut kos, lower, 9), Ok("foo\n".into()));
    assert_eq!(call(&mut kos, LSEEK, &[fd, 0, 0]), Ok(0));
    assert_eq!(read(&mut kos, fd, 9), Ok("text".into()));
    let mut target = [0u8; 32];
    let link =
        call(&mut kos, READLINKAT, &[CWD, c("/proc/self/fd/3"), target.as_mut_ptr() as u64, 32]);
    assert_eq!(&target[..link.unwrap() as usize], b"/new (deleted)");
    assert_eq!(text(&mut kos, "/proc/self/fd/3"), Ok("text".into()));
    let used = kos.tree.pool.used();
    call(&mut kos, CLOSE, &[fd]).unwrap();
    assert_eq!((used, kos.tree.pool.used()), (1, 0), "its memory can be used again");
}

#[test]
fn a_directory_shows_both_layers_and_hides_what_was_removed() {
    let mut kos = kos();
    let fd = open(&mut kos, "/dir/new", WRONLY | CREAT).unwrap();
    call(&mut kos, CLOSE, &[fd]).unwrap();
    assert_eq!(names(&mut kos, "/dir"), ["inner", "new"]);
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dir/inner"), 0]), Ok(0));
    assert_eq!(names(&mut kos, "/dir"), ["new"]);
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dir"), 0x200]), Err(Errno::NOTEMPTY));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dir/new"), 0]), Ok(0));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dir"), 0]), Err(Errno::ISDIR));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dir"), 0x200]), Ok(0));
    assert_eq!(call(&mut kos, MKDIRAT, &[CWD, c("/dir"), 0o777]), Ok(0));
    assert_eq!(names(&mut kos, "/dir"), [""; 0], "the old one does not show through");
    assert_eq!(stat(&mut kos, "/dir"), Ok((0o040_755, 2, 4096)));
}

#[test]
fn a_listing_goes_on_while_what_it_lists_is_removed() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, MKDIRAT, &[CWD, c("/many"), 0o777]), Ok(0));
    for number in 0..50 {
        let fd = open(&mut kos, &std::format!("/many/{number}"), WRONLY | CREAT).unwrap();
        call(&mut kos, CLOSE, &[fd]).unwrap();
    }
    let fd = open(&mut kos, "/many", DIRECTORY).unwrap();
    let mut seen = 0;
    loop {
        let mut buffer = [0u64; 16];
        let size = call(&mut kos, GETDENTS64, &[fd, buffer.as_mut_ptr() as u64, 128]).unwrap();
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut rest = &bytes[..size as usize];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let (entry, later) = rest.split_at(usize::from(rest[16]));
            let name = core::str::from_utf8(&entry[19..]).unwrap().trim_end_matches('\0');
            if !name.starts_with('.') {
                let path = std::format!("/many/{name}");
                assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c(&path), 0]), Ok(0), "{path}");
                seen += 1;
            }
            rest = later;
        }
    }
    assert_eq!(seen, 50);
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/many"), 0x200]), Ok(0));
}

#[test]
fn directories_of_the_image_move_with_what_is_in_them() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, CHDIR, &[c("/dir")]), Ok(0));
    assert_eq!(rename(&mut kos, "/dir", "/bin/moved", 0), Ok(0));
    assert_eq!(text(&mut kos, "/dir/inner"), Err(Errno::NOENT));
    assert_eq!(text(&mut kos, "/bin/moved/inner"), Ok("inner".into()));
    assert_eq!(text(&mut kos, "inner"), Ok("inner".into()));
    let mut path = [0u8; 32];
    let length = call(&mut kos, GETCWD, &[path.as_mut_ptr() as u64, 32]).unwrap();
    assert_eq!(&path[..length as usize], b"/bin/moved\0");
    assert_eq!(text(&mut kos, "../run"), Ok("program".into()));
    let fd = open(&mut kos, "inner", WRONLY | TRUNC).unwrap();
    assert_eq!(write(&mut kos, fd, "other"), Ok(5));
    assert_eq!(text(&mut kos, "/bin/moved/inner"), Ok("other".into()));
    for (from, to, flags, errno) in [
        ("/bin", "/bin/moved/bin", 0, Errno::INVAL),
        ("/bin/moved", "/bin", 0, Errno::NOTEMPTY),
        ("/bin/moved", "/foo.txt", 0, Errno::NOTDIR),
        ("/foo.txt", "/bin", 0, Errno::ISDIR),
        ("/foo.txt", "/link", 1, Errno::EXIST),
        ("/foo.txt", "/new", 2, Errno::NOENT),
        ("/foo.txt", "/link", 3, Errno::INVAL),
        ("/foo.txt", "/dev/x", 0, Errno::XDEV),
        ("/dev", "/x", 0, Errno::BUSY),
        ("/proc/version", "/proc/x", 0, Errno::ROFS),
        ("/none", "/x", 0, Errno::NOENT),
    ] {
        assert_eq!(rename(&mut kos, from, to, flags), Err(errno), "{from} {to} {flags}");
    }
    assert_eq!(rename(&mut kos, "/foo.txt", "/bin/moved", 2), Ok(0));
    assert_eq!(text(&mut kos, "/foo.txt/inner"), Ok("other".into()));
    assert_eq!(text(&mut kos, "/bin/moved"), Ok("foo\n".into()));
    assert_eq!(call(&mut kos, CHDIR, &[c("/foo.txt")]), Ok(0));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("inner"), 0]), Ok(0));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/foo.txt"), 0x200]), Ok(0));
    let at = path.as_mut_ptr() as u64;
    assert_eq!(call(&mut kos, GETCWD, &[at, 32]), Err(Errno::NOENT));
    assert_eq!(open(&mut kos, "new", WRONLY | CREAT), Err(Errno::NOENT));
}

#[test]
fn names_are_counted() {
    let mut kos = kos();
    assert_eq!(call(&mut kos, LINKAT, &[CWD, c("/foo.txt"), CWD, c("/two"), 0]), Ok(0));
    assert_eq!(stat(&mut kos, "/foo.txt"), Ok((0o100_644, 2, 4)));
    assert_eq!(call(&mut kos, FCHMODAT, &[CWD, c("/two"), 0o4711]), Ok(0));
    assert_eq!(stat(&mut kos, "/foo.txt"), Ok((0o104_711, 2, 4)));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/foo.txt"), 0]), Ok(0));
    assert_eq!(stat(&mut kos, "/two"), Ok((0o104_711, 1, 4)));
    assert_eq!(text(&mut kos, "/two"), Ok("foo\n".into()));
    let same = call(&mut kos, LINKAT, &[CWD, c("/two"), CWD, c("/two"), 0]);
    assert_eq!(same, Err(Errno::EXIST));
    let directory = call(&mut kos, LINKAT, &[CWD, c("/dir"), CWD, c("/x"), 0]);
    assert_eq!(directory, Err(Errno::PERM));
    let fd = open(&mut kos, "/dir", DIRECTORY | TMPFILE | RDWR).unwrap();
    assert_eq!(write(&mut kos, fd, "tmp"), Ok(3));
    let link = std::format!("/proc/self/fd/{fd}");
    assert_eq!(call(&mut kos, LINKAT, &[CWD, c(&link), CWD, c("/x"), 0x400]), Ok(0));
    assert_eq!(text(&mut kos, "/x"), Ok("tmp".into()));
}

#[test]
fn writing_ends_where_memory_does() {
    let mut kos = kos();
    let fd = open(&mut kos, "/new", RDWR | CREAT).unwrap();
    let data = vec![b'x'; 10_000];
    let at = data.as_ptr() as u64;
    assert_eq!(call(&mut kos, WRITE, &[fd, at, 5000]), Ok(5000));
    kos.system().room = 40_000;
    assert_eq!(call(&mut kos, WRITE, &[fd, at, 10_000]), Ok(8192 - 5000));
    assert_eq!(call(&mut kos, WRITE, &[fd, at, 10_000]), Err(Errno::NOSPC));
    assert_eq!(stat(&mut kos, "/new"), Ok((0o100_000, 1, 8192)));
    assert_eq!(call(&mut kos, FTRUNCATE, &[fd, 0]), Ok(0));
    assert_eq!(call(&mut kos, PWRITE64, &[fd, at, 10_000, 0]), Ok(8192), "what was given back");
    kos.system().room = 0;
    assert_eq!(call(&mut kos, MKDIRAT, &[CWD, c("/dir/x"), 0]), Err(Errno::NOMEM));
}

#[test]
fn devices_and_processes_are_found() {
    let mut kos = kos();
    assert_eq!(names(&mut kos, "/proc/self/fd"), ["0", "1", "2", "3"]);
    assert_eq!(text(&mut kos, "/proc/sys/kernel/ostype"), Ok("Linux\n".into()));
    assert_eq!(text(&mut kos, "/proc/self/comm"), Ok("kos\n".into()));
    let fd = open(&mut kos, "/proc/thread-self/comm", WRONLY).unwrap();
    assert_eq!(write(&mut kos, fd, "other\n"), Ok(6));
    assert_eq!(text(&mut kos, "/proc/1/comm"), Ok("other\n".into()));
    assert_eq!(open(&mut kos, "/proc/self/fd/77", RDONLY), Err(Errno::NOENT));
    let fd = open(&mut kos, "/dev/shm/name", RDWR | CREAT).unwrap();
    assert_eq!(write(&mut kos, fd, "x"), Ok(1));
    assert_eq!(names(&mut kos, "/dev/shm"), ["name"]);
    assert_eq!(stat(&mut kos, "/dev/shm"), Ok((0o041_777, 2, 4096)));
    assert_eq!(call(&mut kos, UNLINKAT, &[CWD, c("/dev/null"), 0]), Ok(0));
    assert_eq!(open(&mut kos, "/dev/null", RDONLY), Err(Errno::NOENT));
    // As `mknod -m 666 /dev/null c 1 3` makes it.
    assert_eq!(call(&mut kos, MKNODAT, &[CWD, c("/dev/null"), 0o020_666, 0x103]), Ok(0));
    let fd = open(&mut kos, "/dev/null", RDWR).unwrap();
    assert_eq!((read(&mut kos, fd, 9), write(&mut kos, fd, "abc")), (Ok("".into()), Ok(3)));
}
