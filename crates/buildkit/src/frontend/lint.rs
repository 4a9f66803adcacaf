//! What is asked of a frontend besides builds: `docker buildx build --check`, and which requests
//! it knows at all.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::Result as BuildResult;
use koskit_dockerfile::{Diagnostic, Severity};
use koskit_frontend::Check;
use serde_json::{Value, json};

use super::gateway::said;

pub(crate) const LINT: &str = "frontend.lint";
pub(crate) const DESCRIBE: &str = "frontend.subrequests.describe";

/// The requests that there are.
pub(crate) fn describe() -> BuildResult {
    let one = |name: &str, description: &str, metadata: &[&str]| {
        let metadata: Vec<Value> = metadata.iter().map(|name| json!({ "Name": name })).collect();
        json!({ "Name": name, "Version": "1.0.0", "Type": "rpc", "Description": description,
            "Opts": null, "Metadata": metadata, "Refs": null })
    };
    let list = json!([
        one(LINT, "Checks a Dockerfile without building it", &["result.json", "result.txt"]),
        one(DESCRIBE, "Tells which requests there are", &["result.json", "result.txt"]),
    ]);
    let text = format!("{LINT}\tChecks a Dockerfile\n{DESCRIBE}\tTells which requests there are\n");
    result(list.to_string(), text, "1.0.0", 0)
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
    result(document.to_string(), text, "1.0.0", status)
}

fn result(json: String, text: String, version: &str, status: i32) -> BuildResult {
    said(HashMap::from([
        ("result.json".to_owned(), json.into_bytes()),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), version.as_bytes().to_vec()),
        ("result.statuscode".to_owned(), status.to_string().into_bytes()),
    ]))
}
