//! What is done with each kind of vertex: one module for each.

mod build;
mod diff;
mod exec;
mod file;
mod merge;
mod source;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use koskit_llb::{Graph, Inputs, Vertex, pb};

use crate::exec::Cancel;
use crate::filesystem::FileSystem;
use crate::hashes::Hashes;
use crate::portable::{Edges, Records};
use crate::solver::{Options, Solver};
use crate::{Event, Problem, schedule};

/// One call of [`Solver::solve`].
pub(crate) struct Build<'a> {
    pub solver: &'a Solver,
    pub graph: &'a Graph,
    pub inputs: &'a Inputs,
    pub options: &'a Options,
    pub tell: &'a (dyn Fn(Event) + Send + Sync),
    pub hashes: &'a Arc<Hashes>,
    pub cancel: &'a Cancel,
    /// How many threads this machine runs at once.
    pub cores: usize,
    /// How many build ops this is in.
    pub depth: usize,
    /// What was made, and what was known.
    pub records: &'a Mutex<Records>,
    /// What BuildKit calls the results, where that matters.
    pub edges: Option<&'a Edges>,
}

/// The results of all vertices, or the first one that failed.
type Done = Result<Vec<Arc<Vec<FileSystem>>>, (usize, Problem)>;

/// What a source stands for.
pub(crate) struct Sourced {
    pub files: FileSystem,
    /// What BuildKit calls it; none where it has no name that a cache could know it by.
    pub names: Vec<String>,
}

/// What a vertex gave.
pub(crate) struct Outcome {
    pub outputs: Vec<FileSystem>,
    pub cached: bool,
}

impl Build<'_> {
    /// Does all vertices of the graph, several at once.
    pub fn run(&self) -> Done {
        let vertices = self.graph.vertices().iter();
        let needs = vertices.map(|vertex| vertex.inputs.iter().map(|edge| edge.vertex).collect());
        let needs: Vec<Vec<usize>> = needs.collect();
        let jobs = self.options.jobs.map_or(self.cores, NonZeroUsize::get);
        let work = |index: usize, result: &dyn Fn(usize) -> Arc<Vec<FileSystem>>| {
            let inputs = self.graph.vertices()[index].inputs.iter();
            let inputs = inputs.map(|edge| result(edge.vertex)[edge.output as usize].clone());
            self.vertex(index, &inputs.collect::<Vec<_>>())
        };
        schedule::run(&needs, jobs, self.cancel, work)
    }

    /// Does what a vertex says.
    pub fn vertex(&self, index: usize, inputs: &[FileSystem]) -> Result<Vec<FileSystem>, Problem> {
        (self.tell)(Event::Started { vertex: index });
        let start = Instant::now();
        let vertex = &self.graph.vertices()[index];
        let mut names = Vec::new();
        if let Some(edges) = self.edges {
            edges.step(self.graph, vertex, inputs, &self.solver.imports);
        }
        let outcome = match &vertex.op {
            pb::op::Op::Source(op) => {
                let source = self.source(op, vertex);
                source.map(|Sourced { files, names: known }| {
                    names = known;
                    Outcome { outputs: vec![files], cached: false }
                })
            }
            pb::op::Op::File(op) => self.file(index, op, inputs),
            pb::op::Op::Exec(op) => self.exec(index, op, inputs),
            pb::op::Op::Merge(op) => self.merge(op, inputs),
            pb::op::Op::Diff(op) => self.diff(op, inputs),
            pb::op::Op::Build(op) => self.build(index, op, inputs),
        };
        let duration = start.elapsed();
        (self.tell)(match &outcome {
            Ok(Outcome { cached: true, .. }) => Event::Cached { vertex: index },
            Ok(_) => Event::Completed { vertex: index, duration },
            Err(_) => Event::Failed { vertex: index, duration },
        });
        let outputs = outcome?.outputs;
        if let Some(edges) = self.edges {
            edges.source(vertex, &names, &self.solver.imports);
            self.shared(edges, vertex, &outputs);
        }
        Ok(outputs)
    }

    /// Notes what BuildKit calls the results of a vertex.
    fn shared(&self, edges: &Edges, vertex: &Vertex, outputs: &[FileSystem]) {
        if let pb::op::Op::Source(_) = &vertex.op {
            return;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, output) in outputs.iter().enumerate() {
            let key = edges.get(&vertex.digest, number as u32);
            if let (Some(key), FileSystem::Layers(layers)) = (key, output) {
                records.edges.push((key, Arc::clone(layers)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
