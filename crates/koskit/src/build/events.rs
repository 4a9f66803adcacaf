//! What the embedded solver tells, in the words of `koskit_progress`.

use koskit_llb::{Digest, Graph, Vertex};
use koskit_progress::{self as progress, Progress, Status, Time};
use koskit_solver::{Event, SolveError, Stream};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Tells of one graph.
pub struct Events<'a> {
    progress: &'a Progress,
    vertices: Mutex<Vertices>,
}

struct Vertices {
    all: Vec<progress::Vertex>,
    /// Those that have failed or were stopped: which, the solver says at the end.
    failed: BTreeSet<usize>,
    /// The packing of layers, which the solver begins after the last of them.
    packing: Option<progress::Vertex>,
}

impl<'a> Events<'a> {
    /// Tells which vertices there are.
    pub fn new(graph: &Graph, progress: &'a Progress) -> Self {
        let all: Vec<_> =
            graph.vertices().iter().map(|vertex| describe(vertex, graph.vertices())).collect();
        progress.update(&Status { vertexes: all.clone(), ..Status::default() });
        let (failed, packing) = (BTreeSet::new(), None);
        Self { progress, vertices: Mutex::new(Vertices { all, failed, packing }) }
    }

    /// Tells what happened.
    pub fn tell(&self, event: &Event) {
        let mut vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        let status: Status = match event {
            Event::Started { vertex } => vertices.change(*vertex, progress::Vertex::begin),
            Event::Cached { vertex } => vertices.change(*vertex, progress::Vertex::cached),
            Event::Completed { vertex, .. } => vertices.change(*vertex, progress::Vertex::complete),
            Event::Failed { vertex, .. } => {
                vertices.failed.insert(*vertex);
                return;
            }
            Event::Output { vertex, stream, bytes } => {
                let Some(vertex) = vertices.all.get(*vertex) else { return };
                let stream = match stream {
                    Stream::Stdout => progress::Stream::Stdout,
                    Stream::Stderr => progress::Stream::Stderr,
                };
                let (vertex, data) = (vertex.digest.clone(), bytes.clone());
                progress::Log { vertex, stream, data, timestamp: Time::now() }.into()
            }
            Event::Warning { vertex, text } => {
                let Some(vertex) = vertices.all.get(*vertex) else { return };
                let warning = progress::Warning::new(vertex.digest.clone(), text);
                Status { warnings: vec![warning], ..Status::default() }
            }
            _ => return,
        };
        self.progress.update(&status);
        if vertices.packing.is_none() && vertices.all.iter().all(|v| v.completed.is_some()) {
            let name = "[internal] exporting layers";
            let digests: String = vertices.all.iter().map(|v| v.digest.as_str()).collect();
            let digest = Digest::of(format!("{name} {digests}").as_bytes());
            let packing = progress::Vertex::new(digest, name).begin();
            self.progress.update(&packing.clone().into());
            vertices.packing = Some(packing);
        }
    }

    /// Tells that all is done.
    pub fn done(&self) {
        let mut vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packing) = vertices.packing.take() {
            self.progress.update(&packing.complete().into());
        }
    }

    /// Tells which vertices have failed, now that it is known which was the first.
    pub fn failed(&self, error: &SolveError) {
        let mut vertices = self.vertices.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = std::mem::take(&mut vertices.failed);
        if let Some(packing) = vertices.packing.take() {
            self.progress.update(&packing.fail(error.to_string()).into());
        }
        for index in failed {
            let status = vertices.change(index, |vertex| match error.vertex == Some(index) {
                true => vertex.fail(error.to_string()),
                false => vertex.cancel(),
            });
            self.progress.update(&status);
        }
    }
}

impl Vertices {
    fn change(
        &mut self,
        index: usize,
        change: impl FnOnce(progress::Vertex) -> progress::Vertex,
    ) -> Status {
        let Some(vertex) = self.all.get_mut(index) else { return Status::default() };
        *vertex = change(vertex.clone());
        vertex.clone().into()
    }
}

fn describe(vertex: &Vertex, all: &[Vertex]) -> progress::Vertex {
    let group = vertex.metadata.progress_group.as_ref();
    progress::Vertex {
        inputs: vertex.inputs.iter().map(|edge| all[edge.vertex].digest.clone()).collect(),
        progress_group: group.map(|group| progress::ProgressGroup {
            id: group.id.clone(),
            name: group.name.clone(),
            weak: group.weak,
        }),
        ..progress::Vertex::new(vertex.digest.clone(), vertex.name())
    }
}
