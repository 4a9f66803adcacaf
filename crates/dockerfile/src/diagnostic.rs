//! What is wrong with a file, told so that a person can mend it.
//!
//! ```text
//! error: there is no instruction FORM
//!  --> Dockerfile:3:1
//!   |
//! 3 | FORM alpine
//!   | ^^^^ expected an instruction
//!   |
//!   = hint: did you mean FROM?
//! ```

use std::fmt::{self, Write as _};
use std::sync::Arc;

use unicode_width::UnicodeWidthChar;

use crate::{Rule, Source, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// What the carets stand under.
    pub span: Span,
    /// What was expected there; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The rule that it breaks, if the language allows it.
    pub rule: Option<Rule>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            severity: Severity::Error,
            message,
            span,
            label: String::new(),
            hint: None,
            rule: None,
        }
    }

    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// The same with these words beside the carets.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The same as a finding of a rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The picture above. `color` adds ANSI colours, for a terminal.
    pub fn render(&self, source: &Source, color: bool) -> String {
        let paint = Paint(color);
        let (line, column) = source.position(self.span.start);
        let shown = source.line_span(line.min(source.line_count()));
        let gutter = " ".repeat(line.to_string().len());
        let (name, code) = match self.severity {
            Severity::Error => ("error", "1;31"),
            Severity::Warning => ("warning", "1;33"),
        };
        let mut out = String::new();
        let name = match self.rule {
            Some(rule) => format!("{name}[{rule}]"),
            None => name.to_owned(),
        };
        let head = clean(&self.message);
        let _ =
            writeln!(out, "{}{}", paint.with(code, &name), paint.with("1", &format!(": {head}")));
        let place = format!("{}:{line}:{column}", clean(source.name()));
        let _ = writeln!(out, "{gutter}{} {place}", paint.with("1;34", "-->"));
        let bar = paint.with("1;34", "|");
        let _ = writeln!(out, "{gutter} {bar}");

        let text = &source.text()[shown.range()];
        let start = self.span.start.clamp(shown.start, shown.end) - shown.start;
        let end = self.span.end.clamp(shown.start + start, shown.end) - shown.start;
        let before = width(&text[..start]);
        let marked = width(&text[start..end]).max(1);
        let number = paint.with("1;34", &line.to_string());
        let _ = writeln!(out, "{number} {bar} {}", clean(text).trim_end());
        let more = if self.span.end > shown.end + 1 { "..." } else { "" };
        let mark = format!("{}{more} {}", "^".repeat(marked), clean(&self.label));
        let mark = paint.with(code, mark.trim_end());
        let _ = writeln!(out, "{gutter} {bar} {}{mark}", " ".repeat(before));
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{gutter} {bar}");
            let equals = paint.with("1;34", "=");
            let _ = writeln!(out, "{gutter} {equals} {}: {}", paint.with("1", "hint"), clean(hint));
        }
        out
    }
}

struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const TAB: &str = "    ";

/// A file's text may hold anything; what reaches the terminal has no control characters.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str(TAB),
            c if c.is_control() || is_bidi_control(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn width(text: &str) -> usize {
    clean(text).chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// All that is wrong with one file; at least one of it is an error.
#[derive(Clone, Debug)]
pub struct Errors {
    /// The file.
    pub source: Arc<Source>,
    /// In the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Errors {
    /// All of them, one after the other with an empty line between.
    pub fn render(&self, color: bool) -> String {
        let all: Vec<_> = self.diagnostics.iter().map(|d| d.render(&self.source, color)).collect();
        all.join("\n")
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Errors {}

/// The one of `known` that `word` was most likely meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A typing error in a short word changes more of it.
    let limit = if word.chars().count() <= 4 { 2 } else { 3 };
    known
        .into_iter()
        .map(|k| (distance(&word, &k.to_lowercase()), k))
        .filter(|&(distance, k)| distance < limit.min(k.chars().count()))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, k)| k)
}

/// Edits (insert, delete, replace, swap neighbours) that make one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_the_line_and_points_at_the_word() {
        let source = Source::new("Dockerfile", "FROM a\n\n\tFORM 한국 x\n");
        let at = Diagnostic::error(Span::new(21, 22), "bad word").label("expected y").hint("try y");
        let picture = "\
error: bad word
 --> Dockerfile:3:10
  |
3 |     FORM 한국 x
  |               ^ expected y
  |
  = hint: try y
";
        assert_eq!(at.render(&source, false), picture);
        assert!(at.render(&source, true).contains("\x1b[1;31merror\x1b[0m"));
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let source = Source::new("a\x1b[2J", "x\x1b[31m\u{202e}y");
        let text = Diagnostic::error(Span::new(0, 1), "m\x07").render(&source, false);
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn a_span_at_the_end_of_the_file_still_has_a_caret() {
        let source = Source::new("f", "ab\n");
        let text = Diagnostic::error(Span::new(3, 3), "end").render(&source, false);
        assert!(text.contains("f:2:1") && text.contains("| ^"), "{text}");
    }

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("FORM", ["RUN", "FROM"]), Some("FROM"));
        assert_eq!(nearest("entrypont", ["ENTRYPOINT", "ENV"]), Some("ENTRYPOINT"));
        assert_eq!(nearest("xyzzy", ["RUN", "FROM"]), None);
        assert_eq!(nearest("a", ["b"]), None);
    }
}
