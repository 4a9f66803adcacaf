//! YAML text to nodes that know their places.
//!
//! Scalars stay text: what type a key wants is known only where it is read. Anchors are resolved
//! here, and so are merge keys (`<<: *name`), whose entries stand behind a mapping's own.

use std::collections::HashMap;

use koskit_dockerfile::{Diagnostic, Source, Span};
use saphyr_parser::{Event, Parser, ScalarStyle};

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 4 << 20;
/// More nodes than this, aliases followed, is no file that anybody wrote.
const MAX_NODES: usize = 200_000;
/// Deeper than this nothing is nested.
const MAX_DEPTH: usize = 64;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place.
    pub span: Span,
    /// A tag of its own, such as `!reset`.
    pub tag: Option<String>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, a number or a truth value.
    Scalar {
        /// As it is written, quotes and escapes resolved.
        text: String,
        /// Whether it is without quotes, and so may be something else than text.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in its order, no key twice.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Its place.
    pub span: Span,
}

impl Node {
    /// What a mapping has for a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// What kind of value it is, for a sentence.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads one document.
///
/// # Errors
/// It is no YAML, or not one that a compose file can be.
pub fn parse(source: &Source) -> Result<Node, Box<Diagnostic>> {
    if source.text().len() > MAX_FILE {
        let why = format!("the file is larger than {} MiB", MAX_FILE >> 20);
        return Err(Box::new(Diagnostic::error(Span::new(0, 0), why)));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(source.text()),
        places: Places::new(source.text()),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if root.is_some() => {
                return Err(error(span, "the file has a second document; write one file for each"));
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            event => root = Some(reader.node(event, span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { value: Value::Null, span: Span::new(0, 0), tag: None }))
}

fn error(span: Span, message: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(span, message))
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    places: Places,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((
                event,
                Span::new(self.places.byte(span.start.index()), self.places.byte(span.end.index())),
            )),
            Some(Err(scan)) => {
                let at = self.places.byte(scan.marker().index());
                Err(error(Span::new(at, at), format!("the file is not YAML: {}", scan.info())))
            }
            None => Ok((Event::StreamEnd, Span::new(0, 0))),
        }
    }

    fn count(&mut self, more: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes += more;
        match self.nodes > MAX_NODES {
            true => Err(error(span, format!("the file has more than {MAX_NODES} values"))),
            false => Ok(()),
        }
    }

    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<Node, Box<Diagnostic>> {
        if depth > MAX_DEPTH {
            return Err(error(span, format!("values are nested deeper than {MAX_DEPTH}")));
        }
        self.count(1, span)?;
        let (anchor, tag, value, end) = match event {
            Event::Alias(anchor) => {
                // An anchor is known when its node is complete: none can hold itself.
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(error(span, "there is no anchor of that name before this place"));
                };
                self.count(size(&node), span)?;
                if depth + height(&node) > MAX_DEPTH {
                    return Err(error(span, format!("values are nested deeper than {MAX_DEPTH}")));
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = match null {
                    true => Value::Null,
                    false => Value::Scalar { text: text.into_owned(), plain },
                };
                (anchor, tag, value, span.end)
            }
            Event::SequenceStart(anchor, tag) => {
                let mut list = Vec::new();
                let end = loop {
                    match self.next()? {
                        (Event::SequenceEnd, span) => break span.end,
                        (event, span) => list.push(self.node(event, span, depth + 1)?),
                    }
                };
                (anchor, tag, Value::List(list), end)
            }
            Event::MappingStart(anchor, tag) => {
                let mut entries: Vec<(Key, Node)> = Vec::new();
                let mut merged: Vec<Node> = Vec::new();
                let end = loop {
                    let (event, span) = match self.next()? {
                        (Event::MappingEnd, span) => break span.end,
                        next => next,
                    };
                    let key = match event {
                        Event::Scalar(text, style, _, _) => (text.into_owned(), style),
                        _ => return Err(error(span, "a key must be text")),
                    };
                    let (event, at) = self.next()?;
                    let node = self.node(event, at, depth + 1)?;
                    if key.0 == "<<" && key.1 == ScalarStyle::Plain {
                        merged.push(node);
                    } else if entries.iter().any(|(known, _)| known.text == key.0) {
                        return Err(error(span, format!("the key {} is there twice", key.0)));
                    } else {
                        entries.push((Key { text: key.0, span }, node));
                    }
                };
                for node in merged {
                    merge(&mut entries, node)?;
                }
                (anchor, tag, Value::Map(entries), end)
            }
            _ => return Err(error(span, "the file ends too early")),
        };
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema()).map(|tag| tag.to_string());
        // A collection's end is where its text ends, not the place of the next token.
        let end = self.places.trimmed(span.start, end);
        let node = Node { value, span: Span::new(span.start, end), tag };
        if anchor > 0 {
            self.count(size(&node), span)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }
}

