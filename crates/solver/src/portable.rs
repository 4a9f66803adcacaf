//! A build cache that goes elsewhere: into a directory, into a registry, or within an image.
//!
//! Its form is BuildKit's: a manifest whose configuration has the type
//! `application/vnd.buildkit.cacheconfig.v0` and whose layers are those of all results. So every
//! registry and every tool that keeps caches of BuildKit keeps these.
//!
//! The configuration has records, each with a digest and either
//! - layers: the result of the step that has this key, or
//! - one link to another record: a name that stands for that one's key (see `cache`).
//!
//! Each result is there twice: by the key that this solver has for it, and by BuildKit's (see
//! `edges`), so that either finds what the other has made. BuildKit's records have, for each
//! input, links to those that the step may have been made of.
//!
//! Nothing that is read here is trusted further than an image is: layers are checked against
//! their digests when they are unpacked. But who can write a cache decides what a step has
//! made, as with every builder's cache.

mod contents;
mod edges;
mod export;
mod import;
mod names;
mod ops;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::PathBuf;

use koskit_image::Layer;
use koskit_llb::{Digest, Reference};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use edges::{EdgeKey, Edges};
pub use export::{CacheExport, Mode, Records};
pub use import::ReadBlob;
pub(crate) use names::{Commit, File, image as image_names};

/// The type of a cache's configuration.
pub const CONFIG_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The member of an image's configuration that has the records of a cache within it, in base64.
pub const INLINE: &str = "moby.buildkit.cache.v0";

/// A cache that cannot be read or written.
#[derive(Debug, Error)]
pub enum CacheError {
    /// What was read makes no sense.
    #[error("{what} is no build cache that koskit can read: {why}")]
    Invalid {
        /// Where it was read.
        what: String,
        /// Why.
        why: String,
    },
    /// A part of it.
    #[error("cannot read a part of the build cache {what}")]
    Read {
        /// Where.
        what: String,
        /// What went wrong.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A file or directory.
    #[error("cannot {action} the build cache {path:?}")]
    File {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
}

/// What a build may use of other places.
#[derive(Clone, Debug)]
pub struct Import {
    /// The layers of each key.
    results: HashMap<Digest, Vec<Layer>>,
    /// The key that a name stands for.
    aliases: HashMap<Digest, Digest>,
    /// All records as BuildKit has them, and where those of a digest are.
    records: Vec<Known>,
    places: HashMap<Digest, Vec<usize>>,
    origin: Origin,
}

/// A record of BuildKit's.
#[derive(Clone, Debug)]
struct Known {
    digest: Digest,
    /// For each input, the records that it may be, and which part of them.
    inputs: Vec<Vec<(String, usize)>>,
    layers: Option<Vec<Layer>>,
}

/// Where the layers of an imported cache are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the registry of this name: they are fetched when a step needs their files.
    Registry(Reference),
    /// In an OCI layout.
    Directory(PathBuf),
}

/// The configuration of a cache. Members that are not needed here are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Config {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<ConfigLayer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<Record>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ConfigLayer {
    blob: String,
    /// The index of the layer below; -1 is none, and what is not written is 0.
    #[serde(default)]
    parent: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotations {
    #[serde(default)]
    media_type: String,
    #[serde(default, rename = "diffID")]
    diff_id: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    created_at: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    digest: String,
    #[serde(default, rename = "layers", skip_serializing_if = "Vec::is_empty")]
    results: Vec<RecordResult>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chains: Vec<RecordChain>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<Input>>,
}

/// A layer with all that are below it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordResult {
    layer: i64,
    #[serde(default)]
    created_at: String,
}

/// Layers without those below them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordChain {
    layers: Vec<i64>,
    #[serde(default)]
    created_at: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    selector: String,
    link: i64,
}

#[cfg(test)]
mod tests;
