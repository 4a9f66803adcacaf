//! From physical lines to logical ones: comments and parser directives are taken out,
//! continuation lines joined. Each logical line remembers where its bytes came from.

use std::ops::Range;

use crate::{Diagnostic, Rule, Source, Span, Word};

/// Which blanks separate words; other Unicode white space is part of a word.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// `# name=value` at the top of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// `syntax`, `escape` or `check`, in lower case.
    pub name: Word,
    /// What is after the `=`.
    pub value: Word,
}

/// An instruction's text on one line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub text: String,
    /// Where in `text` a piece begins, and where it is in the source.
    pieces: Vec<(usize, usize)>,
    /// The physical lines, counted from 1.
    pub first: usize,
    pub last: usize,
    /// The comments right above.
    pub comments: Vec<String>,
}

impl Line {
    fn push(&mut self, text: &str, at: usize) {
        self.pieces.push((self.text.len(), at));
        self.text.push_str(text);
    }

    /// The place in the source of one byte of the text.
    fn source_offset(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|&(start, _)| start <= offset);
        match piece.checked_sub(1).map(|i| self.pieces[i]) {
            Some((start, at)) => at + (offset - start),
            None => 0,
        }
    }

    /// The place in the source of a part of the text.
    pub fn span(&self, range: Range<usize>) -> Span {
        let start = self.source_offset(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        Span::new(start, self.source_offset(range.end - 1) + 1)
    }

    /// A part of the text with its place.
    pub fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.text[range.clone()].to_owned(), span: self.span(range) }
    }
}

/// Gives out the logical lines of a file, one after the other.
pub(crate) struct Lines<'a> {
    source: &'a Source,
    /// The physical line that comes next, counted from 1.
    next: usize,
    pub escape: char,
    pub directives: Vec<Directive>,
    directives_over: bool,
    comments: Vec<String>,
    pub diagnostics: Vec<Diagnostic>,
}

impl<'a> Lines<'a> {
    pub fn new(source: &'a Source) -> Self {
        Self {
            source,
            next: 1,
            escape: '\\',
            directives: Vec::new(),
            directives_over: false,
            comments: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// The next physical line with its line ending, and where it starts.
    pub fn physical(&mut self) -> Option<(usize, &'a str)> {
        let text = self.source.text();
        if self.next > self.source.line_count() {
            return None;
        }
        let start = self.source.line_span(self.next).start;
        if start == text.len() {
            return None;
        }
        let end = match self.next < self.source.line_count() {
            true => self.source.line_span(self.next + 1).start,
            false => text.len(),
        };
        self.next += 1;
        Some((start, &text[start..end]))
    }

    /// The number of the last physical line that was read.
    pub fn number(&self) -> usize {
        self.next - 1
    }

    /// The next logical line.
    pub fn logical(&mut self) -> Option<Line> {
        loop {
            let (mut at, mut raw) = self.physical()?;
            if self.number() == 1 {
                if let Some(rest) = raw.strip_prefix('\u{feff}') {
                    at += raw.len() - rest.len();
                    raw = rest;
                }
            }
            if is_comment(raw) && !self.directive(at, raw) {
                let mut rest = raw.chars();
                rest.next();
                match rest.as_str().trim() {
                    "" => self.comments.clear(),
                    comment => self.comments.push(comment.to_owned()),
                }
            }
            self.directives_over |= !raw.trim_start().starts_with('#');
            let mut line = Line { first: self.number(), ..Line::default() };
            let trimmed = raw.trim_end_matches(['\r', '\n']).trim_start();
            at += raw.trim_end_matches(['\r', '\n']).len() - trimmed.len();
            if is_comment(trimmed) {
                continue;
            }
            let (text, mut complete) = self.continuation(trimmed);
            if complete && text.is_empty() {
                continue;
            }
            line.push(text, at);
            let mut empty = None;
            while !complete {
                let Some((at, raw)) = self.physical() else { break };
                let raw = raw.trim_end_matches(['\r', '\n']);
                if is_comment(raw) {
                    continue;
                }
                if raw.trim_start().is_empty() {
                    empty.get_or_insert(Span::new(at, at + raw.len()));
                    continue;
                }
                let (text, ends) = self.continuation(raw);
                line.push(text, at);
                complete = ends;
            }
            if let Some(span) = empty {
                self.diagnostics.push(
                    Diagnostic::warning(span, "an empty line inside of an instruction")
                        .label("the instruction goes on below")
                        .hint("remove the line, or put a # in it")
                        .rule(Rule::NoEmptyContinuation),
                );
            }
            line.last = self.number();
            line.comments = std::mem::take(&mut self.comments);
            return Some(line);
        }
    }

    /// Takes the escape character from the end, if the line goes on after it.
    fn continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, false),
            _ => (line, true),
        }
    }

    /// Reads a parser directive. They stand at the top, before anything else.
    fn directive(&mut self, at: usize, raw: &str) -> bool {
        if self.directives_over {
            return false;
        }
        let found = split_directive(raw).filter(|(name, _)| {
            ["syntax", "escape", "check"].iter().any(|k| name.1.eq_ignore_ascii_case(k))
        });
        let Some((name, value)) = found else {
            self.directives_over = true;
            return false;
        };
        let word = |(offset, text): (usize, &str)| Word {
            text: text.to_owned(),
            span: Span::new(at + offset, at + offset + text.len()),
        };
        let (mut name, value) = (word(name), word(value));
        name.text.make_ascii_lowercase();
        if self.directives.iter().any(|d| d.name.text == name.text) {
            let message = format!("the parser directive {} is given twice", name.text);
            self.diagnostics.push(Diagnostic::error(name.span, message));
        } else if name.text == "escape" {
            match value.text.as_str() {
                "\\" => self.escape = '\\',
                "`" => self.escape = '`',
                other => self.diagnostics.push(
                    Diagnostic::error(
                        value.span,
                        format!("{other:?} cannot be the escape character"),
                    )
                    .label("expected \\ or `"),
                ),
            }
        }
        self.directives.push(Directive { name, value });
        true
    }
}

