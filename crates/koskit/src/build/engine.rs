//! Who runs a build graph.
//!
//! Whatever comes before (the Dockerfile, the graph) and after (labels, names, outputs) is the
//! same for all engines.

use crate::build::Arguments;
use crate::build::caches;
use crate::build::epoch::dated;
use crate::build::events::Events;
use crate::build::failure;
use crate::names;
use crate::registry::Layers;
use anyhow::Result;
use koskit_buildkit::{Cache, Client, Credentials};
use koskit_frontend::{Build, ImageConfig};
use koskit_image::{Compression, Layer, Store};
use koskit_llb::{Graph, Inputs, Platform, pb};
use koskit_progress::Progress;
use koskit_registry::Credential;
use koskit_solver::{Solved, Solver};
use std::sync::Arc;

/// What runs a build graph.
pub enum Engine {
    /// The solver in this process.
    Embedded {
        /// It.
        solver: Box<Solver>,
        /// Where its layers are.
        store: Store,
    },
    /// A BuildKit server, whose layers come into the store.
    Remote {
        /// The connection to it.
        client: Box<Client>,
        /// Where its layers are wanted.
        store: Store,
        /// What commands may do besides.
        allow: Vec<String>,
    },
}

/// What is to be run.
pub struct Request<'a> {
    /// The graphs and the configurations of the images, and the platforms that they are for: all
    /// of one Dockerfile.
    pub builds: &'a [(&'a Platform, &'a Build)],
    /// What it takes from outside.
    pub inputs: &'a Inputs,
    /// Run all steps, even those whose result is known.
    pub no_cache: bool,
    /// SOURCE_DATE_EPOCH.
    pub epoch: i64,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Whether commands may be insecure; a server knows by itself.
    pub insecure: bool,
    /// Caches to begin with.
    pub cache_from: &'a [Cache],
    /// Caches to write.
    pub cache_to: &'a [Cache],
}

/// What came of it for one platform.
pub struct Made {
    /// The configuration, with its history and dates; its `rootfs` is empty.
    pub config: ImageConfig,
    /// The layers, in the store, the lowest first.
    pub layers: Vec<Layer>,
    /// How many of them, the first ones, came with the base image.
    pub base: usize,
    /// The records of a build cache, for the configuration.
    pub inline_cache: Option<String>,
}

impl Engine {
    /// Makes an engine ready: the one in this process, or the builder that is named. The first
    /// enters namespaces, and so comes before any thread.
    ///
    /// # Errors
    /// The machine lacks what it needs, or the builder cannot be talked to.
    pub fn open(store: &Store, arguments: &Arguments) -> Result<Self> {
        if let Some(builder) = arguments.builder() {
            let (client, allow) = (Box::new(Client::connect(&builder)?), arguments.allow.clone());
            return Ok(Self::Remote { client, store: store.clone(), allow });
        }
        let solver = Solver::new(store.clone(), names::cache()?)?;
        Ok(Self::Embedded { solver: Box::new(solver), store: store.clone() })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::Embedded { .. } => "koskit",
            Self::Remote { client, .. } => client.address(),
        }
    }

    /// Whether a local input may be a tar archive; if not, it must be a directory.
    pub fn takes_archives(&self) -> bool {
        matches!(self, Self::Embedded { .. })
    }

    /// Runs graphs, and shows what happens. Gives what came of each.
    ///
    /// # Errors
    /// The first step that fails, with its place in the Dockerfile.
    pub fn solve(&self, request: &Request<'_>, progress: &Progress) -> Result<Vec<Made>> {
        match self {
            Self::Embedded { solver, store } => embedded(solver, store, request, progress),
            Self::Remote { client, store, allow } => {
                let asked = koskit_buildkit::Request {
                    inputs: request.inputs.clone(),
                    cache_from: caches::of_server(request.cache_from, progress),
                    cache_to: caches::for_server(request.cache_to)?,
                    allow: allow.clone(),
                    epoch: request.epoch,
                    compression: request.compression,
                    credentials: Some(credentials()),
                };
                // One after the other: what a server returns is for one graph. It knows by itself
                // what it did for the one before.
                let each = request.builds.iter();
                each.map(|(_, build)| remote(client, store, build, &asked, progress)).collect()
            }
        }
    }

    /// Runs a graph that no Dockerfile is the source of, as to fetch a context. Gives its layers.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn fetch(
        &self,
        definition: &pb::Definition,
        inputs: &Inputs,
        progress: &Progress,
    ) -> Result<Vec<Layer>> {
        match self {
            Self::Embedded { solver, .. } => {
                let graph = Graph::new(definition)?;
                let events = Events::new(&graph, progress);
                let options = koskit_solver::Options::default();
                let tell = |event| events.tell(&event);
                let solver = solver.as_ref().clone().with_fetch(Arc::new(Layers::new(progress)));
                match solver.solve(&graph, inputs, &options, &tell) {
                    Ok(solved) => {
                        events.done();
                        Ok(solved.layers)
                    }
                    Err(error) => {
                        events.failed(&error);
                        Err(error.into())
                    }
                }
            }
            Self::Remote { client, store, allow } => {
                let asked = koskit_buildkit::Request {
                    inputs: inputs.clone(),
                    allow: allow.clone(),
                    credentials: Some(credentials()),
                    ..koskit_buildkit::Request::default()
                };
                let tell = |status| progress.update(&status);
                Ok(client.solve(definition, &asked, store, &tell)?.layers)
            }
        }
    }
}

