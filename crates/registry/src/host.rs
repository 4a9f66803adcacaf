//! One registry: requests to it, with what it takes to be let in, tried again where that helps.
//!
//! # Whom credentials reach
//! The registry itself (scheme, host and port are those that its name leads to) and, where it
//! asks for tokens, the token server that it names. A redirect to anybody else is followed
//! without them, for reading only, and never from HTTPS to plain HTTP.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{self, Challenge, MAX_ANSWER};
use crate::auth::Tokens;
use crate::credentials::Credential;
use crate::error::Transport;
use crate::{DOCKER_HUB, Error, Options, tls};

/// Blobs that are being sent at once: enough that a registry which checks one, or waits for its
/// disk, has others to receive, and few enough that it does not have all of them to write at the
/// end.
const SENDERS: usize = 3;
/// Redirects that are followed, one after the other.
const MAX_REDIRECTS: usize = 5;
/// Bytes that have to come within [`Options::patience`].
const MIN_BYTES: u64 = 1 << 10;
/// The longest time to the next attempt.
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// A registry that has been found.
pub(crate) struct Host {
    /// The first part of its images' names.
    pub domain: String,
    base: Url,
    http: reqwest::Client,
    pub options: Options,
    /// How it wants to be convinced, once it has said so.
    challenge: Mutex<Option<Challenge>>,
    tokens: Tokens,
    /// Places for those who send blobs.
    senders: Arc<Semaphore>,
    /// Set by `login` to what is to be tried.
    credential: Option<Credential>,
}

/// A request, which can be sent several times.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub method: Method,
    pub url: Url,
    /// What a token must allow: `repository:a/b:pull`.
    pub scopes: &'a [String],
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Type and bytes of the body.
    pub body: Option<(&'a str, Bytes)>,
    /// What it is about, for errors: `the manifest of a/b:c`.
    pub what: &'a str,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: Url, scopes: &'a [String], what: &'a str) -> Self {
        Self { method, url, scopes, headers: Vec::new(), body: None, what }
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("only digits and media types come here");
        self.headers.push((name, value));
        self
    }
}

