//! Why a command and a keeper do not come together.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a machine cannot be reached, kept or asked.
#[derive(Debug, Error)]
pub enum Error {
    /// No name that a machine can have.
    #[error(
        "{0:?} is no name of a machine: it must begin with a letter or digit and have at most 31 \
         letters, digits, dots, dashes and underscores"
    )]
    Name(String),
    /// The environment names no folder.
    #[error("there is no place for the files of machines: set HOME or XDG_STATE_HOME")]
    NoHome,
    /// Something that others can change.
    #[error("{} is not a folder of yours alone, so that machines cannot be reached there", .0.display())]
    Shared(PathBuf),
    /// A file or folder cannot be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What we tried.
        what: &'static str,
        /// With which.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A keeper with this name runs.
    #[error("the machine {0} runs already")]
    Runs(String),
    /// The keeper went away.
    #[error("the machine has ended")]
    Gone,
    /// The socket does not work.
    #[error("the machine cannot be reached")]
    Socket(#[source] io::Error),
    /// What came is not what we understand.
    #[error(
        "the machine's keeper says what this koskit does not understand; it is of another version"
    )]
    Protocol,
    /// The keeper, or the machine, says no.
    #[error("{0}")]
    Refused(String),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] koskit_machine::Error),
}
