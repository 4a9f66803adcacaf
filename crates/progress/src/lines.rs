//! Progress as lines of text, as `--progress=plain` of docker.
//!
//! ```text
//! #5 [2/4] RUN make
//! #5 0.123 cc -o hello hello.c
//! #5 DONE 0.2s
//! ```
//! Steps run side by side, but their lines are kept together: what the others tell waits until
//! the one that is shown has ended, or has had its time.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::Time;
use crate::display::Renderer;
use crate::screen::Screen;
use crate::status::{Status, Task};
use crate::text::{bytes, harmless, one_line, seconds};
use crate::trace::{State, Step, Trace};

/// How long lines of one step wait for those of another.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many lines may wait.
const WAITING: usize = 1000;
/// The least time between two lines about a part of a step.
const TASK_INTERVAL: Duration = Duration::from_secs(5);
/// Lines of a step that failed, which are shown again at the end.
const TAIL: usize = 10;

pub(crate) struct Lines {
    builder: String,
    /// What is shown of each step, by its index.
    shown: BTreeMap<usize, Shown>,
    /// The step whose line was the last one, if it has not ended.
    current: Option<usize>,
    /// The step that has the floor: others that run wait until it has ended.
    floor: Option<usize>,
    /// Since when others have been waiting.
    waiting: HashMap<usize, Instant>,
    begun: bool,
}

#[derive(Default)]
struct Shown {
    number: usize,
    tasks: HashMap<String, (Instant, bool)>,
    warnings: usize,
    ended: Option<State>,
}

impl Lines {
    pub fn new(builder: &str) -> Self {
        Self {
            builder: builder.to_owned(),
            shown: BTreeMap::new(),
            current: None,
            floor: None,
            waiting: HashMap::new(),
            begun: false,
        }
    }

    /// Shows what there is to show; `all` if nothing may wait.
    fn show(&mut self, trace: &mut Trace, screen: &mut dyn Screen, all: bool) {
        let mut text = String::new();
        if let Some(current) = self.current.filter(|current| trace.changed.contains(current)) {
            self.step(trace, current, &mut text);
        }
        let begun = |trace: &Trace, index: usize| trace.steps[index].state() != State::Waiting;
        // Those that have ended leave the place to others at once.
        let (ended, open): (Vec<usize>, Vec<usize>) = trace
            .changed
            .iter()
            .filter(|&&index| begun(trace, index))
            .partition(|&&index| trace.steps[index].state().is_end());
        for index in ended {
            self.step(trace, index, &mut text);
        }
        let now = Instant::now();
        for index in open {
            self.floor = self.floor.filter(|&floor| !trace.steps[floor].state().is_end());
            let since = *self.waiting.entry(index).or_insert(now);
            let long =
                now.duration_since(since) > PATIENCE || trace.steps[index].waiting.len() > WAITING;
            if self.floor.is_none_or(|floor| floor == index) || long || all {
                self.floor = Some(index);
                self.step(trace, index, &mut text);
            }
        }
        trace.changed.retain(|&index| {
            trace.steps[index].state() == State::Waiting || self.waiting.contains_key(&index)
        });
        if text.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.begun, true) && !self.builder.is_empty() {
            text.insert_str(0, &format!("#0 building with {}\n", self.builder));
        }
        screen.write(text.as_bytes());
    }

    /// Shows what is new of a step.
    fn step(&mut self, trace: &mut Trace, index: usize, text: &mut String) {
        trace.changed.remove(&index);
        self.waiting.remove(&index);
        let next = self.shown.len() + 1;
        let state = trace.steps[index].state();
        let known =
            self.shown.entry(index).or_insert_with(|| Shown { number: next, ..Shown::default() });
        let number = known.number;
        if known.ended == Some(state) && trace.steps[index].waiting.is_empty() {
            return;
        }
        if self.current != Some(index) {
            let before = self.current.and_then(|before| Some(self.shown.get(&before)?.number));
            if let Some(before) = before {
                text.push_str(&format!("#{before} ...\n"));
            }
            text.push_str(&format!("\n#{number} {}\n", one_line(&trace.steps[index].name)));
            self.current = Some(index);
        }
        let shown = self.shown.get_mut(&index).expect("it was just put there");
        let step = &mut trace.steps[index];
        shown.tasks(step, text);
        for warning in &step.warnings[shown.warnings..] {
            let short = harmless(&String::from_utf8_lossy(&warning.short));
            text.push_str(&format!("#{number} WARN: {short}\n"));
        }
        shown.warnings = step.warnings.len();
        for line in step.waiting.drain(..) {
            text.push_str(&format!("#{number} {:.3} {}\n", line.at.as_secs_f64(), line.text));
        }
        if !state.is_end() {
            return;
        }
        let end = match state {
            State::Cached => "CACHED".to_owned(),
            State::Canceled => "CANCELED".to_owned(),
            State::Failed => format!("ERROR: {}", one_line(step.error())),
            _ => format!("DONE {}", seconds(step.duration(Time::now()))),
        };
        text.push_str(&format!("#{number} {end}\n"));
        shown.ended = Some(state);
        self.current = None;
    }
}

