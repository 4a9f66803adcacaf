//! `koskit compose`: systems of several services. So far their images are built.
//!
//! Each image is built by a `koskit build` of its own, since an engine is one process's: it
//! enters namespaces.

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use koskit_compose::{Build, Environment, FILES, Project, Selection, Service, Source};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};

/// Build the images of a system of services
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The compose file [default: compose.yaml, compose.yml, docker-compose.yaml or .yml]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name of the project [default: $COMPOSE_PROJECT_NAME, what the file says, its directory]
    #[arg(short, long, value_name = "NAME")]
    project_name: Option<String>,
    /// A file of variables [default: .env beside the compose file]
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A profile whose services are there, too; * are all
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  koskit compose build                       all services of ./compose.yaml that have a build
  koskit compose -f x.yaml build server      one of them
  koskit compose build --dry-run             only show the builds";

#[derive(Subcommand)]
enum Command {
    Build(BuildArguments),
}

/// Build the images of services
///
/// An image is named as the service's `image` says, else PROJECT-SERVICE. One whose name begins
/// with kos: is built for seL4.
#[derive(Args)]
struct BuildArguments {
    /// A value for an ARG of all of them
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Run all steps, even those whose result is known
    #[arg(long)]
    no_cache: bool,
    /// Ask for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the images, too
    #[arg(long)]
    push: bool,
    /// How to show progress, as in koskit build
    #[arg(long, value_name = "HOW")]
    progress: Option<String>,
    /// Where to build, as in koskit build
    #[arg(long, value_name = "BUILDER")]
    builder: Option<String>,
    /// Show nothing, and print the images' IDs when they are built
    #[arg(short, long)]
    quiet: bool,
    /// Also build what these services depend on
    #[arg(long)]
    with_dependencies: bool,
    /// Show the builds and run none
    #[arg(long)]
    dry_run: bool,
    /// Services; none are all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Does what the command says.
///
/// # Errors
/// The compose file is wrong, or a build fails; those before it have their images, then.
pub fn compose(arguments: &Arguments) -> Result<()> {
    let project = project(arguments)?;
    match &arguments.command {
        Command::Build(build) => self::build(&project, arguments, build),
    }
}

fn project(arguments: &Arguments) -> Result<Project> {
    let mut variables = Environment::process();
    let (path, text) = file(arguments)?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = fs::canonicalize(directory)
        .with_context(|| format!("cannot open the directory {}", directory.display()))?;
    for file in &arguments.env_file {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        add(&mut variables, file, &text)?;
    }
    if arguments.env_file.is_empty() {
        let file = directory.join(".env");
        match fs::read_to_string(&file) {
            Ok(text) => add(&mut variables, &file, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        }
    }
    let name = arguments.project_name.as_deref();
    let name = name.or_else(|| variables.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty()));
    let name = name.map(str::to_owned);
    let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
    let source = Source::new(shown, text);
    Ok(Project::read(source, &directory, name.as_deref(), &variables)?)
}

fn add(variables: &mut Environment, path: &Path, text: &str) -> Result<()> {
    variables.add_file(text).map_err(|(line, why)| anyhow!("{}:{line}: {why}", path.display()))
}

/// The compose file's path and text.
fn file(arguments: &Arguments) -> Result<(PathBuf, String)> {
    let path = match &arguments.file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.context("cannot read a compose file from standard input")?;
            return Ok((PathBuf::from("compose.yaml"), text));
        }
        Some(path) => path.clone(),
        None => {
            let found = FILES.iter().map(PathBuf::from).find(|path| path.exists());
            found.with_context(|| {
                format!("there is no {} here; name another file with -f", FILES.join(", no "))
            })?
        }
    };
    let size = fs::metadata(&path).map(|metadata| metadata.len());
    let size = size.with_context(|| format!("cannot read {}", path.display()))?;
    if size > koskit_compose::yaml::MAX_FILE as u64 {
        bail!("{} is larger than 4 MiB, as no compose file is", path.display());
    }
    let text = fs::read_to_string(&path);
    Ok((path.clone(), text.with_context(|| format!("cannot read {}", path.display()))?))
}

