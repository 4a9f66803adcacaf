//! A BuildKit server that builds for us.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    Exporter, ListWorkersRequest, SolveRequest, StatusRequest,
};
use koskit_image::{Compression, Layer, Store};
use koskit_llb::{Graph, Inputs, Platform, Reference, pb};
use koskit_progress::Status;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::Error;
use crate::address::Address;
use crate::caches::{self, Caches};
use crate::failure;
use crate::relocate::{self, Relocated, relocate};
use crate::session::{Failures, Layout, Receiver, Services, Session, random_id};
use crate::vertices::Vertices;
use crate::{status, transport};

/// What a message of the server may hold; its own limit is the same.
const MAX_MESSAGE: usize = 16 << 20;
/// How long after the end of a build its last words may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The digest of a layer in which nothing is: a tar archive that only has its end.
const EMPTY: &str = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

/// Finds the user's name and password for a registry, given as images name it.
pub type Credentials = Arc<dyn Fn(&str) -> Option<(String, String)> + Send + Sync>;

/// A connection to a BuildKit server, by itself or in a docker daemon.
///
/// It has threads of its own, and all calls wait. When the process ends, so does what the server
/// builds for it.
pub struct Client {
    runtime: Runtime,
    control: ControlClient<Channel>,
    address: Address,
}

/// How a graph is built.
#[derive(Clone, Default)]
pub struct Request {
    /// What it takes from here. Nothing else of this machine can the server have.
    pub inputs: Inputs,
    /// Caches to begin with: type and attributes, as docker's `--cache-from` has them. One of the
    /// type `local` has the `digest` of its manifest.
    pub cache_from: Vec<Cache>,
    /// Caches to write, as docker's `--cache-to` has them.
    pub cache_to: Vec<Cache>,
    /// What steps may do that they may not by default: `network.host`, `security.insecure`.
    pub allow: Vec<String>,
    /// SOURCE_DATE_EPOCH: no file in a new layer is later.
    pub epoch: i64,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Who knows the credentials for registries that the graph or a cache names.
    pub credentials: Option<Credentials>,
}

/// A cache to read or to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// `registry`, `inline`, `local`, and others that the server knows.
    pub kind: String,
    /// `ref=…`, `mode=max` and others.
    pub attributes: BTreeMap<String, String>,
}

/// What a server can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its ID.
    pub id: String,
    /// What it knows to run, the first without emulation.
    pub platforms: Vec<Platform>,
}

/// A file system that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solved {
    /// Its layers in the store, the lowest first. Steps that have changed nothing have none.
    pub layers: Vec<Layer>,
    /// For each layer of the base image and each step on it, whether there is a layer of it.
    pub changed: Vec<bool>,
    /// How many of the layers came with the base image, as far as the store knows it: the first
    /// ones.
    pub base: usize,
    /// The records of a cache of the type `inline`, in base64, for the configuration of an image
    /// of these layers.
    pub inline_cache: Option<String>,
    /// What the server says of what it has written.
    pub response: HashMap<String, String>,
}

