//! A picture, drawn here: a general layout of graphs would tear the stages apart, which are what
//! a person looks for. Rows follow the order of the build, lanes are the stages.

use super::{Change, Picture, Step, short_names, shortened};
use std::fmt::Write as _;

/// All lengths in pixels.
const WIDTH: usize = 270;
const GAP: usize = 56;
const ROW: usize = 86;
const BOX: usize = 54;
const MARGIN: usize = 32;
const HEAD: usize = 112;
const FOOT: usize = 84;
/// Characters in a line of a box, whose letters are 6.6 wide.
const LINE: usize = 38;

const STYLE: &str = "\
svg{background:#fff}text{font-family:system-ui,sans-serif;fill:#223}\
.title{font-size:20px;font-weight:600}.head{font-size:14px;fill:#556}\
.lane{font-size:13px;font-weight:600;fill:#3b6db3}\
.step{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px}\
.more{font-size:11px;fill:#b35c00}.note{font-size:10.5px;fill:#778}\
.box{fill:#fff;stroke:#6b9bd8;stroke-width:1.5}.source{fill:#eef4fc}\
.image{fill:#fff;stroke:#6b9bd8;stroke-width:1.5;stroke-dasharray:none}\
.new{fill:#fff4e5;stroke:#e08a1e;stroke-width:2}\
.edge{fill:none;stroke:#8aa;stroke-width:1.5}.copy{fill:none;stroke:#3b9aa8;stroke-width:1.8}\
.mount{fill:none;stroke:#e08a1e;stroke-width:1.8;stroke-dasharray:5 4}";

impl Picture {
    /// An SVG document without scripts or anything from elsewhere.
    pub fn svg(&self) -> String {
        let rows = self.steps.iter().map(|step| step.row + 1).max().unwrap_or_default();
        // One for the image.
        let rows = rows + 1;
        let lanes = self.lanes.len().max(2);
        let width = 2 * MARGIN + lanes * WIDTH + (lanes - 1) * GAP;
        let height = HEAD + rows * ROW + FOOT;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n\
             <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}",
            escaped(&self.title),
            MARKERS,
        );
        text(&mut out, "title", MARGIN, 38, &self.title);
        text(&mut out, "head", MARGIN, 60, &self.headline());
        for (lane, name) in self.lanes.iter().enumerate() {
            let first = self.steps.iter().filter(|s| s.lane == lane).map(|s| s.row).min();
            let y = HEAD + first.unwrap_or_default() * ROW - 10;
            text(&mut out, "lane", x(lane), y, name);
        }
        // Lines first: where one must cross a box, it goes behind it.
        for step in &self.steps {
            for (input, added) in &step.inputs {
                edge(&mut out, &self.steps[*input], step, *added);
            }
        }
        for step in &self.steps {
            self.step(&mut out, step);
        }
        self.image(&mut out);
        self.legend(&mut out, height - FOOT + 14);
        out.push_str("</svg>\n");
        out
    }

    fn step(&self, out: &mut String, step: &Step) {
        let (x, y) = (x(step.lane), y(step.row));
        let class = match (step.change, step.kind) {
            (Change::Added | Change::Mounted, _) => "box new",
            (_, "source") => "box source",
            _ => "box",
        };
        let mut title = step.name.clone();
        for entry in &step.env {
            title.push_str(&format!("\n+ {entry}"));
        }
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<g><title>{}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" \
             height=\"{BOX}\" rx=\"8\"/>",
            escaped(&title)
        );
        let mut lines = wrapped(&step.name);
        let more = match (step.change, &self.sdk) {
            (Change::Mounted, Some(_)) => Some(format!("+ SDK, {}", variables(&step.env))),
            _ => None,
        };
        lines.truncate(if more.is_some() { 2 } else { 3 });
        let used = lines.len() + usize::from(more.is_some());
        let mut at = y + BOX / 2 + 4 - (used - 1) * 15 / 2;
        for line in &lines {
            text(out, "step", x + 10, at, line);
            at += 15;
        }
        if let Some(more) = more {
            text(out, "more", x + 10, at, &more);
        }
        if let Some(platform) = step.platform.as_ref().filter(|_| step.kind != "file") {
            let _ = write!(
                out,
                "<text class=\"note\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                x + WIDTH - 8,
                y + BOX + 12,
                escaped(platform)
            );
        }
        out.push_str("</g>\n");
    }

    /// The image, below the step that makes its files.
    fn image(&self, out: &mut String) {
        let Some(step) = self.result.map(|index| &self.steps[index]) else { return };
        let (x, y) = (x(step.lane), y(step.row + 1));
        let class = if self.reason.is_some() { "image new" } else { "image" };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<path class=\"edge\" d=\"M{0} {1}V{y}\" marker-end=\"url(#a)\"/>\
             <rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{BOX}\" \
             rx=\"27\"/>",
            x + WIDTH / 2,
            y - ROW + BOX,
        );
        let labelled = self.reason.is_some();
        text(out, "step", x + 22, y + if labelled { 24 } else { 31 }, "the image");
        if labelled {
            text(out, "more", x + 22, y + 39, "+ labels com.koskit.app.… that are not set");
        }
    }

    fn legend(&self, out: &mut String, y: usize) {
        let mut x = MARGIN;
        let mut entry = |out: &mut String, class: &str, words: &str| {
            let _ = writeln!(out, "<path class=\"{class}\" d=\"M{x} {}h34\"/>", y - 4);
            text(out, "note", x + 42, y, words);
            x += 62 + words.chars().count() * 6;
        };
        entry(out, "edge", "changes the files of");
        entry(out, "copy", "copies from");
        if self.sdk.is_some() {
            entry(out, "mount", "added by koskit; without the orange it is the graph before");
        }
        let (mut y, x) = (y + 22, MARGIN);
        if let Some(sdk) = &self.sdk {
            let what = format!(
                "The SDK is {}, mounted read-only at {} while the command runs: the image holds \
                 nothing of it.",
                short_names(&sdk.image),
                sdk.mount
            );
            text(out, "note", x, y, &what);
            y += 18;
        }
        if let Some(afterwards) = self.afterwards() {
            text(out, "note", x, y, afterwards);
        }
    }
}

