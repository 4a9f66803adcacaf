//! A compose file as a project: its name and its services.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use koskit_dockerfile::{Diagnostic, Errors, Severity, Source, Span, nearest};
use thiserror::Error;

use crate::reader::Reader;
use crate::yaml::{self, Node, Value};
use crate::{Build, Environment};

const KEYS: [&str; 9] = [
    "configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes",
];

/// The keys of a service, as the specification has them.
const SERVICE_KEYS: [&str; 95] = [
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "pull_refresh_after",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
    "x-koskit",
    "x-kos",
];

/// What one compose file describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name: lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// Its services by their names.
    pub services: BTreeMap<String, Service>,
    /// Where secrets come from, in the words of `--secret` without the id.
    pub secrets: BTreeMap<String, String>,
}

/// One service, as far as building goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// What its image is called.
    pub image: Option<Image>,
    /// How the image is built, if it is.
    pub build: Option<Build>,
    /// Services that it needs.
    pub depends_on: BTreeSet<String>,
    /// It is there only where one of these is asked for; empty is always.
    pub profiles: Vec<String>,
    /// What its image is for.
    pub platform: Option<String>,
    /// Whether it is said to run natively (true) or in a microVM (false).
    pub native: Option<bool>,
}

/// The name of an image, and what a prefix says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Without the prefix.
    pub name: String,
    /// `kos:NAME` is a native image, `docker:NAME` one for Linux.
    pub native: Option<bool>,
}

/// What of a project is asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Services by name; none are all whose profiles are on.
    pub services: Vec<String>,
    /// Profiles that are on; `*` are all.
    pub profiles: Vec<String>,
    /// Also what these depend on.
    pub with_dependencies: bool,
}

/// A name that no service has.
#[derive(Debug, Error)]
#[error("the project {project} has no service {name}; {}", hint(name, known))]
pub struct UnknownService {
    /// The project.
    pub project: String,
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

fn hint(name: &str, known: &[String]) -> String {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it has {}", known.join(", ")),
    }
}

impl Project {
    /// Reads a compose file. `directory` is the project's: what relative paths are relative to.
    /// The name is `name` if that is given, else what the file says, else the directory's.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn read(
        source: Source,
        directory: &Path,
        name: Option<&str>,
        variables: &Environment,
    ) -> Result<Self, Errors> {
        let source = Arc::new(source);
        let mut reader = Reader { variables, diagnostics: Vec::new() };
        let project = match yaml::parse(&source) {
            Ok(root) => Some(read(&mut reader, root, directory, name)),
            Err(error) => {
                reader.diagnostics.push(*error);
                None
            }
        };
        let mut diagnostics = reader.diagnostics;
        // What an anchor holds is told where it is written, and once.
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        diagnostics.dedup();
        match project {
            Some(project) if diagnostics.iter().all(|d| d.severity != Severity::Error) => {
                Ok(project)
            }
            _ => Err(Errors { source, diagnostics }),
        }
    }

    /// The services that are asked for and are built, each after those that it needs.
    ///
    /// # Errors
    /// A name that no service has.
    pub fn to_build(
        &self,
        selection: &Selection,
    ) -> Result<Vec<(&str, &Service, &Build)>, UnknownService> {
        let mut chosen: Vec<&str> = Vec::new();
        for name in &selection.services {
            let Some((name, _)) = self.services.get_key_value(name) else {
                return Err(UnknownService {
                    project: self.name.clone(),
                    name: name.clone(),
                    known: self.services.keys().cloned().collect(),
                });
            };
            chosen.push(name);
        }
        if chosen.is_empty() {
            let on = |profile: &String| {
                selection.profiles.iter().any(|asked| asked == profile || asked == "*")
            };
            let is_on =
                |service: &Service| service.profiles.is_empty() || service.profiles.iter().any(on);
            let services = self.services.iter().filter(|(_, service)| is_on(service));
            chosen = services.map(|(name, _)| name.as_str()).collect();
        }
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in chosen {
            self.visit(name, selection.with_dependencies, &mut seen, &mut order);
        }
        Ok(order)
    }

    /// Puts a service after what it needs. Circles were refused when the file was read.
    fn visit<'a>(
        &'a self,
        name: &str,
        dependencies: bool,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<(&'a str, &'a Service, &'a Build)>,
    ) {
        let Some((name, service)) = self.services.get_key_value(name) else { return };
        if !seen.insert(name) {
            return;
        }
        for needed in service.needed_images() {
            self.visit(needed, dependencies, seen, order);
        }
        if dependencies {
            for needed in &service.depends_on {
                self.visit(needed, dependencies, seen, order);
            }
        }
        if let Some(build) = &service.build {
            order.push((name, service, build));
        }
    }

    /// What the image of a service is called: as the file says, else by project and service.
    pub fn image(&self, name: &str) -> String {
        let image = self.services.get(name).and_then(|service| service.image.as_ref());
        image.map_or_else(|| format!("{}-{name}", self.name), |image| image.name.clone())
    }
}

impl Service {
    /// Whether it is for seL4, where the file says so.
    pub fn is_native(&self) -> Option<bool> {
        self.native.or(self.image.as_ref()?.native)
    }

    /// The services whose images its build takes files from.
    fn needed_images(&self) -> impl Iterator<Item = &str> {
        let contexts = self.build.iter().flat_map(|build| build.additional_contexts.values());
        contexts.filter_map(|context| context.strip_prefix("service:"))
    }
}

