//! Opening files, telling what they are, descriptors.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Open, flag};
use crate::initrd::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};
use crate::proc::{self, Facts};
use crate::stat::{self, Stat};
use crate::stream::Pipe;
use crate::system::{STDIN, System};
use crate::tree::{Inode, Node, PAGE, Place, device};
use crate::user;
use alloc::rc::Rc;
use alloc::vec::Vec;
use rand_chacha::rand_core::RngCore as _;

/// Stands for the working directory where a directory's descriptor is asked for.
pub(super) const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const AT_EMPTY_PATH: u64 = 0x1000;
/// Bits of a mode that a program can choose.
pub(super) const PERMISSIONS: u64 = 0o7777;

impl<S: System> Kos<'_, S> {
    pub(super) fn openat(&mut self, at: u64, path: u64, flags: u64, mode: u64) -> Result {
        match self.open(at, path, flags, mode) {
            // A pipe that nobody reads yet.
            Err(Errno::AGAIN) => Err(self.block(None)),
            result => {
                if matches!(result, Ok(fd) if self.is_pipe(fd)) {
                    self.changed();
                }
                result
            }
        }
    }

    fn is_pipe(&self, fd: u64) -> bool {
        self.files.get(fd).is_ok_and(|open| matches!(open.object, Object::Pipe(_)))
    }

    fn open(&mut self, at: u64, path: u64, flags: u64, mode: u64) -> Result {
        let (path, flags) = (user::path(path)?, flags as u32);
        self.system.reserve(self.files.cost(0) + RESERVE)?;
        if flags & (flag::CREAT | flag::TMPFILE | flag::TRUNC) != 0 {
            self.stamp()?;
        }
        let object = if flags & flag::PATH != 0 {
            let node = self.find(at, path, flags & flag::NOFOLLOW == 0)?;
            if flags & flag::DIRECTORY != 0 && !self.tree.is_directory(&node) {
                return Err(Errno::NOTDIR);
            }
            Object::Path(node)
        } else if flags & flag::TMPFILE != 0 {
            if flags & flag::ACCESS == flag::RDONLY || flags & flag::DIRECTORY == 0 {
                return Err(Errno::INVAL);
            }
            let node = self.find(at, path, true)?;
            if !self.tree.is_directory(&node) {
                return Err(Errno::NOTDIR);
            }
            let directory = self.tree.directory(&node)?;
            let mode = (mode & PERMISSIONS) as u32 & !self.tree.umask;
            let file = self.tree.regular(mode);
            file.device.set(directory.device.get());
            Object::Regular(file)
        } else if flags & flag::CREAT != 0 {
            if path.last() == Some(&b'/') {
                // Whatever is there.
                return Err(self.place(at, path, false).err().unwrap_or(Errno::ISDIR));
            }
            let follow = flags & (flag::NOFOLLOW | flag::EXCL) == 0;
            let place = self.place(at, path, follow)?;
            match &place.node {
                None if place.directory => return Err(Errno::ISDIR),
                None => {
                    let mode = (mode & PERMISSIONS) as u32 & !self.tree.umask;
                    let regular = self.tree.regular(mode);
                    Object::Regular(self.tree.enter(&place, regular)?)
                }
                Some(_) if flags & flag::EXCL != 0 => return Err(Errno::EXIST),
                Some(node) if self.tree.is_directory(node) => return Err(Errno::ISDIR),
                Some(_) => {
                    let node = place.node(&self.tree)?;
                    self.object(&node, flags)?
                }
            }
        } else {
            let node = self.find(at, path, flags & flag::NOFOLLOW == 0)?;
            self.object(&node, flags)?
        };
        self.files.open(object, flags)
    }

    /// What is opened where a file is.
    fn object(&mut self, node: &Node, flags: u32) -> Result<Object> {
        let writes = flags & flag::ACCESS != flag::RDONLY;
        let file = match node {
            Node::Archive(lower) => Some(self.tree.initrd.file(*lower)),
            _ => None,
        };
        let kind = file.map_or_else(|| self.tree.kind(node), |file| file.kind);
        if kind == S_IFDIR {
            return if writes { Err(Errno::ISDIR) } else { Ok(Object::Directory(node.clone())) };
        }
        if flags & flag::DIRECTORY != 0 {
            return Err(Errno::NOTDIR);
        }
        if let Some(file) = file.filter(|_| kind == S_IFREG && !writes && flags & flag::TRUNC == 0)
        {
            return Ok(Object::File(file));
        }
        match (node, kind) {
            (_, S_IFLNK) => Err(Errno::LOOP),
            (Node::Archive(_) | Node::Upper(_), S_IFREG) => {
                let inode = self.tree.upper(node)?;
                if flags & flag::TRUNC != 0 {
                    self.set_size(&inode, 0)?;
                }
                Ok(Object::Regular(inode))
            }
            (Node::Fixed(fixed), _) if writes && !fixed.is_writable() => {
                Err(if fixed.device() == device::SYS { Errno::ROFS } else { Errno::ACCES })
            }
            (Node::Fixed(fixed), _) => fixed.open(),
            (Node::Upper(_), S_IFCHR) => proc::open_device(self.tree.stat(node).rdev),
            (Node::Open(open), _) => reopen(open, flags),
            (Node::Archive(_) | Node::Upper(_), S_IFIFO) => {
                let inode = self.tree.upper(node)?;
                open_pipe(&self.tree.pipe(&inode), flags)
            }
            // A socket, or a device that is not here.
            _ => Err(Errno::NXIO),
        }
    }

    pub(super) fn fstat(&mut self, fd: u64, into: u64) -> Result {
        let stat = self.stat_of(self.files.get(fd)?).stat();
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
            Node::Open(open) => self.stat_of(&open),
            node => self.tree.stat(&node),
        })
    }

    pub(super) fn stat_of(&self, open: &Open) -> Stat {
        match &open.object {
            Object::File(file) => match self.tree.changed(file) {
                None => Stat::archive(self.tree.initrd.meta_of(file)),
                Some(inode) => Stat::inode(inode),
            },
            Object::Regular(inode) => Stat::inode(inode),
            Object::Directory(node) | Object::Path(node) => match self.tree.current(node) {
                Node::Open(open) => self.stat_of(&open),
                node => self.tree.stat(&node),
            },
            Object::Text(text) => text.file().stat(self.tree.now),
            Object::Pipe(end) => match self.tree.fifo(end.pipe.ino) {
                Some(inode) => Stat::inode(&inode),
                None => Stat::nameless(S_IFIFO | 0o600, end.pipe.ino),
            },
            Object::Socket(socket) => Stat::nameless(S_IFSOCK | 0o777, socket.ino),
            Object::Counter(_) | Object::Timer(_) | Object::Epoll(_) => Stat::nameless(0o600, 1),
            // What it is without -i, under docker as here: it has no size and no place.
            Object::Console(STDIN) => Stat::device(3),
            Object::Console(stream) => Stat::stream(*stream),
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
        let node = self.look(at, path, flags)?;
        let kind = self.tree.kind(&node);
        match &node {
            Node::Fixed(fixed) if mode & WRITE != 0 && !fixed.is_writable() => {
                return Err(Errno::ROFS);
            }
            _ => {}
        }
        // Root may do everything but execute what nobody may.
        let executable = kind == S_IFDIR || self.tree.stat(&node).mode & 0o111 != 0;
        if mode & EXECUTE != 0 && !executable { Err(Errno::ACCES) } else { Ok(0) }
    }

    pub(super) fn readlinkat(&mut self, at: u64, path: u64, into: u64, size: u64) -> Result {
        let node = self.look(at, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
        if size as i64 <= 0 {
            return Err(Errno::INVAL);
        }
        let target = match &node {
            Node::Fixed(fixed) if fixed.descriptor().is_some() => {
                let open = self.files.get(fixed.descriptor().unwrap_or(u64::MAX))?.clone();
                self.name_of(&open)
            }
            node => self.tree.target(node)?,
        };
        let target = &target[..target.len().min(size as usize)];
        user::bytes_mut(into, target.len() as u64)?.copy_from_slice(target);
        Ok(target.len() as u64)
    }

    /// What a link in `/proc/self/fd` says.
    fn name_of(&self, open: &Open) -> Vec<u8> {
        let node = match &open.object {
            Object::File(file) => self.tree.current(&Node::Archive(file.node)),
            Object::Regular(inode) => Node::Upper(inode.clone()),
            Object::Directory(node) | Object::Path(node) => self.tree.current(node),
            Object::Text(text) => Node::Fixed(text.file()),
            Object::Pipe(end) => match self.tree.fifo(end.pipe.ino) {
                Some(inode) => Node::Upper(inode),
                None => return alloc::format!("pipe:[{}]", end.pipe.ino).into_bytes(),
            },
            Object::Socket(socket) => {
                return alloc::format!("socket:[{}]", socket.ino).into_bytes();
            }
            Object::Counter(_) => return b"anon_inode:[eventfd]".to_vec(),
            Object::Timer(_) => return b"anon_inode:[timerfd]".to_vec(),
            Object::Epoll(_) => return b"anon_inode:[eventpoll]".to_vec(),
            Object::Console(stream) => return alloc::format!("pipe:[{stream}]").into_bytes(),
            Object::Null => return b"/dev/null".to_vec(),
            Object::Zero => return b"/dev/zero".to_vec(),
            Object::Full => return b"/dev/full".to_vec(),
            Object::Random => return b"/dev/urandom".to_vec(),
        };
        let (mut path, alive) = self.tree.path(&node);
        if !alive {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    /// Lists a directory.
    pub(super) fn getdents(&mut self, fd: u64, into: u64, size: u64) -> Result {
        self.system.reserve(RESERVE)?;
        let open = self.files.get(fd)?;
        let Object::Directory(directory) = &open.object else { return Err(Errno::NOTDIR) };
        let directory = self.tree.current(directory);
        if matches!(&directory, Node::Upper(inode) if inode.is_dead()) {
            return Err(Errno::NOENT);
        }
        let out = user::bytes_mut(into, size)?;
        let mut done = 0;
        while let Some((name, node, next)) =
            self.tree.list(&directory, open.offset.get(), &self.files)
        {
            let Stat { ino, mode, .. } = self.tree.stat(&node);
            match stat::dirent(&mut out[done..], ino, next, mode & S_IFMT, &name) {
                Some(size) => done += size,
                None if done == 0 => return Err(Errno::INVAL),
                None => break,
            }
            open.offset.set(next);
        }
        Ok(done as u64)
    }

    pub(super) fn getcwd(&mut self, into: u64, size: u64) -> Result {
        self.system.reserve(RESERVE)?;
        let (path, alive) = self.tree.path(&self.tree.current(&self.tree.cwd));
        if !alive {
            return Err(Errno::NOENT);
        }
        let length = path.len() as u64 + 1;
        if length > size {
            return Err(Errno::RANGE);
        }
        let out = user::bytes_mut(into, length)?;
        out[..path.len()].copy_from_slice(&path);
        out[path.len()] = 0;
        Ok(length)
    }

    pub(super) fn chdir(&mut self, path: u64) -> Result {
        self.enter(user::path(path)?)
    }

    pub(super) fn fchdir(&mut self, fd: u64) -> Result {
        let (Object::Directory(node) | Object::Path(node)) = &self.files.get(fd)?.object else {
            return Err(Errno::NOTDIR);
        };
        if !self.tree.is_directory(node) {
            return Err(Errno::NOTDIR);
        }
        self.tree.cwd = node.clone();
        Ok(0)
    }

    /// Makes a directory the working directory.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result {
        self.prepare()?;
        let node = self.find(AT_FDCWD as u64, path, true)?;
        if !self.tree.is_directory(&node) {
            return Err(Errno::NOTDIR);
        }
        self.tree.cwd = node;
        Ok(0)
    }

    pub(super) fn close(&mut self, fd: u64) -> Result {
        let open = self.files.close(fd)?;
        self.let_go(open);
        Ok(0)
    }

    /// Lets go of an open file. If it was the last of an end of something, others wait for that.
    pub(super) fn let_go(&mut self, open: Rc<Open>) {
        let plain = matches!(open.object, Object::File(_) | Object::Regular(_));
        let last = Rc::strong_count(&open) == 1;
        drop(open);
        if last && !plain {
            self.changed();
        }
    }

    /// Closes all descriptors from `first` to `last`, or has `execve` close them.
    pub(super) fn close_range(&mut self, first: u64, last: u64, flags: u64) -> Result {
        const UNSHARE: u64 = 2;
        const CLOEXEC: u64 = 4;
        let (first, last) = (u64::from(first as u32), u64::from(last as u32));
        if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
            return Err(Errno::INVAL);
        }
        let mut from = first;
        while let Some(fd) = self.files.next(from).filter(|&fd| fd <= last) {
            if flags & CLOEXEC != 0 {
                *self.files.cloexec(fd)? = true;
            } else {
                self.close(fd)?;
            }
            from = fd + 1;
        }
        Ok(0)
    }

    pub(super) fn dup(&mut self, fd: u64) -> Result {
        self.system.reserve(self.files.cost(0))?;
        self.files.duplicate(fd, 0, false)
    }

    pub(super) fn dup3(&mut self, fd: u64, to: u64, flags: u64) -> Result {
        if flags & !u64::from(flag::CLOEXEC) != 0 {
            return Err(Errno::INVAL);
        }
        self.system.reserve(self.files.cost(to))?;
        let before = self.files.get(to).ok().cloned();
        let result = self.files.replace(fd, to, flags != 0);
        before.into_iter().for_each(|open| self.let_go(open));
        result
    }

    pub(super) fn fcntl(&mut self, fd: u64, command: u64, argument: u64) -> Result {
        const DUPFD: u64 = 0;
        const GETFD: u64 = 1;
        const SETFD: u64 = 2;
        const GETFL: u64 = 3;
        const SETFL: u64 = 4;
        const GETLK: u64 = 5;
        const SETLK: u64 = 6;
        const SETLKW: u64 = 7;
        const DUPFD_CLOEXEC: u64 = 1030;
        const SETPIPE_SZ: u64 = 1031;
        const GETPIPE_SZ: u64 = 1032;
        const CHANGEABLE: u32 = flag::APPEND | flag::NONBLOCK | flag::DIRECT;
        match command as u32 as u64 {
            command @ (DUPFD | DUPFD_CLOEXEC) => {
                self.system.reserve(self.files.cost(argument))?;
                self.files.duplicate(fd, argument, command == DUPFD_CLOEXEC)
            }
            GETFD => self.files.cloexec(fd).map(|&mut cloexec| u64::from(cloexec)),
            SETFD => {
                *self.files.cloexec(fd)? = argument & 1 != 0;
                Ok(0)
            }
            GETFL => self.files.get(fd).map(|open| u64::from(open.flags.get())),
            SETFL => {
                let open = self.files.get(fd)?;
                let flags = open.flags.get() & !CHANGEABLE | argument as u32 & CHANGEABLE;
                open.flags.set(flags);
                Ok(0)
            }
            // Locks of a process are against other processes, and there are none.
            SETLK | SETLKW => self.files.get(fd).map(|_| 0),
            GETLK => {
                const UNLOCKED: u8 = 2;
                self.files.get(fd)?;
                user::bytes_mut(argument, 2)?.copy_from_slice(&[UNLOCKED, 0]);
                Ok(0)
            }
            SETPIPE_SZ | GETPIPE_SZ => {
                let Object::Pipe(end) = &self.files.get(fd)?.object else {
                    return Err(Errno::BADF);
                };
                if command == GETPIPE_SZ {
                    return Ok(end.pipe.capacity() as u64);
                }
                end.pipe.set_capacity(argument)
            }
            _ => self.files.get(fd).and(Err(Errno::INVAL)),
        }
    }

    /// No descriptor is a terminal, as without `docker run -t`.
    pub(super) fn ioctl(&mut self, fd: u64, command: u64, argument: u64) -> Result {
        const FIONCLEX: u64 = 0x5450;
        const FIOCLEX: u64 = 0x5451;
        const FIONBIO: u64 = 0x5421;
        const FIONREAD: u64 = 0x541b;
        self.files.get(fd)?;
        match command as u32 as u64 {
            command @ (FIOCLEX | FIONCLEX) => {
                *self.files.cloexec(fd)? = command == FIOCLEX;
                Ok(0)
            }
            FIONBIO => {
                let set = user::bytes(argument, 4)?.iter().any(|&byte| byte != 0);
                let flags = &self.files.get(fd)?.flags;
                let others = flags.get() & !flag::NONBLOCK;
                flags.set(if set { others | flag::NONBLOCK } else { others });
                Ok(0)
            }
            FIONREAD => {
                let open = self.files.get(fd)?;
                let left = match (&open.object, self.stat_of(open)) {
                    (Object::Pipe(end), _) => end.pipe.length() as u64,
                    (Object::Socket(socket), _) if socket.is_listening() => {
                        return Err(Errno::INVAL);
                    }
                    (Object::Socket(socket), _) => socket.waiting() as u64,
                    (_, Stat { mode, size, .. }) if mode & S_IFMT == S_IFREG => {
                        size.saturating_sub(open.offset.get())
                    }
                    _ => return Err(Errno::NOTTY),
                };
                let left = left.min(i32::MAX as u64) as u32;
                user::bytes_mut(argument, 4)?.copy_from_slice(&left.to_le_bytes());
                Ok(0)
            }
            _ => Err(Errno::NOTTY),
        }
    }

    /// Files are in memory only; streams cannot be waited for.
    pub(super) fn fsync(&mut self, fd: u64) -> Result {
        match self.files.get(fd)?.object {
            Object::File(_) | Object::Regular(_) | Object::Directory(_) => Ok(0),
            Object::Path(_) => Err(Errno::BADF),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn statfs(&mut self, path: u64, into: u64) -> Result {
        let node = self.look(AT_FDCWD as u64, path, 0)?;
        let device = self.tree.stat(&node).device;
        self.tell_statfs(device, into)
    }

    pub(super) fn fstatfs(&mut self, fd: u64, into: u64) -> Result {
        let device = self.stat_of(self.files.get(fd)?).device;
        self.tell_statfs(device, into)
    }

    /// `struct statfs`. What is free is what the container has left, for whatever purpose.
    fn tell_statfs(&mut self, device: u32, into: u64) -> Result {
        const NAME_MAX: u64 = 255;
        const BLOCK: u64 = PAGE as u64;
        // The flag says that the flags are valid; the others are noatime and read-only.
        let (kind, flags) = match device {
            device::ROOT => (0x794c_7630, 0x420),
            device::DEV => (0x0102_1994, 0x420),
            device::PROC => (0x9fa0, 0x420),
            device::SYS => (0x6265_6572, 0x421),
            _ => (0x5049_5045, 0x20),
        };
        let (all, free) = match device {
            device::ROOT | device::DEV => {
                let free = self.free_pages();
                (free + self.tree.pool.used() + self.info.initrd_size.div_ceil(BLOCK), free)
            }
            _ => (0, 0),
        };
        // Type, block size, blocks, free ones (2), files, free ones, id, longest name,
        // fragment size.
        let id = u64::from(device);
        user::set_words(into, &[kind, BLOCK, all, free, free, all, free, id, NAME_MAX, BLOCK])?;
        user::set_words(into + 80, &[flags])?;
        user::bytes_mut(into + 88, 32)?.fill(0);
        Ok(0)
    }

    /// Pages that files could still take.
    fn free_pages(&self) -> u64 {
        self.system.free_pages() + self.tree.pool.spare()
    }

    /// What there is to be told in `/proc`.
    pub(super) fn with_facts<T>(&mut self, tell: impl FnOnce(&Facts<'_>) -> T) -> T {
        let mut draw =
            || u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        let boot_id = *self.boot_id.get_or_insert_with(&mut draw);
        let uuid = draw();
        // The process has its first thread's.
        let name = &self.threads[0].name;
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        tell(&Facts {
            info: &self.info,
            process: self.process,
            memory: &self.memory,
            tree: &self.tree,
            files: &self.files,
            name: &name[..length],
            now: self.now(1).unwrap_or(0),
            started: self.now(1).unwrap_or(0).saturating_sub(self.now(2).unwrap_or(0)),
            free: self.free_pages(),
            boot_id,
            uuid,
            oom_score_adj: self.oom_score_adj,
        })
    }

    /// Makes sure that a call which changes files can allocate, and knows the time.
    pub(super) fn prepare(&mut self) -> Result<()> {
        self.system.reserve(RESERVE)?;
        self.stamp()
    }

    /// Takes the time for what is changed.
    pub(super) fn stamp(&mut self) -> Result<()> {
        self.tree.now = self.now(0)? as i64;
        Ok(())
    }

    /// What a path leads to, for calls with the flags AT_….
    pub(super) fn look(&mut self, at: u64, path: u64, flags: u64) -> Result<Node> {
        self.system.reserve(RESERVE)?;
        let path = user::path(path)?;
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if at as i32 != AT_FDCWD {
                return Ok(self.node_of(self.files.get(at)?));
            }
            return Ok(self.tree.current(&self.tree.cwd));
        }
        self.find(at, path, flags & AT_SYMLINK_NOFOLLOW == 0)
    }

    /// As [`Kos::look`], for a call that follows links only if it is told so.
    pub(super) fn look_at_link(&mut self, at: u64, path: u64, flags: u64) -> Result<Node> {
        let follow = if flags & AT_SYMLINK_FOLLOW == 0 { AT_SYMLINK_NOFOLLOW } else { 0 };
        self.look(at, path, flags & AT_EMPTY_PATH | follow)
    }

    /// The file of the tree that an open file is.
    pub(super) fn node_of(&self, open: &Rc<Open>) -> Node {
        match &open.object {
            Object::File(file) => self.tree.current(&Node::Archive(file.node)),
            Object::Regular(inode) => Node::Upper(inode.clone()),
            Object::Directory(node) | Object::Path(node) => self.tree.current(node),
            Object::Text(text) => self.tree.current(&Node::Fixed(text.file())),
            _ => Node::Open(open.clone()),
        }
    }

    /// Follows a path from the directory with the descriptor `at`.
    pub(super) fn find(&self, at: u64, path: &[u8], follow: bool) -> Result<Node> {
        self.tree.find(&self.base(at, path)?, path, follow, &self.files)
    }

    /// Follows a path to a place where something is made, moved or removed. Where a link at its
    /// end is not followed, it is not even with a slash behind it.
    pub(super) fn place(&self, at: u64, path: &[u8], follow: bool) -> Result<Place> {
        let base = self.base(at, path)?;
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        if follow || end == 0 || end == path.len() {
            return self.tree.walk(&base, path, follow, &self.files);
        }
        let mut place = self.tree.walk(&base, &path[..end], false, &self.files)?;
        place.directory = true;
        Ok(place)
    }

    /// The directory from which a path is followed.
    fn base(&self, at: u64, path: &[u8]) -> Result<Node> {
        if path.first() == Some(&b'/') {
            return Ok(self.tree.root());
        }
        if at as i32 == AT_FDCWD {
            return Ok(self.tree.current(&self.tree.cwd));
        }
        let (Object::Directory(node) | Object::Path(node)) = &self.files.get(at)?.object else {
            return Err(if path.is_empty() { Errno::NOENT } else { Errno::NOTDIR });
        };
        Ok(self.tree.current(node))
    }

    /// Makes a file as long as this.
    pub(super) fn set_size(&self, inode: &Inode, size: u64) -> Result {
        let contents = inode.contents().ok_or(Errno::INVAL)?;
        contents.borrow_mut().truncate(size)?;
        inode.touch(self.tree.now);
        Ok(0)
    }
}

/// Opens what a link in `/proc/self/fd` leads to once more.
fn reopen(open: &Open, flags: u32) -> Result<Object> {
    Ok(match &open.object {
        Object::Pipe(end) => open_pipe(&end.pipe, flags)?,
        Object::Console(stream) => Object::Console(*stream),
        Object::Null => Object::Null,
        Object::Zero => Object::Zero,
        Object::Full => Object::Full,
        Object::Random => Object::Random,
        _ => return Err(Errno::NXIO),
    })
}

/// Opens a pipe by its name.
fn open_pipe(pipe: &Rc<Pipe>, flags: u32) -> Result<Object> {
    let access = flags & flag::ACCESS;
    if access == flag::WRONLY && !pipe.has_reader() {
        // Who may wait is told to try again.
        return Err(if flags & flag::NONBLOCK != 0 { Errno::NXIO } else { Errno::AGAIN });
    }
    Ok(Object::Pipe(pipe.end(access != flag::WRONLY, access != flag::RDONLY)))
}
