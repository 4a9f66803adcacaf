//! Files of the upper layer.

use super::Node;
use super::pages::{Contents, PAGE};
use crate::initrd::S_IFDIR;
use crate::initrd::S_IFMT;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// A file of the upper layer. Names and open files hold it; it goes with the last of them.
pub struct Inode {
    /// Its number.
    pub ino: u64,
    /// Number of its file system.
    pub device: Cell<u32>,
    /// What `stat` tells of it besides.
    pub meta: Cell<Meta>,
    /// The directory that it was last put in, if it has a name, and that name.
    pub place: RefCell<(Option<Node>, Rc<[u8]>)>,
    /// What it is.
    pub body: Body,
}

/// What `stat` tells of a file of the upper layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names; of a directory two more than it has subdirectories that were made.
    pub nlink: u32,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
    /// Time of the last access, in nanoseconds since 1970.
    pub atime: i64,
    /// Time of the last change of the contents.
    pub mtime: i64,
    /// Time of the last change of anything.
    pub ctime: i64,
}

/// What a file of the upper layer is.
pub enum Body {
    /// A regular file.
    Regular(RefCell<Contents>),
    /// A directory.
    Directory(RefCell<Directory>),
    /// A symbolic link, and where it leads.
    Link(Box<[u8]>),
    /// A device node, a pipe or a socket.
    Special,
}

impl Inode {
    /// Its type: one of the `S_IF…` values.
    pub fn kind(&self) -> u32 {
        self.meta.get().mode & S_IFMT
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Regular(contents) => contents.borrow().size(),
            Body::Directory(_) => PAGE as u64,
            Body::Link(target) => target.len() as u64,
            Body::Special => 0,
        }
    }

    /// Blocks of 512 bytes that its contents take.
    pub fn blocks(&self) -> u64 {
        match &self.body {
            Body::Regular(contents) => contents.borrow().blocks(),
            _ => 0,
        }
    }

    /// The contents of a regular file.
    pub fn contents(&self) -> Option<&RefCell<Contents>> {
        match &self.body {
            Body::Regular(contents) => Some(contents),
            _ => None,
        }
    }

    /// The entries of a directory.
    pub fn directory(&self) -> Option<&RefCell<Directory>> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Changes what `stat` tells.
    pub fn change(&self, now: i64, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta.get();
        meta.ctime = now;
        change(&mut meta);
        self.meta.set(meta);
    }

    /// Notes that the contents changed.
    pub fn touch(&self, now: i64) {
        self.change(now, |meta| meta.mtime = now);
    }

    /// Whether it is a directory that was removed.
    pub fn is_dead(&self) -> bool {
        self.kind() == S_IFDIR && self.meta.get().nlink == 0
    }
}

/// What a directory of the upper layer changes in the directory below it, if there is one.
#[derive(Default)]
pub struct Directory {
    /// The directory of the lower layer that shows through.
    pub below: Option<Node>,
    names: BTreeMap<Rc<[u8]>, u32>,
    /// In the order in which they were put here, which is that of `getdents64`: nothing that
    /// happens between two calls makes an entry come twice or not at all.
    entries: BTreeMap<u32, (Rc<[u8]>, Entry)>,
    next: u32,
}

/// What stands for a name in a directory of the upper layer.
#[derive(Clone)]
pub enum Entry {
    /// A file.
    File(Rc<Inode>),
    /// Nothing: what is below was removed.
    Nothing,
}

impl Directory {
    /// One that changes nothing yet in a directory below it.
    pub fn over(below: Node) -> Self {
        Self { below: Some(below), ..Self::default() }
    }

    /// What a name stands for here; `None` where the layer below says it.
    pub fn get(&self, name: &[u8]) -> Option<&Entry> {
        let number = self.names.get(name)?;
        self.entries.get(number).map(|(_, entry)| entry)
    }

    /// Makes a name stand for something.
    pub fn put(&mut self, name: Rc<[u8]>, entry: Entry) {
        self.forget(&name);
        self.names.insert(name.clone(), self.next);
        self.entries.insert(self.next, (name, entry));
        self.next += 1;
    }

    /// Lets the layer below say what a name stands for.
    pub fn forget(&mut self, name: &[u8]) {
        if let Some(number) = self.names.remove(name) {
            self.entries.remove(&number);
        }
    }

    /// The first file that was put here as the number `from`, or later: its number, name, and
    /// what it is.
    pub fn next(&self, from: u32) -> Option<(u32, &[u8], &Rc<Inode>)> {
        self.entries.range(from..).find_map(|(number, (name, entry))| match entry {
            Entry::File(inode) => Some((*number, &**name, inode)),
            Entry::Nothing => None,
        })
    }
}
