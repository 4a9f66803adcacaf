//! Rules about how keywords and stages are called.

use std::collections::BTreeSet;

use super::{Findings, Rule};
use crate::{Command, Dockerfile, Place, Stage, Word};

pub(super) fn check(file: &Dockerfile, findings: &mut Findings<'_>) {
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        from(stage, file, findings);
        let Some(name) = &stage.name else { continue };
        if matches!(name.text.as_str(), "scratch" | "context") {
            let message = format!("the name {} has a meaning of its own", name.text);
            let hint = "call the stage something else";
            findings.add(Rule::ReservedStageName, &[], name.span, message, hint);
        }
        if !names.insert(&name.text) {
            let message = format!("there is another stage {} above", name.text);
            let hint = "the later one counts; give each a name of its own";
            findings.add(Rule::DuplicateStageName, &[], name.span, message, hint);
        }
    }
    casing(file, findings);
    for instruction in file.args.iter().chain(file.stages.iter().flat_map(|s| &s.instructions)) {
        let place = &instruction.place;
        match &instruction.command {
            Command::Maintainer(_) => findings.add(
                Rule::MaintainerDeprecated,
                &place.comments,
                place.keyword.span,
                "MAINTAINER is out of use",
                "LABEL org.opencontainers.image.authors=… says the same",
            ),
            Command::Arg(variables) => {
                let names: Vec<_> = variables.iter().map(|v| v.name.text.as_str()).collect();
                description(place, &names, findings);
            }
            _ => {}
        }
    }
}

fn from(stage: &Stage, file: &Dockerfile, findings: &mut Findings<'_>) {
    let comments = &stage.place.comments;
    let from = &stage.place.keyword;
    if let Some(as_word) = stage.as_word.as_ref().filter(|word| !same_case(from, word)) {
        let message =
            format!("{} and {} are not written in the same case", from.text, as_word.text);
        let wanted = match is_lower(&from.text) {
            true => as_word.text.to_lowercase(),
            false => as_word.text.to_uppercase(),
        };
        findings.add(
            Rule::FromAsCasing,
            comments,
            as_word.span,
            message,
            format!("write {wanted}"),
        );
    }
    let Some(name) = &stage.name else { return };
    // The name is in lower case already; the text of the file has it as it was written.
    let written = file.source.text().get(name.span.range()).unwrap_or_default();
    if !is_lower(written) {
        let message = format!("the name {written} of the stage is not in lower case");
        let hint = format!("write {}; names of stages are the same in any case", name.text);
        findings.add(Rule::StageNameCasing, comments, name.span, message, hint);
    }
    description(&stage.place, &[&name.text], findings);
}

/// A keyword that is neither in lower nor in upper case is another rule's business.
fn same_case(from: &Word, as_word: &Word) -> bool {
    match (is_lower(&from.text), is_upper(&from.text)) {
        (true, _) => is_lower(&as_word.text),
        (_, true) => is_upper(&as_word.text),
        _ => true,
    }
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

/// All keywords should be in the case of most of them.
fn casing(file: &Dockerfile, findings: &mut Findings<'_>) {
    let of_stage = |stage: &Stage| {
        let own = stage.instructions.iter().map(|i| i.place.keyword.clone());
        std::iter::once(stage.place.keyword.clone()).chain(own).collect::<Vec<_>>()
    };
    let keywords: Vec<_> = file.stages.iter().flat_map(of_stage).collect();
    let lower = keywords.iter().filter(|word| is_lower(&word.text)).count();
    let upper = keywords.iter().filter(|word| is_upper(&word.text)).count();
    for word in &keywords {
        let wanted = match lower > upper {
            true => word.text.to_lowercase(),
            false => word.text.to_uppercase(),
        };
        if word.text != wanted {
            let message = format!("{} is not in the case of the file's other keywords", word.text);
            let rule = Rule::ConsistentInstructionCasing;
            findings.add(rule, &[], word.span, message, format!("write {wanted}"));
        }
    }
}

/// The last comment right above a definition should describe it.
fn description(place: &Place, names: &[&str], findings: &mut Findings<'_>) {
    let Some(comment) = place.comments.last() else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.is_empty() || names.contains(&first) {
        return;
    }
    let message = "the comment right above does not begin with the name of what it describes";
    let hint = match names {
        [name] => format!("write # {name} and then what it is, or leave a line empty between"),
        _ => "write # NAME and then what it is, or leave a line empty between".to_owned(),
    };
    let rule = Rule::InvalidDefinitionDescription;
    findings.add(rule, &place.comments, place.keyword.span, message, hint);
}
