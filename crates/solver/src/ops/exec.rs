//! Exec ops: a command, and the file systems that it sees.

mod cache_mount;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_llb::pb;
use pb::MountType;

use self::cache_mount::CacheMounts;
use super::{Build, Outcome};
use crate::agent::Agent;
use crate::cache::KeyBuilder;
use crate::emulate::Emulator;
use crate::exec::{self, Cancel, Hidden, Limit, Mount, MountSource, Network, Process, Stream};
use crate::files::{self, Changes, Filter, Find, Root, Target};
use crate::filesystem::{FileSystem, Layers};
use crate::namespace::{self, Ids};
use crate::snapshot::{Active, Snapshot, Temporary, View};
use crate::{Event, Problem};

/// The file systems of a command, mounted.
struct Mounted {
    root: PathBuf,
    mounts: Vec<Mount>,
    /// What is changed and kept, in the order of the op's mounts.
    kept: Vec<Active>,
    /// What ends with the command: views, file systems whose changes are dropped, locks, agents
    /// and the directories of their sockets.
    _views: Vec<View>,
    _dropped: Vec<Active>,
    _caches: CacheMounts,
    _agents: Vec<(Agent, Temporary)>,
}

impl Build<'_> {
    /// Does an exec op.
    pub fn exec(
        &self,
        index: usize,
        op: &pb::ExecOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        check(op, self.options.insecure)?;
        let vertex = &self.graph.vertices()[index];
        let inputs = inputs.iter().map(|input| self.layers(input));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let ids = inputs.iter().map(|input| input.id.as_str());
        let key = ids.fold(self.key("exec", vertex), KeyBuilder::with).finish();
        // For each output, what it is made of and its own key.
        let mut outputs = Vec::new();
        for mount in op.mounts.iter().filter(|mount| is_kept(mount)) {
            let base = match usize::try_from(mount.input) {
                Ok(input) => Arc::clone(&inputs[input]),
                Err(_) => Arc::new(Layers::scratch()),
            };
            let output = mount.output.to_le_bytes();
            let key = KeyBuilder::new("output").with(key.as_str()).with(output).finish();
            outputs.push((mount.output, base, key));
        }
        let known = || {
            let known = outputs.iter().map(|(output, base, key)| {
                let number = u32::try_from(*output).ok();
                Ok(self.known(vertex, base, key, number)?.map(|known| (*output, known)))
            });
            let known = known.collect::<Result<Option<Vec<_>>, Problem>>()?;
            let known = known.filter(|known| !known.is_empty()).map(in_order);
            Ok::<_, Problem>(known.map(|outputs| Outcome { outputs, cached: true }))
        };
        if let Some(known) = known()? {
            return Ok(known);
        }
        let _claim = self.claim(vertex, &key)?;
        if let Some(known) = known()? {
            return Ok(known);
        }

        let secret_env = self.secret_env(op)?;
        let mounted = self.mount_all(op, &inputs)?;
        let emulator = vertex.platform.as_ref().and_then(Emulator::of);
        let kept = mounted.run(op, secret_env, emulator, self.cancel, &|stream, bytes| {
            (self.tell)(Event::Output { vertex: index, stream, bytes: bytes.to_vec() });
        })?;
        let mut made = Vec::new();
        for ((output, base, key), active) in outputs.into_iter().zip(kept) {
            made.push((output, self.commit(active, vertex, &base, key)?));
        }
        Ok(Outcome { outputs: in_order(made), cached: false })
    }
}

/// Refuses what koskit does not do, before anything is done.
fn check(op: &pb::ExecOp, insecure: bool) -> Result<(), Problem> {
    let meta = op.meta.as_ref().expect("the graph was checked");
    let unsupported = |what: &str| Err(Problem::Unsupported(what.to_owned()));
    if op.security() != pb::SecurityMode::Sandbox && !insecure {
        return Err(Problem::NotAllowed("security.insecure"));
    }
    if let Some(device) = op.cdi_devices.iter().find(|device| !device.optional) {
        return unsupported(&format!(
            "a RUN with the device {:?}, as it knows none; a BuildKit server may (--builder)",
            device.name
        ));
    }
    if !meta.cgroup_parent.is_empty() {
        return unsupported(&format!(
            "a RUN in the control group {:?}, as those are root's; a BuildKit server can \
             (--builder)",
            meta.cgroup_parent
        ));
    }
    limits(meta)?;
    for mount in &op.mounts {
        if mount.dest == "/" && (mount.mount_type() != MountType::Bind || mount.readonly) {
            return unsupported("a RUN whose root cannot be changed");
        }
        if mount.dest == "/" && !matches!(mount.selector.as_str(), "" | "/") {
            return unsupported("a RUN whose root is a part of a file system");
        }
    }
    Ok(())
}

