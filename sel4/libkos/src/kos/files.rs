//! Files and descriptors.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, flag};
use crate::initrd::{File, Node, Place, S_IFDIR, S_IFLNK, S_IFREG};
use crate::stat::{self, Stat};
use crate::system::{STDERR, STDOUT, System};
use crate::user;

/// Stands for the working directory where a directory's descriptor is asked for.
const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_EMPTY_PATH: u64 = 0x1000;

/// What a path leads to.
enum Found {
    Node(Node),
    Device(Object),
}

impl<S: System> Kos<'_, S> {
    pub(super) fn openat(&mut self, at: u64, path: u64, flags: u64) -> Result {
        let (path, flags) = (user::path(path)?, flags as u32);
        let object = match self.device(path) {
            Some(_) if flags & flag::DIRECTORY != 0 => return Err(Errno::NOTDIR),
            Some(object) => object,
            None => Object::File(self.file(at, path, flags)?),
        };
        self.system.reserve(self.files.cost())?;
        self.files.open(object, flags)
    }

    /// The file of the archive that `openat` opens.
    fn file(&mut self, at: u64, path: &[u8], flags: u32) -> Result<File> {
        let place = self.walk(at, path, flags & flag::NOFOLLOW == 0)?;
        if flags & flag::CREAT != 0 {
            match place.node {
                None if place.directory => return Err(Errno::ISDIR),
                None => return Err(Errno::ROFS),
                Some(_) if flags & flag::EXCL != 0 => return Err(Errno::EXIST),
                Some(_) => {}
            }
        }
        let node = place.node(&self.initrd)?;
        let writes = flags & flag::ACCESS != flag::RDONLY;
        let file = self.initrd.file(node);
        if file.is_directory() {
            let creates = flags & flag::CREAT != 0;
            return if writes || creates { Err(Errno::ISDIR) } else { Ok(file) };
        }
        if flags & flag::DIRECTORY != 0 {
            return Err(Errno::NOTDIR);
        }
        if flags & flag::PATH != 0 {
            return Ok(file);
        }
        match file.kind {
            S_IFLNK => Err(Errno::LOOP),
            S_IFREG if writes || flags & flag::TRUNC != 0 => Err(Errno::ROFS),
            S_IFREG => Ok(file),
            // A pipe or socket of the image, with nobody at the other end (ENXIO).
            _ => Err(Errno(6)),
        }
    }

    /// The devices that every container has, whatever its image holds.
    fn device(&self, path: &[u8]) -> Option<Object> {
        Some(match path.strip_prefix(b"/dev/")? {
            b"null" | b"stdin" => Object::Null,
            b"zero" => Object::Zero,
            b"full" => Object::Full,
            b"random" | b"urandom" => Object::Random,
            b"stdout" => Object::Console(STDOUT),
            b"stderr" => Object::Console(STDERR),
            _ => return None,
        })
    }

    pub(super) fn fstat(&mut self, fd: u64, into: u64) -> Result {
        let object = self.files.get(fd)?.object;
        let stat = self.stat_of(object).stat();
        user::bytes_mut(into, stat.len() as u64)?.copy_from_slice(&stat);
        Ok(0)
    }

    pub(super) fn newfstatat(&mut self, at: u64, path: u64, into: u64, flags: u64) -> Result {
        let stat = self.stat_at(at, path, flags)?.stat();
        user::bytes_mut(into, stat.len() as u64)?.copy_from_slice(&stat);
        Ok(0)
    }

    pub(super) fn statx(&mut self, at: u64, path: u64, flags: u64, into: u64) -> Result {
        let stat = self.stat_at(at, path, flags)?.statx();
        user::bytes_mut(into, stat.len() as u64)?.copy_from_slice(&stat);
        Ok(0)
    }

    fn stat_at(&mut self, at: u64, path: u64, flags: u64) -> Result<Stat> {
        Ok(match self.look(at, path, flags)? {
            Found::Node(node) => Stat::file(self.initrd.meta(node)),
            Found::Device(object) => self.stat_of(object),
        })
    }

    fn stat_of(&self, object: Object) -> Stat {
        match object {
            Object::File(file) => Stat::file(self.initrd.meta_of(&file)),
            Object::Console(stream) => Stat::pipe(stream),
            Object::Null => Stat::device(3),
            Object::Zero => Stat::device(5),
            Object::Full => Stat::device(7),
            Object::Random => Stat::device(9),
        }
    }

    pub(super) fn faccessat(&mut self, at: u64, path: u64, mode: u64, flags: u64) -> Result {
        const EXECUTE: u64 = 1;
        const WRITE: u64 = 2;
        if mode > 7 {
            return Err(Errno::INVAL);
        }
        let Found::Node(node) = self.look(at, path, flags)? else {
            return if mode & EXECUTE != 0 { Err(Errno::ACCES) } else { Ok(0) };
        };
        let permissions = self.initrd.meta(node).mode;
        if mode & WRITE != 0 && matches!(self.initrd.kind(node), S_IFREG | S_IFDIR | S_IFLNK) {
            return Err(Errno::ROFS);
        }
        // Root may do everything but execute what nobody may.
        if mode & EXECUTE != 0 && permissions & 0o111 == 0 {
            return Err(Errno::ACCES);
        }
        Ok(0)
    }

    pub(super) fn readlinkat(&mut self, at: u64, path: u64, into: u64, size: u64) -> Result {
        let Found::Node(node) = self.look(at, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)? else {
            return Err(Errno::INVAL);
        };
        if size == 0 || self.initrd.kind(node) != S_IFLNK {
            return Err(Errno::INVAL);
        }
        let target = self.initrd.data(node);
        let target = &target[..target.len().min(size as usize)];
        user::bytes_mut(into, target.len() as u64)?.copy_from_slice(target);
        Ok(target.len() as u64)
    }

    /// Lists a directory. The offset counts `.`, then `..`, then places of the index.
    pub(super) fn getdents(&mut self, fd: u64, into: u64, size: u64) -> Result {
        let open = self.files.get(fd)?;
        let directory = match open.object {
            Object::File(file) if file.is_directory() => file.node,
            _ => return Err(Errno::NOTDIR),
        };
        let out = user::bytes_mut(into, size)?;
        let mut done = 0;
        loop {
            let (node, name, next) = match open.offset {
                0 => (directory, &b"."[..], 1),
                1 => {
                    let path = self.initrd.path(directory);
                    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    let parent = self.initrd.find(&path[..end]).unwrap_or(directory);
                    (parent, &b".."[..], 2)
                }
                offset => {
                    let from = u32::try_from(offset - 2).unwrap_or(u32::MAX);
                    let Some((node, name)) = self.initrd.child(directory, from) else { break };
                    (node, name, 2 + u64::from(self.initrd.after(node)))
                }
            };
            let meta = self.initrd.meta(node);
            match stat::dirent(&mut out[done..], meta.ino, next, meta.mode, name) {
                Some(size) => done += size,
                None if done == 0 => return Err(Errno::INVAL),
                None => break,
            }
            open.offset = next;
        }
        Ok(done as u64)
    }

    pub(super) fn getcwd(&mut self, into: u64, size: u64) -> Result {
        let length = self.cwd.len() as u64 + 2;
        if length > size {
            return Err(Errno::RANGE);
        }
        let out = user::bytes_mut(into, length)?;
        out[0] = b'/';
        out[1..=self.cwd.len()].copy_from_slice(&self.cwd);
        out[1 + self.cwd.len()] = 0;
        Ok(length)
    }

    pub(super) fn chdir(&mut self, path: u64) -> Result {
        self.enter(user::path(path)?)
    }

    pub(super) fn fchdir(&mut self, fd: u64) -> Result {
        let Object::File(file) = self.files.get(fd)?.object else { return Err(Errno::NOTDIR) };
        if !file.is_directory() {
            return Err(Errno::NOTDIR);
        }
        self.system.reserve(RESERVE)?;
        self.cwd = self.initrd.path(file.node).to_vec();
        Ok(0)
    }

    /// Makes a directory the working directory.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result {
        let place = self.walk(AT_FDCWD as u64, path, true)?;
        if !self.initrd.is_directory(place.node(&self.initrd)?) {
            return Err(Errno::NOTDIR);
        }
        self.cwd = place.path;
        Ok(0)
    }

    pub(super) fn dup(&mut self, fd: u64) -> Result {
        self.system.reserve(self.files.cost())?;
        self.files.duplicate(fd, 0, false)
    }

    pub(super) fn dup3(&mut self, fd: u64, to: u64, flags: u64) -> Result {
        if flags & !u64::from(flag::CLOEXEC) != 0 {
            return Err(Errno::INVAL);
        }
        self.system.reserve(self.files.cost())?;
        self.files.replace(fd, to, flags != 0)
    }

    pub(super) fn fcntl(&mut self, fd: u64, command: u64, argument: u64) -> Result {
        const DUPFD: u64 = 0;
        const GETFD: u64 = 1;
        const SETFD: u64 = 2;
        const GETFL: u64 = 3;
        const SETFL: u64 = 4;
        const SETLK: u64 = 6;
        const SETLKW: u64 = 7;
        const DUPFD_CLOEXEC: u64 = 1030;
        const CHANGEABLE: u32 = flag::APPEND | flag::NONBLOCK;
        match command {
            DUPFD | DUPFD_CLOEXEC => {
                self.system.reserve(self.files.cost())?;
                self.files.duplicate(fd, argument, command == DUPFD_CLOEXEC)
            }
            GETFD => self.files.cloexec(fd).map(|&mut cloexec| u64::from(cloexec)),
            SETFD => {
                *self.files.cloexec(fd)? = argument & 1 != 0;
                Ok(0)
            }
            GETFL => self.files.get(fd).map(|open| u64::from(open.flags)),
            SETFL => {
                let open = self.files.get(fd)?;
                open.flags = open.flags & !CHANGEABLE | argument as u32 & CHANGEABLE;
                Ok(0)
            }
            // Nobody else is here against whom to lock.
            SETLK | SETLKW => self.files.get(fd).map(|_| 0),
            _ => self.files.get(fd).and(Err(Errno::INVAL)),
        }
    }

    /// No descriptor is a terminal, as without `docker run -t`.
    pub(super) fn ioctl(&mut self, fd: u64, command: u64, argument: u64) -> Result {
        const FIONCLEX: u64 = 0x5450;
        const FIOCLEX: u64 = 0x5451;
        const FIONBIO: u64 = 0x5421;
        self.files.get(fd)?;
        match command {
            FIOCLEX | FIONCLEX => {
                *self.files.cloexec(fd)? = command == FIOCLEX;
                Ok(0)
            }
            FIONBIO => {
                let set = user::bytes(argument, 4)?.iter().any(|&byte| byte != 0);
                let open = self.files.get(fd)?;
                open.flags &= !flag::NONBLOCK;
                open.flags |= if set { flag::NONBLOCK } else { 0 };
                Ok(0)
            }
            _ => Err(Errno::NOTTY),
        }
    }

    /// Files are always in step with their archive; streams cannot be waited for.
    pub(super) fn fsync(&mut self, fd: u64) -> Result {
        match self.files.get(fd)?.object {
            Object::File(_) => Ok(0),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn statfs(&mut self, path: u64, into: u64) -> Result {
        self.look(AT_FDCWD as u64, path, 0)?;
        Self::tell_statfs(into)
    }

    /// `struct statfs` of a file system in memory (ramfs) with nothing free.
    pub(super) fn tell_statfs(into: u64) -> Result {
        const RAMFS: u64 = 0x8584_58f6;
        const NAME_MAX: u64 = 255;
        const BLOCK: u64 = 4096;
        // Type, block size, blocks, free ones (2), files, free ones, id, longest name,
        // fragment size, flags (ST_RDONLY, and that the flags are valid).
        user::set_words(into, &[RAMFS, BLOCK, 0, 0, 0, 0, 0, 0, NAME_MAX, BLOCK, 0x21])?;
        user::bytes_mut(into + 88, 32)?.fill(0);
        Ok(0)
    }

    /// What a path leads to, for calls with the flags AT_….
    fn look(&mut self, at: u64, path: u64, flags: u64) -> Result<Found> {
        let path = user::path(path)?;
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if at as i32 != AT_FDCWD {
                return Ok(match self.files.get(at)?.object {
                    Object::File(file) => Found::Node(file.node),
                    object => Found::Device(object),
                });
            }
            let cwd = self.initrd.find(&self.cwd);
            return cwd.map(Found::Node).ok_or(Errno::NOENT);
        }
        if let Some(object) = self.device(path) {
            return Ok(Found::Device(object));
        }
        let place = self.walk(at, path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
        place.node(&self.initrd).map(Found::Node)
    }

    /// Follows a path from the directory with the descriptor `at`.
    fn walk(&mut self, at: u64, path: &[u8], follow: bool) -> Result<Place> {
        self.system.reserve(RESERVE)?;
        let base = if path.first() == Some(&b'/') || path.is_empty() {
            &[]
        } else if at as i32 == AT_FDCWD {
            self.cwd.as_slice()
        } else {
            match self.files.get(at)?.object {
                Object::File(file) if file.is_directory() => self.initrd.path(file.node),
                _ => return Err(Errno::NOTDIR),
            }
        };
        self.initrd.walk(base, path, follow)
    }
}
