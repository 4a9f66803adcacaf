//! Compose files: what services there are, and how their images are built.
//!
//! <https://github.com/compose-spec/compose-spec>. A file goes through these steps:
//! 1. [`yaml`]: text to nodes, each with its place; anchors and merge keys are resolved.
//! 2. [`Environment`]: variables of the process and of `.env` are put into the values.
//! 3. [`Project`]: nodes to services. All that is wrong with a file is told at once, each with
//!    file, line and source.
//!
//! Only what building needs has types by now: of a service its image, its build section, what it
//! depends on and its profiles. All other keys of the specification are taken, and a key that is
//! none of them is an error.

mod build;
mod environment;
mod interpolate;
mod project;
mod reader;
pub mod yaml;

pub use build::{Build, BuildSecret};
pub use environment::Environment;
pub use interpolate::{InterpolationError, interpolate};
pub use koskit_dockerfile::{Diagnostic, Errors, Source};
pub use project::{Image, Project, Selection, Service, UnknownService};

/// The names of a compose file where none is given, the first that is there.
pub const FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
