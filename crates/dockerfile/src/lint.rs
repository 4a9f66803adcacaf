//! BuildKit's build checks: what a Dockerfile may do and rather should not.
//!
//! The rules have BuildKit's names, so that `# check=skip=…` in a file means the same to both.
//! [`lint`] looks at a file in two ways:
//! - `names`: at what is written, whatever the variables are;
//! - `stages`: at the stages one after the other, with the variables that are set at each
//!   instruction. What is to be known of images and of the context, it asks [`Surroundings`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{Diagnostic, Dockerfile, Severity, Span};

mod names;
mod options;
mod rule;
mod stages;

pub use rule::Rule;

use options::Options;

/// What is outside of the file.
pub trait Surroundings {
    /// An image that a stage begins with; `None` where it cannot be had, and then rules that
    /// need it keep silent.
    fn base(&self, name: &str, platform: Option<&str>) -> Option<Base>;

    /// Operating system and architecture of a platform; `None` if it is not well formed.
    fn platform(&self, text: &str) -> Option<(String, String)>;

    /// Whether a text can be the name of an image.
    fn is_image_name(&self, text: &str) -> bool;

    /// Whether the `.dockerignore` hides a path of the context. It does so only if it takes
    /// nothing back by a `!`, since a directory may then be hidden and files in it not.
    fn is_ignored(&self, path: &str) -> bool;
}

/// What rules want to know of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether it has a SHELL of its own.
    pub has_shell: bool,
    /// What its ONBUILDs say.
    pub on_build: Vec<String>,
    /// The platform that it is for and the one that was asked for, if they differ.
    pub other_platform: Option<(String, String)>,
}

/// Values that a build begins with.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `TARGETPLATFORM` and the others that no ARG declares before the first FROM.
    pub predefined: BTreeMap<String, String>,
    /// The stages that are built, by index; `None` is all. What ONBUILDs bring into a stage is
    /// only looked at if it is among those that are built, as in BuildKit.
    pub stages: Option<BTreeSet<usize>>,
}

/// Holds a file against all rules. What comes out is in the order of the file: warnings with
/// their [`Diagnostic::rule`], or errors if the file says `# check=error=true`.
///
/// # Errors
/// The `# check=` of the file is not well formed.
pub fn lint(
    file: &Dockerfile,
    given: &Given,
    surroundings: &dyn Surroundings,
) -> Result<Vec<Diagnostic>, Box<Diagnostic>> {
    let options = match file.directives.iter().find(|d| d.name.text == "check") {
        Some(directive) => Options::parse(&directive.value)?,
        None => Options::default(),
    };
    let mut findings = Findings { all: Vec::new(), options: &options, trigger: None };
    for warning in &file.warnings {
        match warning.rule {
            Some(rule) => findings.diagnostic(rule, &[], warning.clone()),
            None => findings.all.push(warning.clone()),
        }
    }
    names::check(file, &mut findings);
    stages::check(file, given, surroundings, &mut findings);
    let severity = if options.is_error { Severity::Error } else { Severity::Warning };
    let mut all = findings.all;
    for diagnostic in all.iter_mut().filter(|d| d.rule.is_some()) {
        diagnostic.severity = severity;
    }
    all.sort_by_key(|d| d.span.start);
    // Two words of an instruction may have the same fault.
    let mut seen = BTreeSet::new();
    all.retain(|d| seen.insert((d.rule, d.message.clone(), d.span.start)));
    Ok(all)
}

/// What was found so far.
struct Findings<'a> {
    all: Vec<Diagnostic>,
    options: &'a Options,
    /// The ONBUILD of a base that is looked at, and the FROM that brought it here: its own places
    /// are in a text that nobody sees.
    trigger: Option<(String, Span)>,
}

impl Findings<'_> {
    /// Adds a finding, unless its rule is off for the file or by the comments above.
    fn add(
        &mut self,
        rule: Rule,
        comments: &[String],
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::warning(span, message).hint(hint);
        self.diagnostic(rule, comments, diagnostic);
    }

    fn diagnostic(&mut self, rule: Rule, comments: &[String], mut diagnostic: Diagnostic) {
        if self.options.with_comments(comments).has(rule) {
            diagnostic.rule = Some(rule);
            if let Some((text, from)) = &self.trigger {
                diagnostic.span = *from;
                let hint = diagnostic.hint.map_or(String::new(), |hint| format!("; {hint}"));
                diagnostic.hint = Some(format!("the base has ONBUILD {text}{hint}"));
            }
            self.all.push(diagnostic);
        }
    }
}

#[cfg(test)]
mod tests;
