//! Places in a source file.

use std::ops::{Range, RangeInclusive};

/// A range of bytes in the text of a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span from its ends.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// As a range for slicing.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A piece of text and where it was written. The text may differ from what is there:
/// continuation lines are joined, quotes and escapes of flags and JSON strings taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

/// A file: its name and its text, with an index of its lines.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    starts: Vec<usize>,
}

impl Source {
    /// A file that was read.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1));
        Self { starts: starts.collect(), name: name.into(), text }
    }

    /// The name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line of a byte, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset)
    }

    /// Line and column, both counted from 1; the column counts characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The bytes of a line, counted from 1, without its line ending.
    pub fn line_span(&self, line: usize) -> Span {
        let start = self.starts[line - 1];
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        Span { start, end: start + self.text[start..end].trim_end_matches(['\r', '\n']).len() }
    }

    /// The lines that a span touches.
    pub fn lines(&self, span: Span) -> RangeInclusive<usize> {
        self.line(span.start)..=self.line(span.end.saturating_sub(1).max(span.start))
    }

    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.starts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_start_at_one() {
        let source = Source::new("f", "añb\r\nc\n");
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(6), (2, 1));
        assert_eq!(source.position(8), (3, 1));
        assert_eq!(source.line_span(1), Span::new(0, 4));
        assert_eq!(source.line_count(), 3);
        assert_eq!(source.lines(Span::new(0, 7)), 1..=2);
    }
}
