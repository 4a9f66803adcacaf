//! Changing the tree of files: making, moving and removing names, and what `stat` tells.

use super::Kos;
use super::files::PERMISSIONS;
use crate::errno::{Errno, Result};
use crate::fd::{Object, flag};
use crate::initrd::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};
use crate::stat::major_minor;
use crate::system::System;
use crate::tree::{Body, Directory, Inode, Node, rename};
use crate::user;
use alloc::rc::Rc;
use core::cell::RefCell;

const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_REMOVEDIR: u64 = 0x200;
const AT_SYMLINK_FOLLOW: u64 = 0x400;
const AT_EMPTY_PATH: u64 = 0x1000;

impl<S: System> Kos<'_, S> {
    pub(super) fn mkdirat(&mut self, at: u64, path: u64, mode: u64) -> Result {
        let body = Body::Directory(RefCell::new(Directory::default()));
        self.make(at, path, S_IFDIR, mode & 0o1777, (0, 0), body)
    }

    pub(super) fn mknodat(&mut self, at: u64, path: u64, mode: u64, number: u64) -> Result {
        let kind = mode as u32 & S_IFMT;
        match kind {
            0 | S_IFREG => {
                self.prepare()?;
                let place = self.place(at, user::path(path)?, false)?;
                let mode = (mode & PERMISSIONS) as u32 & !self.tree.umask;
                let file = self.tree.regular(mode);
                self.tree.enter(&place, file).map(|_| 0)
            }
            S_IFIFO | S_IFSOCK => self.make(at, path, kind, mode, (0, 0), Body::Special),
            S_IFCHR | S_IFBLK => {
                self.make(at, path, kind, mode, major_minor(number), Body::Special)
            }
            S_IFDIR => Err(Errno::PERM),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn symlinkat(&mut self, target: u64, at: u64, path: u64) -> Result {
        let target = user::path(target)?;
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        self.prepare()?;
        let place = self.place(at, user::path(path)?, false)?;
        let body = Body::Link(target.into());
        self.tree.create(&place, S_IFLNK | 0o777, (0, 0), body).map(|_| 0)
    }

    fn make(
        &mut self,
        at: u64,
        path: u64,
        kind: u32,
        mode: u64,
        number: (u32, u32),
        body: Body,
    ) -> Result {
        self.prepare()?;
        let place = self.place(at, user::path(path)?, false)?;
        let mode = kind | (mode & PERMISSIONS) as u32 & !self.tree.umask;
        self.tree.create(&place, mode, number, body).map(|_| 0)
    }

    pub(super) fn linkat(&mut self, from: [u64; 2], to: [u64; 2], flags: u64) -> Result {
        if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        self.stamp()?;
        let node = self.look_at_link(from[0], from[1], flags)?;
        let place = self.place(to[0], user::path(to[1])?, false)?;
        self.tree.link(&node, &place).map(|()| 0)
    }

    pub(super) fn unlinkat(&mut self, at: u64, path: u64, flags: u64) -> Result {
        if flags & !AT_REMOVEDIR != 0 {
            return Err(Errno::INVAL);
        }
        self.prepare()?;
        let place = self.place(at, user::path(path)?, false)?;
        self.tree.remove(&place, flags != 0, &self.files).map(|()| 0)
    }

    pub(super) fn renameat(&mut self, from: [u64; 2], to: [u64; 2], flags: u64) -> Result {
        if flags & !(rename::NOREPLACE | rename::EXCHANGE) != 0 || flags == 3 {
            return Err(Errno::INVAL);
        }
        self.prepare()?;
        let from = self.place(from[0], user::path(from[1])?, false)?;
        let to = self.place(to[0], user::path(to[1])?, false)?;
        self.tree.rename(&from, &to, flags, &self.files).map(|()| 0)
    }

    pub(super) fn fchmodat(&mut self, at: u64, path: u64, mode: u64, flags: u64) -> Result {
        let node = self.look(at, path, flags)?;
        self.chmod(&node, mode)
    }

    pub(super) fn fchmod(&mut self, fd: u64, mode: u64) -> Result {
        let node = self.changing(fd)?;
        self.chmod(&node, mode)
    }

    fn chmod(&mut self, node: &Node, mode: u64) -> Result {
        let inode = self.inode(node)?;
        if inode.kind() == S_IFLNK {
            return Err(Errno::OPNOTSUPP);
        }
        inode.change(self.tree.now, |meta| {
            meta.mode = meta.mode & S_IFMT | (mode & PERMISSIONS) as u32;
        });
        Ok(0)
    }

    pub(super) fn fchownat(
        &mut self,
        at: u64,
        path: u64,
        uid: u64,
        gid: u64,
        flags: u64,
    ) -> Result {
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let node = self.look(at, path, flags)?;
        self.chown(&node, uid as u32, gid as u32)
    }

    pub(super) fn fchown(&mut self, fd: u64, uid: u64, gid: u64) -> Result {
        let node = self.changing(fd)?;
        self.chown(&node, uid as u32, gid as u32)
    }

    fn chown(&mut self, node: &Node, uid: u32, gid: u32) -> Result {
        const SAME: u32 = u32::MAX;
        const SET_ID: u32 = 0o6000;
        let inode = self.inode(node)?;
        inode.change(self.tree.now, |meta| {
            meta.uid = if uid == SAME { meta.uid } else { uid };
            meta.gid = if gid == SAME { meta.gid } else { gid };
            if meta.mode & S_IFMT == S_IFREG && meta.mode & 0o111 != 0 {
                meta.mode &= !SET_ID;
            }
        });
        Ok(0)
    }

    pub(super) fn utimensat(&mut self, at: u64, path: u64, times: u64, flags: u64) -> Result {
        const NOW: u64 = (1 << 30) - 1;
        const OMIT: u64 = (1 << 30) - 2;
        const NS: i64 = 1_000_000_000;
        if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        self.stamp()?;
        // Without a path the descriptor itself is meant.
        let node = if path == 0 { self.changing(at)? } else { self.look(at, path, flags)? };
        let mut new = [Some(self.tree.now); 2];
        if times != 0 {
            let words: [u64; 4] = user::words(times)?;
            for (new, time) in new.iter_mut().zip(words.chunks_exact(2)) {
                *new = match time[1] {
                    NOW => Some(self.tree.now),
                    OMIT => None,
                    ns if ns as i64 >= NS || (ns as i64) < 0 => return Err(Errno::INVAL),
                    ns => Some((time[0] as i64).saturating_mul(NS).saturating_add(ns as i64)),
                };
            }
        }
        if new == [None; 2] {
            return Ok(0);
        }
        let inode = self.inode(&node)?;
        inode.change(self.tree.now, |meta| {
            meta.atime = new[0].unwrap_or(meta.atime);
            meta.mtime = new[1].unwrap_or(meta.mtime);
        });
        Ok(0)
    }

    pub(super) fn truncate(&mut self, path: u64, size: u64) -> Result {
        if (size as i64) < 0 {
            return Err(Errno::INVAL);
        }
        let node = self.look(super::files::AT_FDCWD as u64, path, 0)?;
        match self.tree.kind(&node) {
            S_IFREG => {}
            S_IFDIR => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        let inode = self.inode(&node)?;
        self.set_size(&inode, size)
    }

    pub(super) fn ftruncate(&mut self, fd: u64, size: u64) -> Result {
        self.prepare()?;
        let open = self.files.get(fd)?;
        if (size as i64) < 0 || open.flags.get() & flag::ACCESS == flag::RDONLY {
            return Err(Errno::INVAL);
        }
        match &open.object {
            Object::Regular(inode) => self.set_size(inode, size),
            Object::Path(_) => Err(Errno::BADF),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn fallocate(&mut self, fd: u64, mode: u64, from: u64, length: u64) -> Result {
        const KEEP_SIZE: u64 = 1;
        const PUNCH_HOLE: u64 = 2;
        const ZERO_RANGE: u64 = 0x10;
        self.prepare()?;
        let open = self.files.get(fd)?.writable()?;
        let to = from.checked_add(length).filter(|&to| to as i64 >= 0);
        if (from as i64) < 0 || length as i64 <= 0 {
            return Err(Errno::INVAL);
        }
        let to = to.ok_or(Errno::FBIG)?;
        let Object::Regular(inode) = &open.object else {
            return Err(match open.object {
                Object::Console(_) => Errno::SPIPE,
                _ => Errno::NODEV,
            });
        };
        let mut contents = inode.contents().ok_or(Errno::NODEV)?.borrow_mut();
        let (system, initrd) = (&mut self.system, &self.tree.initrd);
        match mode & !KEEP_SIZE {
            0 => contents.allocate(system, initrd, from, to)?,
            PUNCH_HOLE if mode & KEEP_SIZE != 0 => contents.punch(system, initrd, from, to)?,
            ZERO_RANGE => contents.punch(system, initrd, from, to)?,
            _ => return Err(Errno::OPNOTSUPP),
        }
        if mode & KEEP_SIZE == 0 && to > contents.size() {
            contents.truncate(to)?;
        }
        drop(contents);
        inode.touch(self.tree.now);
        Ok(0)
    }

    pub(super) fn umask(&mut self, mask: u64) -> Result {
        let before = core::mem::replace(&mut self.tree.umask, mask as u32 & 0o777);
        Ok(before.into())
    }

    /// Files have no attributes besides.
    pub(super) fn xattr(&mut self, path: u64, follow: bool, lists: bool) -> Result {
        let flags = if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
        self.look(super::files::AT_FDCWD as u64, path, flags)?;
        if lists { Ok(0) } else { Err(Errno::OPNOTSUPP) }
    }

    /// As [`Kos::xattr`], of an open file.
    pub(super) fn fxattr(&mut self, fd: u64, lists: bool) -> Result {
        self.files.get(fd)?;
        if lists { Ok(0) } else { Err(Errno::OPNOTSUPP) }
    }

    /// The file behind a descriptor, to be changed.
    fn changing(&mut self, fd: u64) -> Result<Node> {
        self.prepare()?;
        let open = self.files.get(fd)?;
        if matches!(open.object, Object::Path(_)) {
            return Err(Errno::BADF);
        }
        Ok(self.node_of(open))
    }

    /// The inode of a file that changes.
    fn inode(&mut self, node: &Node) -> Result<Rc<Inode>> {
        self.stamp()?;
        self.tree.upper(node)
    }
}

#[cfg(test)]
#[path = "change/tests.rs"]
mod tests;
