//! What is to be done, without variables: between evaluation and the graph.

use std::collections::BTreeSet;

use koskit_llb::{Copy, Exec, Mount, Note, Owner, Source, pb};

/// A file system: what a stage begins with, and what files are taken from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    Scratch,
    /// The main build context.
    Context,
    Stage(usize),
    /// An image, a repository, a file of a web server.
    Source(Box<(Source, Note)>),
    /// A folder of the client: which of [`Folder`]s.
    Folder(usize),
    /// The result of another build.
    Graph(Box<pb::Definition>),
    /// A file that the Dockerfile itself holds.
    Document(Box<Document>),
}

/// A folder that is a named context. What is needed of it is known when all stages are
/// evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// `local://NAME`.
    pub local: String,
    /// What the Dockerfile calls it.
    pub name: String,
    pub ignore: Vec<String>,
    pub paths: BTreeSet<String>,
}

/// One change to a stage's file system.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Run {
        /// Without the mounts that have a source.
        exec: Box<Exec>,
        mounts: Vec<Mounted>,
        note: Note,
    },
    Copy {
        copies: Vec<(From, Copy)>,
        note: Note,
        /// Of the op that lays the files over the others, where they are apart from them.
        link: Option<Note>,
    },
    Mkdir {
        path: String,
        owner: Option<Owner>,
        /// Nanoseconds since 1970.
        time: Option<i64>,
        note: Note,
    },
}

/// Something that a command sees.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    pub from: From,
    /// Mode, user and group of a directory in it, which is what the command sees.
    pub directory: Option<(u32, u32, u32)>,
    /// Without its source.
    pub mount: Mount,
}

/// Where the script of a RUN with a here-document is mounted.
pub(crate) const DOCUMENTS: &str = "/dev/pipes/";

/// A file that the Dockerfile itself holds.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub name: String,
    pub mode: u32,
    pub data: Vec<u8>,
}
