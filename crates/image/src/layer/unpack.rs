//! A layer made a directory, for use in an overlay mount.
//!
//! Everything is done relative to the directory's descriptor, one part of a path after the
//! other, without following a link. So no archive, whatever it says, reaches anything outside.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self as sys, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::pack::{recorded_owner, xattr_value, xattrs};
use super::{
    Change, Entry, EntryKind, LayerError, Limits, OWNER_XATTR, Reader, Refusal, is_portable,
};

/// How a layer is unpacked.
#[derive(Clone, Debug, Default)]
pub struct UnpackOptions {
    /// Whose the files are.
    pub ownership: Ownership,
    /// How overlayfs is told of opaque directories.
    pub overlay: OverlayXattr,
    /// How much may be made.
    pub limits: Limits,
    /// Directories of the layers below, the topmost first. A directory that this layer has no
    /// entry for, only something inside, looks as it does there: overlayfs would show it with
    /// default permissions else.
    pub lower: Vec<PathBuf>,
}

/// Whose the unpacked files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The layer's owners. That takes root, or root of a user namespace in which all of the
    /// layer's user and group numbers are mapped.
    #[default]
    Real,
    /// The caller's, with the layer's owner in the attribute [`super::OWNER_XATTR`], from which
    /// [`super::pack`] takes it back. Linux allows no such attributes on symbolic links and
    /// pipes: for those it is lost. For a user namespace with a single user.
    Recorded,
    /// The caller's, and nothing else is kept.
    Ignored,
}

/// The name space of overlayfs's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayXattr {
    /// `user.overlay.`, for mounts with `userxattr`.
    #[default]
    User,
    /// `trusted.overlay.`, which takes real root.
    Trusted,
}

/// Unpacks the tar archive of a layer into a directory, which is to be empty, and reads the
/// archive to its end, so that a reader that checks digests has its say.
///
/// Whiteouts become overlayfs's: character devices 0/0, and an attribute on opaque directories.
/// Extended attributes other than `user.*` and `security.capability` are left out, and all of
/// them on a file system that has none. Directories get their permissions and times last.
///
/// # Errors
/// An archive that is damaged, hostile or larger than the limits, or a directory that cannot be
/// written. What was unpacked until then is left for the caller to remove.
pub fn unpack(
    reader: impl Read,
    directory: &Path,
    options: &UnpackOptions,
) -> Result<(), LayerError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = sys::open(directory, flags, Mode::empty());
    let root = root.map_err(|e| file_error("open", directory, e))?;
    let mut unpacker = Unpacker {
        root,
        path: directory,
        options,
        directories: BTreeMap::new(),
        last: None,
        buffer: vec![0; 1 << 17],
    };
    let mut reader = Reader::new(reader, &options.limits);
    while let Some(entry) = reader.next()? {
        match Change::of(entry)? {
            Some(Change::Put(entry)) => unpacker.put(entry, &mut reader)?,
            Some(Change::Remove(path)) => unpacker.white_out(&path, &mut reader)?,
            Some(Change::Hide(path)) => unpacker.hide(&path, &mut reader)?,
            None => {}
        }
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    root: OwnedFd,
    path: &'a Path,
    options: &'a UnpackOptions,
    /// All directories that were made, with what is to be done at the end.
    directories: BTreeMap<PathBuf, Directory>,
    /// The directory that was used last: mostly the next entry is in it too.
    last: Option<(PathBuf, OwnedFd)>,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Directory {
    /// Owner, permissions, time and attributes, where anything is known of them.
    entry: Option<Entry>,
    opaque: bool,
}

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Whiteout,
    File,
    Other,
}

