//! Instructions to LLB and image config.
//!
//! [`convert`] makes two things of a Dockerfile: the build graph of the stage that is wanted,
//! op for op as BuildKit's own frontend makes it, and the configuration of the image. It
//! runs nothing and reads no files. What it must know of base images it asks an
//! [`ImageResolver`], which the caller implements over a store or a registry.
//!
//! It works in three steps:
//! 1. `plan`: what each stage begins with, and which stages the target needs;
//! 2. `evaluate`: the instructions of these stages one after the other, with the variables
//!    that are set at each; what comes out is steps without variables, and the config;
//! 3. `emit`: the steps as ops of a graph. The build context is one op whose bytes name all
//!    paths that any step needs of it, which is why the steps are evaluated first.
//!
//! ```
//! use koskit_dockerfile::Source;
//! use koskit_frontend::{BaseImage, ImageResolver, Options, ResolveError, convert};
//! use koskit_llb::{Graph, Platform, Reference};
//!
//! struct NoImages;
//! impl ImageResolver for NoImages {
//!     fn resolve(&self, name: &Reference, _: &Platform) -> Result<BaseImage, ResolveError> {
//!         Err(format!("there is no image {}", name.familiar()).into())
//!     }
//! }
//!
//! let text = "FROM scratch\nCOPY hello /\nENTRYPOINT [\"/hello\"]\n";
//! let build = convert(Source::new("Dockerfile", text), &Options::default(), &NoImages)?;
//! let graph = Graph::new(&build.definition)?;
//! let names: Vec<_> = graph.vertices().iter().map(|vertex| vertex.name()).collect();
//! assert_eq!(names, ["[internal] load build context", "[1/1] COPY hello /"]);
//! assert_eq!(build.config.architecture, "arm64");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use koskit_dockerfile::{Diagnostic, Dockerfile, Errors, Severity, Source};
use koskit_llb::{Digest, Platform, Reference, ResolveMode, pb};
use thiserror::Error;

mod add;
mod check;
mod config;
mod context;
mod copy;
mod emit;
mod evaluate;
mod health;
mod ignore;
mod images;
mod instructions;
mod mount;
mod name;
mod outline;
mod plan;
mod ports;
mod run;
mod signal;
mod step;
mod variables;

pub use check::{Check, check};
pub use config::{ContainerConfig, Empty, HealthConfig, History, ImageConfig, RootFs};
pub use context::{Context, ContextError, context_graph};
pub use ignore::ignore_patterns;
pub use outline::{Argument, Lines, Needed, Outline, Target, Targets, outline, targets};

/// How a Dockerfile is to be built.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stage to build; `None` is the last one.
    pub target: Option<String>,
    /// Values for the file's ARGs.
    pub build_args: BTreeMap<String, String>,
    /// What the image is for.
    pub target_platform: Platform,
    /// What it is built on.
    pub build_platform: Platform,
    /// Labels that the image gets besides those of the file, which they override.
    pub labels: BTreeMap<String, String>,
    /// The build context.
    pub context: Context,
    /// The folder of the build context that counts; for contexts that are not local.
    pub context_subdir: Option<String>,
    /// Contexts that stand for stages and images, by their names. Those for one platform only
    /// are called `NAME::OS/ARCHITECTURE`.
    pub contexts: BTreeMap<String, Context>,
    /// Run all steps, even those whose result is known.
    pub no_cache: bool,
    /// The same for the steps of these stages.
    pub no_cache_filter: Vec<String>,
    /// Where images are looked for.
    pub resolve: ResolveMode,
    /// The network of commands that do not say which they want.
    pub network: pb::NetMode,
    /// The host name of all commands; empty leaves it to the solver. The build argument
    /// `BUILDKIT_SANDBOX_HOSTNAME` says it, too.
    pub hostname: String,
    /// Lines of the `/etc/hosts` of all commands: a name and its address.
    pub extra_hosts: Vec<(String, String)>,
    /// The size of `/dev/shm` in bytes; 0 leaves it to the solver.
    pub shm_size: i64,
    /// Limits on what each command may use.
    pub ulimits: Vec<pb::Ulimit>,
    /// The control group of all commands; empty leaves it to the solver.
    pub cgroup_parent: String,
    /// The build is one of several, each for a platform of its own: steps tell theirs.
    pub multi_platform: bool,
    /// Which client's folders are meant, where several are connected to the solver.
    pub session: Option<String>,
}

impl Default for Options {
    /// The last stage for `linux/arm64`, built on this machine, with the context `context`.
    fn default() -> Self {
        Self {
            target: None,
            build_args: BTreeMap::new(),
            target_platform: Platform::new("linux", "arm64", ""),
            build_platform: Platform::host(),
            labels: BTreeMap::new(),
            context: Context::local("context"),
            context_subdir: None,
            contexts: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            resolve: ResolveMode::Default,
            network: pb::NetMode::Unset,
            hostname: String::new(),
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            multi_platform: false,
            session: None,
        }
    }
}

