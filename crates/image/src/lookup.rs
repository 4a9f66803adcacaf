//! A few files of an image, without the others in memory.

use std::path::{Path, PathBuf};

use crate::tree::{Contents, Upper};
use crate::{Error, Layer, Limits, Node, NodeKind, Store};

/// Reads single files of an image.
///
/// Layers are read from the topmost down, each when a file was not found in those above it, and
/// the contents of no file but the one that is asked for are kept. So what is in the last layers
/// costs nothing in those below, which need not even be in the store.
pub struct Lookup<'a> {
    store: &'a Store,
    layers: &'a [Layer],
    limits: Limits,
    /// What the layers hold, the topmost first, as far as they have been read.
    read: Vec<Upper>,
}

/// What one layer says about a path.
enum Said {
    /// It is there, with everything but a file's contents.
    Is(Node),
    /// It is not, whatever the layers below have.
    Gone,
    /// Nothing.
    Nothing,
}

impl<'a> Lookup<'a> {
    /// Layers from the lowest to the topmost, as in [`crate::Image::layers`].
    pub fn new(store: &'a Store, layers: &'a [Layer], limits: Limits) -> Self {
        Self { store, layers, limits, read: Vec::new() }
    }

    /// What is at a path, which is relative and clean; links are not followed. Of a file, its
    /// contents are read.
    ///
    /// # Errors
    /// A layer that is missing, damaged, hostile, or larger than the limits.
    pub fn node(&mut self, path: &Path) -> Result<Option<Node>, Error> {
        if path == Path::new("") {
            return Ok(Some(Node::directory(0o755)));
        }
        for depth in 0..self.layers.len() {
            if depth == self.read.len() {
                let upper = self.upper(depth, &|_| Contents::Nothing)?;
                self.read.push(upper);
            }
            match said(&self.read[depth], path) {
                Said::Is(Node { kind: NodeKind::File(_), .. }) => return self.file(depth, path),
                Said::Is(node) => return Ok(Some(node)),
                Said::Gone => return Ok(None),
                Said::Nothing => {}
            }
        }
        Ok(None)
    }

    /// A file, with its contents. A hard link's are those of its target in the same layer.
    fn file(&self, depth: usize, path: &Path) -> Result<Option<Node>, Error> {
        let target = self.read[depth].links.get(path).map_or(path, PathBuf::as_path);
        let mut upper = self.upper(depth, &|entry| match entry == target {
            true => Contents::Bytes,
            false => Contents::Nothing,
        })?;
        Ok(upper.nodes.remove(path).map(|placed| placed.node))
    }

    fn upper(&self, depth: usize, keep: &dyn Fn(&Path) -> Contents) -> Result<Upper, Error> {
        let layer = &self.layers[self.layers.len() - 1 - depth];
        let reader = self.store.layer(layer)?;
        let read = Upper::read(reader, &mut self.limits.clone(), keep);
        read.map_err(|source| Error::Layer { digest: layer.digest.clone(), source })
    }
}

fn said(upper: &Upper, path: &Path) -> Said {
    if let Some(placed) = upper.nodes.get(path) {
        return Said::Is(placed.node.clone());
    }
    let above = || path.ancestors().skip(1);
    let removed = |at: &Path| upper.removed.iter().any(|removed: &PathBuf| removed == at);
    let hidden = |at: &Path| upper.hidden.iter().any(|hidden: &PathBuf| hidden == at);
    let replaced = |at: &Path| upper.nodes.get(at).is_some_and(|p| !p.node.is_directory());
    match removed(path) || above().any(|at| removed(at) || hidden(at) || replaced(at)) {
        true => Said::Gone,
        false => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A store with these layers, each a list of paths; one that ends with `/` is a directory,
    /// `A>B` a symbolic link, `A=B` a hard link. A file's content is its path and layer.
    fn image(layers: &[&[&str]]) -> (tempfile::TempDir, Store, Vec<Layer>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let layers = layers.iter().enumerate().map(|(number, paths)| {
            let mut tar = tar::Builder::new(Vec::new());
            for path in *paths {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o755);
                header.set_size(0);
                if let Some((path, target)) = path.split_once('>') {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target).unwrap();
                } else if let Some((path, target)) = path.split_once('=') {
                    header.set_entry_type(tar::EntryType::Link);
                    tar.append_link(&mut header, path, target).unwrap();
                } else if path.ends_with('/') {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, path, &b""[..]).unwrap();
                } else {
                    let content = format!("{path} {number}");
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_bytes()).unwrap();
                }
            }
            let mut writer = store.layer_writer(Default::default()).unwrap();
            writer.write_all(&tar.into_inner().unwrap()).unwrap();
            writer.finish().unwrap()
        });
        let layers = layers.collect();
        (folder, store, layers)
    }

    fn read(lookup: &mut Lookup<'_>, path: &str) -> Option<String> {
        match lookup.node(Path::new(path)).unwrap()?.kind {
            NodeKind::File(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            NodeKind::Directory => Some("directory".into()),
            NodeKind::Symlink(target) => Some(format!("to {}", target.display())),
            NodeKind::Fifo => Some("fifo".into()),
        }
    }

    #[test]
    fn a_file_is_that_of_the_topmost_layer_that_has_it() {
        let (_folder, store, layers) = image(&[
            &["a", "b", "d/x", "d/y", "e/z", "f/g"],
            &["b", "d/.wh.x", "e/.wh..wh..opq", "f"],
        ]);
        let mut lookup = Lookup::new(&store, &layers, Limits::default());
        let mut read = |path| read(&mut lookup, path);
        assert_eq!(read("a").as_deref(), Some("a 0"));
        assert_eq!(read("b").as_deref(), Some("b 1"));
        assert_eq!(read("d").as_deref(), Some("directory"));
        assert_eq!(read("d/x"), None);
        assert_eq!(read("d/y").as_deref(), Some("d/y 0"));
        assert_eq!(read("e/z"), None);
        assert_eq!(read("f/g"), None);
        assert_eq!(read("none"), None);
    }

    #[test]
    fn links_are_told_and_a_hard_link_has_the_contents_of_its_target() {
        let (_folder, store, layers) =
            image(&[&["bin/a", "bin/b=bin/a", "bin/c=bin/b", "l>bin/a"]]);
        let mut lookup = Lookup::new(&store, &layers, Limits::default());
        assert_eq!(read(&mut lookup, "bin/c").as_deref(), Some("bin/a 0"));
        assert_eq!(read(&mut lookup, "l").as_deref(), Some("to bin/a"));
    }

    #[test]
    fn a_layer_below_those_that_have_the_file_need_not_be_there() {
        let (folder, store, layers) = image(&[&["old"], &["new"]]);
        let blob = folder.path().join("blobs/sha256").join(layers[0].digest.hex());
        std::fs::remove_file(blob).unwrap();
        let mut lookup = Lookup::new(&store, &layers, Limits::default());
        assert_eq!(read(&mut lookup, "new").as_deref(), Some("new 1"));
        assert!(lookup.node(Path::new("old")).is_err());
    }
}
