//! Blobs that a server puts into a layout: the parts of a cache.
//!
//! A blob comes as a stream of requests, each of which is answered: what there is of it so far
//! (`STAT`), some bytes (`WRITE`), and its end (`COMMIT`), after which the file gets the name of
//! its digest. A blob that stays without an end leaves nothing.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use koskit_llb::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

const STAT: i32 = 0;
const WRITE: i32 = 1;
const COMMIT: i32 = 2;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WriteContentRequest {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    r#ref: String,
    /// The size of the whole blob; 0 is not known.
    #[prost(int64, tag = "3")]
    total: i64,
    /// Its digest, where it is known.
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WriteContentResponse {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    total: i64,
    #[prost(string, tag = "6")]
    digest: String,
}

pub(super) type Written = ReceiverStream<Result<WriteContentResponse, Status>>;

/// A blob that is not whole yet.
struct Blob {
    blobs: PathBuf,
    file: NamedTempFile,
    hash: Sha256,
    length: i64,
    total: i64,
    expected: String,
}

/// Takes one blob into the layout at this path.
pub(super) fn write(layout: PathBuf, mut requests: Streaming<WriteContentRequest>) -> Written {
    let (sender, mut receiver) = mpsc::channel(2);
    let (answers, answer) = mpsc::channel(2);
    tokio::spawn(async move {
        while let Ok(Some(request)) = requests.message().await {
            if sender.send(request).await.is_err() {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        let mut blob = None;
        while let Some(request) = receiver.blocking_recv() {
            let answer = step(&layout, &mut blob, &request);
            let last = request.action == COMMIT || answer.is_err();
            if answers.blocking_send(answer).is_err() || last {
                return;
            }
        }
    });
    ReceiverStream::new(answer)
}

/// Does what a request asks.
fn step(
    layout: &Path,
    blob: &mut Option<Blob>,
    request: &WriteContentRequest,
) -> Result<WriteContentResponse, Status> {
    let open = match blob {
        Some(open) => open,
        None => blob.insert(Blob::new(layout)?),
    };
    if request.total > 0 {
        open.total = request.total;
    }
    if !request.expected.is_empty() {
        let expected: Digest = digest(&request.expected)?;
        if open.blobs.join(expected.hex()).is_file() {
            return Err(Status::already_exists(format!("the blob {expected} is there")));
        }
        open.expected.clone_from(&request.expected);
    }
    match request.action {
        STAT => Ok(open.answer(STAT)),
        WRITE => {
            open.add(request)?;
            Ok(open.answer(WRITE))
        }
        COMMIT => {
            open.add(request)?;
            let mut answer = open.answer(COMMIT);
            let done = blob.take().expect("it is open");
            answer.digest = done.finish()?.to_string();
            Ok(answer)
        }
        other => Err(Status::unimplemented(format!("nothing is known of the action {other}"))),
    }
}

impl Blob {
    fn new(layout: &Path) -> Result<Self, Status> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|e| failed(&blobs, &e))?;
        let file = NamedTempFile::new_in(&blobs).map_err(|e| failed(&blobs, &e))?;
        let (hash, expected) = (Sha256::new(), String::new());
        Ok(Self { blobs, file, hash, length: 0, total: 0, expected })
    }

    fn add(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        if request.data.is_empty() {
            return Ok(());
        }
        if request.offset != self.length {
            let (offset, length) = (request.offset, self.length);
            return Err(Status::out_of_range(format!("{offset} is not the end, {length}")));
        }
        self.file.write_all(&request.data).map_err(|e| failed(&self.blobs, &e))?;
        self.hash.update(&request.data);
        self.length += request.data.len() as i64;
        Ok(())
    }

    fn answer(&self, action: i32) -> WriteContentResponse {
        let (offset, total) = (self.length, self.total);
        WriteContentResponse { action, offset, total, digest: String::new() }
    }

    /// Gives the blob its name.
    fn finish(self) -> Result<Digest, Status> {
        let Self { blobs, file, hash, length, total, expected } = self;
        if total > 0 && total != length {
            return Err(Status::failed_precondition(format!("{length} bytes are not {total}")));
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if !expected.is_empty() && digest(&expected)? != found {
            return Err(Status::failed_precondition(format!("{found} is not {expected}")));
        }
        let path = blobs.join(found.hex());
        readable(&file).map_err(|e| failed(&path, &e))?;
        file.persist(&path).map_err(|e| failed(&path, &e.error))?;
        Ok(found)
    }
}

/// Temporary files are for their owner alone; a cache is for everybody whom its directory is for.
fn readable(file: &NamedTempFile) -> io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|e| Status::invalid_argument(format!("{text:?}: {e}")))
}

fn failed(path: &Path, error: &io::Error) -> Status {
    Status::internal(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: i32, offset: i64, data: &[u8]) -> WriteContentRequest {
        let data = data.to_vec();
        WriteContentRequest { action, offset, data, ..WriteContentRequest::default() }
    }

    #[test]
    fn a_blob_gets_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut blob = None;
        let mut take = |request| step(folder.path(), &mut blob, &request);
        assert_eq!(take(request(STAT, 0, b"")).unwrap().offset, 0);
        assert_eq!(take(request(WRITE, 0, b"ab")).unwrap().offset, 2);
        assert!(take(request(WRITE, 1, b"c")).is_err());
        let expected = Digest::of(b"abc").to_string();
        let commit = WriteContentRequest {
            expected: expected.clone(),
            total: 3,
            ..request(COMMIT, 2, b"c")
        };
        assert_eq!(take(commit).unwrap().digest, expected);
        let path = folder.path().join("blobs/sha256").join(Digest::of(b"abc").hex());
        assert_eq!(fs::read(path).unwrap(), b"abc");
        // It is not taken again.
        let again = WriteContentRequest { expected, ..request(STAT, 0, b"") };
        let error = step(folder.path(), &mut None, &again).unwrap_err();
        assert_eq!(error.code(), tonic::Code::AlreadyExists);
    }

    #[test]
    fn what_is_another_blob_or_no_digest_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for expected in [Digest::of(b"other").to_string(), "sha256:../x".into()] {
            let commit = WriteContentRequest { expected, ..request(COMMIT, 0, b"abc") };
            assert!(step(folder.path(), &mut None, &commit).is_err());
        }
        let commit = WriteContentRequest { total: 4, ..request(COMMIT, 0, b"abc") };
        assert!(step(folder.path(), &mut None, &commit).is_err());
        let blobs = fs::read_dir(folder.path().join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 0);
    }
}
