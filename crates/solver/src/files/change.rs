//! Changes to the files under a root.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use koskit_image::layer::{OWNER_XATTR, is_portable, recorded_owner, sized};
use koskit_llb::{Digest, Glob, Stars};
use rustix::fs::{
    self as sys, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::content::{Content, Contents};
use super::earlier::Links;
use super::mode::ModeChange;
use super::owner::Ids;
use super::root::names;
use super::select::{Entry, Kind, Match};
use super::{FileError, Place, Result, Root, Selection, View, failed};

pub(crate) use koskit_image::layer::Ownership;

/// Writes under a root. Nobody else does at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Changes<'a> {
    /// Where.
    pub root: &'a Root,
    /// Whether the caller may give files away, or only say whose they should be.
    pub ownership: Ownership,
    /// The time of files that come from a context, in seconds since 1970.
    pub epoch: i64,
    /// Is told what was done otherwise than asked for: a sentence without a full stop.
    pub warn: &'a dyn Fn(String),
    /// What a copy of a context makes, and need not write; `None` writes all.
    pub links: Option<&'a Links>,
}

/// Where a copy goes, and what becomes of the files on the way.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// A slash, or `/.`, at its end says that it is a directory.
    pub path: String,
    /// Whose the copies are; `None` leaves that.
    pub owner: Option<Ids>,
    /// Their permissions.
    pub mode: ModeChange,
    /// Whether directories on the way to it are made.
    pub parents: bool,
    /// Of a source that is a directory, only what is in it is copied.
    pub contents: bool,
    /// The copies' time in nanoseconds since 1970; `None` leaves that.
    pub time: Option<i64>,
    /// A file that is an archive is unpacked instead, and keeps its entries' permissions and
    /// times.
    pub unpack: bool,
    /// What is there is replaced, even if it is a directory and the copy is none, or the other
    /// way round.
    pub replace: bool,
}

impl Target {
    /// The root, to which all that is in another one is copied as it is.
    pub fn root() -> Self {
        Self {
            path: "/".into(),
            owner: None,
            mode: ModeChange::Keep,
            parents: true,
            contents: true,
            time: None,
            unpack: false,
            replace: false,
        }
    }
}

/// What a file has besides its content.
pub(super) struct Attributes {
    pub mode: u32,
    pub owner: Ids,
    pub time: Option<Timespec>,
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Changes<'_> {
    /// Copies what was selected.
    pub fn copy(&self, selection: &Selection, view: &View, target: &Target) -> Result<()> {
        selection.matches.iter().try_for_each(|source| self.copy_one(source, view, target))
    }

    fn copy_one(&self, source: &Match, view: &View, target: &Target) -> Result<()> {
        let Some(top) = source.entries.first() else { return Ok(()) };
        let is_directory = matches!(top.kind, Kind::Directory);
        let owner = target.owner.unwrap_or((0, 0));
        if let (true, Kind::File { content, .. }) = (target.unpack, &top.kind) {
            let file = view.root.file(&top.source)?;
            let to = Path::new(&target.path);
            let expected = content.filter(|_| view.place == Place::Context);
            if self.unpack(file, &top.source, to, target.owner, expected)? {
                return Ok(());
            }
        }
        // Directories on the way get the mode, too, as in BuildKit.
        let mode = match target.mode {
            ModeChange::Set(bits) => bits & 0o777,
            _ => 0o755,
        };
        let (parent, name) = target.path.rsplit_once('/').unwrap_or(("", &target.path));
        let ensured = if matches!(name, "" | ".") { &target.path } else { parent };
        if target.parents {
            self.make_directories(Path::new(ensured), mode, owner, target.time)?;
        } else if self.root.find(Path::new(parent), true)?.is_none() {
            let path = parent.trim_start_matches('/').into();
            return Err(FileError::Missing { path, place: Place::Target });
        }
        let mut path = self.root.resolve(Path::new(&target.path), true)?;
        let there = self.root.stat(&path)?.map(|stat| kind(&stat));
        let by_name = match there {
            Some(FileType::Directory) => !(is_directory && target.contents),
            Some(_) => is_directory && !target.contents,
            None => false,
        };
        if by_name {
            path.push(source.name.file_name().unwrap_or_default());
        }
        let made = match is_directory && target.contents && there.is_none() {
            true => path.as_path(),
            false => path.parent().unwrap_or(Path::new("")),
        };
        self.make_directories(made, mode, owner, target.time)?;

        // The attributes of directories come last: what is put inside changes their times.
        let directories = Contents::copied(self.ownership, source.entries.len(), |contents| {
            self.copy_entries(&source.entries, &path, view, target, contents)
        })?;
        for (at, attributes) in directories.iter().rev() {
            self.finish(self.root.directory(at)?, at, attributes)?;
        }
        Ok(())
    }

