//! `koskit build`: a Dockerfile to an image.
//!
//! Dockerfile ─► build graph (`koskit-frontend`) ─► layers (`engine`) ─► image, then exported
//! and named: who is stopped before that leaves no name behind.

mod annotations;
mod arguments;
mod attest;
mod caches;
mod call;
mod check;
pub(crate) mod context;
pub(crate) mod engine;
mod epoch;
mod events;
mod export;
mod failure;
mod fields;
pub(crate) mod images;
pub(crate) mod interrupt;
mod layout;
mod outputs;
pub(crate) mod sources;
mod spool;
mod values;

pub use arguments::{Arguments, Mode};

use crate::names;
use crate::output::{self, Paint};
use crate::registry::{Connection, Layers};
use crate::sel4;
use anyhow::{Context as _, Result};
use attest::{About, Attest, Told};
use context::{Fetch, Main, Place};
use engine::{Engine, Request};
use export::{Built, Exporter, Root};
use images::Images;
use koskit_frontend::{Build, Context, convert};
use koskit_image::{Compression, Store};
use koskit_llb::{Inputs, Platform, ResolveMode};
use koskit_progress::Progress;
use koskit_transform::Adapted;
use outputs::{Kind, Output};
use std::collections::BTreeMap;
use std::fs;

/// Builds the image.
///
/// # Errors
/// The Dockerfile is wrong, or a step fails. No name changes, then.
pub fn build(arguments: &Arguments) -> Result<()> {
    let outputs = arguments.outputs()?;
    let (sbom, provenance) = (arguments.sbom.as_deref(), arguments.provenance.as_deref());
    let attest = Attest::parse(&arguments.attest, sbom, provenance)?;
    let store = names::store()?;
    let place = Place::find(&arguments.path, arguments.file.as_deref())?;
    let mut inputs = Inputs { secrets: sources::secrets(&arguments.secret)?, ..Inputs::default() };
    let contexts = sources::contexts(&arguments.build_context, &mut inputs)?;
    if let Some(path) = &arguments.iidfile {
        // That of an earlier build would be taken for this one's.
        let _ = fs::remove_file(path);
    }
    // It enters namespaces, and so comes before any thread.
    let engine = Engine::open(&store, arguments)?;
    let agents = sources::Agents::open(&arguments.ssh)?;
    inputs.ssh.clone_from(&agents.sockets);
    let mode = match arguments.question() {
        Some(_) => koskit_progress::Mode::Quiet,
        None => arguments.progress(),
    };
    let progress = Progress::new(&koskit_progress::Options {
        mode,
        color: Paint::stderr().is_on(),
        builder: engine.name().to_owned(),
    });
    let end = agents.end();
    interrupt::watch(&progress, end).context("signals cannot be watched")?;
    let images = Images::new(&store, arguments.pull)
        .with_progress(&progress)
        .with_layouts(inputs.oci_layouts.clone());
    let mut session = Session {
        arguments,
        store: &store,
        engine: &engine,
        progress: &progress,
        images: &images,
        contexts,
        inputs,
        attest,
        warnings: Vec::new(),
    };
    let options = session.options(&arguments.platform[0], &Context::Scratch)?;
    let fetch =
        Fetch { engine: &engine, store: &store, inputs: &session.inputs, progress: &progress };
    let main = place.read(arguments.file.as_deref(), &options, &fetch)?;
    if let Some(call) = arguments.question() {
        let options = session.options(&arguments.platform[0], &main.context)?;
        return call.answer(main.dockerfile, &options, &images);
    }
    let mut unpacked = None;
    if let Some(mut path) = main.local.as_deref() {
        if !engine.takes_archives() && path.is_file() {
            path = unpacked.insert(spool::unpacked(path)?).path();
        }
        session.inputs.local.insert(context::NAME.into(), path.to_owned());
    }
    let root = session.run(&main, &outputs);
    progress.finish();
    if !arguments.is_quiet() {
        session.warnings.iter().for_each(|warning| output::error(warning));
    }
    tell(arguments, &outputs, &root?)
}

/// Tells what came out to those who want to know.
fn tell(arguments: &Arguments, outputs: &[Output], root: &Root) -> Result<()> {
    if let Some(path) = &arguments.metadata_file {
        export::write_metadata(path, root, &tags(arguments))?;
    }
    if let Some(path) = &arguments.iidfile {
        export::write_file(path, root.id().as_str())?;
    }
    if arguments.quiet && !outputs.iter().any(Output::is_stdout) {
        output::print(&format!("{}\n", root.id()))?;
    }
    Ok(())
}

/// One build, of all its platforms.
struct Session<'a> {
    arguments: &'a Arguments,
    store: &'a Store,
    engine: &'a Engine,
    progress: &'a Progress,
    images: &'a Images<'a>,
    contexts: BTreeMap<String, Context>,
    inputs: Inputs,
    /// What is to be said beside the image.
    attest: Attest,
    /// Shown at the end: what is shown before that goes away on a terminal.
    warnings: Vec<String>,
}

/// What is to be built for one platform.
struct Prepared<'p> {
    platform: &'p Platform,
    build: Build,
    adapted: Adapted,
}

