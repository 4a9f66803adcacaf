//! Which vertex of a graph a server tells of.
//!
//! Servers do not keep the digests that they are given: BuildKit notes the platform in each op,
//! and then all digests are others. Names and inputs stay, and by these a vertex is found again.
//! One that several clients are waiting for has the name that the first of them gave it: another
//! stage's, but for the same step.

use std::collections::{HashMap, HashSet};

use bollard_buildkit_proto::moby::buildkit::v1::Vertex;
use koskit_llb::{Digest, Graph};

/// The vertices of the graph that was asked for.
pub(crate) struct Vertices {
    /// The name, the digest, and the digests of the inputs of each, inputs first.
    ours: Vec<(String, Digest, Vec<Digest>)>,
    /// From their digests to ours.
    known: HashMap<String, Digest>,
    /// Those of ours that one of theirs stands for.
    taken: HashSet<Digest>,
}

impl Vertices {
    pub fn new(graph: &Graph) -> Self {
        let digest = |index: usize| graph.vertices()[index].digest.clone();
        let vertex = |vertex: &koskit_llb::Vertex| {
            let inputs = vertex.inputs.iter().map(|edge| digest(edge.vertex)).collect();
            (vertex.name().to_owned(), vertex.digest.clone(), inputs)
        };
        let ours = graph.vertices().iter().map(vertex).collect();
        Self { ours, known: HashMap::new(), taken: HashSet::new() }
    }

    /// Learns from what a server tells of a vertex.
    pub fn learn(&mut self, vertex: &Vertex) {
        if self.known.contains_key(&vertex.digest) {
            return;
        }
        let inputs: Option<Vec<&Digest>> =
            vertex.inputs.iter().map(|input| self.known.get(input)).collect();
        let find = |same: &dyn Fn(&str) -> bool| {
            self.ours.iter().find(|(name, digest, expected)| {
                !self.taken.contains(digest)
                    && same(name)
                    && match &inputs {
                        Some(inputs) => inputs.iter().copied().eq(expected),
                        // Some of them it has not told of yet.
                        None => vertex.inputs.len() == expected.len(),
                    }
            })
        };
        let found = find(&|name| name == vertex.name)
            .or_else(|| find(&|name| step(name) == step(&vertex.name)));
        if let Some((_, ours, _)) = found {
            self.taken.insert(ours.clone());
            self.known.insert(vertex.digest.clone(), ours.clone());
        }
    }

    /// What we call a vertex of ours.
    pub fn name(&self, digest: &Digest) -> Option<&str> {
        let ours = self.ours.iter().find(|(_, ours, _)| ours == digest);
        ours.map(|(name, _, _)| name.as_str())
    }

    /// The vertex of ours, or the same where it is none of the graph, such as an export.
    pub fn digest(&self, theirs: &str) -> Option<Digest> {
        self.known.get(theirs).cloned().or_else(|| theirs.parse().ok())
    }
}

/// A name without the stage, `[build 2/3]`, that stands before it.
fn step(name: &str) -> &str {
    let rest = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(name, |(_, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_llb::{Builder, FileOp, Note, Source};

    #[test]
    fn a_vertex_is_found_by_its_name_and_what_it_stands_on() {
        let mut builder = Builder::new();
        let local = |name: &str| koskit_llb::Local { name: name.into(), ..Default::default() };
        let a = builder.source(Source::Local(local("a")), Note::new("a"));
        let b = builder.source(Source::Local(local("b")), Note::new("[one 1/2] b"));
        // Two of the same name, which only what is below tells apart.
        let same = |builder: &mut Builder, on| {
            builder.file(on, FileOp::new().mkdir("/x", 0o755, false, None), Note::new("RUN x"))
        };
        let (on_a, on_b) = (same(&mut builder, a), same(&mut builder, b));
        let copy = koskit_llb::Copy::default();
        let both = builder.file(on_b, FileOp::new().copy(on_a, copy), Note::new("both"));
        let graph = Graph::new(&builder.definition(both)).unwrap();
        let mut vertices = Vertices::new(&graph);
        let told = |digest: &str, name: &str, inputs: &[&str]| Vertex {
            digest: digest.into(),
            name: name.into(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            ..Vertex::default()
        };
        let list = [
            told("1", "[two 1/3] b", &[]),
            told("2", "a", &[]),
            told("3", "RUN x", &["1"]),
            told("4", "RUN x", &["2"]),
            told("5", "exporting", &[]),
        ];
        list.iter().chain(&list).for_each(|vertex| vertices.learn(vertex));
        let below = |theirs: &str| {
            let digest = vertices.digest(theirs).unwrap();
            let vertex = graph.vertices().iter().find(|vertex| vertex.digest == digest).unwrap();
            graph.vertices()[vertex.inputs[0].vertex].name().to_owned()
        };
        assert_eq!((below("3"), below("4")), ("[one 1/2] b".to_owned(), "a".to_owned()));
        assert_eq!(vertices.digest("5"), None);
        let other = Digest::of(b"export");
        assert_eq!(vertices.digest(other.as_str()), Some(other));
    }
}
