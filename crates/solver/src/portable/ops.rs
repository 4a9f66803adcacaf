//! What BuildKit calls an op's cache map: a digest of what the op does, and for each input which
//! part of it matters.
//!
//! Such a digest is that of the op as Go's `encoding/json` writes it, with all that makes no
//! difference left out. So the members, their order, and which of them are written when they are
//! empty are those of BuildKit's types (`solver/pb`), and its oddities are ours.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use koskit_llb::path::clean_absolute;
use koskit_llb::{Digest, Glob, Platform, Vertex, pb};
use pb::file_action::Action;
use pb::user_opt::User;
use serde_json::{Map, Value, json};

/// What an op does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheMap {
    pub digest: Digest,
    /// For each input of the vertex.
    pub inputs: Vec<Dependency>,
}

/// What of an input matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dependency {
    /// Tells links to parts of the same input apart.
    pub selector: Option<Digest>,
    /// Whose contents can stand for the input; `None` where only how it was made can.
    pub contents: Option<Vec<Selector>>,
}

/// Files of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    /// As the op has it.
    pub path: String,
    pub wildcard: bool,
    pub follow: bool,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

impl CacheMap {
    /// That of a vertex which is no source; `None` for one that BuildKit does not look up by it.
    pub fn of(vertex: &Vertex) -> Option<Self> {
        match &vertex.op {
            pb::op::Op::Exec(op) => Some(exec(op, vertex)),
            pb::op::Op::File(op) => file(op, vertex.inputs.len()),
            pb::op::Op::Merge(op) => {
                let input = |input: &pb::MergeInput| Object::new().number("input", input.input);
                let inputs = op.inputs.iter().map(|one| input(one).json());
                let op = Object::new().list("inputs", inputs);
                let whole = json!({ "Type": "buildkit.merge.v0", "Merge": op.json() });
                Some(Self::plain(&whole, vertex))
            }
            pb::op::Op::Diff(op) => {
                let part = |input: i64| Object::new().number("input", input).json();
                let op = Object::new()
                    .value("lower", op.lower.as_ref().map(|lower| part(lower.input)))
                    .value("upper", op.upper.as_ref().map(|upper| part(upper.input)));
                let whole = json!({ "Type": "buildkit.diff.v0", "Diff": op.json() });
                Some(Self::plain(&whole, vertex))
            }
            pb::op::Op::Source(_) | pb::op::Op::Build(_) => None,
        }
    }

    /// One whose inputs matter as a whole.
    fn plain(whole: &Value, vertex: &Vertex) -> Self {
        let inputs = vec![Dependency::default(); vertex.inputs.len()];
        Self { digest: Digest::of(&encoded(whole)), inputs }
    }
}

fn exec(op: &pb::ExecOp, vertex: &Vertex) -> CacheMap {
    let empty = pb::Meta::default();
    let meta = op.meta.as_ref().unwrap_or(&empty);
    let hosts = meta.extra_hosts.iter().map(|host| Object::new().text("Host", &host.host).json());
    let limits = meta.ulimit.iter().map(|limit| {
        let name = Object::new().text("Name", &limit.name);
        name.number("Soft", limit.soft).number("Hard", limit.hard).json()
    });
    let meta = Object::new()
        .list("args", meta.args.iter().map(|arg| arg.as_str().into()))
        .list("env", meta.env.iter().map(|variable| variable.as_str().into()))
        .text("cwd", &meta.cwd)
        .text("user", &meta.user)
        .list("extraHosts", hosts)
        .text("hostname", &meta.hostname)
        .list("ulimit", limits)
        .text("cgroupParent", &meta.cgroup_parent)
        .flag("removeMountStubsRecursive", meta.remove_mount_stubs_recursive)
        .list("validExitCodes", meta.valid_exit_codes.iter().map(|&code| code.into()));
    // The one mount of a plain RUN is left out.
    let plain = match op.mounts.as_slice() {
        [root] => {
            let own = [root.cache_opt.is_some(), root.ssh_opt.is_some(), root.secret_opt.is_some()];
            root.dest == "/"
                && !root.readonly
                && root.mount_type == pb::MountType::Bind as i32
                && own == [false; 3]
                && root.result_id.is_empty()
        }
        _ => false,
    };
    let mounts = op.mounts.iter().filter(|_| !plain).map(mount);
    let variables = op.secretenv.iter().map(|variable| {
        let named = Object::new().text("ID", &variable.id).text("name", &variable.name);
        named.flag("optional", variable.optional).json()
    });
    let devices = op.cdi_devices.iter().map(|device| {
        Object::new().text("name", &device.name).flag("optional", device.optional).json()
    });
    let exec = Object::new()
        .value("meta", Some(meta.json()))
        .list("mounts", mounts)
        .number("network", op.network.into())
        .number("security", op.security.into())
        .list("secretenv", variables)
        .list("cdiDevices", devices);
    let host = Platform::host();
    let platform = vertex.platform.as_ref().unwrap_or(&host).to_pb();
    let whole = Object(Map::new())
        .value("Type", Some("buildkit.exec.v0".into()))
        .value("Exec", Some(exec.json()))
        .value("OS", Some(platform.os.as_str().into()))
        .value("Arch", Some(platform.architecture.as_str().into()))
        .text("Variant", &platform.variant)
        .text("OSVersion", &platform.os_version)
        .list("OSFeatures", platform.os_features.iter().map(|one| one.as_str().into()));
    let digest = Digest::of(&encoded(&whole.json()));
    CacheMap { digest, inputs: mounted(op, vertex.inputs.len()) }
}

