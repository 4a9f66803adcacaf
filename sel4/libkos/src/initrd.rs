//! The files of the image: a cpio archive in memory, read in place, never written.
//!
//! Beside the archive there is little more than an index of four bytes an entry, sorted by path with `/`
//! before every other byte. So a path is found by binary search, what is in a directory stands
//! directly behind it, and a large image costs a container little memory of its own. An
//! archive that is sorted so, as `lower` writes it, keeps its order in `getdents64`.

use alloc::vec::Vec;
use core::cmp::Ordering;
use koskit_cpio::{self as cpio, Entry, Malformed, Meta};

/// Bits of the file type in a mode.
pub const S_IFMT: u32 = 0o170_000;
/// A directory.
pub const S_IFDIR: u32 = 0o040_000;
/// A character device.
pub const S_IFCHR: u32 = 0o020_000;
/// A pipe.
pub const S_IFIFO: u32 = 0o010_000;
/// A symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// A regular file.
pub const S_IFREG: u32 = 0o100_000;
/// A block device.
pub const S_IFBLK: u32 = 0o060_000;
/// A socket.
pub const S_IFSOCK: u32 = 0o140_000;

/// Stands in the index for a root directory that the archive does not name.
const ROOT: u32 = u32::MAX;

/// A file of the archive: its place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u32);

impl Node {
    /// Its place in the index.
    pub fn index(self) -> u32 {
        self.0
    }
}

/// A file with what reading it takes, so that the archive's headers need not be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its place in the index.
    pub node: Node,
    /// Its type: one of the `S_IF…` values.
    pub kind: u32,
    start: u32,
    size: u32,
}

impl File {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == S_IFDIR
    }

    /// Where its contents begin in the archive, if it has any: what names of one file share.
    pub fn place(&self) -> Option<u32> {
        (self.size > 0).then_some(self.start)
    }
}

/// An archive and its index.
pub struct Initrd<'a> {
    archive: &'a [u8],
    index: Vec<u32>,
    /// Of files with several names: the inode, and the offset of the one entry that has the
    /// contents, sorted.
    links: Vec<(u32, u32)>,
}

impl<'a> Initrd<'a> {
    /// Bytes that the lists beside the archive take.
    ///
    /// # Errors
    /// Where the archive is damaged.
    pub fn cost(archive: &[u8]) -> core::result::Result<usize, Malformed> {
        let (entries, links) = Self::count(archive)?;
        Ok(size_of::<u32>() * (entries + 1) + size_of::<(u32, u32)>() * links)
    }

    /// Number of the archive's entries, and of its files with several names.
    fn count(archive: &[u8]) -> core::result::Result<(usize, usize), Malformed> {
        all(archive).try_fold((0, 0), |(entries, links), entry| {
            Ok((entries + 1, links + usize::from(has_links(&entry?.1))))
        })
    }

    /// Indexes an archive; an empty one holds an empty root directory. Of several entries with
    /// one name the last counts, as in Linux.
    ///
    /// # Errors
    /// Where the archive is damaged.
    pub fn new(archive: &'a [u8]) -> core::result::Result<Self, Malformed> {
        let (entries, links) = Self::count(archive)?;
        let (mut index, mut links) = (Vec::with_capacity(entries + 1), Vec::with_capacity(links));
        for entry in all(archive) {
            let (offset, entry) = entry?;
            let offset = u32::try_from(offset).map_err(|_| Malformed(offset))?;
            index.push(offset);
            if has_links(&entry) {
                links.push((entry.meta.ino, offset));
            }
        }
        links.sort_unstable();
        let path = |offset: u32| path_at(archive, offset);
        let order = |&a: &u32, &b: &u32| compare(path(a), path(b));
        if !index.is_sorted_by(|a, b| order(a, b).is_lt()) {
            // Of equal paths the last comes first, and stays.
            index.sort_unstable_by(|a, b| order(a, b).then(b.cmp(a)));
            index.dedup_by(|a, b| order(a, b).is_eq());
        }
        if index.first().is_none_or(|&first| !path(first).is_empty()) {
            index.insert(0, ROOT);
        }
        Ok(Self { archive, index, links })
    }

    /// The root directory.
    pub fn root(&self) -> Node {
        Node(0)
    }

    /// The file at a canonical path, without its first slash.
    pub fn find(&self, path: &[u8]) -> Option<Node> {
        let found = self.index.binary_search_by(|&at| compare(path_at(self.archive, at), path));
        found.ok().map(|index| Node(index as u32))
    }

    /// The file with this name in a directory.
    pub fn child_named(&self, directory: Node, name: &[u8]) -> Option<Node> {
        let parent = self.path(directory);
        if parent.is_empty() {
            return self.find(name);
        }
        let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
        path.extend_from_slice(parent);
        path.push(b'/');
        path.extend_from_slice(name);
        self.find(&path)
    }

