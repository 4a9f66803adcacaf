//! `koskit build`: a Dockerfile to an image.
//!
//! Dockerfile ─► build graph (`koskit-frontend`) ─► layers (`koskit-solver`) ─► image, then
//! exported and named: who is stopped before that leaves no name behind.

use crate::error;
use crate::names::{self, created, short};
use crate::output::{self, Paint};
use crate::progress::{Mode, Progress};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use koskit_dockerfile::Source;
use koskit_frontend::{BaseImage, Build, ImageConfig, ImageResolver, ResolveError, convert};
use koskit_image::{Image, Store};
use koskit_llb::{Graph, Inputs, Platform, Reference};
use koskit_solver::Solver;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Build an image from a Dockerfile
///
/// No daemon and no root rights are needed. The image is for linux/arm64, which is what seL4
/// machines run, and is kept with the others; steps whose result is known are not run again.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of the image, with or without a tag; may be given several times
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Vec<Reference>,
    /// The Dockerfile, or - for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Build this stage instead of the last one
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// A value for an ARG; without a value, that of the environment variable
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// A label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What the image is for
    #[arg(long, value_name = "PLATFORM", default_value = "linux/arm64")]
    platform: Platform,
    /// Run all steps, even those whose result is known
    #[arg(long)]
    no_cache: bool,
    /// Also write the image somewhere: type=oci,dest=DIR makes an OCI image layout,
    /// type=oci,dest=FILE.tar a tar archive of one
    #[arg(short, long, value_name = "type=oci,dest=PATH")]
    output: Vec<Output>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    progress: Mode,
    /// Show nothing, and print the image's ID when it is built
    #[arg(short, long)]
    quiet: bool,
    /// Directory of files that COPY can have: the build context
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  koskit build -t hello .                             build ./Dockerfile and name the image
  koskit build -t hello -f hello.Dockerfile src       another Dockerfile, another directory
  koskit build --build-arg VERSION=2 --target dev .   one stage, with a value for its ARG
  koskit build -o type=oci,dest=image .               write an OCI image layout, for skopeo";

/// Where an image is written besides the store: `type=oci,dest=DIR` or `type=oci,dest=FILE.tar`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Output {
    path: PathBuf,
    /// A tar archive, rather than a directory.
    archive: bool,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut path, mut tar) = (None, None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest", value)) if !value.is_empty() => path = Some(PathBuf::from(value)),
                Some(("tar", "false")) => tar = Some(false),
                Some(("tar", "true")) => tar = Some(true),
                _ => return Err(format!("{field:?} is none of type=oci, dest=PATH and tar=BOOL")),
            }
        }
        match (kind, path) {
            (Some("oci"), Some(path)) => {
                let archive = tar.unwrap_or_else(|| path.extension().is_some_and(|e| e == "tar"));
                Ok(Self { path, archive })
            }
            (Some("oci"), None) => Err("it has no dest=DIR or dest=FILE.tar".into()),
            (Some(other), _) => Err(format!("there is no output of type {other:?}, only oci")),
            (None, _) => Err("it has no type; write type=oci,dest=DIR".into()),
        }
    }
}

/// Builds the image.
///
/// # Errors
/// The Dockerfile is wrong, or a step fails. No name changes, then.
pub fn build(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let context = context(&arguments.path)?;
    let (dockerfile, beside) = dockerfile(arguments)?;
    let mode = if arguments.quiet { Mode::Quiet } else { arguments.progress };
    let epoch = epoch()?;

    let options = koskit_frontend::Options {
        target: arguments.target.clone(),
        build_args: build_args(&arguments.build_arg),
        target_platform: arguments.platform.clone(),
        labels: names::pairs("label", &arguments.label)?,
        ignore: ignore(&context, beside.as_deref())?,
        no_cache: arguments.no_cache,
        ..koskit_frontend::Options::default()
    };
    let build = convert(dockerfile, &options, &Images(&store))?;
    if mode != Mode::Quiet {
        warn(&build);
    }
    let graph = Graph::new(&build.definition)?;
    let local = BTreeMap::from([(options.context.clone(), context)]);
    let inputs = Inputs { local, ..Inputs::default() };
    // It enters namespaces, and so comes before the thread of the progress.
    let solver = Solver::new(store.clone(), names::cache()?)?;
    let progress = Progress::new(&graph, mode);
    let solve = koskit_solver::Options {
        no_cache: arguments.no_cache,
        epoch,
        ..koskit_solver::Options::default()
    };
    let solved = solver.solve(&graph, &inputs, &solve, &|event| progress.event(&event));
    let solved = match solved {
        Ok(solved) => solved,
        Err(error) => {
            drop(progress);
            return Err(error::of_step(error, &graph, &build.source));
        }
    };

    let mut config = dated(build.config, epoch);
    solved.mark_empty(config.history.iter_mut().map(|entry| &mut entry.empty_layer));
    let image = progress.step("exporting image", || {
        let image = store.add_image(&config, &solved.layers)?;
        for output in &arguments.output {
            let name = arguments.tag.first();
            match output.archive {
                true => store.export_archive(&image, name, &output.path)?,
                false => store.export(&image, name, &output.path)?,
            }
        }
        for name in &arguments.tag {
            store.tag(&name.clone().tagged(), &image.descriptor)?;
        }
        Ok::<_, koskit_image::Error>(image)
    })?;
    tell(arguments, progress, &image)
}