fn build(project: &Project, all: &Arguments, arguments: &BuildArguments) -> Result<()> {
    let selection = Selection {
        services: arguments.services.clone(),
        profiles: all.profile.clone(),
        with_dependencies: arguments.with_dependencies,
    };
    let services = project.to_build(&selection)?;
    if services.is_empty() && !arguments.quiet {
        crate::output::error("nothing to build: no service that was asked for has a build\n");
    }
    let this = std::env::current_exe().context("cannot find koskit's own program")?;
    for (name, service, build) in services {
        let words = words(project, name, service, build, arguments);
        if arguments.dry_run {
            crate::output::print(&format!("koskit {}\n", shown(&words)))?;
            continue;
        }
        let inline = build.dockerfile_inline.as_deref();
        let mut child = Program::new(&this)
            .args(&words)
            .stdin(if inline.is_some() { Stdio::piped() } else { Stdio::null() })
            .spawn()
            .context("cannot start koskit build")?;
        if let (Some(text), Some(mut stdin)) = (inline, child.stdin.take()) {
            // Where it ends before it has read all, its own error says why.
            let _ = stdin.write_all(text.as_bytes());
        }
        let status = child.wait().context("cannot wait for koskit build")?;
        if !status.success() {
            bail!("the image of the service {name} was not built");
        }
    }
    Ok(())
}

/// The arguments of the `koskit build` for a service.
fn words(
    project: &Project,
    name: &str,
    service: &Service,
    build: &Build,
    arguments: &BuildArguments,
) -> Vec<String> {
    let mut words = vec!["build".to_owned()];
    let mut flag = |name: &str, value: &str| words.extend([format!("--{name}"), value.to_owned()]);
    flag("tag", &project.image(name));
    build.tags.iter().for_each(|tag| flag("tag", tag));
    match (&build.dockerfile, &build.dockerfile_inline) {
        (_, Some(_)) => flag("file", "-"),
        (Some(path), None) => flag("file", &path.display().to_string()),
        (None, None) => {}
    }
    for (name, value) in &build.args {
        match value {
            Some(value) => flag("build-arg", &format!("{name}={value}")),
            None => flag("build-arg", name),
        }
    }
    arguments.build_arg.iter().for_each(|arg| flag("build-arg", arg));
    build.target.iter().for_each(|target| flag("target", target));
    for (name, value) in &build.labels {
        flag("label", &format!("{name}={value}"));
    }
    for (name, context) in &build.additional_contexts {
        let context = match context.strip_prefix("service:") {
            Some(service) => format!("docker-image://{}", project.image(service)),
            None => context.clone(),
        };
        flag("build-context", &format!("{name}={context}"));
    }
    let platforms = match (build.platforms.is_empty(), &service.platform) {
        (true, Some(platform)) => platform.clone(),
        _ => build.platforms.join(","),
    };
    if !platforms.is_empty() {
        flag("platform", &platforms);
    }
    build.cache_from.iter().for_each(|from| flag("cache-from", from));
    build.cache_to.iter().for_each(|to| flag("cache-to", to));
    build.no_cache_filter.iter().for_each(|stage| flag("no-cache-filter", stage));
    build.network.iter().for_each(|network| flag("network", network));
    build.extra_hosts.iter().for_each(|host| flag("add-host", host));
    build.shm_size.iter().for_each(|size| flag("shm-size", size));
    build.ulimits.iter().for_each(|limit| flag("ulimit", limit));
    build.ssh.iter().for_each(|ssh| flag("ssh", ssh));
    for secret in &build.secrets {
        let from = project.secrets.get(&secret.source).map(String::as_str).unwrap_or_default();
        flag("secret", &format!("id={},{from}", secret.id));
    }
    build.entitlements.iter().for_each(|allowed| flag("allow", allowed));
    arguments.progress.iter().for_each(|how| flag("progress", how));
    arguments.builder.iter().for_each(|builder| flag("builder", builder));
    build.sbom.iter().for_each(|sbom| words.push(format!("--sbom={sbom}")));
    build.provenance.iter().for_each(|kind| words.push(format!("--provenance={kind}")));
    match service.is_native() {
        Some(true) => words.push("--sel4".into()),
        Some(false) => words.push("--sel4=false".into()),
        None => {}
    }
    let mut switch = |on: bool, name: &str| words.extend(on.then(|| format!("--{name}")));
    switch(build.no_cache || arguments.no_cache, "no-cache");
    switch(build.pull || arguments.pull, "pull");
    switch(arguments.push, "push");
    switch(arguments.quiet, "quiet");
    // A directory may be called like an option.
    words.extend(["--".to_owned(), build.context.clone()]);
    words
}

/// Words as a shell would take them.
fn shown(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+%".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
