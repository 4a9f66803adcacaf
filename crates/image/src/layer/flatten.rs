//! Layers made one: the tar archive of what a container of an image sees, with no whiteouts.
//!
//! All layers are read twice, and no content is kept: first to find out which entries of which
//! layer are still to be seen above all others, then to copy those. In memory are their names.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::{Change, Entry, EntryKind, LayerError, Limits, Reader, Refusal, Writer, is_portable};
use crate::{Error, Layer, Store};

/// Writes the files of layers, the lowest first, below a directory that may be empty. The root
/// itself has no entry. The entries of a layer stand in its own order; a directory may come after
/// what is in it.
pub(crate) fn flatten<W: Write>(
    store: &Store,
    layers: &[Layer],
    below: &Path,
    limits: &Limits,
    to: &mut Writer<W>,
) -> Result<(), Error> {
    let of = |layer: &Layer| {
        let digest = layer.digest.clone();
        move |source| Error::Layer { digest, source }
    };
    let mut seen = Seen::default();
    let mut left = limits.clone();
    for (index, layer) in layers.iter().enumerate() {
        let mut reader = Reader::new(store.layer(layer)?, &left);
        seen.layer(index, &mut reader).map_err(of(layer))?;
        left = reader.budget().left();
    }
    let (implied, visible) = seen.names(layers.len());
    let write = |e| Error::from(LayerError::Write(e));
    for path in implied {
        to.entry(&directory(below.join(path))).map_err(write)?;
    }
    let mut left = limits.clone();
    for (layer, names) in layers.iter().zip(visible) {
        let mut reader = Reader::new(store.layer(layer)?, &left);
        copy(&mut reader, &names, below, to).map_err(of(layer))?;
        left = reader.budget().left();
    }
    Ok(())
}

/// A directory that has no entry.
pub(crate) fn directory(path: PathBuf) -> Entry {
    let (uid, gid, mtime, xattrs) = (0, 0, 0, BTreeMap::new());
    Entry { path, kind: EntryKind::Directory, mode: 0o755, uid, gid, mtime, xattrs }
}

/// Copies the entries of a layer that are seen: the number of each, with all of its names.
fn copy<R: Read, W: Write>(
    reader: &mut Reader<R>,
    names: &[(u32, PathBuf)],
    below: &Path,
    to: &mut Writer<W>,
) -> Result<(), LayerError> {
    let mut names = names.iter().peekable();
    let mut number = 0;
    while let Some(mut entry) = reader.next()? {
        let own = number;
        number += 1;
        let first = names.next_if(|(number, _)| *number == own);
        let Some((_, first)) = first else { continue };
        entry.path = below.join(first);
        entry.xattrs.retain(|name, _| is_portable(name));
        to.entry(&entry).map_err(LayerError::Write)?;
        if let EntryKind::File(size) = entry.kind {
            to.content(&mut reader.content(), size).map_err(|e| match e.downcast::<Error>() {
                Ok(error) => LayerError::Read(std::io::Error::other(error)),
                Err(e) => LayerError::Write(e),
            })?;
        }
        while let Some((_, other)) = names.next_if(|(number, _)| *number == own) {
            let kind = EntryKind::Link(below.join(first));
            let link = Entry { path: below.join(other), kind, xattrs: BTreeMap::new(), ..entry };
            to.entry(&link).map_err(LayerError::Write)?;
            entry = link;
        }
    }
    Ok(())
}

/// What is seen of the layers so far.
#[derive(Default)]
struct Seen(BTreeMap<PathBuf, Place>);

/// Where an entry stands.
#[derive(Clone, Copy)]
struct Place {
    layer: u32,
    /// Its number in the layer; of a hard link, that of the file. None has a directory without
    /// an entry.
    number: Option<u32>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    File,
    Other,
}