fn mount(mount: &pb::Mount) -> Value {
    let cache = mount.cache_opt.as_ref().map(|options| {
        // The namespace of a cache and how it is shared are left out where somebody chose them.
        let is_default = options.id == mount.dest
            || options.id.split_once('/').is_some_and(|(_, rest)| rest == mount.dest);
        match is_default && options.sharing == 0 {
            true => Object::new().text("ID", &options.id).json(),
            false => json!({}),
        }
    });
    let file = |id: &str, numbers: [u32; 3], optional: bool| {
        let [uid, gid, mode] = numbers.map(i64::from);
        let id = Object::new().text("ID", id).number("uid", uid).number("gid", gid);
        id.number("mode", mode).flag("optional", optional).json()
    };
    let secret = mount.secret_opt.as_ref();
    let secret = secret.map(|o| file(&o.id, [o.uid, o.gid, o.mode], o.optional));
    let agent = mount.ssh_opt.as_ref();
    let agent = agent.map(|o| file(&o.id, [o.uid, o.gid, o.mode], o.optional));
    let tmpfs = mount.tmpfs_opt.as_ref();
    Object::new()
        .number("input", mount.input)
        .text("dest", &mount.dest)
        .number("output", mount.output)
        .flag("readonly", mount.readonly)
        .number("mountType", mount.mount_type.into())
        .value("TmpfsOpt", tmpfs.map(|o| Object::new().number("size", o.size).json()))
        .value("cacheOpt", cache)
        .value("secretOpt", secret)
        .value("SSHOpt", agent)
        .text("resultID", &mount.result_id)
        .number("contentCache", mount.content_cache.into())
        .json()
}

/// What of each input an exec op mounts.
fn mounted(op: &pb::ExecOp, inputs: usize) -> Vec<Dependency> {
    let mut paths = vec![(Vec::new(), false); inputs];
    for mount in &op.mounts {
        use pb::MountType::{Secret, Ssh, Tmpfs};
        if matches!(mount.mount_type(), Secret | Ssh | Tmpfs) {
            continue;
        }
        let input = usize::try_from(mount.input).ok().and_then(|input| paths.get_mut(input));
        let Some((paths, contents)) = input else { continue };
        let path = clean_absolute(&mount.selector);
        // A part that the command can change and whose result is kept has more than that part.
        let safe = mount.output == -1 || mount.readonly || path == "/";
        *contents = match mount.content_cache() {
            pb::MountContentCache::Off => false,
            pb::MountContentCache::On => safe,
            pb::MountContentCache::Default => safe && mount.dest != "/",
        };
        paths.push(path);
    }
    let dependency = |(paths, contents): (Vec<String>, bool)| Dependency {
        selector: (!paths.is_empty()).then(|| Digest::of(paths.join("\0").as_bytes())),
        contents: contents.then(|| match paths.iter().any(|path| path == "/") {
            true => Vec::new(),
            false => outermost(paths).into_iter().map(|path| plain(path, true)).collect(),
        }),
    };
    paths.into_iter().map(dependency).collect()
}

