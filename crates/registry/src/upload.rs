//! Blobs to a registry (distribution specification, section "Push").
//!
//! A blob that the registry has is not sent; one that another of its repositories has is mounted
//! from there. Else it is sent in one request, without a copy of it in memory or on the disk.
//! When the connection breaks, the registry is asked how much it has, and only the rest is sent;
//! registries that do not know begin anew. Where a request is too large for the registry, it is
//! sent in chunks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use koskit_image::Store;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Method, Response, Url};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::download::Download;
use crate::error::Transport;
use crate::host::{Call, Failed};
use crate::progress::{Event, Part, Progress, STEP, State};
use crate::repository::{Blob, Repository, text};
use crate::{Error, answer};

/// Pieces of a blob that wait for the network.
const QUEUE: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// The most bytes that need no place among those who send.
const SMALL: u64 = 1 << 20;
/// Bytes of a chunk, where a registry or something before it takes no whole blobs.
const CHUNK: u64 = 8 << 20;
/// How much longer the answer to a whole blob may take than others: the registry checks it.
const CHECKING: u32 = 10;
const BINARY: &str = "application/octet-stream";

/// Where a blob comes from.
pub(crate) enum Source<'a> {
    /// The store here.
    Store(&'a Store),
    /// Another repository.
    Repository(&'a Repository),
    /// Memory.
    Bytes(Bytes),
}

/// What came of an upload that was begun.
enum Begun {
    Mounted,
    At(Url),
}

/// Sends a blob, unless it is there. `mounts` are repositories of the same registry that may have
/// it.
pub(crate) async fn upload(
    to: &Repository,
    blob: &Blob,
    part: Part,
    source: &Source<'_>,
    mounts: &[String],
    progress: Progress<'_>,
) -> Result<(), Error> {
    let upload =
        Upload { to, blob, part, source, progress, what: format!("the blob {}", blob.digest) };
    if to.has_blob(blob).await? {
        upload.tell(State::Present);
        return Ok(());
    }
    for from in mounts {
        match upload.begin(Some(from)).await? {
            Begun::Mounted => {
                upload.tell(State::Mounted(from));
                return Ok(());
            }
            Begun::At(location) => {
                // The last one may as well be used.
                if Some(from) == mounts.last() {
                    return upload.run(Some(location)).await;
                }
                upload.cancel(location).await;
            }
        }
    }
    upload.run(None).await
}

struct Upload<'a> {
    to: &'a Repository,
    blob: &'a Blob,
    part: Part,
    source: &'a Source<'a>,
    progress: Progress<'a>,
    what: String,
}

