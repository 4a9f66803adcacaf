//! What is to be done, without variables: between evaluation and the graph.

use koskit_llb::{Copy, Exec, Note, Owner, Platform, Reference};

/// The file system that a stage begins with.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    Scratch,
    Stage(usize),
    Image(Box<Image>),
}

/// An image, with the digest that was found for it.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub reference: Reference,
    pub platform: Platform,
    pub note: Note,
}

/// One change to a stage's file system.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Run {
        /// Its mounts are empty; the document, if there is one, is mounted on
        /// [`DOCUMENTS`].
        exec: Box<Exec>,
        document: Option<Document>,
        note: Note,
    },
    Copy {
        from: From,
        copies: Vec<Copy>,
        /// Files that the Dockerfile itself holds, copied after the others.
        documents: Vec<(Document, Copy)>,
        note: Note,
    },
    Mkdir {
        path: String,
        owner: Option<Owner>,
        note: Note,
    },
}

/// Where the script of a RUN with a here-document is mounted.
pub(crate) const DOCUMENTS: &str = "/dev/pipes/";

/// The file system that files are copied from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    Context,
    Scratch,
    Stage(usize),
    Image(Box<Image>),
}

/// A file that the Dockerfile itself holds.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub name: String,
    pub mode: u32,
    pub data: Vec<u8>,
}
