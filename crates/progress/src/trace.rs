//! What is known of a build: all that was told of it, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use koskit_llb::Digest;

use crate::Time;
use crate::status::{Log, Status, Task, Vertex, Warning};
use crate::text::shown;

/// Longest line of a command's output; longer ones are broken.
const LINE_MAX: usize = 4096;
/// Lines that are kept of a step's output, for the case that it fails.
const KEPT: usize = 200;
/// Lines that wait to be shown, at most; then the oldest are forgotten.
const WAITING: usize = 10_000;

/// All steps of a build.
#[derive(Debug)]
pub(crate) struct Trace {
    pub steps: Vec<Step>,
    /// The steps that have begun, in that order.
    pub begun: Vec<usize>,
    /// Of which something was told that the renderer has not looked at.
    pub changed: BTreeSet<usize>,
    /// Told without a vertex that is known.
    pub warnings: usize,
    /// When the build began.
    pub start: Time,
    index: HashMap<Digest, usize>,
    groups: BTreeMap<String, usize>,
}

/// A vertex, or all vertices of a progress group.
#[derive(Debug)]
pub(crate) struct Step {
    pub name: String,
    members: Vec<Vertex>,
    pub tasks: Vec<Task>,
    pub warnings: Vec<Warning>,
    /// The last lines that its command wrote, with the time since it began.
    pub tail: VecDeque<Line>,
    /// Those that the renderer has not taken yet.
    pub waiting: VecDeque<Line>,
    partial: Vec<u8>,
}

/// A line that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Since the step began.
    pub at: Duration,
    pub text: String,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Running,
    Done,
    Cached,
    Failed,
    Canceled,
}

