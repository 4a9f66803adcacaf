//! The command line of `koskit build`, in docker's words.

use crate::build::annotations::Annotation;
use crate::build::call::{Call, What};
use crate::build::outputs::{Kind, Output};
use crate::build::values;
use crate::output;
use crate::sel4::Sel4;
use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use koskit_buildkit::Cache;
use koskit_llb::pb::NetMode;
use koskit_llb::{Platform, Reference, pb};
use koskit_progress as progress;
use std::path::PathBuf;

/// Build an image from a Dockerfile
///
/// No daemon and no root rights are needed. The image is for linux/arm64 if nothing else is said,
/// which is what seL4 machines run, and is kept with the others; steps whose result is known are
/// not run again.
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
    /// Another context, for FROM, COPY --from and mounts: a directory, docker-image://NAME,
    /// oci-layout://PATH, a git repository or another URL
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub build_context: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=ID,src=FILE or id=ID,env=VARIABLE
    #[arg(long, value_name = "id=ID[,src=FILE]")]
    pub secret: Vec<String>,
    /// An agent for RUN --mount=type=ssh: default is the one of SSH_AUTH_SOCK
    #[arg(long, value_name = "default|ID[=SOCKET|=KEY,…]")]
    pub ssh: Vec<String>,
    /// What the image is for; of several, an index is made
    #[arg(long, value_name = "PLATFORM,…", value_delimiter = ',', default_value = "linux/arm64")]
    pub platform: Vec<Platform>,
    /// Ask registries for images, even those that are in the store
    #[arg(long)]
    pub pull: bool,
    /// Run all steps, even those whose result is known
    #[arg(long)]
    pub no_cache: bool,
    /// Run all steps of these stages
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Build on a BuildKit server instead: docker, docker://HOST:PORT, unix:///SOCKET or
    /// tcp://HOST:PORT?cacert=FILE&cert=FILE&key=FILE [default: $KOSKIT_BUILDER, else koskit itself]
    #[arg(long, value_name = "BUILDER")]
    pub builder: Option<String>,
    /// A cache of other builds to begin with: type=registry,ref=NAME and others
    #[arg(long, value_name = "type=TYPE,…", value_parser = values::cache)]
    pub cache_from: Vec<Cache>,
    /// Where to put a cache for other builds
    #[arg(long, value_name = "type=TYPE,…", value_parser = values::cache)]
    pub cache_to: Vec<Cache>,
    /// A label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// An annotation of the manifest; of something else, with its name before it
    #[arg(long, value_name = "[manifest|index|…:]NAME=VALUE")]
    pub annotation: Vec<Annotation>,
    /// Also write the image somewhere: type=oci, docker, local, tar, image, registry or
    /// cacheonly, and where; a directory alone gets its files, and - a tar archive of them
    #[arg(short, long, value_name = "type=TYPE,dest=PATH")]
    pub output: Vec<Output>,
    /// Send the image to the registries of its names: the same as --output type=registry
    #[arg(long)]
    pub push: bool,
    /// Keep the image in the store, which is done anyway
    #[arg(long)]
    pub load: bool,
    /// The network of commands that do not say which they want: default, none or host
    #[arg(long, value_name = "NETWORK", value_parser = values::network, default_value = "default")]
    pub network: NetMode,
    /// A line of /etc/hosts for all commands
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = values::host)]
    pub add_host: Vec<(String, String)>,
    /// The size of /dev/shm, as 64m
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub shm_size: Option<u64>,
    /// A limit of commands, as nofile=1024
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    pub ulimit: Vec<pb::Ulimit>,
    /// The control group of commands; only BuildKit servers put them into one
    #[arg(long, value_name = "CGROUP")]
    pub cgroup_parent: Option<String>,
    /// What commands may do besides: security.insecure, network.host
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Keep a software bill of materials beside the image (SPDX), or what docker takes for it
    #[arg(
        long,
        value_name = "BOOL|format=FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub sbom: Option<String>,
    /// Keep beside the image how it was built (SLSA); mode=max tells every step
    #[arg(
        long,
        value_name = "BOOL|mode=MODE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub provenance: Option<String>,
    /// The same for both: type=sbom[,format=cyclonedx], type=provenance[,mode=max]
    #[arg(long, value_name = "type=TYPE[,…]")]
    pub attest: Vec<String>,
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
    /// What to ask about the Dockerfile instead of building it: check, outline (what a target
    /// takes) or targets (which there are); with ,format=json for programs
    #[arg(long, alias = "print", value_name = "WHAT[,format=json]", default_value = "build")]
    pub call: Call,
    /// How to show progress [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "HOW")]
    pub progress: Option<Mode>,
    /// Show nothing, and print the image's ID when it is built
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub sel4: Sel4,
    /// The build context: a directory of files that COPY can have, a tar archive or URL of one,
    /// a git repository, or - for an archive or a Dockerfile on standard input
    #[arg(value_name = "PATH|URL|-")]
    pub path: String,
}

