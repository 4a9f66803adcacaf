//! A Dockerfile as a list of instructions, each split into words but not yet understood.
//!
//! The tree has the parts of BuildKit's own, and [`Ast::dump`] prints them in the same form.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::go::go_quote;
use crate::heredoc::{self, Heredoc};
use crate::json::{self, Json};
use crate::line::{Directive, Line, Lines};
use crate::words;
use crate::{Diagnostic, Severity, Source, Span, Word};

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Ast {
    /// The text that the spans point into.
    pub source: Arc<Source>,
    /// `# syntax=…` and its like, in their order.
    pub directives: Vec<Directive>,
    /// The escape character: `\`, or a backtick if a directive says so.
    pub escape: char,
    /// The instructions, in their order. Those with errors are left out.
    pub nodes: Vec<Node>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `FROM`, `RUN`, …, as it is written.
    pub keyword: Word,
    /// `--name=value`, without quotes.
    pub flags: Vec<Word>,
    /// All that is behind the flags.
    pub args: Args,
    /// The whole instruction on one line.
    pub original: String,
    /// The whole instruction; here-documents are not in it.
    pub span: Span,
    /// Its first and last line, with here-documents.
    pub lines: (usize, usize),
    /// Its here-documents.
    pub heredocs: Vec<Heredoc>,
    /// The comments right above it, without the `#`.
    pub comments: Vec<String>,
}

/// The arguments, split as their instruction wants it.
#[derive(Clone, Debug, PartialEq)]
pub enum Args {
    /// Nothing there.
    None,
    /// Of an instruction that is not known.
    Unknown,
    /// Words.
    Words(Vec<Word>),
    /// The strings of a JSON list.
    Json(Vec<Word>),
    /// The rest of the line as it is.
    Text(Word),
    /// `name=value` as often as wanted, or `name value` once.
    Pairs(Vec<Pair>),
    /// `CMD …` or `NONE` of HEALTHCHECK.
    Check(Word, Box<Args>),
    /// The instruction of an ONBUILD.
    Trigger(Box<Node>),
}

/// A name and a value, quotes and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Before the `=`.
    pub name: Word,
    /// Behind it.
    pub value: Word,
    /// False in the old form, which has no `=`.
    pub delimited: bool,
}

impl Ast {
    /// Parses a file. What is wrong with it is in [`Ast::diagnostics`]; the rest of it is
    /// there nevertheless.
    pub fn parse(source: Arc<Source>) -> Self {
        let mut lines = Lines::new(&source);
        let mut nodes = Vec::new();
        while let Some(mut line) = lines.logical() {
            let comments = std::mem::take(&mut line.comments);
            match node(&line, 0..line.text.len(), lines.escape, 0) {
                Ok(mut node) => {
                    node.comments = comments;
                    heredocs(&mut node, &line, &mut lines);
                    node.lines.1 = lines.number();
                    nodes.push(node);
                }
                Err(diagnostic) => lines.diagnostics.push(*diagnostic),
            }
        }
        let failed = lines.diagnostics.iter().any(|d| d.severity == Severity::Error);
        if nodes.is_empty() && !failed {
            let end = source.text().len();
            lines.diagnostics.push(
                Diagnostic::error(Span::new(end, end), "the file has no instructions")
                    .label("expected FROM"),
            );
        }
        let Lines { escape, directives, mut diagnostics, .. } = lines;
        diagnostics.sort_by_key(|d| d.span.start);
        Self { directives, escape, nodes, diagnostics, source }
    }

    /// The value of a parser directive.
    pub fn directive(&self, name: &str) -> Option<&Word> {
        self.directives.iter().find(|d| d.name.text == name).map(|d| &d.value)
    }

    /// Whether any of the diagnostics is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// The tree as BuildKit's parser prints it: one S-expression for each instruction.
    pub fn dump(&self) -> String {
        let all: Vec<_> = self.nodes.iter().map(|node| format!("({})", node.dump())).collect();
        all.join("\n")
    }
}