/// The last lines.
fn tell(arguments: &Arguments, progress: Progress, image: &Image) -> Result<()> {
    progress.detail(&format!("image {} ({})", image.id(), output::size(image.size())));
    for output in &arguments.output {
        progress.detail(&format!("written to {}", output.path.display()));
    }
    for name in &arguments.tag {
        progress.detail(&format!("named {}", name.clone().tagged().familiar()));
    }
    let names: Vec<String> = arguments.tag.iter().map(short).collect();
    let result = match names.is_empty() {
        true => image.digest().to_string(),
        false => format!("{} {}", names.join(", "), image.digest()),
    };
    progress.finish(&result);
    if arguments.quiet {
        output::print(&format!("{}\n", image.id()))?;
    }
    Ok(())
}

/// The build context.
fn context(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        bail!("the build context {text:?} is not a directory; koskit builds from directories only");
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_owned()),
        Ok(_) => bail!("the build context {text:?} is a file; give the directory that it is in"),
        Err(error) => {
            Err(error).with_context(|| format!("the build context {text:?} cannot be read"))
        }
    }
}

/// The Dockerfile, and its path where it has one.
fn dockerfile(arguments: &Arguments) -> Result<(Source, Option<PathBuf>)> {
    let path = match &arguments.file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.context("cannot read a Dockerfile from standard input")?;
            return Ok((Source::new("Dockerfile", text), None));
        }
        Some(path) => path.clone(),
        None => arguments.path.join("Dockerfile"),
    };
    let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
    match fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok((Source::new(shown, text), Some(path))),
            Err(_) => bail!("{shown} is not UTF-8 text, as a Dockerfile must be"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && arguments.file.is_none() => {
            Err(anyhow!(
                "there is no Dockerfile in {}; name another file with -f",
                arguments.path.display()
            ))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

/// What of the context does not count: the patterns of `NAME.dockerignore` beside the
/// Dockerfile, else of the context's `.dockerignore`.
fn ignore(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(koskit_frontend::ignore_patterns(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(Vec::new())
}

/// `NAME` alone is the variable as it is here; where it is not set, nothing.
fn build_args(given: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.clone(), value)),
    };
    given.iter().filter_map(pair).collect()
}

/// When images are said to be made, in seconds since 1970: by default at its beginning, so that
/// building twice gives the same image. <https://reproducible-builds.org/specs/source-date-epoch>
fn epoch() -> Result<i64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            // Up to the year 9999, as RFC 3339 can write.
            let seconds =
                text.parse().ok().filter(|seconds| (0..253_402_300_800).contains(seconds));
            seconds.with_context(|| {
                format!("the variable SOURCE_DATE_EPOCH is {text:?}, and not seconds since 1970")
            })
        }
        _ => Ok(0),
    }
}

/// The configuration with that time wherever none stands.
fn dated(mut config: ImageConfig, epoch: i64) -> ImageConfig {
    config.created.get_or_insert_with(|| created(epoch));
    for entry in &mut config.history {
        entry.created.get_or_insert_with(|| created(epoch));
    }
    config
}

/// Shows what the Dockerfile probably does not mean.
fn warn(build: &Build) {
    let paint = Paint::stderr();
    for warning in &build.warnings {
        output::error(&format!("{}\n", warning.render(&build.source, paint.is_on())));
    }
    for name in &build.unused_args {
        let head = paint.with("1;33", "warning:");
        output::error(&format!("{head} no ARG that was built takes the build argument {name}\n"));
    }
}

/// The images of the store, for FROM and COPY --from.
struct Images<'a>(&'a Store);

impl ImageResolver for Images<'_> {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let image = names::resolve(self.0, name, platform)?;
        let config = serde_json::from_value(image.config_json.clone())?;
        Ok(BaseImage { digest: image.digest(), config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_an_oci_layout_in_a_directory_or_an_archive() {
        let parse = |text: &str| text.parse::<Output>().map(|output| (output.path, output.archive));
        assert_eq!(parse("type=oci,dest=a/b"), Ok(("a/b".into(), false)));
        assert_eq!(parse("type=oci,dest=a/b.tar"), Ok(("a/b.tar".into(), true)));
        assert_eq!(parse("dest=x.tar,tar=false,type=oci"), Ok(("x.tar".into(), false)));
        assert_eq!(parse("dest=x,tar=true,type=oci"), Ok(("x".into(), true)));
        assert_eq!(parse("type=oci").unwrap_err(), "it has no dest=DIR or dest=FILE.tar");
        assert_eq!(
            parse("type=docker,dest=x").unwrap_err(),
            "there is no output of type \"docker\", only oci"
        );
        assert!(parse("x").is_err() && parse("type=oci,dest=").is_err() && parse("").is_err());
    }

    #[test]
    fn history_that_has_a_time_keeps_it() {
        let text = r#"{"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers"},
            "history": [{"created": "2020-01-01T00:00:00Z"}, {"created_by": "RUN"}]}"#;
        let config = dated(serde_json::from_str(text).unwrap(), 1);
        let times: Vec<_> = config.history.iter().map(|entry| entry.created.as_deref()).collect();
        assert_eq!(times, [Some("2020-01-01T00:00:00Z"), Some("1970-01-01T00:00:01Z")]);
        assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:01Z"));
    }
}
