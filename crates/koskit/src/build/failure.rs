//! A step that failed, with its place in the Dockerfile.

use koskit_dockerfile::{Diagnostic, Errors, Source, Span};
use koskit_llb::{Graph, SourceRange, Vertex};
use koskit_solver::exec::ExecError;
use koskit_solver::{Problem, SolveError};
use std::sync::Arc;

/// Why a build failed, with the instruction that it failed at.
pub fn of_step(error: SolveError, graph: &Graph, source: &Arc<Source>) -> anyhow::Error {
    let vertex = error.vertex.and_then(|index| graph.vertices().get(index));
    let Some(vertex) = vertex else { return error.into() };
    let label = match &error.problem {
        Problem::Command(ExecError::Exit { code, .. }) => format!("exit code {code}"),
        Problem::Command(ExecError::Signal { signal, .. }) => format!("ended by signal {signal}"),
        _ => String::new(),
    };
    let hint = match &error.problem {
        Problem::Command(error) => error.hint(),
        _ => None,
    };
    at(vertex, graph, error.into(), source, label, hint)
}

/// The same of a build on a BuildKit server.
pub fn of_remote(
    error: koskit_buildkit::Error,
    graph: &Graph,
    source: &Arc<Source>,
) -> anyhow::Error {
    let koskit_buildkit::Error::Step { vertex: Some(failed), message } = &error else {
        return error.into();
    };
    let vertex = graph.vertices().iter().find(|vertex| vertex.digest == *failed);
    let Some(vertex) = vertex else { return error.into() };
    let label = message.rsplit_once("exit code: ").map(|(_, code)| format!("exit code {code}"));
    at(vertex, graph, error.into(), source, label.unwrap_or_default(), None)
}

/// An error with the place of its step in the Dockerfile.
fn at(
    vertex: &Vertex,
    graph: &Graph,
    error: anyhow::Error,
    source: &Arc<Source>,
    label: String,
    hint: Option<String>,
) -> anyhow::Error {
    let Some(place) = place(vertex, graph) else {
        return error.context(format!("the step {:?} failed", vertex.name()));
    };
    let line = |number: u32| source.line_span((number as usize).clamp(1, source.line_count()));
    let span = Span::new(line(place.first).start, line(place.last).end);
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut diagnostic = Diagnostic::error(span, causes.join(": ")).label(label);
    diagnostic.hint = hint;
    Errors { source: Arc::clone(source), diagnostics: vec![diagnostic] }.into()
}

/// The place of a step, or of the first one that needs it: what an ADD fetches has none itself.
fn place<'a>(vertex: &'a Vertex, graph: &'a Graph) -> Option<&'a SourceRange> {
    let all = graph.vertices();
    let mut needs = vec![vertex];
    let mut seen = 0;
    while let Some(vertex) = needs.get(seen).copied() {
        if let Some(place) = vertex.locations.first() {
            return Some(place);
        }
        seen += 1;
        let takes = |user: &&Vertex| {
            user.inputs.iter().any(|edge| all[edge.vertex].digest == vertex.digest)
        };
        for user in all.iter().filter(takes) {
            if !needs.iter().any(|known| known.digest == user.digest) {
                needs.push(user);
            }
        }
    }
    None
}
