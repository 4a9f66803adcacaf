//! Runs LLB here, with no daemon.
//!
//! What a build needs of the machine is in [`namespace`] (the right to mount, without being
//! root), [`snapshot`] (file systems that are kept from one build to the next) and [`rooted`] (paths
//! in a file system that nobody trusts).

pub mod namespace;
mod overlay;
pub mod rooted;
pub mod snapshot;
#[cfg(test)]
mod testing;
