//! In what two images differ.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{Error, Image, Node, Store, Tree};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It is new.
    Added,
    /// Its kind, contents, owner, permissions or attributes are others.
    Changed,
    /// It is gone.
    Deleted,
}

impl Difference {
    /// docker's letter for it.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

impl Store {
    /// Compares all files of two images. Times of files are not compared: they say when, and
    /// not what. The layers are read one after the other and no contents are kept, so that the
    /// size of the images does not matter.
    ///
    /// # Errors
    /// A layer is missing, damaged or hostile.
    pub fn diff(&self, old: &Image, new: &Image) -> Result<Vec<(PathBuf, Difference)>, Error> {
        let (old, new) = (Tree::digests(self, old)?, Tree::digests(self, new)?);
        let mut out = BTreeMap::new();
        for (path, node) in new.iter() {
            match old.get(path) {
                None => out.insert(path.to_owned(), Difference::Added),
                Some(before) if !same(before, node) => {
                    out.insert(path.to_owned(), Difference::Changed)
                }
                Some(_) => None,
            };
        }
        for (path, _) in old.iter().filter(|(path, _)| new.get(path).is_none()) {
            out.insert(path.to_owned(), Difference::Deleted);
        }
        Ok(out.into_iter().collect())
    }
}

fn same(a: &Node, b: &Node) -> bool {
    (a.mode, a.uid, a.gid) == (b.mode, b.uid, b.gid) && a.kind == b.kind && a.xattrs == b.xattrs
}
