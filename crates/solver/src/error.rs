//! Why a build fails.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::exec::ExecError;
use crate::files::FileError;
use crate::namespace::NamespaceError;
use crate::portable::CacheError;
use crate::snapshot::SnapshotError;

/// Why a build failed, and at which of its steps.
#[derive(Debug)]
pub struct SolveError {
    /// Index in [`koskit_llb::Graph::vertices`], whose `name` and `locations` tell the user where
    /// it was; `None` where no step is to blame.
    pub vertex: Option<usize>,
    /// What went wrong.
    pub problem: Problem,
}

impl fmt::Display for SolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl Error for SolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// What goes wrong in a build.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A command that failed or could not be started. What it wrote was told as
    /// [`crate::Event::Output`].
    #[error(transparent)]
    Command(#[from] ExecError),
    /// Files that cannot be copied, made or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// An image that is not there or cannot be read, or a store that cannot be written.
    #[error(transparent)]
    Image(#[from] koskit_image::Error),
    /// File systems of steps that cannot be kept or mounted.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A source of which nothing is known.
    #[error("the build needs the local directory {0:?}, which it was not given")]
    NoLocal(String),
    /// A layout of which nothing is known.
    #[error("the build needs the OCI layout {0:?}, which it was not given")]
    NoLayout(String),
    /// A source that cannot be had.
    #[error("cannot get {what}: {why}")]
    Fetch {
        /// Its URL, without a password, or what it is.
        what: String,
        /// Why, without a full stop.
        why: String,
    },
    /// A secret of which nothing is known.
    #[error(
        "the build needs the secret {0:?}, which it was not given: add --secret id={0},src=FILE"
    )]
    NoSecret(String),
    /// A secret that cannot be read.
    #[error("the secret {id:?} cannot be used")]
    Secret {
        /// Its ID.
        id: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// An agent of which nothing is known.
    #[error("the build needs an SSH agent, which it was not given: add --ssh {0}")]
    NoSsh(String),
    /// An agent that cannot be handed on.
    #[error("the SSH agent {id:?} cannot be used")]
    Ssh {
        /// Its ID.
        id: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What is only done if the user has allowed it.
    #[error("entitlement {0} is not allowed: the step asks for it, and --allow {0} grants it")]
    NotAllowed(&'static str),
    /// What this solver does not do.
    #[error("koskit's builder cannot do this: {0}")]
    Unsupported(String),
    /// A graph that makes no sense.
    #[error("the build graph is not valid: {0}")]
    Invalid(String),
    /// The directory in which the solver keeps what it knows.
    #[error("cannot {action} {path:?} in the build cache")]
    Cache {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// An imported cache whose layers cannot be had.
    #[error(transparent)]
    Import(#[from] CacheError),
    /// There is no way to mount file systems.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl Problem {
    pub(crate) fn cache(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cache { action, path, source }
    }
}