impl Client {
    /// Connects to a builder, named as for `--builder`: `docker`, `docker://…`, `unix://…`,
    /// `tcp://…`.
    ///
    /// # Errors
    /// Nothing is there, it is not for us, or it is something else.
    pub fn connect(builder: &str) -> Result<Self, Error> {
        let address = Address::parse(builder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .thread_name("buildkit")
            .build()
            .map_err(Error::Start)?;
        let channel = runtime.block_on(transport::connect(&address))?;
        let control = ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let client = Self { runtime, control, address };
        client.workers()?;
        Ok(client)
    }

    /// Where the builder is.
    pub fn address(&self) -> &str {
        &self.address.shown
    }

    /// What the server can run.
    ///
    /// # Errors
    /// It does not answer as BuildKit does.
    pub fn workers(&self) -> Result<Vec<Worker>, Error> {
        let mut control = self.control.clone();
        let asked = async { control.list_workers(ListWorkersRequest::default()).await };
        let workers = self.runtime.block_on(asked);
        let workers = workers.map_err(|status| failure::of_call(&status, &self.address))?;
        let worker = |record: bollard_buildkit_proto::moby::buildkit::v1::types::WorkerRecord| {
            let platforms = record.platforms.iter().map(Platform::from).collect();
            Worker { id: record.id, platforms }
        };
        Ok(workers.into_inner().record.into_iter().map(worker).collect())
    }

    /// Builds a graph, and tells what happens meanwhile. The layers come into the store.
    ///
    /// # Errors
    /// The first step that fails, what the server lacks, or what it needs from here and cannot
    /// have.
    pub fn solve(
        &self,
        definition: &pb::Definition,
        request: &Request,
        store: &Store,
        tell: &dyn Fn(Status),
    ) -> Result<Solved, Error> {
        let graph = Graph::new(definition)?;
        if graph.result().is_none() {
            return Ok(Solved::default());
        }
        let base = relocate::base(&graph, store);
        let base_layers = base.as_ref().map_or(0, |image| image.layers.len());
        let relocated = relocate(definition, store);
        let failures = Failures::default();
        let receiver = Receiver::new(store.clone(), failures.clone());
        let caches = Caches::new(request)?;
        let mut services =
            services(request, &graph, &relocated, store, receiver.clone(), failures.clone())?;
        services.layouts.extend(caches.layouts.clone());
        let message = SolveRequest {
            r#ref: random_id(),
            definition: Some(relocated.definition.clone()),
            exporters: vec![exporter(request, base.map(|image| image.config_json))],
            entitlements: request.allow.clone(),
            cache: Some(caches.options.clone()),
            ..SolveRequest::default()
        };
        let solved = self.runtime.block_on(self.run(message, services, &graph, tell));
        // What went wrong here is why it went wrong there.
        if let Some(failure) = failures.take() {
            return Err(failure);
        }
        let response = solved?;
        caches.finish(&response)?;
        let image = receiver.take();
        let image = image.ok_or_else(|| Error::Result("it sent nothing at all".into()))?;
        let changed: Vec<bool> =
            image.layers.iter().map(|layer| layer.diff_id.as_str() != EMPTY).collect();
        let base = changed.iter().take(base_layers).filter(|changed| **changed).count();
        let inline_cache = caches::inline(&image.config_json, &changed);
        let kept = image.layers.into_iter().zip(&changed).filter(|(_, changed)| **changed);
        let layers = kept.map(|(layer, _)| layer).collect();
        Ok(Solved { layers, changed, base, inline_cache, response })
    }

    async fn run(
        &self,
        mut message: SolveRequest,
        services: Services,
        graph: &Graph,
        tell: &dyn Fn(Status),
    ) -> Result<HashMap<String, String>, Error> {
        let mut vertices = Vertices::new(graph);
        let failed = |status: &tonic::Status| failure::of_call(status, &self.address);
        let mut control = self.control.clone();
        let session = Session::start(&mut control, services).await.map_err(|e| failed(&e))?;
        message.session.clone_from(&session.id);
        let asked = StatusRequest { r#ref: message.r#ref.clone() };
        let mut solver = control.clone();
        let solve = async { solver.solve(message).await };
        tokio::pin!(solve);
        // The stream begins when the server knows of the build.
        let mut statuses = {
            let mut control = control.clone();
            let stream = async move { control.status(asked).await };
            tokio::pin!(stream);
            tokio::select! {
                biased;
                stream = &mut stream => match stream {
                    Ok(stream) => Some(stream.into_inner()),
                    Err(_) => None,
                },
                solved = &mut solve => return finished(solved, &vertices, &failed),
            }
        };
        let mut result = None;
        loop {
            let Some(stream) = &mut statuses else {
                let solved = match result {
                    Some(solved) => solved,
                    None => solve.await,
                };
                return finished(solved, &vertices, &failed);
            };
            tokio::select! {
                update = stream.message() => match update {
                    Ok(Some(update)) => tell(status::status(update, &mut vertices)),
                    Ok(None) | Err(_) => statuses = None,
                },
                solved = &mut solve, if result.is_none() => result = Some(solved),
                () = tokio::time::sleep(LAST_WORDS), if result.is_some() => statuses = None,
            }
        }
    }
}

fn finished(
    solved: Result<
        tonic::Response<bollard_buildkit_proto::moby::buildkit::v1::SolveResponse>,
        tonic::Status,
    >,
    vertices: &Vertices,
    failed: &dyn Fn(&tonic::Status) -> Error,
) -> Result<HashMap<String, String>, Error> {
    match solved {
        Ok(response) => Ok(response.into_inner().exporter_response),
        Err(status) => Err(match failed(&status) {
            Error::Step { vertex, message } => {
                let vertex = vertex.and_then(|theirs| vertices.digest(theirs.as_str()));
                Error::Step { vertex, message }
            }
            other => other,
        }),
    }
}

fn exporter(request: &Request, base: Option<serde_json::Value>) -> Exporter {
    let mut attrs = HashMap::from([
        ("oci-mediatypes".to_owned(), "true".to_owned()),
        ("source-date-epoch".to_owned(), request.epoch.to_string()),
        ("rewrite-timestamp".to_owned(), "true".to_owned()),
    ]);
    let (kind, level) = match request.compression {
        Compression::None => ("uncompressed", None),
        Compression::Gzip(level) => ("gzip", Some(i64::from(level))),
        Compression::Zstd(level) => ("zstd", Some(i64::from(level))),
    };
    attrs.insert("compression".to_owned(), kind.to_owned());
    // BuildKit's own levels are as good as ours where nobody has asked for one.
    if let Some(level) = level.filter(|_| request.compression != Compression::default()) {
        attrs.insert("compression-level".to_owned(), level.to_string());
    }
    if let Some(base) = base {
        // Its layers keep their times.
        attrs.insert("containerimage.base.config".to_owned(), base.to_string());
    }
    Exporter { r#type: "oci".to_owned(), attrs }
}

/// All that the server may ask for.
fn services(
    request: &Request,
    graph: &Graph,
    relocated: &Relocated,
    store: &Store,
    receiver: Receiver,
    failures: Failures,
) -> Result<Services, Error> {
    let inputs = &request.inputs;
    for (name, path) in &inputs.local {
        if !path.is_dir() {
            let what = format!("{} as the directory {name}", path.display());
            return Err(Error::Input { what, source: std::io::ErrorKind::NotADirectory.into() });
        }
    }
    let mut layouts: BTreeMap<String, Layout> = BTreeMap::new();
    for (name, path) in &inputs.oci_layouts {
        layouts.insert(name.clone(), Layout { path: path.clone(), only: None, writable: false });
    }
    if !relocated.blobs.is_empty() {
        let only = Some(relocated.blobs.clone());
        let path = store.path().to_owned();
        layouts.insert(relocate::STORE.into(), Layout { path, only, writable: false });
    }
    Ok(Services {
        directories: inputs.local.clone(),
        secrets: inputs.secrets.clone(),
        ssh: inputs.ssh.clone(),
        layouts,
        hosts: hosts(request, graph),
        credentials: request.credentials.clone(),
        receiver,
        failures,
    })
}

/// The registries that a build names.
fn hosts(request: &Request, graph: &Graph) -> BTreeSet<String> {
    let images = graph.vertices().iter().filter_map(|vertex| match &vertex.op {
        pb::op::Op::Source(source) => source.identifier.strip_prefix("docker-image://"),
        _ => None,
    });
    let caches = request.cache_from.iter().chain(&request.cache_to);
    let caches = caches.filter_map(|cache| cache.attributes.get("ref").map(String::as_str));
    let names = images.chain(caches).filter_map(|name| name.parse::<Reference>().ok());
    names.map(|name| name.domain().to_owned()).collect()
}
