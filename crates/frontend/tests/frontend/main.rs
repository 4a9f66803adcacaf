//! Dockerfiles and what becomes of them.

mod beyond;
mod common;
mod errors;
mod graph;
mod properties;