const MARKERS: &str = "<defs>\
<marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#688\"/></marker></defs>\n";

fn x(lane: usize) -> usize {
    MARGIN + lane * (WIDTH + GAP)
}

fn y(row: usize) -> usize {
    HEAD + row * ROW
}

/// A line down from the step whose files are changed, or across from another lane.
fn edge(out: &mut String, from: &Step, to: &Step, added: bool) {
    let (x1, y1, x2, y2) = (x(from.lane), y(from.row), x(to.lane), y(to.row));
    let class = match (added, from.lane == to.lane) {
        (true, _) => "mount",
        (false, true) => "edge",
        (false, false) => "copy",
    };
    let path = match from.lane.cmp(&to.lane) {
        std::cmp::Ordering::Equal => {
            format!("M{} {}V{}", x1 + WIDTH / 2, y1 + BOX, y2)
        }
        order => {
            // Out at the side that looks to the target, along the rows' gap, in at the target's
            // near side. What goes far bends late, so that it runs between the rows.
            let right = order == std::cmp::Ordering::Less;
            let (start, end) = if right { (x1 + WIDTH, x2) } else { (x1, x2 + WIDTH) };
            let near = |x: usize, by: usize, add: bool| if add { x + by } else { x - by };
            let (down, up) = (y1 + BOX / 2, y2 + BOX / 2);
            // Two kinds of lines run side by side and not over each other.
            let aside = if added { 7 } else { 0 };
            if from.lane.abs_diff(to.lane) == 1 {
                let (a, b) = (near(start, GAP, right), near(end, GAP, !right));
                format!("M{start} {down}C{a} {down} {b} {up} {end} {up}")
            } else {
                let between = y2 - (ROW - BOX) / 2 - aside;
                let (a, b) = (near(start, GAP / 2 - aside, right), near(end, GAP / 2, !right));
                format!(
                    "M{start} {down}C{a} {down} {a} {down} {a} {}V{}Q{a} {between} {} {between}\
                     H{}Q{b} {between} {b} {}V{}Q{b} {up} {end} {up}",
                    down + 14,
                    between.saturating_sub(10).max(down + 14),
                    near(a, 10, right),
                    near(b, 10, !right),
                    between + 10,
                    up.saturating_sub(10).max(between + 10),
                )
            }
        }
    };
    let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\" marker-end=\"url(#a)\"/>");
}

/// The first variables by name, and how many there are besides.
fn variables(env: &[String]) -> String {
    let names: Vec<&str> = env.iter().map(|entry| entry.split('=').next().unwrap_or("")).collect();
    match names.len() {
        0 => "its variables are set already".into(),
        1..=4 => names.join(" "),
        more => format!("{} and {} variables more", names[..3].join(" "), more - 3),
    }
}

/// Lines of at most [`LINE`] characters, three of them.
fn wrapped(text: &str) -> Vec<String> {
    let text = shortened(text, 3 * LINE - 12);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one");
        match last.chars().count() + 1 + word.chars().count() {
            _ if last.is_empty() => *last = shortened(word, LINE),
            more if more <= LINE => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(shortened(word, LINE)),
        }
    }
    if lines.len() > 3 {
        lines.truncate(3);
        let last = lines.last_mut().expect("there are three");
        *last = shortened(&format!("{last} ……"), LINE);
    }
    lines
}

fn text(out: &mut String, class: &str, x: usize, y: usize, words: &str) {
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(words));
}

/// What XML needs escaped, and characters that it must not have at all.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