/// The limits of a command.
fn limits(meta: &pb::Meta) -> Result<Vec<Limit>, Problem> {
    let limit = |limit: &pb::Ulimit| {
        Limit::new(&limit.name, limit.soft, limit.hard).map_err(Problem::Invalid)
    };
    meta.ulimit.iter().map(limit).collect()
}

impl Build<'_> {
    /// Mounts all that an op names.
    fn mount_all(&self, op: &pb::ExecOp, inputs: &[Arc<Layers>]) -> Result<Mounted, Problem> {
        let snapshots = &self.solver.snapshots;
        let ids: Vec<&str> = inputs.iter().map(|input| input.id.as_str()).collect();
        let fill = |input: usize, to: &Path| self.copy_all(&inputs[input], to);
        let caches = CacheMounts::lock(op, snapshots.path(), &ids, self.cancel, &fill)?;
        let mut mounted = Mounted {
            root: PathBuf::new(),
            mounts: Vec::new(),
            kept: Vec::new(),
            _views: Vec::new(),
            _dropped: Vec::new(),
            _caches: caches,
            _agents: Vec::new(),
        };
        for mount in &op.mounts {
            let selector = || mount.selector.clone();
            let source = match mount.mount_type() {
                MountType::Tmpfs => {
                    let size = mount.tmpfs_opt.as_ref().map_or(0, |opt| opt.size);
                    MountSource::Tmpfs { size: u64::try_from(size).ok().filter(|&size| size > 0) }
                }
                MountType::Cache => {
                    let root = mounted._caches.directory(mount, &ids);
                    MountSource::Directory { root, selector: selector() }
                }
                MountType::Secret => {
                    let options = mount.secret_opt.clone().unwrap_or_default();
                    let Some(content) = self.secret(&options.id, options.optional)? else {
                        continue;
                    };
                    let (owner, mode) = ((options.uid, options.gid), options.mode);
                    MountSource::Secret { content, owner, mode }
                }
                MountType::Ssh => {
                    let options = mount.ssh_opt.clone().unwrap_or_default();
                    let Some((agent, directory)) = self.agent(&options)? else { continue };
                    let root = directory.files();
                    mounted._agents.push((agent, directory));
                    MountSource::Directory { root, selector: Agent::SOCKET.into() }
                }
                MountType::Bind => {
                    let files = match usize::try_from(mount.input) {
                        Ok(index) => self.snapshot(&inputs[index])?,
                        Err(_) => Snapshot::scratch(),
                    };
                    let root = if mount.readonly && !is_kept(mount) {
                        let view = snapshots.view(&files)?;
                        let root = view.path();
                        mounted._views.push(view);
                        root
                    } else {
                        let active = snapshots.prepare(&files)?;
                        let root = active.path();
                        match mount.output {
                            -1 => mounted._dropped.push(active),
                            _ => mounted.kept.push(active),
                        }
                        root
                    };
                    if mount.dest == "/" {
                        mounted.root = root;
                        continue;
                    }
                    MountSource::Directory { root, selector: selector() }
                }
            };
            // What is handed to the command is not the command's to change.
            let readonly = mount.readonly || mount.mount_type() == MountType::Secret;
            mounted.mounts.push(Mount { target: mount.dest.clone(), source, readonly });
        }
        Ok(mounted)
    }

    /// Copies all files of a file system into a directory.
    fn copy_all(&self, layers: &Layers, to: &Path) -> Result<(), Problem> {
        let snapshots = &self.solver.snapshots;
        let (mounted, ownership) =
            (snapshots.view(&self.snapshot(layers)?)?, snapshots.ownership());
        let view = files::View::image(Root::open(&mounted.path())?, ownership);
        let all = view.select("/", Find::all(), &Filter::default())?;
        let changes = Changes {
            root: &Root::open(to)?,
            ownership,
            epoch: self.options.epoch,
            warn: &|_| {},
            links: None,
        };
        Ok(changes.copy(&all, &view, &Target::root())?)
    }

    /// What a secret holds; nothing if it need not be there and is not.
    pub fn secret(&self, id: &str, optional: bool) -> Result<Option<Hidden>, Problem> {
        match self.inputs.secrets.get(id) {
            Some(secret) => match secret.read() {
                Ok(bytes) => Ok(Some(Hidden(bytes))),
                Err(source) => Err(Problem::Secret { id: id.to_owned(), source }),
            },
            None if optional => Ok(None),
            None => Err(Problem::NoSecret(id.to_owned())),
        }
    }

    /// The variables of an op that are secrets.
    fn secret_env(&self, op: &pb::ExecOp) -> Result<Vec<(String, Hidden)>, Problem> {
        let mut variables = Vec::new();
        for variable in &op.secretenv {
            if let Some(value) = self.secret(&variable.id, variable.optional)? {
                variables.push((variable.name.clone(), value));
            }
        }
        Ok(variables)
    }

    /// A socket of a command's own that leads to an agent.
    fn agent(&self, options: &pb::SshOpt) -> Result<Option<(Agent, Temporary)>, Problem> {
        let id = if options.id.is_empty() { "default" } else { &options.id };
        let agent = match self.inputs.ssh.get(id) {
            Some(agent) => agent,
            None if options.optional => return Ok(None),
            None => return Err(Problem::NoSsh(id.to_owned())),
        };
        let directory = self.solver.snapshots.temporary()?;
        let failed = |source| Problem::Ssh { id: id.to_owned(), source };
        let forward = Agent::forward(agent, &directory.files(), options.mode).map_err(failed)?;
        if namespace::ids() == Ids::Many {
            let socket = directory.files().join(Agent::SOCKET);
            let owner = (Some(options.uid), Some(options.gid));
            std::os::unix::fs::chown(socket, owner.0, owner.1).map_err(failed)?;
        }
        Ok(Some((forward, directory)))
    }
}

