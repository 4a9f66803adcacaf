//! `["a", "b"]` in the place of arguments.

use std::ops::Range;

use crate::Word;
use crate::line::Line;

/// What the arguments look like.
pub(crate) enum Json {
    /// A list of strings.
    Strings(Vec<Word>),
    /// JSON, and a list, but not of strings only.
    Other,
    /// No JSON; so these are arguments for a shell.
    No,
}

/// Reads arguments as JSON. The rules are those of Go's decoder: a lone surrogate is
/// U+FFFD, and nothing may follow the list.
pub(crate) fn read(line: &Line, range: Range<usize>) -> Json {
    let text = &line.text[range.clone()];
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::No;
    }
    let base = range.end - text.len();
    if let Some(strings) = strings(text) {
        let word = |(text, at): (String, Range<usize>)| Word {
            text,
            span: line.span(base + at.start..base + at.end),
        };
        return Json::Strings(strings.into_iter().map(word).collect());
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(_) => Json::Other,
        Err(_) => Json::No,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn blank(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn take(&mut self, c: char) -> Option<()> {
        self.blank();
        self.text[self.at..].starts_with(c).then(|| self.at += c.len_utf8())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn string(&mut self) -> Option<(String, Range<usize>)> {
        self.take('"')?;
        let start = self.at - 1;
        let mut out = String::new();
        loop {
            match self.next()? {
                '"' => return Some((out, start..self.at)),
                '\\' => out.push(self.escape()?),
                c if c < ' ' => return None,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.hex()?;
                let back = self.at;
                if (0xd800..0xdc00).contains(&high) && self.text[back..].starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                    self.at = back;
                }
                char::from_u32(high).unwrap_or('\u{fffd}')
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

fn strings(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let mut reader = Reader { text, at: 0 };
    let mut out = Vec::new();
    reader.take('[')?;
    if reader.take(']').is_none() {
        loop {
            out.push(reader.string()?);
            if reader.take(',').is_none() {
                reader.take(']')?;
                break;
            }
        }
    }
    reader.blank();
    (reader.at == text.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<String>> {
        Some(strings(text)?.into_iter().map(|(s, _)| s).collect())
    }

    #[test]
    fn strings_are_decoded_as_go_does() {
        assert_eq!(read(r#" [ ] "#.trim_start()).unwrap(), Vec::<String>::new());
        assert_eq!(read(r#"["a\n\u00e9\ud83d\ude00", "b"]"#).unwrap(), ["a\né😀", "b"]);
        assert_eq!(read(r#"["\ud83dx", "\ud83d\u0041"]"#).unwrap(), ["\u{fffd}x", "\u{fffd}A"]);
    }

    #[test]
    fn what_is_nearly_json_is_left_to_the_shell() {
        for text in [r#"["a",]"#, r#"["a"] x"#, r#"["a""#, r#"['a']"#, "[\"\t\"]", r#"["\x"]"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
