//! The files of an image, as a container sees them: all layers, merged, in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::layer::{Change, Entry, EntryKind, LayerError, Limits, Reader, Refusal, is_portable};
use crate::{Error, Image, Store};

/// How many symbolic links are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// All files of an image. Paths are relative and clean (`bin/sh`), any bytes but zero, as on
/// Linux; the root is the empty path and is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
}

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Permissions, set-user-ID, set-group-ID and sticky bits: at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// What it is.
    pub kind: NodeKind,
}

/// What a [`Node`] is. Device nodes are refused where layers are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory; what is inside has its own nodes.
    Directory,
    /// A file's bytes. Hard links are files that share them ([`Arc::ptr_eq`]).
    File(Arc<[u8]>),
    /// A symbolic link's target; an absolute one begins at the root.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
}

/// A path that leads to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// Nothing there.
    #[error("{0:?} is not in the image")]
    NotFound(PathBuf),
    /// A part of the path is a file.
    #[error("{0:?} is not a directory")]
    NotDirectory(PathBuf),
    /// Too many symbolic links.
    #[error("{0:?} leads through more than 40 symbolic links")]
    Loop(PathBuf),
}

impl Tree {
    /// A tree with nothing but its root.
    pub fn new() -> Self {
        Self { nodes: BTreeMap::from([(PathBuf::new(), Node::directory(0o755))]) }
    }

    /// Reads all layers of an image, and checks their digests. All file contents are then in
    /// memory: `limits` hold for the layers together.
    ///
    /// # Errors
    /// A layer that is missing, damaged, hostile, or larger than the limits.
    pub fn read(store: &Store, image: &Image, limits: &Limits) -> Result<Self, Error> {
        let mut tree = Self::new();
        let mut left = limits.clone();
        for layer in &image.layers {
            let reader = store.layer(layer)?;
            let applied = tree.apply(reader, &mut left);
            applied.map_err(|source| Error::Layer { digest: layer.digest.clone(), source })?;
        }
        Ok(tree)
    }

    /// Reads all layers of an image as [`Tree::read`] does, but keeps of each file only a digest
    /// of its contents, of 40 bytes: for comparing images of any size.
    ///
    /// # Errors
    /// As [`Tree::read`].
    pub(crate) fn digests(store: &Store, image: &Image) -> Result<Self, Error> {
        let mut tree = Self::new();
        let mut left = Limits { content: u64::MAX, ..Limits::default() };
        for layer in &image.layers {
            let upper = Upper::read(store.layer(layer)?, &mut left, &|_| Contents::Digest);
            let fail = |source| Error::Layer { digest: layer.digest.clone(), source };
            tree.merge(upper.map_err(fail)?);
        }
        Ok(tree)
    }

