//! The service that hands over blobs of OCI layouts: containerd's
//! `containerd.services.content.v1.Content`, as far as BuildKit calls it for its `oci-layout://`
//! sources and for caches of the type `local`. Images of our own store get to a server this way,
//! too. Only the directory of a cache that is to be written takes blobs (`write`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use koskit_llb::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

mod write;

use write::{WriteContentRequest, Written};

/// Bytes of a blob in one message.
const CHUNK: usize = 256 << 10;

/// A directory of blobs.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub path: PathBuf,
    /// Only these, where the directory also has what is none of a build's business.
    pub only: Option<BTreeSet<Digest>>,
    /// Whether the server may add blobs.
    pub writable: bool,
}

/// The layouts that a server may read, by the ID of their store.
#[derive(Clone)]
pub(crate) struct Content(Arc<BTreeMap<String, Layout>>);

// The messages, which come in no crate of their own.

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Info {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    size: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct InfoRequest {
    #[prost(string, tag = "1")]
    digest: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct InfoResponse {
    #[prost(message, optional, tag = "1")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ReadContentRequest {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(int64, tag = "2")]
    offset: i64,
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ReadContentResponse {
    #[prost(int64, tag = "1")]
    offset: i64,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

impl Content {
    pub fn new(layouts: BTreeMap<String, Layout>) -> Self {
        Self(Arc::new(layouts))
    }

    /// The layout that a call is about.
    fn layout(&self, metadata: &MetadataMap) -> Result<&Layout, Status> {
        let store = metadata.get("buildkit-attachable-store-id");
        // A path need not be ASCII.
        let store = store.map(|id| String::from_utf8_lossy(id.as_bytes())).unwrap_or_default();
        let layout = self.0.get(store.strip_prefix("oci:").unwrap_or(&store));
        layout.ok_or_else(|| Status::not_found(format!("no OCI layout {store:?}")))
    }

    /// Opens a blob.
    fn open(&self, metadata: &MetadataMap, digest: &str) -> Result<(File, u64), Status> {
        let layout = self.layout(metadata)?;
        let missing = || Status::not_found(format!("no blob {digest}"));
        let digest: Digest = digest.parse().map_err(|_| missing())?;
        if layout.only.as_ref().is_some_and(|only| !only.contains(&digest)) {
            return Err(missing());
        }
        let path = layout.path.join("blobs/sha256").join(digest.hex());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(e) => return Err(Status::internal(format!("{}: {e}", path.display()))),
        };
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok((file, metadata.len())),
            _ => Err(missing()),
        }
    }

    fn info(&self, request: &Request<InfoRequest>) -> Result<InfoResponse, Status> {
        let digest = &request.get_ref().digest;
        let (_, size) = self.open(request.metadata(), digest)?;
        let size = size.try_into().unwrap_or(i64::MAX);
        Ok(InfoResponse { info: Some(Info { digest: digest.clone(), size }) })
    }

    fn read(&self, request: &Request<ReadContentRequest>) -> Result<Chunks, Status> {
        let ReadContentRequest { digest, offset, size } = request.get_ref();
        let (mut file, length) = self.open(request.metadata(), digest)?;
        let range = || Status::out_of_range(format!("{offset} is not in the blob {digest}"));
        let start = u64::try_from(*offset).ok().filter(|start| *start <= length);
        let start = start.ok_or_else(range)?;
        file.seek(SeekFrom::Start(start)).map_err(|e| Status::internal(e.to_string()))?;
        let wanted = if *size > 0 { *size as u64 } else { u64::MAX };
        let mut file = file.take(wanted.min(length - start));
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut offset = start as i64;
            loop {
                let mut data = vec![0; CHUNK];
                let message = match file.read(&mut data) {
                    Ok(0) => return,
                    Ok(read) => {
                        data.truncate(read);
                        let message = ReadContentResponse { offset, data };
                        offset += read as i64;
                        Ok(message)
                    }
                    Err(e) => Err(Status::internal(e.to_string())),
                };
                if sender.blocking_send(message).is_err() {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

type Chunks = ReceiverStream<Result<ReadContentResponse, Status>>;

type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T, Status>> + Send>>;

struct InfoMethod(Content);

impl UnaryService<InfoRequest> for InfoMethod {
    type Response = InfoResponse;
    type Future = Future<Response<InfoResponse>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let content = self.0.clone();
        Box::pin(async move { content.info(&request).map(Response::new) })
    }
}

struct ReadMethod(Content);

impl ServerStreamingService<ReadContentRequest> for ReadMethod {
    type Response = ReadContentResponse;
    type ResponseStream = Chunks;
    type Future = Future<Response<Chunks>>;

    fn call(&mut self, request: Request<ReadContentRequest>) -> Self::Future {
        let content = self.0.clone();
        Box::pin(async move { content.read(&request).map(Response::new) })
    }
}

struct WriteMethod(Content);

impl StreamingService<WriteContentRequest> for WriteMethod {
    type Response = write::WriteContentResponse;
    type ResponseStream = Written;
    type Future = Future<Response<Written>>;

    fn call(&mut self, request: Request<Streaming<WriteContentRequest>>) -> Self::Future {
        let content = self.0.clone();
        Box::pin(async move {
            let layout = content.layout(request.metadata())?;
            if !layout.writable {
                return Err(Status::permission_denied("blobs of this layout can only be read"));
            }
            Ok(Response::new(write::write(layout.path.clone(), request.into_inner())))
        })
    }
}

impl NamedService for Content {
    const NAME: &'static str = "containerd.services.content.v1.Content";
}

impl Service<http::Request<Body>> for Content {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future =
        Pin<Box<dyn std::future::Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let content = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Info" => {
                    Grpc::new(ProstCodec::default()).unary(InfoMethod(content), request).await
                }
                "Read" => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(ReadMethod(content), request).await
                }
                "Write" => {
                    Grpc::new(ProstCodec::default()).streaming(WriteMethod(content), request).await
                }
                _ => Status::unimplemented("blobs can only be read and written").into_http(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blobs_that_were_named_are_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for text in ["a", "b"] {
            std::fs::write(blobs.join(Digest::of(text.as_bytes()).hex()), text).unwrap();
        }
        let only = Some(BTreeSet::from([Digest::of(b"a")]));
        let layout = |only| Layout { path: folder.path().into(), only, writable: false };
        let layouts = [("all".to_owned(), layout(None)), ("some".to_owned(), layout(only))];
        let content = Content::new(BTreeMap::from(layouts));
        let size = |store: &str, digest: &str| {
            let mut request = Request::new(InfoRequest { digest: digest.into() });
            let id = format!("oci:{store}").parse().unwrap();
            request.metadata_mut().insert("buildkit-attachable-store-id", id);
            content.info(&request).ok().map(|response| response.info.unwrap().size)
        };
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(size("all", a.as_str()), Some(1));
        assert_eq!(size("all", b.as_str()), Some(1));
        assert_eq!(size("some", a.as_str()), Some(1));
        assert_eq!(size("some", b.as_str()), None);
        assert_eq!(size("none", a.as_str()), None);
        for bad in ["", "sha256:..", "sha256:../../index.json", Digest::of(b"c").as_str()] {
            assert_eq!(size("all", bad), None);
        }
    }
}
