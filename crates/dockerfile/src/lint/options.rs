//! `# check=skip=RULE,RULE;experimental=RULE;error=true`.

use std::collections::BTreeSet;

use super::Rule;
use crate::{Diagnostic, Word};

/// Which rules hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
    /// What is found is an error.
    pub is_error: bool,
}

impl Options {
    /// Reads the value of the directive, which ends at the first blank.
    pub fn parse(value: &Word) -> Result<Self, Box<Diagnostic>> {
        let text = value.text.split(' ').next().unwrap_or_default();
        let fail = |message: String| {
            Box::new(
                Diagnostic::error(value.span, message)
                    .label("expected skip=…, experimental=… or error=true, with ; between"),
            )
        };
        let mut options = Self::default();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(fail(format!("{part:?} is no option of check")));
            };
            let value = value.trim();
            let names = || value.split(',').map(|name| name.trim().to_owned());
            match (key.trim(), value) {
                ("skip", "all") => options.skip_all = true,
                ("skip", _) => options.skip = names().collect(),
                ("experimental", "all") => options.experimental_all = true,
                ("experimental", _) => options.experimental = names().collect(),
                ("error", "1" | "t" | "T" | "true" | "TRUE" | "True") => options.is_error = true,
                ("error", "0" | "f" | "F" | "false" | "FALSE" | "False") => {
                    options.is_error = false;
                }
                ("error", _) => return Err(fail(format!("error={value} is neither on nor off"))),
                (key, _) => return Err(fail(format!("check has no option {key:?}"))),
            }
        }
        Ok(options)
    }

    /// The same, and what `check=…` in the comments above an instruction adds. One that is
    /// not well formed counts as any other comment.
    pub fn with_comments(&self, comments: &[String]) -> Self {
        let mut all = self.clone();
        let directive = |comment: &String| -> Option<Self> {
            let (key, value) = comment.split_once('=')?;
            let is_check = key.trim().eq_ignore_ascii_case("check");
            let text = value.trim().to_owned();
            let word = Word { text, span: crate::Span::default() };
            is_check.then(|| Self::parse(&word).ok())?
        };
        if let Some(more) = comments.iter().find_map(directive) {
            all.skip_all |= more.skip_all;
            all.skip.extend(more.skip);
            all.experimental_all |= more.experimental_all;
            all.experimental.extend(more.experimental);
        }
        all
    }

    /// Whether a rule holds.
    pub fn has(&self, rule: Rule) -> bool {
        match rule.is_experimental() {
            true => self.experimental_all || self.experimental.contains(&rule.name()),
            false => !self.skip_all && !self.skip.contains(&rule.name()),
        }
    }
}
