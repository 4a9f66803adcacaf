//! What passes along the edges of a graph.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use koskit_image::{Layer, Store};
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

/// An image, or that and what steps have changed.
#[derive(Debug)]
pub(crate) struct Layers {
    /// Tells its files from others. Two with the same files may differ in it, and then only work
    /// is done twice.
    pub id: Digest,
    /// Those of the image that it begins with, the lowest first.
    pub image: Vec<Layer>,
    /// All layers as directories. An image that nothing is done with is not unpacked.
    snapshot: Mutex<Option<Snapshot>>,
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
    pub fn image(image: Vec<Layer>) -> Self {
        let ids = image.iter().map(|layer| layer.diff_id.as_str());
        let key = ids.fold(KeyBuilder::new("image"), KeyBuilder::with);
        let snapshot = image.is_empty().then(Snapshot::scratch);
        Self { id: key.finish(), image, snapshot: Mutex::new(snapshot) }
    }

    /// What a step has made.
    pub fn made(id: Digest, image: Vec<Layer>, snapshot: Snapshot) -> Self {
        Self { id, image, snapshot: Mutex::new(Some(snapshot)) }
    }

    /// The layers as directories, unpacked if they must be.
    pub fn snapshot(&self, snapshots: &Snapshots, store: &Store) -> Result<Snapshot, Problem> {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*snapshot {
            Some(known) => Ok(known.clone()),
            None => Ok(snapshot.insert(snapshots.image(store, &self.image)?).clone()),
        }
    }

    /// The directories, if they were needed.
    pub fn unpacked(&self) -> Option<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Context {
    /// It as the build sees it.
    pub fn view(&self) -> Result<View, Problem> {
        Ok(View::context(Root::open(&self.path)?, self.ignored.clone(), Arc::clone(&self.hashes)))
    }
}
