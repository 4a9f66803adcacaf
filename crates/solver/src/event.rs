//! What a build tells while it runs.

use std::time::Duration;

use crate::Stream;

/// One thing that happened. `vertex` is the index in [`koskit_llb::Graph::vertices`].
///
/// Of each vertex that is worked on, [`Event::Started`] comes first, then either
/// [`Event::Cached`], or any number of [`Event::Output`] and [`Event::Warning`] and one of
/// [`Event::Completed`] and [`Event::Failed`]. Those of several vertices come in any order: they run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Work on a vertex begins.
    Started {
        /// Which.
        vertex: usize,
    },
    /// Its result was known; nothing was done.
    Cached {
        /// Which.
        vertex: usize,
    },
    /// Its command wrote something.
    Output {
        /// Which.
        vertex: usize,
        /// Where the command wrote it.
        stream: Stream,
        /// What: whole lines where there are lines, of any bytes.
        bytes: Vec<u8>,
    },
    /// Something was done otherwise than asked for.
    Warning {
        /// Which.
        vertex: usize,
        /// What: a sentence without a full stop.
        text: String,
    },
    /// It is done.
    Completed {
        /// Which.
        vertex: usize,
        /// How long that took.
        duration: Duration,
    },
    /// It failed, or was stopped because another one did. The error that ends the build is
    /// what [`crate::Solver::solve`] returns.
    Failed {
        /// Which.
        vertex: usize,
        /// How long that took.
        duration: Duration,
    },
}
