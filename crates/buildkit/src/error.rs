//! Why a build on a BuildKit server fails.

use std::io;
use std::path::PathBuf;

use koskit_llb::Digest;
use thiserror::Error;

/// Why a BuildKit server cannot be used, or what it could not build.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A builder that nobody can be meant by.
    #[error("{address:?} is not a builder: {why}")]
    Address {
        /// As it is written.
        address: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// Nobody is there.
    #[error("there is no {what} at {address}; start it, or name another one with --builder")]
    NotThere {
        /// `docker daemon` or `BuildKit server`.
        what: &'static str,
        /// Where it was looked for.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody is there, but not for us.
    #[error("you may not use {address}; become a member of the group that it belongs to, or root")]
    NotAllowed {
        /// The socket.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The connection did not come about, or broke.
    #[error("cannot talk to the {what} at {address}: {why}")]
    Connection {
        /// `docker daemon` or `BuildKit server`.
        what: &'static str,
        /// Where.
        address: String,
        /// What went wrong.
        why: String,
    },
    /// A certificate or key that cannot be used.
    #[error("cannot use the {what} {path:?}: {why}")]
    Certificate {
        /// What it should be.
        what: &'static str,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The server lacks what a build needs.
    #[error("the builder at {address} cannot do this: {why}")]
    Capability {
        /// Where.
        address: String,
        /// What it lacks, and what helps.
        why: String,
    },
    /// A step failed.
    #[error("{message}")]
    Step {
        /// Which, where the server tells: a digest of the graph that was asked for.
        vertex: Option<Digest>,
        /// What the server says.
        message: String,
    },
    /// What the build needs from here.
    #[error("cannot give the builder {what}")]
    Input {
        /// What it is, with its path.
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A cache that cannot be read or written as it was asked for.
    #[error("cannot use the build cache: {0}")]
    Cache(String),
    /// What the server sent is no image.
    #[error("the builder sent no image that can be read: {0}")]
    Result(String),
    /// The disk is full, or fails.
    #[error("cannot keep the blob {blob} that the builder sends")]
    Keep {
        /// Which.
        blob: Digest,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// An image cannot be kept, or not be read.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
    /// A graph that cannot be read.
    #[error(transparent)]
    Graph(#[from] koskit_llb::GraphError),
    /// The machine has no more threads or files.
    #[error("cannot start what talks to the builder")]
    Start(#[source] io::Error),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        let cause = cause.to_string();
        // Many errors of the network repeat what caused them.
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}
