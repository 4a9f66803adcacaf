//! The solver: what is done with each vertex of a graph.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use koskit_image::layer::PackOptions;
use koskit_image::{Layer, Store};
use koskit_llb::{Digest, Graph, Vertex, pb};
use prost::Message as _;

use crate::cache::{Aliases, KeyBuilder};
use crate::copy::FileOp;
use crate::exec::Cancel;
use crate::files::{Changes, Filter, Find, ModeChange, Root, Target};
use crate::filesystem::{Context, FileSystem, Layers};
use crate::hashes::Hashes;
use crate::run::{self, Mounted};
use crate::schedule;
use crate::snapshot::{Active, Snapshot, Snapshots};
use crate::source::source;
use crate::{Event, Problem, SolveError, namespace};

/// Builds graphs. Any number of processes may use the same store and the same cache at once.
#[derive(Clone, Debug)]
pub struct Solver {
    store: Store,
    snapshots: Snapshots,
    aliases: Aliases,
}

/// What a graph takes from the outside, besides images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The directories that `local://NAME` stands for, by name. `context` is the build context.
    pub local: BTreeMap<String, PathBuf>,
}

/// How a graph is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Do all steps, even those whose result is known.
    pub no_cache: bool,
    /// How many steps at once; `None` is one for each core.
    pub jobs: Option<NonZeroUsize>,
    /// SOURCE_DATE_EPOCH, in seconds since 1970: the time of files from a context, and no file
    /// in a layer is later. With the same one, and commands that do the same each time, a build
    /// gives the same bytes.
    pub epoch: i64,
}

impl Default for Options {
    /// As many steps as cores, with the cache, and with all times at 1970.
    fn default() -> Self {
        Self { no_cache: false, jobs: None, epoch: 0 }
    }
}

/// A file system that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solved {
    /// Its layers in the store, the lowest first. Steps that have changed nothing have none.
    pub layers: Vec<Layer>,
    /// For each layer of the base image and each step on it, whether there is a layer of it.
    pub changed: Vec<bool>,
}

impl Solved {
    /// Marks the entries of an image's history whose steps have changed nothing. It is given
    /// the `empty_layer` of all entries. Of those that are not set yet, the last ones stand for
    /// the steps; an image that is built on may tell of fewer layers than it has.
    pub fn mark_empty<'a, I>(&self, empty_layers: I)
    where
        I: IntoIterator<Item = &'a mut bool, IntoIter: DoubleEndedIterator>,
    {
        let made = empty_layers.into_iter().rev().filter(|empty| !**empty);
        made.zip(self.changed.iter().rev()).for_each(|(empty, changed)| *empty = !changed);
    }
}

impl Solver {
    /// A solver that takes images from a store and puts layers there, and keeps what it has done
    /// in a directory. [`crate::init`] comes before, and a process that is not root's must have
    /// a single thread: it enters namespaces (see [`namespace::enter`]).
    ///
    /// # Errors
    /// There are no namespaces to be had, or the directory cannot be made or written.
    pub fn new(store: Store, cache: impl Into<PathBuf>) -> Result<Self, SolveError> {
        let open = |cache: &Path| {
            namespace::enter()?;
            let snapshots = Snapshots::open(cache)?;
            let aliases = Aliases::open(snapshots.path().join("keys"))?;
            Ok(Self { store: store.clone(), snapshots, aliases })
        };
        open(&cache.into()).map_err(|problem| SolveError { vertex: None, problem })
    }

