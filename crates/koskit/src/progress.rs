//! What a person sees of a build: a line for each step that ends, the output of its command
//! before that, and on a terminal a last line that tells what is running.
//!
//! ```text
//!  => [build 1/3] FROM kos/dev-c-aarch64-kos-linux-musl                             1.9s
//!  => CACHED [files 2/4] RUN mkdir -p /out                                          0.0s
//!     [build 3/3] | /app/hello.c:3:1: warning: …
//!  => [build 3/3] RUN gcc -fPIC -pie -o /app/hello /app/hello.c                     0.4s
//! ```

use crate::names::short;
use crate::output::{self, Paint};
use clap::ValueEnum;
use koskit_llb::{Graph, Reference, Vertex};
use koskit_solver::Event;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// As the place allows: like tty on a terminal, else like plain
    #[default]
    Auto,
    /// Lines of text
    Plain,
    /// Colours, and a line that changes
    Tty,
    /// Nothing, but the output of a command that fails
    Quiet,
}

/// Columns where nobody says how many there are.
const WIDTH: usize = 88;
/// Longest line of a command's output; longer ones are broken.
const LINE_MAX: usize = 4096;
/// Lines that are kept of a step's output where it is only shown if it fails.
const KEPT: usize = 200;
/// How often the line that changes does.
const TICK: Duration = Duration::from_millis(100);

/// Shows the progress of one build, on standard error.
pub struct Progress {
    shared: Arc<Shared>,
    /// Stops the thread that changes the last line.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    state: Mutex<State>,
    /// Of each vertex: one line, without control characters.
    names: Vec<String>,
    quiet: bool,
    live: bool,
    paint: Paint,
    begun: Instant,
}

#[derive(Default)]
struct State {
    running: BTreeMap<usize, Instant>,
    /// Of each step, what came of a line that has not ended.
    partial: BTreeMap<usize, Vec<u8>>,
    kept: BTreeMap<usize, VecDeque<String>>,
    done: usize,
    cached: usize,
    failed: bool,
    /// Whether the last line on the terminal is the one that changes.
    drawn: bool,
}

