//! `koskit build --check`: what is wrong with a Dockerfile or should be different.

use crate::build::arguments::CheckFormat;
use crate::error::Silent;
use crate::output::{self, Paint};
use anyhow::Result;
use koskit_dockerfile::{Diagnostic, Severity, Source};
use koskit_frontend::{Check, ImageResolver, Options};
use serde_json::{Value, json};

/// Checks a Dockerfile and prints what was found.
///
/// # Errors
/// There are findings, which are told already and are no error where `ignore` says so, or the
/// check cannot be done.
pub fn check(
    dockerfile: Source,
    options: &Options,
    images: &dyn ImageResolver,
    format: CheckFormat,
    ignore: bool,
) -> Result<()> {
    let check = koskit_frontend::check(dockerfile, options, images)?;
    match format {
        CheckFormat::Text => output::print(&text(&check))?,
        CheckFormat::Json => output::print(&format!("{:#}\n", document(&check)))?,
    }
    if ignore || check.is_clean() { Ok(()) } else { Err(Silent.into()) }
}

fn text(check: &Check) -> String {
    let mut out = String::new();
    for diagnostic in &check.diagnostics {
        out.push_str(&diagnostic.render(&check.source, Paint::stdout().is_on()));
        if let Some(url) = diagnostic.rule.and_then(|rule| rule.url()) {
            out.push_str(&format!("  = {url}\n"));
        }
        out.push('\n');
    }
    let count = |severity| check.diagnostics.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let number = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    out + &match (errors, warnings) {
        (0, 0) => format!("{}: nothing to be said\n", check.source.name()),
        (0, _) => format!("{}\n", number(warnings, "warning")),
        (_, 0) => format!("{}\n", number(errors, "error")),
        _ => format!("{} and {}\n", number(errors, "error"), number(warnings, "warning")),
    }
}

/// In the shape of BuildKit's own: `warnings` with `ruleName`, `detail` and `location`.
fn document(check: &Check) -> Value {
    let finding = |d: &Diagnostic| {
        let ranges: Vec<_> = check
            .source
            .lines(d.span)
            .map(|line| json!({ "start": { "line": line }, "end": { "line": line } }))
            .collect();
        json!({
            "ruleName": d.rule.map(|rule| rule.name()),
            "url": d.rule.and_then(|rule| rule.url()),
            "severity": if d.severity == Severity::Error { "error" } else { "warning" },
            "detail": d.message,
            "hint": d.hint,
            "location": { "ranges": ranges },
        })
    };
    // An error that is no rule's stops a build of BuildKit, too.
    let (rules, errors): (Vec<_>, Vec<_>) =
        check.diagnostics.iter().partition(|d| d.rule.is_some());
    json!({
        "file": check.source.name(),
        "warnings": rules.into_iter().map(finding).collect::<Vec<_>>(),
        "errors": errors.into_iter().map(finding).collect::<Vec<_>>(),
    })
}
