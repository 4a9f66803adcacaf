//! A Dockerfile that is understood: stages of typed instructions.

use std::sync::Arc;

use crate::ast::KEYWORDS;
use crate::flags::{Flags, Kind};
use crate::instruction::{Command, CommandLine, Instruction, Place, Stage, Variable};
use crate::problems::Problems;
use crate::{
    Args, Ast, Diagnostic, Directive, Errors, Node, Pair, Severity, Source, Span, Word, copy,
    healthcheck, nearest, run,
};

/// A whole file.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The text that the spans point into.
    pub source: Arc<Source>,
    /// `# syntax=…` and its like, in their order.
    pub directives: Vec<Directive>,
    /// The escape character: `\`, or a backtick if a directive says so.
    pub escape: char,
    /// The ARGs before the first FROM.
    pub args: Vec<Instruction>,
    /// The stages, in their order; there is at least one.
    pub stages: Vec<Stage>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
}

impl Dockerfile {
    /// Parses a file.
    ///
    /// # Errors
    /// All that is wrong with it, warnings included.
    pub fn parse(source: Arc<Source>) -> Result<Self, Errors> {
        let Ast { source, directives, escape, nodes, mut diagnostics } = Ast::parse(source);
        let mut args = Vec::new();
        let mut stages: Vec<Stage> = Vec::new();
        // What stands before a FROM that is itself wrong is not wrong for that.
        let mut orphans = Vec::new();
        let mut broken_from = false;
        for node in &nodes {
            if node.keyword.text.eq_ignore_ascii_case("from") {
                match from(node) {
                    Ok(stage) => stages.push(stage),
                    Err(problems) => {
                        broken_from = true;
                        diagnostics.extend(problems.0);
                    }
                }
                continue;
            }
            match command(node) {
                Err(problems) => diagnostics.extend(problems.0),
                Ok(command) => {
                    let instruction = Instruction { command, place: place(node) };
                    match (stages.last_mut(), &instruction.command) {
                        (Some(stage), _) => stage.instructions.push(instruction),
                        (None, Command::Arg(_)) => args.push(instruction),
                        (None, _) => orphans.push(node.keyword.clone()),
                    }
                }
            }
        }
        if let Some(first) = orphans.first().filter(|_| !broken_from) {
            diagnostics.push(
                Diagnostic::error(first.span, "the file does not begin with FROM")
                    .label("expected FROM or ARG")
                    .hint("FROM scratch begins with an empty image"),
            );
        }
        if stages.is_empty() && !diagnostics.iter().any(failed) {
            let end = Span::new(source.text().len(), source.text().len());
            diagnostics.push(
                Diagnostic::error(end, "the file has no FROM, so there is nothing to build")
                    .label("expected FROM")
                    .hint("FROM scratch begins with an empty image"),
            );
        }
        diagnostics.sort_by_key(|d| d.span.start);
        if diagnostics.iter().any(failed) {
            return Err(Errors { source, diagnostics });
        }
        Ok(Self { source, directives, escape, args, stages, warnings: diagnostics })
    }
}

impl Instruction {
    /// Parses one instruction: what an ONBUILD has left in an image. Places in it are those
    /// in `text`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, Diagnostic> {
        let ast = Ast::parse(Arc::new(Source::new("ONBUILD", text)));
        if let Some(error) = ast.diagnostics.into_iter().find(failed) {
            return Err(error);
        }
        let [node] = ast.nodes.as_slice() else {
            let all = Span::new(0, text.len());
            return Err(Diagnostic::error(all, "an ONBUILD has more than one instruction"));
        };
        allowed_as_trigger(node).map_err(|error| *error)?;
        let command = command(node).map_err(|mut problems| problems.0.swap_remove(0))?;
        Ok(Self { command, place: place(node) })
    }
}