fn embedded(
    solver: &Solver,
    store: &Store,
    request: &Request<'_>,
    progress: &Progress,
) -> Result<Vec<Made>> {
    caches::check(request.cache_to)?;
    let graphs = request.builds.iter().map(|(_, build)| Graph::new(&build.definition));
    let graph = Graph::several(&graphs.collect::<Result<Vec<_>, _>>()?);
    let options = koskit_solver::Options {
        no_cache: request.no_cache,
        epoch: request.epoch,
        compression: request.compression,
        insecure: request.insecure,
        ..koskit_solver::Options::default()
    };
    let platforms: Vec<&Platform> = request.builds.iter().map(|(platform, _)| *platform).collect();
    let imports = caches::import(request.cache_from, store, &platforms, progress);
    let layers = Arc::new(Layers::new(progress));
    let mut solver = solver.clone().with_imports(imports).with_fetch(layers);
    if !request.cache_to.is_empty() {
        solver = solver.sharing();
    }
    let events = Events::new(&graph, progress);
    let tell = |event| events.tell(&event);
    let solved = match solver.solve_recorded(&graph, request.inputs, &options, &tell) {
        Ok(solved) => {
            events.done();
            solved
        }
        Err(error) => {
            events.failed(&error);
            // Any of them has it, as all are of one Dockerfile.
            let Some((_, build)) = request.builds.first() else { return Err(error.into()) };
            return Err(failure::of_step(error, &graph, &build.source));
        }
    };
    let (solved, records) = solved;
    let inline = caches::export(request.cache_to, &solver, store, &records, &solved, progress)?;
    let each = request.builds.iter().zip(solved).zip(inline);
    let made = |(((_, build), solved), inline_cache): ((&(_, &Build), _), _)| Made {
        inline_cache,
        ..made(build, request.epoch, solved)
    };
    Ok(each.map(made).collect())
}

/// Runs one graph on a server.
fn remote(
    client: &Client,
    store: &Store,
    build: &Build,
    request: &koskit_buildkit::Request,
    progress: &Progress,
) -> Result<Made> {
    let graph = Graph::new(&build.definition)?;
    // That no result is taken as known is in the graph already.
    match client.solve(&build.definition, request, store, &|status| progress.update(&status)) {
        Ok(koskit_buildkit::Solved { layers, changed, base, inline_cache, .. }) => {
            let solved = Solved { layers, changed, base };
            Ok(Made { inline_cache, ..made(build, request.epoch, solved) })
        }
        Err(error) => Err(failure::of_remote(error, &graph, &build.source)),
    }
}

/// Those of docker's `config.json`. Where they cannot be read, the registry says what it lacks.
fn credentials() -> Credentials {
    let credentials = koskit_registry::Credentials::user();
    Arc::new(move |domain| match credentials.get(domain).ok()?? {
        Credential::Password { user, password } => Some((user, password.reveal().to_owned())),
        // This is how BuildKit wants it.
        Credential::IdentityToken(token) => Some((String::new(), token.reveal().to_owned())),
        Credential::RegistryToken(_) => None,
    })
}

fn made(build: &Build, epoch: i64, solved: Solved) -> Made {
    let mut config = dated(build.config.clone(), epoch);
    solved.mark_empty(config.history.iter_mut().map(|entry| &mut entry.empty_layer));
    Made { config, layers: solved.layers, base: solved.base, inline_cache: None }
}