    /// Builds a graph, and tells what happens meanwhile. `tell` is called from several threads.
    ///
    /// # Errors
    /// The first step that fails. All that others have done until then is kept for the next time.
    pub fn solve(
        &self,
        graph: &Graph,
        sources: &Sources,
        options: &Options,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Solved, SolveError> {
        let Some(result) = graph.result() else { return Ok(Solved::default()) };
        let cancel = Cancel::default();
        let hashes = Arc::new(Hashes::load(self.snapshots.path().join("hashes")));
        let hashes = &hashes;
        let build = Build { solver: self, graph, sources, options, tell, hashes, cancel: &cancel };
        let needs: Vec<Vec<usize>> = graph
            .vertices()
            .iter()
            .map(|vertex| vertex.inputs.iter().map(|edge| edge.vertex).collect())
            .collect();
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let jobs = options.jobs.unwrap_or(cores).get();
        let done = schedule::run(
            &needs,
            jobs,
            &cancel,
            |index, result: &dyn Fn(usize) -> Arc<Vec<FileSystem>>| {
                let inputs = graph.vertices()[index].inputs.iter();
                let inputs = inputs.map(|edge| result(edge.vertex)[edge.output as usize].clone());
                build.vertex(index, &inputs.collect::<Vec<_>>())
            },
        );
        hashes.save();
        let done =
            done.map_err(|(vertex, problem)| SolveError { vertex: Some(vertex), problem })?;
        build
            .result(&done[result.vertex][result.output as usize])
            .map_err(|problem| SolveError { vertex: None, problem })
    }
}

/// One call of [`Solver::solve`].
struct Build<'a> {
    solver: &'a Solver,
    graph: &'a Graph,
    sources: &'a Sources,
    options: &'a Options,
    tell: &'a (dyn Fn(Event) + Send + Sync),
    hashes: &'a Arc<Hashes>,
    cancel: &'a Cancel,
}

/// What a vertex gave.
struct Outcome {
    outputs: Vec<FileSystem>,
    cached: bool,
}