fn failed(diagnostic: &Diagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

type Result<T, E = Box<Diagnostic>> = std::result::Result<T, E>;

fn place(node: &Node) -> Place {
    Place {
        original: node.original.clone(),
        span: node.span,
        lines: node.lines,
        keyword: node.keyword.clone(),
        comments: node.comments.clone(),
    }
}

fn from(node: &Node) -> Result<Stage, Problems> {
    let flags = Flags::read(node, &[("platform", Kind::Value)])?;
    let words = words(node, "an image name or a stage, or scratch")?;
    let name = match words {
        [_] => None,
        [_, word, name] if word.text.eq_ignore_ascii_case("as") => Some(stage_name(name)?),
        [_, word] if word.text.eq_ignore_ascii_case("as") => {
            let end = Span::new(word.span.end, word.span.end);
            let error = Diagnostic::error(end, "AS lacks the stage's name");
            return Err(error.label("expected a name").into());
        }
        [_, word, rest @ ..] => {
            let span = rest.last().map_or(word.span, |last| word.span.to(last.span));
            return Err(Diagnostic::error(span, "there is something after the image's name")
                .label("expected AS and a name, or the end of the line")
                .into());
        }
        [] => unreachable!("`words` gives one word at least"),
    };
    Ok(Stage {
        base: words[0].clone(),
        name,
        as_word: words.get(1).cloned(),
        platform: flags.value("platform"),
        place: place(node),
        instructions: Vec::new(),
    })
}

fn stage_name(word: &Word) -> Result<Word> {
    let text = word.text.to_lowercase();
    let valid = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if valid {
        return Ok(Word { text, span: word.span });
    }
    fail(
        Diagnostic::error(word.span, format!("{:?} cannot be the name of a stage", word.text))
            .label("expected a letter, then letters, digits, - _ or ."),
    )
}

fn command(node: &Node) -> Result<Command, Problems> {
    let keyword = node.keyword.text.to_ascii_uppercase();
    let plain = || Flags::none(node);
    Ok(match keyword.as_str() {
        "ADD" => Command::Add(copy::add(node)?),
        "ARG" => {
            plain()?;
            Command::Arg(
                words(node, "a name or name=value")?.iter().map(variable).collect::<Result<_>>()?,
            )
        }
        "CMD" => {
            plain()?;
            Command::Cmd(command_line(node))
        }
        "COPY" => Command::Copy(copy::copy(node)?),
        "ENTRYPOINT" => {
            plain()?;
            Command::Entrypoint(command_line(node))
        }
        "ENV" => {
            plain()?;
            Command::Env(pairs(node)?)
        }
        "EXPOSE" => {
            plain()?;
            Command::Expose(words(node, "a port, such as 8080 or 53/udp")?.to_vec())
        }
        "HEALTHCHECK" => Command::Healthcheck(healthcheck::read(node)?),
        "LABEL" => {
            plain()?;
            Command::Label(pairs(node)?)
        }
        "MAINTAINER" => {
            plain()?;
            Command::Maintainer(text(node, "the author's name")?)
        }
        "ONBUILD" => {
            plain()?;
            Command::Onbuild(trigger(node)?)
        }
        "RUN" => Command::Run(run::read(node)?),
        "SHELL" => {
            plain()?;
            Command::Shell(shell(node)?)
        }
        "STOPSIGNAL" => {
            plain()?;
            Command::StopSignal(text(node, "a signal, such as SIGTERM or 15")?)
        }
        "USER" => {
            plain()?;
            Command::User(text(node, "a user or user:group")?)
        }
        "VOLUME" => {
            plain()?;
            Command::Volume(volumes(node)?)
        }
        "WORKDIR" => {
            plain()?;
            Command::Workdir(text(node, "a path")?)
        }
        _ => return Err(unknown(node).into()),
    })
}

fn fail<T>(diagnostic: Diagnostic) -> Result<T> {
    Err(Box::new(diagnostic))
}

fn unknown(node: &Node) -> Box<Diagnostic> {
    let word = &node.keyword;
    let error = Diagnostic::error(word.span, format!("there is no instruction {}", word.text))
        .label("expected an instruction");
    Box::new(match nearest(&word.text, KEYWORDS) {
        Some(known) => error.hint(format!("did you mean {known}?")),
        None => error.hint("a line that belongs to the one above needs a \\ at the end of that"),
    })
}

/// What an instruction needs and does not have.
fn missing(node: &Node, what: &str) -> Box<Diagnostic> {
    let name = node.keyword.text.to_ascii_uppercase();
    let end = Span::new(node.span.end, node.span.end);
    Box::new(
        Diagnostic::error(end, format!("{name} needs an argument"))
            .label(format!("expected {what}")),
    )
}

fn words<'a>(node: &'a Node, what: &str) -> Result<&'a [Word]> {
    match &node.args {
        Args::Words(words) | Args::Json(words) if !words.is_empty() => Ok(words),
        _ => Err(missing(node, what)),
    }
}

