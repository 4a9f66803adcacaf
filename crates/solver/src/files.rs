//! Files of a build: chosen, compared and changed.
//!
//! - [`Root`] is a directory that stands for `/`, out of which no path leads;
//! - [`Selection`] is what a COPY takes of one, with the digest that tells two apart;
//! - [`Changes`] writes into one, as the actions of a file op say.
//!
//! The rules are those of BuildKit's file op, which are those of Docker's COPY: a source that is
//! a directory gives what is in it, a destination with a slash at its end or that is a directory
//! takes sources by their names, symbolic links on the way are followed inside the root.

use std::io;
use std::path::{Path, PathBuf};

use koskit_image::LayerError;
use koskit_llb::PatternError;
use thiserror::Error;

mod change;
mod content;
mod earlier;
mod mode;
mod owner;
mod root;
mod select;
mod unpack;

pub(crate) use change::{Changes, Ownership, Target};
pub(crate) use earlier::Links;
pub(crate) use mode::ModeChange;
pub(crate) use owner::{Ids, lookup};
pub(crate) use root::Root;
pub use select::Place;
pub(crate) use select::{Entry, Filter, Find, Kind, Selection, View};

/// Why files cannot be copied, made or removed. Paths are those of the image or the context,
/// relative to its root.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing there.
    #[error("{path:?} is not in {place}")]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// Where.
        place: Place,
    },
    /// Something is there, but it is left out.
    #[error("{path:?} is left out of the build context by a pattern of .dockerignore")]
    Ignored {
        /// What was looked for.
        path: PathBuf,
    },
    /// A part of a path is something else.
    #[error("{0:?} is not a directory")]
    NotDirectory(PathBuf),
    /// A file or link where a directory is.
    #[error("{0:?} is a directory, which a file cannot replace")]
    OverDirectory(PathBuf),
    /// A directory where a file or link is.
    #[error("{0:?} is not a directory, which a directory cannot replace")]
    OverFile(PathBuf),
    /// Links that lead nowhere.
    #[error("{0:?} leads through more than 40 symbolic links")]
    Loop(PathBuf),
    /// A file that was written while the build read it.
    #[error("{0:?} was changed while the build copied it; build again")]
    Changed(PathBuf),
    /// What no layer can hold.
    #[error("{0:?} is a device node, and those cannot be copied")]
    Device(PathBuf),
    /// A pattern that is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A user or group that the image does not know.
    #[error("the image has no {what} {name:?} in /{file}")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// Permissions that are none.
    #[error("{0:?} is not a file mode")]
    Mode(String),
    /// An archive that cannot be unpacked.
    #[error("the archive {path:?} cannot be unpacked: {why}")]
    Archive {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The same, and what is behind it.
        source: LayerError,
    },
    /// What the system refuses.
    #[error("cannot {action} {path:?}")]
    Io {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

pub(crate) type Result<T, E = FileError> = std::result::Result<T, E>;

/// What makes an error of a call's.
pub(crate) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> FileError {
    move |e| FileError::Io { action, path: path.as_ref().to_owned(), source: e.into() }
}

#[cfg(test)]
mod tests;
