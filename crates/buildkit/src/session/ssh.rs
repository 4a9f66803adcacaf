//! The service that lets a step use an SSH agent of ours: `moby.sshforward.v1.SSH`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// The agents of this build, by ID: their sockets.
pub(crate) struct Agents(pub BTreeMap<String, PathBuf>);

/// The agent that is meant where none is named.
const DEFAULT: &str = "default";

impl Agents {
    fn get(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("no SSH agent {id:?}; give --ssh")))
    }
}

#[tonic::async_trait]
impl Ssh for Agents {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.get(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok());
        let path = self.get(id.unwrap_or_default())?;
        let agent = UnixStream::connect(path).await;
        let agent = agent.map_err(|e| Status::unavailable(format!("{}: {e}", path.display())))?;
        let (mut reader, mut writer) = agent.into_split();
        let mut incoming = request.into_inner();
        let (outgoing, stream) = mpsc::channel(4);
        let to_agent = tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if writer.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                let message = BytesMessage { data: buffer[..read].to_vec() };
                if outgoing.send(Ok(message)).await.is_err() {
                    break;
                }
            }
            to_agent.abort();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
