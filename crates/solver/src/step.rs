//! What all kinds of steps need: keys, results that are known, and results that are kept.

use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError};

use koskit_image::Layer;
use koskit_image::layer::PackOptions;
use koskit_llb::{Digest, Vertex, pb};
use prost::Message as _;

use crate::Problem;
use crate::cache::KeyBuilder;
use crate::exec::{Cancel, ExecError};
use crate::files::{Changes, Filter, Find, Root, Target};
use crate::filesystem::{Context, FileSystem, Layers, Piece};
use crate::ops::Build;
use crate::schedule;
use crate::snapshot::{Active, Claim, Snapshot};
use crate::solver::{Options, Solved, Solver};

impl Build<'_> {
    /// The result of a step that was done before, unless it is to be done again; `output` is its
    /// number, where it is an output of the vertex's.
    pub fn known(
        &self,
        vertex: &Vertex,
        base: &Layers,
        key: &Digest,
        output: Option<u32>,
    ) -> Result<Option<FileSystem>, Problem> {
        if self.anew(vertex) {
            return Ok(None);
        }
        let own = self.alias(key).unwrap_or_else(|| key.clone());
        let known = self.solver.snapshots.get(&own)?;
        let known = known.filter(|known| known.depth() == base.depth() + 1);
        if let Some(snapshot) = known {
            return Ok(Some(self.recorded(Layers::made(own, base, &snapshot))));
        }
        for import in &*self.solver.imports {
            if let Some(layers) = import.get(&own, &self.solver.store)? {
                return Ok(Some(self.recorded(Layers::imported(own, base, layers))));
            }
        }
        match output {
            Some(output) => self.known_to_buildkit(vertex, base, &own, output),
            None => Ok(None),
        }
    }

    /// The result of a step that BuildKit has done, as an imported cache has it.
    pub fn known_to_buildkit(
        &self,
        vertex: &Vertex,
        base: &Layers,
        key: &Digest,
        output: u32,
    ) -> Result<Option<FileSystem>, Problem> {
        let edge = self.edges.and_then(|edges| edges.get(&vertex.digest, output));
        let Some(edge) = edge.filter(|_| !self.anew(vertex)) else { return Ok(None) };
        for (place, import) in self.solver.imports.iter().enumerate() {
            if let Some(layers) = import.get_record(&edge, place, &self.solver.store)? {
                return Ok(Some(self.recorded(Layers::imported(key.clone(), base, layers))));
            }
        }
        Ok(None)
    }

    /// The key that a name stands for, here or in an imported cache.
    pub fn alias(&self, name: &Digest) -> Option<Digest> {
        let found =
            self.solver.aliases.get(name).or_else(|| {
                self.solver.imports.iter().find_map(|import| import.alias(name).cloned())
            });
        if let Some(key) = &found {
            self.record_alias(name, key);
        }
        found
    }

    /// Notes that a name stands for a key, also for the next time.
    pub fn put_alias(&self, name: &Digest, key: &Digest) -> Result<(), Problem> {
        self.record_alias(name, key);
        self.solver.aliases.put(name, key)
    }

    fn record_alias(&self, name: &Digest, key: &Digest) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.aliases.insert(name.clone(), key.clone());
    }

    fn recorded(&self, layers: Layers) -> FileSystem {
        let layers = Arc::new(layers);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.results.insert(layers.id.clone(), Arc::clone(&layers));
        FileSystem::Layers(layers)
    }

    /// Waits until no other step, of this build or of another one, does what a key stands for:
    /// after that, it may be known. A step that is to be done anew does not wait.
    pub fn claim(&self, vertex: &Vertex, key: &Digest) -> Result<Option<Claim>, Problem> {
        if self.anew(vertex) {
            return Ok(None);
        }
        match self.solver.snapshots.claim(key, &|| self.cancel.is_cancelled())? {
            Some(claim) => Ok(Some(claim)),
            None => Err(ExecError::Cancelled { command: vertex.name() }.into()),
        }
    }

    /// Keeps the result of a step.
    pub fn commit(
        &self,
        mut active: Active,
        vertex: &Vertex,
        base: &Layers,
        key: Digest,
    ) -> Result<FileSystem, Problem> {
        active.describe(vertex.name());
        if !self.anew(vertex) {
            let made = active.commit(&key)?;
            return Ok(self.recorded(Layers::made(key, base, &made)));
        }
        // The one that there may be with this key is not what was made now.
        let own = KeyBuilder::new("again").with(key.as_str()).with_nonce().finish();
        let made = active.commit(&own)?;
        self.put_alias(&key, &own)?;
        Ok(self.recorded(Layers::made(own, base, &made)))
    }

    /// Whether a step is done even if its result is known.
    pub fn anew(&self, vertex: &Vertex) -> bool {
        self.options.no_cache || vertex.metadata.ignore_cache
    }

    /// The beginning of a key: what a vertex does, but not to what.
    pub fn key(&self, kind: &str, vertex: &Vertex) -> KeyBuilder {
        let mut op = vertex.op.clone();
        if let pb::op::Op::Exec(pb::ExecOp { meta: Some(meta), .. }) = &mut op {
            // They say how a command reaches the world, and not what it does.
            meta.proxy_env = None;
        }
        let platform = vertex.platform.as_ref().map(|platform| platform.to_pb());
        let op = pb::Op { op: Some(op), platform, ..pb::Op::default() };
        KeyBuilder::new(kind).with(op.encode_to_vec())
    }

    /// All layers of a file system as directories.
    pub fn snapshot(&self, layers: &Layers) -> Result<Snapshot, Problem> {
        layers.snapshot(&self.solver.snapshots, &self.solver.store, self.solver.fetch.as_deref())
    }

    /// A file system as layers. A context becomes one, with all that is in it.
    pub fn layers(&self, file_system: &FileSystem) -> Result<Arc<Layers>, Problem> {
        let context = match file_system {
            FileSystem::Layers(layers) => return Ok(Arc::clone(layers)),
            FileSystem::Context(context) => context,
        };
        self.copy_context(context).map(Arc::new)
    }

    fn copy_context(&self, context: &Context) -> Result<Layers, Problem> {
        let view = context.view()?;
        let mut all = view.select("/", Find::all(), &Filter::default())?;
        let key = KeyBuilder::new("context").with(self.options.epoch.to_le_bytes());
        let key = key.with(all.digest(&view)?).finish();
        if let Some(known) = self.solver.snapshots.get(&key)? {
            return Ok(Layers::made(key, &Layers::scratch(), &known));
        }
        let mut active = self.solver.snapshots.prepare(&Snapshot::scratch())?;
        active.describe("a build context".into());
        let root = Root::open(&active.path())?;
        let ownership = self.solver.snapshots.ownership();
        let epoch = self.options.epoch;
        let changes = Changes { root: &root, ownership, epoch, warn: &|_| {}, links: None };
        changes.copy(&all, &view, &Target::root())?;
        drop(root);
        let made = active.commit(&key)?;
        Ok(Layers::made(key, &Layers::scratch(), &made))
    }

    /// The layers of what was wanted, in the store.
    pub fn result(&self, file_system: &FileSystem) -> Result<Solved, Problem> {
        let layers = self.layers(file_system)?;
        let jobs = self.options.jobs.map_or(self.cores, NonZeroUsize::get);
        let packed = self.solver.pack(&layers, self.options, jobs, self.cancel)?;
        let pieces = layers.pieces();
        let base = pieces.iter().take_while(|piece| matches!(piece, Piece::Image(_))).count();
        let mut solved = Solved { base, ..Solved::default() };
        for layer in packed {
            solved.changed.push(layer.is_some());
            solved.layers.extend(layer);
        }
        Ok(solved)
    }
}

