//! Ops as BuildKit's provenance writes them, in JSON. A field that is not known here is an
//! error: what was not read was not compared.

use koskit_llb::pb;
use serde_json::{Map, Value};

/// The fields of an object that were not read yet.
struct Object(Map<String, Value>);

impl Object {
    fn new(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            Value::Null => Self(Map::new()),
            other => panic!("{other} is no object"),
        }
    }

    fn take(&mut self, name: &str) -> Value {
        self.0.remove(name).unwrap_or_default()
    }

    fn object(&mut self, name: &str) -> Option<Object> {
        self.0.remove(name).map(Object::new)
    }

    fn text(&mut self, name: &str) -> String {
        self.take(name).as_str().unwrap_or_default().to_owned()
    }

    fn int(&mut self, name: &str) -> i64 {
        self.take(name).as_i64().unwrap_or_default()
    }

    fn small<T: TryFrom<i64, Error: std::fmt::Debug>>(&mut self, name: &str) -> T {
        self.int(name).try_into().unwrap()
    }

    fn flag(&mut self, name: &str) -> bool {
        self.take(name).as_bool().unwrap_or_default()
    }

    fn list<T>(&mut self, name: &str, read: impl Fn(Value) -> T) -> Vec<T> {
        match self.take(name) {
            Value::Array(values) => values.into_iter().map(read).collect(),
            Value::Null => Vec::new(),
            other => panic!("{name} is no list: {other}"),
        }
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        self.list(name, |value| value.as_str().unwrap_or_default().to_owned())
    }

    fn bytes(&mut self, name: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(self.text(name)).unwrap()
    }

    /// The only field that is left, which says of what kind the object is.
    fn variant(mut self) -> Option<(String, Object)> {
        let name = self.0.keys().next()?.clone();
        let value = self.object(&name)?;
        self.end();
        Some((name, value))
    }

    fn end(self) {
        assert!(self.0.is_empty(), "fields that are not known: {:?}", self.0);
    }
}

/// An op; its inputs are given apart from it.
pub fn op(value: Value, inputs: Vec<pb::Input>) -> pb::Op {
    let mut object = Object::new(value);
    let kind = object.object("Op").and_then(Object::variant);
    let op = pb::Op {
        inputs,
        op: kind.map(|(name, fields)| match name.as_str() {
            "source" => pb::op::Op::Source(source(fields)),
            "exec" => pb::op::Op::Exec(exec(fields)),
            "file" => pb::op::Op::File(file(fields)),
            "merge" => pb::op::Op::Merge(merge(fields)),
            other => panic!("there is no kind of op {other}"),
        }),
        platform: object.object("platform").map(platform),
        constraints: object.object("constraints").map(|mut fields| {
            let filter = fields.texts("filter");
            fields.end();
            pb::WorkerConstraints { filter }
        }),
    };
    object.end();
    op
}

fn platform(mut fields: Object) -> pb::Platform {
    let platform = pb::Platform {
        architecture: fields.text("Architecture"),
        os: fields.text("OS"),
        variant: fields.text("Variant"),
        os_version: fields.text("OSVersion"),
        os_features: fields.texts("OSFeatures"),
    };
    fields.end();
    platform
}

fn source(mut fields: Object) -> pb::SourceOp {
    let identifier = fields.text("identifier");
    let attrs = fields.object("attrs").map(|attrs| attrs.0).unwrap_or_default();
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    fields.end();
    pb::SourceOp { identifier, attrs: attrs.into_iter().map(|(k, v)| (k, text(v))).collect() }
}

fn merge(mut fields: Object) -> pb::MergeOp {
    let input = |value| {
        let mut fields = Object::new(value);
        let input = fields.int("input");
        fields.end();
        pb::MergeInput { input }
    };
    let inputs = fields.list("inputs", input);
    fields.end();
    pb::MergeOp { inputs }
}

fn exec(mut fields: Object) -> pb::ExecOp {
    let op = pb::ExecOp {
        meta: fields.object("meta").map(meta),
        mounts: fields.list("mounts", mount),
        network: fields.small("network"),
        security: fields.small("security"),
        secretenv: fields.list("secretenv", |value| {
            let mut fields = Object::new(value);
            let (id, name) = (fields.text("ID"), fields.text("Name").clone());
            let name = if name.is_empty() { fields.text("name") } else { name };
            let optional = fields.flag("optional");
            fields.end();
            pb::SecretEnv { id, name, optional }
        }),
        cdi_devices: fields.list("cdiDevices", |value| panic!("{value}")),
    };
    fields.end();
    op
}