    /// What is at a path, without following links. The path is relative and clean.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// Where a path leads, symbolic links followed inside the root, the last one too. `/bin/sh`
    /// and `bin/sh` are the same; `..` of the root is the root.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<(&Path, &Node), ResolveError> {
        let asked = path.as_ref();
        let mut links = 0;
        let mut at = PathBuf::new();
        // What is still to be walked, the next part last.
        let mut rest: Vec<OsString> = Vec::new();
        push_parts(&mut rest, asked);
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let node = self.nodes.get(&next);
            let node = node.ok_or_else(|| ResolveError::NotFound(asked.into()))?;
            match &node.kind {
                NodeKind::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::Loop(asked.into()));
                    }
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    push_parts(&mut rest, target);
                }
                NodeKind::Directory => at = next,
                _ if rest.is_empty() => at = next,
                _ => return Err(ResolveError::NotDirectory(next)),
            }
        }
        let (path, node) = self.nodes.get_key_value(&at).expect("only what is there is walked");
        Ok((path, node))
    }

    /// Everything, parents before what is inside of them, in the order of the paths' parts.
    /// The first is the root.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// What is directly inside of a directory.
    pub fn children(&self, directory: impl AsRef<Path>) -> impl Iterator<Item = (&Path, &Node)> {
        let directory = directory.as_ref().to_owned();
        inside(&self.nodes, &directory)
            .filter(move |(path, _)| path.parent() == Some(&directory))
            .map(|(path, node)| (path.as_path(), node))
    }

    /// Puts a node at a path, and directories where its parents are missing. What was there and
    /// inside is gone, unless both are directories.
    pub fn insert(&mut self, path: impl Into<PathBuf>, node: Node) {
        let path = path.into();
        let mut parent = path.parent();
        while let Some(at) = parent {
            if self.nodes.get(at).is_some_and(Node::is_directory) {
                break;
            }
            self.nodes.insert(at.into(), Node::directory(0o755));
            parent = at.parent();
        }
        if !node.is_directory() {
            self.remove_inside(&path);
        }
        self.nodes.insert(path, node);
    }

    /// Bytes of all files together; those of hard links count once for each.
    pub fn size(&self) -> u64 {
        let sizes = self.nodes.values().map(|node| match &node.kind {
            NodeKind::File(bytes) => bytes.len() as u64,
            _ => 0,
        });
        sizes.sum()
    }

    /// Applies one layer, and takes what it needs from the limits.
    fn apply(&mut self, reader: impl Read, limits: &mut Limits) -> Result<(), LayerError> {
        self.merge(Upper::read(reader, limits, &|_| Contents::Bytes)?);
        Ok(())
    }

    /// Removals look below the layer only, whatever their place among its entries.
    fn merge(&mut self, upper: Upper) {
        for path in upper.removed {
            self.remove_inside(&path);
            self.nodes.remove(&path);
        }
        for path in upper.hidden {
            self.remove_inside(&path);
        }
        for (path, placed) in upper.nodes {
            let was_directory = matches!(self.nodes.get(&path), Some(node) if node.is_directory());
            match (was_directory, placed.node.is_directory()) {
                (true, true) if placed.implied => continue,
                (true, false) => self.remove_inside(&path),
                _ => {}
            }
            self.nodes.insert(path, placed.node);
        }
    }

    fn remove_inside(&mut self, directory: &Path) {
        let inside: Vec<PathBuf> = inside(&self.nodes, directory).map(|(p, _)| p.clone()).collect();
        for path in inside {
            self.nodes.remove(&path);
        }
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A directory that root owns.
    pub fn directory(mode: u32) -> Self {
        let (uid, gid, mtime, xattrs) = (0, 0, 0, BTreeMap::new());
        Self { mode, uid, gid, mtime, xattrs, kind: NodeKind::Directory }
    }

    /// A file that root owns.
    pub fn file(mode: u32, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { kind: NodeKind::File(bytes.into()), ..Self::directory(mode) }
    }

    /// A symbolic link.
    pub fn symlink(target: impl Into<PathBuf>) -> Self {
        Self { kind: NodeKind::Symlink(target.into()), ..Self::directory(0o777) }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }
}

/// What is kept of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Nothing,
    Bytes,
    /// Their number and their SHA-256, which tell them apart from all others.
    Digest,
}

impl Contents {
    fn of(self, content: &mut impl Read) -> io::Result<Arc<[u8]>> {
        match self {
            // Who reads on skips them.
            Contents::Nothing => Ok(Arc::default()),
            Contents::Bytes => {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Contents::Digest => {
                let mut hash = Sha256::new();
                let size = io::copy(content, &mut hash)?;
                Ok([&size.to_le_bytes()[..], &hash.finalize()[..]].concat().into())
            }
        }
    }
}

/// What one layer holds, before it is put over the others.
#[derive(Default)]
pub(crate) struct Upper {
    pub nodes: BTreeMap<PathBuf, Placed>,
    pub removed: Vec<PathBuf>,
    pub hidden: Vec<PathBuf>,
    /// The targets of hard links, none of which is a link itself.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

pub(crate) struct Placed {
    pub node: Node,
    /// A directory that the layer has no entry for, only something inside.
    implied: bool,
}

impl Upper {
    /// Reads one layer to its end, and takes what it needs from the limits. Files that are not
    /// to be kept are there without their contents, or with what stands for them.
    pub fn read(
        reader: impl Read,
        limits: &mut Limits,
        keep: &dyn Fn(&Path) -> Contents,
    ) -> Result<Self, LayerError> {
        let mut upper = Self::default();
        let mut reader = Reader::new(reader, limits);
        while let Some(entry) = reader.next()? {
            match Change::of(entry)? {
                Some(Change::Put(entry)) => upper.put(entry, &mut reader, keep)?,
                Some(Change::Remove(path)) => {
                    upper.parents(&path, &mut reader)?;
                    upper.removed.push(path);
                }
                Some(Change::Hide(path)) => {
                    // The marker itself lies in the directory, which may have no entry.
                    upper.parents(&path.join("x"), &mut reader)?;
                    upper.hidden.push(path);
                }
                None => {}
            }
        }
        *limits = reader.budget().left();
        Ok(upper)
    }

