//! Snapshots made of others: one on the other, and what is between two.
//!
//! As a snapshot is a stack of directories, most of that copies nothing: the layers of one are put
//! on those of the other, or taken off again. Where that is not enough, a layer is made of hard
//! links to the files of others, which share their place on the disk and never change.
//!
//! A layer that hides what is below it, since its step removed something, hides it in every stack
//! that it is put into, as BuildKit has it for its merge op. One difference is left: a directory
//! that was removed and made again hides all that is there in the layers below, where BuildKit
//! hides what its step had removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use koskit_image::layer::sized;
use rustix::fs::{
    self as sys, AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::{Snapshot, SnapshotError, Snapshots, failed};
use crate::rooted::Root;
use koskit_llb::Digest;

/// What a directory is opened with.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl Snapshots {
    /// The first one, the second one's layers on it, and so on. A layer that is in there more
    /// than once is made again of hard links: overlayfs does not take the same directory twice.
    ///
    /// # Errors
    /// The cache cannot be read or written.
    pub fn stack(&self, parts: &[Snapshot]) -> Result<Snapshot, SnapshotError> {
        let mut stack: Vec<String> = Vec::new();
        for name in parts.iter().flat_map(|part| &part.layers) {
            let times = stack.iter().filter(|other| *other == name).count();
            match times {
                0 => stack.push(name.clone()),
                _ => stack.push(self.again(name, times)?),
            }
        }
        Ok(Snapshot { layers: stack })
    }

    /// What has to be done to the lower one to come to the upper one, as one layer that stands
    /// alone, with a key of its own.
    ///
    /// # Errors
    /// The cache cannot be read or written.
    pub fn difference(
        &self,
        lower: &Snapshot,
        upper: &Snapshot,
        key: &Digest,
    ) -> Result<Snapshot, SnapshotError> {
        if let Some(known) = self.get(key)? {
            return Ok(known);
        }
        let (old, new) = (self.view(lower)?, self.view(upper)?);
        let work = self.temporary()?;
        let files = work.files();
        let open = |path: &Path| Root::open(path).map_err(failed("open", path));
        let layers = upper.layers.iter().rev();
        let layers = layers.map(|name| open(&self.layer(name).join("files")));
        let difference = Difference {
            old: open(&old.path())?,
            new: open(&new.path())?,
            to: open(&files)?,
            layers: layers.collect::<Result<_, _>>()?,
        };
        difference.make().map_err(|(path, e)| failed("compare", &new.path().join(path))(e))?;
        drop(difference);
        work.commit(key)
    }

    /// The directory of a snapshot's topmost layer, which is all of it where it is the only one.
    pub(crate) fn directory(&self, snapshot: &Snapshot) -> PathBuf {
        let name = snapshot.layers.last().map_or("", String::as_str);
        self.layer(name).join("files")
    }

    /// A layer that has the files of another one.
    fn again(&self, name: &str, times: usize) -> Result<String, SnapshotError> {
        let key = Digest::of(format!("again {times} {name}").as_bytes());
        if let Some(known) = self.get(&key)? {
            return Ok(known.layers.last().cloned().unwrap_or_default());
        }
        let from = self.layer(name);
        let work = self.temporary()?;
        let files = work.files();
        let open = |path: &Path| Root::open(path).map_err(failed("open", path));
        let (old, new) = (open(&from.join("files"))?, open(&files)?);
        link_tree(&old, Path::new(""), &new, Path::new(""))
            .map_err(|(path, e)| failed("link", &from.join("files").join(path))(e))?;
        // What is known of the packed layer holds for this one.
        for entry in fs::read_dir(&from).map_err(failed("read", &from))? {
            let name = entry.map_err(failed("read", &from))?.file_name();
            if name.as_bytes().starts_with(b"layer") {
                let _ = fs::copy(from.join(&name), work.path().join(&name));
            }
        }
        // It is made on the same as the other one: what it changed is what that changed.
        let below = self.record(name)?.map(|record| record.below).unwrap_or_default();
        let kept = work.work.keep(&key, &Snapshot { layers: below })?;
        Ok(kept.layers.last().cloned().unwrap_or_default())
    }
}

/// A path and what went wrong there.
type Failure = (PathBuf, io::Error);

