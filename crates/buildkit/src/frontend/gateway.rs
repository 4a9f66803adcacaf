//! The BuildKit that has started us, as a client sees it: its service `LLBBridge`, over standard
//! input and output.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::fsutil::types::Stat;
use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    CacheOptionsEntry, EvaluateRequest, FileRange, InputsRequest, PingRequest, ReadFileRequest,
    Ref, ResolveImageConfigRequest, ResolveImageConfigResponse, Result as BuildResult,
    ReturnRequest, SolveRequest, StatFileRequest, WarnRequest, result,
};
use koskit_llb::{Platform, pb};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Failure, Result};
use crate::transport;

/// The most that a message may hold; BuildKit's own limit is the same.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of a file in one call.
const CHUNK: i64 = 4 << 20;

/// The connection. All calls wait.
pub(crate) struct Gateway {
    runtime: Runtime,
    client: LlbBridgeClient<Channel>,
    /// The first platform that BuildKit runs without emulation.
    pub platform: Platform,
}

impl Gateway {
    /// Takes standard input and output.
    pub fn open() -> Result<Self> {
        let failed = |error: &dyn std::error::Error| Failure::Call(error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let stdio = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        let channel = runtime.block_on(transport::channel(Box::new(stdio)));
        let channel = channel.map_err(|error| Failure::Call(crate::error::chain(&error)))?;
        let mut client = LlbBridgeClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let pong = runtime.block_on(client.ping(PingRequest {}))?.into_inner();
        let platforms = pong.workers.iter().flat_map(|worker| &worker.platforms);
        let platform = platforms.map(Platform::from).next().unwrap_or_else(Platform::host);
        Ok(Self { runtime, client, platform })
    }

    fn client(&self) -> LlbBridgeClient<Channel> {
        self.client.clone()
    }

    /// Lets a graph be built, when somebody needs it. The result of an empty graph has no ID.
    pub fn solve(&self, definition: &pb::Definition, caches: &[CacheOptionsEntry]) -> Result<Ref> {
        let request = SolveRequest {
            definition: Some(definition.clone()),
            allow_result_return: true,
            allow_result_array_ref: true,
            cache_imports: caches.to_vec(),
            ..SolveRequest::default()
        };
        let response = self.runtime.block_on(self.client().solve(request))?.into_inner();
        match response.result.and_then(|result| result.result) {
            Some(result::Result::Ref(reference)) => Ok(reference),
            Some(result::Result::RefDeprecated(id)) => Ok(Ref { id, def: None }),
            None => Ok(Ref { id: response.r#ref, def: None }),
            Some(_) => Err(Failure::Call("BuildKit has several results for one graph".into())),
        }
    }

    /// Lets a graph be built now, and tells whether it could be. Where it could not, BuildKit says
    /// why as soon as the result is needed.
    pub fn evaluate(&self, of: &Ref) -> bool {
        let request = EvaluateRequest { r#ref: of.id.clone() };
        self.runtime.block_on(self.client().evaluate(request)).is_ok()
    }

    /// What is in a file of a result; `None` if there is none. A link is followed.
    pub fn file(&self, of: &Ref, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        loop {
            let offset = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let request = ReadFileRequest {
                r#ref: of.id.clone(),
                file_path: path.to_owned(),
                range: Some(FileRange { offset, length: CHUNK }),
                mount_index: 0,
            };
            let data = match self.runtime.block_on(self.client().read_file(request)) {
                Ok(response) => response.into_inner().data,
                Err(status) if is_missing(&status) => return Ok(None),
                Err(status) => return Err(status.into()),
            };
            let last = (data.len() as i64) < CHUNK;
            bytes.extend(data);
            if bytes.len() as u64 > most {
                return Err(Failure::Call(format!("{path} is larger than {most} bytes")));
            }
            if last {
                return Ok(Some(bytes));
            }
        }
    }

    /// What is at a path of a result; `None` if there is nothing. A link is followed.
    pub fn stat(&self, of: &Ref, path: &str) -> Result<Option<Stat>> {
        let (r#ref, path) = (of.id.clone(), path.to_owned());
        let request = StatFileRequest { r#ref, path, mount_index: 0 };
        match self.runtime.block_on(self.client().stat_file(request)) {
            Ok(response) => Ok(response.into_inner().stat),
            Err(status) if is_missing(&status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The digest and the configuration of an image.
    pub fn image(&self, request: ResolveImageConfigRequest) -> Result<ResolveImageConfigResponse> {
        let response = self.runtime.block_on(self.client().resolve_image_config(request));
        Ok(response?.into_inner())
    }

    /// The results of other builds that this one begins with.
    pub fn inputs(&self) -> Result<BTreeMap<String, pb::Definition>> {
        match self.runtime.block_on(self.client().inputs(InputsRequest {})) {
            Ok(response) => Ok(response.into_inner().definitions.into_iter().collect()),
            // A server that does not know of them has none.
            Err(status) if status.code() == Code::Unimplemented => Ok(BTreeMap::new()),
            Err(status) => Err(status.into()),
        }
    }

    /// Shows a warning. A server that cannot is none the worse for it.
    pub fn warn(&self, warning: WarnRequest) {
        let _ = self.runtime.block_on(self.client().warn(warning));
    }

    /// Ends the connection. Merely dropped, it would wait for a read of standard input to end,
    /// which BuildKit waits for, too.
    pub fn leave(self) {
        self.runtime.shutdown_background();
    }

    /// Says how it ended.
    pub fn answer(&self, result: std::result::Result<BuildResult, rpc::Status>) -> Result<()> {
        let (result, error) = match result {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        self.runtime.block_on(self.client().r#return(ReturnRequest { result, error }))?;
        Ok(())
    }
}

/// A result with nothing in it but what is said about it.
pub(crate) fn said(metadata: HashMap<String, Vec<u8>>) -> BuildResult {
    let result = Some(result::Result::Ref(Ref::default()));
    BuildResult { metadata, attestations: HashMap::new(), result }
}

/// BuildKit hands on what the system says, as words only.
fn is_missing(status: &Status) -> bool {
    let words = ["no such file or directory", "not a directory", "file does not exist"];
    status.code() == Code::NotFound || words.iter().any(|words| status.message().contains(words))
}