fn file(op: &pb::FileOp, inputs: usize) -> Option<CacheMap> {
    let mut actions = Vec::new();
    let mut indexes = Vec::new();
    let mut selectors: BTreeMap<usize, Vec<Selector>> = BTreeMap::new();
    // Those that are changed matter as a whole.
    let mut changed = BTreeSet::new();
    for action in &op.actions {
        changed.extend(usize::try_from(action.input).ok());
        let json = match action.action.as_ref()? {
            Action::Mkdir(dir) => Object::new()
                .text("path", &dir.path)
                .number("mode", dir.mode.into())
                .flag("makeParents", dir.make_parents)
                .value("owner", owner(dir.owner.as_ref(), &mut selectors))
                .number("timestamp", dir.timestamp),
            Action::Mkfile(file) => {
                let data = base64::engine::general_purpose::STANDARD.encode(&file.data);
                Object::new()
                    .text("path", &file.path)
                    .number("mode", file.mode.into())
                    .text("data", &data)
                    .value("owner", owner(file.owner.as_ref(), &mut selectors))
                    .number("timestamp", file.timestamp)
            }
            Action::Symlink(link) => Object::new()
                .text("oldpath", &link.oldpath)
                .text("newpath", &link.newpath)
                .value("owner", owner(link.owner.as_ref(), &mut BTreeMap::new()))
                .number("timestamp", link.timestamp),
            Action::Rm(rm) => Object::new()
                .text("path", &rm.path)
                .flag("allowNotFound", rm.allow_not_found)
                .flag("allowWildcard", rm.allow_wildcard),
            Action::Copy(copy) => {
                let owner = owner(copy.owner.as_ref(), &mut selectors);
                let from = usize::try_from(action.secondary_input).ok().filter(|&i| i < inputs);
                let source = match from {
                    Some(from) => {
                        selectors.entry(from).or_default().push(Selector {
                            path: copy.src.clone(),
                            wildcard: copy.allow_wildcard && Glob::is_pattern(&copy.src),
                            follow: copy.follow_symlink,
                            include: copy.include_patterns.clone(),
                            exclude: copy.exclude_patterns.clone(),
                        });
                        base(&copy.src)
                    }
                    None => copy.src.clone(),
                };
                copied(copy, &source, owner)
            }
        };
        actions.push(base64::engine::general_purpose::STANDARD.encode(encoded(&json.json())));
        indexes.push([action.input, action.secondary_input, action.output]);
    }
    let count = indexes.len() as i64;
    let usual = indexes.iter().enumerate().all(|(i, [input, secondary, output])| {
        let i = i as i64;
        *input == if i == 0 { 0 } else { count + i - 1 }
            && matches!(secondary, -1 | 1)
            && *output == if i + 1 == count { 0 } else { -1 }
    });
    let mut whole = json!({ "Type": "buildkit.file.v0", "Actions": actions });
    if !usual && !indexes.is_empty() {
        whole["indexes"] = json!(indexes);
    }
    let dependency = |index: usize| match selectors.get(&index) {
        Some(selectors) if !changed.contains(&index) => {
            let mut paths: Vec<&str> = selectors.iter().map(|one| one.path.as_str()).collect();
            paths.sort_unstable();
            paths.reverse();
            let selector = Some(Digest::of(paths.join("\0").as_bytes()));
            Dependency { selector, contents: Some(distinct(selectors)) }
        }
        _ => Dependency::default(),
    };
    let inputs = (0..inputs).map(dependency).collect();
    Some(CacheMap { digest: Digest::of(&encoded(&whole)), inputs })
}

fn copied(copy: &pb::FileActionCopy, source: &str, owner: Option<Value>) -> Object {
    let patterns = |list: &[String]| list.iter().map(|one| one.as_str().into()).collect::<Vec<_>>();
    Object::new()
        .text("src", source)
        .text("dest", &copy.dest)
        .value("owner", owner)
        .number("mode", copy.mode.into())
        .flag("followSymlink", copy.follow_symlink)
        .flag("dirCopyContents", copy.dir_copy_contents)
        .flag("attemptUnpackDockerCompatibility", copy.attempt_unpack_docker_compatibility)
        .flag("createDestPath", copy.create_dest_path)
        .flag("allowWildcard", copy.allow_wildcard)
        .flag("allowEmptyWildcard", copy.allow_empty_wildcard)
        .number("timestamp", copy.timestamp)
        .list("include_patterns", patterns(&copy.include_patterns))
        .list("exclude_patterns", patterns(&copy.exclude_patterns))
        .flag("alwaysReplaceExistingDestPaths", copy.always_replace_existing_dest_paths)
        .text("modeStr", &copy.mode_str)
        .list("required_paths", patterns(&copy.required_paths))
}

