//! RUN and its flags.

use crate::dockerfile::command_line;
use crate::flags::{Flags, Kind};
use crate::mount;
use crate::problems::Problems;
use crate::{Diagnostic, Network, Node, Run, Security, Word, nearest};

/// Reads a RUN.
pub(crate) fn read(node: &Node) -> Result<Run, Problems> {
    let known = [("mount", Kind::List), ("network", Kind::Value), ("security", Kind::Value)];
    let flags = Flags::read(node, &known)?;
    let mut problems = Vec::new();
    let mounts = flags.list("mount");
    problems.extend(mounts.iter().filter_map(|word| mount::check(word).err().map(|e| *e)));
    let networks =
        [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
    let network = choice(&flags, "network", &networks, &mut problems);
    let securities = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];
    let security = choice(&flags, "security", &securities, &mut problems);
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let (command, heredocs) = (command_line(node), node.heredocs.clone());
    Ok(Run { command, heredocs, mounts, network, security })
}

/// The value of a flag that has a few, or the default.
fn choice<T: Copy + Default>(
    flags: &Flags,
    name: &str,
    known: &[(&str, T)],
    problems: &mut Vec<Diagnostic>,
) -> T {
    let Some(Word { text, span }) = flags.value(name) else { return T::default() };
    if let Some((_, value)) = known.iter().find(|(known, _)| *known == text) {
        return *value;
    }
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    let error = Diagnostic::error(span, format!("--{name} cannot be {text:?}"))
        .label(format!("expected {}", words.join(" or ")));
    problems.push(match nearest(&text, words) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error,
    });
    T::default()
}