pub(crate) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A piece of a line and the byte at which it begins.
type Piece<'a> = (usize, &'a str);

/// Name and value of `# name = value`.
fn split_directive(raw: &str) -> Option<(Piece<'_>, Piece<'_>)> {
    let blank = [' ', '\t', '\n', '\x0c', '\r'];
    let hash = raw.find('#')?;
    let body = &raw[hash + 1..];
    let equals = body.find('=')?;
    let name = body[..equals].trim_start().trim_end_matches(blank);
    let body = body.trim_end_matches(['\r', '\n']);
    let behind = body.get(equals + 1..)?;
    let mut value = behind.trim_matches(blank);
    if value.is_empty() {
        // Where there are blanks only, the last of them is the value.
        value = behind.char_indices().next_back().map_or("", |(at, _)| &behind[at..]);
    }
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_name || value.is_empty() {
        return None;
    }
    // Both are slices of `raw`: their addresses say where they begin.
    let offset = |part: &str| part.as_ptr() as usize - raw.as_ptr() as usize;
    Some(((offset(name), name), (offset(value), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (Vec<String>, Vec<Diagnostic>) {
        let source = Source::new("Dockerfile", text);
        let mut lines = Lines::new(&source);
        let mut out = Vec::new();
        while let Some(line) = lines.logical() {
            out.push(line.text);
        }
        (out, lines.diagnostics)
    }

    #[test]
    fn continuation_lines_are_joined_and_comments_between_them_dropped() {
        let (out, diagnostics) = lines("RUN a \\  \n# no\n  b\\\nc\n\nCMD x\\\\\n");
        assert_eq!(out, ["RUN a   bc", "CMD x\\\\"]);
        assert_eq!(diagnostics, []);
    }

    #[test]
    fn every_byte_of_a_logical_line_knows_where_it_was_written() {
        let text = "\u{feff}RUN one \\\r\n   two \\\n#\nthree";
        let source = Source::new("f", text);
        let line = Lines::new(&source).logical().unwrap();
        assert_eq!(line.text, "RUN one    two three");
        for word in ["RUN", "one", "two", "three"] {
            let at = line.text.find(word).unwrap();
            assert_eq!(&text[line.span(at..at + word.len()).range()], word);
        }
        assert_eq!((line.first, line.last), (1, 4));
    }

    #[test]
    fn directives_count_only_at_the_top_and_only_once() {
        let source =
            Source::new("f", "# Escape = `\n# syntax=a/b:c d\nRUN a`\nb\n# escape=\\\nRUN c`\nd");
        let mut all = Lines::new(&source);
        assert_eq!(all.logical().unwrap().text, "RUN ab");
        assert_eq!(all.logical().unwrap().text, "RUN cd");
        let found: Vec<_> =
            all.directives.iter().map(|d| (&*d.name.text, &*d.value.text)).collect();
        assert_eq!(found, [("escape", "`"), ("syntax", "a/b:c d")]);
        assert_eq!(&source.text()[all.directives[1].value.span.range()], "a/b:c d");

        assert_eq!(lines("# escape=\\\n# escape=`\nRUN a").1.len(), 1);
        assert_eq!(lines("# escape=x\nRUN a").1.len(), 1);
        assert_eq!(lines("\n# escape=x\nRUN a").1.len(), 0, "after an empty line it is a comment");
        assert_eq!(lines("# hello\n# escape=x\nRUN a").1.len(), 0, "after a comment, too");
    }

    #[test]
    fn an_empty_line_inside_an_instruction_is_worth_a_warning() {
        let (out, diagnostics) = lines("RUN a \\\n\nb");
        assert_eq!(out, ["RUN a b"]);
        assert_eq!(diagnostics.len(), 1);
    }
}