impl Node {
    fn dump(&self) -> String {
        let mut out = self.keyword.text.to_lowercase();
        if !self.flags.is_empty() {
            let flags: Vec<_> = self.flags.iter().map(|f| go_quote(&f.text)).collect();
            let _ = write!(out, " [{}]", flags.join(" "));
        }
        self.args.dump(&mut out);
        out.trim().to_owned()
    }
}

impl Args {
    fn dump(&self, out: &mut String) {
        let mut word = |text: &str| {
            out.push(' ');
            out.push_str(&go_quote(text));
        };
        match self {
            Args::None => {}
            Args::Unknown => word(""),
            Args::Words(words) | Args::Json(words) => words.iter().for_each(|w| word(&w.text)),
            Args::Text(text) => word(&text.text),
            Args::Pairs(pairs) => {
                for pair in pairs {
                    word(&pair.name.text);
                    word(&pair.value.text);
                    word(if pair.delimited { "=" } else { "" });
                }
            }
            Args::Check(kind, command) => {
                word(&kind.text);
                command.dump(out);
            }
            Args::Trigger(node) => {
                let _ = write!(out, " ({})", node.dump());
            }
        }
    }

    /// The words, if they are words or a JSON list.
    pub fn words(&self) -> &[Word] {
        match self {
            Args::Words(words) | Args::Json(words) => words,
            _ => &[],
        }
    }

    /// Whether they were a JSON list.
    pub fn is_json(&self) -> bool {
        match self {
            Args::Json(_) => true,
            Args::Check(_, command) => command.is_json(),
            _ => false,
        }
    }
}

type Result<T> = std::result::Result<T, Box<Diagnostic>>;

/// ONBUILD in ONBUILD is an error later; deeper than this it is one here, so that no text can
/// exhaust the stack.
const MAX_DEPTH: usize = 100;

/// Reads one instruction, which is that deep in others.
fn node(line: &Line, range: Range<usize>, escape: char, depth: usize) -> Result<Node> {
    let range = words::trim(line, range);
    let (keyword, rest) = words::split_first(line, range.clone());
    let keyword = line.word(keyword);
    let (flags, rest) = match rest {
        Some(rest) => words::split_flags(line, rest, escape),
        None => (Vec::new(), range.end..range.end),
    };
    let rest = words::trim(line, rest);
    let args = match keyword.text.to_ascii_lowercase().as_str() {
        "add" | "copy" | "volume" => {
            json_or(line, rest, |line, rest| Args::Words(words::split_blanks(line, rest)))?
        }
        "cmd" | "entrypoint" | "run" | "shell" => {
            json_or(line, rest, |line, rest| Args::Text(line.word(rest)))?
        }
        "arg" => match words::split_quoted(line, rest, escape) {
            words if words.is_empty() => Args::None,
            words => Args::Words(words),
        },
        "env" | "label" => pairs(line, rest, escape, &keyword)?,
        _ if rest.is_empty() && is_known(&keyword.text) => Args::None,
        "expose" | "from" => Args::Words(words::split_blanks(line, rest)),
        "maintainer" | "stopsignal" | "user" | "workdir" => Args::Text(line.word(rest)),
        "healthcheck" => check(line, rest)?,
        "onbuild" if depth < MAX_DEPTH => {
            Args::Trigger(Box::new(node(line, rest, escape, depth + 1)?))
        }
        "onbuild" => return Err(too_deep(line, rest)),
        _ => Args::Unknown,
    };
    Ok(Node {
        keyword,
        flags,
        args,
        original: line.text[range.clone()].to_owned(),
        span: line.span(range),
        lines: (line.first, line.last),
        heredocs: Vec::new(),
        comments: Vec::new(),
    })
}

fn too_deep(line: &Line, range: Range<usize>) -> Box<Diagnostic> {
    let error = Diagnostic::error(line.span(range), "ONBUILD cannot have another ONBUILD in it");
    Box::new(error.label("expected another instruction"))
}

pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn is_known(keyword: &str) -> bool {
    KEYWORDS.iter().any(|k| k.eq_ignore_ascii_case(keyword))
}

