//! The files of the container, as one tree: the archive of the image below, never written; what
//! the program changes above, in memory; and `/dev`, `/proc` and `/sys`, which are there in every
//! container ([`crate::proc`]).
//!
//! A file of the lower layers costs no memory. It gets an [`Inode`] above when something of it
//! changes: its contents then still come from the archive, page by page, until they are written.
//! Which files have one is told by [`Tree::resolve`]. A directory above shows what is below
//! it where no entry of its own says otherwise.

mod inode;
mod names;
mod pages;
mod walk;

pub use inode::{Body, Directory, Entry, Inode, Meta};
pub use names::rename;
pub use pages::{Contents, PAGE, Page, Pool};
pub use walk::{Last, Place};

use crate::errno::{Errno, Result};
use crate::fd::{Open, Table};
use crate::initrd::{self, File, Initrd, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use crate::proc::Fixed;
use crate::stat::Stat;
use crate::stream::Pipe;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// A file, wherever it is.
#[derive(Clone)]
pub enum Node {
    /// A file of the archive, as it is.
    Archive(initrd::Node),
    /// A file of `/dev`, `/proc` or `/sys`, as it is.
    Fixed(Fixed),
    /// A file of the upper layer.
    Upper(Rc<Inode>),
    /// An open file that has no place in the tree, to which a link in `/proc/self/fd` leads.
    Open(Rc<Open>),
}

impl Node {
    /// Whether both are the same file.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Archive(a), Self::Archive(b)) => a == b,
            (Self::Fixed(a), Self::Fixed(b)) => a == b,
            (Self::Upper(a), Self::Upper(b)) => Rc::ptr_eq(a, b),
            (Self::Open(a), Self::Open(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// All files.
pub struct Tree<'a> {
    /// The archive.
    pub initrd: Initrd<'a>,
    /// The working directory.
    pub cwd: Node,
    /// The path of the program, as it is in the archive.
    pub exe: Vec<u8>,
    /// The time, for what is changed: nanoseconds since 1970.
    pub now: i64,
    /// Bits that new files' permissions do not get.
    pub umask: u32,
    /// Pages for contents.
    pub pool: Rc<Pool>,
    root: Rc<Inode>,
    /// The inodes of files of the lower layers that have one, by [`key`].
    copied: BTreeMap<u64, Rc<Inode>>,
    /// Some of them are regular files.
    regular: bool,
    /// A name of the archive may lead elsewhere, or nowhere.
    hidden: bool,
    inodes: Cell<u64>,
    /// The pipes behind names that are open, with the files that have the names.
    pipes: BTreeMap<u64, (Weak<Pipe>, Rc<Inode>)>,
}

/// Numbers of file systems, for `stat`.
pub mod device {
    /// The image's files and what was made beside them.
    pub const ROOT: u32 = 1;
    /// `/dev`.
    pub const DEV: u32 = 2;
    /// Pipes, sockets and the like.
    pub const PIPE: u32 = 3;
    /// `/proc`.
    pub const PROC: u32 = 4;
    /// `/sys`.
    pub const SYS: u32 = 5;
}

/// Inode numbers of the upper layer begin behind those of the archive.
const INODES: u64 = 1 << 32;

impl<'a> Tree<'a> {
    /// The tree of a container, in its root directory.
    pub fn new(initrd: Initrd<'a>) -> Self {
        let meta = initrd.meta(initrd.root());
        let root = Rc::new(Inode {
            ino: meta.ino.into(),
            device: Cell::new(device::ROOT),
            meta: Cell::new(copy(meta)),
            place: RefCell::new((None, Rc::default())),
            body: directory_over(&Node::Archive(initrd.root())),
        });
        Self {
            initrd,
            cwd: Node::Upper(root.clone()),
            exe: Vec::new(),
            now: 0,
            umask: 0o022,
            pool: Rc::default(),
            root,
            copied: BTreeMap::new(),
            regular: false,
            hidden: false,
            inodes: Cell::new(INODES),
            pipes: BTreeMap::new(),
        }
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        Node::Upper(self.root.clone())
    }

    /// A number for a new file.
    pub fn number(&self) -> u64 {
        self.inodes.set(self.inodes.get() + 1);
        self.inodes.get()
    }

    /// The file behind one of the archive: its inode above, if it has one.
    pub fn resolve(&self, node: initrd::Node) -> Node {
        if self.copied.is_empty() {
            return Node::Archive(node);
        }
        match self.copied.get(&key(&self.initrd.file(node))) {
            Some(inode) => Node::Upper(inode.clone()),
            None => Node::Archive(node),
        }
    }

    /// A file as it is now: one that was found earlier may have been given an inode since.
    pub fn current(&self, node: &Node) -> Node {
        match node {
            Node::Archive(lower) if *lower == self.initrd.root() => self.root(),
            Node::Archive(lower) => self.resolve(*lower),
            Node::Fixed(fixed) => self.resolve_fixed(*fixed),
            other => other.clone(),
        }
    }

    /// The inode above of a regular file of the archive, if it has one.
    pub fn changed(&self, file: &File) -> Option<&Rc<Inode>> {
        if self.regular { self.copied.get(&key(file)) } else { None }
    }

    fn resolve_fixed(&self, fixed: Fixed) -> Node {
        if self.copied.is_empty() {
            return Node::Fixed(fixed);
        }
        match self.copied.get(&fixed.key()) {
            Some(inode) => Node::Upper(inode.clone()),
            None => Node::Fixed(fixed),
        }
    }

    /// The inode of a file, which is made where there is none yet.
    ///
    /// # Errors
    /// EROFS in `/proc` and `/sys`, EPERM for what is no file of the tree.
    pub fn upper(&mut self, node: &Node) -> Result<Rc<Inode>> {
        let (key, ino, device, meta, body) = match node {
            Node::Upper(inode) => return Ok(inode.clone()),
            Node::Open(_) => return Err(Errno::PERM),
            Node::Archive(lower) => {
                let (meta, file) = (self.initrd.meta(*lower), self.initrd.file(*lower));
                if let Some(inode) = self.changed(&file) {
                    return Ok(inode.clone());
                }
                let body = match meta.mode & S_IFMT {
                    S_IFREG => {
                        self.regular = true;
                        let size = meta.size.into();
                        let contents = Contents::new(&self.pool, Some(file), size);
                        Body::Regular(RefCell::new(contents))
                    }
                    S_IFDIR => directory_over(node),
                    S_IFLNK => Body::Link(self.initrd.data(*lower).into()),
                    _ => Body::Special,
                };
                (key(&file), meta.ino.into(), device::ROOT, copy(meta), body)
            }
            Node::Fixed(fixed) => {
                if fixed.device() != device::DEV {
                    return Err(Errno::ROFS);
                }
                let stat = fixed.stat(self.now);
                let meta = Meta {
                    mode: stat.mode,
                    nlink: stat.nlink,
                    rdev: stat.rdev,
                    atime: self.now,
                    mtime: self.now,
                    ctime: self.now,
                    ..Meta::default()
                };
                let body = match stat.mode & S_IFMT {
                    S_IFDIR => directory_over(node),
                    S_IFLNK => Body::Link(fixed.target(self).unwrap_or_default().into()),
                    _ => Body::Special,
                };
                (fixed.key(), stat.ino, device::DEV, meta, body)
            }
        };
        let place = RefCell::new((Some(self.parent(node)), Rc::from(self.name(node))));
        let (device, meta) = (Cell::new(device), Cell::new(meta));
        let inode = Rc::new(Inode { ino, device, meta, place, body });
        self.copied.insert(key, inode.clone());
        Ok(inode)
    }

    /// The type of a file: one of the `S_IF…` values, or 0 where it is none of the tree.
    pub fn kind(&self, node: &Node) -> u32 {
        match node {
            Node::Archive(lower) => self.initrd.kind(*lower),
            Node::Fixed(fixed) => fixed.kind(),
            Node::Upper(inode) => inode.kind(),
            Node::Open(_) => 0,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, node: &Node) -> bool {
        self.kind(node) == S_IFDIR
    }

    /// What `stat` tells of a file of the tree.
    pub fn stat(&self, node: &Node) -> Stat {
        match node {
            Node::Archive(lower) => Stat::archive(self.initrd.meta(*lower)),
            Node::Fixed(fixed) => fixed.stat(self.now),
            Node::Upper(inode) => Stat::inode(inode),
            Node::Open(_) => Stat::default(),
        }
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// EINVAL where it is none.
    pub fn target(&self, node: &Node) -> Result<Vec<u8>> {
        match node {
            Node::Archive(lower) if self.initrd.kind(*lower) == S_IFLNK => {
                Ok(self.initrd.data(*lower).to_vec())
            }
            Node::Fixed(fixed) => fixed.target(self).ok_or(Errno::INVAL),
            Node::Upper(inode) => match &inode.body {
                Body::Link(target) => Ok(target.to_vec()),
                _ => Err(Errno::INVAL),
            },
            _ => Err(Errno::INVAL),
        }
    }

    /// What a name in a directory stands for.
    pub fn lookup(&self, directory: &Node, name: &[u8], files: &Table) -> Option<Node> {
        let Node::Upper(inode) = directory else { return self.below(directory, name, files) };
        if Rc::ptr_eq(inode, &self.root) {
            if let Some(mount) = Fixed::mount(name) {
                return Some(self.resolve_fixed(mount));
            }
        }
        let entries = inode.directory()?.borrow();
        match entries.get(name) {
            Some(Entry::File(inode)) => Some(Node::Upper(inode.clone())),
            Some(Entry::Nothing) => None,
            None => self.below(entries.below.as_ref()?, name, files),
        }
    }

    /// What a name in a directory of the lower layers stands for.
    fn below(&self, directory: &Node, name: &[u8], files: &Table) -> Option<Node> {
        match directory {
            Node::Archive(lower) => {
                self.initrd.child_named(*lower, name).map(|node| self.resolve(node))
            }
            Node::Fixed(fixed) => {
                fixed.child_named(name, files).map(|node| self.resolve_fixed(node))
            }
            _ => None,
        }
    }

    /// The directory that a file is in; the root's is the root.
    pub fn parent(&self, node: &Node) -> Node {
        match node {
            Node::Archive(lower) => {
                let path = self.initrd.path(*lower);
                let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                match self.initrd.find(&path[..end]) {
                    Some(parent) if parent != self.initrd.root() => self.resolve(parent),
                    _ => self.root(),
                }
            }
            Node::Fixed(fixed) => match fixed.parent() {
                Some(parent) => self.resolve_fixed(parent),
                None => self.root(),
            },
            Node::Upper(inode) => {
                let (parent, _) = &*inode.place.borrow();
                parent.as_ref().map_or_else(|| self.root(), |parent| self.current(parent))
            }
            Node::Open(_) => self.root(),
        }
    }

    /// The name of a file in its directory.
    fn name(&self, node: &Node) -> Vec<u8> {
        let last = |path: &[u8]| path.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
        match node {
            Node::Archive(lower) => last(self.initrd.path(*lower)),
            Node::Fixed(fixed) => last(fixed.path().as_bytes()),
            Node::Upper(inode) => inode.place.borrow().1.to_vec(),
            Node::Open(_) => Vec::new(),
        }
    }

    /// The path of a file from the root, and whether it still leads there.
    pub fn path(&self, node: &Node) -> (Vec<u8>, bool) {
        let (mut names, mut alive) = (Vec::new(), true);
        let mut at = node.clone();
        loop {
            if let Node::Upper(inode) = &at {
                if Rc::ptr_eq(inode, &self.root) {
                    break;
                }
                alive &= inode.meta.get().nlink > 0;
            }
            names.push(self.name(&at));
            at = self.parent(&at);
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        (path, alive)
    }

    /// The file in a directory where its listing goes on at the place `from`: its name, its
    /// type, its number, and the place behind it. A listing begins at 0 with `.` and `..`.
    pub fn list(&self, directory: &Node, from: u64, files: &Table) -> Option<(Vec<u8>, Node, u64)> {
        /// From here on the places are those of the upper layer.
        const UPPER: u64 = 1 << 32;
        match from {
            0 => return Some((b".".to_vec(), directory.clone(), 1)),
            1 => return Some((b"..".to_vec(), self.parent(directory), 2)),
            _ => {}
        }
        let entries = match directory {
            Node::Upper(inode) => Some(inode.directory()?.borrow()),
            _ => None,
        };
        let is_root = directory.is(&self.root());
        let below = entries.as_ref().map_or(Some(directory), |entries| entries.below.as_ref());
        let mut at = from;
        while let (true, Some(below)) = (at < UPPER, below) {
            let Some((name, node, next)) = self.list_below(below, at - 2, files) else { break };
            at = next + 2;
            if entries.as_ref().is_some_and(|entries| entries.get(&name).is_some()) {
                continue;
            }
            // A file system that the image has no directory for is there, and is not listed.
            let mount = Fixed::mount(&name).filter(|_| is_root);
            let node = mount.map_or(node, |mount| self.resolve_fixed(mount));
            return Some((name, node, at));
        }
        let entries = entries?;
        let at = u32::try_from(at.max(UPPER) - UPPER).ok()?;
        let (number, name, inode) = entries.next(at)?;
        Some((name.to_vec(), Node::Upper(inode.clone()), UPPER + u64::from(number) + 1))
    }

    fn list_below(
        &self,
        directory: &Node,
        from: u64,
        files: &Table,
    ) -> Option<(Vec<u8>, Node, u64)> {
        let from = u32::try_from(from).ok()?;
        match directory {
            Node::Archive(lower) => {
                let (node, name) = self.initrd.child(*lower, from)?;
                let next = u64::from(self.initrd.after(node));
                Some((name.to_vec(), self.resolve(node), next))
            }
            Node::Fixed(fixed) => {
                let (name, node, next) = fixed.child(from, files)?;
                Some((name, self.resolve_fixed(node), u64::from(next)))
            }
            _ => None,
        }
    }

    /// A file that has no name yet.
    pub fn file(&self, mode: u32, rdev: (u32, u32), body: Body) -> Rc<Inode> {
        let now = self.now;
        let meta = Meta { mode, rdev, atime: now, mtime: now, ctime: now, ..Meta::default() };
        let place = RefCell::new((None, Rc::default()));
        let (ino, device) = (self.number(), Cell::new(device::ROOT));
        Rc::new(Inode { ino, device, meta: Cell::new(meta), place, body })
    }

    /// An empty regular file that has no name yet.
    pub fn regular(&self, mode: u32) -> Rc<Inode> {
        let contents = Contents::new(&self.pool, None, 0);
        self.file(S_IFREG | mode, (0, 0), Body::Regular(RefCell::new(contents)))
    }

    /// The pipe behind a name, with what is in it as long as somebody has it open.
    pub fn pipe(&mut self, inode: &Rc<Inode>) -> Rc<Pipe> {
        self.pipes.retain(|_, (pipe, _)| pipe.strong_count() > 0);
        if let Some(pipe) = self.pipes.get(&inode.ino).and_then(|(pipe, _)| pipe.upgrade()) {
            return pipe;
        }
        let pipe = Pipe::new(inode.ino, &self.pool);
        self.pipes.insert(inode.ino, (Rc::downgrade(&pipe), inode.clone()));
        pipe
    }

    /// The file that a pipe has its name from, if it has one.
    pub fn fifo(&self, ino: u64) -> Option<Rc<Inode>> {
        self.pipes.get(&ino).map(|(_, inode)| inode.clone())
    }
}

/// What tells files of the archive apart: names of one file have the same contents at the same
/// place.
pub fn key(file: &File) -> u64 {
    match (file.is_directory(), file.place()) {
        (false, Some(start)) => u64::from(start),
        _ => 1 << 32 | u64::from(file.node.index()),
    }
}

fn directory_over(node: &Node) -> Body {
    Body::Directory(RefCell::new(Directory::over(node.clone())))
}

/// What the archive says of a file, in the upper layer's terms.
fn copy(meta: koskit_cpio::Meta) -> Meta {
    let time = i64::from(meta.mtime) * 1_000_000_000;
    Meta {
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        // A directory without names is one that was removed.
        nlink: meta.nlink.max(if meta.mode & S_IFMT == S_IFDIR { 2 } else { 1 }),
        rdev: meta.rdev,
        atime: time,
        mtime: time,
        ctime: time,
    }
}

#[cfg(test)]
#[path = "tree/tests.rs"]
mod tests;
