//! A directory that stands for `/`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self as sys, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::{FileError, Result, failed};
use crate::rooted;

/// A directory out of which no path leads.
///
/// [`Root::resolve`] follows links as a process with this root would. All other calls take what
/// it gives: relative paths without `..` that go through no link. The kernel holds them to that,
/// so a link that is put somewhere meanwhile makes them fail, and leads nowhere.
#[derive(Debug)]
pub(crate) struct Root(rooted::Root);

impl Root {
    /// Opens a directory.
    pub fn open(path: &Path) -> Result<Self> {
        rooted::Root::open(path).map(Self).map_err(failed("open", path))
    }

    /// The directory at a resolved path as a root of its own.
    pub fn below(&self, path: &Path) -> Result<Self> {
        self.0.below(path).map(Self).map_err(failed("open", path))
    }

    /// Where a path leads. Links are followed on the way, and the last part of the path too if
    /// `follow` says so; what is not there is kept as it is written. `/a` and `a` are the same,
    /// and `..` of the root is the root.
    pub fn resolve(&self, path: &Path, follow: bool) -> Result<PathBuf> {
        let resolved = match follow {
            true => self.0.resolve(path),
            false => self.0.resolve_parent(path),
        };
        resolved.map_err(|e| match Errno::from_io_error(&e) {
            Some(Errno::LOOP) => FileError::Loop(path.into()),
            Some(Errno::NOTDIR) => FileError::NotDirectory(self.not_directory(path)),
            _ => failed("read", path)(e),
        })
    }

    /// Where a path leads, if there is something.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Option<PathBuf>> {
        let path = self.resolve(path, follow)?;
        Ok(self.stat(&path)?.map(|_| path))
    }

    /// The first part of a path that is there and no directory.
    fn not_directory(&self, path: &Path) -> PathBuf {
        let mut parts: Vec<&Path> = path.ancestors().collect();
        parts.reverse();
        let found = parts.into_iter().find_map(|part| {
            let at = self.0.resolve(part).ok()?;
            let stat = self.stat(&at).ok()??;
            (FileType::from_raw_mode(stat.st_mode) != FileType::Directory).then_some(at)
        });
        found.unwrap_or_else(|| path.into())
    }

    /// What is at a path, or `None`.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => sys::fstat(&fd).map(Some).map_err(failed("read", path)),
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                _ => Err(failed("read", path)(e)),
            },
        }
    }

    /// The file at a path, for reading.
    pub fn file(&self, path: &Path) -> Result<File> {
        // Without NONBLOCK a pipe, put there meanwhile, would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(File::from(self.open_at(path, flags).map_err(failed("read", path))?))
    }

    /// The directory at a path.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
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
        let link = self.open_at(path, OFlags::PATH);
        let link = link.and_then(|fd| Ok(sys::readlinkat(&fd, "", Vec::new())?));
        let bytes = link.map_err(failed("read", path))?.into_bytes();
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.0.open_resolved(path, flags)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
        let root = Root::open(root).unwrap();
        root.find(Path::new(path), true).unwrap()
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
        let last = root.find(Path::new("absolute"), false).unwrap();
        assert_eq!(last, Some("absolute".into()));
        let looped = root.find(Path::new("loop"), true);
        assert!(matches!(looped, Err(FileError::Loop(_))));
        let behind = root.resolve(Path::new("absolute/file/x"), true).unwrap_err().to_string();
        assert_eq!(behind, r#""etc/real/file" is not a directory"#);
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
            if let Ok(Some(found)) = root.find(Path::new(&path), true) {
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