impl Trace {
    pub fn new() -> Self {
        Self {
            steps: Vec::new(),
            begun: Vec::new(),
            changed: BTreeSet::new(),
            warnings: 0,
            start: Time::now(),
            index: HashMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// Takes what was told.
    pub fn update(&mut self, status: &Status) {
        for vertex in &status.vertexes {
            self.vertex(vertex);
        }
        for task in &status.statuses {
            if let Some(&index) = self.index.get(&task.vertex) {
                let tasks = &mut self.steps[index].tasks;
                match tasks.iter_mut().find(|known| known.id == task.id) {
                    Some(known) => known.clone_from(task),
                    None => tasks.push(task.clone()),
                }
                self.changed.insert(index);
            }
        }
        for log in &status.logs {
            if let Some(&index) = self.index.get(&log.vertex) {
                self.steps[index].log(log);
                self.changed.insert(index);
            }
        }
        for warning in &status.warnings {
            self.warnings += 1;
            if let Some(&index) = self.index.get(&warning.vertex) {
                self.steps[index].warnings.push(warning.clone());
                self.changed.insert(index);
            }
        }
    }

    fn vertex(&mut self, vertex: &Vertex) {
        let group = vertex.progress_group.as_ref().filter(|group| !group.id.is_empty());
        let index = match self.index.get(&vertex.digest) {
            Some(&index) => index,
            None => {
                let known = group.and_then(|group| self.groups.get(&group.id));
                let index = known.copied().unwrap_or(self.steps.len());
                if index == self.steps.len() {
                    let name = match group {
                        Some(group) if !group.name.is_empty() => &group.name,
                        _ => &vertex.name,
                    };
                    self.steps.push(Step::new(name));
                }
                if let Some(group) = group {
                    self.groups.insert(group.id.clone(), index);
                }
                self.index.insert(vertex.digest.clone(), index);
                index
            }
        };
        let step = &mut self.steps[index];
        if step.name.is_empty() {
            step.name.clone_from(&vertex.name);
        }
        match step.members.iter_mut().find(|known| known.digest == vertex.digest) {
            Some(known) => known.clone_from(vertex),
            None => step.members.push(vertex.clone()),
        }
        let state = step.state();
        if state != State::Waiting {
            if !self.begun.contains(&index) {
                self.begun.push(index);
            }
            if state != State::Running {
                step.end_line();
            }
            if matches!(state, State::Done | State::Cached) {
                step.tail.clear();
            }
            self.changed.insert(index);
        }
    }

    /// Takes it that all that runs was stopped.
    pub fn cancel(&mut self) {
        for (index, step) in self.steps.iter_mut().enumerate() {
            if step.state() == State::Running {
                for vertex in step.members.iter_mut().filter(|v| v.completed.is_none()) {
                    *vertex = vertex.clone().cancel();
                }
                step.end_line();
                self.changed.insert(index);
            }
        }
    }

    /// How many steps have ended, and how many there are.
    pub fn counts(&self) -> (usize, usize) {
        let ended = self.steps.iter().filter(|step| step.state().is_end()).count();
        (ended, self.steps.len())
    }

    /// The last lines of steps that failed by themselves, as BuildKit shows them.
    pub fn failures(&self, most: usize) -> String {
        let mut text = String::new();
        for &index in &self.begun {
            let step = &self.steps[index];
            if step.state() != State::Failed || step.tail.is_empty() {
                continue;
            }
            text.push_str(&format!("------\n > {}:\n", crate::text::one_line(&step.name)));
            for line in step.tail.iter().skip(step.tail.len().saturating_sub(most)) {
                text.push_str(&format!("{:.3} {}\n", line.at.as_secs_f64(), line.text));
            }
            text.push_str("------\n");
        }
        text
    }
}

impl State {
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl Step {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            members: Vec::new(),
            tasks: Vec::new(),
            warnings: Vec::new(),
            tail: VecDeque::new(),
            waiting: VecDeque::new(),
            partial: Vec::new(),
        }
    }

    /// Of a group: it runs until its last vertex has ended.
    pub fn state(&self) -> State {
        let has = |test: fn(&Vertex) -> bool| self.members.iter().any(test);
        if has(|vertex| !vertex.error.is_empty() && !vertex.is_canceled()) {
            State::Failed
        } else if has(Vertex::is_canceled) {
            State::Canceled
        } else if !has(|vertex| vertex.started.is_some() || vertex.completed.is_some()) {
            State::Waiting
        } else if has(|vertex| vertex.completed.is_none()) {
            State::Running
        } else if has(|vertex| !vertex.cached) {
            State::Done
        } else {
            State::Cached
        }
    }

    /// Why it failed.
    pub fn error(&self) -> &str {
        let failed = self.members.iter().find(|v| !v.error.is_empty() && !v.is_canceled());
        failed.map_or("", |vertex| vertex.error.as_str())
    }

    /// How long it took or takes; of a group, from its first vertex to its last.
    pub fn duration(&self, now: Time) -> Duration {
        let Some(started) = self.started() else { return Duration::ZERO };
        let ended = self.members.iter().map(|vertex| vertex.completed);
        let ended = ended.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
        ended.unwrap_or(now).since(started)
    }

    fn started(&self) -> Option<Time> {
        self.members.iter().filter_map(|vertex| vertex.started).min()
    }

    fn log(&mut self, log: &Log) {
        let at = match self.started() {
            Some(started) => log.timestamp.since(started),
            None => Duration::ZERO,
        };
        for &byte in &log.data {
            if byte == b'\n' || self.partial.len() == LINE_MAX {
                self.line(at);
            }
            if byte != b'\n' {
                self.partial.push(byte);
            }
        }
    }

    /// A line without an end is one when nothing more comes.
    fn end_line(&mut self) {
        if !self.partial.is_empty() {
            let at = self.waiting.back().or(self.tail.back()).map_or(Duration::ZERO, |l| l.at);
            self.line(at);
        }
    }

    fn line(&mut self, at: Duration) {
        let line = Line { at, text: shown(&std::mem::take(&mut self.partial)) };
        if self.tail.len() == KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(line);
    }

    /// What is shown of a line that has not ended.
    pub fn partial(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| shown(&self.partial))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The digest of a step in a test.
    pub fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// A step in a test, begun at this second.
    pub fn begun(name: &str, at: i64) -> Vertex {
        Vertex { started: Some(Time::new(at, 0)), ..Vertex::new(digest(name), name) }
    }

    /// What its command wrote, half a second later.
    pub fn wrote(name: &str, text: &str, at: i64) -> Status {
        let timestamp = Time::new(at, 500_000_000);
        let data = text.as_bytes().to_vec();
        Log { vertex: digest(name), stream: Default::default(), data, timestamp }.into()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut trace = Trace::new();
        trace.update(&begun("a", 1).into());
        for text in ["x", "y\nz", "\n\n", "end"] {
            trace.update(&wrote("a", text, 1));
        }
        let text = |trace: &Trace| {
            let lines = trace.steps[0].tail.iter().map(|line| line.text.clone());
            lines.collect::<Vec<_>>().join("|")
        };
        assert_eq!(text(&trace), "xy|z|");
        trace.update(&begun("a", 1).fail("no").into());
        assert_eq!(text(&trace), "xy|z||end");
        assert_eq!(trace.failures(2), "------\n > a:\n0.500 \n0.500 end\n------\n");
    }

    #[test]
    fn endless_output_takes_bounded_memory() {
        let mut trace = Trace::new();
        trace.update(&begun("a", 1).into());
        for _ in 0..300 {
            trace.update(&wrote("a", &"x".repeat(100_000), 1));
        }
        let step = &trace.steps[0];
        assert!(step.tail.len() <= KEPT && step.waiting.len() <= WAITING);
        assert!(step.tail.iter().all(|line| line.text.len() <= LINE_MAX));
    }

    #[test]
    fn what_runs_when_a_build_is_stopped_is_canceled() {
        let mut trace = Trace::new();
        trace.update(&begun("a", 1).cached().into());
        trace.update(&begun("b", 1).into());
        trace.update(&Vertex::new(digest("c"), "c").into());
        trace.cancel();
        let states: Vec<State> = trace.steps.iter().map(Step::state).collect();
        assert_eq!(states, [State::Cached, State::Canceled, State::Waiting]);
    }

    #[test]
    fn a_group_is_one_step_that_ends_with_its_last_vertex() {
        let mut trace = Trace::new();
        let group = crate::ProgressGroup { id: "1".into(), name: "both".into(), weak: false };
        let member = |name| Vertex { progress_group: Some(group.clone()), ..begun(name, 1) };
        let unknown = Vertex { started: None, ..member("b") };
        trace.update(&Status {
            vertexes: vec![member("a").cached(), unknown],
            ..Default::default()
        });
        assert_eq!((trace.counts(), trace.steps[0].state()), ((0, 1), State::Running));
        assert_eq!(trace.steps[0].name, "both");
        trace.update(&member("b").complete().into());
        assert_eq!((trace.counts(), trace.steps[0].state()), ((1, 1), State::Done));
    }
}
