//! `--name=value` between an instruction's keyword and its arguments.

use crate::problems::Problems;
use crate::{Diagnostic, Node, Span, Word, nearest};

/// What may be behind a flag's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value, once.
    Value,
    /// A value, as often as wanted.
    List,
    /// Nothing, `=true` or `=false`.
    Switch,
}

/// A flag that an instruction may have.
pub(crate) type Known = (&'static str, Kind);

/// The flags of an instruction, checked against those that it may have.
#[derive(Debug, Default)]
pub(crate) struct Flags(Vec<(&'static str, Word)>);

impl Flags {
    /// Reads the flags of an instruction.
    ///
    /// # Errors
    /// All of them that are wrong.
    pub fn read(node: &Node, known: &[Known]) -> Result<Self, Problems> {
        let mut flags = Self::default();
        let mut problems = Vec::new();
        for flag in &node.flags {
            match flags.add(node, flag, known) {
                Ok(()) => {}
                Err(diagnostic) => problems.push(*diagnostic),
            }
        }
        if problems.is_empty() { Ok(flags) } else { Err(Problems(problems)) }
    }

    /// Refuses all flags.
    pub fn none(node: &Node) -> Result<(), Problems> {
        Self::read(node, &[]).map(|_| ())
    }

    fn add(&mut self, node: &Node, flag: &Word, known: &[Known]) -> Result<(), Box<Diagnostic>> {
        let (name, value) = split(flag);
        let Some(&(known, kind)) = known.iter().find(|(known, _)| *known == name.text) else {
            return Err(Box::new(unknown(node, &name, known)));
        };
        let value = match (kind, value) {
            (Kind::Value | Kind::List, None) => {
                let message = format!("--{known} needs a value");
                let label = format!("expected --{known}=…");
                return Err(Box::new(Diagnostic::error(flag.span, message).label(label)));
            }
            (Kind::Switch, None) => Word { text: "true".into(), span: flag.span },
            (Kind::Switch, Some(value)) => switch(known, value)?,
            (_, Some(value)) => value,
        };
        if kind != Kind::List && self.value(known).is_some() {
            let message = format!("--{known} is given twice");
            return Err(Box::new(
                Diagnostic::error(flag.span, message).hint("one of the two is enough"),
            ));
        }
        self.0.push((known, value));
        Ok(())
    }

    /// The value of a flag.
    pub fn value(&self, name: &str) -> Option<Word> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    /// All values of a flag, in their order.
    pub fn list(&self, name: &str) -> Vec<Word> {
        let values = self.0.iter().filter(|(known, _)| *known == name);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Whether a switch is on; `None` where it is not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|word| word.text == "true")
    }
}

/// The value of a switch, in lower case.
fn switch(name: &str, value: Word) -> Result<Word, Box<Diagnostic>> {
    let text = value.text.to_ascii_lowercase();
    if matches!(text.as_str(), "true" | "false") {
        return Ok(Word { text, span: value.span });
    }
    let message = format!("--{name} is a switch, and {:?} is neither on nor off", value.text);
    Err(Box::new(Diagnostic::error(value.span, message).label("expected true or false")))
}

/// Name and value. The text of a flag lacks its quotes, so only where it has none, the place
/// of the value alone is known.
fn split(flag: &Word) -> (Word, Option<Word>) {
    let text = flag.text.strip_prefix("--").unwrap_or(&flag.text);
    let exact = flag.text.len() == flag.span.end - flag.span.start;
    let Some((name, value)) = text.split_once('=') else {
        return (Word { text: text.into(), span: flag.span }, None);
    };
    let split = flag.span.end.saturating_sub(value.len());
    let (before, after) = match exact {
        true => (Span::new(flag.span.start, split - 1), Span::new(split, flag.span.end)),
        false => (flag.span, flag.span),
    };
    let name = Word { text: name.into(), span: before };
    (name, Some(Word { text: value.into(), span: after }))
}

fn unknown(node: &Node, name: &Word, known: &[Known]) -> Diagnostic {
    let keyword = node.keyword.text.to_ascii_uppercase();
    let error = Diagnostic::error(name.span, format!("{keyword} has no flag --{}", name.text));
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let error = match names.as_slice() {
        [] => error.label("expected no flags here"),
        names => error.label(format!("expected --{}", names.join(", --"))),
    };
    match nearest(&name.text, names) {
        Some(near) => error.hint(format!("did you mean --{near}?")),
        None => error,
    }
}