impl Host {
    /// A place among those who send blobs.
    pub async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.senders).acquire_owned().await.expect("it is never closed")
    }

    /// Finds out how a registry is reached: by HTTPS. Only one on this machine, or one that the
    /// user vouches for, may speak plain HTTP.
    pub async fn find(
        domain: &str,
        options: &Options,
        credential: Option<Credential>,
    ) -> Result<Self, Error> {
        let address = if domain == DOCKER_HUB { "registry-1.docker.io" } else { domain };
        let insecure = options.insecure;
        let local = is_local(address);
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{address}/"));
        let base = url("https").map_err(|e| Error::Answer {
            registry: domain.into(),
            what: "its name".into(),
            why: e.to_string(),
        })?;
        let config = tls::config(domain, &options.ca_files, insecure)?;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("koskit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.patience.min(Duration::from_secs(20)))
            // Blobs go over connections of their own, side by side; HTTP/2 would put them all on
            // one, and have its own flow control in the way.
            .http1_only()
            .tcp_nodelay(true)
            .referer(false);
        if local {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| Error::Connection {
            registry: domain.into(),
            what: "a first connection".into(),
            source: Transport::of(e),
        })?;
        let mut host = Self {
            domain: domain.into(),
            base,
            http,
            options: options.clone(),
            challenge: Mutex::new(None),
            tokens: Tokens::default(),
            senders: Arc::new(Semaphore::new(SENDERS)),
            credential,
        };
        if local || insecure {
            let call = Call::new(Method::GET, host.url("")?, &[], "a first question");
            if let Err(error) = host.transmit(&call, None, None).await {
                let plain = url("http").expect("it is an address with https");
                if !is_about_tls(&error) {
                    return Err(host.unreachable(call.what, error));
                }
                host.base = plain;
            }
        }
        Ok(host)
    }

    /// The address of `/v2/` and what follows.
    pub fn url(&self, path: &str) -> Result<Url, Error> {
        let url = self.base.join(&format!("/v2/{path}"));
        url.map_err(|e| self.wrong("an address", &e))
    }

    /// The registry's own words for where to go on.
    pub fn location(&self, from: &Url, headers: &HeaderMap, what: &str) -> Result<Url, Error> {
        let text = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| self.wrong(what, &"it names no location to go on at"))?;
        let mut to = from.join(text).map_err(|e| self.wrong(what, &e))?;
        if from.scheme() == "https" && to.scheme() == "http" && same_host(from, &to) {
            // A registry behind a proxy that speaks TLS for it does not know better.
            let _ = to.set_scheme("https");
            if to.port() == Some(80) {
                let _ = to.set_port(from.port());
            }
        }
        match may_follow(from, &to) {
            Ok(()) => Ok(to),
            Err(why) => Err(self.wrong(what, &why)),
        }
    }

    /// Sends a request until it is answered: anew after a connection that broke and where the
    /// registry says that it is busy, with growing pauses; with credentials where it asks for
    /// them; to where it redirects.
    pub async fn send(&self, call: &Call<'_>) -> Result<Response, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.send_once(call, None).await {
                Ok(response) if is_busy(response.status()) => {
                    if attempt > self.options.retries {
                        return self.refuse(call, response).await;
                    }
                    let asked = after(response.headers());
                    self.pause(attempt, asked, call.what).await?;
                }
                Ok(response) => return Ok(response),
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::Transport(error, may_help)) => {
                    if attempt > self.options.retries || !may_help {
                        return Err(self.unreachable(call.what, error));
                    }
                    self.pause(attempt, None, call.what).await?;
                }
            }
        }
    }

    /// Sends it once, but for credentials and redirects. A body that streams is in `body`, which
    /// can be sent once only: then the token is asked for before.
    pub async fn send_once(
        &self,
        call: &Call<'_>,
        mut body: Option<(reqwest::Body, u64)>,
    ) -> Result<Response, Failed> {
        let mut call = call.clone();
        let mut redirects = 0;
        let mut refused = false;
        loop {
            let ours = self.is_ours(&call.url);
            let authorization = match ours {
                true => self.authorization(call.scopes, call.what).await?,
                false => None,
            };
            let streams = body.is_some();
            let sent = self.transmit(&call, authorization.clone(), body.take()).await;
            let response = sent.map_err(|e| {
                let may_help = !is_hopeless(&e, &self.base);
                Failed::Transport(e, may_help)
            })?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && ours {
                if refused || streams {
                    return Err(self.unauthorized(&call, response).await.into());
                }
                refused = true;
                self.learn(&call, response, authorization.as_ref()).await?;
                continue;
            }
            let reads = call.method == Method::GET || call.method == Method::HEAD;
            let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !(reads && moved) {
                return Ok(response);
            }
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                return Err(self.wrong(call.what, &"it redirects again and again").into());
            }
            call.url = self.location(&call.url, response.headers(), call.what)?;
        }
    }

    /// Whether credentials may go there.
    fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// One request, one response. Without a streaming body, the response begins in time.
    async fn transmit(
        &self,
        call: &Call<'_>,
        authorization: Option<HeaderValue>,
        body: Option<(reqwest::Body, u64)>,
    ) -> Result<Response, Transport> {
        let mut request = self.http.request(call.method.clone(), call.url.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let streams = body.is_some();
        if let Some((body, size)) = body {
            request = request.header(CONTENT_LENGTH, size).body(body);
        } else if let Some((media_type, bytes)) = &call.body {
            request = request.header(CONTENT_TYPE, *media_type).body(bytes.clone());
        } else if matches!(call.method, Method::POST | Method::PUT) {
            request = request.header(CONTENT_LENGTH, 0);
        }
        let sent = request.send();
        let response = match streams {
            // Who streams watches over it.
            true => sent.await,
            false => {
                let patience = self.options.patience;
                let in_time = tokio::time::timeout(patience, sent).await;
                in_time.map_err(|_| Transport::Stalled(patience))?
            }
        };
        response.map_err(Transport::of)
    }

    /// What is sent with a request, where the registry has asked for something before.
    async fn authorization(
        &self,
        scopes: &[String],
        what: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        let challenge = self.challenge.lock().expect("no panic holds it").clone();
        match challenge {
            None => Ok(None),
            Some(challenge) => self.tokens.get(self, &challenge, scopes, what).await,
        }
    }

    /// Takes in what a refusal says about how to be let in.
    async fn learn(
        &self,
        call: &Call<'_>,
        response: Response,
        sent: Option<&HeaderValue>,
    ) -> Result<(), Error> {
        let fields = response.headers().get_all(WWW_AUTHENTICATE);
        let fields = fields.iter().filter_map(|field| field.to_str().ok());
        let mut challenges: Vec<_> = fields.flat_map(answer::challenges).collect();
        // Tokens before passwords, where both would do.
        challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
        let Some(challenge) = challenges.into_iter().next() else {
            return Err(self.unauthorized(call, response).await);
        };
        // One that was good once may have ended. A password does not become right by sending it
        // again.
        if sent.is_some() && challenge == Challenge::Basic {
            return Err(self.unauthorized(call, response).await);
        }
        self.tokens.forget();
        *self.challenge.lock().expect("no panic holds it") = Some(challenge);
        Ok(())
    }

    /// Asks whether it lets us in. Where it asks for tokens: the address of their server and the
    /// service that they are for.
    pub async fn log_in(&self) -> Result<Option<(String, Option<String>)>, Error> {
        let call = Call::new(Method::GET, self.url("")?, &[], "a login");
        let response = self.send(&call).await?;
        self.expect(&call, response, &[200]).await?;
        let challenge = self.challenge.lock().expect("no panic holds it").clone();
        Ok(match challenge {
            Some(Challenge::Bearer { realm, service, .. }) => Some((realm, service)),
            _ => None,
        })
    }

    /// Who we are to it.
    pub fn credential(&self) -> Result<Option<Credential>, Error> {
        match &self.credential {
            Some(credential) => Ok(Some(credential.clone())),
            None => self.options.credentials.get(&self.domain),
        }
    }

    /// Whether the password would go over the wire for all to see.
    pub fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// A request to a token server, which has no authority but what `call` and `authorization`
    /// say.
    pub async fn ask_token_server(
        &self,
        call: &Call<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<(StatusCode, Vec<u8>), Error> {
        if call.url.scheme() != "https" && !self.is_plain() {
            let why = "it sends us to a token server that speaks plain HTTP";
            return Err(self.wrong(call.what, &why));
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let sent = self.transmit(call, authorization.clone(), None).await;
            match sent {
                Ok(response) if is_busy(response.status()) && attempt <= self.options.retries => {
                    self.pause(attempt, after(response.headers()), call.what).await?;
                }
                Ok(response) => {
                    let status = response.status();
                    return Ok((status, self.body(response, MAX_ANSWER, call.what).await?));
                }
                Err(error) => {
                    if attempt > self.options.retries || is_hopeless(&error, &call.url) {
                        return Err(self.unreachable(call.what, error));
                    }
                    self.pause(attempt, None, call.what).await?;
                }
            }
        }
    }

    /// A whole body, which must come in time and not be larger than that.
    pub async fn body(
        &self,
        mut response: Response,
        limit: u64,
        what: &str,
    ) -> Result<Vec<u8>, Error> {
        let large = || self.wrong(what, &format_args!("it is larger than {limit} bytes"));
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(large());
        }
        let patience = self.options.patience;
        let all = async {
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(Transport::of)? {
                if (bytes.len() + chunk.len()) as u64 > limit {
                    return Ok(None);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(bytes))
        };
        let in_time = tokio::time::timeout(patience, all).await;
        match in_time.unwrap_or(Err(Transport::Stalled(patience))) {
            Ok(bytes) => bytes.ok_or_else(large),
            Err(error) => Err(self.unreachable(what, error)),
        }
    }

    /// The response, if it says what it should.
    pub async fn expect(
        &self,
        call: &Call<'_>,
        response: Response,
        expected: &[u16],
    ) -> Result<Response, Error> {
        if expected.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        self.refuse(call, response).await
    }

    /// The error that a response tells.
    pub async fn refuse(&self, call: &Call<'_>, response: Response) -> Result<Response, Error> {
        let status = response.status();
        let (registry, what) = (self.domain.clone(), call.what.to_owned());
        let wait = after(response.headers());
        let said = self.said(response).await;
        Err(match status.as_u16() {
            401 | 403 => self.denied(&what, said),
            404 => Error::NotFound { registry, what, why: said },
            429 if wait.is_some_and(|wait| wait > self.options.patience) => {
                Error::Wait { registry, what, wait: wait.unwrap_or_default() }
            }
            code @ (200..=399) => {
                let why = format!("the status {code} is none that this can be answered with");
                Error::Answer { registry, what, why }
            }
            code => {
                let reason = status.canonical_reason().unwrap_or("it does not say why");
                let why = said.unwrap_or_else(|| reason.to_lowercase());
                Error::Refused { registry, what, why, status: code }
            }
        })
    }

    async fn unauthorized(&self, call: &Call<'_>, response: Response) -> Error {
        let said = self.said(response).await;
        self.denied(call.what, said)
    }

    /// We are not let in.
    pub fn denied(&self, what: &str, said: Option<String>) -> Error {
        let known = matches!(self.credential(), Ok(Some(_)));
        let login = match self.domain.as_str() {
            DOCKER_HUB => "`koskit login`".to_owned(),
            domain => format!("`koskit login {domain}`"),
        };
        let hint = match known {
            true => {
                format!("it may not exist, or need other rights: {login} takes another password")
            }
            false => format!("if it exists, {login} takes a user's name and password"),
        };
        let why = said.unwrap_or_else(|| "it wants to know who we are".into());
        Error::Unauthorized { registry: self.domain.clone(), what: what.into(), why, hint }
    }

    /// What an error's body says.
    async fn said(&self, response: Response) -> Option<String> {
        // Whatever is wrong with it, what matters is the status.
        let bytes = self.body(response, MAX_ANSWER, "an error").await.ok()?;
        answer::errors(&bytes)
    }

    /// Waits before another attempt: as long as the registry asks for, else longer each time.
    pub async fn pause(
        &self,
        attempt: u32,
        asked: Option<Duration>,
        what: &str,
    ) -> Result<Duration, Error> {
        let wait = match asked {
            Some(wait) if wait > self.options.patience => {
                let (registry, what) = (self.domain.clone(), what.to_owned());
                return Err(Error::Wait { registry, what, wait });
            }
            Some(wait) => wait,
            None => {
                let grown = self.options.backoff * 2u32.pow(attempt.saturating_sub(1).min(10));
                // Not all at the same time.
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let jitter = now.map_or(0, |now| now.subsec_nanos() % 256);
                grown.min(MAX_BACKOFF) * (768 + jitter) / 1024
            }
        };
        tokio::time::sleep(wait).await;
        Ok(wait)
    }

    pub fn wrong(&self, what: &str, why: &dyn std::fmt::Display) -> Error {
        let why = answer::plain(&why.to_string());
        Error::Answer { registry: self.domain.clone(), what: what.into(), why }
    }

    pub fn unreachable(&self, what: &str, source: Transport) -> Error {
        if is_about_tls(&source) && !self.is_plain() {
            return Error::Plain { registry: self.domain.clone() };
        }
        Error::Connection { registry: self.domain.clone(), what: what.into(), source }
    }
}

/// Why there is no response.
pub(crate) enum Failed {
    /// The connection broke; whether another attempt may help.
    Transport(Transport, bool),
    /// Something that another attempt does not change.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Watches that a body does not merely drip.
pub(crate) struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub fn new() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes; tells whether too few came.
    pub fn is_too_slow(&mut self, bytes: u64, patience: Duration) -> bool {
        self.bytes += bytes;
        if self.bytes >= MIN_BYTES {
            *self = Self::new();
        }
        self.since.elapsed() > patience
    }
}

/// Whether an address is this machine.
fn is_local(address: &str) -> bool {
    let host = match Url::parse(&format!("http://{address}/")) {
        Ok(url) => url.host_str().unwrap_or_default().to_owned(),
        Err(_) => return false,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = host.parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Whether an address that a registry names may be used after another one.
fn may_follow(from: &Url, to: &Url) -> Result<(), &'static str> {
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(()),
        ("https", "http") => Err("it leads from HTTPS to plain HTTP"),
        _ => Err("it leads to an address that is not HTTP"),
    }
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.host_str() == b.host_str()
}

/// Whether the other side does not speak TLS at all. A certificate that is not trusted is no
/// reason to speak plain HTTP.
fn is_about_tls(error: &Transport) -> bool {
    match error {
        Transport::Http(text) => {
            let words =
                ["corrupt message", "InvalidContentType", "InvalidMessage", "tls handshake eof"];
            words.iter().any(|word| text.contains(word))
        }
        _ => false,
    }
}

/// Whether trying again is of no use: nobody of that name, nobody there, nobody to be trusted.
fn is_hopeless(error: &Transport, url: &Url) -> bool {
    let Transport::Http(text) = error else { return false };
    let local = url.host_str().is_some_and(is_local) && text.contains("refused");
    local || ["lookup address", "dns error", "certificate"].iter().any(|word| text.contains(word))
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn after(headers: &HeaderMap) -> Option<Duration> {
    let field = headers.get(RETRY_AFTER)?.to_str().ok()?;
    answer::retry_after(field, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_from_https_to_anything_less() {
        let follow = |from: &str, to: &str| {
            may_follow(&Url::parse(from).unwrap(), &Url::parse(to).unwrap()).is_ok()
        };
        assert!(follow("https://a/x", "https://b/y"));
        assert!(follow("http://a/x", "https://b/y") && follow("http://a/x", "http://b/y"));
        assert!(
            !follow("https://a/x", "http://a/y") && !follow("https://a/x", "http://127.0.0.1/")
        );
        assert!(!follow("http://a/x", "file:///etc/passwd") && !follow("https://a/x", "ftp://b/"));
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"] {
            assert!(is_local(local), "{local}");
        }
        for far in
            ["example.com", "localhost.example.com", "10.0.0.1", "127.0.0.1.example", "[::2]"]
        {
            assert!(!is_local(far), "{far}");
        }
    }
}