impl Progress {
    /// Begins to show.
    pub fn new(graph: &Graph, mode: Mode) -> Self {
        let paint = match mode {
            Mode::Auto | Mode::Tty => Paint::stderr(),
            Mode::Plain | Mode::Quiet => Paint::off(),
        };
        let live = mode == Mode::Tty || mode == Mode::Auto && output::is_live();
        let names = graph.vertices().iter().map(title).collect();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            names,
            quiet: mode == Mode::Quiet,
            live,
            paint,
            begun: Instant::now(),
        });
        let ticker = live.then(|| {
            let (stop, stopped) = channel();
            let shared = Arc::clone(&shared);
            let tick = move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    shared.print(&mut shared.lock(), "");
                }
            };
            (stop, std::thread::spawn(tick))
        });
        Self { shared, ticker }
    }

    /// Shows what happened.
    pub fn event(&self, event: &Event) {
        self.shared.event(event);
    }

    /// Does a step that is none of the graph's.
    ///
    /// # Errors
    /// Those of the step.
    pub fn step<T, E>(&self, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let begun = Instant::now();
        let result = work();
        let word = if result.is_ok() { "" } else { "ERROR" };
        self.shared.step(&mut self.shared.lock(), word, name, begun.elapsed());
        result
    }

    /// Shows a line below a step.
    pub fn detail(&self, text: &str) {
        let shared = &self.shared;
        if !shared.quiet {
            shared.print(&mut shared.lock(), &format!(" => => {text}\n"));
        }
    }

    /// Ends, with one more line about the result.
    pub fn finish(mut self, result: &str) {
        self.stop();
        let shared = &self.shared;
        let state = shared.lock();
        let (time, steps) = (seconds(shared.begun.elapsed()), shared.names.len());
        let cached = match state.cached {
            0 => String::new(),
            cached => format!(", {cached} cached"),
        };
        if !shared.quiet {
            let head = shared.paint.with("1", &format!("[+] Built {result}"));
            output::error(&format!("{head} in {time} ({steps} steps{cached})\n"));
        }
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            // It holds nothing that a panic of it could leave half done.
            let _ = thread.join();
        }
        self.shared.clear(&mut self.shared.lock());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, event: &Event) {
        let mut guard = self.lock();
        let state = &mut *guard;
        match event {
            Event::Started { vertex } => {
                state.running.insert(*vertex, Instant::now());
            }
            Event::Cached { vertex } => {
                state.cached += 1;
                self.end(state, *vertex, "CACHED", Duration::ZERO);
            }
            Event::Output { vertex, bytes, .. } => self.output(state, *vertex, bytes),
            Event::Completed { vertex, duration } => self.end(state, *vertex, "", *duration),
            Event::Failed { vertex, duration } => {
                // What fails after the first one was told to stop.
                let word = if state.failed { "CANCELED" } else { "ERROR" };
                state.failed = true;
                self.end(state, *vertex, word, *duration);
                let kept = state.kept.remove(vertex).filter(|_| word == "ERROR");
                for line in kept.into_iter().flatten() {
                    output::error(&format!("{line}\n"));
                }
            }
            _ => {}
        }
    }

    fn end(&self, state: &mut State, vertex: usize, word: &str, duration: Duration) {
        if let Some(rest) = state.partial.remove(&vertex) {
            self.line(state, vertex, &rest);
        }
        state.running.remove(&vertex);
        state.done += 1;
        if word.is_empty() || word == "CACHED" {
            state.kept.remove(&vertex);
        }
        let name = self.names.get(vertex).map_or("", String::as_str);
        self.step(state, word, name, duration);
    }

    fn step(&self, state: &mut State, word: &str, name: &str, duration: Duration) {
        if self.quiet {
            return;
        }
        let word = if word.is_empty() { String::new() } else { format!("{word} ") };
        let time = seconds(duration);
        let width = if self.live { output::width().unwrap_or(WIDTH) } else { WIDTH };
        let room = width.saturating_sub(" => ".len() + word.len() + time.len() + 1);
        // A file that somebody reads later can have long lines.
        let name = if self.live { cut(name, room) } else { name.to_owned() };
        let code = match word.trim_end() {
            "ERROR" => "31",
            "CANCELED" => "33",
            _ => "34",
        };
        let text = self.paint.with(code, &format!(" => {word}{name}"));
        let gap = " ".repeat(room.saturating_sub(name.chars().count()));
        self.print(state, &format!("{text}{gap} {}\n", self.paint.with("34", &time)));
    }

    fn output(&self, state: &mut State, vertex: usize, bytes: &[u8]) {
        let mut line = state.partial.remove(&vertex).unwrap_or_default();
        for &byte in bytes {
            if byte == b'\n' || line.len() == LINE_MAX {
                self.line(state, vertex, &line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
        if !line.is_empty() {
            state.partial.insert(vertex, line);
        }
    }

    /// One line that a command wrote.
    fn line(&self, state: &mut State, vertex: usize, line: &[u8]) {
        // Programs that draw over their own line mean what they drew last.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let last = line.rsplit(|&byte| byte == b'\r').next().unwrap_or_default();
        let text = harmless(&String::from_utf8_lossy(last));
        let name = self.names.get(vertex).map_or("", String::as_str);
        let tag = match name.find(']') {
            Some(end) if name.starts_with('[') => &name[..=end],
            _ => name,
        };
        if self.quiet {
            let kept = state.kept.entry(vertex).or_default();
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(text);
            return;
        }
        let tag = self.paint.with("2", &format!("    {tag} |"));
        self.print(state, &format!("{tag} {text}\n"));
    }

    /// Writes lines above the one that changes.
    fn print(&self, state: &mut State, lines: &str) {
        let mut text = String::new();
        if state.drawn {
            text.push_str("\r\x1b[K");
        }
        text.push_str(lines);
        if self.live {
            let running = self.running(state);
            text.push_str(&cut(&running, output::width().unwrap_or(WIDTH).saturating_sub(1)));
            state.drawn = true;
        }
        output::error(&text);
    }

    fn clear(&self, state: &mut State) {
        if std::mem::take(&mut state.drawn) {
            output::error("\r\x1b[K");
        }
    }

    /// What is running, and since when.
    fn running(&self, state: &State) -> String {
        let time = seconds(self.begun.elapsed());
        let mut text = format!("[+] Building {time} ({}/{})", state.done, self.names.len());
        for (vertex, since) in &state.running {
            let name = self.names.get(*vertex).map_or("", String::as_str);
            text.push_str(&format!(" => {name} {}", seconds(since.elapsed())));
        }
        text
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// What a step is called. Of an image, its name as a person writes it, and not its digest.
fn title(vertex: &Vertex) -> String {
    let name = one_line(&vertex.name());
    let image = name.rsplit_once(" FROM ").and_then(|(stage, image)| {
        let image: Reference = image.split('@').next()?.parse().ok()?;
        Some(format!("{stage} FROM {}", short(&image)))
    });
    image.unwrap_or(name)
}

/// The first line of a name; an instruction may have several.
fn one_line(name: &str) -> String {
    let mut lines = name.trim().lines();
    let first = harmless(lines.next().unwrap_or_default());
    if lines.next().is_some() { format!("{first} …") } else { first }
}

/// The text's beginning, so that it fits.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut text: String = text.chars().take(width.saturating_sub(1)).collect();
    text.push('…');
    text
}

/// The text without what would do something to a terminal: escape sequences are left out, other
/// control characters replaced.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.peek() == Some(&'[') => {
                // ECMA-48, 5.4: parameters, then one byte from @ to ~.
                chars.next();
                while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                chars.next_if(|c| ('@'..='~').contains(c));
            }
            '\t' => out.push('\t'),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_writes_cannot_move_the_cursor() {
        assert_eq!(
            harmless("\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;title\x07\tend"),
            "red \u{fffd}]0;title\u{fffd}\tend"
        );
        assert_eq!(harmless("\x1b[12"), "");
    }

    #[test]
    fn a_step_of_several_lines_is_shown_by_its_first() {
        assert_eq!(one_line("RUN <<EOF\necho\nEOF"), "RUN <<EOF …");
        assert_eq!(one_line("RUN true\n"), "RUN true");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äbcd", 4), "äbcd");
    }
}
