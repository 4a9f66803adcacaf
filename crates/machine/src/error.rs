//! Why a machine did not run to its end.

use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a machine could not be started, or ended before its containers did.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no platform folder, or a file of it is missing.
    #[error("there is no {file} for a seL4 machine in {}; run ./x build", folder.display())]
    NoPlatform {
        /// Where it was looked for.
        folder: PathBuf,
        /// The first file that is missing.
        file: &'static str,
    },
    /// A file of the platform cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The containers do not fit a boot archive.
    #[error("{0}")]
    Archive(&'static str),
    /// QEMU is not installed.
    #[error(
        "there is no qemu-system-aarch64, on which seL4 runs; install it: apt install qemu-system-arm"
    )]
    NoQemu,
    /// Something between us and QEMU failed.
    #[error("cannot {what}")]
    Host {
        /// What we tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The root server speaks another version of the protocol.
    #[error(
        "the machine speaks version {theirs} of the protocol, but this koskit {ours}; run ./x build"
    )]
    Version {
        /// Ours.
        ours: u32,
        /// The root server's.
        theirs: u32,
    },
    /// QEMU ended, or the machine stopped, with containers in it.
    #[error("the machine stopped before its containers ended{0}")]
    Stopped(Tail),
    /// The root server never spoke.
    #[error("seL4 did not come up within {seconds} seconds{tail}")]
    Silent {
        /// How long we waited.
        seconds: u64,
        /// What was heard instead.
        tail: Tail,
    },
}

/// The last lines of a machine, as the end of an error.
#[derive(Debug, Default)]
pub struct Tail(pub(crate) Vec<String>);

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, " and said nothing");
        }
        write!(f, "; its last lines were:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}
