//! What a build for seL4 has that an ordinary one has not.
//!
//! It is all between the frontend and the engine, on the build graph and on the finished
//! image's configuration; so it is the same whichever engine runs the graph.
//!
//! 1. [`adapt`] decides whether a build is one for seL4, and gives the commands of its
//!    build-platform stages the SDK: a toolchain image, mounted read-only, and the variables
//!    (`CC`, `AR`, …) that lead to it. Mounts and a command's variables are no part of a file
//!    system, of an image's configuration or of its history: what is built holds none of it.
//! 2. [`labels`] computes what the image's author left out of its contract, from the program and
//!    the files that the build has made.
//!
//! # Which builds are for seL4
//! One whose image is for a platform that seL4 machines run (`linux/arm64`), and
//! - it was asked for: [`Wish::Yes`], `koskit build --sel4`, build argument `KOSKIT_SEL4=1`; or
//! - nobody said no ([`Wish::No`], `--sel4=false`), and the image has a label
//!   `com.koskit.app.…`, or one of the stages that it needs begins with an image of the SDK,
//!   `FROM kos/…`.
//!
//! Of all other builds nothing is changed, not a byte: [`adapt`] gives back the definition that
//! it was given.
//!
//! # Which commands get the SDK
//! Those on the build platform that are not part of the image itself: a stage whose files are
//! copied from. A stage that begins with an image of the toolchain has it already. What a
//! Dockerfile says itself stays: a variable that is set there is not set again, and where it
//! mounts something at the SDK's place, that command gets nothing.

mod graph;
mod labels;
mod sdk;

pub mod draw;

pub use labels::{Files, Labels, LabelsError, StoreFiles, labels, labels_of_files};
pub use sdk::{MOUNT_LABEL, Sdk, SdkError};

use koskit_frontend::{ImageConfig, ImageResolver};
use koskit_llb::{Digest, Graph, GraphError, Platform, pb};
use std::collections::BTreeMap;
use thiserror::Error;

/// The build argument that stands for [`Wish`] where there is no command line of koskit's.
pub const WISH_ARGUMENT: &str = "KOSKIT_SEL4";
/// The build argument that names another toolchain image.
pub const SDK_ARGUMENT: &str = "KOSKIT_SDK";
/// What the labels of a contract begin with.
const LABELS: &str = "com.koskit.app.";

/// What the user said about building for seL4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: the build itself shows it.
    #[default]
    Auto,
    /// It is for seL4.
    Yes,
    /// It is not.
    No,
}

impl Wish {
    /// Of a build argument's or an option's value. Empty is [`Wish::Auto`].
    ///
    /// # Errors
    /// It is none of true, false and auto.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "1" | "true" | "yes" => Ok(Self::Yes),
            "0" | "false" | "no" => Ok(Self::No),
            other => Err(format!("{other:?} is none of true, false and auto")),
        }
    }
}

/// Why a build is one for seL4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// [`Wish::Yes`].
    Asked,
    /// The image has this label.
    Label(String),
    /// A stage begins with this image, by its familiar name.
    Image(String),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => write!(f, "it was asked for"),
            Self::Label(name) => write!(f, "the image has the label {name}"),
            Self::Image(name) => write!(f, "a stage begins with {name}"),
        }
    }
}

/// How a build is to be adapted.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the user said.
    pub wish: Wish,
    /// The name of the toolchain image; `None` is [`Sdk::default_image`].
    pub sdk: Option<koskit_llb::Reference>,
    /// What the image is for.
    pub target_platform: Platform,
    /// What it is built on.
    pub build_platform: Platform,
}

