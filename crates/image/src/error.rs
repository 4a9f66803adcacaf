//! What goes wrong with images.

use std::io;
use std::path::PathBuf;

use koskit_llb::{Digest, Platform, Reference};
use thiserror::Error;

use crate::directory::DirectoryError;
use crate::layer::LayerError;

/// A store, an image or a blob that is not as it should be.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the store, or beside it.
    #[error("cannot {action} {path:?}")]
    File {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Neither variable is set.
    #[error("there is no place for images: set HOME or XDG_DATA_HOME")]
    NoHome,
    /// A name that the store does not have.
    #[error("there is no image {:?} in the store; build it, or look at `koskit images`", .0.familiar())]
    NotFound(Box<Reference>),
    /// An image for other platforms.
    #[error("the image {name:?} is not for {wanted}, but for {have}")]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform that was asked for.
        wanted: Box<Platform>,
        /// Those that there are.
        have: String,
    },
    /// A blob that is not in the store.
    #[error("the blob {0} is not in the store: the image that needs it is incomplete")]
    MissingBlob(Digest),
    /// A blob whose bytes are others than its digest says.
    #[error("the blob {digest} is damaged: {damage}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What is wrong.
        damage: Damage,
    },
    /// JSON that is not what it should be.
    #[error("{what} is not valid")]
    Json {
        /// Which document.
        what: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest, index or configuration that is well-formed but wrong.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// Which document.
        what: String,
        /// Why.
        why: String,
    },
    /// A directory for an exported image.
    #[error(transparent)]
    Directory(DirectoryError),
    /// An archive of images.
    #[error("the archive of images cannot be read")]
    Archive(#[source] LayerError),
    /// A directory that cannot be made a layer.
    #[error(transparent)]
    Pack(#[from] LayerError),
    /// A layer of an image.
    #[error("the layer {digest} cannot be used")]
    Layer {
        /// The blob's digest.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
}

/// How a blob differs from what its descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// Other bytes.
    #[error("its bytes have the digest {0}")]
    Digest(Digest),
    /// More or less bytes.
    #[error("it should have {wanted} bytes and has {found}")]
    Size {
        /// Bytes in the descriptor.
        wanted: u64,
        /// Bytes that are there, as far as they were read.
        found: u64,
    },
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
