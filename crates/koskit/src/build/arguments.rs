//! The command line of `koskit build`, in docker's words.

use crate::build::outputs::Output;
use crate::output;
use crate::sel4::Sel4;
use clap::{Args, ValueEnum};
use koskit_llb::{Platform, Reference};
use koskit_progress as progress;
use std::path::PathBuf;

/// Build an image from a Dockerfile
///
/// No daemon and no root rights are needed. The image is for linux/arm64, which is what seL4
/// machines run, and is kept with the others; steps whose result is known are not run again.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of the image, with or without a tag; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub tag: Vec<Reference>,
    /// The Dockerfile, or - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// A value for an ARG; without a value, that of the environment variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// A label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// What the image is for
    #[arg(long, value_name = "PLATFORM", default_value = "linux/arm64")]
    pub platform: Platform,
    /// Run all steps, even those whose result is known
    #[arg(long)]
    pub no_cache: bool,
    /// Also write the image somewhere: type=oci,dest=DIR makes an OCI image layout,
    /// type=oci,dest=FILE.tar a tar archive of one
    #[arg(short, long, value_name = "type=oci,dest=PATH")]
    pub output: Vec<Output>,
    /// Build nothing, and tell what in the Dockerfile is wrong or should be different; with
    /// json, for programs
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    pub check: Option<CheckFormat>,
    /// How to show progress [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "HOW")]
    pub progress: Option<Mode>,
    /// Show nothing, and print the image's ID when it is built
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub sel4: Sel4,
    /// Directory of files that COPY can have: the build context
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  koskit build -t hello .                             build ./Dockerfile and name the image
  koskit build -t hello -f hello.Dockerfile src       another Dockerfile, another directory
  koskit build --build-arg VERSION=2 --target dev .   one stage, with a value for its ARG
  koskit build -o type=oci,dest=image .               write an OCI image layout, for skopeo";

/// How findings of `--check` are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// With the lines of the file
    Text,
    /// One JSON document
    Json,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// As the place allows: like tty on a terminal, else like plain
    #[default]
    Auto,
    /// Lines of text
    Plain,
    /// A tree of all steps that changes in its place
    Tty,
    /// A JSON object on each line, as BuildKit writes it
    Rawjson,
    /// Nothing, but the output of a command that fails
    #[value(alias = "none")]
    Quiet,
}

impl Mode {
    /// What is wanted, by the option or by docker's variable, in this place.
    pub fn choose(wanted: Option<Self>, quiet: bool) -> progress::Mode {
        let wanted = wanted.or_else(|| {
            let variable = std::env::var("BUILDKIT_PROGRESS").ok()?;
            Self::from_str(&variable, true).ok()
        });
        match wanted.unwrap_or_default() {
            _ if quiet => progress::Mode::Quiet,
            Self::Auto if output::is_live() => progress::Mode::Tree,
            Self::Auto | Self::Plain => progress::Mode::Plain,
            Self::Tty => progress::Mode::Tree,
            Self::Rawjson => progress::Mode::RawJson,
            Self::Quiet => progress::Mode::Quiet,
        }
    }
}

impl Arguments {
    /// How progress is shown.
    pub fn progress(&self) -> progress::Mode {
        Mode::choose(self.progress, self.quiet)
    }

    /// Whether nothing is shown but the image's ID.
    pub fn is_quiet(&self) -> bool {
        self.progress() == progress::Mode::Quiet
    }
}
