//! Blobs from a registry: as a stream that survives broken connections, and into the store.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use koskit_image::{BlobWriter, Store};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::error::Transport;
use crate::host::{Call, Failed, Pace};
use crate::progress::{Event, Part, Progress, STEP, State};
use crate::repository::{Blob, Repository, text};
use crate::{Error, answer};

/// Pieces of a blob that wait for the disk.
const QUEUE: usize = 16;

/// The bytes of a blob, in order. When the connection breaks it goes on where it was, with
/// `Range`; it ends with an error when that does not help, or when the registry sends more or
/// less than the descriptor says. The digest is for the reader to check.
pub(crate) struct Download<'a> {
    repository: &'a Repository,
    blob: &'a Blob,
    what: String,
    /// The next byte.
    at: u64,
    response: Option<Response>,
    /// Bytes to throw away, as the registry began at the beginning again.
    skip: u64,
    /// Attempts since the last byte came.
    attempt: u32,
    pace: Pace,
}

impl<'a> Download<'a> {
    /// Begins at a byte; nothing is asked before [`Download::next`].
    pub fn new(repository: &'a Repository, blob: &'a Blob, at: u64) -> Self {
        let what = format!("the blob {}", blob.digest);
        Self { repository, blob, what, at, response: None, skip: 0, attempt: 0, pace: Pace::new() }
    }

    /// The next bytes; none at the end. `told` hears of attempts that failed.
    pub async fn next(
        &mut self,
        told: &mut dyn FnMut(&str, Duration),
    ) -> Result<Option<Bytes>, Error> {
        let host = &self.repository.host;
        let patience = host.options.patience;
        loop {
            if self.at == self.blob.size && self.skip == 0 {
                return self.end().await;
            }
            let Some(response) = &mut self.response else {
                match self.connect().await {
                    Ok(()) => continue,
                    Err(Failed::Error(error)) => return Err(error),
                    Err(Failed::Transport(error, may_help)) => {
                        self.again(error, may_help, told).await?;
                        continue;
                    }
                }
            };
            let chunk = match tokio::time::timeout(patience, response.chunk()).await {
                Ok(chunk) => chunk.map_err(Transport::of),
                Err(_) => Err(Transport::Stalled(patience)),
            };
            let chunk = chunk.and_then(|chunk| {
                let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                match self.pace.is_too_slow(bytes, patience) {
                    true => Err(Transport::Stalled(patience)),
                    false => Ok(chunk),
                }
            });
            let mut chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    let error = Transport::Ended(self.at, self.blob.size);
                    self.again(error, true, told).await?;
                    continue;
                }
                Err(error) => {
                    self.again(error, true, told).await?;
                    continue;
                }
            };
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            let _ = chunk.split_to(skipped as usize);
            if chunk.is_empty() {
                continue;
            }
            if chunk.len() as u64 > self.blob.size - self.at {
                return Err(self.too_long());
            }
            self.at += chunk.len() as u64;
            self.attempt = 0;
            return Ok(Some(chunk));
        }
    }

    /// All bytes are there. One more would be one too many.
    async fn end(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut response) = self.response.take() else { return Ok(None) };
        // Mostly the end is known already; a server that does not end is not waited for.
        let more = tokio::time::timeout(Duration::from_secs(1), response.chunk()).await;
        match more {
            Ok(Ok(Some(chunk))) if !chunk.is_empty() => Err(self.too_long()),
            _ => Ok(None),
        }
    }

    fn too_long(&self) -> Error {
        let why = format!("it has more than the {} bytes of its descriptor", self.blob.size);
        self.repository.host.wrong(&self.what, &why)
    }

    async fn connect(&mut self) -> Result<(), Failed> {
        let host = Arc::clone(&self.repository.host);
        let url = self.repository.blob_url(&self.blob.digest)?;
        let (repository, what) = (self.repository, self.what.clone());
        let mut call = Call::new(Method::GET, url, &repository.scopes, &what);
        if self.at > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.at));
        }
        // Attempts are counted here, as those of a body that broke are.
        let response = host.send_once(&call, None).await?;
        if response.status().is_server_error() || response.status() == 429 {
            // With the pauses that the registry asks for.
            let response = host.send(&call).await?;
            return self.take(&call, response).await.map_err(Failed::Error);
        }
        self.take(&call, response).await.map_err(Failed::Error)
    }

    /// Takes in what begins a response.
    async fn take(&mut self, call: &Call<'_>, response: Response) -> Result<(), Error> {
        let host = &self.repository.host;
        let response = host.expect(call, response, &[200, 206]).await?;
        let left = self.blob.size - self.at;
        let (expected, skip) = if response.status() == 206 {
            let field = text(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
            let (first, total) = answer::part(&field)
                .ok_or_else(|| host.wrong(&self.what, &"it sends a part, and not which"))?;
            let whole = total.is_none_or(|total| total == self.blob.size);
            if first != self.at || !whole {
                let why = format!("it sends {field:?} for the bytes from {} on", self.at);
                return Err(host.wrong(&self.what, &why));
            }
            (left, 0)
        } else {
            (self.blob.size, self.at)
        };
        if let Some(length) = response.content_length().filter(|length| *length != expected) {
            let why = format!("it sends {length} bytes, and its descriptor says {expected}");
            return Err(host.wrong(&self.what, &why));
        }
        self.response = Some(response);
        self.skip = skip;
        self.pace = Pace::new();
        Ok(())
    }

    /// Pauses before the next attempt, if there is to be one.
    async fn again(
        &mut self,
        error: Transport,
        may_help: bool,
        told: &mut dyn FnMut(&str, Duration),
    ) -> Result<(), Error> {
        let host = &self.repository.host;
        self.response = None;
        self.skip = 0;
        self.attempt += 1;
        if self.attempt > host.options.retries || !may_help {
            return Err(host.unreachable(&self.what, error));
        }
        told(&error.to_string(), host.options.backoff);
        host.pause(self.attempt, None, &self.what).await?;
        Ok(())
    }
}