/// Takes over the entries of other mappings, those of the first before those of the next.
fn merge(entries: &mut Vec<(Key, Node)>, from: Node) -> Result<(), Box<Diagnostic>> {
    let sources = match from.value {
        Value::List(list) => list,
        _ => vec![from],
    };
    for source in sources {
        let Value::Map(more) = source.value else {
            return Err(error(source.span, "only mappings can be merged with <<"));
        };
        for (key, node) in more {
            if !entries.iter().any(|(known, _)| known.text == key.text) {
                entries.push((key, node));
            }
        }
    }
    Ok(())
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
        _ => 0,
    }
}

fn height(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(list) => list.iter().map(height).max().unwrap_or(0),
        Value::Map(entries) => entries.iter().map(|(_, node)| height(node)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Characters, which the parser counts, to bytes.
struct Places {
    /// The byte of each character, and one past the last; empty where they are the same.
    bytes: Vec<usize>,
    text: String,
}

impl Places {
    fn new(text: &str) -> Self {
        let mut bytes = Vec::new();
        if !text.is_ascii() {
            bytes = text.char_indices().map(|(byte, _)| byte).collect();
            bytes.push(text.len());
        }
        Self { bytes, text: text.to_owned() }
    }

    fn byte(&self, index: usize) -> usize {
        match self.bytes.is_empty() {
            true => index.min(self.text.len()),
            false => self.bytes[index.min(self.bytes.len() - 1)],
        }
    }

    fn trimmed(&self, start: usize, end: usize) -> usize {
        let text = self.text.get(start..end).unwrap_or_default();
        start + text.trim_end().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        let tag = node.tag.as_ref().map(|tag| format!("{tag} ")).unwrap_or_default();
        tag + &match &node.value {
            Value::Null => "null".into(),
            Value::Scalar { text, plain: true } => text.clone(),
            Value::Scalar { text, plain: false } => format!("{text:?}"),
            Value::List(list) => {
                format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(", "))
            }
            Value::Map(entries) => {
                let entries =
                    entries.iter().map(|(key, node)| format!("{}: {}", key.text, show(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn parsed(text: &str) -> String {
        match parse(&Source::new("f", text)) {
            Ok(node) => show(&node),
            Err(error) => format!("error: {}", error.message),
        }
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        assert_eq!(
            parsed("a: 1\nb: \"1\"\nc: [yes, ~, 'x']\nd:\n"),
            "{a: 1, b: \"1\", c: [yes, null, \"x\"], d: null}"
        );
        assert_eq!(parsed(""), "null");
        assert_eq!(parsed("a: !reset null\n"), "{a: !reset null}");
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let text = "x: &a {p: 1, q: 2}\ny:\n  <<: *a\n  q: 3\nz:\n  <<: [*a, {r: 4, p: 5}]\n";
        assert_eq!(parsed(text), "{x: {p: 1, q: 2}, y: {q: 3, p: 1}, z: {p: 1, q: 2, r: 4}}");
    }

    #[test]
    fn what_is_no_compose_file_is_refused() {
        assert_eq!(parsed("a: 1\na: 2\n"), "error: the key a is there twice");
        assert_eq!(
            parsed("a: 1\n---\nb: 2\n"),
            "error: the file has a second document; write one file for each"
        );
        assert!(
            parsed("a: [1\n").starts_with("error: the file is not YAML"),
            "{}",
            parsed("a: [1\n")
        );
        assert!(parsed("a: *none\n").starts_with("error: "), "{}", parsed("a: *none\n"));
        assert_eq!(parsed("? [a]\n: b\n"), "error: a key must be text");
    }

    #[test]
    fn a_file_that_grows_by_its_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let last = format!("*a{}", i - 1);
            text += &format!("a{i}: &a{i} [{}]\n", vec![last; 9].join(", "));
        }
        assert_eq!(parsed(&text), "error: the file has more than 200000 values");
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parsed(&deep).starts_with("error: "), "{}", parsed(&deep));
    }

    #[test]
    fn places_are_bytes_whatever_the_characters() {
        let text = "a: 한국\nb: [x,\n  y]\n";
        let root = parse(&Source::new("f", text)).unwrap();
        let at = |key: &str| &text[root.get(key).unwrap().span.range()];
        assert_eq!(at("a"), "한국");
        assert_eq!(at("b"), "[x,\n  y]");
    }
}
