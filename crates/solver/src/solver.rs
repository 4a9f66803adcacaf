//! The solver: a graph in, layers out.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use koskit_image::{Compression, Fetch, Layer, Store};
use koskit_llb::{Edge, Graph, Inputs};

use crate::cache::Aliases;
use crate::exec::Cancel;
use crate::filesystem::Layers;
use crate::hashes::Hashes;
use crate::ops::Build;
use crate::portable::{CacheExport, Edges, Import, Mode, Records};
use crate::snapshot::{Snapshots, bring};
use crate::{Event, Problem, SolveError, namespace};

/// Builds graphs. Any number of processes may use the same store and the same cache at once.
#[derive(Clone)]
pub struct Solver {
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    pub(crate) aliases: Aliases,
    pub(crate) fetch: Option<Arc<dyn Fetch>>,
    pub(crate) imports: Arc<Vec<Import>>,
    /// Whether it finds out what BuildKit calls the results.
    shares: bool,
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
    /// How new layers are compressed.
    pub compression: Compression,
    /// Whether a `RUN --security=insecure` is done, with all capabilities that this process has
    /// in its namespaces. For graphs of people one trusts.
    pub insecure: bool,
}

impl Default for Options {
    /// As many steps as cores, with the cache, and with all times at 1970.
    fn default() -> Self {
        let compression = Compression::default();
        Self { no_cache: false, jobs: None, epoch: 0, compression, insecure: false }
    }
}

/// A file system that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solved {
    /// Its layers in the store, the lowest first. Steps that have changed nothing have none.
    pub layers: Vec<Layer>,
    /// For each layer of the base image and each step on it, whether there is a layer of it.
    pub changed: Vec<bool>,
    /// How many of the layers came with the base image: the first ones.
    pub base: usize,
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
            Ok(Self {
                store: store.clone(),
                snapshots,
                aliases,
                fetch: None,
                imports: Arc::default(),
                shares: false,
            })
        };
        open(&cache.into()).map_err(|problem| SolveError { vertex: None, problem })
    }

    /// A solver that can have layers of images that are not in the store. Without this, a build
    /// that needs such a layer's files fails.
    #[must_use]
    pub fn with_fetch(self, fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch: Some(fetch), ..self }
    }

    /// A solver that also takes results from caches of other places, the first of them first.
    #[must_use]
    pub fn with_imports(self, imports: Vec<Import>) -> Self {
        let shares = self.shares || !imports.is_empty();
        Self { imports: Arc::new(imports), shares, ..self }
    }

    /// A solver that also finds out what BuildKit would call each result, so that a cache that is
    /// exported is one for it, too. What is taken of a context is read once more for that.
    #[must_use]
    pub fn sharing(self) -> Self {
        Self { shares: true, ..self }
    }

    /// Builds a graph, and tells what happens meanwhile. `tell` is called from several threads.
    ///
    /// # Errors
    /// The first step that fails. All that others have done until then is kept for the next time.
    pub fn solve(
        &self,
        graph: &Graph,
        inputs: &Inputs,
        options: &Options,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Solved, SolveError> {
        let solved = self.solve_all(graph, inputs, options, tell)?;
        Ok(solved.into_iter().next().unwrap_or_default())
    }

    /// Builds all results of a graph ([`Graph::several`]): what several of them need is done once.
    ///
    /// # Errors
    /// As [`Solver::solve`].
    pub fn solve_all(
        &self,
        graph: &Graph,
        inputs: &Inputs,
        options: &Options,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<Vec<Solved>, SolveError> {
        self.solve_recorded(graph, inputs, options, tell).map(|(solved, _)| solved)
    }

    /// Builds all results of a graph, and tells what all steps came to, for [`Solver::export`].
    ///
    /// # Errors
    /// As [`Solver::solve`].
    pub fn solve_recorded(
        &self,
        graph: &Graph,
        inputs: &Inputs,
        options: &Options,
        tell: &(dyn Fn(Event) + Send + Sync),
    ) -> Result<(Vec<Solved>, Records), SolveError> {
        self.snapshots.flush_earlier();
        let records = &Mutex::new(Records { options: options.clone(), ..Records::default() });
        let cancel = &Cancel::default();
        let hashes = &Arc::new(Hashes::load(self.snapshots.path().join("hashes")));
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
        let edges = &self.shares.then(Edges::default);
        let build = Build {
            solver: self,
            graph,
            inputs,
            options,
            tell,
            hashes,
            cancel,
            cores,
            depth: 0,
            records,
            edges: edges.as_ref(),
        };
        let done = build.run();
        hashes.save();
        let nobody = |problem| SolveError { vertex: None, problem };
        // What was made is written to the disk while layers are packed; also after an error, for
        // the next time.
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| self.snapshots.flush());
            let done =
                done.map_err(|(vertex, problem)| SolveError { vertex: Some(vertex), problem })?;
            let result = |edge: &Option<Edge>| match edge {
                Some(edge) => build.result(&done[edge.vertex][edge.output as usize]),
                None => Ok(Solved::default()),
            };
            let solved = graph.results().iter().map(result).collect::<Result<_, _>>();
            let solved = solved.map_err(nobody)?;
            let flushed = flushed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            flushed.map_err(|error| nobody(error.into()))?;
            // The image is built; what cannot be removed now is no failure of the build.
            let _ = self.snapshots.clean_up(&self.store);
            let records = records.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((solved, records.clone()))
        })
    }

    /// Makes a cache of what a build came to, to be used elsewhere. The layers of all its results
    /// are in the store after this, fetched and packed where they must be.
    ///
    /// # Errors
    /// A layer cannot be fetched or packed.
    pub fn export(
        &self,
        records: &Records,
        solved: &[&Solved],
        mode: Mode,
    ) -> Result<CacheExport, SolveError> {
        let jobs = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
        let export = || -> Result<CacheExport, Problem> {
            // The layers of what is to be exported.
            let packed = |layers: &Layers| -> Result<Option<Vec<Layer>>, Problem> {
                if mode == Mode::Min
                    && !solved.iter().any(|solved| layers.depth() <= solved.changed.len())
                {
                    return Ok(None);
                }
                let packed = self.pack(layers, &records.options, jobs, &Cancel::default())?;
                let packed: Vec<Layer> = packed.into_iter().flatten().collect();
                let begins = |solved: &&Solved| solved.layers.starts_with(&packed);
                Ok((mode == Mode::Max || solved.iter().any(begins)).then_some(packed))
            };
            let (mut results, mut edges) = (Vec::new(), Vec::new());
            for (key, layers) in &records.results {
                results.extend(packed(layers)?.map(|packed| (key.clone(), packed)));
            }
            for (key, layers) in &records.edges {
                edges.extend(packed(layers)?.map(|packed| (Arc::clone(key), packed)));
            }
            let layers = results.iter().flat_map(|(_, layers)| layers);
            for layer in layers.chain(edges.iter().flat_map(|(_, layers)| layers)) {
                bring(&self.store, layer, self.fetch.as_deref())?;
            }
            let aliases = records.aliases.iter().map(|(a, b)| (a.clone(), b.clone()));
            Ok(CacheExport::new(results, aliases, edges))
        };
        export().map_err(|problem| SolveError { vertex: None, problem })
    }
}

#[cfg(test)]
pub(crate) mod tests;
