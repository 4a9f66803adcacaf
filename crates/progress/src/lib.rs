//! What a build tells while it runs, and how it is shown.
//!
//! [`Status`] is what engines tell: shaped, and written as JSON, as BuildKit's
//! `client.SolveStatus`, so that both engines and every program that reads BuildKit's
//! `--progress=rawjson` speak of the same things. [`Progress`] shows it: as a tree that changes
//! on a terminal, as lines, as JSON, or not at all. What it shows knows nothing of engines.
//!
//! ```
//! use koskit_llb::Digest;
//! use koskit_progress::{Status, Time, Vertex};
//!
//! let mut vertex = Vertex::new(Digest::of(b"op"), "[1/2] COPY . /");
//! vertex.started = Some(Time::new(0, 500_000_000));
//! let status = Status::from(vertex);
//! assert!(serde_json::to_string(&status)?.ends_with(r#""started":"1970-01-01T00:00:00.5Z"}]}"#));
//! # Ok::<(), serde_json::Error>(())
//! ```

mod display;
mod json;
mod lines;
mod quiet;
mod screen;
mod status;
mod step;
mod text;
mod time;
mod trace;
mod tree;

pub use display::{Mode, Options, Progress};
pub use screen::{Screen, Stderr};
pub use status::{Log, ProgressGroup, Status, Stream, Task, Vertex, Warning};
pub use step::{Step, StepTask};
pub use text::harmless;
pub use time::{ParseTimeError, Time};
