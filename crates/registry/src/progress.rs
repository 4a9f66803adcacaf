//! What is told while blobs move.

use std::time::Duration;

use koskit_llb::Digest;

/// Something that happened to one blob or document.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Which one.
    pub digest: &'a Digest,
    /// What it is.
    pub part: Part,
    /// Its size in bytes, as its descriptor says.
    pub size: u64,
    /// What happened.
    pub state: State<'a>,
}

/// What a blob or document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A manifest or an index.
    Document,
    /// The configuration of an image.
    Config,
    /// A layer, or an artifact's content.
    Layer,
}

/// What happened to a blob or document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// It will be moved.
    Waiting,
    /// It was there already.
    Present,
    /// The registry took it from this repository of its own.
    Mounted(&'a str),
    /// So many bytes have moved.
    Moved(u64),
    /// It went wrong and will be tried again.
    Retry {
        /// What went wrong.
        why: &'a str,
        /// When it will be tried again.
        wait: Duration,
    },
    /// It is there.
    Done,
}

/// Who is told. It is called on the thread that called the client.
pub type Progress<'a> = &'a dyn Fn(&Event<'_>);

/// Bytes between two events of one blob.
pub(crate) const STEP: u64 = 512 << 10;
