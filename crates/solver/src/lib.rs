//! Runs LLB here, with no daemon.
//!
//! What a build needs of the machine is in [`namespace`] (the right to mount, without being
//! root), [`snapshot`] (file systems that are kept from one build to the next), [`rooted`]
//! (paths in a file system that nobody trusts) and [`exec`] (a process in such a file system).

pub mod exec;
pub mod namespace;
mod overlay;
pub mod rooted;
pub mod snapshot;
#[cfg(test)]
mod testing;

/// Must be the first thing that a program does which solves graphs: a process in a container
/// begins its life as this very program, started again, and then this does not return.
pub fn init() {
    exec::init();
}
