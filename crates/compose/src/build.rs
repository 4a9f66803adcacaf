//! The build section of a service.
//! <https://github.com/compose-spec/compose-spec/blob/main/build.md>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use koskit_dockerfile::Diagnostic;

use crate::reader::Reader;
use crate::yaml::{Node, Value};

const KEYS: [&str; 25] = [
    "additional_contexts",
    "args",
    "cache_from",
    "cache_to",
    "context",
    "dockerfile",
    "dockerfile_inline",
    "entitlements",
    "extra_hosts",
    "isolation",
    "labels",
    "network",
    "no_cache",
    "no_cache_filter",
    "platforms",
    "privileged",
    "provenance",
    "pull",
    "sbom",
    "secrets",
    "shm_size",
    "ssh",
    "tags",
    "target",
    "ulimits",
];

/// How the image of a service is built. Paths are absolute where the project's directory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// A directory or, with `://` or `git@`, something elsewhere.
    pub context: String,
    /// The Dockerfile's path.
    pub dockerfile: Option<PathBuf>,
    /// The Dockerfile's text.
    pub dockerfile_inline: Option<String>,
    /// Values of ARGs; `None` is that of the environment.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// More names of the image.
    pub tags: Vec<String>,
    /// What it is for; empty is koskit's default.
    pub platforms: Vec<String>,
    /// Contexts by their names. `service:NAME` is another service's image.
    pub additional_contexts: BTreeMap<String, String>,
    /// Where the cache comes from, in the words of `--cache-from`.
    pub cache_from: Vec<String>,
    /// Where it goes.
    pub cache_to: Vec<String>,
    /// Run all steps.
    pub no_cache: bool,
    /// Run the steps of these stages.
    pub no_cache_filter: Vec<String>,
    /// Ask for newer base images.
    pub pull: bool,
    /// `default`, `none` or `host`.
    pub network: Option<String>,
    /// `HOST:ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// Size of `/dev/shm`.
    pub shm_size: Option<String>,
    /// Limits of commands, in the words of `--ulimit`.
    pub ulimits: Vec<String>,
    /// In the words of `--ssh`.
    pub ssh: Vec<String>,
    /// Secrets for `RUN --mount=type=secret`.
    pub secrets: Vec<BuildSecret>,
    /// In the words of `--allow`.
    pub entitlements: Vec<String>,
    /// In the words of `--sbom`.
    pub sbom: Option<String>,
    /// In the words of `--provenance`.
    pub provenance: Option<String>,
}

/// A secret of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSecret {
    /// By which the Dockerfile knows it.
    pub id: String,
    /// Its name among the project's secrets.
    pub source: String,
}

