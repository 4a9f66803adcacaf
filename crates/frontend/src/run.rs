//! RUN: a command in the file system that the stage has so far.

use koskit_dockerfile::{
    CommandLine, Diagnostic, Environment, Heredoc, Network, Place, Run, Security,
};
use koskit_llb::{Exec, Mount, MountKind, SecretMount, pb};

use crate::Result;
use crate::evaluate::{Evaluator, State};
use crate::mount;
use crate::step::{DOCUMENTS, Document, From, Mounted, Step};
use crate::variables::Variables;

pub(crate) fn evaluate(evaluator: &mut Evaluator<'_, '_>, run: &Run, place: &Place) -> Result<()> {
    let mut name = place.original.clone();
    let mut mounted = Vec::new();
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
                if doc.content.starts_with("#!") {
                    let path = format!("{DOCUMENTS}{}", doc.name);
                    mounted.push(script(&doc.name, data));
                    evaluator.in_shell(&path)
                } else {
                    evaluator.in_shell(&data)
                }
            }
            docs => evaluator.in_shell(&with_documents(&word.text, docs)),
        },
        line => evaluator.command_line(line),
    };
    // A command may look at anything.
    evaluator.need_own();
    let mounts = mount::read(evaluator, &run.mounts, place)?;
    mounted.extend(mounts.mounted);
    let options = evaluator.options;
    let mut temporary = Vec::new();
    if options.shm_size > 0 {
        temporary.push(Mount {
            target: "/dev/shm".into(),
            source: None,
            selector: String::new(),
            readonly: false,
            kind: MountKind::Tmpfs { size: options.shm_size },
        });
    }
    let state = &evaluator.state;
    let exec = Exec {
        args: args.clone(),
        env: state.variables.to_list(),
        cwd: state.workdir().to_owned(),
        user: state.image.config.user.clone(),
        hostname: options.hostname(),
        network: match run.network {
            Network::Default => options.network,
            Network::None => pb::NetMode::None,
            Network::Host => pb::NetMode::Host,
        },
        security: match run.security {
            Security::Sandbox => pb::SecurityMode::Sandbox,
            Security::Insecure => pb::SecurityMode::Insecure,
        },
        proxy: proxy(evaluator),
        extra_hosts: options.extra_hosts.clone(),
        ulimits: options.ulimits.clone(),
        cgroup_parent: options.cgroup_parent.clone(),
        devices: Vec::new(),
        mounts: temporary,
        secrets: mounts.secrets,
        ssh: mounts.ssh,
    };
    let history = format!("RUN {} # buildkit", with_args(state, &args));
    let variables = Masked { variables: state.variables.clone(), secrets: &exec.secrets };
    let note = evaluator.run_step(place, &name, &variables);
    evaluator.state.image.note(history, true);
    evaluator.steps.push(Step::Run { exec: Box::new(exec), mounts: mounted, note });
    Ok(())
}

/// The variables that a RUN is named with: a secret is told to be one.
struct Masked<'a> {
    variables: Variables,
    secrets: &'a [SecretMount],
}

impl Environment for Masked<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match self.secrets.iter().any(|secret| secret.env.as_deref() == Some(name)) {
            true => Some("****"),
            false => self.variables.get(name),
        }
    }
}

/// A here-document that is a program itself.
fn script(name: &str, data: String) -> Mounted {
    let document = Document { name: name.to_owned(), mode: 0o755, data: data.into_bytes() };
    let mount = Mount {
        target: DOCUMENTS.into(),
        source: None,
        selector: "/".into(),
        readonly: true,
        kind: MountKind::Bind,
    };
    Mounted { from: From::Document(Box::new(document)), directory: None, mount }
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
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (name, own) in &state.args {
        let value = state.variables.get(name).or(own.as_deref()).unwrap_or_default();
        match seen.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => seen.push((name, value)),
        }
    }
    let count = (!seen.is_empty()).then(|| format!("|{}", seen.len()));
    let seen = seen.iter().map(|(name, value)| format!("{name}={value}"));
    count.into_iter().chain(seen).chain(args.iter().cloned()).collect::<Vec<_>>().join(" ")
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
