//! BuildKit's rules, with the images and the context of a build.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use koskit_dockerfile::{
    Base, Diagnostic, Dockerfile, Errors, Given, Severity, Source, Span, Surroundings, Word, lint,
};
use koskit_llb::{Patterns, Platform, Reference, path};

use crate::context;
use crate::images::Images;
use crate::plan::{self, Plan};
use crate::{FrontendError, ImageResolver, Options, Result, convert, variables};

/// What is wrong with a Dockerfile, and what is allowed but should be different.
#[derive(Clone, Debug)]
pub struct Check {
    /// In the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The text that their spans point into.
    pub source: Arc<Source>,
}

/// Checks a Dockerfile without building it: all of its stages, or, where the options have a
/// target, those that it needs.
///
/// # Errors
/// There is no stage of the target's name. What is wrong with the file is a finding as any
/// other.
pub fn check(
    source: Source,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Check, FrontendError> {
    let (mut diagnostics, built) = match convert(source.clone(), options, images) {
        Ok(build) => (build.warnings, true),
        Err(FrontendError::Dockerfile(errors)) => (errors.diagnostics, false),
        Err(error) => return Err(error),
    };
    // A build tells of the stages that it needs, and if it fails of nothing but why.
    if options.target.is_none() || !built {
        if let Ok(file) = Dockerfile::parse(Arc::new(source.clone())) {
            let mut images = Images::new(images, plan::names(&file));
            diagnostics.extend(findings(&file, options, &mut images, None));
            // What is wrong with the stages themselves is known already.
            let known = &mut Vec::new();
            if let Ok(plan) = Plan::new(&file, options, &mut images, known) {
                diagnostics.extend(of_plan(&file, &plan, options, &mut images));
            }
        }
    }
    diagnostics.sort_by_key(|d| d.span.start);
    let mut seen = Vec::new();
    diagnostics.retain(|d| {
        let key = (d.rule, d.message.clone(), d.span);
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    Ok(Check { diagnostics, source: Arc::new(source) })
}

impl Check {
    /// Whether there is nothing to be said.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// The errors among the findings.
    pub fn errors(&self) -> Option<Errors> {
        let errors = self.diagnostics.iter().filter(|d| d.severity == Severity::Error);
        let diagnostics: Vec<_> = errors.cloned().collect();
        let source = Arc::clone(&self.source);
        (!diagnostics.is_empty()).then_some(Errors { source, diagnostics })
    }
}

/// The findings in the stages that a plan needs.
pub(crate) fn of_plan(
    file: &Dockerfile,
    plan: &Plan<'_>,
    options: &Options,
    images: &mut Images<'_>,
) -> Vec<Diagnostic> {
    let stages = plan.stages.iter().enumerate().filter(|(_, stage)| stage.needed);
    findings(file, options, images, Some(stages.map(|(index, _)| index).collect()))
}

/// The findings in some stages, or in all.
fn findings(
    file: &Dockerfile,
    options: &Options,
    images: &mut Images<'_>,
    stages: Option<BTreeSet<usize>>,
) -> Vec<Diagnostic> {
    let last = file.stages.last().and_then(|s| s.name.as_ref());
    let target = options.target.as_deref().or(last.map(|name| name.text.as_str()));
    let (build, wanted) = (&options.build_platform, &options.target_platform);
    let predefined = variables::predefined(build, wanted, target, &options.build_args);
    let given = Given {
        build_args: options.build_args.clone(),
        predefined: predefined.to_list().iter().map(|v| variables::split(v)).map(own).collect(),
        stages,
    };
    let world = World { options, images: RefCell::new(images) };
    lint(file, &given, &world).unwrap_or_else(|error| vec![*error])
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

struct World<'a, 'i> {
    options: &'a Options,
    images: RefCell<&'a mut Images<'i>>,
}

impl Surroundings for World<'_, '_> {
    fn base(&self, name: &str, platform: Option<&str>) -> Option<Base> {
        let reference = name.parse::<Reference>().ok()?.tagged();
        let platform = match platform {
            Some(text) => text.parse().ok()?,
            None => self.options.target_platform.clone(),
        };
        // Who builds the stage tells why it cannot be had.
        let nowhere = Word { text: name.to_owned(), span: Span::default() };
        let mut images = self.images.borrow_mut();
        let config = match context::named(self.options, &reference.to_string(), &platform) {
            Some(named) => plan::load(&named.context, &platform, &nowhere, &mut images).ok()??,
            None => images.get(&reference, &platform, &nowhere).ok()?.config,
        };
        let other = config.os != platform.os || config.architecture != platform.architecture;
        Some(Base {
            env: config.config.env.iter().map(|entry| variables::split(entry)).map(own).collect(),
            has_shell: !config.config.shell.is_empty(),
            on_build: config.config.on_build,
            other_platform: other
                .then(|| (format!("{}/{}", config.os, config.architecture), platform.to_string())),
        })
    }

    fn platform(&self, text: &str) -> Option<(String, String)> {
        let platform: Platform = text.parse().ok()?;
        Some((platform.os, platform.architecture))
    }

    fn is_image_name(&self, text: &str) -> bool {
        text.parse::<Reference>().is_ok()
    }

    fn is_ignored(&self, path: &str) -> bool {
        let Ok(patterns) = Patterns::new(self.options.context.ignore()) else { return false };
        if patterns.take_back() {
            return false;
        }
        let clean = path::clean(path);
        match clean.trim_start_matches('/') {
            // The context itself is hidden if all that is in it is.
            "" | "." => {
                let all = |pattern: &String| matches!(pattern.as_str(), "*" | "**" | "**/*");
                self.options.context.ignore().iter().any(all)
            }
            relative => patterns.matches(Path::new(relative)),
        }
    }
}
