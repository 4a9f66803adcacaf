//! Running a command.

use super::{Builder, Draft, Inputs, Note, Output, State};
use crate::Platform;
use crate::pb;

/// A command and the world that it runs in.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `name=value`, in order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user`, `uid`, `user:group`, …; empty is root.
    pub user: String,
    /// Host name; empty leaves it to the solver.
    pub hostname: String,
    /// Which network it sees.
    pub network: pb::NetMode,
    /// Proxies, if any.
    pub proxy: Option<pb::ProxyEnv>,
    /// What is mounted besides the root.
    pub mounts: Vec<Mount>,
}

/// A file system in the world of a command.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where.
    pub target: String,
    /// What.
    pub source: State,
    /// Which part of it; empty is all.
    pub selector: String,
    /// Whether the command may change it.
    pub readonly: bool,
    /// What becomes of it.
    pub kind: MountKind,
}

/// What becomes of a mount after the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Changes are dropped.
    Bind,
    /// It is kept for the next command that names it.
    Cache {
        /// The name.
        id: String,
        /// What several commands at once may do.
        sharing: pb::CacheSharingOpt,
    },
    /// It is empty, in memory, and dropped.
    Tmpfs {
        /// The largest size in bytes; 0 is no limit.
        size: i64,
    },
}

impl Builder {
    /// Adds a command that changes `root`; gives the changed root.
    pub fn exec(&mut self, root: State, platform: &Platform, exec: Exec, note: Note) -> State {
        let mut caps = vec!["exec.meta.base"];
        if exec.network != pb::NetMode::Unset {
            caps.push("exec.meta.network");
        }
        if exec.proxy.is_some() {
            caps.push("exec.meta.proxyenv");
        }
        let mut inputs = Inputs::default();
        let mut mounts: Vec<(Option<Mount>, String)> =
            exec.mounts.into_iter().map(|m| (Some(m.clone()), m.target)).collect();
        mounts.push((None, "/".into()));
        // Sorted by target, so that a mount comes before those inside of it.
        mounts.sort_by(|a, b| a.1.cmp(&b.1));
        let mut list = Vec::new();
        for (mount, target) in mounts {
            list.push(match mount {
                // The root is the only one whose changes are kept as an output.
                None => {
                    if root.is_some() {
                        caps.push("exec.mount.bind");
                    }
                    pb::Mount { input: inputs.index(root), dest: target, ..pb::Mount::default() }
                }
                Some(mount) => mounted(mount, &mut inputs, &mut caps),
            });
        }
        let meta = pb::Meta {
            args: exec.args,
            env: exec.env,
            cwd: exec.cwd,
            user: exec.user,
            hostname: exec.hostname,
            proxy_env: exec.proxy,
            remove_mount_stubs_recursive: true,
            ..pb::Meta::default()
        };
        let op = pb::op::Op::Exec(pb::ExecOp {
            meta: Some(meta),
            mounts: list,
            network: exec.network.into(),
            ..pb::ExecOp::default()
        });
        let op = self.add(Draft { op, inputs: inputs.0, caps }, Some(platform), note);
        Some(Output { op, index: 0 })
    }
}

fn mounted(mount: Mount, inputs: &mut Inputs, caps: &mut Vec<&'static str>) -> pb::Mount {
    let mut out = pb::Mount {
        input: inputs.index(mount.source),
        dest: mount.target,
        selector: mount.selector,
        readonly: mount.readonly,
        output: -1,
        ..pb::Mount::default()
    };
    if !out.selector.is_empty() {
        caps.push("exec.mount.selector");
    }
    match mount.kind {
        MountKind::Bind => caps.push("exec.mount.bind"),
        MountKind::Cache { id, sharing } => {
            caps.extend(["exec.mount.cache", "exec.mount.cache.sharing"]);
            out.mount_type = pb::MountType::Cache.into();
            out.cache_opt = Some(pb::CacheOpt { id, sharing: sharing.into() });
        }
        MountKind::Tmpfs { size } => {
            caps.push("exec.mount.tmpfs");
            if size > 0 {
                caps.push("exec.mount.tmpfs.size");
            }
            out.mount_type = pb::MountType::Tmpfs.into();
            out.tmpfs_opt = Some(pb::TmpfsOpt { size });
        }
    }
    out
}