    /// Copies entries to below a path; gives the directories that have no attributes yet.
    fn copy_entries(
        &self,
        entries: &[Entry],
        path: &Path,
        view: &View,
        target: &Target,
        contents: &Contents<'_>,
    ) -> Result<Vec<(PathBuf, Attributes)>> {
        let mut directories = Vec::new();
        let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
        for entry in entries {
            let at = path.join(&entry.path);
            // Joined with an empty path, there is a slash at its end.
            let at = if entry.path.as_os_str().is_empty() { path.to_path_buf() } else { at };
            let attributes = || self.attributes(entry, view, target);
            if target.replace && !at.as_os_str().is_empty() {
                self.clear(&at, matches!(entry.kind, Kind::Directory))?;
            }
            match &entry.kind {
                Kind::Directory => {
                    let made = self.directory(&at)?;
                    // What was there before keeps its attributes, if it is what is copied to.
                    if made || !entry.path.as_os_str().is_empty() {
                        directories.push((at, attributes()?));
                    }
                }
                Kind::Symlink(to) => {
                    let (parent, name) = self.vacate(&at)?;
                    sys::symlinkat(to, &parent, &name).map_err(failed("make", &at))?;
                    self.finish_link(&parent, &name, &at, &attributes()?)?;
                }
                Kind::Fifo => {
                    let (parent, name) = self.vacate(&at)?;
                    sys::mknodat(&parent, &name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                        .map_err(failed("make", &at))?;
                    let attributes = attributes()?;
                    let mode = Mode::from_raw_mode(attributes.mode);
                    sys::chmodat(&parent, &name, mode, AtFlags::empty())
                        .map_err(failed("set the permissions of", &at))?;
                    self.finish_link(&parent, &name, &at, &attributes)?;
                }
                Kind::File { link, content } => {
                    if let Some(first) = link.and_then(|link| names.get(&link)) {
                        let (old, old_name) = self.root.parent(first)?;
                        let (parent, name) = self.vacate(&at)?;
                        sys::linkat(&old, &old_name, &parent, &name, AtFlags::empty())
                            .map_err(failed("link", &at))?;
                        continue;
                    }
                    // An image does not change; a context may, and then the digest is wrong.
                    let expected = content.filter(|_| view.place == Place::Context);
                    let attributes = attributes()?;
                    let links = self.links.filter(|_| link.is_none());
                    let listed = links.zip(expected.map(|content| attributes.digest(&content)));
                    if let Some((links, digest)) = &listed {
                        if links.has(&at, digest) {
                            self.link(links, at, digest.clone())?;
                            continue;
                        }
                    }
                    let from = view.root.file(&entry.source)?;
                    let to = self.create(&at)?;
                    names.extend(link.map(|link| (link, at.clone())));
                    if let Some((links, digest)) = listed {
                        links.note(&at, digest);
                    }
                    contents.copy(Content { from, to, at, expected, attributes })?;
                }
            }
        }
        Ok(directories)
    }

    /// Leaves a file to be linked to that of the earlier copy.
    fn link(&self, links: &Links, at: PathBuf, digest: String) -> Result<()> {
        match links.begins(&at) {
            // A file in it brings a directory from below to where the links are made.
            true => drop(self.create(&at)?),
            false => drop(self.vacate(&at)?),
        }
        links.add(&at);
        links.note(&at, digest);
        Ok(())
    }

    /// Makes a directory, with those above it if `parents`. One that is there stays as it is.
    pub fn mkdir(
        &self,
        path: &str,
        mode: u32,
        parents: bool,
        owner: Ids,
        time: Option<i64>,
    ) -> Result<()> {
        if parents {
            return self.make_directories(Path::new(path), mode, owner, time);
        }
        let at = self.destination(path, false)?;
        if self.root.stat(&at)?.is_some_and(|stat| kind(&stat) == FileType::Directory) {
            return Ok(());
        }
        self.make_directory(&at, mode, owner, time)
    }

    /// Writes a file, over one that is there.
    pub fn mkfile(
        &self,
        path: &str,
        mode: u32,
        data: &[u8],
        owner: Ids,
        time: Option<i64>,
    ) -> Result<()> {
        let at = self.destination(path, true)?;
        let mut file = self.create(&at)?;
        file.write_all(data).map_err(failed("write", &at))?;
        self.finish(&file, &at, &Attributes::new(mode, owner, time))
    }

    /// Makes a symbolic link, over one that is there.
    pub fn symlink(&self, to: &str, path: &str, owner: Ids, time: Option<i64>) -> Result<()> {
        let at = self.destination(path, false)?;
        let (parent, name) = self.vacate(&at)?;
        sys::symlinkat(to, &parent, &name).map_err(failed("make", &at))?;
        self.finish_link(&parent, &name, &at, &Attributes::new(0o777, owner, time))
    }

    /// Removes a file, or a directory with all that is inside.
    pub fn remove(&self, path: &str, allow_missing: bool, wildcard: bool) -> Result<()> {
        let path = Path::new(path);
        let missing = || match allow_missing {
            true => Ok(()),
            false => {
                let path = path.strip_prefix("/").unwrap_or(path).into();
                Err(FileError::Missing { path, place: Place::Target })
            }
        };
        let Some(name) = path.file_name() else { return missing() };
        let parent = path.parent().unwrap_or(Path::new(""));
        let Some(parent) = self.root.find(parent, true)? else {
            return missing();
        };
        let directory = match self.root.stat(&parent)? {
            Some(stat) if kind(&stat) == FileType::Directory => self.root.directory(&parent)?,
            _ => return missing(),
        };
        let text = name.to_string_lossy();
        let all = match wildcard && Glob::is_pattern(&text) {
            true => {
                let glob = Glob::new(&text, Stars::Single)?;
                let mut all = self.root.names(&parent)?;
                all.retain(|name| glob.matches(&name.to_string_lossy()));
                all
            }
            false if self.root.stat(&parent.join(name))?.is_some() => vec![name.to_owned()],
            false => Vec::new(),
        };
        if all.is_empty() {
            return missing();
        }
        all.iter().try_for_each(|name| {
            remove_all(&directory, name).map_err(failed("remove", parent.join(name)))
        })
    }

    /// Where something is to be made, whose parent must be there.
    fn destination(&self, path: &str, follow: bool) -> Result<PathBuf> {
        let at = self.root.resolve(Path::new(path), follow)?;
        match at.parent() {
            Some(parent) if self.root.stat(parent)?.is_none() => {
                Err(FileError::Missing { path: parent.into(), place: Place::Target })
            }
            _ => Ok(at),
        }
    }

    /// Makes all directories of a path that are not there, and gives none other a look.
    pub(super) fn make_directories(
        &self,
        path: &Path,
        mode: u32,
        owner: Ids,
        time: Option<i64>,
    ) -> Result<()> {
        let path = self.root.resolve(path, true)?;
        let mut at = PathBuf::new();
        for name in path.iter() {
            at.push(name);
            match self.root.stat(&at)?.map(|stat| kind(&stat)) {
                Some(FileType::Directory) => {}
                Some(_) => return Err(FileError::NotDirectory(at)),
                None => self.make_directory(&at, mode, owner, time)?,
            }
        }
        Ok(())
    }

    fn make_directory(&self, at: &Path, mode: u32, owner: Ids, time: Option<i64>) -> Result<()> {
        self.directory(at)?;
        self.finish(self.root.directory(at)?, at, &Attributes::new(mode, owner, time))
    }

    /// Makes a directory unless there is one, and tells whether it did.
    pub(super) fn directory(&self, at: &Path) -> Result<bool> {
        match self.root.stat(at)? {
            Some(stat) if kind(&stat) == FileType::Directory => Ok(false),
            Some(_) => Err(FileError::OverFile(at.into())),
            None if self.links.is_some_and(|links| links.contains(at)) => {
                Err(FileError::OverFile(at.into()))
            }
            None => {
                let (parent, name) = self.root.parent(at)?;
                sys::mkdirat(&parent, &name, Mode::from_raw_mode(0o700))
                    .map_err(failed("make", at))?;
                Ok(true)
            }
        }
    }

    /// Removes what is at a path, if it is no directory; gives the directory it was in.
    pub(super) fn vacate(&self, at: &Path) -> Result<(OwnedFd, OsString)> {
        if let Some(links) = self.links {
            links.forget(at);
        }
        match self.root.stat(at)? {
            Some(stat) if kind(&stat) == FileType::Directory => {
                Err(FileError::OverDirectory(at.into()))
            }
            Some(_) => {
                let (parent, name) = self.root.parent(at)?;
                sys::unlinkat(&parent, &name, AtFlags::empty()).map_err(failed("replace", at))?;
                Ok((parent, name))
            }
            None => self.root.parent(at),
        }
    }

    /// Makes an empty file, over one that is there.
    pub(super) fn create(&self, at: &Path) -> Result<File> {
        let (parent, name) = self.vacate(at)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::openat(&parent, &name, flags, Mode::from_raw_mode(0o600));
        Ok(File::from(file.map_err(failed("make", at))?))
    }

    fn attributes(&self, entry: &Entry, view: &View, target: &Target) -> Result<Attributes> {
        let is_directory = matches!(entry.kind, Kind::Directory);
        let has_xattrs = is_directory || matches!(entry.kind, Kind::File { .. });
        let xattrs = match view.place {
            Place::Image if has_xattrs => portable_xattrs(&view.root, entry)?,
            _ => Vec::new(),
        };
        let own = match view.place {
            Place::Image => entry.mtime,
            Place::Context | Place::Target => self.epoch,
        };
        Ok(Attributes {
            mode: target.mode.apply(entry.mode, is_directory),
            owner: target.owner.unwrap_or((entry.uid, entry.gid)),
            time: Some(target.time.map_or(Timespec { tv_sec: own, tv_nsec: 0 }, timespec)),
            xattrs,
        })
    }

    /// Gives an open file or directory its attributes.
    pub(super) fn finish(&self, fd: impl AsFd, at: &Path, attributes: &Attributes) -> Result<()> {
        attributes.put(fd, at, self.ownership)
    }

    /// Gives a link or a pipe its owner and time.
    pub(super) fn finish_link(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        at: &Path,
        attributes: &Attributes,
    ) -> Result<()> {
        if self.ownership == Ownership::Real {
            let (uid, gid) = attributes.owner;
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            sys::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("change the owner of", at))?;
        }
        match attributes.time {
            Some(time) => sys::utimensat(parent, name, &both(time), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("set the time of", at)),
            None => Ok(()),
        }
    }
}

