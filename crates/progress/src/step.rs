//! Steps of the program itself.

use std::sync::atomic::{AtomicU64, Ordering};

use koskit_llb::Digest;

use crate::status::{Log, Stream, Task, Vertex};
use crate::{Progress, Time};

/// A step that runs.
pub struct Step<'a> {
    progress: &'a Progress,
    vertex: Vertex,
}

/// A part of a step, done when it is dropped.
pub struct StepTask<'a> {
    step: &'a Step<'a>,
    task: Task,
}

impl<'a> Step<'a> {
    pub(crate) fn begin(progress: &'a Progress, name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let vertex = Vertex::new(Digest::of(format!("{next} {name}").as_bytes()), name).begin();
        progress.update(&vertex.clone().into());
        Self { progress, vertex }
    }

    /// Begins a part of it.
    pub fn task(&self, id: &str) -> StepTask<'_> {
        let now = Time::now();
        let task = Task {
            id: id.to_owned(),
            vertex: self.vertex.digest.clone(),
            name: String::new(),
            total: 0,
            current: 0,
            timestamp: now,
            started: Some(now),
            completed: None,
        };
        self.progress.update(&task.clone().into());
        StepTask { step: self, task }
    }

    /// Shows text below it.
    pub fn log(&self, text: &str) {
        let log = Log {
            vertex: self.vertex.digest.clone(),
            stream: Stream::Stderr,
            data: text.as_bytes().to_vec(),
            timestamp: Time::now(),
        };
        self.progress.update(&log.into());
    }

    pub(crate) fn complete(&self) {
        self.progress.update(&self.vertex.clone().complete().into());
    }

    pub(crate) fn fail(&self, why: &str) {
        self.progress.update(&self.vertex.clone().fail(why).into());
    }
}

impl StepTask<'_> {
    /// How much is done, of how much if that is known, in bytes.
    pub fn update(&mut self, current: u64, total: u64) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        (self.task.current, self.task.total) = (number(current), number(total));
        self.task.timestamp = Time::now();
        self.step.progress.update(&self.task.clone().into());
    }
}

impl Drop for StepTask<'_> {
    fn drop(&mut self) {
        let now = Time::now();
        (self.task.timestamp, self.task.completed) = (now, Some(now));
        self.step.progress.update(&self.task.clone().into());
    }
}