    fn put<R: Read>(
        &mut self,
        entry: Entry,
        reader: &mut Reader<R>,
        keep: &dyn Fn(&Path) -> Contents,
    ) -> Result<(), LayerError> {
        self.parents(&entry.path, reader)?;
        let Entry { path, mode, uid, gid, mtime, mut xattrs, .. } = entry;
        xattrs.retain(|name, _| is_portable(name));
        let node = |kind| Node { mode, uid, gid, mtime, xattrs, kind };
        let node = match entry.kind {
            EntryKind::Directory => node(NodeKind::Directory),
            EntryKind::Symlink(target) => node(NodeKind::Symlink(target)),
            EntryKind::Fifo => node(NodeKind::Fifo),
            EntryKind::File(_) => {
                let mut content = reader.content();
                let bytes = keep(&path).of(&mut content).map_err(|e| content.failed(e))?;
                node(NodeKind::File(bytes))
            }
            EntryKind::Link(target) => match self.nodes.get(&target).map(|placed| &placed.node) {
                // A link in the place of a directory removes what is inside, and so its target.
                Some(node)
                    if matches!(node.kind, NodeKind::File(_)) && !target.starts_with(&path) =>
                {
                    let sizes = node.xattrs.iter().map(|(name, value)| name.len() + value.len());
                    reader.budget().metadata(sizes.sum::<usize>() as u64)?;
                    let first = self.links.get(&target).unwrap_or(&target).clone();
                    self.links.insert(path.clone(), first);
                    node.clone()
                }
                _ => {
                    return Err(LayerError::Refused {
                        path,
                        refusal: Refusal::LinkMissing(target),
                    });
                }
            },
            EntryKind::Device => unreachable!("Change::of refuses devices"),
        };
        if !node.is_directory() {
            let gone: Vec<PathBuf> = inside(&self.nodes, &path).map(|(p, _)| p.clone()).collect();
            for path in gone {
                self.nodes.remove(&path);
            }
        }
        self.nodes.insert(path, Placed { node, implied: false });
        Ok(())
    }

    /// Makes the directories that a path lies in.
    fn parents<R: Read>(&mut self, path: &Path, reader: &mut Reader<R>) -> Result<(), LayerError> {
        for parent in path.ancestors().skip(1) {
            match self.nodes.get(parent) {
                Some(placed) if placed.node.is_directory() => break,
                Some(_) => {
                    let refusal = Refusal::Behind(parent.into());
                    return Err(LayerError::Refused { path: path.into(), refusal });
                }
                None => {}
            }
            reader.budget().implied(parent)?;
            self.nodes
                .insert(parent.into(), Placed { node: Node::directory(0o755), implied: true });
        }
        Ok(())
    }
}

/// What is inside of a directory, at any depth: paths are ordered by their parts, so it follows
/// the directory itself.
fn inside<'a, T>(
    nodes: &'a BTreeMap<PathBuf, T>,
    directory: &Path,
) -> impl Iterator<Item = (&'a PathBuf, &'a T)> + use<'a, T> {
    let directory = directory.to_owned();
    let after = (Bound::Excluded(directory.clone()), Bound::Unbounded);
    nodes.range(after).take_while(move |(path, _)| path.starts_with(&directory))
}

/// Pushes the parts of a path that name something, the first one last.
fn push_parts(rest: &mut Vec<OsString>, path: &Path) {
    for part in path.components().rev() {
        if let Component::Normal(_) | Component::ParentDir = part {
            rest.push(part.as_os_str().into());
        }
    }
}