impl Session<'_> {
    fn run(&mut self, main: &Main, outputs: &[Output]) -> Result<Root> {
        let epoch = epoch::epoch()?;
        let mut prepared: Vec<Prepared<'_>> = Vec::new();
        let arguments = self.arguments;
        for platform in &arguments.platform {
            if prepared.iter().all(|known| known.platform != platform) {
                prepared.push(self.prepare(platform, main)?);
            }
        }
        let builds: Vec<_> = prepared.iter().map(|p| (p.platform, &p.build)).collect();
        let request = Request {
            builds: &builds,
            inputs: &self.inputs,
            no_cache: arguments.no_cache,
            epoch,
            compression: compression(outputs),
            insecure: arguments.is_insecure(),
            cache_from: &arguments.cache_from,
            cache_to: &arguments.cache_to,
        };
        let made = self.engine.solve(&request, self.progress)?;
        let mut built = Vec::new();
        for (Prepared { platform, build, adapted }, mut made) in prepared.iter().zip(made) {
            self.warnings.extend(sel4::label(adapted, self.store, &mut made, self.progress));
            let told = self.told(main, build, &made)?;
            built.push(Built { platform: (*platform).clone(), made, told });
        }
        let exporter = Exporter {
            store: self.store,
            client: &Connection::default().client(),
            progress: self.progress,
            tags: tags(self.arguments),
            annotations: &self.arguments.annotation,
        };
        exporter.export(&built, outputs)
    }

    /// Makes the graph for one platform.
    fn prepare<'p>(&mut self, platform: &'p Platform, main: &Main) -> Result<Prepared<'p>> {
        let mut options = self.options(platform, &main.context)?;
        let adapting = self.arguments.sel4.options(&mut options)?;
        let mut build = convert(main.dockerfile.clone(), &options, self.images)?;
        let adapted = sel4::transform(&mut build, &adapting, self.images)?;
        let warnings = warnings(&build).into_iter().chain(sel4::warnings(&adapted.warnings));
        for warning in warnings {
            // The same for each platform.
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(Prepared { platform, build, adapted })
    }

    /// What is said about an image that was built.
    fn told(&mut self, main: &Main, build: &Build, made: &engine::Made) -> Result<Told> {
        if self.attest.is_nothing() {
            return Ok(Told::default());
        }
        Layers::new(self.progress).complete(self.store, &made.layers)?;
        let mut arguments = BTreeMap::new();
        for (name, value) in build_args(&self.arguments.build_arg) {
            arguments.insert(format!("build-arg:{name}"), value);
        }
        for (name, value) in names::pairs("label", &self.arguments.label)? {
            arguments.insert(format!("label:{name}"), value);
        }
        if let Some(target) = &self.arguments.target {
            arguments.insert("target".into(), target.clone());
        }
        let about = About { dockerfile: main.dockerfile.name(), arguments, inputs: &self.inputs };
        let told = self.progress.step("generating attestations", |_| {
            Told::of(&self.attest, self.store, build, &made.layers, &about)
        })?;
        let head = Paint::stderr().with("1;33", "warning:");
        self.warnings.extend(told.skipped().map(|skipped| format!("{head} {skipped}")));
        Ok(told)
    }

    fn options(&self, platform: &Platform, context: &Context) -> Result<koskit_frontend::Options> {
        let arguments = self.arguments;
        Ok(koskit_frontend::Options {
            target: arguments.target.clone(),
            build_args: build_args(&arguments.build_arg),
            target_platform: platform.clone(),
            labels: names::pairs("label", &arguments.label)?,
            context: context.clone(),
            contexts: self.contexts.clone(),
            no_cache: arguments.no_cache,
            no_cache_filter: arguments.no_cache_filter.clone(),
            resolve: if arguments.pull { ResolveMode::Pull } else { ResolveMode::Default },
            network: arguments.network,
            extra_hosts: arguments.add_host.clone(),
            shm_size: arguments.shm_size.map_or(0, |bytes| bytes as i64),
            ulimits: arguments.ulimit.clone(),
            cgroup_parent: arguments.cgroup_parent.clone().unwrap_or_default(),
            multi_platform: arguments.platform.len() > 1,
            ..koskit_frontend::Options::default()
        })
    }
}

/// The names of `-t`, with tags.
fn tags(arguments: &Arguments) -> Vec<koskit_llb::Reference> {
    arguments.tag.iter().map(|name| name.clone().tagged()).collect()
}

/// How new layers are compressed: as all outputs want it, that are made of layers.
fn compression(outputs: &[Output]) -> Compression {
    let of_layers =
        |output: &&Output| !matches!(output.kind, Kind::Local | Kind::Tar | Kind::CacheOnly);
    let mut wanted = outputs.iter().filter(of_layers).map(|o| o.compression.unwrap_or_default());
    match wanted.next() {
        Some(first) if wanted.all(|other| other == first) => first,
        _ => Compression::default(),
    }
}

/// `NAME` alone is the variable as it is here; where it is not set, nothing.
pub(crate) fn build_args(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.clone(), value)),
    };
    given.iter().filter_map(pair).collect()
}

/// What the Dockerfile probably does not mean: one line for each finding of a rule.
fn warnings(build: &Build) -> Vec<String> {
    let paint = Paint::stderr();
    let head = paint.with("1;33", "warning");
    let mut rules = 0;
    let mut lines = Vec::new();
    for warning in &build.warnings {
        let Some(rule) = warning.rule else {
            lines.push(format!("{}\n", warning.render(&build.source, paint.is_on())));
            continue;
        };
        rules += 1;
        let name = build.source.name();
        let (line, _) = build.source.position(warning.span.start);
        lines.push(format!("{head}[{rule}]: {name}:{line}: {}\n", warning.message));
    }
    if rules > 0 {
        lines.push("koskit build --check shows these with their lines and what to do\n".into());
    }
    for name in &build.unused_args {
        lines.push(format!("{head}: no ARG that was built takes the build argument {name}\n"));
    }
    lines
}