/// Brings a blob into the store, if it is not there. What arrives is hashed and written by another
/// thread, and kept only if it is what was asked for. What an earlier attempt has left of it is
/// not fetched again.
pub(crate) async fn into_store(
    repository: &Repository,
    blob: &Blob,
    part: Part,
    store: &Store,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let tell = |state: State<'_>| {
        progress(&Event { digest: &blob.digest, part, size: blob.size, state });
    };
    if store.has_blob(&blob.digest) {
        tell(State::Present);
        return Ok(());
    }
    let begin = || {
        let (store, digest) = (store.clone(), blob.digest.clone());
        // The part that is there is read, which may take a while.
        spawn_blocking(move || store.partial_blob(&digest))
    };
    let mut writer = begin().await.expect("the store does not panic")?;
    if writer.size() > blob.size {
        writer.discard();
        writer = store.blob_writer()?;
    }
    let resumed = writer.size() > 0;
    match transfer(repository, blob, writer, store, &tell).await {
        // The part that was there may have been wrong, and is gone now.
        Err(Broken::Damaged(damage)) if resumed => {
            tell(State::Retry { why: &damage.to_string(), wait: Duration::ZERO });
            let writer = begin().await.expect("the store does not panic")?;
            transfer(repository, blob, writer, store, &tell).await
        }
        other => other,
    }
    .map_err(|broken| match broken {
        Broken::Error(error) => error,
        Broken::Damaged(damage) => {
            repository.host.wrong(&format!("the blob {}", blob.digest), &damage)
        }
    })?;
    tell(State::Done);
    Ok(())
}

/// Why a blob is not in the store.
enum Broken {
    /// All of it came, and it is something else.
    Damaged(koskit_image::Damage),
    Error(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Writes the rest of a blob.
async fn transfer(
    repository: &Repository,
    blob: &Blob,
    mut writer: BlobWriter,
    store: &Store,
    tell: &dyn Fn(State<'_>),
) -> Result<(), Broken> {
    let mut moved = writer.size();
    let mut download = Download::new(repository, blob, moved);
    let mut told = |why: &str, wait| tell(State::Retry { why, wait });
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
    let (digest, size, path) = (blob.digest.clone(), blob.size, store.blob_path(&blob.digest));
    let written = spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            if let Err(source) = writer.write_all(&chunk) {
                // A part of it would only fill a disk that is full.
                writer.discard();
                let action = "write";
                return Err(koskit_image::Error::File { action, path, source });
            }
        }
        // Where it is not whole, the other side has given up, and says why.
        if writer.size() < size { Ok(()) } else { writer.finish_as(&digest, size) }
    });
    let mut shown = moved;
    let failed = loop {
        let chunk = match download.next(&mut told).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        moved += chunk.len() as u64;
        if sender.send(chunk).await.is_err() {
            // The writer has failed, and tells why.
            break None;
        }
        if moved - shown >= STEP {
            tell(State::Moved(moved));
            shown = moved;
        }
    };
    drop(sender);
    let written = written.await.expect("the writer does not panic");
    match (failed, written) {
        (Some(error), _) => Err(error.into()),
        (None, Err(koskit_image::Error::Damaged { damage, .. })) => Err(Broken::Damaged(damage)),
        (None, Err(other)) => Err(Error::from(other).into()),
        (None, Ok(())) => Ok(()),
    }
}

/// A whole small blob.
pub(crate) async fn bytes(
    repository: &Repository,
    blob: &Blob,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    let what = format!("the blob {}", blob.digest);
    if blob.size > limit {
        let why = format!("it has {} bytes, and {limit} are the most for this", blob.size);
        return Err(repository.host.wrong(&what, &why));
    }
    let mut download = Download::new(repository, blob, 0);
    let mut bytes = Vec::with_capacity(blob.size as usize);
    while let Some(chunk) = download.next(&mut |_, _| {}).await? {
        bytes.extend_from_slice(&chunk);
    }
    let found = koskit_llb::Digest::of(&bytes);
    if found != blob.digest {
        return Err(repository
            .host
            .wrong(&what, &format_args!("its bytes have the digest {found}")));
    }
    Ok(bytes)
}
