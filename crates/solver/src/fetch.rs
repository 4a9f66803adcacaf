//! Files of web servers.
//!
//! A server is not trusted: what it sends is bounded, what it calls a file is made a plain name,
//! and it may not lead from an encrypted connection to one that is not. A connection that breaks
//! is taken up where it broke, if the server can do that and still has the same file. What tells
//! who asks (`Authorization`) goes to the host that was named and to no other.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::OnceLock;
use std::time::Duration;

use koskit_llb::Digest;
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use sha2::{Digest as _, Sha256};

use crate::exec::Cancel;

/// The largest file that is fetched.
const MAX_SIZE: u64 = 64 << 30;
/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often in a row a connection may break without anything having come.
const MAX_ATTEMPTS: u32 = 4;
/// How many times a server may send elsewhere, as browsers have it.
const MAX_REDIRECTS: usize = 20;

/// A file that is to be fetched.
pub(crate) struct Request {
    url: Url,
    headers: HeaderMap,
}

/// What a server has answered.
pub(crate) enum Answer {
    /// The file is the one that the tag was of.
    Same,
    /// It, written.
    File(Fetched),
}

/// A file that was fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub digest: Digest,
    /// What the server calls this content, to ask for another one only.
    pub tag: Option<String>,
    /// When it was changed, in seconds since 1970.
    pub modified: Option<i64>,
    /// What the server calls the file.
    pub name: Option<String>,
}

/// A part of a file, and how to ask for the rest.
struct Progress {
    sha: Sha256,
    len: u64,
    /// A strong tag or a date: what the rest must still be of.
    unchanged: Option<HeaderValue>,
    answer: HeaderMap,
    /// The whole length, if it is known.
    whole: Option<u64>,
}

/// Why an attempt has failed.
enum Failure {
    /// Another one may do better.
    Again(String),
    Final(String),
}

impl Request {
    /// For a URL, with more headers.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|e| format!("it is no URL: {e}"))?;
        match url.scheme() {
            "http" | "https" if url.host().is_some() => Ok(Self { url, headers: HeaderMap::new() }),
            _ => Err("it is no URL of a web server".into()),
        }
    }

    /// The URL as it may be shown.
    pub fn shown(&self) -> String {
        let mut url = self.url.clone();
        if url.password().is_some() {
            let _ = url.set_password(Some("…"));
        }
        url.to_string()
    }

    /// The last part of the path.
    pub fn name(&self) -> Option<String> {
        let last = self.url.path_segments()?.rfind(|part| !part.is_empty())?;
        plain_name(&percent_decoded(last))
    }

    /// Adds a header. Its value is not shown if it is `secret`.
    pub fn header(&mut self, name: &str, value: &[u8], secret: bool) -> Result<(), String> {
        let header = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header"))?;
        let value = HeaderValue::from_bytes(value.trim_ascii());
        let mut value =
            value.map_err(|_| format!("the value of the header {name} is not valid"))?;
        value.set_sensitive(secret);
        self.headers.insert(header, value);
        Ok(())
    }

    /// Fetches the file into another one, which is empty, unless it is the one with that tag.
    pub fn fetch(
        &self,
        tag: Option<&str>,
        to: &mut File,
        cancel: &Cancel,
    ) -> Result<Answer, String> {
        let mut progress: Option<Progress> = None;
        let mut attempts = 0;
        loop {
            let before = progress.as_ref().map_or(0, |progress| progress.len);
            let failure = match self.attempt(tag, &mut progress, to, cancel) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let why = match failure {
                Failure::Again(why) if !cancel.is_cancelled() => why,
                Failure::Again(why) | Failure::Final(why) => return Err(why),
            };
            let more = progress.as_ref().is_some_and(|progress| progress.len > before);
            attempts = if more { 1 } else { attempts + 1 };
            if attempts >= MAX_ATTEMPTS {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(100 << (2 * attempts)));
        }
    }

    fn attempt(
        &self,
        tag: Option<&str>,
        progress: &mut Option<Progress>,
        to: &mut File,
        cancel: &Cancel,
    ) -> Result<Answer, Failure> {
        let mut request = client().map_err(Failure::Final)?.get(self.url.clone());
        request = request.headers(self.headers.clone()).header(ACCEPT_ENCODING, "identity");
        let part = progress.as_ref().filter(|p| p.len > 0);
        match part.and_then(|p| Some((p.len, p.unchanged.clone()?))) {
            Some((len, unchanged)) => {
                request =
                    request.header(RANGE, format!("bytes={len}-")).header(IF_RANGE, unchanged);
            }
            None => {
                *progress = None;
                if let Some(tag) = tag {
                    request = request.header(IF_NONE_MATCH, tag);
                }
            }
        }
        let response = request.send().map_err(|e| {
            let why = chain(&e);
            if e.is_redirect() || e.is_builder() || is_distrusted(&e) {
                Failure::Final(why)
            } else {
                Failure::Again(why)
            }
        })?;
        let status = response.status();
        match status {
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(Answer::Same),
            StatusCode::PARTIAL_CONTENT if progress.is_some() => {
                let from = content_range(response.headers());
                let expected = progress.as_ref().map(|progress| progress.len);
                if from.is_none() || from != expected {
                    *progress = None;
                    return Err(Failure::Again(
                        "the server sent another part than asked for".into(),
                    ));
                }
            }
            StatusCode::OK => {
                to.set_len(0).and_then(|()| to.rewind()).map_err(write_failed)?;
                *progress = Some(Progress::new(&response));
            }
            _ => {
                let why = format!("the server answers {status}");
                let transient = status.is_server_error()
                    || matches!(
                        status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    );
                return Err(if transient { Failure::Again(why) } else { Failure::Final(why) });
            }
        }
        let progress = progress.as_mut().expect("it was set, or was there");
        progress.receive(response, to, cancel)?;
        Ok(Answer::File(progress.fetched()))
    }
}

