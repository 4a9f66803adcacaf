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
    /// How far it is locked in.
    pub security: pb::SecurityMode,
    /// Proxies, if any.
    pub proxy: Option<pb::ProxyEnv>,
    /// Lines of `/etc/hosts`: a name and its address.
    pub extra_hosts: Vec<(String, String)>,
    /// Limits on what it may use.
    pub ulimits: Vec<pb::Ulimit>,
    /// The control group that it belongs to; empty leaves it to the solver.
    pub cgroup_parent: String,
    /// Devices that it sees.
    pub devices: Vec<pb::CdiDevice>,
    /// What is mounted besides the root.
    pub mounts: Vec<Mount>,
    /// Secrets that it sees.
    pub secrets: Vec<SecretMount>,
    /// Agents that it can ask for signatures.
    pub ssh: Vec<SshMount>,
}

/// A secret of the client: a file, a variable, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// Its name.
    pub id: String,
    /// The file, if it is one.
    pub target: Option<String>,
    /// The variable, if it is one.
    pub env: Option<String>,
    /// Whose the file is.
    pub uid: u32,
    /// The same for the group.
    pub gid: u32,
    /// Who may read the file.
    pub mode: u32,
    /// The command runs without it where the client has none.
    pub optional: bool,
}

/// The socket of an SSH agent of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshMount {
    /// Its name; empty is the client's default.
    pub id: String,
    /// The socket's path; empty is one that nothing else uses.
    pub target: String,
    /// Whose it is.
    pub uid: u32,
    /// The same for the group.
    pub gid: u32,
    /// Who may use it.
    pub mode: u32,
    /// The command runs without it where the client has none.
    pub optional: bool,
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
    /// It is empty, and a result of the command besides the changed root: see
    /// [`Builder::exec_into`].
    Output,
}

impl Builder {
    /// Adds a command whose result is what it leaves in an empty directory; what it does to `root`
    /// is dropped.
    pub fn exec_into(
        &mut self,
        root: State,
        platform: &Platform,
        mut exec: Exec,
        target: &str,
        note: Note,
    ) -> State {
        exec.mounts.push(Mount {
            target: target.to_owned(),
            source: None,
            selector: String::new(),
            readonly: false,
            kind: MountKind::Output,
        });
        self.exec(root, platform, exec, note).map(|root| Output { index: 1, ..root })
    }

    /// Adds a command that changes `root`; gives the changed root.
    pub fn exec(&mut self, root: State, platform: &Platform, exec: Exec, note: Note) -> State {
        let mut caps = caps(&exec);
        let mut inputs = Inputs::default();
        let mut sorted: Vec<(Option<Mount>, String)> =
            exec.mounts.into_iter().map(|m| (Some(m.clone()), m.target)).collect();
        // The root is the first of what is mounted on `/`.
        sorted.insert(0, (None, "/".into()));
        // Sorted by target, so that a mount comes before those inside of it.
        sorted.sort_by(|a, b| a.1.cmp(&b.1));
        let mut mounts = Vec::new();
        for (mount, target) in sorted {
            mounts.push(match mount {
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
        let (mut ssh, mut env) = (exec.ssh, exec.env);
        for (i, agent) in ssh.iter_mut().enumerate() {
            if agent.target.is_empty() {
                agent.target = format!("/run/buildkit/ssh_agent.{i}");
            }
        }
        if let Some(first) = ssh.first()
            && !env.iter().any(|e| e.starts_with("SSH_AUTH_SOCK="))
        {
            env.push(format!("SSH_AUTH_SOCK={}", first.target));
        }
        mounts.extend(exec.secrets.iter().filter_map(secret));
        mounts.extend(ssh.into_iter().map(agent));
        let host = |(host, ip)| pb::HostIp { host, ip };
        let meta = pb::Meta {
            args: exec.args,
            env,
            cwd: exec.cwd,
            user: exec.user,
            hostname: exec.hostname,
            proxy_env: exec.proxy,
            extra_hosts: exec.extra_hosts.into_iter().map(host).collect(),
            ulimit: exec.ulimits,
            cgroup_parent: exec.cgroup_parent,
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        };
        let op = pb::op::Op::Exec(pb::ExecOp {
            meta: Some(meta),
            mounts,
            network: exec.network.into(),
            security: exec.security.into(),
            secretenv: exec.secrets.iter().filter_map(secret_env).collect(),
            cdi_devices: exec.devices,
        });
        self.add(Draft { op, inputs, caps }, Some(platform), note)
    }
}

/// What a solver must be able to do, mounts aside.
fn caps(exec: &Exec) -> Vec<&'static str> {
    let mut caps = vec!["exec.meta.base", "exec.meta.setsdefaultpath"];
    let mut when = |used: bool, cap| caps.extend(used.then_some(cap));
    when(exec.network != pb::NetMode::Unset, "exec.meta.network");
    when(exec.security != pb::SecurityMode::Sandbox, "exec.meta.security");
    when(exec.proxy.is_some(), "exec.meta.proxyenv");
    when(!exec.ulimits.is_empty(), "exec.meta.ulimit");
    when(!exec.devices.is_empty(), "exec.meta.cdi");
    when(!exec.secrets.is_empty(), "exec.mount.secret");
    when(exec.secrets.iter().any(|s| s.env.is_some()), "exec.secretenv");
    when(!exec.ssh.is_empty(), "exec.mount.ssh");
    caps
}

fn secret(secret: &SecretMount) -> Option<pb::Mount> {
    let opt = pb::SecretOpt {
        id: secret.id.clone(),
        uid: secret.uid,
        gid: secret.gid,
        mode: secret.mode,
        optional: secret.optional,
    };
    // The output says 0 and means none, as BuildKit writes it.
    Some(pb::Mount {
        input: -1,
        dest: secret.target.clone()?,
        mount_type: pb::MountType::Secret.into(),
        secret_opt: Some(opt),
        ..pb::Mount::default()
    })
}

fn secret_env(secret: &SecretMount) -> Option<pb::SecretEnv> {
    let (id, name) = (secret.id.clone(), secret.env.clone()?);
    Some(pb::SecretEnv { id, name, optional: secret.optional })
}

fn agent(ssh: SshMount) -> pb::Mount {
    let opt = pb::SshOpt {
        id: ssh.id,
        uid: ssh.uid,
        gid: ssh.gid,
        mode: ssh.mode,
        optional: ssh.optional,
    };
    pb::Mount {
        input: -1,
        dest: ssh.target,
        mount_type: pb::MountType::Ssh.into(),
        ssh_opt: Some(opt),
        ..pb::Mount::default()
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
        MountKind::Bind if mount.source.is_some() => caps.push("exec.mount.bind"),
        MountKind::Bind => {}
        // The first one is the root.
        MountKind::Output => out.output = 1,
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