impl Options {
    /// The time of directories that WORKDIR makes, in seconds since 1970, where the build
    /// argument `SOURCE_DATE_EPOCH` says one.
    fn epoch(&self) -> Option<i64> {
        self.build_args.get("SOURCE_DATE_EPOCH")?.parse().ok()
    }

    fn hostname(&self) -> String {
        match self.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") {
            Some(name) if !name.is_empty() => name.clone(),
            _ => self.hostname.clone(),
        }
    }
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Build {
    /// The graph whose result is the root file system of the image.
    pub definition: pb::Definition,
    /// The configuration of the image. Its `rootfs` is empty: the layers are known when they
    /// are built. Each entry of the history that is not `empty_layer` stands for one of them.
    pub config: ImageConfig,
    /// What the file does that is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// Build arguments that no ARG of the stages that were built declares.
    pub unused_args: Vec<String>,
    /// The text that the spans of the warnings point into.
    pub source: Arc<Source>,
}

/// Knows images by their names.
pub trait ImageResolver {
    /// The image of that name for that platform.
    ///
    /// # Errors
    /// A sentence for the user, where there is none or it cannot be read.
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError>;

    /// The image of an OCI layout of the client: `store` is which of its layouts, `digest`
    /// that of the manifest or of an index.
    ///
    /// # Errors
    /// A sentence for the user, where there is none or it cannot be read.
    fn resolve_layout(
        &self,
        store: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        Err(format!("the layout {store} with {digest} for {platform} cannot be read here").into())
    }
}

/// Why an image cannot be had.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// An image that others begin with.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The digest that names it once and for all; of its manifest, or of the index in which
    /// the platform finds the manifest.
    pub digest: Digest,
    /// Its configuration, which can be read from any image's JSON.
    pub config: ImageConfig,
}

/// Why a Dockerfile cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrontendError {
    /// Something is wrong with what is written in it, or with an image that it names.
    #[error(transparent)]
    Dockerfile(#[from] Errors),
    /// There is no stage of that name.
    #[error("the Dockerfile has no stage {name:?}; {}", stages(known))]
    Target {
        /// The stage that was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

fn stages(known: &[String]) -> String {
    match known {
        [] => "none of its stages has a name".into(),
        known => format!("it has {}", known.join(", ")),
    }
}

/// A result inside of this crate: what is wrong always has a place in the file.
pub(crate) type Result<T, E = Box<Diagnostic>> = std::result::Result<T, E>;

/// Makes a build of a Dockerfile.
///
/// # Errors
/// [`FrontendError`], with all that is wrong with the file and not only the first of it.
pub fn convert(
    source: Source,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Build, FrontendError> {
    let file = Dockerfile::parse(Arc::new(source))?;
    let Understood { plan, evaluated, warnings } = understand(&file, options, images)?;
    let definition = emit::emit(&file, &plan, &evaluated, options);
    let unused_args = options
        .build_args
        .keys()
        .filter(|name| !evaluated.used_args.contains(*name))
        .filter(|name| !variables::needs_no_declaration(name))
        .cloned()
        .collect();
    let mut config = evaluated.config;
    config.config.labels.extend(options.labels.clone());
    config.set_platform(&options.target_platform);
    Ok(Build { definition, config, warnings, unused_args, source: file.source })
}

/// A file whose stages are evaluated as far as the target needs them.
struct Understood<'f> {
    plan: plan::Plan<'f>,
    evaluated: evaluate::Evaluated,
    warnings: Vec<Diagnostic>,
}

fn understand<'f>(
    file: &'f Dockerfile,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Understood<'f>, FrontendError> {
    let mut diagnostics = Vec::new();
    let mut images = images::Images::new(images, plan::names(file));
    let plan = plan::Plan::new(file, options, &mut images, &mut diagnostics)?;
    diagnostics.extend(check::of_plan(file, &plan, options, &mut images));
    let evaluated = evaluate::evaluate(file, &plan, options, &mut images, &mut diagnostics);
    diagnostics.sort_by_key(|d| d.span.start);
    diagnostics.dedup();
    if diagnostics.iter().any(|d| d.severity == Severity::Error) {
        // What is only bad style would hide why there is no build.
        diagnostics.retain(|d| d.rule.is_none() || d.severity == Severity::Error);
        return Err(Errors { source: Arc::clone(&file.source), diagnostics }.into());
    }
    Ok(Understood { plan, evaluated, warnings: diagnostics })
}
