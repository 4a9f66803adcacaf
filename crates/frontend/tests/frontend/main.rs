//! Dockerfiles and what becomes of them.

mod common;
mod errors;
mod graph;
mod properties;