impl Build<'_> {
    fn vertex(&self, index: usize, inputs: &[FileSystem]) -> Result<Vec<FileSystem>, Problem> {
        (self.tell)(Event::Started { vertex: index });
        let start = Instant::now();
        let vertex = &self.graph.vertices()[index];
        let outcome = match &vertex.op {
            pb::op::Op::Source(op) => {
                let output = source(op, vertex, &self.solver.store, self.sources, self.hashes);
                output.map(|output| Outcome { outputs: vec![output], cached: false })
            }
            pb::op::Op::File(op) => self.file(vertex, op, inputs),
            pb::op::Op::Exec(op) => self.exec(index, op, inputs),
            pb::op::Op::Merge(_) => Err(Problem::Unsupported("a merge op".into())),
            pb::op::Op::Diff(_) => Err(Problem::Unsupported("a diff op".into())),
            pb::op::Op::Build(_) => Err(Problem::Unsupported("a build op".into())),
        };
        let duration = start.elapsed();
        (self.tell)(match &outcome {
            Ok(Outcome { cached: true, .. }) => Event::Cached { vertex: index },
            Ok(_) => Event::Completed { vertex: index, duration },
            Err(_) => Event::Failed { vertex: index, duration },
        });
        Ok(outcome?.outputs)
    }

    fn file(
        &self,
        vertex: &Vertex,
        op: &pb::FileOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        let op = FileOp::new(op, inputs.len())?;
        let whole = op.whole_inputs();
        let mut inputs = inputs.to_vec();
        for &index in &whole {
            inputs[index] = FileSystem::Layers(self.layers(&inputs[index])?);
        }
        let base = match op.base {
            Some(index) => self.layers(&inputs[index])?,
            None => Arc::new(Layers::scratch()),
        };

        // By name, all inputs count as a whole. A context has no name.
        let key = self.key("file", vertex).with(self.options.epoch.to_le_bytes());
        let names = inputs.iter().map(|input| match input {
            FileSystem::Layers(layers) => Some(&layers.id),
            FileSystem::Context(_) => None,
        });
        let names = names.collect::<Option<Vec<_>>>();
        let alias =
            names.map(|all| all.iter().fold(key.clone(), |k, id| k.with(id.as_str())).finish());
        if let Some(key) = alias.as_ref().and_then(|alias| self.solver.aliases.get(alias)) {
            if let Some(made) = self.known(vertex, &base, &key)? {
                return Ok(Outcome { outputs: vec![made], cached: true });
            }
        }

        let mount = |layers: &Layers| Ok(self.solver.snapshots.view(&self.snapshot(layers)?)?);
        let key = whole.iter().fold(key, |key, &index| match &inputs[index] {
            FileSystem::Layers(layers) => key.with(layers.id.as_str()),
            FileSystem::Context(_) => unreachable!("it was made layers"),
        });
        let ownership = self.solver.snapshots.ownership();
        let (found, key) = op.find(&inputs, key, &mount, ownership)?;
        let remember = || match &alias {
            Some(alias) => self.solver.aliases.put(alias, &key),
            None => Ok(()),
        };
        if let Some(made) = self.known(vertex, &base, &key)? {
            remember()?;
            return Ok(Outcome { outputs: vec![made], cached: true });
        }

        let active = self.solver.snapshots.prepare(&self.snapshot(&base)?)?;
        let root = Root::open(&active.path())?;
        let changes = Changes { root: &root, ownership, epoch: self.options.epoch };
        op.apply(&found, &changes, &|input| match op.base {
            Some(base) if base == input => Root::open(&active.path()).map(Some),
            _ => Ok(None),
        })?;
        drop(root);
        let made = self.commit(active, vertex, &base, key.clone())?;
        remember()?;
        Ok(Outcome { outputs: vec![made], cached: false })
    }

    fn exec(
        &self,
        index: usize,
        op: &pb::ExecOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        run::check(op)?;
        let vertex = &self.graph.vertices()[index];
        let inputs = inputs.iter().map(|input| self.layers(input));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let ids = inputs.iter().map(|input| input.id.as_str());
        let key = ids.fold(self.key("exec", vertex), KeyBuilder::with).finish();
        // For each output, what it is made of and its own key.
        let mut outputs = Vec::new();
        for mount in op.mounts.iter().filter(|mount| mount.output != -1) {
            let base = match usize::try_from(mount.input) {
                Ok(input) => Arc::clone(&inputs[input]),
                Err(_) => Arc::new(Layers::scratch()),
            };
            let output = mount.output.to_le_bytes();
            let key = KeyBuilder::new("output").with(key.as_str()).with(output).finish();
            outputs.push((mount.output, base, key));
        }
        let known = outputs.iter().map(|(output, base, key)| {
            Ok(self.known(vertex, base, key)?.map(|known| (*output, known)))
        });
        let known = known.collect::<Result<Option<Vec<_>>, Problem>>()?;
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            return Ok(Outcome { outputs: in_order(known), cached: true });
        }

        let mounted =
            Mounted::new(op, &self.solver.snapshots, &|input| self.snapshot(&inputs[input]))?;
        let kept = mounted.run(op, self.cancel, &|stream, bytes| {
            (self.tell)(Event::Output { vertex: index, stream, bytes: bytes.to_vec() });
        })?;
        let mut made = Vec::new();
        for ((output, base, key), active) in outputs.into_iter().zip(kept) {
            made.push((output, self.commit(active, vertex, &base, key)?));
        }
        Ok(Outcome { outputs: in_order(made), cached: false })
    }

    /// The result of a step that was done before, unless it is to be done again.
    fn known(
        &self,
        vertex: &Vertex,
        base: &Layers,
        key: &Digest,
    ) -> Result<Option<FileSystem>, Problem> {
        if self.anew(vertex) {
            return Ok(None);
        }
        let key = self.solver.aliases.get(key).unwrap_or_else(|| key.clone());
        let known = self.solver.snapshots.get(&key)?;
        Ok(known.map(|snapshot| made_of(base, key, snapshot)))
    }

    /// Keeps the result of a step.
    fn commit(
        &self,
        active: Active,
        vertex: &Vertex,
        base: &Layers,
        key: Digest,
    ) -> Result<FileSystem, Problem> {
        if !self.anew(vertex) {
            let made = active.commit(&key)?;
            return Ok(made_of(base, key, made));
        }
        // The one that there may be with this key is not what was made now.
        let own = KeyBuilder::new("again").with(key.as_str()).with_nonce().finish();
        let made = active.commit(&own)?;
        self.solver.aliases.put(&key, &own)?;
        Ok(made_of(base, own, made))
    }

    /// Whether a step is done even if its result is known.
    fn anew(&self, vertex: &Vertex) -> bool {
        self.options.no_cache || vertex.metadata.ignore_cache
    }

    /// The beginning of a key: what a vertex does, but not to what.
    fn key(&self, kind: &str, vertex: &Vertex) -> KeyBuilder {
        let mut op = vertex.op.clone();
        if let pb::op::Op::Exec(pb::ExecOp { meta: Some(meta), .. }) = &mut op {
            // They say how a command reaches the world, and not what it does.
            meta.proxy_env = None;
        }
        let platform = vertex.platform.as_ref().map(|platform| platform.to_pb());
        let op = pb::Op { op: Some(op), platform, ..pb::Op::default() };
        KeyBuilder::new(kind).with(op.encode_to_vec())
    }

    fn snapshot(&self, layers: &Layers) -> Result<Snapshot, Problem> {
        layers.snapshot(&self.solver.snapshots, &self.solver.store)
    }

    /// A file system as layers. A context becomes one, with all that is in it.
    fn layers(&self, file_system: &FileSystem) -> Result<Arc<Layers>, Problem> {
        let context = match file_system {
            FileSystem::Layers(layers) => return Ok(Arc::clone(layers)),
            FileSystem::Context(context) => context,
        };
        self.copy_context(context).map(Arc::new)
    }

    fn copy_context(&self, context: &Context) -> Result<Layers, Problem> {
        let view = context.view()?;
        let find = Find { follow: true, wildcard: false, allow_none: false, contents: true };
        let mut all = view.select("/", find, &Filter::default())?;
        let key = KeyBuilder::new("context").with(self.options.epoch.to_le_bytes());
        let key = key.with(all.digest(&view)?).finish();
        if let Some(known) = self.solver.snapshots.get(&key)? {
            return Ok(Layers::made(key, Vec::new(), known));
        }
        let active = self.solver.snapshots.prepare(&Snapshot::scratch())?;
        let root = Root::open(&active.path())?;
        let ownership = self.solver.snapshots.ownership();
        let target = Target {
            path: "/".into(),
            owner: None,
            mode: ModeChange::Keep,
            parents: true,
            contents: true,
            time: None,
        };
        let changes = Changes { root: &root, ownership, epoch: self.options.epoch };
        changes.copy(&all, &view, &target)?;
        drop(root);
        let made = active.commit(&key)?;
        Ok(Layers::made(key, Vec::new(), made))
    }

    /// The layers of what was wanted, in the store.
    fn result(&self, file_system: &FileSystem) -> Result<Solved, Problem> {
        let layers = self.layers(file_system)?;
        let Some(snapshot) = layers.unpacked().filter(|s| s.depth() > layers.image.len()) else {
            // No step is on the image.
            let changed = vec![true; layers.image.len()];
            return Ok(Solved { layers: layers.image.clone(), changed });
        };
        let options = PackOptions { latest: Some(self.options.epoch) };
        let all = self.solver.snapshots.layers(&self.solver.store, &snapshot, &options)?;
        let mut changed = self.solver.snapshots.changed(&snapshot)?;
        // What an image brought belongs to it, even if it is empty.
        changed[..layers.image.len()].fill(true);
        let layers = all.into_iter().zip(&changed).filter(|(_, changed)| **changed);
        Ok(Solved { layers: layers.map(|(layer, _)| layer).collect(), changed })
    }
}

/// Outputs are numbered from 0 without a gap.
fn in_order(mut outputs: Vec<(i64, FileSystem)>) -> Vec<FileSystem> {
    outputs.sort_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}

fn made_of(base: &Layers, key: Digest, snapshot: Snapshot) -> FileSystem {
    FileSystem::Layers(Arc::new(Layers::made(key, base.image.clone(), snapshot)))
}

#[cfg(test)]
mod tests;