fn read(reader: &mut Reader<'_>, mut root: Node, directory: &Path, name: Option<&str>) -> Project {
    reader.interpolate(&mut root);
    let entries = reader.map(&root, "the compose file");
    reader.known(entries, "a compose file", &KEYS);
    let stated = root.get("name").and_then(|node| Some((reader.text(node, "name")?, node.span)));
    if let Some(node) = root.get("include") {
        reader.error(node.span, "include is not supported yet by koskit");
    }
    let mut project = Project {
        name: project_name(reader, name, stated, directory),
        services: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    for (key, node) in root.get("secrets").map_or(&[][..], |node| reader.map(node, "secrets")) {
        let mut get = |key| node.get(key).and_then(|node| reader.text(node, key));
        let words = match (get("file"), get("environment")) {
            (Some(file), _) => format!("src={}", directory.join(file).display()),
            (None, Some(variable)) => format!("env={variable}"),
            (None, None) => continue,
        };
        project.secrets.insert(key.text.clone(), words);
    }
    match root.get("services") {
        Some(services) => {
            for (key, node) in reader.map(services, "services") {
                let service = service(reader, node, directory);
                project.services.insert(key.text.clone(), service);
            }
            check(reader, &project, services);
        }
        None => reader.error(Span::new(0, 0), "the compose file has no services"),
    }
    project
}

fn project_name(
    reader: &mut Reader<'_>,
    given: Option<&str>,
    stated: Option<(String, Span)>,
    directory: &Path,
) -> String {
    let good = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
    };
    if let Some(name) = given {
        return name.to_owned();
    }
    if let Some((name, span)) = stated {
        if !good(&name) {
            let error = Diagnostic::error(span, format!("{name:?} is no name for a project"));
            let hint = "lower-case letters, digits, _ and -, a letter or digit first";
            reader.diagnostics.push(error.hint(hint));
        }
        return name;
    }
    let folder = directory.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let kept = folder.chars().filter(|c| good(&format!("a{c}"))).collect::<String>();
    let name = kept.trim_start_matches(['_', '-']).to_owned();
    if name.is_empty() { "default".into() } else { name }
}

fn service(reader: &mut Reader<'_>, node: &Node, directory: &Path) -> Service {
    let entries = reader.map(node, "a service");
    reader.known(entries, "a service", &SERVICE_KEYS);
    let mut service = Service::default();
    for (key, node) in entries {
        let name = key.text.as_str();
        match name {
            "image" => service.image = reader.text(node, name).map(image),
            "build" => service.build = Some(Build::read(reader, node, directory)),
            "depends_on" => {
                service.depends_on = match &node.value {
                    Value::Map(entries) => {
                        entries.iter().map(|(key, _)| key.text.clone()).collect()
                    }
                    _ => reader.list(node, name).into_iter().collect(),
                }
            }
            "profiles" => service.profiles = reader.list(node, name),
            "platform" => service.platform = reader.text(node, name),
            "extends" => reader.error(key.span, "extends is not supported yet by koskit"),
            "x-koskit" => {
                let isolation =
                    node.get("isolation").map(|node| (node.span, reader.text(node, "isolation")));
                service.native = match isolation {
                    Some((_, Some(text))) if text == "native" => Some(true),
                    Some((_, Some(text))) if text == "microvm" => Some(false),
                    Some((_, Some(text))) if text == "auto" => None,
                    Some((span, Some(text))) => {
                        let why = format!("there is no isolation {text:?}");
                        let error = Diagnostic::error(span, why);
                        reader.diagnostics.push(error.label("expected native, microvm or auto"));
                        None
                    }
                    _ => None,
                };
            }
            _ => {}
        }
    }
    service
}

fn image(text: String) -> Image {
    let (name, native) = match (text.strip_prefix("kos:"), text.strip_prefix("docker:")) {
        (Some(name), _) => (name.to_owned(), Some(true)),
        (_, Some(name)) => (name.to_owned(), Some(false)),
        _ => (text, None),
    };
    Image { name, native }
}

/// What one service says of others.
fn check(reader: &mut Reader<'_>, project: &Project, services: &Node) {
    for (name, service) in &project.services {
        let node = services.get(name);
        let place = |key: &str| {
            let node = node.and_then(|node| node.get(key));
            node.map_or(services.span, |node| node.span)
        };
        let needed = service.needed_images().map(|name| (name, "build"));
        let needed =
            needed.chain(service.depends_on.iter().map(|name| (name.as_str(), "depends_on")));
        for (other, key) in needed {
            if !project.services.contains_key(other) {
                let error = Diagnostic::error(place(key), format!("there is no service {other}"));
                let near = nearest(other, project.services.keys().map(String::as_str));
                reader.diagnostics.push(match near {
                    Some(near) => error.hint(format!("did you mean {near}?")),
                    None => error,
                });
            } else if reaches(project, other, name) {
                let why = format!("{name} and {other} need each other");
                reader.error(place(key), why);
            }
        }
        let secrets = service.build.iter().flat_map(|build| &build.secrets);
        for secret in secrets.filter(|secret| !project.secrets.contains_key(&secret.source)) {
            let name = &secret.source;
            let error = Diagnostic::error(place("build"), format!("there is no secret {name}"));
            let hint = "the file's secrets must have it, with a file or an environment variable";
            reader.diagnostics.push(error.hint(hint));
        }
    }
}

/// Whether a service needs another one, if only by way of others.
fn reaches(project: &Project, from: &str, to: &str) -> bool {
    let mut todo = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        if name == to {
            return true;
        }
        if !seen.insert(name) {
            continue;
        }
        if let Some(service) = project.services.get(name) {
            todo.extend(service.needed_images());
            todo.extend(service.depends_on.iter().map(String::as_str));
        }
    }
    false
}

#[cfg(test)]
mod tests;
