//! What a server gets that asks for more than the build names.

use std::future::Future;
use std::path::Path;

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage as AgentBytes, CheckAgentRequest};
use koskit_image::Store;
use tokio::net::UnixListener;
use tonic::Code;

use super::*;
use crate::transport;

/// Lets a server call the services of a build whose context, secret and agent are in a folder.
fn asked<F: Future<Output = ()>>(folder: &Path, test: impl FnOnce(Channel) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = Store::open(folder.join("store")).unwrap();
    let failures = Failures::default();
    let services = Services {
        directories: BTreeMap::from([("context".into(), folder.join("context"))]),
        secrets: BTreeMap::from([("token".into(), Secret::Bytes(b"hunter2".to_vec()))]),
        ssh: BTreeMap::from([("default".into(), folder.join("agent.sock"))]),
        layouts: BTreeMap::new(),
        hosts: BTreeSet::new(),
        credentials: None,
        receiver: Receiver::new(store, failures.clone()),
        failures,
    };
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let served = tokio::spawn(serve(ours, services));
        test(transport::channel(Box::new(theirs)).await.unwrap()).await;
        served.abort();
    });
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("context")).unwrap();
    std::fs::write(folder.path().join("context/file"), "inside").unwrap();
    std::fs::write(folder.path().join("outside"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside", folder.path().join("context/link")).unwrap();
    folder
}

/// Begins to sync a directory.
async fn sync(
    channel: Channel,
    directory: &str,
) -> Result<(mpsc::Sender<Packet>, Streaming<Packet>), Status> {
    let (sender, stream) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(stream));
    request.metadata_mut().insert("dir-name", directory.parse().unwrap());
    let answer = FileSyncClient::new(channel).diff_copy(request).await?;
    Ok((sender, answer.into_inner()))
}

fn request(id: u32) -> Packet {
    Packet { r#type: PacketType::PacketReq.into(), id, ..Packet::default() }
}

#[test]
fn no_directory_is_sent_but_those_that_the_build_names() {
    let folder = folder();
    asked(folder.path(), |channel| async move {
        for name in ["", "..", "/", "/etc", "context/..", "dockerfile", "store"] {
            let refused = sync(channel.clone(), name).await.unwrap_err();
            assert_eq!(refused.code(), Code::NotFound, "{name}");
        }
    });
}

#[test]
fn a_file_is_sent_once_and_nothing_that_was_not_named() {
    let folder = folder();
    asked(folder.path(), |channel| async move {
        let (sender, mut answer) = sync(channel.clone(), "context").await.unwrap();
        let mut names = Vec::new();
        while let Some(stat) = answer.message().await.unwrap().unwrap().stat {
            names.push((stat.path, stat.linkname));
        }
        // A link is told of as one; nothing is read through it.
        assert_eq!(names, [("file".into(), String::new()), ("link".into(), "../outside".into())]);
        sender.send(request(0)).await.unwrap();
        let data = answer.message().await.unwrap().unwrap();
        assert_eq!((data.id, data.data.as_slice()), (0, b"inside".as_slice()));
        assert!(answer.message().await.unwrap().unwrap().data.is_empty());
        sender.send(request(0)).await.unwrap();
        assert_eq!(answer.message().await.unwrap_err().code(), Code::InvalidArgument);
        for id in [1, 2, u32::MAX] {
            let (sender, mut answer) = sync(channel.clone(), "context").await.unwrap();
            while answer.message().await.unwrap().unwrap().stat.is_some() {}
            sender.send(request(id)).await.unwrap();
            assert_eq!(answer.message().await.unwrap_err().code(), Code::InvalidArgument, "{id}");
        }
    });
}

#[test]
fn no_secret_is_told_but_those_that_the_build_names() {
    let folder = folder();
    asked(folder.path(), |channel| async move {
        let mut secrets = SecretsClient::new(channel);
        let mut ask = async |id: &str| {
            let request = GetSecretRequest { id: id.into(), ..GetSecretRequest::default() };
            secrets.get_secret(request).await.map(|answer| answer.into_inner().data)
        };
        assert_eq!(ask("token").await.unwrap(), b"hunter2");
        for other in ["", "other", "../outside", "/etc/passwd"] {
            assert_eq!(ask(other).await.unwrap_err().code(), Code::NotFound, "{other}");
        }
    });
}

#[test]
fn an_agent_hears_what_a_step_says_and_answers_it() {
    let folder = folder();
    let socket = folder.path().join("agent.sock");
    asked(folder.path(), |channel| async move {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).await.unwrap();
            stream.write_all(&[b"re: ", heard.as_slice()].concat()).await.unwrap();
        });
        let mut agents = SshClient::new(channel);
        let check = |id: &str| CheckAgentRequest { id: id.into() };
        assert!(agents.check_agent(check("")).await.is_ok());
        assert_eq!(agents.check_agent(check("other")).await.unwrap_err().code(), Code::NotFound);
        let (sender, stream) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(stream));
        request.metadata_mut().insert("buildkit.ssh.id", "default".parse().unwrap());
        let mut answer = agents.forward_agent(request).await.unwrap().into_inner();
        sender.send(AgentBytes { data: b"list".to_vec() }).await.unwrap();
        let mut said = Vec::new();
        while let Some(message) = answer.message().await.unwrap() {
            said.extend(message.data);
        }
        assert_eq!(said, b"re: list");
    });
}
