//! Typed reading of nodes, with everything that is wrong collected.

use std::collections::BTreeMap;

use koskit_dockerfile::{Diagnostic, Span, nearest};

use crate::yaml::{Key, Node, Value};
use crate::{Environment, interpolate};

/// Reads values and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    pub variables: &'a Environment,
    pub diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(span, message));
    }

    /// Puts variables into all values of a node, once and for all.
    pub fn interpolate(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::Scalar { text, .. } if text.contains('$') => {
                match interpolate(text, self.variables) {
                    Ok(value) => *text = value,
                    Err(error) => self.error(node.span, error.to_string()),
                }
            }
            Value::List(list) => list.iter_mut().for_each(|node| self.interpolate(node)),
            Value::Map(entries) => {
                entries.iter_mut().for_each(|(_, node)| self.interpolate(node));
            }
            _ => {}
        }
    }

    /// The entries of a mapping; of nothing there are none.
    pub fn map<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Key, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.wrong(node, what, "a mapping");
                &[]
            }
        }
    }

    /// Complains of keys that are neither known nor begin with `x-`.
    pub fn known(&mut self, entries: &[(Key, Node)], what: &str, known: &[&str]) {
        for (key, _) in entries {
            if known.contains(&key.text.as_str()) || key.text.starts_with("x-") {
                continue;
            }
            let error = Diagnostic::error(key.span, format!("{what} has no key {}", key.text));
            self.diagnostics.push(match nearest(&key.text, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean {near}?")),
                None => error.hint("keys that begin with x- are for anything"),
            });
        }
    }

    /// A text; a number and a truth value are one, too.
    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => {
                self.wrong(node, what, "text");
                None
            }
        }
    }

    /// A truth value, as YAML 1.1 and 1.2 write them, also in quotes.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        let Value::Scalar { text, .. } = &node.value else {
            self.wrong(node, what, "true or false");
            return None;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "0" => Some(false),
            _ => {
                self.wrong(node, what, "true or false");
                None
            }
        }
    }

    /// A list of texts.
    pub fn list(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.value {
            Value::List(list) => list.iter().filter_map(|node| self.text(node, what)).collect(),
            Value::Null => Vec::new(),
            _ => {
                self.wrong(node, what, "a list");
                Vec::new()
            }
        }
    }

    /// One text, or a list of them.
    pub fn one_or_list(&mut self, node: &Node, what: &str) -> Vec<String> {
        match &node.value {
            Value::Scalar { text, .. } => vec![text.clone()],
            _ => self.list(node, what),
        }
    }

    /// A mapping of texts, or a list of `NAME=value`. `None` is a name without a value.
    pub fn pairs(&mut self, node: &Node, what: &str) -> BTreeMap<String, Option<String>> {
        let mut pairs = BTreeMap::new();
        match &node.value {
            Value::List(_) => {
                for entry in self.list(node, what) {
                    let (name, value) = match entry.split_once('=') {
                        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                        None => (entry, None),
                    };
                    pairs.insert(name, value);
                }
            }
            _ => {
                for (key, node) in self.map(node, what) {
                    let value = match node.value {
                        Value::Null => None,
                        _ => self.text(node, &key.text),
                    };
                    pairs.insert(key.text.clone(), value);
                }
            }
        }
        pairs
    }

    fn wrong(&mut self, node: &Node, what: &str, expected: &str) {
        let message = format!("{what} is {}, and must be {expected}", node.kind());
        self.diagnostics
            .push(Diagnostic::error(node.span, message).label(format!("expected {expected}")));
    }
}