impl Attributes {
    fn new(mode: u32, owner: Ids, time: Option<i64>) -> Self {
        Self { mode: mode & 0o7777, owner, time: time.map(timespec), xattrs: Vec::new() }
    }

    /// A digest of a file of a context, which has no more than these and its content, given by
    /// its SHA-256.
    fn digest(&self, content: &[u8; 32]) -> String {
        let (uid, gid) = self.owner;
        let time = self.time.map(|time| (time.tv_sec, time.tv_nsec));
        let mut sha = Sha256::new();
        sha.update(content);
        sha.update(format!("{:o} {uid} {gid} {time:?}", self.mode));
        Digest::from_bytes(sha.finalize().into()).hex().to_owned()
    }

    /// Gives them to an open file or directory.
    pub(super) fn put(&self, fd: impl AsFd, at: &Path, ownership: Ownership) -> Result<()> {
        let fd = fd.as_fd();
        let (uid, gid) = self.owner;
        match ownership {
            Ownership::Real => {
                sys::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(failed("change the owner of", at))?;
            }
            Ownership::Recorded => {
                let owner = format!("{uid}:{gid}");
                sys::fsetxattr(fd, OWNER_XATTR, owner.as_bytes(), XattrFlags::empty())
                    .map_err(failed("record the owner of", at))?;
            }
            Ownership::Ignored => {}
        }
        // A change of the owner takes set-user-ID away.
        sys::fchmod(fd, Mode::from_raw_mode(self.mode))
            .map_err(failed("set the permissions of", at))?;
        for (name, value) in &self.xattrs {
            match sys::fsetxattr(fd, name, value, XattrFlags::empty()) {
                // A file system without attributes, or a namespace without the right to give
                // capabilities away: the file is of use without.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(e) => return Err(failed("set an attribute of", at)(e)),
            }
        }
        match self.time {
            Some(time) => sys::futimens(fd, &both(time)).map_err(failed("set the time of", at)),
            None => Ok(()),
        }
    }
}

