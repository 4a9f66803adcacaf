//! A session: what a server may call of us while it builds. It is a connection in the other
//! direction, in which we serve, carried by a stream of the connection that we made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::health;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use koskit_llb::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Server};
use tonic::{Request, Status, Streaming};

use crate::Error;
use crate::client::Credentials;

mod auth;
mod content;
mod files;
mod receive;
mod secrets;
mod ssh;
mod tree;

pub(crate) use content::Layout;
pub(crate) use receive::Receiver;

/// What a message of the server may hold; its own limit is the same.
const MAX_MESSAGE: usize = 16 << 20;
/// What may be under way in one direction.
const BUFFER: usize = 256 << 10;
const WINDOW: u32 = 4 << 20;

/// All that a server may ask for.
pub(crate) struct Services {
    pub directories: BTreeMap<String, PathBuf>,
    pub secrets: BTreeMap<String, Secret>,
    pub ssh: BTreeMap<String, PathBuf>,
    /// OCI layouts, by the ID of their store.
    pub layouts: BTreeMap<String, Layout>,
    /// The hosts whose credentials it may have.
    pub hosts: BTreeSet<String>,
    pub credentials: Option<Credentials>,
    pub receiver: Receiver,
    pub failures: Failures,
}

/// What went wrong in a service: the server only tells of it in its own words.
#[derive(Clone, Default)]
pub(crate) struct Failures(Arc<Mutex<Option<Error>>>);

impl Failures {
    /// The first is the cause of the others.
    pub fn add(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A running session; dropping it ends it.
pub(crate) struct Session {
    /// What requests name it by.
    pub id: String,
    _tasks: JoinSet<()>,
}

/// The methods that are served, as their own names.
const METHODS: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
    "/containerd.services.content.v1.Content/Info",
    "/containerd.services.content.v1.Content/Read",
    "/containerd.services.content.v1.Content/Write",
];

impl Session {
    /// Begins to serve.
    pub async fn start(
        control: &mut ControlClient<Channel>,
        services: Services,
    ) -> Result<Self, Status> {
        let id = random_id();
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (reader, writer) = tokio::io::split(theirs);
        let (outgoing, stream) = mpsc::channel(4);
        let mut request = Request::new(ReceiverStream::new(stream));
        let metadata = request.metadata_mut();
        let value = |text: &str| text.parse::<AsciiMetadataValue>().expect("it is ASCII");
        metadata.insert("x-docker-expose-session-uuid", value(&id));
        metadata.insert("x-docker-expose-session-name", value("koskit"));
        for method in METHODS {
            metadata.append("x-docker-expose-session-grpc-method", value(method));
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(send(reader, outgoing));
        tasks.spawn(serve(ours, services));
        let incoming = control.session(request).await?.into_inner();
        tasks.spawn(receive(incoming, writer));
        Ok(Self { id, _tasks: tasks })
    }
}

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn random_id() -> String {
    let mut bytes = [0u8; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // The kernel gives up to 256 bytes at once and without a failure.
    assert_eq!(filled, Ok(bytes.len()), "the kernel has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn send(mut reader: tokio::io::ReadHalf<DuplexStream>, outgoing: mpsc::Sender<BytesMessage>) {
    let mut buffer = vec![0; 128 << 10];
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        if outgoing.send(BytesMessage { data: buffer[..read].to_vec() }).await.is_err() {
            break;
        }
    }
}

async fn receive(
    mut incoming: Streaming<BytesMessage>,
    mut writer: tokio::io::WriteHalf<DuplexStream>,
) {
    while let Ok(Some(message)) = incoming.message().await {
        if writer.write_all(&message.data).await.is_err() {
            break;
        }
    }
}

async fn serve(connection: DuplexStream, services: Services) {
    let Services { directories, secrets, ssh, layouts, hosts, credentials, receiver, failures } =
        services;
    let directories = files::Directories { named: directories, failures: failures.clone() };
    let served = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .add_service(health::health_server::HealthServer::new(Alive))
        .add_service(FileSyncServer::new(directories).max_decoding_message_size(MAX_MESSAGE))
        .add_service(FileSendServer::new(receiver).max_decoding_message_size(MAX_MESSAGE))
        .add_service(AuthServer::new(auth::Registries { hosts, credentials }))
        .add_service(SecretsServer::new(secrets::Secrets { known: secrets, failures }))
        .add_service(SshServer::new(ssh::Agents(ssh)))
        .add_service(content::Content::new(layouts))
        .serve_with_incoming(once(connection))
        .await;
    // How it ends is how the connection ends, and the one who solves is told of that.
    drop(served);
}

/// One connection, and no end: nobody shall think that no further one is expected.
fn once(connection: DuplexStream) -> impl Stream<Item = std::io::Result<DuplexStream>> {
    tokio_stream::once(Ok(connection)).chain(tokio_stream::pending())
}

/// The server asks every few seconds whether we are still there.
struct Alive;

#[tonic::async_trait]
impl health::health_server::Health for Alive {
    async fn check(
        &self,
        _: Request<health::HealthCheckRequest>,
    ) -> Result<tonic::Response<health::HealthCheckResponse>, Status> {
        let serving = health::health_check_response::ServingStatus::Serving.into();
        Ok(tonic::Response::new(health::HealthCheckResponse { status: serving }))
    }

    async fn list(
        &self,
        _: Request<health::HealthListRequest>,
    ) -> Result<tonic::Response<health::HealthListResponse>, Status> {
        Err(Status::unimplemented("ask by Check"))
    }

    type WatchStream = ReceiverStream<Result<health::HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<health::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask by Check"))
    }
}

#[cfg(test)]
mod tests;
