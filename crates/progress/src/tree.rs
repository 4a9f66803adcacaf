//! Progress on a terminal: all steps, drawn over and over in the same place.
//!
//! ```text
//! [+] Building 2.4s (5/9)                                                koskit
//!  => [build 1/3] FROM kos/dev                                             1.9s
//!  => CACHED [files 2/4] RUN mkdir -p /out                                 0.0s
//!  => [build 3/3] RUN gcc -o /app/hello /app/hello.c                       0.4s
//!  => => # hello.c:3:1: warning: …
//! ```
//! What is drawn while the build runs is never longer than the screen: then the oldest steps that
//! have ended are left out, and of those that run, the lines of their output. The last picture
//! has all steps; what does not fit scrolls away, once.

use std::time::Duration;

use crate::Time;
use crate::display::Renderer;
use crate::screen::{Paint, Screen};
use crate::status::{Status, Task};
use crate::text::{bytes, cut, harmless, seconds, title, width};
use crate::trace::{State, Step, Trace};

/// Columns and rows where nobody says how many there are.
const SIZE: (usize, usize) = (80, 24);
/// Wider lines are hard to read from left to right.
const WIDEST: usize = 160;
/// Lines of a command's output below its step.
const WINDOW: usize = 6;
/// Lines of a step that failed, which are shown at the end.
const TAIL: usize = 200;

pub(crate) struct Tree {
    paint: Paint,
    builder: String,
    /// The width of each line that stands on the screen.
    drawn: Vec<usize>,
    /// How wide the terminal was then.
    columns: usize,
    /// Whether anything has been told since the last picture.
    changed: bool,
}

/// A line of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    left: String,
    right: String,
    color: &'static str,
}

/// A step's part of the picture.
struct Block {
    state: State,
    head: Row,
    tasks: Vec<Row>,
    log: Vec<Row>,
}

impl Tree {
    pub fn new(paint: Paint, builder: &str) -> Self {
        Self { paint, builder: builder.to_owned(), drawn: Vec::new(), columns: 0, changed: false }
    }

