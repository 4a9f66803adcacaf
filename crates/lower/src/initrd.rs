//! The files of an image as a cpio archive in the form "newc", which libkos maps and reads in
//! place, and which `cpio -t <initrd.cpio` shows.
//!
//! The root is `.`, other paths are relative, parents come before what is inside. Inode numbers count from 1. Hard links have one inode number, and the last of them
//! carries the bytes, as GNU cpio does it. Extended attributes have no place in this form.

use crate::LowerError;
use koskit_cpio::{HEADER, Meta, TRAILER, padding};
use koskit_image::{Node, NodeKind, Tree};
use koskit_spec::layout::{INITRD_PAGES_MAX, PAGE};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most bytes of an initrd.
const MAX: u64 = INITRD_PAGES_MAX * PAGE;

/// Writes all files of a tree, as they are.
///
/// # Errors
/// A file has the name by which archives end, or all together are too large.
pub fn write(tree: &Tree) -> Result<Vec<u8>, LowerError> {
    write_at_most(tree, MAX)
}

fn write_at_most(tree: &Tree, max: u64) -> Result<Vec<u8>, LowerError> {
    let mut links = Links::of(tree);
    let size = size(tree, &mut Links::of(tree));
    if size > max {
        return Err(LowerError::InitrdSize { size, max });
    }
    let mut out = Vec::with_capacity(size as usize);
    let mut next = 1;
    for (path, node) in tree.iter() {
        let name = name(path);
        if name == TRAILER {
            return Err(LowerError::Trailer(Path::new("/").join(path)));
        }
        let content = links.content(node);
        let (ino, nlink) = match links.file(node) {
            Some(file) => {
                if file.inode == 0 {
                    file.inode = next;
                    next += 1;
                }
                (file.inode, file.count)
            }
            None => {
                next += 1;
                (next - 1, if node.is_directory() { 2 } else { 1 })
            }
        };
        let meta = Meta {
            ino,
            mode: file_type(&node.kind) | (node.mode & 0o7777),
            uid: node.uid,
            gid: node.gid,
            nlink,
            mtime: node.mtime.clamp(0, u32::MAX.into()) as u32,
            ..Meta::default()
        };
        entry(&mut out, meta, name, content);
    }
    entry(&mut out, Meta { nlink: 1, ..Meta::default() }, TRAILER, b"");
    debug_assert_eq!(out.len() as u64, size);
    Ok(out)
}

/// Size of the archive in bytes.
fn size(tree: &Tree, links: &mut Links) -> u64 {
    let entry = |name: &[u8], content: &[u8]| {
        (HEADER as u64 + name.len() as u64 + 1).next_multiple_of(4)
            + (content.len() as u64).next_multiple_of(4)
    };
    let mut size = entry(TRAILER, b"");
    for (path, node) in tree.iter() {
        size += entry(name(path), links.content(node));
    }
    size
}

fn entry(out: &mut Vec<u8>, meta: Meta, name: &[u8], content: &[u8]) {
    let meta = Meta { size: content.len() as u32, ..meta };
    out.extend_from_slice(&meta.header(name.len()));
    out.extend_from_slice(name);
    out.push(0);
    out.resize(out.len() + padding(out.len()), 0);
    out.extend_from_slice(content);
    out.resize(out.len() + padding(out.len()), 0);
}

fn name(path: &Path) -> &[u8] {
    match path.as_os_str().as_bytes() {
        b"" => b".",
        name => name,
    }
}

fn file_type(kind: &NodeKind) -> u32 {
    match kind {
        NodeKind::Directory => 0o040_000,
        NodeKind::File(_) => 0o100_000,
        NodeKind::Symlink(_) => 0o120_000,
        NodeKind::Fifo => 0o010_000,
    }
}

/// The files with their hard links, by the address of the bytes that they share.
struct Links(HashMap<*const u8, File>);

struct File {
    inode: u32,
    /// Number of its names.
    count: u32,
    /// Names that are still to come.
    left: u32,
}

impl Links {
    fn of(tree: &Tree) -> Self {
        let mut files = HashMap::new();
        for (_, node) in tree.iter() {
            if let Some(key) = key(node) {
                let file = files.entry(key).or_insert(File { inode: 0, count: 0, left: 0 });
                file.count += 1;
                file.left += 1;
            }
        }
        Self(files)
    }

    fn file(&mut self, node: &Node) -> Option<&mut File> {
        self.0.get_mut(&key(node)?)
    }

    /// The bytes of the entry that is written next.
    fn content<'a>(&mut self, node: &'a Node) -> &'a [u8] {
        let is_last = self.file(node).is_none_or(|file| {
            file.left = file.left.saturating_sub(1);
            file.left == 0
        });
        match &node.kind {
            NodeKind::File(bytes) if is_last => bytes,
            NodeKind::Symlink(target) => target.as_os_str().as_bytes(),
            _ => b"",
        }
    }
}

/// What the names of one file have in common. Empty files may all share one address, and need
/// no inode in common.
fn key(node: &Node) -> Option<*const u8> {
    match &node.kind {
        NodeKind::File(bytes) if !bytes.is_empty() => Some(bytes.as_ptr()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