impl Shown {
    /// Parts that have ended, and from time to time those that have not.
    fn tasks(&mut self, step: &Step, text: &mut String) {
        let now = Instant::now();
        for task in &step.tasks {
            let ended = task.completed.is_some();
            let due = match self.tasks.get(&task.id) {
                Some((_, true)) => false,
                Some((last, false)) => ended || now.duration_since(*last) > TASK_INTERVAL,
                // What takes no time is told once.
                None => true,
            };
            if due {
                text.push_str(&format!("#{} {}\n", self.number, describe(task)));
                self.tasks.insert(task.id.clone(), (now, ended));
            }
        }
    }
}

/// A part in one line: `transferring context: 1.64kB / 2.00MB 0.1s done`.
fn describe(task: &Task) -> String {
    let mut text = harmless(if task.name.is_empty() { &task.id } else { &task.name });
    match (task.current, task.total) {
        (current, total) if total > 0 => {
            text.push_str(&format!(" {} / {}", bytes(current), bytes(total)));
        }
        (0, _) => {}
        (current, _) => text.push_str(&format!(" {}", bytes(current))),
    }
    if let Some(started) = task.started {
        let duration = task.completed.unwrap_or(task.timestamp).since(started);
        if duration > Duration::from_millis(50) {
            text.push_str(&format!(" {}", seconds(duration)));
        }
    }
    if task.completed.is_some() {
        text.push_str(" done");
    }
    text
}

impl Renderer for Lines {
    fn update(&mut self, trace: &mut Trace, _: &Status, screen: &mut dyn Screen) {
        self.show(trace, screen, false);
    }

    fn tick(&mut self, trace: &mut Trace, screen: &mut dyn Screen) {
        if !self.waiting.is_empty() {
            self.show(trace, screen, false);
        }
    }

    fn finish(&mut self, trace: &mut Trace, screen: &mut dyn Screen) {
        self.show(trace, screen, true);
        screen.write(trace.failures(TAIL).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::{begun, wrote};
    use crate::{Vertex, tree::tests::Memory};

    fn shown(updates: &[Status]) -> String {
        let mut trace = Trace::new();
        let mut lines = Lines::new("");
        let mut screen = Memory::default();
        for update in updates {
            trace.update(update);
            lines.update(&mut trace, update, &mut screen);
        }
        lines.finish(&mut trace, &mut screen);
        screen.text()
    }

    fn done(name: &str, from: i64, to: i64) -> Status {
        Vertex { completed: Some(Time::new(to, 0)), ..begun(name, from) }.into()
    }

    #[test]
    fn a_step_is_its_name_its_output_and_its_end() {
        let name = "[2/4] RUN make";
        let updates = [
            begun(name, 1).into(),
            wrote(name, "cc -o he", 1),
            wrote(name, "llo\n\x1b[1mdone\x1b[0m", 1),
            done(name, 1, 3),
            begun("[3/4] RUN true\nmore", 3).cached().into(),
        ];
        let expected = "\n#1 [2/4] RUN make\n#1 0.500 cc -o hello\n#1 0.500 done\n#1 DONE 2.0s\n\
             \n#2 [3/4] RUN true …\n#2 CACHED\n";
        assert_eq!(shown(&updates), expected);
    }

    #[test]
    fn lines_of_steps_that_run_at_once_are_kept_together() {
        let updates = [
            begun("a", 1).into(),
            begun("b", 1).into(),
            wrote("b", "b1\n", 1),
            wrote("a", "a1\n", 1),
            begun("c", 1).cached().into(),
            wrote("a", "a2\n", 1),
            done("a", 1, 2),
            wrote("b", "b2\n", 1),
            done("b", 1, 2),
        ];
        let expected = "\n#1 a\n#1 0.500 a1\n#1 ...\n\n#2 c\n#2 CACHED\n\n#1 a\n#1 0.500 a2\n#1 DONE 1.0s\n\
             \n#3 b\n#3 0.500 b1\n#3 0.500 b2\n#3 DONE 1.0s\n";
        assert_eq!(shown(&updates), expected);
    }

    #[test]
    fn a_failure_is_told_with_its_last_lines_and_what_was_stopped_as_such() {
        let updates = [
            begun("a", 1).into(),
            begun("b", 1).into(),
            wrote("a", "oh no\n", 1),
            begun("a", 1).fail("exit code: 1").into(),
            begun("b", 1).cancel().into(),
        ];
        let expected = "\n#1 a\n#1 0.500 oh no\n#1 ERROR: exit code: 1\n\n#2 b\n#2 CANCELED\n\
             ------\n > a:\n0.500 oh no\n------\n";
        assert_eq!(shown(&updates), expected);
    }
}
