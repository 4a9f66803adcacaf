//! Paths in a file system that nobody trusts.
//!
//! A file system of an image may have a symbolic link anywhere: `/etc` to `/`, `/dev` to
//! `../../..`. [`Root`] reads each as the processes inside would: `/` is the root, and `..` does
//! not leave it. No path that is opened through it reaches anything outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// The root directory of a file system.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory as a root. Links in the path to it are followed.
    ///
    /// # Errors
    /// It is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// The directory at a path that [`Root::resolve`] gave, as a root of its own.
    ///
    /// # Errors
    /// It is no directory.
    pub fn below(&self, path: &Path) -> io::Result<Self> {
        Ok(Self { fd: self.open_resolved(path, OFlags::PATH | OFlags::DIRECTORY)? })
    }

    /// The path without links that a path stands for: relative, empty for the root itself. What
    /// does not exist has its name all the same.
    ///
    /// # Errors
    /// There are more than 40 links, or a part in the middle is no directory.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        self.walk(path, true)
    }

    /// As [`Root::resolve`], but a link at the end of the path stands for itself.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub fn resolve_parent(&self, path: &Path) -> io::Result<PathBuf> {
        self.walk(path, false)
    }

    /// Opens what a path stands for. [`OFlags::PATH`] gives a descriptor that is only a place.
    ///
    /// # Errors
    /// As [`Root::resolve`], or as `open`.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.open_resolved(&self.resolve(path)?, flags)
    }

    /// Makes a directory and those that it lies in, where they are missing, with permissions 755
    /// whatever the umask is. Gives the resolved path, and those that were made, outermost first.
    ///
    /// # Errors
    /// As [`Root::resolve`], or one of them cannot be made.
    pub fn make_directories(&self, path: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
        let path = self.resolve(path)?;
        let mut made = Vec::new();
        let mut at = PathBuf::new();
        let mut parent = self.open_resolved(&at, OFlags::DIRECTORY | OFlags::PATH)?;
        for name in path.iter() {
            at.push(name);
            match mkdirat(&parent, name, Mode::RWXU) {
                Ok(()) => {
                    let mode = Mode::from_raw_mode(0o755);
                    rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
                    made.push(at.clone());
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = openat(&parent, name, flags, Mode::empty())?;
        }
        Ok((path, made))
    }

    /// Opens a path that [`Root::resolve`] gave, and fails if it has come to hold a link.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_resolved(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mode = if flags.contains(OFlags::CREATE) { 0o644 } else { 0 };
        let mode = Mode::from_raw_mode(mode);
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat2(&self.fd, path, flags, mode, resolve)?)
    }

    fn walk(&self, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
        // What is still to be walked, and the directories that the walk went through.
        let mut left: VecDeque<OsString> = parts(path);
        let mut walked: Vec<(OsString, Option<OwnedFd>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                walked.pop();
                continue;
            }
            // Below what does not exist there is nothing to look at.
            let parent = match walked.last() {
                None => Some(self.fd.as_fd()),
                Some((_, fd)) => fd.as_ref().map(AsFd::as_fd),
            };
            let kind = match parent {
                Some(parent) => kind(parent, &name)?,
                None => None,
            };
            let next = match (parent, kind) {
                (Some(parent), Some(FileType::Symlink)) if follow_last || !left.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = readlinkat(parent, &name, Vec::new())?.into_bytes();
                    let target = PathBuf::from(OsString::from_vec(target));
                    if target.has_root() {
                        walked.clear();
                    }
                    for part in parts(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                    continue;
                }
                (Some(parent), Some(FileType::Directory)) => {
                    let flags =
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    Some(openat(parent, &name, flags, Mode::empty())?)
                }
                (Some(_), Some(_)) if !left.is_empty() => return Err(Errno::NOTDIR.into()),
                _ => None,
            };
            walked.push((name, next));
        }
        Ok(walked.into_iter().map(|(name, _)| name).collect())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The names in a path, and `..`.
fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// What has this name in a directory.
fn kind(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileType>> {
    if name.as_bytes().contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn resolved(root: &Path, path: &str) -> String {
        let root = Root::open(root).unwrap();
        root.resolve(Path::new(path)).unwrap().into_os_string().into_string().unwrap()
    }

    #[test]
    fn no_path_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        symlink("/", root.join("up")).unwrap();
        symlink("../../../../etc", root.join("out")).unwrap();
        symlink("/real/../nowhere/./file", root.join("dangling")).unwrap();
        symlink(dir.path(), root.join("absolute")).unwrap();
        assert_eq!(resolved(&root, "/"), "");
        assert_eq!(resolved(&root, "../../.."), "");
        assert_eq!(resolved(&root, "up/up/real/../real"), "real");
        assert_eq!(resolved(&root, "out/passwd"), "etc/passwd");
        assert_eq!(resolved(&root, "dangling/more"), "nowhere/file/more");
        let absolute = resolved(&root, "absolute/x");
        assert_eq!(format!("/{absolute}"), dir.path().join("x").to_str().unwrap());
    }

    #[test]
    fn a_ring_of_links_ends_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let error = root.resolve(Path::new("a/c")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn directories_are_made_inside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/var")).unwrap();
        symlink("/../../run/deep", dir.path().join("root/var/run")).unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        let (path, made) = root.make_directories(Path::new("/var/run/x")).unwrap();
        assert_eq!(path, Path::new("run/deep/x"));
        assert_eq!(made, ["run", "run/deep", "run/deep/x"].map(PathBuf::from));
        assert!(dir.path().join("root/run/deep/x").is_dir());
        assert!(root.make_directories(Path::new("/var/run/x")).unwrap().1.is_empty());
    }

    #[test]
    fn the_last_link_can_stand_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        symlink("d", dir.path().join("l")).unwrap();
        symlink("nothing", dir.path().join("d/m")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.resolve_parent(Path::new("l/m")).unwrap(), Path::new("d/m"));
        assert_eq!(root.resolve(Path::new("l/m")).unwrap(), Path::new("d/nothing"));
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(
            root.resolve(Path::new("f/x")).unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
    }
}