/// Two file systems, and where what is between them goes.
struct Difference {
    old: Root,
    new: Root,
    to: Root,
    /// What the new one is made of, topmost first.
    layers: Vec<Root>,
}

impl Difference {
    fn make(&self) -> Result<(), Failure> {
        // Those that are to be looked into; those that were, for their attributes: what is made
        // in a directory changes its time.
        let mut open = vec![PathBuf::new()];
        let mut made = Vec::new();
        while let Some(directory) = open.pop() {
            let at = |e: io::Error| (directory.clone(), e);
            let (old, new) =
                (directory_of(&self.old, &directory), directory_of(&self.new, &directory));
            let (old, new) = (old.map_err(at)?, new.map_err(at)?);
            let changed = !same_attributes(&old, &new).map_err(at)?;
            if changed {
                self.directory(&directory, &mut made)?;
            }
            let (mut before, mut after) = (names(&old).map_err(at)?, names(&new).map_err(at)?);
            let both: Vec<OsString> =
                after.iter().filter(|name| before.binary_search(name).is_ok()).cloned().collect();
            before.retain(|name| both.binary_search(name).is_err());
            after.retain(|name| both.binary_search(name).is_err());
            for name in before {
                let path = directory.join(&name);
                self.directory(&directory, &mut made)?;
                let parent = directory_of(&self.to, &directory).map_err(at)?;
                sys::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|e| (path, e.into()))?;
            }
            for name in after {
                self.take(&directory.join(name), &mut made)?;
            }
            for name in both {
                let path = directory.join(&name);
                let stat = |fd: &OwnedFd| sys::statat(fd, &name, AtFlags::SYMLINK_NOFOLLOW);
                let fail = |e: Errno| (path.clone(), e.into());
                let (before, after) = (stat(&old).map_err(fail)?, stat(&new).map_err(fail)?);
                if kind(&before) == FileType::Directory && kind(&after) == FileType::Directory {
                    open.push(path);
                } else if !self.same(&path, &before, &after).map_err(|e| (path.clone(), e))? {
                    self.take(&path, &mut made)?;
                }
            }
        }
        for path in made.iter().rev() {
            let copied = directory_of(&self.new, path)
                .and_then(|from| copy_attributes(&from, &directory_of(&self.to, path)?));
            copied.map_err(|e| (path.clone(), e))?;
        }
        Ok(())
    }

    /// Makes a directory and those that it is in, where they are missing.
    fn directory(&self, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
        let fail = |e| (path.to_owned(), e);
        if made.is_empty() {
            made.push(PathBuf::new());
        }
        made.extend(self.to.make_directories(path).map_err(fail)?.1);
        Ok(())
    }

    /// Puts what is at a path of the new one into the layer.
    fn take(&self, path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
        self.directory(path.parent().unwrap_or(Path::new("")), made)?;
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let fail = |e: io::Error| (path.clone(), e);
            let fd = self.new.open_resolved(&path, OFlags::PATH).map_err(fail)?;
            let stat = sys::fstat(&fd).map_err(|e| fail(e.into()))?;
            if kind(&stat) == FileType::Directory {
                let inside = directory_of(&self.new, &path).and_then(|fd| names(&fd));
                self.directory(&path, made)?;
                open.extend(inside.map_err(fail)?.into_iter().map(|name| path.join(name)));
                continue;
            }
            // The topmost layer that has something there is the one that it comes from.
            let from =
                self.layers.iter().find(|layer| layer.open_resolved(&path, OFlags::PATH).is_ok());
            let from = from.ok_or_else(|| fail(Errno::NOENT.into()))?;
            link(from, &path, &self.to, &path).map_err(fail)?;
        }
        Ok(())
    }

    /// Whether two things that are not both directories are the same.
    fn same(&self, path: &Path, old: &Stat, new: &Stat) -> io::Result<bool> {
        let about = |stat: &Stat| {
            let time = (stat.st_mtime, stat.st_mtime_nsec);
            (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, time, stat.st_rdev)
        };
        if about(old) != about(new) {
            return Ok(false);
        }
        match kind(old) {
            FileType::Symlink => {
                let target = |root: &Root| {
                    let link = root.open_resolved(path, OFlags::PATH)?;
                    io::Result::Ok(sys::readlinkat(&link, "", Vec::new())?)
                };
                Ok(target(&self.old)? == target(&self.new)?)
            }
            FileType::RegularFile => {
                let open =
                    |root: &Root| root.open_resolved(path, OFlags::RDONLY | OFlags::NONBLOCK);
                let (old, new) = (open(&self.old)?, open(&self.new)?);
                Ok(xattrs(&old)? == xattrs(&new)? && same_content(old.into(), new.into())?)
            }
            _ => Ok(true),
        }
    }
}