    fn draw(&mut self, trace: &Trace, screen: &mut dyn Screen, last: bool) {
        let (columns, rows) = screen.size().unwrap_or(SIZE);
        // A terminal that is full to its last column behaves in many ways.
        let room = columns.saturating_sub(1).clamp(1, WIDEST);
        // The cursor stands in the row below the picture.
        let most = if last { usize::MAX } else { rows.saturating_sub(1).max(1) };
        let picture = picture(trace, Time::now(), most, &self.builder, last);
        let mut text = String::from("\x1b[?25l");
        // If the terminal became narrower, it has broken the old lines.
        let up: usize = self.drawn.iter().map(|wide| wide.div_ceil(columns).max(1)).sum();
        if up > 0 {
            text.push_str(&format!("\r\x1b[{}A", up.min(rows.max(1))));
        }
        if std::mem::replace(&mut self.columns, columns) != columns {
            // It remembers which lines it has broken, unless they are erased.
            text.push_str("\x1b[J");
        }
        self.drawn.clear();
        for row in &picture {
            let (line, wide) = row.line(room, self.paint);
            self.drawn.push(wide);
            text.push_str(&line);
            // The rest of what stood there.
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J\x1b[?25h");
        screen.write(text.as_bytes());
        self.changed = false;
    }
}

impl Row {
    fn new(left: String, right: String, color: &'static str) -> Self {
        Self { left, right, color }
    }

    /// The line and how many columns it takes.
    fn line(&self, room: usize, paint: Paint) -> (String, usize) {
        let right = if width(&self.right) + 8 > room { "" } else { &self.right };
        let space = match right {
            "" => 0,
            right => width(right) + 1,
        };
        let left = cut(&self.left, room - space);
        if right.is_empty() {
            let wide = width(&left);
            return (paint.with(self.color, &left), wide);
        }
        let gap = " ".repeat(room - width(&left) - width(right));
        (paint.with(self.color, &format!("{left}{gap}{right}")), room)
    }
}

/// All rows, no more than `most`.
fn picture(trace: &Trace, now: Time, most: usize, builder: &str, last: bool) -> Vec<Row> {
    let (ended, all) = trace.counts();
    let finished = if last { " FINISHED" } else { "" };
    let time = seconds(now.since(trace.start));
    let head =
        Row::new(format!("[+] Building {time} ({ended}/{all}){finished}"), builder.to_owned(), "");
    let mut rows = vec![head];
    if most <= 1 {
        return rows;
    }
    let blocks: Vec<Block> =
        trace.begun.iter().map(|&index| block(&trace.steps[index], now, last)).collect();
    fit(blocks, most - 1, &mut rows);
    rows
}

/// As much of the blocks as there is room for.
fn fit(blocks: Vec<Block>, room: usize, rows: &mut Vec<Row>) {
    let (all, window) = (usize::MAX, WINDOW);
    // The more of it that can be left out without being missed, the earlier it is.
    let attempts =
        [(all, all, window), (0, all, window), (0, 3, 3), (0, 1, 1), (0, 0, 1), (0, 0, 0)];
    let running = |block: &Block| block.state == State::Running;
    for (of_ended, of_running, window) in attempts {
        let size = |block: &Block| match running(block) {
            true => 1 + block.tasks.len().min(of_running) + block.log.len().min(window),
            false => 1 + block.tasks.len().min(of_ended),
        };
        let need: usize = blocks.iter().filter(|b| running(b)).map(size).sum();
        let ended: usize = blocks.iter().filter(|b| !running(b)).map(size).sum();
        // The last two that have ended are always of interest.
        let keep = ended.min(2);
        let is_last = (of_ended, of_running, window) == (0, 0, 0);
        if need + keep > room && !is_last || of_ended == all && need + ended > room {
            continue;
        }
        let mut too_many = (need + ended).saturating_sub(room);
        let mut left_out = 0;
        for block in blocks {
            let is_running = running(&block);
            let size = size(&block);
            if !is_running && too_many > 0 {
                too_many = too_many.saturating_sub(size);
                continue;
            }
            if is_last && rows.len() >= room {
                left_out += 1;
                if rows.len() > room {
                    continue;
                }
            }
            let (tasks, window) = if is_running { (of_running, window) } else { (of_ended, 0) };
            rows.push(block.head);
            let skip = block.tasks.len().saturating_sub(tasks);
            rows.extend(block.tasks.into_iter().skip(skip));
            let skip = block.log.len().saturating_sub(window);
            rows.extend(block.log.into_iter().skip(skip));
        }
        if left_out > 1 {
            rows.truncate(room);
            rows.push(Row::new(format!(" => … {left_out} more"), String::new(), ""));
        }
        return;
    }
}

fn block(step: &Step, now: Time, last: bool) -> Block {
    let state = step.state();
    let (word, color) = match state {
        State::Failed => ("ERROR ", "31"),
        State::Canceled => ("CANCELED ", "33"),
        State::Cached => ("CACHED ", "34"),
        State::Done => ("", "34"),
        State::Running | State::Waiting => ("", ""),
    };
    let time = seconds(step.duration(now));
    let head = Row::new(format!(" => {word}{}", title(&step.name)), time, color);
    let warned = step.warnings.iter().map(|warning| {
        let short = harmless(&String::from_utf8_lossy(&warning.short));
        Row::new(format!(" => => WARN: {short}"), String::new(), "33")
    });
    let tasks = step.tasks.iter().map(|part| task(part, now, color)).chain(warned).collect();
    let mut log = Vec::new();
    if state == State::Running && !last {
        let partial = step.partial();
        let skip = (step.tail.len() + usize::from(partial.is_some())).saturating_sub(WINDOW);
        let lines = step.tail.iter().map(|line| line.text.clone()).chain(partial).skip(skip);
        let lines = lines.map(|line| Row::new(format!(" => => # {line}"), String::new(), "2"));
        log.extend(lines);
    }
    Block { state, head, tasks, log }
}

fn task(task: &Task, now: Time, color: &'static str) -> Row {
    let name = harmless(if task.name.is_empty() { &task.id } else { &task.name });
    let amount = match (task.current, task.total) {
        (current, total) if total > 0 => format!(" {} / {}", bytes(current), bytes(total)),
        (0, _) => String::new(),
        (current, _) => format!(" {}", bytes(current)),
    };
    let time = match (task.started, task.completed) {
        (Some(started), completed) => completed.unwrap_or(now).since(started),
        (None, _) => Duration::ZERO,
    };
    Row::new(format!(" => => {name}{amount}"), seconds(time), color)
}

impl Renderer for Tree {
    fn update(&mut self, trace: &mut Trace, _: &Status, screen: &mut dyn Screen) {
        trace.changed.clear();
        crate::json::forget(trace);
        // The first picture comes at once, others when it is time.
        if self.drawn.is_empty() && !std::mem::replace(&mut self.changed, true) {
            self.draw(trace, screen, false);
        }
    }

    fn tick(&mut self, trace: &mut Trace, screen: &mut dyn Screen) {
        if !trace.begun.is_empty() {
            self.draw(trace, screen, false);
        }
    }

    fn finish(&mut self, trace: &mut Trace, screen: &mut dyn Screen) {
        if !trace.begun.is_empty() {
            self.draw(trace, screen, true);
        }
        screen.write(trace.failures(TAIL).as_bytes());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::trace::tests::{begun, digest, wrote};
    use crate::{Status, Vertex};

    /// A screen that keeps what is written to it.
    #[derive(Default)]
    pub struct Memory {
        written: Vec<u8>,
        size: Option<(usize, usize)>,
    }

    impl Memory {
        pub fn text(&self) -> String {
            String::from_utf8(self.written.clone()).unwrap()
        }
    }

    impl Screen for Memory {
        fn write(&mut self, bytes: &[u8]) {
            self.written.extend_from_slice(bytes);
        }

        fn size(&self) -> Option<(usize, usize)> {
            self.size
        }
    }

    /// What a terminal would show: it knows what we write and nothing else.
    fn replay(written: &str, columns: usize, rows: usize) -> (Vec<String>, usize) {
        let mut lines: VecDeque<String> = VecDeque::from([String::new()]);
        let (mut row, mut scrolled) = (0, 0);
        // Whether the cursor is in the first column; then what is written replaces the line, as
        // each of our lines ends with erasing the rest.
        let mut fresh = true;
        let mut rest = written;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (number, code) = (&rest[1..end], rest.as_bytes()[end]);
                    match code {
                        b'A' => {
                            row -= number.parse::<usize>().unwrap();
                            fresh = true;
                        }
                        b'J' => {
                            assert!(fresh);
                            lines.truncate(row + 1);
                            lines[row].clear();
                        }
                        b'K' | b'l' | b'h' | b'm' => {}
                        other => panic!("{}", other as char),
                    }
                    rest = &rest[end + 1..];
                }
                '\r' => {}
                '\n' => {
                    assert!(width(&lines[row]) < columns, "{}", lines[row]);
                    row += 1;
                    if row == lines.len() {
                        lines.push_back(String::new());
                    }
                    if lines.len() > rows {
                        lines.pop_front();
                        (row, scrolled) = (row - 1, scrolled + 1);
                    }
                    fresh = true;
                }
                c => {
                    if std::mem::take(&mut fresh) {
                        lines[row].clear();
                    }
                    lines[row].push(c);
                }
            }
        }
        (lines.into(), scrolled)
    }

