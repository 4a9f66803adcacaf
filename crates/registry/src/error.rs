//! What goes wrong with registries.

use std::path::PathBuf;
use std::time::Duration;

use koskit_llb::{Platform, Reference};
use thiserror::Error;

/// Something that could not be fetched, sent or kept.
#[derive(Debug, Error)]
pub enum Error {
    /// No connection, or one that broke each time.
    #[error("cannot reach the registry {registry} for {what}")]
    Connection {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was to be done.
        what: String,
        /// Why.
        #[source]
        source: Transport,
    },
    /// A plain connection to a registry that is not on this machine.
    #[error(
        "the registry {registry} speaks plain HTTP, which anybody on the way can read and change; \
         give --insecure if that is meant"
    )]
    Plain {
        /// `HOST[:PORT]`.
        registry: String,
    },
    /// Credentials are missing or not the right ones.
    #[error("the registry {registry} does not let us have {what}: {why}; {hint}")]
    Unauthorized {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was to be done.
        what: String,
        /// What the registry says.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The registry has no such thing.
    #[error("the registry {registry} has no {what}{}", .why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default())]
    NotFound {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the registry says.
        why: Option<String>,
    },
    /// An answer that tells an error.
    #[error("the registry {registry} refuses {what}: {why} (HTTP {status})")]
    Refused {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was to be done.
        what: String,
        /// What the registry says.
        why: String,
        /// The status code.
        status: u16,
    },
    /// An answer that breaks the rules.
    #[error("the registry {registry} gives a wrong answer for {what}: {why}")]
    Answer {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was to be done.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The registry wants to be left alone for longer than anybody would wait.
    #[error("the registry {registry} asks to wait {} s before {what}; try again then", .wait.as_secs())]
    Wait {
        /// `HOST[:PORT]`.
        registry: String,
        /// What was to be done.
        what: String,
        /// How long.
        wait: Duration,
    },
    /// An image for other platforms.
    #[error("the image {name:?} is not for {wanted}, but for {have}; choose one with --platform")]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// Those that there are.
        have: String,
    },
    /// An artifact, such as a chart or a signature, where an image is needed.
    #[error("{name:?} is no image, but an artifact of the type {kind:?}")]
    NoImage {
        /// Its name.
        name: String,
        /// What it says that it is.
        kind: String,
    },
    /// A part of what is to be pushed is neither here nor there.
    #[error(
        "the image {name:?} is not complete here: {what} is missing; `koskit pull --platform all` \
         fetches all of it, and --platform pushes one platform only"
    )]
    Incomplete {
        /// The image.
        name: String,
        /// The blob or manifest.
        what: String,
    },
    /// A name that cannot be used for this.
    #[error("the name {:?} {why}", .name.familiar())]
    Name {
        /// The name.
        name: Box<Reference>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// docker's `config.json`, or a file with a certificate.
    #[error("cannot {action} {path:?}")]
    File {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// docker's `config.json`, or a file with a certificate.
    #[error("the file {path:?} is not valid: {why}")]
    Config {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A credential helper that does not do its work.
    #[error("the credential helper {program} failed: {why}")]
    Helper {
        /// `docker-credential-NAME`.
        program: String,
        /// What it said.
        why: String,
    },
    /// There is no place for credentials.
    #[error("there is no place for credentials: set HOME or DOCKER_CONFIG")]
    NoHome,
    /// The system gives no threads or event queue.
    #[error("cannot start the network part")]
    Runtime(#[source] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
}

/// What happened on a connection.
#[derive(Debug, Error)]
pub enum Transport {
    /// What the HTTP library says, which quotes its causes.
    #[error("{0}")]
    Http(String),
    /// Nothing, or next to nothing, came.
    #[error("nothing came for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It ended early.
    #[error("the connection ended after {0} of {1} bytes")]
    Ended(u64, u64),
}

impl Transport {
    /// The chain of causes, the innermost of which is what a person understands. Addresses with
    /// their queries are left out: they can have signatures in them.
    pub(crate) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Http(text)
    }
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether the registry says that it has no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
