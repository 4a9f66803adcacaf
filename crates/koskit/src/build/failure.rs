//! A step that failed, with its place in the Dockerfile.

use koskit_dockerfile::{Diagnostic, Errors, Source, Span};
use koskit_llb::Graph;
use koskit_solver::exec::ExecError;
use koskit_solver::{Problem, SolveError};
use std::sync::Arc;

/// Why a build failed, with the instruction that it failed at.
pub fn of_step(error: SolveError, graph: &Graph, source: &Arc<Source>) -> anyhow::Error {
    let vertex = error.vertex.and_then(|index| graph.vertices().get(index));
    let Some(vertex) = vertex else { return error.into() };
    let Some(place) = vertex.locations.first() else {
        let step = format!("the step {:?} failed", vertex.name());
        return anyhow::Error::new(error).context(step);
    };
    let line = |number: u32| source.line_span((number as usize).clamp(1, source.line_count()));
    let span = Span::new(line(place.first).start, line(place.last).end);
    let label = match &error.problem {
        Problem::Command(ExecError::Exit { code, .. }) => format!("exit code {code}"),
        Problem::Command(ExecError::Signal { signal, .. }) => format!("ended by signal {signal}"),
        _ => String::new(),
    };
    let hint = match &error.problem {
        Problem::Command(error) => error.hint(),
        _ => None,
    };
    let error = anyhow::Error::new(error);
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut diagnostic = Diagnostic::error(span, causes.join(": ")).label(label);
    diagnostic.hint = hint;
    Errors { source: Arc::clone(source), diagnostics: vec![diagnostic] }.into()
}