    /// The canonical path of a file, without the first slash.
    pub fn path(&self, node: Node) -> &'a [u8] {
        self.index.get(node.0 as usize).map_or(&[], |&at| path_at(self.archive, at))
    }

    /// What the archive says of a file.
    pub fn meta(&self, node: Node) -> Meta {
        let Some(entry) = self.entry(node) else {
            return Meta { ino: 1, mode: S_IFDIR | 0o755, nlink: 2, ..Meta::default() };
        };
        Meta { size: self.data_of(&entry).len() as u32, ..entry.meta }
    }

    /// A file, prepared for reading.
    pub fn file(&self, node: Node) -> File {
        let Some(entry) = self.entry(node) else {
            return File { node, kind: S_IFDIR, start: 0, size: 0 };
        };
        let data = self.data_of(&entry);
        // `new` has seen that all offsets have 32 bits.
        let start = (data.as_ptr() as usize).saturating_sub(self.archive.as_ptr() as usize) as u32;
        File { node, kind: entry.meta.mode & S_IFMT, start, size: data.len() as u32 }
    }

    /// What the archive says of an open file.
    pub fn meta_of(&self, file: &File) -> Meta {
        let meta = self.entry(file.node).map(|entry| entry.meta);
        meta.map_or_else(|| self.meta(file.node), |meta| Meta { size: file.size, ..meta })
    }

    /// The contents of a file.
    pub fn contents(&self, file: &File) -> &'a [u8] {
        let start = file.start as usize;
        self.archive.get(start..start + file.size as usize).unwrap_or_default()
    }

    /// Whether it is a directory.
    pub fn is_directory(&self, node: Node) -> bool {
        self.kind(node) == S_IFDIR
    }

    /// The type of a file: one of the `S_IF…` values.
    pub fn kind(&self, node: Node) -> u32 {
        match self.index.get(node.0 as usize) {
            // `new` has seen that the header is whole.
            Some(&at) if at != ROOT => cpio::mode(self.archive, at as usize).unwrap_or(0) & S_IFMT,
            _ => S_IFDIR,
        }
    }

    /// The contents of a file, or the target of a symbolic link.
    pub fn data(&self, node: Node) -> &'a [u8] {
        self.entry(node).map_or(&[], |entry| self.data_of(&entry))
    }

    /// Of hard links to one file only one entry has the contents.
    fn data_of(&self, entry: &Entry<'a>) -> &'a [u8] {
        let Meta { ino, nlink, size, .. } = entry.meta;
        if size > 0 || nlink < 2 {
            return entry.data;
        }
        let found = self.links.binary_search_by_key(&ino, |&(ino, _)| ino).ok();
        let offset = found.map_or(ROOT, |index| self.links[index].1);
        cpio::entry(self.archive, offset as usize).map_or(&[], |entry| entry.data)
    }

    /// The first entry of a directory, in the order of the index, that stands at `from` or
    /// behind. To begin with, `from` is 0; to go on, one more than what came last.
    pub fn child(&self, directory: Node, from: u32) -> Option<(Node, &'a [u8])> {
        let parent = self.path(directory);
        let mut at = from.max(directory.0 + 1);
        loop {
            let node = Node(at);
            self.index.get(at as usize)?;
            let path = self.path(node);
            let below = match parent {
                [] => path,
                _ => path.strip_prefix(parent)?.strip_prefix(b"/")?,
            };
            match below.iter().position(|&byte| byte == b'/') {
                None => return Some((node, below)),
                // Something deeper: skip all of what the directory at this place holds.
                Some(end) => {
                    let inner = &path[..path.len() - below.len() + end];
                    let inside = |&offset: &u32| {
                        let path = path_at(self.archive, offset);
                        path.strip_prefix(inner).is_some_and(|p| p.is_empty() || p[0] == b'/')
                    };
                    at += self.index[at as usize..].partition_point(inside) as u32;
                }
            }
        }
    }

    /// The number that says where [`Initrd::child`] goes on behind a file.
    pub fn after(&self, node: Node) -> u32 {
        node.0 + 1
    }

    fn entry(&self, node: Node) -> Option<Entry<'a>> {
        let &offset = self.index.get(node.0 as usize)?;
        if offset == ROOT {
            return None;
        }
        // `new` has seen that it is whole.
        cpio::entry(self.archive, offset as usize).ok()
    }
}

/// The entries of an archive, which may be empty.
fn all(
    archive: &[u8],
) -> impl Iterator<Item = core::result::Result<(usize, Entry<'_>), Malformed>> {
    cpio::entries(archive).take(if archive.is_empty() { 0 } else { usize::MAX })
}

/// Whether an entry has the contents of a file with several names.
fn has_links(entry: &Entry<'_>) -> bool {
    entry.meta.nlink > 1 && entry.meta.size > 0
}

/// The path of the entry at an offset, as `a/b`; the root's is empty.
fn path_at(archive: &[u8], offset: u32) -> &[u8] {
    if offset == ROOT {
        return &[];
    }
    let mut path = cpio::name(archive, offset as usize).unwrap_or_default();
    loop {
        path = match path {
            [b'.', b'/', rest @ ..] | [b'/', rest @ ..] | [rest @ .., b'/'] => rest,
            b"." => &[],
            _ => return path,
        }
    }
}

/// Compares paths so that a directory comes directly before what is in it.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let rank = |byte: Option<&u8>| match byte {
        None => 0,
        Some(b'/') => 1,
        Some(&byte) => 2 + u16::from(byte),
    };
    rank(a.get(same)).cmp(&rank(b.get(same)))
}

#[cfg(test)]
#[path = "initrd/tests.rs"]
pub(crate) mod tests;