impl Solver {
    /// For each piece of a file system, its layer in the store, if there is one. Each is packed by
    /// itself, so several are at once.
    pub(crate) fn pack(
        &self,
        layers: &Layers,
        options: &Options,
        jobs: usize,
        cancel: &Cancel,
    ) -> Result<Vec<Option<Layer>>, Problem> {
        let (latest, compression) = (Some(options.epoch), options.compression);
        let pack = PackOptions { latest, compression };
        let pieces = layers.pieces();
        let done = schedule::run(
            &vec![Vec::new(); pieces.len()],
            jobs,
            cancel,
            |index, _: &dyn Fn(usize) -> Arc<Option<Layer>>| match &pieces[index] {
                // What an image brought belongs to it, even if it is empty.
                Piece::Image(layer) | Piece::Imported(layer) => Ok(Some(layer.clone())),
                Piece::Made(snapshot) if self.snapshots.changed(snapshot)?.contains(&true) => {
                    Ok(self.snapshots.layers(&self.store, snapshot, &pack)?.pop())
                }
                Piece::Made(_) | Piece::Nothing => Ok::<_, Problem>(None),
            },
        );
        let layers = done.map_err(|(_, problem)| problem)?;
        Ok(layers.iter().map(|layer| (**layer).clone()).collect())
    }
}
