//! The service that sends our directories: `moby.filesync.v1.FileSync`, in the protocol of
//! fsutil. The server opens a stream and says which directory it wants and which part of it. We
//! send a STAT for each file, numbered in that order, and one without anything at the end. It
//! answers with a REQ for each file that it does not have yet, we send DATA of those, empty at
//! the end of each. Its FIN ends it, and ours.
//!
//! The server is not trusted: it gets the directories that were named for the build and nothing
//! else, and of each file at most what is in it, once.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::Failures;
use super::tree::{Tree, Wanted, has_content};
use crate::Error;

/// Bytes of a file in one message.
const CHUNK: usize = 128 << 10;
/// Messages that wait to be sent.
const WAITING: usize = 16;

/// Sends the directories that are named here.
pub(crate) struct Directories {
    pub named: BTreeMap<String, PathBuf>,
    pub failures: Failures,
}

type Outgoing = mpsc::Sender<Result<Packet, Status>>;

#[tonic::async_trait]
impl FileSync for Directories {
    type DiffCopyStream = ReceiverStream<Result<Packet, Status>>;
    type TarStreamStream = ReceiverStream<Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let (name, wanted) = asked(request.metadata())?;
        let path = self.named.get(&name).cloned();
        let path = path.ok_or_else(|| Status::not_found(format!("no directory {name:?} here")))?;
        let opened = tokio::task::spawn_blocking(move || {
            Tree::open(&path, &wanted).map_err(|source| Error::Input {
                what: format!("the directory {}", path.display()),
                source,
            })
        });
        let tree = match opened.await.map_err(|e| Status::internal(e.to_string()))? {
            Ok(tree) => Arc::new(tree),
            Err(error) => {
                let status = Status::failed_precondition(crate::error::chain(&error));
                self.failures.add(error);
                return Err(status);
            }
        };
        let (outgoing, stream) = mpsc::channel(WAITING);
        tokio::spawn(answer(tree, request.into_inner(), outgoing, self.failures.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("files are sent by DiffCopy only"))
    }
}

/// What the server wants, from the call's metadata.
fn asked(metadata: &MetadataMap) -> Result<(String, Wanted), Status> {
    let list = |key: &str| -> Result<Vec<String>, Status> {
        let encoded = metadata.get(format!("{key}-encoded")).is_some_and(|value| value == "1");
        let values = metadata.get_all(key).iter().map(|value| {
            let text = value.to_str().map_err(|_| Status::invalid_argument("not ASCII"))?;
            if encoded { decoded(text) } else { Ok(text.to_owned()) }
        });
        values.collect()
    };
    let name = list("dir-name")?.into_iter().next().unwrap_or_default();
    let wanted = Wanted {
        include: list("include-patterns")?,
        exclude: list("exclude-patterns")?,
        follow: list("followpaths")?,
    };
    Ok((name, wanted))
}

/// Text in the encoding of queries of URLs.
fn decoded(text: &str) -> Result<String, Status> {
    let bad = || Status::invalid_argument(format!("{text:?} is not encoded as it says"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Files that the server may ask for, by number.
type Files = Arc<Mutex<HashMap<u32, String>>>;

/// Sends the tree, and what the server asks for, until it has all.
async fn answer(
    tree: Arc<Tree>,
    mut incoming: Streaming<Packet>,
    outgoing: Outgoing,
    failures: Failures,
) {
    let files = Files::default();
    let walked = {
        let (tree, files, outgoing) = (Arc::clone(&tree), Arc::clone(&files), outgoing.clone());
        let failures = failures.clone();
        tokio::task::spawn_blocking(move || walk(&tree, &files, &outgoing, &failures))
    };
    // As many as there are files at most: each can be asked for once.
    let (ask, asked) = mpsc::unbounded_channel();
    let sent = {
        let (outgoing, failures) = (outgoing.clone(), failures.clone());
        tokio::task::spawn_blocking(move || send(&tree, asked, &outgoing, &failures))
    };
    while let Ok(Some(packet)) = incoming.message().await {
        match packet.r#type() {
            PacketType::PacketReq => {
                let file = files.lock().unwrap_or_else(PoisonError::into_inner).remove(&packet.id);
                let Some(path) = file else {
                    let status =
                        Status::invalid_argument(format!("there is no file {}", packet.id));
                    let _ = outgoing.send(Err(status)).await;
                    break;
                };
                if ask.send((packet.id, path)).is_err() {
                    break;
                }
            }
            PacketType::PacketFin => {
                let fin = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                let _ = outgoing.send(Ok(fin)).await;
                break;
            }
            PacketType::PacketErr => break,
            PacketType::PacketStat | PacketType::PacketData => {}
        }
    }
    drop((ask, outgoing));
    let _ = (walked.await, sent.await);
}

fn walk(tree: &Tree, files: &Files, outgoing: &Outgoing, failures: &Failures) {
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let mut number = 0;
    let walked = tree.walk(&mut |stat| {
        if has_content(&stat) {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            files.insert(number, stat.path.clone());
        }
        number += 1;
        let packet = Packet { stat: Some(stat), ..Packet::default() };
        outgoing.blocking_send(Ok(packet)).map_err(|_| gone())
    });
    let last = match walked {
        Ok(()) => Packet::default(),
        // The server has gone, and says itself why.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return,
        Err(source) => {
            let packet = refusal(&source);
            failures.add(Error::Input { what: "the build context".into(), source });
            packet
        }
    };
    let _ = outgoing.blocking_send(Ok(last));
}

fn send(
    tree: &Tree,
    mut asked: mpsc::UnboundedReceiver<(u32, String)>,
    outgoing: &Outgoing,
    failures: &Failures,
) {
    let mut buffer = vec![0; CHUNK];
    while let Some((id, path)) = asked.blocking_recv() {
        let mut content = || -> std::io::Result<bool> {
            let mut file = tree.file(&path)?;
            loop {
                let read = file.read(&mut buffer)?;
                let data = PacketType::PacketData.into();
                let packet = Packet { r#type: data, id, data: buffer[..read].to_vec(), stat: None };
                if outgoing.blocking_send(Ok(packet)).is_err() {
                    return Ok(false);
                }
                if read == 0 {
                    return Ok(true);
                }
            }
        };
        match content() {
            Ok(true) => {}
            Ok(false) => return,
            Err(source) => {
                let _ = outgoing.blocking_send(Ok(refusal(&source)));
                failures.add(Error::Input { what: format!("the file {path}"), source });
                return;
            }
        }
    }
}

fn refusal(error: &std::io::Error) -> Packet {
    let (data, err) = (error.to_string().into_bytes(), PacketType::PacketErr.into());
    Packet { r#type: err, data, ..Packet::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_may_be_encoded() {
        let mut metadata = MetadataMap::new();
        metadata.insert("dir-name", "context".parse().unwrap());
        metadata.append("followpaths", "a+b".parse().unwrap());
        metadata.append("exclude-patterns", "%C3%A4+b".parse().unwrap());
        metadata.append("exclude-patterns", "c".parse().unwrap());
        metadata.insert("exclude-patterns-encoded", "1".parse().unwrap());
        let (name, wanted) = asked(&metadata).unwrap();
        assert_eq!(name, "context");
        assert_eq!(wanted.exclude, ["ä b", "c"]);
        assert_eq!(wanted.follow, ["a+b"]);
        assert!(decoded("%4").is_err() && decoded("%zz").is_err() && decoded("%ff").is_err());
    }
}
