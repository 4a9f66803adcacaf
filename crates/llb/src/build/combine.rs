//! File systems made of others: merged, compared, built.

use std::collections::{BTreeMap, HashMap};

use super::{Builder, Draft, Inputs, Note, Output, State};
use crate::{Digest, Graph, GraphError, Platform, pb};

impl Builder {
    /// Lays file systems over each other, the last on top. Empty ones have no part in it, and
    /// one alone is itself.
    pub fn merge(&mut self, states: &[State], note: Note) -> State {
        let inputs: Vec<Output> = states.iter().copied().flatten().collect();
        if inputs.len() < 2 {
            return inputs.first().copied();
        }
        // An input that is there twice counts twice, as it would be laid over twice.
        let indices = (0..inputs.len()).map(|i| pb::MergeInput { input: i as i64 }).collect();
        let op = pb::op::Op::Merge(pb::MergeOp { inputs: indices });
        self.add(Draft { op, inputs: Inputs::all(inputs), caps: vec!["mergeop"] }, None, note)
    }

    /// What `upper` has changed of `lower`.
    pub fn diff(&mut self, lower: State, upper: State, note: Note) -> State {
        let Some(lower) = lower else { return upper };
        let inputs: Vec<Output> = std::iter::once(lower).chain(upper).collect();
        let upper = if upper.is_some() { 1 } else { -1 };
        let op = pb::op::Op::Diff(pb::DiffOp {
            lower: Some(pb::LowerDiffInput { input: 0 }),
            upper: Some(pb::UpperDiffInput { input: upper }),
        });
        self.add(Draft { op, inputs: Inputs::all(inputs), caps: vec!["diffop"] }, None, note)
    }

    /// What the build graph gives that stands in a file of `source`: by default the file
    /// `buildkit.llb.definition`.
    pub fn build(
        &mut self,
        source: State,
        filename: Option<&str>,
        platform: &Platform,
        note: Note,
    ) -> State {
        let mut inputs = Inputs::default();
        let input = pb::BuildInput { input: inputs.index(source) };
        let attrs = filename.map(|name| ("llbbuild.filename".to_owned(), name.to_owned()));
        let op = pb::op::Op::Build(pb::BuildOp {
            // -1 is the solver itself, which needs no image to understand a graph.
            builder: -1,
            inputs: BTreeMap::from([("buildkit.llb.definition".to_owned(), input)]),
            def: None,
            attrs: attrs.into_iter().collect(),
        });
        let draft = Draft { op, inputs, caps: vec!["source.buildop.llbfilename"] };
        self.add(draft, Some(platform), note)
    }

    /// Adds the ops of another graph, as they are; gives its result.
    ///
    /// # Errors
    /// [`GraphError`] where that graph is wrong.
    pub fn import(&mut self, definition: &pb::Definition) -> Result<State, GraphError> {
        let graph = Graph::new(definition)?;
        let bytes: HashMap<Digest, &Vec<u8>> =
            definition.def.iter().map(|bytes| (Digest::of(bytes), bytes)).collect();
        let mut known: Vec<Output> = Vec::with_capacity(graph.vertices().len());
        for vertex in graph.vertices() {
            let inputs = vertex.inputs.iter().map(|edge| known[edge.vertex].node).collect();
            let bytes = bytes[&vertex.digest].clone();
            known.push(self.node(bytes, inputs, vertex.metadata.clone(), None));
        }
        Ok(graph.result().map(|e| Output { index: e.output.into(), ..known[e.vertex] }))
    }
}
