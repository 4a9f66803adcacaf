//! Making, moving and removing names.

use super::{Body, Entry, INODES, Inode, Last, Node, Place, Tree, device};
use crate::errno::{Errno, Result};
use crate::fd::Table;
use crate::initrd::S_IFDIR;
use crate::proc::Fixed;
use alloc::rc::Rc;

/// Flags of `renameat2`.
pub mod rename {
    /// Fail where the new name is taken.
    pub const NOREPLACE: u64 = 1;
    /// Both names change places.
    pub const EXCHANGE: u64 = 2;
}

impl Tree<'_> {
    /// The directory that a new name goes to.
    ///
    /// # Errors
    /// ENOENT where it was removed, EROFS in `/proc` and `/sys`.
    pub fn directory(&mut self, node: &Node) -> Result<Rc<Inode>> {
        let directory = self.upper(node)?;
        if directory.is_dead() { Err(Errno::NOENT) } else { Ok(directory) }
    }

    /// Makes a file at a place where nothing is.
    ///
    /// # Errors
    /// Those of [`Tree::enter`].
    pub fn create(
        &mut self,
        place: &Place,
        mode: u32,
        rdev: (u32, u32),
        body: Body,
    ) -> Result<Rc<Inode>> {
        let inode = self.file(mode, rdev, body);
        self.enter(place, inode)
    }

    /// Gives a new file its first name, at a place where nothing is.
    ///
    /// # Errors
    /// EEXIST; ENOENT for a name that ends with a slash and is none of a directory; those of
    /// [`Tree::directory`].
    pub fn enter(&mut self, place: &Place, inode: Rc<Inode>) -> Result<Rc<Inode>> {
        if place.node.is_some() || place.last != Last::Name {
            return Err(Errno::EXIST);
        }
        let is_directory = inode.kind() == S_IFDIR;
        if place.directory && !is_directory {
            return Err(Errno::NOENT);
        }
        let directory = self.directory(&place.parent)?;
        inode.device.set(directory.device.get());
        if is_directory {
            inode.change(self.now, |meta| meta.nlink = 1);
            directory.change(self.now, |meta| meta.nlink += 1);
        }
        // As in every directory whose group its files are to have.
        const SET_GID: u32 = 0o2000;
        let above = directory.meta.get();
        if above.mode & SET_GID != 0 {
            inode.change(self.now, |meta| {
                meta.gid = above.gid;
                meta.mode |= if is_directory { SET_GID } else { 0 };
            });
        }
        self.put(&directory, &place.name, &inode);
        Ok(inode)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// EEXIST, EXDEV, EPERM for directories, those of [`Tree::directory`].
    pub fn link(&mut self, node: &Node, place: &Place) -> Result<()> {
        if place.node.is_some() || place.last != Last::Name {
            return Err(Errno::EXIST);
        }
        if place.directory {
            return Err(Errno::NOENT);
        }
        if self.is_directory(node) {
            return Err(Errno::PERM);
        }
        if matches!(node, Node::Open(_)) {
            return Err(Errno::XDEV);
        }
        let directory = self.directory(&place.parent)?;
        if directory.device.get() != self.stat(node).device {
            return Err(Errno::XDEV);
        }
        let inode = self.upper(node)?;
        self.put(&directory, &place.name, &inode);
        Ok(())
    }

    /// Puts a file into a directory under a new name.
    fn put(&mut self, directory: &Rc<Inode>, name: &[u8], inode: &Rc<Inode>) {
        let name: Rc<[u8]> = name.into();
        inode.change(self.now, |meta| meta.nlink += 1);
        inode.place.replace((Some(Node::Upper(directory.clone())), name.clone()));
        if let Some(entries) = directory.directory() {
            entries.borrow_mut().put(name, Entry::File(inode.clone()));
        }
        directory.touch(self.now);
    }

    /// Takes a name away from a directory; what it stood for stays as it is.
    fn take(&mut self, directory: &Rc<Inode>, name: &[u8]) {
        let Some(entries) = directory.directory() else { return };
        let mut entries = entries.borrow_mut();
        let below = entries.below.as_ref();
        // No name of a process's descriptor is ever taken away.
        if below.is_some_and(|below| self.below(below, name, &Table::default()).is_some()) {
            entries.put(name.into(), Entry::Nothing);
            self.hidden = true;
        } else {
            entries.forget(name);
        }
        directory.touch(self.now);
    }

    /// Removes a name: of a directory, which has to be empty, or of anything else.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EISDIR, ENOTEMPTY, EBUSY, EINVAL, EROFS, as Linux has them.
    pub fn remove(&mut self, place: &Place, wants_directory: bool, files: &Table) -> Result<()> {
        match place.last {
            Last::Name => {}
            _ if !wants_directory => return Err(Errno::ISDIR),
            Last::Root => return Err(Errno::BUSY),
            Last::Dot => return Err(Errno::INVAL),
            Last::DotDot => return Err(Errno::NOTEMPTY),
        }
        let node = place.node.as_ref().ok_or(Errno::NOENT)?;
        let is_directory = self.is_directory(node);
        match (is_directory, wants_directory) {
            (false, true) => return Err(Errno::NOTDIR),
            (true, false) => return Err(Errno::ISDIR),
            (false, false) if place.directory => return Err(Errno::NOTDIR),
            _ => {}
        }
        self.movable(node)?;
        if is_directory && self.list(node, 2, files).is_some() {
            return Err(Errno::NOTEMPTY);
        }
        let directory = self.directory(&place.parent)?;
        self.drop_name(&directory, &place.name, node, files)
    }

    /// Takes a name away, and what it was the last name of with it.
    fn drop_name(
        &mut self,
        directory: &Rc<Inode>,
        name: &[u8],
        node: &Node,
        files: &Table,
    ) -> Result<()> {
        let several = matches!(node, Node::Archive(lower) if self.initrd.meta(*lower).nlink > 1);
        let is_directory = self.is_directory(node);
        let inode = match node {
            Node::Upper(inode) => Some(inode.clone()),
            _ if several || is_directory => Some(self.upper(node)?),
            _ => None,
        };
        self.take(directory, name);
        if is_directory {
            directory.change(self.now, |meta| meta.nlink = meta.nlink.max(3) - 1);
        }
        let Some(inode) = inode else { return Ok(()) };
        inode.change(self.now, |meta| {
            meta.nlink = if is_directory { 0 } else { meta.nlink.saturating_sub(1) };
        });
        if inode.meta.get().nlink == 0 && inode.ino < INODES {
            let found = self.copied.iter().find(|(_, other)| Rc::ptr_eq(other, &inode));
            if let Some(key) = found.map(|(key, _)| *key).filter(|key| !files.have(*key)) {
                self.copied.remove(&key);
            }
        }
        Ok(())
    }

    /// Moves a file to another place, over what is there.
    ///
    /// # Errors
    /// As Linux has them.
    pub fn rename(&mut self, from: &Place, to: &Place, flags: u64, files: &Table) -> Result<()> {
        let exchange = flags & rename::EXCHANGE != 0;
        if from.last != Last::Name {
            return Err(Errno::BUSY);
        }
        if to.last != Last::Name {
            return Err(if flags & rename::NOREPLACE != 0 { Errno::EXIST } else { Errno::BUSY });
        }
        let node = from.node.clone().ok_or(Errno::NOENT)?;
        if flags & rename::NOREPLACE != 0 && to.node.is_some() {
            return Err(Errno::EXIST);
        }
        if exchange && to.node.is_none() {
            return Err(Errno::NOENT);
        }
        let is_directory = self.is_directory(&node);
        // A slash at the end is for directories.
        let over = to.node.as_ref().is_some_and(|over| self.is_directory(over));
        let wrong = if exchange { !over } else { !is_directory };
        if !is_directory && from.directory || wrong && to.directory {
            return Err(Errno::NOTDIR);
        }
        let (source, target) = (self.directory(&from.parent)?, self.directory(&to.parent)?);
        self.movable(&node)?;
        if source.device != target.device {
            return Err(Errno::XDEV);
        }
        // No directory gets into itself.
        if is_directory && self.is_below(&to.parent, &node) {
            return Err(Errno::INVAL);
        }
        if let Some(over) = &to.node {
            self.movable(over)?;
            if self.current(over).is(&self.current(&node)) {
                return Ok(());
            }
            if self.is_directory(over) && self.is_below(&from.parent, over) {
                return Err(if exchange { Errno::INVAL } else { Errno::NOTEMPTY });
            }
            if exchange {
                let (node, over) = (self.upper(&node)?, self.upper(over)?);
                self.move_name(&source, &from.name, &target, &to.name, &node);
                self.place_name(&target, &source, &from.name, &over);
                return Ok(());
            }
            match (is_directory, self.is_directory(over)) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if self.list(over, 2, files).is_some() => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => {}
            }
            let inode = self.upper(&node)?;
            self.drop_name(&target, &to.name, over, files)?;
            self.move_name(&source, &from.name, &target, &to.name, &inode);
            return Ok(());
        }
        let inode = self.upper(&node)?;
        self.move_name(&source, &from.name, &target, &to.name, &inode);
        Ok(())
    }

    fn move_name(
        &mut self,
        source: &Rc<Inode>,
        from: &[u8],
        target: &Rc<Inode>,
        to: &[u8],
        inode: &Rc<Inode>,
    ) {
        self.take(source, from);
        self.place_name(source, target, to, inode);
    }

    /// Puts a file that has lost its name in one directory into another.
    fn place_name(&mut self, source: &Rc<Inode>, target: &Rc<Inode>, to: &[u8], inode: &Rc<Inode>) {
        let links = inode.meta.get().nlink;
        self.put(target, to, inode);
        inode.change(self.now, |meta| meta.nlink = links);
        if inode.kind() == S_IFDIR && !Rc::ptr_eq(source, target) {
            source.change(self.now, |meta| meta.nlink = meta.nlink.max(3) - 1);
            target.change(self.now, |meta| meta.nlink += 1);
        }
    }

    /// Whether a directory is another, or lies below it.
    fn is_below(&self, directory: &Node, above: &Node) -> bool {
        let (mut at, above) = (self.current(directory), self.current(above));
        loop {
            if at.is(&above) {
                return true;
            }
            let up = self.parent(&at);
            if up.is(&at) {
                return false;
            }
            at = up;
        }
    }

    /// # Errors
    /// EBUSY for what a file system begins with, EROFS in `/proc` and `/sys`.
    fn movable(&self, node: &Node) -> Result<()> {
        let mount = match node {
            Node::Fixed(fixed) if fixed.device() != device::DEV => return Err(Errno::ROFS),
            Node::Fixed(fixed) => fixed.parent().is_none(),
            Node::Upper(inode) => {
                Rc::ptr_eq(inode, &self.root)
                    || Fixed::mounts().any(|(_, mount)| {
                        self.copied.get(&mount.key()).is_some_and(|other| Rc::ptr_eq(other, inode))
                    })
            }
            _ => false,
        };
        if mount { Err(Errno::BUSY) } else { Ok(()) }
    }
}