impl Seen {
    /// Puts a layer over the others. Removals look below the layer only, whatever their place
    /// among its entries.
    fn layer<R: Read>(&mut self, index: usize, reader: &mut Reader<R>) -> Result<(), LayerError> {
        let layer = index as u32;
        let mut upper = BTreeMap::new();
        let (mut removed, mut hidden) = (Vec::new(), Vec::new());
        let mut number = 0;
        while let Some(entry) = reader.next()? {
            match Change::of(entry)? {
                Some(Change::Put(entry)) => put(&mut upper, entry, layer, number, reader)?,
                Some(Change::Remove(path)) => {
                    parents(&mut upper, &path, layer, reader)?;
                    removed.push(path);
                }
                Some(Change::Hide(path)) => {
                    parents(&mut upper, &path.join("x"), layer, reader)?;
                    hidden.push(path);
                }
                None => {}
            }
            number += 1;
        }
        for path in removed {
            remove_inside(&mut self.0, &path);
            self.0.remove(&path);
        }
        for path in hidden {
            remove_inside(&mut self.0, &path);
        }
        for (path, place) in upper {
            let was_directory = self.0.get(&path).is_some_and(|p| p.kind == Kind::Directory);
            match place.kind {
                Kind::Directory if was_directory && place.number.is_none() => continue,
                Kind::Directory => {}
                _ if was_directory => remove_inside(&mut self.0, &path),
                _ => {}
            }
            self.0.insert(path, place);
        }
        Ok(())
    }

    /// The directories without an entry; and of each layer, the numbers of its entries that are
    /// seen and their names, in the order of both.
    fn names(self, layers: usize) -> (Vec<PathBuf>, Vec<Vec<(u32, PathBuf)>>) {
        let mut implied = Vec::new();
        let mut visible = vec![Vec::new(); layers];
        for (path, place) in self.0 {
            match place.number {
                _ if path.as_os_str().is_empty() => {}
                None => implied.push(path),
                Some(number) => visible[place.layer as usize].push((number, path)),
            }
        }
        visible.iter_mut().for_each(|names| names.sort());
        (implied, visible)
    }
}

fn put<R: Read>(
    upper: &mut BTreeMap<PathBuf, Place>,
    entry: Entry,
    layer: u32,
    number: u32,
    reader: &mut Reader<R>,
) -> Result<(), LayerError> {
    parents(upper, &entry.path, layer, reader)?;
    let place = |number, kind| Place { layer, number: Some(number), kind };
    let place = match &entry.kind {
        EntryKind::Directory => place(number, Kind::Directory),
        EntryKind::File(_) => place(number, Kind::File),
        EntryKind::Symlink(_) | EntryKind::Fifo => place(number, Kind::Other),
        EntryKind::Link(target) => match upper.get(target) {
            Some(known) if known.kind == Kind::File && !target.starts_with(&entry.path) => *known,
            _ => {
                let refusal = Refusal::LinkMissing(target.clone());
                return Err(LayerError::Refused { path: entry.path, refusal });
            }
        },
        EntryKind::Device => unreachable!("Change::of refuses devices"),
    };
    if place.kind != Kind::Directory {
        remove_inside(upper, &entry.path);
    }
    upper.insert(entry.path, place);
    Ok(())
}

/// Makes the directories that a path lies in.
fn parents<R: Read>(
    upper: &mut BTreeMap<PathBuf, Place>,
    path: &Path,
    layer: u32,
    reader: &mut Reader<R>,
) -> Result<(), LayerError> {
    for parent in path.ancestors().skip(1) {
        match upper.get(parent) {
            Some(place) if place.kind == Kind::Directory => break,
            Some(_) => {
                let refusal = Refusal::Behind(parent.into());
                return Err(LayerError::Refused { path: path.into(), refusal });
            }
            None => {}
        }
        reader.budget().implied(parent)?;
        upper.insert(parent.into(), Place { layer, number: None, kind: Kind::Directory });
    }
    Ok(())
}

fn remove_inside(places: &mut BTreeMap<PathBuf, Place>, directory: &Path) {
    let after = (Bound::Excluded(directory), Bound::Unbounded);
    let inside = places.range::<Path, _>(after).take_while(|(path, _)| path.starts_with(directory));
    let inside: Vec<PathBuf> = inside.map(|(path, _)| path.clone()).collect();
    for path in inside {
        places.remove(&path);
    }
}