impl Unpacker<'_> {
    fn put<R: Read>(&mut self, entry: Entry, reader: &mut Reader<R>) -> Result<(), LayerError> {
        let Some(name) = entry.path.file_name().map(OsStr::to_owned) else {
            self.directories.entry(PathBuf::new()).or_default().entry = Some(entry);
            return Ok(());
        };
        if let EntryKind::Link(target) = &entry.kind {
            return self.link(&entry, target, &name, reader);
        }
        let parent = self.parent(&entry.path, reader)?;
        let found = self.found(&parent, &name, &entry.path)?;
        match &entry.kind {
            EntryKind::Directory => {
                let path = entry.path.clone();
                if found != Found::Directory {
                    self.remove(&path, found)?;
                    sys::mkdirat(&parent, &name, Mode::RWXU)
                        .map_err(|e| self.failed("make", &path, e))?;
                }
                let directory = self.directories.entry(path).or_default();
                directory.opaque |= found == Found::Whiteout;
                directory.entry = Some(entry);
                Ok(())
            }
            EntryKind::File(_) => {
                self.remove(&entry.path, found)?;
                self.file(&parent, &name, &entry, reader)
            }
            EntryKind::Symlink(target) => {
                self.remove(&entry.path, found)?;
                sys::symlinkat(target, &parent, &name)
                    .map_err(|e| self.failed("make", &entry.path, e))?;
                self.own_and_date(&parent, &name, &entry)
            }
            EntryKind::Fifo => {
                self.remove(&entry.path, found)?;
                let mode = Mode::from_raw_mode(entry.mode);
                sys::mknodat(&parent, &name, FileType::Fifo, mode, 0)
                    .map_err(|e| self.failed("make", &entry.path, e))?;
                self.own_and_date(&parent, &name, &entry)?;
                // Again, without the umask. It is no link, so that may be followed.
                sys::chmodat(&parent, &name, mode, AtFlags::empty())
                    .map_err(|e| self.failed("set the permissions of", &entry.path, e))
            }
            EntryKind::Link(_) | EntryKind::Device => unreachable!("handled before"),
        }
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = sys::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|e| self.failed("make", &entry.path, e))?);
        let mut content = reader.content();
        loop {
            match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => file
                    .write_all(&self.buffer[..n])
                    .map_err(|e| file_error("write", &self.path.join(&entry.path), e))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(content.failed(e)),
            }
        }
        self.attributes(file.as_fd(), entry)
    }

    fn link<R: Read>(
        &mut self,
        entry: &Entry,
        target: &Path,
        name: &OsStr,
        reader: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        let missing = || {
            let refusal = Refusal::LinkMissing(target.into());
            LayerError::Refused { path: entry.path.clone(), refusal }
        };
        let target_name = target.file_name().ok_or_else(missing)?;
        let target_parent = self.walk(target.parent().unwrap_or(Path::new("")));
        let target_parent = target_parent.map_err(|_| missing())?;
        if self.found(&target_parent, target_name, target)? != Found::File || target == entry.path {
            return Err(missing());
        }
        let parent = self.parent(&entry.path, reader)?;
        let found = self.found(&parent, name, &entry.path)?;
        self.remove(&entry.path, found)?;
        // Where that removed the target, it was inside of the link's own path.
        match sys::linkat(&target_parent, target_name, &parent, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Err(missing()),
            other => other.map_err(|e| self.failed("make", &entry.path, e)),
        }
    }

    fn white_out<R: Read>(
        &mut self,
        path: &Path,
        reader: &mut Reader<R>,
    ) -> Result<(), LayerError> {
        let parent = self.parent(path, reader)?;
        let name = path.file_name().expect("Change::of gives a name");
        match self.found(&parent, name, path)? {
            Found::Nothing => {
                sys::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|e| self.failed("make a whiteout at", path, e))
            }
            // What this layer puts there stays, and hides what is below.
            Found::Directory => {
                self.directories.entry(path.into()).or_default().opaque = true;
                Ok(())
            }
            Found::Whiteout | Found::File | Found::Other => Ok(()),
        }
    }

    fn hide<R: Read>(&mut self, path: &Path, reader: &mut Reader<R>) -> Result<(), LayerError> {
        // The marker itself lies in the directory.
        self.parent(&path.join(OsStr::new("x")), reader)?;
        self.directories.entry(path.into()).or_default().opaque = true;
        Ok(())
    }

    /// Opens the directory that a path lies in; makes what is missing of it.
    fn parent<R: Read>(
        &mut self,
        path: &Path,
        reader: &mut Reader<R>,
    ) -> Result<OwnedFd, LayerError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((_, fd)) = self.last.as_ref().filter(|(last, _)| last == parent) {
            return fd.try_clone().map_err(|e| file_error("open", &self.path.join(parent), e));
        }
        let mut at = self.clone_root()?;
        let mut done = PathBuf::new();
        for part in parent {
            done.push(part);
            at = match open_directory(&at, part) {
                Ok(next) => next,
                Err(Errno::NOENT) => self.imply(&at, &done, false, reader)?,
                Err(Errno::NOTDIR | Errno::LOOP) => match self.found(&at, part, &done)? {
                    Found::Whiteout => {
                        self.remove(&done, Found::Whiteout)?;
                        self.imply(&at, &done, true, reader)?
                    }
                    _ => {
                        let refusal = Refusal::Behind(done);
                        return Err(LayerError::Refused { path: path.into(), refusal });
                    }
                },
                Err(e) => return Err(self.failed("open", &done, e)),
            };
        }
        let kept = at.try_clone().map_err(|e| file_error("open", &self.path.join(parent), e))?;
        self.last = Some((parent.into(), kept));
        Ok(at)
    }

    /// Makes a directory that has no entry, and opens it.
    fn imply<R: Read>(
        &mut self,
        at: &OwnedFd,
        path: &Path,
        opaque: bool,
        reader: &mut Reader<R>,
    ) -> Result<OwnedFd, LayerError> {
        reader.budget().implied(path)?;
        let name = path.file_name().expect("the root is there");
        sys::mkdirat(at, name, Mode::RWXU).map_err(|e| self.failed("make", path, e))?;
        let mut entry = Entry {
            path: path.into(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        if !opaque {
            let below = self.options.lower.iter().map(|lower| lower.join(path));
            let below = below.filter_map(|path| Some((path.symlink_metadata().ok()?, path))).next();
            if let Some((metadata, path)) = below.filter(|(metadata, _)| metadata.is_dir()) {
                copy_attributes(&mut entry, &metadata, &path)
                    .map_err(|e| file_error("read the attributes of", &path, e))?;
            }
        }
        self.directories.insert(path.into(), Directory { entry: Some(entry), opaque });
        open_directory(at, name).map_err(|e| self.failed("open", path, e))
    }

    /// Opens a directory that is there.
    fn walk(&self, path: &Path) -> Result<OwnedFd, LayerError> {
        let mut at = self.clone_root()?;
        for part in path {
            at = open_directory(&at, part).map_err(|e| self.failed("open", path, e))?;
        }
        Ok(at)
    }

    fn clone_root(&self) -> Result<OwnedFd, LayerError> {
        self.root.try_clone().map_err(|e| file_error("open", self.path, e))
    }

    fn found(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<Found, LayerError> {
        match sys::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(kind_of(&stat)),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(e) => Err(self.failed("look at", path, e)),
        }
    }

    /// Removes what is at a path, with all that is inside. Every step begins at the root again:
    /// that holds one descriptor however deep the tree is, and this is rare.
    fn remove(&mut self, path: &Path, found: Found) -> Result<(), LayerError> {
        if found == Found::Nothing {
            return Ok(());
        }
        let mut rest = vec![path.to_owned()];
        while let Some(path) = rest.last().cloned() {
            let name = path.file_name().expect("the root is never removed");
            let parent = self.walk(path.parent().unwrap_or(Path::new("")))?;
            let flags = match self.found(&parent, name, &path)? {
                Found::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            match sys::unlinkat(&parent, name, flags) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    let inside = names(&parent, name).map_err(|e| self.failed("read", &path, e))?;
                    rest.extend(inside.into_iter().map(|name| path.join(name)));
                }
                other => {
                    other.map_err(|e| self.failed("remove", &path, e))?;
                    self.directories.remove(&path);
                    rest.pop();
                }
            }
        }
        if found == Found::Directory {
            self.last = None;
        }
        Ok(())
    }

    /// Gives all directories what they are to have, the innermost first: a directory that may
    /// not be entered would be in the way.
    fn finish(mut self) -> Result<(), LayerError> {
        while let Some((path, directory)) = self.directories.pop_last() {
            let parent = self.walk(path.parent().unwrap_or(Path::new("")))?;
            let name = path.file_name().unwrap_or(OsStr::new("."));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = sys::openat(&parent, name, flags, Mode::empty())
                .map_err(|e| self.failed("open", &path, e))?;
            if directory.opaque {
                let name = match self.options.overlay {
                    OverlayXattr::User => "user.overlay.opaque",
                    OverlayXattr::Trusted => "trusted.overlay.opaque",
                };
                sys::fsetxattr(&fd, name, b"y", sys::XattrFlags::empty())
                    .map_err(|e| self.failed("make opaque", &path, e))?;
            }
            if let Some(entry) = directory.entry {
                self.attributes(fd.as_fd(), &entry)?;
            }
        }
        Ok(())
    }

    /// Gives an open file or directory its owner, permissions, extended attributes and time.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
        let path = &entry.path;
        let ownership = self.options.ownership;
        // A user's attributes need the permission to write, which the file's own mode may not
        // give; a change of owner or mode takes capabilities away again.
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_portable(name)) {
            if name != "security.capability" {
                self.xattr(fd, path, name, value)?;
            }
        }
        match ownership {
            Ownership::Real => {
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                sys::fchown(fd, Some(uid), Some(gid))
                    .map_err(|e| self.failed("change the owner of", path, e))?;
            }
            Ownership::Recorded => {
                let owner = format!("{}:{}", entry.uid, entry.gid);
                sys::fsetxattr(fd, OWNER_XATTR, owner.as_bytes(), sys::XattrFlags::empty())
                    .map_err(|e| self.failed("record the owner of", path, e))?;
            }
            Ownership::Ignored => {}
        }
        sys::fchmod(fd, Mode::from_raw_mode(entry.mode))
            .map_err(|e| self.failed("set the permissions of", path, e))?;
        if let Some(value) = entry.xattrs.get(OsStr::new("security.capability")) {
            if ownership == Ownership::Real {
                self.xattr(fd, path, OsStr::new("security.capability"), value)?;
            }
        }
        sys::futimens(fd, &times(entry)).map_err(|e| self.failed("set the time of", path, e))
    }

    fn xattr(
        &self,
        fd: BorrowedFd<'_>,
        path: &Path,
        name: &OsStr,
        value: &[u8],
    ) -> Result<(), LayerError> {
        match sys::fsetxattr(fd, name, value, sys::XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => other.map_err(|e| self.failed("set an attribute of", path, e)),
        }
    }

    /// Gives a symbolic link or pipe its owner and time.
    fn own_and_date(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        if self.options.ownership == Ownership::Real {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            sys::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| self.failed("change the owner of", &entry.path, e))?;
        }
        sys::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed("set the time of", &entry.path, e))
    }

    fn failed(&self, action: &'static str, path: &Path, e: Errno) -> LayerError {
        file_error(action, &self.path.join(path), e)
    }
}

fn open_directory(at: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    sys::openat(at, name, flags, Mode::empty())
}

fn names(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = sys::openat(parent, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in sys::Dir::new(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn kind_of(stat: &Stat) -> Found {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory,
        FileType::RegularFile => Found::File,
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Takes what a directory of a lower layer looks like.
fn copy_attributes(entry: &mut Entry, from: &std::fs::Metadata, path: &Path) -> io::Result<()> {
    (entry.mode, entry.mtime) = (from.mode() & 0o7777, from.mtime());
    (entry.uid, entry.gid) = (from.uid(), from.gid());
    for name in xattrs(path)? {
        if is_portable(&name) {
            let value = xattr_value(path, &name)?;
            entry.xattrs.insert(name, value);
        } else if name == OWNER_XATTR {
            let owner = recorded_owner(&xattr_value(path, &name)?);
            (entry.uid, entry.gid) = owner.unwrap_or((entry.uid, entry.gid));
        }
    }
    Ok(())
}

fn file_error(action: &'static str, path: &Path, e: impl Into<io::Error>) -> LayerError {
    LayerError::File { action, path: path.into(), source: e.into() }
}