/// The owner that was recorded for a file or directory.
pub(super) fn owner_of(root: &Root, path: &Path) -> Result<Option<Ids>> {
    let file = root.file(path)?;
    match sized(|buffer| sys::fgetxattr(&file, OWNER_XATTR, buffer)) {
        Ok(value) => Ok(recorded_owner(&value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(failed("read the owner of", path)(e)),
    }
}

/// The attributes of a file that go where it goes.
fn portable_xattrs(root: &Root, entry: &Entry) -> Result<Vec<(OsString, Vec<u8>)>> {
    let path = &entry.source;
    let file = root.file(path)?;
    let read = |call: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>| match sized(call) {
        Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(Vec::new()),
        other => other.map_err(failed("read the attributes of", path)),
    };
    let list = read(&|buffer| sys::flistxattr(&file, buffer))?;
    let names = list.split(|&b| b == 0).map(OsStr::from_bytes).filter(|name| is_portable(name));
    let mut names: Vec<_> = names.map(OsStr::to_owned).collect();
    names.sort();
    let with_value = |name: OsString| {
        let value = read(&|buffer| sys::fgetxattr(&file, &name, buffer))?;
        Ok((name, value))
    };
    names.into_iter().map(with_value).collect()
}

/// Removes a file, or a directory with all that is inside. Links are removed, not followed.
pub(super) fn remove_all(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match sys::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return Ok(other?),
    }
    let directory = open_directory(parent, name)?;
    for inner in names(&directory)? {
        remove_all(&directory, &inner)?;
    }
    Ok(sys::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    sys::openat(parent, name, flags, Mode::empty())
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A time in nanoseconds since 1970.
fn timespec(nanoseconds: i64) -> Timespec {
    const SECOND: i64 = 1_000_000_000;
    Timespec {
        tv_sec: nanoseconds.div_euclid(SECOND),
        tv_nsec: nanoseconds.rem_euclid(SECOND) as _,
    }
}

fn both(time: Timespec) -> Timestamps {
    Timestamps { last_access: time, last_modification: time }
}
