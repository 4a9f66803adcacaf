//! A directory that stands for `/`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self as sys, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{FileError, Result, failed};

/// How many symbolic links are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// A directory out of which no path leads.
///
/// [`Root::resolve`] follows links as a process with this root would. All other calls take what
/// it gives: relative paths without `..` that go through no link. The kernel holds them to that
/// (`openat2`), so a link that is put somewhere meanwhile makes them fail, and leads nowhere.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
}

/// What [`Root::resolve`] does with a part of a path that is not there.
pub(crate) enum Absent<'a> {
    /// Gives `None`.
    Stop,
    /// Goes on, as if it were a directory with nothing in it.
    Keep,
    /// Makes it, and goes on.
    Make(&'a dyn Fn(&Path) -> Result<()>),
}

impl Root {
    /// Opens a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = sys::open(path, flags, Mode::empty()).map_err(failed("open", path))?;
        Ok(Self { fd })
    }

    /// Where a path leads. Links are followed on the way, and the last part of the path too if
    /// `follow` says so. `/a` and `a` are the same, and `..` of the root is the root.
    pub fn resolve(
        &self,
        path: &Path,
        follow: bool,
        absent: &Absent<'_>,
    ) -> Result<Option<PathBuf>> {
        let mut at = PathBuf::new();
        // What is still to be walked, the next part last.
        let mut rest: Vec<OsString> = Vec::new();
        push_parts(&mut rest, path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            match self.stat(&next)?.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Some(FileType::Symlink) if follow || !rest.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(FileError::Loop(path.into()));
                    }
                    let target = self.read_link(&next)?;
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    push_parts(&mut rest, &target);
                    continue;
                }
                Some(FileType::Directory) => {}
                Some(_) if !rest.is_empty() => return Err(FileError::NotDirectory(next)),
                Some(_) => {}
                None => match absent {
                    Absent::Stop => return Ok(None),
                    Absent::Keep => {}
                    Absent::Make(make) => make(&next)?,
                },
            }
            at = next;
        }
        Ok(Some(at))
    }

    /// What is at a path, or `None`.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(fd) => sys::fstat(&fd).map(Some).map_err(failed("read", path)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Ok(None),
            Err(e) => Err(failed("read", path)(e)),
        }
    }

    /// The file at a path, for reading.
    pub fn file(&self, path: &Path) -> Result<File> {
        // Without NONBLOCK a pipe, put there meanwhile, would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(self.open_at(path, flags).map_err(failed("read", path))?))
    }

    /// The directory at a path.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        self.open_at(path, flags).map_err(failed("open", path))
    }

    /// The directory that a path is in, and its name there. The root is in no directory.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let name = path.file_name().map(OsStr::to_owned);
        let name = name.ok_or_else(|| failed("change", "/")(io::Error::from(Errno::BUSY)))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// The names in the directory at a path, sorted.
    pub fn names(&self, path: &Path) -> Result<Vec<OsString>> {
        names(self.directory(path)?).map_err(failed("read", path))
    }

    /// What the link at a path says.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let link = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW);
        let link = link.and_then(|fd| sys::readlinkat(&fd, "", Vec::new()));
        let bytes = link.map_err(failed("read", path))?.into_bytes();
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            let flags = flags | OFlags::CLOEXEC;
            match sys::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                // Something was renamed at the same time, and the kernel could not tell.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

/// The names in an open directory, sorted.
pub(super) fn names(fd: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in sys::Dir::read_from(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort();
    Ok(names)
}

/// Puts the parts of a path on a stack, the first of them on top.
fn push_parts(stack: &mut Vec<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(part) => stack.push(part.to_owned()),
            Component::ParentDir => stack.push("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
        let root = Root::open(root).unwrap();
        root.resolve(Path::new(path), true, &Absent::Stop).unwrap()
    }

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/real")).unwrap();
        fs::write(dir.path().join("etc/real/file"), "").unwrap();
        symlink("/etc/real", dir.path().join("absolute")).unwrap();
        symlink("../../../../etc/real/file", dir.path().join("etc/up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let found = Some(PathBuf::from("etc/real/file"));
        assert_eq!(resolve(dir.path(), "/absolute/file"), found);
        assert_eq!(resolve(dir.path(), "../../etc/up"), found);
        assert_eq!(resolve(dir.path(), "etc/passwd"), None);
        let root = Root::open(dir.path()).unwrap();
        let last = root.resolve(Path::new("absolute"), false, &Absent::Stop).unwrap();
        assert_eq!(last, Some("absolute".into()));
        let looped = root.resolve(Path::new("loop"), true, &Absent::Stop);
        assert!(matches!(looped, Err(FileError::Loop(_))));
        let behind = root.resolve(Path::new("etc/real/file/x"), true, &Absent::Stop);
        assert!(matches!(behind, Err(FileError::NotDirectory(_))));
    }

    #[test]
    fn what_was_not_resolved_is_not_reached() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink("../secret", dir.path().join("in/link")).unwrap();
        symlink("..", dir.path().join("in/up")).unwrap();
        let root = Root::open(&dir.path().join("in")).unwrap();
        for path in ["link", "up/secret", "../secret", "/etc/passwd"] {
            assert!(root.file(Path::new(path)).is_err(), "{path}");
        }
    }

    proptest! {
        /// Links to anywhere, made of a few names: wherever they lead, it is inside.
        #[test]
        fn no_path_leads_out(
            links in prop::collection::vec(("[abc]", "(/|)([abc]|\\.\\.)(/([abc]|\\.\\.)){0,3}"), 0..4),
            path in "(/|)([abcd]|\\.\\.)(/([abcd]|\\.\\.)){0,5}",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let inside = dir.path().join("root");
            for name in ["root/a/b", "root/b/a", "c/a", "d", "a", "b"] {
                fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            for (name, target) in links {
                let _ = symlink(target, inside.join("a").join(name));
            }
            let root = Root::open(&inside).unwrap();
            if let Ok(Some(found)) = root.resolve(Path::new(&path), true, &Absent::Stop) {
                prop_assert!(found.components().all(|c| matches!(c, Component::Normal(_))));
                let real = inside.join(&found).canonicalize().unwrap();
                prop_assert!(real.starts_with(inside.canonicalize().unwrap()));
                prop_assert!(root.stat(&found).unwrap().is_some());
                // It is where a process with that root would come to.
                prop_assert_eq!(real, inside.canonicalize().unwrap().join(&found));
            }
        }
    }
}