fn json_or(
    line: &Line,
    range: Range<usize>,
    or: impl FnOnce(&Line, Range<usize>) -> Args,
) -> Result<Args> {
    match json::read(line, range.clone()) {
        Json::Strings(strings) => Ok(Args::Json(strings)),
        Json::Other => Err(Box::new(
            Diagnostic::error(line.span(range), "a list of arguments must hold strings only")
                .label("expected [\"…\", \"…\"]")
                .hint("put each argument into double quotes"),
        )),
        Json::No if range.is_empty() => Ok(Args::None),
        Json::No => Ok(or(line, range)),
    }
}

fn pairs(line: &Line, range: Range<usize>, escape: char, keyword: &Word) -> Result<Args> {
    let all = words::split_quoted(line, range.clone(), escape);
    let Some(first) = all.first() else { return Ok(Args::None) };
    let name = keyword.text.to_uppercase();
    if !first.text.contains('=') {
        // The old form: the rest of the line is the value.
        let (first, Some(rest)) = words::split_first(line, range.clone()) else {
            return Err(Box::new(
                Diagnostic::error(line.span(range), format!("{name} needs a name and a value"))
                    .label("expected name=value"),
            ));
        };
        let pair = Pair { name: line.word(first), value: line.word(rest), delimited: false };
        return Ok(Args::Pairs(vec![pair]));
    }
    let mut pairs = Vec::new();
    for word in all {
        let Some((name, value)) = word.text.split_once('=') else {
            return Err(Box::new(
                Diagnostic::error(word.span, format!("{:?} is no name=value", word.text))
                    .label("expected a = in it")
                    .hint("put a value with spaces into quotes: name=\"some value\""),
            ));
        };
        // The text of a word differs from the source at its end at most, if at all.
        let split = (word.span.start + name.len()).min(word.span.end);
        pairs.push(Pair {
            name: Word { text: name.into(), span: Span::new(word.span.start, split) },
            value: Word {
                text: value.into(),
                span: Span::new((split + 1).min(word.span.end), word.span.end),
            },
            delimited: true,
        });
    }
    Ok(Args::Pairs(pairs))
}

fn check(line: &Line, range: Range<usize>) -> Result<Args> {
    let text = &line.text[range.clone()];
    let kind = text.find(char::is_whitespace).unwrap_or(text.len());
    let rest = range.end - text[kind..].trim_start().len();
    let kind = line.word(range.start..range.start + kind);
    let command = json_or(line, rest..range.end, |line, rest| Args::Text(line.word(rest)))?;
    Ok(Args::Check(kind, Box::new(command)))
}

/// Reads the here-documents that an instruction begins from the lines below it.
fn heredocs(node: &mut Node, line: &Line, lines: &mut Lines<'_>) {
    let inner = match &node.args {
        Args::Trigger(inner) => inner,
        _ => &*node,
    };
    let takes = ["add", "copy", "run"].iter().any(|k| inner.keyword.text.eq_ignore_ascii_case(k));
    if !takes || inner.args.is_json() || !line.text.contains("<<") {
        return;
    }
    let at = line.text.find("<<").map_or(0..0, |i| i..i + 2);
    let docs = match heredoc::in_line(&line.text) {
        Ok(docs) => docs,
        Err(error) => {
            lines.diagnostics.push(Diagnostic::error(line.span(at), error.to_string()));
            return;
        }
    };
    for mut doc in docs {
        doc.span = Span::default();
        let mut ended = false;
        while let Some((start, text)) = lines.physical() {
            if doc.span == Span::default() {
                doc.span = Span::new(start, start);
            }
            if doc.ends_at(text) {
                ended = true;
                break;
            }
            doc.content.push_str(text);
            doc.span.end = start + text.len();
        }
        if !ended {
            let message = format!("the here-document {:?} does not end", doc.name);
            lines.diagnostics.push(
                Diagnostic::error(line.span(at.clone()), message)
                    .label("it begins here")
                    .hint(format!("a line with nothing but {} ends it", doc.name)),
            );
            return;
        }
        node.heredocs.push(doc);
    }
}
