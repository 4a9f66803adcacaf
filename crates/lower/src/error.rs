//! Why an image cannot be made a bundle.

use crate::rewrite::RewriteError;
use koskit_image::ResolveError;
use koskit_spec::contract::ContractError;
use koskit_spec::elf::ElfError;
use std::fmt;
use std::path::PathBuf;

/// Why an image cannot run natively.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Neither ENTRYPOINT nor CMD, nor anything on the command line.
    #[error("the image says no command: add ENTRYPOINT or CMD to it, or name one after the image")]
    NoCommand,
    /// The program is not there, or not behind this path.
    #[error("the program {word:?} cannot be found")]
    NotFound {
        /// As ENTRYPOINT, CMD or the label say it.
        word: String,
        /// Where the path ends.
        #[source]
        source: ResolveError,
    },
    /// The program has no slash in it and is in no directory of PATH.
    #[error("the program {word:?} is in no directory of PATH, which is {search:?}")]
    NotInPath {
        /// As ENTRYPOINT or CMD say it.
        word: String,
        /// PATH of the container.
        search: String,
    },
    /// A directory or the like.
    #[error("the program {0:?} is not a file")]
    NotFile(PathBuf),
    /// A file without any x bit.
    #[error("the program {0:?} is not executable; add `chmod +x` or COPY --chmod=755")]
    NotExecutable(PathBuf),
    /// A script.
    #[error(
        "the program {path:?} is a script for {interpreter:?}; a native container runs one ELF \
         file, so name that in ENTRYPOINT, with the script as its argument"
    )]
    Script {
        /// In the image.
        path: PathBuf,
        /// What stands behind `#!`.
        interpreter: String,
    },
    /// A program whose dynamic linker is missing.
    #[error(
        "the program {path:?} is dynamically linked, but its dynamic linker {interpreter:?} is \
         not in the image; add the C library, or link with -static-pie or -static"
    )]
    Interpreter {
        /// In the image.
        path: PathBuf,
        /// Path of the dynamic linker.
        interpreter: PathBuf,
    },
    /// A program that cannot run natively.
    #[error("the program {path:?} cannot run natively")]
    Program {
        /// In the image.
        path: PathBuf,
        /// Why.
        #[source]
        source: RewriteError,
    },
    /// A library or dynamic linker of the program that cannot run natively.
    #[error("{path:?}, which the program {program:?} loads, cannot run natively")]
    Library {
        /// In the image.
        path: PathBuf,
        /// What needs it.
        program: PathBuf,
        /// Why.
        #[source]
        source: RewriteError,
    },
    /// The platform's libkos is none.
    #[error("the platform's libkos cannot be used: {0}; build it again with `./x build`")]
    Libkos(ElfError),
    /// Words that do not fit.
    #[error("the process cannot be described: {0}")]
    Process(&'static str),
    /// A variable without a name.
    #[error("the environment variable {0:?} has no name; write it as NAME=value")]
    Variable(String),
    /// A relative working directory on the command line.
    #[error("the working directory {0:?} must be an absolute path")]
    RelativeWorkdir(String),
    /// Something in the way of the working directory.
    #[error("the working directory {0:?} cannot be made: {1:?} in the image is not a directory")]
    Workdir(String, PathBuf),
    /// A label or a line of the contract's file with a wrong value.
    #[error("{from} is {value:?}, but must be {allowed}")]
    Value {
        /// Where it stands.
        from: Source,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: String,
    },
    /// A label or key that nobody knows.
    #[error("{from} means nothing; known are {known}")]
    Unknown {
        /// Where it stands.
        from: Source,
        /// Names, separated by commas.
        known: String,
    },
    /// The file with the contract.
    #[error("the contract's file {path:?}, which the label com.koskit.app.spec names, {why}")]
    Spec {
        /// As the label says it.
        path: String,
        /// Why not.
        why: String,
    },
    /// A contract that no machine can grant.
    #[error("the container's contract cannot be met: {0}")]
    Contract(ContractError),
    /// More files than an initrd can have.
    #[error(
        "the image's files are {size} bytes as an initrd, and at most {max} can be; \
         leave out what the program does not need, for example by a last stage FROM scratch"
    )]
    InitrdSize {
        /// Bytes.
        size: u64,
        /// Most bytes.
        max: u64,
    },
    /// A name with a meaning of its own.
    #[error("the file {0:?} cannot be in an initrd: that name marks the end of a cpio archive")]
    Trailer(PathBuf),
}

/// Where a number of the contract is stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a label with this name.
    Label(String),
    /// Under this key of the contract's file.
    File {
        /// As the label says it.
        path: String,
        /// The key.
        key: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(name) => write!(f, "the label {name}"),
            Self::File { path, key } => write!(f, "{key} in {path}"),
        }
    }
}