impl Mounted {
    /// Runs the command of the op; gives what is kept, in the order of the op's mounts.
    fn run(
        self,
        op: &pb::ExecOp,
        secret_env: Vec<(String, Hidden)>,
        emulator: Option<Emulator>,
        cancel: &Cancel,
        output: &(dyn Fn(Stream, &[u8]) + Sync),
    ) -> Result<Vec<Active>, Problem> {
        let meta = op.meta.as_ref().expect("the graph was checked");
        let mut env = meta.env.clone();
        env.extend(meta.proxy_env.iter().flat_map(proxies));
        let process = Process {
            args: meta.args.clone(),
            env,
            cwd: meta.cwd.clone(),
            user: meta.user.clone(),
            secret_env,
            emulator,
            hostname: meta.hostname.clone(),
            hosts: meta.extra_hosts.iter().map(|h| (h.host.clone(), h.ip.clone())).collect(),
            valid_exit_codes: meta.valid_exit_codes.clone(),
            network: match op.network() {
                pb::NetMode::None => Network::None,
                pb::NetMode::Unset | pb::NetMode::Host => Network::Host,
            },
            mounts: self.mounts,
            insecure: op.security() == pb::SecurityMode::Insecure,
            limits: limits(meta)?,
        };
        exec::run(&process, &self.root, cancel, output)?;
        Ok(self.kept)
    }
}

/// The variables of proxies, as programs look for them.
fn proxies(proxy: &pb::ProxyEnv) -> Vec<String> {
    let all = [
        ("http_proxy", &proxy.http_proxy),
        ("https_proxy", &proxy.https_proxy),
        ("ftp_proxy", &proxy.ftp_proxy),
        ("no_proxy", &proxy.no_proxy),
        ("all_proxy", &proxy.all_proxy),
    ];
    let set = all.into_iter().filter(|(_, value)| !value.is_empty());
    let both = |name: &str, value: &str| {
        [format!("{}={value}", name.to_uppercase()), format!("{name}={value}")]
    };
    set.flat_map(|(name, value)| both(name, value)).collect()
}

/// Whether what is in a mount afterwards is a result. Of what is no file system of the graph's it
/// is not, whatever number stands there: BuildKit's client writes 0 for secrets and agents.
fn is_kept(mount: &pb::Mount) -> bool {
    mount.mount_type() == MountType::Bind && mount.output != -1
}

/// Outputs are numbered from 0 without a gap.
fn in_order(mut outputs: Vec<(i64, FileSystem)>) -> Vec<FileSystem> {
    outputs.sort_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}