impl Options {
    /// Options of a build, with what its build arguments [`WISH_ARGUMENT`] and [`SDK_ARGUMENT`]
    /// say. They are taken out: no ARG of a Dockerfile is meant.
    ///
    /// # Errors
    /// One of them has a value that it cannot have.
    pub fn new(
        build_args: &mut BTreeMap<String, String>,
        target_platform: Platform,
        build_platform: Platform,
    ) -> Result<Self, String> {
        let wrong = |name: &str, why: String| format!("the build argument {name} is wrong: {why}");
        let wish = build_args.remove(WISH_ARGUMENT).unwrap_or_default();
        let wish = Wish::parse(&wish).map_err(|why| wrong(WISH_ARGUMENT, why))?;
        let sdk = build_args.remove(SDK_ARGUMENT).filter(|name| !name.is_empty());
        let sdk = sdk.map(|name| name.parse::<koskit_llb::Reference>()).transpose();
        let sdk = sdk.map_err(|error| wrong(SDK_ARGUMENT, error.to_string()))?;
        Ok(Self { wish, sdk, target_platform, build_platform })
    }
}

/// A build after [`adapt`].
#[derive(Clone, Debug)]
pub struct Adapted {
    /// The graph. Of a build that is not for seL4 it is the one that was given.
    pub definition: pb::Definition,
    /// Why it is for seL4; `None` where it is not.
    pub reason: Option<Reason>,
    /// The toolchain that was mounted, where there was a command to mount it for.
    pub sdk: Option<Sdk>,
    /// How many commands got it.
    pub commands: usize,
    /// What each op that is now another was before: new digests to old ones. An op that only
    /// comes after a command that was changed is another, too.
    pub before: BTreeMap<Digest, Digest>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Why a build cannot be adapted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdaptError {
    /// The graph is not one.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The toolchain image cannot be had, and the build was said to need it.
    #[error(transparent)]
    Sdk(#[from] SdkError),
    /// seL4 machines do not run that platform.
    #[error("an image for {0} cannot be built for seL4, whose machines run linux/arm64")]
    Platform(Box<Platform>),
}

/// What seL4 machines run.
pub fn target() -> Platform {
    Platform::new("linux", "arm64", "")
}

/// Decides whether a build is for seL4, and if so gives its commands the SDK.
///
/// `config` is the configuration that the image will have. The resolver is asked for nothing but
/// the toolchain image, and only where a command is to get it. Where the build shows by itself
/// that it is for seL4, but there is no such image, it is left as it is, with a warning: its
/// stages may need no toolchain.
///
/// # Errors
/// [`AdaptError`].
pub fn adapt(
    definition: &pb::Definition,
    config: &ImageConfig,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Adapted, AdaptError> {
    let mut adapted = Adapted {
        definition: definition.clone(),
        reason: None,
        sdk: None,
        commands: 0,
        before: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let graph = Graph::new(definition)?;
    adapted.reason = reason(&graph, config, options)?;
    if adapted.reason.is_none() {
        return Ok(adapted);
    }
    let commands = graph::commands(&graph, &options.build_platform);
    if commands.is_empty() {
        return Ok(adapted);
    }
    let name = options.sdk.clone().unwrap_or_else(Sdk::default_image);
    let sdk = match Sdk::find(&name, &options.build_platform, images) {
        Ok(sdk) => sdk,
        Err(error) if adapted.reason == Some(Reason::Asked) => return Err(error.into()),
        Err(error) => {
            let error = graph::chain(&error);
            adapted.warnings.push(format!("the build's commands get no toolchain: {error}"));
            return Ok(adapted);
        }
    };
    let mounted = graph::mount(definition, &graph, &commands, &sdk);
    adapted.definition = mounted.definition;
    adapted.commands = mounted.commands;
    adapted.before = mounted.before;
    adapted.sdk = Some(sdk);
    Ok(adapted)
}

fn reason(
    graph: &Graph,
    config: &ImageConfig,
    options: &Options,
) -> Result<Option<Reason>, AdaptError> {
    let fits = options.target_platform == target();
    Ok(match options.wish {
        Wish::No => None,
        Wish::Yes if fits => Some(Reason::Asked),
        Wish::Yes => return Err(AdaptError::Platform(Box::new(options.target_platform.clone()))),
        Wish::Auto if !fits => None,
        Wish::Auto => {
            let label = config.config.labels.keys().find(|name| name.starts_with(LABELS));
            let label = label.map(|name| Reason::Label(name.clone()));
            label.or_else(|| graph::sdk_image(graph).map(Reason::Image))
        }
    })
}

#[cfg(test)]
mod tests;