    fn texts(trace: &Trace, most: usize) -> Vec<String> {
        picture(trace, Time::new(3, 0), most, "", false).into_iter().map(|row| row.left).collect()
    }

    #[test]
    fn a_picture_has_a_line_for_each_step_that_has_begun() {
        let mut trace = Trace::new();
        trace.start = Time::new(0, 0);
        let done = Vertex { completed: Some(Time::new(2, 0)), ..begun("[1/3] COPY . /", 1) };
        trace.update(&done.into());
        trace.update(&begun("[2/3] RUN 한국어", 1).into());
        trace.update(&wrote("[2/3] RUN 한국어", "a\nb\nc", 1));
        trace.update(&Vertex::new(digest("c"), "c").into());
        let expected = [
            "[+] Building 3.0s (1/3)",
            " => [1/3] COPY . /",
            " => [2/3] RUN 한국어",
            " => => # a",
            " => => # b",
            " => => # c",
        ];
        assert_eq!(texts(&trace, 100), expected);
        let row = Row::new(" => [2/3] RUN 한국어".into(), "2.0s".into(), "34");
        let (line, wide) = row.line(30, Paint(true));
        assert_eq!(line, "\x1b[34m => [2/3] RUN 한국어      2.0s\x1b[0m");
        assert_eq!(wide, 30);
        assert_eq!(row.line(20, Paint(false)).0, " => [2/3] RUN … 2.0s");
        assert_eq!(row.line(5, Paint(false)).0, " => …");
    }

    #[test]
    fn a_picture_is_never_higher_than_the_screen() {
        let mut trace = Trace::new();
        for i in 0..40 {
            let name = format!("step {i}");
            trace.update(&begun(&name, 1).into());
            trace.update(&wrote(&name, "1\n2\n3\n4\n5\n6\n7\n8\n", 1));
            if i % 3 == 0 {
                let done = Vertex { completed: Some(Time::new(2, 0)), ..begun(&name, 1) };
                trace.update(&done.into());
            }
            for most in 1..60 {
                let rows = texts(&trace, most);
                assert!(rows.len() <= most, "{i} {most}: {rows:#?}");
            }
        }
        // Those that run are what is of interest.
        let rows = texts(&trace, 30);
        assert!(rows.iter().any(|row| row == " => step 1"), "{rows:#?}");
        assert!(rows.iter().all(|row| row != " => step 0"), "{rows:#?}");
        let rows = texts(&trace, 5);
        assert_eq!(rows[4], " => … 23 more", "{rows:#?}");
    }

    #[test]
    fn each_picture_stands_where_the_one_before_stood() {
        let mut trace = Trace::new();
        let mut tree = Tree::new(Paint(true), "koskit");
        let mut screen = Memory { size: Some((40, 10)), ..Memory::default() };
        for i in 0..12 {
            let name = format!("step {i} 한국어 with a name that is too long for it");
            for status in [begun(&name, 1).into(), wrote(&name, "x\ny\n", 1)] {
                trace.update(&status);
                tree.update(&mut trace, &status, &mut screen);
                tree.tick(&mut trace, &mut screen);
                let (lines, scrolled) = replay(&screen.text(), 40, 10);
                assert!(lines[0].starts_with("[+] Building"), "{lines:#?}");
                assert_eq!(scrolled, 0);
            }
            let status = Status::from(begun(&name, 1).cached());
            trace.update(&status);
            tree.update(&mut trace, &status, &mut screen);
        }
        tree.finish(&mut trace, &mut screen);
        let (lines, scrolled) = replay(&screen.text(), 40, 10);
        // The last one has all: a head, twelve steps, and the cursor's row.
        assert_eq!((lines.len(), scrolled), (10, 4));
        assert!(screen.text().contains("(12/12)"));
    }
}
