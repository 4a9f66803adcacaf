//! Following paths.

use super::{Node, Tree};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Table};
use crate::initrd::S_IFLNK;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Most symbolic links on the way of one path, as in Linux.
const LINKS_MAX: u32 = 40;
/// Longest path.
const PATH_MAX: usize = 4095;
/// Longest name of one file.
const NAME_MAX: usize = 255;

/// Where a path leads. A path whose last component does not exist leads somewhere too.
pub struct Place {
    /// The directory in which the last component is looked for.
    pub parent: Node,
    /// The last component.
    pub name: Vec<u8>,
    /// What kind of component it is.
    pub last: Last,
    /// What is there.
    pub node: Option<Node>,
    /// It ends with a slash, so only a directory can be meant.
    pub directory: bool,
}

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// With the name of a file.
    Name,
    /// With `.`.
    Dot,
    /// With `..`.
    DotDot,
    /// It is the root.
    Root,
}

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// ENOENT where nothing is, ENOTDIR for a path that ends with a slash but leads to no
    /// directory.
    pub fn node(&self, tree: &Tree<'_>) -> Result<Node> {
        let node = self.node.as_ref().ok_or(Errno::NOENT)?;
        if self.directory && !tree.is_directory(node) {
            return Err(Errno::NOTDIR);
        }
        Ok(node.clone())
    }
}

impl Tree<'_> {
    /// The file that a path leads to from the directory `base`, never out of the root. `follow`
    /// says whether a symbolic link at the end is followed.
    ///
    /// # Errors
    /// ENOENT for an empty path or a component that does not exist, ENOTDIR for one on the way
    /// that is no directory, ELOOP, ENAMETOOLONG.
    pub fn find(&self, base: &Node, path: &[u8], follow: bool, files: &Table) -> Result<Node> {
        match self.straight(path, follow) {
            Some(node) => Ok(node),
            None => self.walk(base, path, follow, files)?.node(self),
        }
    }

    /// The shortest way, which most paths go: an absolute path that stands in the archive's
    /// index as it is, and so has no link on its way, where nothing above hides a file.
    fn straight(&self, path: &[u8], follow: bool) -> Option<Node> {
        let path = path.strip_prefix(b"/").filter(|path| !path.is_empty())?;
        let mount = matches!(path.get(..3), Some(b"dev" | b"pro" | b"sys"));
        if mount || self.hidden {
            return None;
        }
        let node = self.initrd.find(path)?;
        if follow && self.initrd.kind(node) == S_IFLNK {
            return None;
        }
        Some(self.resolve(node))
    }

    /// As [`Tree::find`], for those who make or remove names.
    ///
    /// # Errors
    /// As [`Tree::find`], but for a last component that does not exist.
    pub fn walk(&self, base: &Node, path: &[u8], follow: bool, files: &Table) -> Result<Place> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let root = self.root();
        let mut place = Place {
            parent: root.clone(),
            name: Vec::new(),
            last: Last::Root,
            node: Some(if path[0] == b'/' { root } else { base.clone() }),
            directory: path.last() == Some(&b'/'),
        };
        let (mut links, mut at) = (0, 0);
        // The path as far as it is not followed yet, once a link has changed it.
        let mut changed: Option<Vec<u8>> = None;
        loop {
            let path = changed.as_deref().unwrap_or(path);
            let rest = path.get(at..).unwrap_or_default();
            let Some(skip) = rest.iter().position(|&byte| byte != b'/') else { break };
            let rest = &rest[skip..];
            let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            at += skip + end;
            let here = place.node.take().ok_or(Errno::NOENT)?;
            if !self.is_directory(&here) {
                return Err(Errno::NOTDIR);
            }
            let is_last = rest.iter().all(|&byte| byte == b'/');
            match name {
                b"." => {
                    place.last = Last::Dot;
                    place.node = Some(here);
                }
                b".." => {
                    place.last = Last::DotDot;
                    place.node = Some(self.parent(&here));
                }
                _ if name.len() > NAME_MAX => return Err(Errno::NAMETOOLONG),
                _ => {
                    let found = self.lookup(&here, name, files);
                    if found.is_none() && !is_last {
                        return Err(Errno::NOENT);
                    }
                    // A link with a slash behind it is followed even where it is the last.
                    let follows = follow || !rest.is_empty();
                    let link = found.as_ref().filter(|node| self.kind(node) == S_IFLNK);
                    if let Some(link) = link.filter(|_| follows) {
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(Errno::LOOP);
                        }
                        if let Some(node) = opened(link, files) {
                            place.last = Last::Name;
                            place.node = Some(self.current(&node));
                            continue;
                        }
                        let target = self.target(link)?;
                        if target.is_empty() {
                            return Err(Errno::NOENT);
                        }
                        if target.len() + rest.len() > PATH_MAX {
                            return Err(Errno::NAMETOOLONG);
                        }
                        let absolute = target[0] == b'/';
                        let mut next = target;
                        next.extend_from_slice(rest);
                        place.directory |= next.last() == Some(&b'/');
                        place.node = Some(if absolute { self.root() } else { here });
                        place.last = Last::Root;
                        (changed, at) = (Some(next), 0);
                        continue;
                    }
                    place.last = Last::Name;
                    place.name.clear();
                    place.name.extend_from_slice(name);
                    place.parent = here;
                    place.node = found;
                }
            }
        }
        // A path that ends with a dot means a directory as well.
        place.directory |= place.last != Last::Name;
        Ok(place)
    }
}

/// The open file that a link in `/proc/self/fd` leads to, whatever has its name by now.
fn opened(link: &Node, files: &Table) -> Option<Node> {
    let Node::Fixed(fixed) = link else { return None };
    let open = files.get(fixed.descriptor()?).ok()?;
    Some(match &open.object {
        Object::File(file) => Node::Archive(file.node),
        Object::Regular(inode) => Node::Upper(inode.clone()),
        Object::Directory(node) | Object::Path(node) => node.clone(),
        Object::Text(text) => Node::Fixed(text.file()),
        _ => Node::Open(Rc::clone(open)),
    })
}