impl Progress {
    fn new(response: &Response) -> Self {
        let answer = response.headers().clone();
        let strong = answer.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
        let unchanged = strong.or(answer.get(LAST_MODIFIED)).cloned();
        let (sha, whole) = (Sha256::new(), response.content_length());
        Self { sha, len: 0, unchanged, answer, whole }
    }

    fn receive(
        &mut self,
        mut from: Response,
        to: &mut File,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        let too_large = || Failure::Final(format!("it is larger than {} GiB", MAX_SIZE >> 30));
        if self.whole.is_some_and(|whole| whole > MAX_SIZE) {
            return Err(too_large());
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            if cancel.is_cancelled() {
                return Err(Failure::Final("the build was stopped".into()));
            }
            let len = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let why = e.get_ref().map_or_else(|| e.to_string(), |inner| chain(inner));
                    return Err(Failure::Again(why));
                }
            };
            self.len += len as u64;
            if self.len > MAX_SIZE {
                return Err(too_large());
            }
            self.sha.update(&buffer[..len]);
            to.write_all(&buffer[..len]).map_err(write_failed)?;
        }
        match self.whole {
            Some(whole) if self.len < whole => {
                Err(Failure::Again(format!("the server sent {} bytes of {whole}", self.len)))
            }
            Some(whole) if self.len > whole => {
                Err(Failure::Final("the server sent more bytes than it said".into()))
            }
            _ => Ok(()),
        }
    }

    fn fetched(&self) -> Fetched {
        let text = |name| self.answer.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let modified = text(LAST_MODIFIED).and_then(|text| httpdate::parse_http_date(text).ok());
        let seconds = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH)
                .ok()
                .and_then(|d| d.as_secs().try_into().ok())
        };
        Fetched {
            digest: Digest::from_bytes(self.sha.clone().finalize().into()),
            tag: text(ETAG).map(str::to_owned),
            modified: modified.and_then(seconds),
            name: text(CONTENT_DISPOSITION).and_then(disposition),
        }
    }
}

/// One client for all builds of this process. It has a thread of its own, so it comes after the
/// solver has entered its namespaces.
fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let make = || {
        // Whoever comes second finds the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redirects = Policy::custom(|attempt| {
            let downgrade = attempt.url().scheme() != "https"
                && attempt.previous().iter().any(|url| url.scheme() == "https");
            if downgrade {
                return attempt.error("the server leads from https to http");
            }
            match attempt.previous().len() > MAX_REDIRECTS {
                true => attempt.error("the server leads in a circle"),
                false => attempt.follow(),
            }
        });
        let client = Client::builder()
            .user_agent(concat!("koskit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(redirects)
            .build();
        client.map_err(|e| chain(&e))
    };
    CLIENT.get_or_init(make).as_ref().map_err(Clone::clone)
}

/// Whether a server could not prove who it is, which it cannot the next time either.
fn is_distrusted(error: &(dyn Error + 'static)) -> bool {
    let by_tls = |e: &(dyn Error + 'static)| {
        matches!(e.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    };
    let mut next = Some(error);
    while let Some(cause) = next {
        // The standard library's error has what it wraps for itself, not as its source.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        if by_tls(cause) || wrapped.is_some_and(|e| by_tls(e)) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn write_failed(e: io::Error) -> Failure {
    Failure::Final(format!("it cannot be written to the build cache: {e}"))
}

/// An error and its causes, which have no URL with a password.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let text = match cause.downcast_ref::<reqwest::Error>() {
            // Its words have the URL; what it is about stands before it anyway.
            Some(e) if e.is_timeout() => "the server is silent".into(),
            Some(e) if e.is_connect() => "the server cannot be reached".into(),
            Some(e) if e.is_redirect() => "its redirects are not followed".into(),
            Some(e) if e.is_body() || e.is_decode() => "the connection broke".into(),
            Some(_) => "the request failed".into(),
            None => cause.to_string(),
        };
        if words.last().is_none_or(|last| *last != text && !last.ends_with(&text)) {
            words.push(text);
        }
    }
    words.join(": ")
}

/// Where the bytes of an answer begin: `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

/// The `filename` of a Content-Disposition header (RFC 6266).
fn disposition(text: &str) -> Option<String> {
    let mut found = None;
    for part in text.split(';').skip(1) {
        let Some((key, value)) = part.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                let encoded = value.splitn(3, '\'').nth(2)?;
                return plain_name(&percent_decoded(encoded));
            }
            "filename" => found = plain_name(value),
            _ => {}
        }
    }
    found
}

/// The last part of a path, if that can be the name of a file.
pub(crate) fn plain_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let bad = name.is_empty() || matches!(name, "." | "..") || name.len() > 255;
    (!bad && !name.contains('\0')).then(|| name.to_owned())
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
