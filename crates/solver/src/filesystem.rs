//! What passes along the edges of a graph.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use koskit_image::{Fetch, Layer, Store};
use koskit_llb::{Digest, Patterns};

use crate::Problem;
use crate::cache::KeyBuilder;
use crate::files::{Root, View};
use crate::hashes::Hashes;
use crate::snapshot::{Snapshot, Snapshots};

/// The result of a vertex.
#[derive(Clone, Debug)]
pub(crate) enum FileSystem {
    /// Layers.
    Layers(Arc<Layers>),
    /// A directory of the user's.
    Context(Arc<Context>),
}

/// Layers of images and of steps, one on the other.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Tells its files from others. Two with the same files may differ in it, and then only work
    /// is done twice.
    pub id: Digest,
    /// The lowest first.
    parts: Vec<Part>,
}

/// Some of the layers of a [`Layers`].
#[derive(Clone, Debug)]
enum Part {
    /// Those of an image from a depth on. An image that nothing is done with is not unpacked.
    Image(Arc<Image>, usize),
    /// What a step, or several, made.
    Made(Snapshot),
    /// A step that has changed nothing, and left no layer.
    Nothing,
}

#[derive(Debug)]
struct Image {
    layers: Vec<Layer>,
    /// Whether steps made them, elsewhere.
    imported: bool,
    /// All layers as directories.
    snapshot: Mutex<Option<Snapshot>>,
}

/// A layer of a [`Layers`], for the image that is made of it.
pub(crate) enum Piece {
    /// It came with an image.
    Image(Layer),
    /// A step made it, elsewhere.
    Imported(Layer),
    /// A step made it: a snapshot of this layer alone.
    Made(Snapshot),
    /// A step left none.
    Nothing,
}

/// A directory of the user's.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where.
    pub path: PathBuf,
    /// What is not there as far as the build is concerned.
    pub ignored: Patterns,
    /// What is known of its files.
    pub hashes: Arc<Hashes>,
}

impl Layers {
    /// The empty file system.
    pub fn scratch() -> Self {
        Self::image(Vec::new())
    }

    /// An image.
    pub fn image(layers: Vec<Layer>) -> Self {
        let ids = layers.iter().map(|layer| layer.diff_id.as_str());
        let id = ids.fold(KeyBuilder::new("image"), KeyBuilder::with).finish();
        let parts = match layers.is_empty() {
            true => Vec::new(),
            false => vec![Part::Image(
                Arc::new(Image { layers, imported: false, snapshot: Mutex::new(None) }),
                0,
            )],
        };
        Self { id, parts }
    }

    /// What a step has made of a base: a snapshot of all layers of the base and those of the
    /// step.
    pub fn made(id: Digest, base: &Self, snapshot: &Snapshot) -> Self {
        let mut parts = base.parts.clone();
        parts.push(Part::Made(snapshot.above(base.depth())));
        Self { id, parts }
    }

    /// What a step has made of a base elsewhere: all layers, the lowest first, none of which is
    /// unpacked.
    pub fn imported(id: Digest, base: &Self, layers: Vec<Layer>) -> Self {
        let mut below = Vec::new();
        let mut known = true;
        for piece in base.pieces() {
            match piece {
                Piece::Image(layer) | Piece::Imported(layer) => below.push(layer.diff_id),
                Piece::Nothing => {}
                Piece::Made(_) => known = false,
            }
        }
        let same = layers.iter().map(|layer| &layer.diff_id).zip(&below).all(|(a, b)| a == b);
        let (from, count) = match known && same && below.len() <= layers.len() {
            true => (below.len(), layers.len()),
            // It was made on other layers than those that are here: they come with it.
            false => (0, layers.len()),
        };
        let mut parts = if from == 0 && count > 0 { Vec::new() } else { base.parts.clone() };
        if from == count {
            parts.push(Part::Nothing);
        } else {
            let image = Image { layers, imported: true, snapshot: Mutex::new(None) };
            parts.push(Part::Image(Arc::new(image), from));
        }
        Self { id, parts }
    }

