//! What BuildKit knows the results of a build by, for caches that both read and write.
//!
//! BuildKit's records are a graph of their own: each says what its step does (see `ops`) and, for
//! each input, which other records it may be made of. An image is known by its layers and by its
//! manifest, a directory of the user's only by the digest of the files that a step takes of it
//! (see `contents`). Everything else is known by how it was made: koskit does not look into what
//! a stage has made to find a step that copies from it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use koskit_llb::{Digest, Graph, Vertex};

use super::ops::CacheMap;
use super::{Import, contents};
use crate::filesystem::FileSystem;

/// What one output of a vertex is known by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EdgeKey {
    /// The digests of its records: several of an image, one of a step.
    pub digests: Vec<Digest>,
    /// For each input, what of it the records name.
    pub inputs: Vec<Vec<Link>>,
    /// For each imported cache, the records that this is.
    pub matches: Vec<BTreeSet<usize>>,
}

/// What a record may be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The result of another step, or a part of it.
    Edge(Option<Digest>, Arc<EdgeKey>),
    /// Files, by the digest of their record.
    Contents(Digest),
}

/// The keys of all outputs of a build so far, by vertex and output.
#[derive(Debug, Default)]
pub(crate) struct Edges(Mutex<HashMap<(Digest, u32), Arc<EdgeKey>>>);

impl Edges {
    /// The key of an output; `None` where BuildKit would not find it again.
    pub fn get(&self, vertex: &Digest, output: u32) -> Option<Arc<EdgeKey>> {
        let edges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edges.get(&(vertex.clone(), output)).cloned()
    }

    fn put(&self, vertex: &Digest, output: u32, key: EdgeKey) {
        let mut edges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        edges.insert((vertex.clone(), output), Arc::new(key));
    }

    /// Finds the key of a source that BuildKit calls by one of these names (see `names`).
    pub fn source(&self, vertex: &Vertex, names: &[String], imports: &[Import]) {
        if names.is_empty() {
            return;
        }
        let digests: Vec<Digest> = names
            .iter()
            .map(|name| Digest::of(format!("buildkit.source.v0:{name}").as_bytes()))
            .map(|digest| record(&digest, 0))
            .collect();
        let matches = imports.iter().map(|import| {
            let all = digests.iter().flat_map(|digest| import.records_of(digest));
            all.filter(|&index| import.records[index].inputs.is_empty()).collect()
        });
        let matches = matches.collect();
        self.put(&vertex.digest, 0, EdgeKey { digests, inputs: Vec::new(), matches });
    }

    /// Finds the keys of a step that has these inputs.
    pub fn step(&self, graph: &Graph, vertex: &Vertex, inputs: &[FileSystem], imports: &[Import]) {
        let Some(map) = CacheMap::of(vertex) else { return };
        let links = vertex.inputs.iter().zip(inputs).zip(&map.inputs);
        let links = links.map(|((edge, input), dependency)| {
            let made_by = &graph.vertices()[edge.vertex].digest;
            let known = self.get(made_by, edge.output);
            let known = known.map(|key| Link::Edge(dependency.selector.clone(), key));
            let files = match (input, &dependency.contents) {
                (FileSystem::Context(context), Some(selectors)) => {
                    // What is missing is told by the step itself.
                    let digest =
                        context.view().and_then(|view| Ok(contents::digest(&view, selectors)?));
                    digest.ok().map(|digest| Link::Contents(record(&digest, -1)))
                }
                _ => None,
            };
            known.into_iter().chain(files).collect::<Vec<_>>()
        });
        let links: Vec<Vec<Link>> = links.collect();
        if links.iter().any(Vec::is_empty) {
            return;
        }
        for output in 0..vertex.outputs {
            let digest = record(&map.digest, output.into());
            let matches = imports.iter().enumerate();
            let matches = matches.map(|(place, import)| {
                let fits = |&index: &usize| {
                    let inputs = &import.records[index].inputs;
                    inputs.len() == links.len()
                        && inputs.iter().zip(&links).all(|(known, links)| {
                            links.iter().any(|link| link.is_among(known, import, place))
                        })
                };
                import.records_of(&digest).filter(fits).collect()
            });
            let matches = matches.collect();
            let (digests, inputs) = (vec![digest], links.clone());
            self.put(&vertex.digest, output, EdgeKey { digests, inputs, matches });
        }
    }
}

impl Link {
    /// Whether one of a record's links is this one.
    fn is_among(&self, known: &[(String, usize)], import: &Import, place: usize) -> bool {
        known.iter().any(|(selector, index)| match self {
            Self::Edge(own, key) => {
                own.as_ref().map_or("", |own| own.as_str()) == selector
                    && key.matches[place].contains(index)
            }
            Self::Contents(digest) => {
                selector.is_empty() && import.records[*index].digest == *digest
            }
        })
    }
}

/// The digest of the record of an output; of contents, the output is -1.
fn record(digest: &Digest, output: i64) -> Digest {
    Digest::of(format!("{digest}@{output}").as_bytes())
}