fn meta(mut fields: Object) -> pb::Meta {
    let meta = pb::Meta {
        args: fields.texts("args"),
        env: fields.texts("env"),
        cwd: fields.text("cwd"),
        user: fields.text("user"),
        proxy_env: fields.object("proxy_env").map(|mut fields| {
            let proxy = pb::ProxyEnv {
                http_proxy: fields.text("http_proxy"),
                https_proxy: fields.text("https_proxy"),
                ftp_proxy: fields.text("ftp_proxy"),
                no_proxy: fields.text("no_proxy"),
                all_proxy: fields.text("all_proxy"),
            };
            fields.end();
            proxy
        }),
        extra_hosts: fields.list("extraHosts", |value| {
            let mut fields = Object::new(value);
            let (host, ip) = (fields.text("Host"), fields.text("IP"));
            fields.end();
            pb::HostIp { host, ip }
        }),
        hostname: fields.text("hostname"),
        ulimit: fields.list("ulimit", |value| {
            let mut fields = Object::new(value);
            let name = fields.text("Name");
            let (soft, hard) = (fields.int("Soft"), fields.int("Hard"));
            fields.end();
            pb::Ulimit { name, soft, hard }
        }),
        cgroup_parent: fields.text("cgroupParent"),
        remove_mount_stubs_recursive: fields.flag("removeMountStubsRecursive"),
        valid_exit_codes: fields.list("validExitCodes", |value| panic!("{value}")),
    };
    fields.end();
    meta
}

fn mount(value: Value) -> pb::Mount {
    let mut fields = Object::new(value);
    let mount = pb::Mount {
        input: fields.int("input"),
        selector: fields.text("selector"),
        dest: fields.text("dest"),
        output: fields.int("output"),
        readonly: fields.flag("readonly"),
        mount_type: fields.small("mountType"),
        tmpfs_opt: fields.object("TmpfsOpt").map(|mut fields| {
            let size = fields.int("size");
            fields.end();
            pb::TmpfsOpt { size }
        }),
        cache_opt: fields.object("cacheOpt").map(|mut fields| {
            let (id, sharing) = (fields.text("ID"), fields.small("sharing"));
            fields.end();
            pb::CacheOpt { id, sharing }
        }),
        secret_opt: fields.object("secretOpt").map(|mut fields| {
            let opt = pb::SecretOpt {
                id: fields.text("ID"),
                uid: fields.small("uid"),
                gid: fields.small("gid"),
                mode: fields.small("mode"),
                optional: fields.flag("optional"),
            };
            fields.end();
            opt
        }),
        ssh_opt: fields.object("SSHOpt").map(|mut fields| {
            let opt = pb::SshOpt {
                id: fields.text("ID"),
                uid: fields.small("uid"),
                gid: fields.small("gid"),
                mode: fields.small("mode"),
                optional: fields.flag("optional"),
            };
            fields.end();
            opt
        }),
        result_id: fields.text("resultID"),
        content_cache: fields.small("contentCache"),
    };
    fields.end();
    mount
}

fn file(mut fields: Object) -> pb::FileOp {
    let actions = fields.list("actions", |value| {
        let mut fields = Object::new(value);
        let kind = fields.object("Action").and_then(Object::variant).expect("it has a kind");
        let action = pb::FileAction {
            input: fields.int("input"),
            secondary_input: fields.int("secondaryInput"),
            output: fields.int("output"),
            action: Some(action(kind)),
        };
        fields.end();
        action
    });
    fields.end();
    pb::FileOp { actions }
}

fn action((kind, mut fields): (String, Object)) -> pb::file_action::Action {
    use pb::file_action::Action;
    let action = match kind.as_str() {
        "copy" => Action::Copy(pb::FileActionCopy {
            src: fields.text("src"),
            dest: fields.text("dest"),
            owner: fields.object("owner").map(owner),
            mode: fields.small("mode"),
            follow_symlink: fields.flag("followSymlink"),
            dir_copy_contents: fields.flag("dirCopyContents"),
            attempt_unpack_docker_compatibility: fields.flag("attemptUnpackDockerCompatibility"),
            create_dest_path: fields.flag("createDestPath"),
            allow_wildcard: fields.flag("allowWildcard"),
            allow_empty_wildcard: fields.flag("allowEmptyWildcard"),
            timestamp: fields.int("timestamp"),
            include_patterns: fields.texts("include_patterns"),
            exclude_patterns: fields.texts("exclude_patterns"),
            always_replace_existing_dest_paths: fields.flag("alwaysReplaceExistingDestPaths"),
            mode_str: fields.text("modeStr"),
            ..pb::FileActionCopy::default()
        }),
        "mkfile" => Action::Mkfile(pb::FileActionMkFile {
            path: fields.text("path"),
            mode: fields.small("mode"),
            data: fields.bytes("data"),
            owner: fields.object("owner").map(owner),
            timestamp: fields.int("timestamp"),
        }),
        "mkdir" => Action::Mkdir(pb::FileActionMkDir {
            path: fields.text("path"),
            mode: fields.small("mode"),
            make_parents: fields.flag("makeParents"),
            owner: fields.object("owner").map(owner),
            timestamp: fields.int("timestamp"),
        }),
        other => panic!("there is no kind of action {other}"),
    };
    fields.end();
    action
}

fn owner(mut fields: Object) -> pb::ChownOpt {
    let read = |mut fields: Object| {
        let mut user = fields.object("User").expect("a user");
        fields.end();
        let id = match user.object("byName") {
            Some(mut named) => {
                let (name, input) = (named.text("name"), named.int("input"));
                named.end();
                pb::user_opt::User::ByName(pb::NamedUserOpt { name, input })
            }
            // No number at all is 0.
            None => pb::user_opt::User::ById(user.small("byId")),
        };
        user.end();
        pb::UserOpt { user: Some(id) }
    };
    let owner = pb::ChownOpt {
        user: fields.object("user").map(read),
        group: fields.object("group").map(read),
    };
    fields.end();
    owner
}
