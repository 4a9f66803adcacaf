//! The build graph, on BuildKit's protobuf.
//!
//! LLB is what a frontend hands to a solver: a directed acyclic graph whose vertices are
//! operations (get an image, copy files, run a command) and whose edges are the file systems
//! that pass between them. It travels as a [`pb::Definition`]: a list of marshalled
//! [`pb::Op`]s that refer to each other by the SHA-256 of their bytes, then one last op
//! without a kind, whose only input is the result. Names, progress groups and places in the
//! source travel beside it and are no part of a digest.
//!
//! - [`Builder`] makes a graph as BuildKit's own client does: the same op gives the same
//!   bytes, so both engines share caches.
//! - [`Graph`] reads one. It takes nothing on trust: every digest is computed, every index
//!   checked, and what it hands out is acyclic and in topological order.
//! - [`Glob`] and [`Patterns`] are the patterns of COPY and of `.dockerignore`.
//! - [`Platform`] and [`Reference`] are the two small languages inside: `linux/arm64/v8`
//!   and `docker.io/library/alpine:3.20@sha256:…`.
//!
//! # Image names
//! A `docker-image://` source carries the normalised name, as BuildKit writes it: `alpine`
//! is `docker.io/library/alpine:latest`, `kos/busybox` is `docker.io/kos/busybox:latest`.
//! Which store or registry that is taken from is the solver's business; koskit's own solver
//! looks in the local store first. [`Reference::familiar`] gives the short name back.

mod build;
mod digest;
mod git;
mod glob;
mod graph;
mod inputs;
pub mod path;
mod platform;
mod reference;
pub mod url;

pub use bollard_buildkit_proto::pb;
pub use build::{
    Builder, Copy, Exec, FileOp, Git, Http, Local, Mode, Mount, MountKind, Note, OciLayout, Output,
    Owner, ProgressGroup, ResolveMode, SecretMount, Source, SshMount, State, marshal,
};
pub use digest::{Digest, DigestError};
pub use git::{GitUrl, GitUrlError};
pub use glob::{Glob, PatternError, Patterns, Stars};
pub use graph::{Edge, Graph, GraphError, SourceRange, Vertex};
pub use inputs::{Inputs, Secret};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