fn text(node: &Node, what: &str) -> Result<Word> {
    match &node.args {
        Args::Text(word) => Ok(word.clone()),
        _ => Err(missing(node, what)),
    }
}

fn pairs(node: &Node) -> Result<Vec<Pair>> {
    let Args::Pairs(pairs) = &node.args else { return Err(missing(node, "name=value")) };
    match pairs.iter().find(|pair| pair.name.text.is_empty()) {
        Some(pair) => Err(no_name(pair.name.span)),
        None => Ok(pairs.clone()),
    }
}

fn no_name(span: Span) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(span, "there is nothing before the =").label("expected a name"))
}

fn variable(word: &Word) -> Result<Variable> {
    let Some((name, default)) = word.text.split_once('=') else {
        return Ok(Variable { name: word.clone(), default: None });
    };
    if name.is_empty() {
        return Err(no_name(word.span));
    }
    let split = (word.span.start + name.len()).min(word.span.end);
    let name = Word { text: name.into(), span: Span::new(word.span.start, split) };
    let span = Span::new((split + 1).min(word.span.end), word.span.end);
    Ok(Variable { name, default: Some(Word { text: default.into(), span }) })
}

fn shell(node: &Node) -> Result<Vec<Word>> {
    match &node.args {
        Args::Json(words) if !words.is_empty() => Ok(words.clone()),
        Args::Text(word) => fail(
            Diagnostic::error(word.span, "SHELL takes a list")
                .label("expected [\"program\", \"argument\"]"),
        ),
        _ => Err(missing(node, "[\"program\", \"argument\"]")),
    }
}

/// The instruction of an ONBUILD, with its here-documents. It is checked here, so that a
/// mistake is found where it is made.
fn trigger(node: &Node) -> Result<String, Problems> {
    let Args::Trigger(inner) = &node.args else {
        return Err(missing(node, "an instruction").into());
    };
    allowed_as_trigger(inner)?;
    command(&Node { heredocs: node.heredocs.clone(), ..(**inner).clone() })?;
    let mut text = inner.original.clone();
    for doc in &node.heredocs {
        text = format!("{text}\n{}{}", doc.content, doc.name);
    }
    Ok(text)
}

fn allowed_as_trigger(node: &Node) -> Result<()> {
    let keyword = node.keyword.text.to_ascii_uppercase();
    if !matches!(keyword.as_str(), "FROM" | "MAINTAINER" | "ONBUILD") {
        return Ok(());
    }
    fail(
        Diagnostic::error(node.keyword.span, format!("{keyword} cannot be in an ONBUILD"))
            .label("expected another instruction"),
    )
}

pub(crate) fn command_line(node: &Node) -> CommandLine {
    match &node.args {
        Args::Json(words) => CommandLine::Exec(words.clone()),
        Args::Text(word) => CommandLine::Shell(word.clone()),
        _ => CommandLine::Shell(Word {
            text: String::new(),
            span: Span::new(node.span.end, node.span.end),
        }),
    }
}

fn volumes(node: &Node) -> Result<Vec<Word>> {
    let words = words(node, "a path")?;
    match words.iter().find(|word| word.text.trim().is_empty()) {
        Some(word) => {
            fail(Diagnostic::error(word.span, "a volume has no path").label("expected a path"))
        }
        None => Ok(words.to_vec()),
    }
}
