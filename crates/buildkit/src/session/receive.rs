//! The service that takes the result: `moby.filesync.v1.FileSend`. BuildKit's exporter `oci`
//! sends an OCI layout as one tar archive; each blob goes into the store as it comes, so that no
//! layer is ever in memory or on the disk twice.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use koskit_image::oci::ImageIndex;
use koskit_image::{Image, Store};
use koskit_llb::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Failures;
use crate::Error;
use crate::error::chain;

/// Messages that wait to be written. They are of 32 KiB, as servers send them, and of 16 MiB at
/// most.
const WAITING: usize = 2;
/// The largest `index.json` that is read.
const MAX_INDEX: u64 = 4 << 20;
/// More entries than this has no image: each is a layer or one of a few documents.
const MAX_ENTRIES: usize = 10_000;

/// Takes one image.
#[derive(Clone)]
pub(crate) struct Receiver {
    store: Store,
    failures: Failures,
    image: Arc<Mutex<Option<Image>>>,
}

impl Receiver {
    pub fn new(store: Store, failures: Failures) -> Self {
        Self { store, failures, image: Arc::default() }
    }

    /// What came.
    pub fn take(&self) -> Option<Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[tonic::async_trait]
impl FileSend for Receiver {
    type DiffCopyStream = ReceiverStream<Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (outgoing, answer) = mpsc::channel(1);
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            loop {
                let message = match incoming.message().await {
                    Ok(Some(message)) => Ok(message.data),
                    Ok(None) => return,
                    Err(status) => Err(io::Error::other(status.message().to_owned())),
                };
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            match archive(Chunks { receiver, chunk: Vec::new(), at: 0 }, &this.store) {
                Ok(image) => {
                    *this.image.lock().unwrap_or_else(PoisonError::into_inner) = Some(image);
                }
                Err(error) => {
                    let _ = outgoing.blocking_send(Err(Status::aborted(chain(&error))));
                    this.failures.add(error);
                }
            }
            // The end of the answer tells the server that all was taken.
            drop(outgoing);
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }
}

/// The messages of a stream, read as one file.
struct Chunks {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.receiver.blocking_recv() {
                Some(chunk) => (self.chunk, self.at) = (chunk?, 0),
                None => return Ok(0),
            }
        }
        let count = bytes.len().min(self.chunk.len() - self.at);
        bytes[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Puts the image of an archive into the store.
fn archive(mut reader: impl Read, store: &Store) -> Result<Image, Error> {
    let broken = |error: io::Error| Error::Result(error.to_string());
    let mut index = None;
    let mut archive = tar::Archive::new(&mut reader);
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number > MAX_ENTRIES {
            return Err(Error::Result(format!("its archive has more than {MAX_ENTRIES} files")));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(broken)?.into_owned();
        if path == Path::new("index.json") {
            let mut text = Vec::new();
            (&mut entry).take(MAX_INDEX + 1).read_to_end(&mut text).map_err(broken)?;
            if text.len() as u64 > MAX_INDEX {
                return Err(Error::Result("its index.json is larger than 4 MiB".into()));
            }
            index = Some(text);
        } else if let Ok(hex) = path.strip_prefix("blobs/sha256") {
            let digest = format!("sha256:{}", hex.display());
            let digest: Digest = digest.parse().map_err(|e| Error::Result(format!("{e}")))?;
            if !store.has_blob(&digest) {
                let (size, mut writer) = (entry.size(), store.blob_writer()?);
                copy(&mut entry, &mut writer, &digest)?;
                writer.finish_as(&digest, size)?;
            }
        }
    }
    // The padding after the end: a server that cannot send it thinks that we have gone.
    io::copy(&mut reader, &mut io::sink()).map_err(broken)?;
    let index = index.ok_or_else(|| Error::Result("its archive has no index.json".into()))?;
    let index: ImageIndex = serde_json::from_slice(&index)
        .map_err(|error| Error::Result(format!("its index.json: {error}")))?;
    match index.manifests().as_slice() {
        [manifest] => Ok(store.image(manifest)?),
        several => Err(Error::Result(format!("{} images instead of one", several.len()))),
    }
}

/// Copies a blob; whether the reader or the writer fails makes a difference to the user.
fn copy(reader: &mut impl Read, writer: &mut impl io::Write, blob: &Digest) -> Result<(), Error> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let read = reader.read(&mut buffer).map_err(|e| Error::Result(e.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        writer
            .write_all(&buffer[..read])
            .map_err(|source| Error::Keep { blob: blob.clone(), source })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn received(files: &[(&str, &[u8])]) -> Result<Image, String> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        archive(tar_of(files).as_slice(), &store).map_err(|error| chain(&error))
    }

    #[test]
    fn a_blob_that_is_another_one_is_refused() {
        let path = format!("blobs/sha256/{}", Digest::of(b"x").hex());
        let error = received(&[(&path, b"y")]).unwrap_err();
        assert!(error.contains(Digest::of(b"x").as_str()), "{error}");
    }

    #[test]
    fn an_archive_without_an_image_is_refused() {
        assert!(received(&[]).unwrap_err().contains("no index.json"));
        assert!(received(&[("index.json", b"{")]).unwrap_err().contains("index.json: "));
        let empty = br#"{"schemaVersion": 2, "manifests": []}"#;
        assert!(received(&[("index.json", empty)]).unwrap_err().contains("0 images"));
        assert!(received(&[("blobs/sha256/x/y", b"")]).unwrap_err().contains("not a digest"));
    }
}