/// Makes a directory what another one is, with hard links to all files in it.
fn link_tree(from: &Root, path: &Path, to: &Root, at: &Path) -> Result<(), Failure> {
    let mut open = vec![(path.to_owned(), at.to_owned())];
    let mut made = Vec::new();
    while let Some((path, at)) = open.pop() {
        let fail = |e: io::Error| (path.clone(), e);
        let fd = from.open_resolved(&path, OFlags::PATH).map_err(fail)?;
        let stat = sys::fstat(&fd).map_err(|e| fail(e.into()))?;
        if kind(&stat) != FileType::Directory {
            link(from, &path, to, &at).map_err(fail)?;
            continue;
        }
        to.make_directories(&at).map_err(fail)?;
        let inside = directory_of(from, &path).and_then(|fd| names(&fd)).map_err(fail)?;
        open.extend(inside.into_iter().map(|name| (path.join(&name), at.join(&name))));
        made.push((path, at));
    }
    for (path, at) in made.iter().rev() {
        let copied = directory_of(from, path)
            .and_then(|from| copy_attributes(&from, &directory_of(to, at)?));
        copied.map_err(|e| (path.clone(), e))?;
    }
    Ok(())
}

/// Gives a file that is no directory a second name.
fn link(from: &Root, path: &Path, to: &Root, at: &Path) -> io::Result<()> {
    let split = |path: &Path| {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        (parent, path.file_name().unwrap_or_default().to_owned())
    };
    let ((old_parent, old), (new_parent, new)) = (split(path), split(at));
    let (old_parent, new_parent) =
        (directory_of(from, &old_parent)?, directory_of(to, &new_parent)?);
    Ok(sys::linkat(&old_parent, &old, &new_parent, &new, AtFlags::empty())?)
}

fn directory_of(root: &Root, path: &Path) -> io::Result<OwnedFd> {
    root.open_resolved(path, DIRECTORY)
}

/// Sorted.
fn names(fd: &OwnedFd) -> io::Result<Vec<OsString>> {
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

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Permissions, owner and extended attributes: a directory's time is no difference of its own.
fn same_attributes(old: &OwnedFd, new: &OwnedFd) -> io::Result<bool> {
    let about = |fd| {
        let stat = sys::fstat(fd)?;
        io::Result::Ok((stat.st_mode, stat.st_uid, stat.st_gid, xattrs(fd)?))
    };
    Ok(about(old)? == about(new)?)
}

fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = sys::fstat(from)?;
    let (uid, gid) = (sys::Uid::from_raw(stat.st_uid), sys::Gid::from_raw(stat.st_gid));
    sys::fchown(to, Some(uid), Some(gid))?;
    for (name, value) in xattrs(from)? {
        sys::fsetxattr(to, &name, &value, XattrFlags::empty())?;
    }
    sys::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Ok(sys::futimens(to, &Timestamps { last_access: time, last_modification: time })?)
}

/// Those that a user may have, which are all that a layer does, and overlayfs's marks.
fn xattrs(fd: impl AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let fd = fd.as_fd();
    let list = match sized(|buffer| sys::flistxattr(fd, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    let names = list
        .split(|&b| b == 0)
        .filter(|name| name.starts_with(b"user.") || *name == b"security.capability");
    let with_value = |name: &[u8]| {
        let name = OsStr::from_bytes(name);
        let value = sized(|buffer| sys::fgetxattr(fd, name, buffer))?;
        Ok((name.to_owned(), value))
    };
    let mut all = names.map(with_value).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

fn same_content(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let len = match one.read(&mut left) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            len => len?,
        };
        if len == 0 {
            return Ok(other.read(&mut right[..1])? == 0);
        }
        match other.read_exact(&mut right[..len]) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..len] != right[..len] {
            return Ok(false);
        }
    }
}