impl Build {
    pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, directory: &Path) -> Self {
        if let Value::Scalar { text, .. } = &node.value {
            return Self { context: context(text, directory), ..Self::default() };
        }
        let mut build = Self { context: context(".", directory), ..Self::default() };
        let entries = reader.map(node, "build");
        reader.known(entries, "build", &KEYS);
        // Where the Dockerfile is depends on the context, wherever in the section that stands.
        if let Some(node) = node.get("context") {
            build.context = context(&reader.text(node, "context").unwrap_or_default(), directory);
        }
        for (key, node) in entries {
            let name = key.text.as_str();
            match name {
                "dockerfile" => {
                    let path = reader.text(node, name).map(PathBuf::from);
                    let here = !is_elsewhere(&build.context);
                    build.dockerfile = path
                        .map(|path| if here { Path::new(&build.context).join(path) } else { path });
                }
                "dockerfile_inline" => build.dockerfile_inline = reader.text(node, name),
                "args" => build.args = reader.pairs(node, name),
                "target" => build.target = reader.text(node, name),
                "labels" => {
                    let labels = reader.pairs(node, name).into_iter();
                    build.labels = labels.map(|(k, v)| (k, v.unwrap_or_default())).collect();
                }
                "tags" => build.tags = reader.list(node, name),
                "platforms" => build.platforms = reader.list(node, name),
                "additional_contexts" => {
                    for (name, value) in reader.pairs(node, name) {
                        let value = value.unwrap_or_default();
                        let value = match value.starts_with("service:") {
                            true => value,
                            false => context(&value, directory),
                        };
                        build.additional_contexts.insert(name, value);
                    }
                }
                "cache_from" => build.cache_from = reader.list(node, name),
                "cache_to" => build.cache_to = reader.list(node, name),
                "no_cache" => build.no_cache = reader.boolean(node, name).unwrap_or_default(),
                "no_cache_filter" => build.no_cache_filter = reader.one_or_list(node, name),
                "pull" => build.pull = reader.boolean(node, name).unwrap_or_default(),
                "network" => build.network = reader.text(node, name),
                "extra_hosts" => build.extra_hosts = hosts(reader, node),
                "shm_size" => build.shm_size = reader.text(node, name),
                "ulimits" => build.ulimits = limits(reader, node),
                "ssh" => {
                    let keys = match &node.value {
                        Value::Scalar { text, .. } => BTreeMap::from([(text.clone(), None)]),
                        _ => reader.pairs(node, name),
                    };
                    let key = |(id, path): (String, Option<String>)| match path {
                        Some(path) => format!("{id}={path}"),
                        None => id,
                    };
                    build.ssh = keys.into_iter().map(key).collect();
                }
                "secrets" => build.secrets = secrets(reader, node),
                "entitlements" => build.entitlements = reader.list(node, name),
                "sbom" => build.sbom = reader.text(node, name),
                "provenance" => build.provenance = reader.text(node, name),
                "privileged" if reader.boolean(node, name) == Some(false) => {}
                "isolation" if reader.text(node, name).as_deref() == Some("default") => {}
                "privileged" | "isolation" => {
                    reader.error(key.span, format!("build has {name}, which koskit cannot honour"));
                }
                _ => {}
            }
        }
        if let (Some(_), Some(node)) = (&build.dockerfile_inline, node.get("dockerfile")) {
            let error = Diagnostic::error(node.span, "build has dockerfile and dockerfile_inline");
            reader.diagnostics.push(error.hint("only one of them can be the Dockerfile"));
        }
        build
    }
}

/// Whether a context is no directory here.
fn is_elsewhere(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

fn context(text: &str, directory: &Path) -> String {
    if is_elsewhere(text) {
        return text.to_owned();
    }
    let path = match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => directory.join(text),
    };
    // A person reads it: without the dots that joining leaves.
    let path: PathBuf = path.components().collect();
    path.display().to_string()
}

/// `HOST=ADDRESS`, `HOST:ADDRESS`, or a mapping of one or several addresses.
fn hosts(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let Value::Map(entries) = &node.value else {
        let entries = reader.list(node, "extra_hosts");
        return entries.into_iter().map(|entry| entry.replacen('=', ":", 1)).collect();
    };
    let mut hosts = Vec::new();
    for (key, node) in entries {
        let addresses = reader.one_or_list(node, &key.text);
        hosts.extend(addresses.iter().map(|address| format!("{}:{address}", key.text)));
    }
    hosts
}

/// `NAME: LIMIT`, or `NAME` with `soft` and `hard`.
fn limits(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut limits = Vec::new();
    for (key, node) in reader.map(node, "ulimits") {
        let name = &key.text;
        if let Value::Scalar { .. } = &node.value {
            limits.extend(reader.text(node, name).map(|limit| format!("{name}={limit}")));
            continue;
        }
        let entries = reader.map(node, name);
        reader.known(entries, name, &["hard", "soft"]);
        let mut get = |key| node.get(key).and_then(|node| reader.text(node, key));
        match (get("soft"), get("hard")) {
            (Some(soft), Some(hard)) => limits.push(format!("{name}={soft}:{hard}")),
            _ => reader.error(node.span, format!("the limit {name} must have soft and hard")),
        }
    }
    limits
}

fn secrets(reader: &mut Reader<'_>, node: &Node) -> Vec<BuildSecret> {
    let Value::List(list) = &node.value else {
        reader.list(node, "secrets");
        return Vec::new();
    };
    let mut secrets = Vec::new();
    for node in list {
        if let Value::Scalar { text, .. } = &node.value {
            secrets.push(BuildSecret { id: text.clone(), source: text.clone() });
            continue;
        }
        let entries = reader.map(node, "a secret");
        reader.known(entries, "a secret", &["gid", "mode", "source", "target", "uid"]);
        let mut get = |key| node.get(key).and_then(|node| reader.text(node, key));
        match (get("source"), get("target")) {
            (Some(source), target) => {
                secrets.push(BuildSecret { id: target.unwrap_or_else(|| source.clone()), source });
            }
            (None, _) => reader.error(node.span, "a secret of a build must have a source"),
        }
    }
    secrets
}
