//! `--name=value` between an instruction's keyword and its arguments.

use crate::{Diagnostic, Node, Span, Word, nearest};

/// The values of the flags that an instruction may have, in the order in which it names them.
pub(crate) struct Flags<const N: usize>([Option<Word>; N]);

impl<const N: usize> Flags<N> {
    /// Reads the flags of an instruction. `known` are those with a value; those in `later`
    /// exist in the language but are not supported.
    pub fn read(node: &Node, known: [&str; N], later: &[&str]) -> Result<Self, Box<Diagnostic>> {
        let mut values = [const { None }; N];
        for flag in &node.flags {
            let (name, value) = split(flag);
            let Some(index) = known.iter().position(|k| *k == name.text) else {
                return Err(Box::new(refused(node, &name, &known, later)));
            };
            let Some(value) = value else {
                let message = format!("--{} needs a value", name.text);
                let label = format!("expected --{}=…", name.text);
                return Err(Box::new(Diagnostic::error(flag.span, message).label(label)));
            };
            if values[index].replace(value).is_some() {
                let message = format!("--{} is given twice", name.text);
                return Err(Box::new(Diagnostic::error(flag.span, message)));
            }
        }
        Ok(Self(values))
    }

    /// The values.
    pub fn take(self) -> [Option<Word>; N] {
        self.0
    }
}

impl Flags<0> {
    /// Refuses all flags.
    pub fn none(node: &Node) -> Result<(), Box<Diagnostic>> {
        Self::read(node, [], &[]).map(|_| ())
    }
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

fn refused(node: &Node, name: &Word, known: &[&str], later: &[&str]) -> Diagnostic {
    let keyword = node.keyword.text.to_ascii_uppercase();
    if later.contains(&name.text.as_str()) {
        let message = format!("{keyword} --{} is not supported yet by koskit", name.text);
        return Diagnostic::error(name.span, message);
    }
    let error = Diagnostic::error(name.span, format!("{keyword} has no flag --{}", name.text));
    let error = match known {
        [] => error.label("expected no flags here"),
        known => error.label(format!("expected --{}", known.join(", --"))),
    };
    match nearest(&name.text, known.iter().chain(later).copied()) {
        Some(near) => error.hint(format!("did you mean --{near}?")),
        None => error,
    }
}
