//! `koskit build`: a Dockerfile to an image.
//!
//! Dockerfile ─► build graph (`koskit-frontend`) ─► layers (`engine`) ─► image, then exported
//! and named: who is stopped before that leaves no name behind.

mod arguments;
mod check;
pub(crate) mod context;
pub(crate) mod engine;
mod epoch;
mod events;
mod failure;
pub(crate) mod images;
mod outputs;

pub use arguments::{Arguments, Mode};

use crate::names;
use crate::output::{self, Paint};
use crate::registry;
use crate::sel4;
use anyhow::Result;
use context::Context;
use engine::{Engine, Request};
use images::Images;
use koskit_frontend::{Build, convert};
use koskit_image::{Image, Store};
use koskit_llb::Inputs;
use koskit_progress::Progress;
use std::collections::BTreeMap;

/// The name by which the engines know the build context.
pub(crate) const CONTEXT: &str = "context";

/// Builds the image.
///
/// # Errors
/// The Dockerfile is wrong, or a step fails. No name changes, then.
pub fn build(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let context = Context::open(&arguments.path, arguments.file.as_deref())?;
    let epoch = epoch::epoch()?;
    let mut options = koskit_frontend::Options {
        target: arguments.target.clone(),
        build_args: build_args(&arguments.build_arg),
        target_platform: arguments.platform.clone(),
        labels: names::pairs("label", &arguments.label)?,
        context: koskit_frontend::Context::Local { name: CONTEXT.into(), ignore: context.ignore },
        no_cache: arguments.no_cache,
        ..koskit_frontend::Options::default()
    };
    let adapting = arguments.sel4.options(&mut options)?;
    if let Some(format) = arguments.check {
        return check::check(context.dockerfile, &options, &Images::new(&store, false), format);
    }
    // Its threads have ended when the engine enters namespaces.
    let images = Images::new(&store, false);
    let mut build = convert(context.dockerfile, &options, &images)?;
    let adapted = sel4::transform(&mut build, &adapting, &images)?;
    drop(images);
    if !arguments.is_quiet() {
        warn(&build);
        sel4::warn(&adapted.warnings);
    }
    let local = BTreeMap::from([(CONTEXT.into(), context.path)]);
    let inputs = Inputs { local, ..Inputs::default() };
    let engine = Engine::open(&store)?;
    let progress = Progress::new(&koskit_progress::Options {
        mode: arguments.progress(),
        color: Paint::stderr().is_on(),
        builder: engine.name().to_owned(),
    });
    let request = Request { build: &build, inputs: &inputs, no_cache: arguments.no_cache, epoch };
    let mut made = engine.solve(&request, &progress)?;
    sel4::label(&adapted, &store, &mut made, &progress);
    let image = export(arguments, &store, &made, &progress)?;
    progress.finish();
    if arguments.quiet {
        output::print(&format!("{}\n", image.id()))?;
    }
    Ok(())
}

/// Makes the image, writes it where it is wanted, and names it.
fn export(
    arguments: &Arguments,
    store: &Store,
    made: &engine::Made,
    progress: &Progress,
) -> Result<Image> {
    let image = progress.step("exporting to image", |step| {
        let task = step.task("exporting manifest and configuration");
        let image = store.add_image(&made.config, &made.layers)?;
        drop(task);
        for output in &arguments.output {
            let _task = step.task(&format!("writing {}", output.path.display()));
            registry::complete(store, &image)?;
            output.write(store, &image, arguments.tag.first())?;
        }
        drop(step.task(&format!("writing image {}", image.id())));
        for name in &arguments.tag {
            let name = name.clone().tagged();
            let _task = step.task(&format!("naming to {name}"));
            store.tag(&name, &image.descriptor)?;
        }
        anyhow::Ok(image)
    })?;
    Ok(image)
}

/// `NAME` alone is the variable as it is here; where it is not set, nothing.
pub(crate) fn build_args(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.clone(), value)),
    };
    given.iter().filter_map(pair).collect()
}

/// Shows what the Dockerfile probably does not mean: one line for each finding of a rule.
fn warn(build: &Build) {
    let paint = Paint::stderr();
    let head = paint.with("1;33", "warning");
    let mut rules = 0;
    for warning in &build.warnings {
        let Some(rule) = warning.rule else {
            output::error(&format!("{}\n", warning.render(&build.source, paint.is_on())));
            continue;
        };
        rules += 1;
        let name = build.source.name();
        let (line, _) = build.source.position(warning.span.start);
        output::error(&format!("{head}[{rule}]: {name}:{line}: {}\n", warning.message));
    }
    if rules > 0 {
        output::error("koskit build --check shows these with their lines and what to do\n");
    }
    for name in &build.unused_args {
        output::error(&format!("{head}: no ARG that was built takes the build argument {name}\n"));
    }
}