impl Upload<'_> {
    fn tell(&self, state: State<'_>) {
        (self.progress)(&Event {
            digest: &self.blob.digest,
            part: self.part,
            size: self.blob.size,
            state,
        });
    }

    /// Begins one; `mount` is a repository to take the blob from.
    async fn begin(&self, mount: Option<&str>) -> Result<Begun, Error> {
        let host = &self.to.host;
        let mut url = host.url(&format!("{}/blobs/uploads/", self.to.path))?;
        let mut scopes = self.to.scopes.clone();
        if let Some(from) = mount {
            url.query_pairs_mut()
                .append_pair("mount", self.blob.digest.as_str())
                .append_pair("from", from);
            scopes.push(format!("repository:{from}:pull"));
        }
        let call = Call::new(Method::POST, url.clone(), &scopes, &self.what);
        let response = match host.send(&call).await {
            // We may write here and not read there.
            Err(Error::Unauthorized { .. }) if mount.is_some() => {
                return Box::pin(self.begin(None)).await;
            }
            other => other?,
        };
        if mount.is_some() && matches!(response.status().as_u16(), 400..=405) {
            return Box::pin(self.begin(None)).await;
        }
        let response = host.expect(&call, response, &[201, 202]).await?;
        if response.status() == 201 {
            return match mount {
                Some(_) => Ok(Begun::Mounted),
                None => Err(host.wrong(&self.what, &"it says that it has what was not sent yet")),
            };
        }
        Ok(Begun::At(host.location(&url, response.headers(), &self.what)?))
    }

    /// Ends one that is not needed. Whether that works is not important: registries remove such
    /// by themselves, some day.
    async fn cancel(&self, location: Url) {
        let call = Call::new(Method::DELETE, location, &self.to.scopes, &self.what);
        let _ = self.to.host.send_once(&call, None).await;
    }

    /// Sends all bytes, as often as it takes.
    async fn run(&self, begun: Option<Url>) -> Result<(), Error> {
        let host = &self.to.host;
        let mut at = begun.map(|location| (location, 0));
        let mut chunk = host.options.chunk;
        let mut attempt = 0;
        let mut resumed = false;
        loop {
            let (mut location, mut sent) = match at.take() {
                Some(at) => at,
                None => match self.begin(None).await? {
                    Begun::At(location) => (location, 0),
                    Begun::Mounted => unreachable!("nothing was to be mounted"),
                },
            };
            let begun_at = sent;
            match self.send(&mut location, &mut sent, chunk).await {
                Ok(()) => {
                    self.tell(State::Done);
                    return Ok(());
                }
                Err(Broken::Large) if chunk.is_none() => {
                    chunk = Some(CHUNK);
                    continue;
                }
                Err(Broken::Large) => {
                    let why = format!("it takes no requests of {} bytes", chunk.unwrap_or(CHUNK));
                    return Err(host.wrong(&self.what, &why));
                }
                // What was still under way when the connection broke may reach the registry after
                // it has told how much it has; it then refuses the rest, or the whole.
                Err(Broken::Error(error)) if resumed => {
                    let why = error.to_string();
                    self.tell(State::Retry { why: &why, wait: Duration::ZERO });
                    resumed = false;
                }
                Err(Broken::Error(error) | Broken::Source(error)) => return Err(error),
                Err(Broken::Transport(error)) => {
                    let status = self.status(&location).await;
                    if let Some((_, received)) = &status {
                        // What has arrived is worth new attempts.
                        if *received > begun_at {
                            attempt = 0;
                        }
                    }
                    attempt += 1;
                    if attempt > host.options.retries {
                        return Err(host.unreachable(&self.what, error));
                    }
                    let why = error.to_string();
                    self.tell(State::Retry { why: &why, wait: host.options.backoff });
                    host.pause(attempt, None, &self.what).await?;
                    if self.to.has_blob(self.blob).await? {
                        // Only the answer was lost.
                        self.tell(State::Done);
                        return Ok(());
                    }
                    resumed = status.is_some();
                    at = status;
                }
            }
        }
    }

    /// Where an upload stands; none where the registry does not know, and it has to begin anew.
    async fn status(&self, location: &Url) -> Option<(Url, u64)> {
        let call = Call::new(Method::GET, location.clone(), &self.to.scopes, &self.what);
        let response = self.to.host.send_once(&call, None).await.ok()?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            return None;
        }
        let (received, next) = self.went_on(location, response.headers()).ok()?;
        // All of it, without its end having been told, is as good as nothing.
        (received < self.blob.size).then_some((next, received))
    }

    fn went_on(&self, from: &Url, headers: &HeaderMap) -> Result<(u64, Url), Error> {
        let host = &self.to.host;
        let received = text(headers, RANGE.as_str()).and_then(|range| answer::received(&range));
        let received = received
            .filter(|received| *received <= self.blob.size)
            .ok_or_else(|| host.wrong(&self.what, &"it does not say how much it has received"))?;
        let next = match headers.contains_key(reqwest::header::LOCATION) {
            true => host.location(from, headers, &self.what)?,
            false => from.clone(),
        };
        Ok((received, next))
    }

    /// Sends what is left, in one request or in chunks, and ends the upload.
    async fn send(
        &self,
        location: &mut Url,
        sent: &mut u64,
        chunk: Option<u64>,
    ) -> Result<(), Broken> {
        let size = self.blob.size;
        if *sent == 0 && chunk.is_none_or(|chunk| chunk >= size) {
            let url = self.last(location);
            let response = self.stream(Method::PUT, url, 0, size).await?;
            return self.ended(response).await;
        }
        while *sent < size {
            let end = size.min(*sent + chunk.unwrap_or(u64::MAX - size));
            let response = self.stream(Method::PATCH, location.clone(), *sent, end).await?;
            if response.status() == 413 {
                return Err(Broken::Large);
            }
            if response.status() == 416 {
                let error = Transport::Http("the registry has lost a part".into());
                return Err(Broken::Transport(error));
            }
            let call = Call::new(Method::PATCH, location.clone(), &self.to.scopes, &self.what);
            let response = self.answered(&call, response, &[201, 202, 204]).await?;
            let (received, next) = match self.went_on(location, response.headers()) {
                Ok(went_on) => went_on,
                Err(error) => return Err(Broken::Error(error)),
            };
            if received <= *sent || received > end {
                let why = format!("it says to have {received} bytes after {end} were sent");
                return Err(Broken::Error(self.to.host.wrong(&self.what, &why)));
            }
            (*sent, *location) = (received, next);
        }
        let url = self.last(location);
        let call = Call::new(Method::PUT, url, &self.to.scopes, &self.what);
        // The registry checks the digest before it answers.
        let response = self.to.host.send(&call).await.map_err(Broken::Error)?;
        self.ended(response).await
    }

    /// The address that ends the upload.
    fn last(&self, location: &Url) -> Url {
        let mut url = location.clone();
        url.query_pairs_mut().append_pair("digest", self.blob.digest.as_str());
        url
    }

    async fn ended(&self, response: Response) -> Result<(), Broken> {
        if response.status() == 413 {
            return Err(Broken::Large);
        }
        let call = Call::new(Method::PUT, response.url().clone(), &self.to.scopes, &self.what);
        let response = match self.answered(&call, response, &[200, 201, 204]).await {
            Err(Broken::Error(error)) => return Err(Broken::Error(self.explained(error).await)),
            other => other?,
        };
        let digest = text(response.headers(), "docker-content-digest");
        match digest {
            Some(digest)
                if digest.starts_with("sha256:") && digest != self.blob.digest.as_str() =>
            {
                let why = format!("it has kept it as {digest}");
                Err(Broken::Error(self.to.host.wrong(&self.what, &why)))
            }
            _ => Ok(()),
        }
    }

    /// Where a registry refuses a blob, it may be ours that is damaged.
    async fn explained(&self, error: Error) -> Error {
        let Source::Store(store) = self.source else { return error };
        let (store, blob) = ((*store).clone(), self.blob.clone());
        let check = move || -> Result<(), koskit_image::Error> {
            let mut reader = store.blob(&blob.digest, blob.size)?;
            let read = std::io::copy(&mut reader, &mut std::io::sink());
            match read.map_err(|e| e.downcast::<koskit_image::Error>()) {
                Err(Ok(damaged)) => Err(damaged),
                _ => Ok(()),
            }
        };
        match spawn_blocking(check).await {
            Ok(Err(damaged)) => damaged.into(),
            _ => error,
        }
    }

    /// The response, if it says what it should; a busy registry is as good as a broken connection.
    async fn answered(
        &self,
        call: &Call<'_>,
        response: Response,
        expected: &[u16],
    ) -> Result<Response, Broken> {
        let status = response.status();
        if status.is_server_error() || status == 429 || status == 408 {
            return Err(Broken::Transport(Transport::Http(format!(
                "the registry answers {status}"
            ))));
        }
        self.to.host.expect(call, response, expected).await.map_err(Broken::Error)
    }

    /// Sends some bytes as they come from the source.
    async fn stream(
        &self,
        method: Method,
        url: Url,
        from: u64,
        to: u64,
    ) -> Result<Response, Broken> {
        let host = &self.to.host;
        let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(QUEUE);
        // How far the network has come.
        let taken = Arc::new(AtomicU64::new(from));
        let count = Arc::clone(&taken);
        // Its place is free again when its bytes are out: while the registry brings them to its
        // disk, which is the longer part, others are sent.
        // A small one does not wait for the large ones.
        let place = if to - from > SMALL { Some(host.place().await) } else { None };
        let pieces = stream::unfold((receiver, place), move |(mut receiver, place)| {
            let count = Arc::clone(&count);
            async move {
                let piece = receiver.recv().await?;
                if let Ok(bytes) = &piece {
                    count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Some((piece, (receiver, place)))
            }
        });
        let body = reqwest::Body::wrap_stream(pieces);
        let mut call =
            Call::new(method, url, &self.to.scopes, &self.what).header(CONTENT_TYPE, BINARY);
        if call.method == Method::PATCH && to > from {
            call = call.header(CONTENT_RANGE, &format!("{from}-{}", to - 1));
        }
        let sent = host.send_once(&call, Some((body, to - from)));
        let feed = self.feed(from, to, sender);
        let watched = self.watch(sent, &taken, to);
        // Both go on at once. A registry may answer without reading everything, such as by a
        // refusal. If the source fails, the request does, too, and its own error says less.
        let (mut feed, mut watched) = (std::pin::pin!(feed), std::pin::pin!(watched));
        let mut fed = false;
        let response = loop {
            tokio::select! {
                response = &mut watched => break response,
                result = &mut feed, if !fed => match result {
                    Err(Fed::Failed(error)) => return Err(Broken::Source(error)),
                    Ok(()) | Err(Fed::Unwanted) => fed = true,
                },
            }
        };
        response.map_err(|failed| match failed {
            Failed::Error(error) => Broken::Error(error),
            Failed::Transport(error, _) => Broken::Transport(error),
        })
    }

    /// Waits for the response as long as bytes go out, and then as long as checking them may take.
    async fn watch(
        &self,
        sent: impl Future<Output = Result<Response, Failed>>,
        taken: &AtomicU64,
        to: u64,
    ) -> Result<Response, Failed> {
        let patience = self.to.host.options.patience;
        let mut sent = std::pin::pin!(sent);
        let (mut last, mut shown) = (taken.load(Ordering::Relaxed), 0);
        let mut idle = Duration::ZERO;
        let step = (patience / 20).min(Duration::from_millis(100));
        loop {
            if let Ok(response) = tokio::time::timeout(step, &mut sent).await {
                return response;
            }
            let now = taken.load(Ordering::Relaxed);
            if now >= shown + STEP {
                self.tell(State::Moved(now));
                shown = now;
            }
            idle = if now > last { Duration::ZERO } else { idle + step };
            last = now;
            let limit = if now >= to { patience * CHECKING } else { patience };
            if idle > limit {
                return Err(Failed::Transport(Transport::Stalled(limit), true));
            }
        }
    }

    /// Puts the bytes from the source into the queue.
    async fn feed(
        &self,
        from: u64,
        to: u64,
        queue: mpsc::Sender<Result<Bytes, std::io::Error>>,
    ) -> Result<(), Fed> {
        match self.source {
            Source::Bytes(bytes) => {
                let piece = bytes.slice(from as usize..to as usize);
                queue.send(Ok(piece)).await.map_err(|_| Fed::Unwanted)
            }
            Source::Store(store) => {
                let path = store.blob_path(&self.blob.digest);
                let missing = !store.has_blob(&self.blob.digest);
                let digest = self.blob.digest.clone();
                if missing {
                    let error = koskit_image::Error::MissingBlob(digest);
                    return Err(Fed::Failed(error.into()));
                }
                let read = spawn_blocking(move || -> Result<(), Fed> {
                    let failed = |source| {
                        let (action, path) = ("read", path.clone());
                        Fed::Failed(koskit_image::Error::File { action, path, source }.into())
                    };
                    let mut file = File::open(&path).map_err(failed)?;
                    file.seek(SeekFrom::Start(from)).map_err(failed)?;
                    let mut left = to - from;
                    while left > 0 {
                        let len = PIECE.min(left as usize);
                        let mut piece = Vec::with_capacity(len);
                        (&mut file).take(len as u64).read_to_end(&mut piece).map_err(failed)?;
                        if piece.len() < len {
                            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                        }
                        left -= piece.len() as u64;
                        queue.blocking_send(Ok(piece.into())).map_err(|_| Fed::Unwanted)?;
                    }
                    Ok(())
                });
                read.await.expect("the reader does not panic")
            }
            Source::Repository(repository) => {
                let mut download = Download::new(repository, self.blob, from);
                let mut told = |why: &str, wait| self.tell(State::Retry { why, wait });
                let mut left = to - from;
                while left > 0 {
                    let next = download.next(&mut told).await;
                    let piece = next.map_err(Fed::Failed)?;
                    let Some(mut piece) = piece else { break };
                    piece.truncate(left.min(usize::MAX as u64) as usize);
                    left -= piece.len() as u64;
                    queue.send(Ok(piece)).await.map_err(|_| Fed::Unwanted)?;
                }
                Ok(())
            }
        }
    }
}

/// Why an upload did not come to its end.
enum Broken {
    /// The connection; another attempt may help.
    Transport(Transport),
    /// The registry does not take requests of this size.
    Large,
    /// What is sent cannot be read.
    Source(Error),
    /// Anything else.
    Error(Error),
}

/// Why not all bytes were put into the queue.
enum Fed {
    /// Nobody takes them any more.
    Unwanted,
    Failed(Error),
}
