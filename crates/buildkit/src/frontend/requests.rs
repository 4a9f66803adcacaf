//! What is asked of a frontend besides builds: `docker buildx build --call`, and which requests
//! it knows at all. The answers are BuildKit's, for programs and for people.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::Result as BuildResult;
use koskit_dockerfile::{Diagnostic, Severity};
use koskit_frontend::{Check, Outline, Targets};
use serde_json::{Value, json};

use super::gateway::said;

pub(crate) const LINT: &str = "frontend.lint";
pub(crate) const OUTLINE: &str = "frontend.outline";
pub(crate) const TARGETS: &str = "frontend.targets";
pub(crate) const DESCRIBE: &str = "frontend.subrequests.describe";

/// The version of all requests, and of what is answered.
const VERSION: &str = "1.0.0";

/// The requests that there are, with BuildKit's descriptions.
const ALL: [(&str, &str); 4] = [
    (OUTLINE, "List all parameters current build target supports"),
    (TARGETS, "List all targets current build supports"),
    (LINT, "Lint a Dockerfile"),
    (DESCRIBE, "List available subrequest types"),
];

/// The requests that there are.
pub(crate) fn describe() -> BuildResult {
    let named = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|name| json!({ "name": name, "description": "" })).collect()
    };
    let one = |(name, description): &(&str, &str)| {
        let options = if *name == OUTLINE { named(&["target"]) } else { Vec::new() };
        let mut metadata = vec!["result.json", "result.txt"];
        if *name == LINT {
            metadata.push("result.statuscode");
        }
        json!({ "name": name, "version": VERSION, "type": "rpc", "description": description,
            "opts": options, "inputs": null, "metadata": named(&metadata), "refs": null })
    };
    let list: Value = ALL.iter().map(one).collect();
    let names = ALL.iter().map(|(name, _)| name.trim_start_matches("frontend."));
    let width = names.clone().map(str::len).max().unwrap_or(0);
    let mut text = format!("{:width$} VERSION DESCRIPTION\n", "NAME");
    for (name, (_, description)) in names.zip(&ALL) {
        text += &format!("{name:width$} {VERSION:7} {description}\n");
    }
    result(list.to_string(), text)
}

/// Which requests there are, for who has asked for another.
pub(crate) fn known() -> String {
    ALL.map(|(name, _)| name).join(", ")
}

/// What a target takes.
pub(crate) fn outline(outline: &Outline) -> BuildResult {
    result(serde_json::to_string(outline).expect("it is JSON"), outline.to_string())
}

/// Which targets there are.
pub(crate) fn targets(targets: &Targets) -> BuildResult {
    result(serde_json::to_string(targets).expect("it is JSON"), targets.to_string())
}

/// The findings, in BuildKit's form.
pub(crate) fn lint(check: &Check) -> BuildResult {
    let source = &check.source;
    let location = |finding: &Diagnostic| {
        let range = |line: usize| json!({ "start": { "line": line }, "end": { "line": line } });
        let ranges: Vec<Value> = source.lines(finding.span).map(range).collect();
        json!({ "ranges": ranges })
    };
    let is_error = |finding: &&Diagnostic| finding.severity == Severity::Error;
    let warnings: Vec<Value> = check
        .diagnostics
        .iter()
        .filter(|d| !is_error(d))
        .map(|d| {
            json!({
                "ruleName": d.rule.map(|rule| rule.name()).unwrap_or_default(),
                "description": d.message,
                "url": d.rule.and_then(|rule| rule.url()),
                "detail": d.message,
                "location": location(d),
            })
        })
        .collect();
    let error = check.diagnostics.iter().find(is_error);
    let error = error.map(|d| json!({ "message": d.message, "location": location(d) }));
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(source.text());
    let document = json!({
        "warnings": warnings,
        "sources": [{ "filename": source.name(), "language": "Dockerfile", "data": data }],
        "error": error,
    });
    let text: String = check.diagnostics.iter().map(|d| d.render(source, false) + "\n").collect();
    let status = i32::from(!check.is_clean());
    let mut answer = result(document.to_string(), text);
    answer.metadata.insert("result.statuscode".to_owned(), status.to_string().into_bytes());
    answer
}

fn result(json: String, text: String) -> BuildResult {
    said(HashMap::from([
        ("result.json".to_owned(), json.into_bytes()),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), VERSION.as_bytes().to_vec()),
    ]))
}