const EXAMPLES: &str = "\
Examples:
  koskit build -t hello .                             build ./Dockerfile and name the image
  koskit build -t hello -f hello.Dockerfile src       another Dockerfile, another directory
  koskit build --build-arg VERSION=2 --target dev .   one stage, with a value for its ARG
  koskit build -o type=oci,dest=image .               write an OCI image layout, for skopeo
  koskit build -o out . && ls out                     write the files of the image
  koskit build --platform linux/arm64,linux/amd64 \\
    -t localhost:5000/app --push .                    an index of two images, in a registry
  koskit build https://host/repo.git#v1:src           a directory of a git repository
  koskit build -t hello - <context.tar.gz             a tar archive of a context
  koskit build --call outline --target dev .          what the stage dev takes";

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people
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
    /// Where the image is written: the outputs, and those that have options of their own.
    ///
    /// # Errors
    /// They do not go together, or something is asked for that there is not.
    pub fn outputs(&self) -> Result<Vec<Output>> {
        let mut outputs = self.output.clone();
        outputs.extend(self.push.then(|| Output::of(Kind::Registry)));
        outputs.extend(self.load.then(|| Output::of(Kind::Image)));
        crate::build::outputs::check(&outputs).map_err(|why| anyhow!(why))?;
        for output in &outputs {
            if output.push && output.names.is_empty() && self.tag.is_empty() {
                bail!("tag is needed when pushing to registry: name the image by -t");
            }
        }
        if self.builder().is_some() {
            // What it allows is the builder's to say.
            return Ok(outputs);
        }
        if let Some(group) = self.cgroup_parent.as_ref().filter(|group| !group.is_empty()) {
            bail!(
                "--cgroup-parent {group} cannot be had: koskit's builder has no control groups; a \
                 BuildKit server does, by --builder"
            );
        }
        for entitlement in &self.allow {
            match entitlement.as_str() {
                // A command may use the machine's network anyway.
                "network.host" | "security.insecure" => {}
                _ => bail!("invalid entitlement: {entitlement}"),
            }
        }
        Ok(outputs)
    }

    /// What is asked about the Dockerfile, if it is not built.
    pub fn question(&self) -> Option<Call> {
        let check = |format| Call { what: What::Check, format, ignore_status: false };
        self.check.map(check).or_else(|| (self.call.what != What::Build).then_some(self.call))
    }

    /// Whether commands may have all rights that koskit has.
    pub fn is_insecure(&self) -> bool {
        self.allow.iter().any(|entitlement| entitlement == "security.insecure")
    }

    /// The builder that is named; `koskit` is the one in this process.
    pub fn builder(&self) -> Option<String> {
        let builder = self.builder.clone().or_else(|| std::env::var("KOSKIT_BUILDER").ok());
        builder.filter(|builder| !matches!(builder.as_str(), "" | "koskit"))
    }

    /// How progress is shown.
    pub fn progress(&self) -> progress::Mode {
        Mode::choose(self.progress, self.quiet)
    }

    /// Whether nothing is shown but the image's ID.
    pub fn is_quiet(&self) -> bool {
        self.progress() == progress::Mode::Quiet
    }
}