    /// One on the other.
    pub fn merged(id: Digest, all: &[Arc<Self>]) -> Self {
        Self { id, parts: all.iter().flat_map(|layers| layers.parts.clone()).collect() }
    }

    /// What the upper one has on the layers of the lower one, if it is made of that one.
    pub fn between(id: Digest, lower: &Self, upper: &Self) -> Option<Self> {
        let mut parts = upper.parts.iter();
        let mut rest = Vec::new();
        for (i, below) in lower.parts.iter().enumerate() {
            let part = parts.next()?;
            match (below, part) {
                (Part::Image(below, from), Part::Image(image, start)) if from == start => {
                    let (below, all) = (&below.layers[*from..], &image.layers[*start..]);
                    let same = |(one, other): (&Layer, &Layer)| one.diff_id == other.diff_id;
                    if below.len() > all.len() || !below.iter().zip(all).all(same) {
                        return None;
                    }
                    if below.len() < all.len() {
                        rest.push(Part::Image(Arc::clone(image), start + below.len()));
                    }
                }
                (Part::Nothing, Part::Nothing) => {}
                (Part::Made(below), Part::Made(snapshot)) if below.begins(snapshot) => {
                    if below.depth() < snapshot.depth() {
                        rest.push(Part::Made(snapshot.above(below.depth())));
                    }
                }
                _ => return None,
            }
            // Only the last one may be a part of what the upper one has there.
            if !rest.is_empty() && i + 1 < lower.parts.len() {
                return None;
            }
        }
        rest.extend(parts.cloned());
        Some(Self { id, parts: rest })
    }

    /// How many layers there are.
    pub fn depth(&self) -> usize {
        let depth = |part: &Part| match part {
            Part::Image(image, from) => image.layers.len() - from,
            Part::Made(snapshot) => snapshot.depth(),
            Part::Nothing => 0,
        };
        self.parts.iter().map(depth).sum()
    }

    /// The layers as directories, fetched and unpacked if they must be.
    pub fn snapshot(
        &self,
        snapshots: &Snapshots,
        store: &Store,
        fetch: Option<&dyn Fetch>,
    ) -> Result<Snapshot, Problem> {
        let parts = self.parts.iter().map(|part| match part {
            Part::Image(image, from) => Ok(image.snapshot(snapshots, store, fetch)?.above(*from)),
            Part::Made(snapshot) => Ok(snapshot.clone()),
            Part::Nothing => Ok(Snapshot::scratch()),
        });
        let parts = parts.collect::<Result<Vec<_>, Problem>>()?;
        Ok(snapshots.stack(&parts)?)
    }

    /// All layers, lowest first, without unpacking any.
    pub fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.depth());
        for part in &self.parts {
            match part {
                Part::Image(image, from) => {
                    let kind = if image.imported { Piece::Imported } else { Piece::Image };
                    pieces.extend(image.layers[*from..].iter().cloned().map(kind));
                }
                Part::Made(snapshot) => pieces.extend(snapshot.each().map(Piece::Made)),
                Part::Nothing => pieces.push(Piece::Nothing),
            }
        }
        pieces
    }
}

impl Image {
    fn snapshot(
        &self,
        snapshots: &Snapshots,
        store: &Store,
        fetch: Option<&dyn Fetch>,
    ) -> Result<Snapshot, Problem> {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*snapshot {
            Some(known) => Ok(known.clone()),
            None => Ok(snapshot.insert(snapshots.image(store, &self.layers, fetch)?).clone()),
        }
    }
}

impl Context {
    /// It as the build sees it.
    pub fn view(&self) -> Result<View, Problem> {
        Ok(View::context(Root::open(&self.path)?, self.ignored.clone(), Arc::clone(&self.hashes)))
    }
}