/// An owner, and the files that names are looked up in.
fn owner(
    owner: Option<&pb::ChownOpt>,
    selectors: &mut BTreeMap<usize, Vec<Selector>>,
) -> Option<Value> {
    let owner = owner?;
    let mut user = |user: Option<&pb::UserOpt>, file: &str| {
        let user = match user?.user.as_ref() {
            Some(User::ByName(named)) => {
                if let Ok(input) = usize::try_from(named.input) {
                    selectors.entry(input).or_default().push(plain(file.to_owned(), true));
                }
                let name = Object::new().text("name", &named.name);
                json!({ "byName": name.number("input", named.input).json() })
            }
            Some(User::ById(id)) => Object::new().number("byId", (*id).into()).json(),
            None => json!({}),
        };
        Some(json!({ "User": user }))
    };
    let (name, group) =
        (user(owner.user.as_ref(), "/etc/passwd"), user(owner.group.as_ref(), "/etc/group"));
    Some(Object::new().value("user", name).value("group", group).json())
}

/// Selectors without those that lie within others, by their paths.
fn distinct(selectors: &[Selector]) -> Vec<Selector> {
    let (mut special, mut paths, mut followed) = (Vec::new(), Vec::new(), Vec::new());
    for one in selectors {
        match one {
            one if one.is_special() => special.push(one.clone()),
            one if one.follow => followed.push(one.path.clone()),
            one => paths.push(one.path.clone()),
        }
    }
    let mut all: Vec<Selector> =
        outermost(paths).into_iter().map(|path| plain(path, false)).collect();
    all.extend(outermost(followed).into_iter().map(|path| plain(path, true)));
    all.extend(special);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

fn outermost(paths: Vec<String>) -> Vec<String> {
    if paths.len() <= 1 {
        return paths;
    }
    let all: BTreeSet<String> = paths.into_iter().collect();
    let within = |path: &String, other: &String| {
        path != other && path.starts_with(&format!("{}/", other.strip_suffix('/').unwrap_or(other)))
    };
    let is_outermost = |path: &&String| !all.iter().any(|other| within(path, other));
    all.iter().filter(is_outermost).cloned().collect()
}

impl Selector {
    /// Whether it is more than a path.
    pub fn is_special(&self) -> bool {
        self.wildcard || !self.include.is_empty() || !self.exclude.is_empty()
    }
}

fn plain(path: String, follow: bool) -> Selector {
    Selector { path, follow, ..Selector::default() }
}

/// The last part of a path, as Go's `path.Base` has it.
pub(super) fn base(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".".to_owned(),
        "" => "/".to_owned(),
        path => path.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

/// A JSON object, whose members are left out where they are empty.
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub fn new() -> Self {
        Self(Map::new())
    }

    pub fn value(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    pub fn text(self, name: &str, text: &str) -> Self {
        self.value(name, (!text.is_empty()).then(|| text.into()))
    }

    fn number(self, name: &str, number: i64) -> Self {
        self.value(name, (number != 0).then(|| number.into()))
    }

    fn flag(self, name: &str, flag: bool) -> Self {
        self.value(name, flag.then(|| true.into()))
    }

    pub fn list(self, name: &str, list: impl IntoIterator<Item = Value>) -> Self {
        let list: Vec<Value> = list.into_iter().collect();
        self.value(name, (!list.is_empty()).then(|| list.into()))
    }

    pub fn json(self) -> Value {
        Value::Object(self.0)
    }
}

/// JSON as Go writes it: safe within HTML. These characters are in strings only.
pub(super) fn encoded(value: &Value) -> Vec<u8> {
    let mut text = value.to_string();
    for (character, escape) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        if text.contains(character) {
            text = text.replace(character, escape);
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests;
