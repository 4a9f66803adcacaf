//! Splitting the text behind an instruction's name.

use std::ops::Range;

use crate::Word;
use crate::line::{Line, is_blank};

/// A part of the line without white space at both ends.
pub(crate) fn trim(line: &Line, range: Range<usize>) -> Range<usize> {
    let text = &line.text[range.clone()];
    let start = range.start + (text.len() - text.trim_start().len());
    start..start + text.trim().len()
}

/// What is before and after the first run of blanks.
pub(crate) fn split_first(
    line: &Line,
    range: Range<usize>,
) -> (Range<usize>, Option<Range<usize>>) {
    let text = &line.text[range.clone()];
    match text.find(is_blank) {
        None => (range, None),
        Some(end) => {
            let rest = text[end..].trim_start_matches(is_blank).len();
            (range.start..range.start + end, Some(range.end - rest..range.end))
        }
    }
}

/// All that blanks separate. Blanks at the ends give empty words, as BuildKit has it; what
/// is passed here was trimmed.
pub(crate) fn split_blanks(line: &Line, range: Range<usize>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest {
        let (word, next) = split_first(line, range);
        words.push(line.word(word));
        rest = next;
    }
    words
}

/// Words as a shell would see them, with quotes and escapes kept in them.
pub(crate) fn split_quoted(line: &Line, range: Range<usize>, escape: char) -> Vec<Word> {
    let end = range.end;
    let mut words = Vec::new();
    let mut text = String::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = line.text[range.clone()].char_indices().map(|(i, c)| (i + range.start, c));
    while let Some((at, c)) = chars.next() {
        let Some(begin) = start else {
            if c.is_whitespace() {
                continue;
            }
            start = Some(at);
            quote = push(&mut text, c, &mut chars, escape, None);
            continue;
        };
        if quote.is_none() && c.is_whitespace() {
            if !text.is_empty() {
                words.push(Word { text: std::mem::take(&mut text), span: line.span(begin..at) });
            }
            start = None;
            continue;
        }
        quote = push(&mut text, c, &mut chars, escape, quote);
    }
    if let Some(begin) = start.filter(|_| !text.is_empty()) {
        words.push(Word { text, span: line.span(begin..end) });
    }
    words
}

/// Takes one character into a word, and the one behind it where it is escaped. Gives the
/// quote that is open afterwards.
fn push(
    text: &mut String,
    c: char,
    rest: &mut impl Iterator<Item = (usize, char)>,
    escape: char,
    quote: Option<char>,
) -> Option<char> {
    if c == escape && quote != Some('\'') {
        // An escape character at the very end means nothing.
        if let Some((_, escaped)) = rest.next() {
            text.push(c);
            text.push(escaped);
            return quote;
        }
        return None;
    }
    text.push(c);
    match (quote, c) {
        (None, '\'' | '"') => Some(c),
        (Some(open), c) if open == c => None,
        _ => quote,
    }
}

/// The `--flags` before the arguments, without their quotes and escapes, and the arguments.
pub(crate) fn split_flags(
    line: &Line,
    range: Range<usize>,
    escape: char,
) -> (Vec<Word>, Range<usize>) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let rest = &line.text[at..range.end];
        let trimmed = rest.trim_start();
        at = range.end - trimmed.len();
        if !trimmed.starts_with("--") {
            return (flags, at..range.end);
        }
        let (text, length, quoted) = flag(trimmed, escape);
        let word = Word { text, span: line.span(at..at + length) };
        at += length;
        // `--` alone ends the flags; what follows is an argument whatever it looks like.
        if word.text == "--" {
            return (flags, at..range.end);
        }
        if quoted || !word.text.is_empty() {
            flags.push(word);
        }
    }
}

/// One flag: its text, how many bytes it takes, and whether any of it was quoted.
fn flag(text: &str, escape: char) -> (String, usize, bool) {
    let mut out = String::new();
    let mut quote = None;
    let mut quoted = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            return (out, at, quoted);
        }
        if c == escape {
            out.extend(chars.next().map(|(_, c)| c));
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
            quoted = true;
        } else {
            out.push(c);
        }
    }
    (out, text.len(), quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use crate::line::Lines;

    fn line(text: &str) -> Line {
        Lines::new(&Source::new("f", text)).logical().unwrap()
    }

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|w| w.text.as_str()).collect()
    }

    #[test]
    fn quotes_hold_a_word_together_and_stay_in_it() {
        let line = line(r#"a="b c" 'd e'f g\ h "" i\"#);
        let words = split_quoted(&line, 0..line.text.len(), '\\');
        assert_eq!(texts(&words), [r#"a="b c""#, "'d e'f", r"g\ h", r#""""#, "i"]);
        assert_eq!(&line.text[words[1].span.range()], "'d e'f");
    }

    #[test]
    fn flags_end_at_the_first_word_that_is_none() {
        let line = line(r#"--a=b --c="d e" -- --f g"#);
        let (flags, rest) = split_flags(&line, 0..line.text.len(), '\\');
        assert_eq!(texts(&flags), ["--a=b", "--c=d e"]);
        assert_eq!(&line.text[rest], " --f g");
        assert_eq!(&line.text[flags[1].span.range()], r#"--c="d e""#);
    }
}
