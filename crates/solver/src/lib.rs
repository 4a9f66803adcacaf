//! Runs LLB here, with no daemon.
//!
//! [`Solver::solve`] takes a [`koskit_llb::Graph`] and gives the layers of its result. It does
//! what vertices say, several at once where they do not need each other, and keeps what comes
//! out: a step whose inputs are what they were is not done again.
//!
//! - `schedule` runs a graph on threads.
//! - `ops` knows what each kind of vertex means; `step` what all of them need.
//! - `cache` names results. A name is a digest of what a step does, of the names of what it
//!   starts from and, for files that are copied, of the files: what the user has touched, but
//!   not changed, changes no name.
//!
//! What a build needs of the machine is in [`namespace`] (the right to mount, without being
//! root), [`snapshot`] (file systems that are kept from one build to the next), [`rooted`] and
//! `files` (paths in a file system that nobody trusts, and what COPY does there) and [`exec`] (a
//! process in such a file system).

mod agent;
mod cache;
mod decompress;
mod emulate;
mod error;
mod event;
pub mod exec;
mod fetch;
mod files;
mod filesystem;
mod git;
mod hashes;
pub mod namespace;
mod ops;
mod overlay;
pub mod portable;
pub mod rooted;
mod schedule;
pub mod snapshot;
mod solver;
mod step;
#[cfg(test)]
mod testing;

pub use error::{Problem, SolveError};
pub use event::Event;
pub use exec::Stream;
pub use files::{FileError, Place};
pub use koskit_image::Fetch;
pub use solver::{Options, Solved, Solver};

/// Must be the first thing that a program does which solves graphs: a process in a container
/// begins its life as this very program, started again, and then this does not return.
pub fn init() {
    exec::init();
}
