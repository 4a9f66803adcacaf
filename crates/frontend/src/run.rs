//! RUN: a command in the file system that the stage has so far.

use koskit_dockerfile::{CommandLine, Diagnostic, Environment, Heredoc, Place, Run};
use koskit_llb::{Exec, pb};

use crate::Result;
use crate::evaluate::{Evaluator, State};
use crate::step::{DOCUMENTS, Document, Step};

pub(crate) fn evaluate(evaluator: &mut Evaluator<'_, '_>, run: &Run, place: &Place) -> Result<()> {
    let plain = run.network == Default::default() && run.security == Default::default();
    if !run.mounts.is_empty() || !plain {
        let what = "RUN --mount, --network or --security";
        return Err(crate::instructions::refuse(place.keyword.span, what));
    }
    let mut name = place.original.clone();
    let mut document = None;
    let args = match &run.command {
        CommandLine::Exec(words) if words.is_empty() => {
            return Err(nothing(place));
        }
        CommandLine::Shell(word) if word.text.is_empty() => return Err(nothing(place)),
        CommandLine::Shell(word) => match run.heredocs.as_slice() {
            [] => evaluator.in_shell(&word.text),
            [doc] if is_heredoc(&word.text) => {
                name = format!("{name} ({})", summary(&doc.content));
                let data = doc.data();
                if data.starts_with("#!") {
                    let path = format!("{DOCUMENTS}{}", doc.name);
                    let data = data.into_bytes();
                    document = Some(Document { name: doc.name.clone(), mode: 0o755, data });
                    evaluator.in_shell(&path)
                } else {
                    evaluator.in_shell(&data)
                }
            }
            docs => evaluator.in_shell(&with_documents(&word.text, docs)),
        },
        line => evaluator.command_line(line),
    };
    let state = &evaluator.state;
    let exec = Exec {
        args: args.clone(),
        env: state.variables.to_list(),
        cwd: state.workdir().to_owned(),
        user: state.image.config.user.clone(),
        proxy: proxy(evaluator),
        ..Exec::default()
    };
    let history = format!("RUN {} # buildkit", with_args(state, &args));
    evaluator.state.image.note(history, true);
    let note = evaluator.run_step(place, &name);
    evaluator.steps.push(Step::Run { exec: Box::new(exec), document, note });
    Ok(())
}

fn nothing(place: &Place) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(place.span, "there is nothing to run").label("expected a command"))
}

fn is_heredoc(text: &str) -> bool {
    matches!(Heredoc::parse(text), Ok(Some(_)))
}

/// The command line with its here-documents, for a shell that understands them.
fn with_documents(text: &str, docs: &[Heredoc]) -> String {
    let mut out = text.to_owned();
    for doc in docs {
        out.push('\n');
        out.push_str(&doc.content);
        out.push_str(&doc.name);
    }
    out
}

/// The first line of a here-document.
fn summary(content: &str) -> String {
    let mut lines = content.trim().lines();
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        Some(_) => format!("{first}..."),
        None => first.to_owned(),
    }
}

/// The command as the history has it: the ARGs that it sees are named before it.
fn with_args(state: &State, args: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for name in &state.args {
        if !seen.contains(&name.as_str()) {
            seen.push(name);
        }
    }
    let mut words = Vec::new();
    if !seen.is_empty() {
        words.push(format!("|{}", seen.len()));
    }
    for name in seen {
        let value = state.variables.get(name).unwrap_or_default();
        words.push(format!("{name}={value}"));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}

/// Proxies that the user gave as build arguments. They are no part of the step's identity.
fn proxy(evaluator: &Evaluator<'_, '_>) -> Option<pb::ProxyEnv> {
    let mut proxy = pb::ProxyEnv::default();
    let mut any = false;
    for (name, value) in &evaluator.options.build_args {
        let field = match name.to_ascii_lowercase().as_str() {
            "http_proxy" => &mut proxy.http_proxy,
            "https_proxy" => &mut proxy.https_proxy,
            "ftp_proxy" => &mut proxy.ftp_proxy,
            "no_proxy" => &mut proxy.no_proxy,
            "all_proxy" => &mut proxy.all_proxy,
            _ => continue,
        };
        field.clone_from(value);
        any = true;
    }
    any.then_some(proxy)
}
