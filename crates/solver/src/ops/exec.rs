//! Exec ops: a command, and the file systems that it sees.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_llb::{Digest, pb};
use pb::{CacheSharingOpt, MountType};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Build, Outcome};
use crate::cache::KeyBuilder;
use crate::exec::{self, Cancel, Mount, MountSource, Network, Process, Stream};
use crate::filesystem::{FileSystem, Layers};
use crate::snapshot::{Active, Snapshot, Snapshots, View};
use crate::{Event, Problem};

/// The file systems of a command, mounted.
struct Mounted {
    root: PathBuf,
    mounts: Vec<Mount>,
    /// What is changed and kept, in the order of the op's mounts.
    kept: Vec<Active>,
    /// What ends with the command: views, file systems whose changes are dropped, locks.
    _views: Vec<View>,
    _dropped: Vec<Active>,
    _locks: Vec<File>,
}

impl Build<'_> {
    /// Does an exec op.
    pub fn exec(
        &self,
        index: usize,
        op: &pb::ExecOp,
        inputs: &[FileSystem],
    ) -> Result<Outcome, Problem> {
        check(op)?;
        let vertex = &self.graph.vertices()[index];
        let inputs = inputs.iter().map(|input| self.layers(input));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let ids = inputs.iter().map(|input| input.id.as_str());
        let key = ids.fold(self.key("exec", vertex), KeyBuilder::with).finish();
        // For each output, what it is made of and its own key.
        let mut outputs = Vec::new();
        for mount in op.mounts.iter().filter(|mount| mount.output != -1) {
            let base = match usize::try_from(mount.input) {
                Ok(input) => Arc::clone(&inputs[input]),
                Err(_) => Arc::new(Layers::scratch()),
            };
            let output = mount.output.to_le_bytes();
            let key = KeyBuilder::new("output").with(key.as_str()).with(output).finish();
            outputs.push((mount.output, base, key));
        }
        let known = outputs.iter().map(|(output, base, key)| {
            Ok(self.known(vertex, base, key)?.map(|known| (*output, known)))
        });
        let known = known.collect::<Result<Option<Vec<_>>, Problem>>()?;
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            return Ok(Outcome { outputs: in_order(known), cached: true });
        }

        let mounted =
            Mounted::new(op, &self.solver.snapshots, &|input| self.snapshot(&inputs[input]))?;
        let kept = mounted.run(op, self.cancel, &|stream, bytes| {
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
fn check(op: &pb::ExecOp) -> Result<(), Problem> {
    let meta = op.meta.as_ref().expect("the graph was checked");
    let unsupported = |what: &str| Err(Problem::Unsupported(what.to_owned()));
    if op.security() != pb::SecurityMode::Sandbox {
        return unsupported("a RUN that is not in a sandbox (--security=insecure)");
    }
    if !op.secretenv.is_empty() || !op.cdi_devices.is_empty() {
        return unsupported("a RUN with secrets or devices");
    }
    if !meta.extra_hosts.is_empty() || !meta.ulimit.is_empty() || !meta.cgroup_parent.is_empty() {
        return unsupported("a RUN with host names, limits or a cgroup of its own");
    }
    if !matches!(meta.valid_exit_codes.as_slice(), [] | [0]) {
        return unsupported("a RUN that may fail");
    }
    for mount in &op.mounts {
        match mount.mount_type() {
            MountType::Bind | MountType::Tmpfs => {}
            MountType::Cache if mount.input == -1 => {}
            MountType::Cache => return unsupported("a cache mount that begins with files"),
            MountType::Secret | MountType::Ssh => return unsupported("a secret or ssh mount"),
        }
        if mount.dest == "/" && (mount.mount_type() != MountType::Bind || mount.readonly) {
            return unsupported("a RUN whose root cannot be changed");
        }
        if mount.dest == "/" && !matches!(mount.selector.as_str(), "" | "/") {
            return unsupported("a RUN whose root is a part of a file system");
        }
    }
    Ok(())
}

impl Mounted {
    /// Mounts all that an op names; `input` gives its inputs.
    fn new(
        op: &pb::ExecOp,
        snapshots: &Snapshots,
        input: &dyn Fn(usize) -> Result<Snapshot, Problem>,
    ) -> Result<Self, Problem> {
        let mut mounted = Self {
            root: PathBuf::new(),
            mounts: Vec::new(),
            kept: Vec::new(),
            _views: Vec::new(),
            _dropped: Vec::new(),
            _locks: Vec::new(),
        };
        for mount in &op.mounts {
            let source = match mount.mount_type() {
                MountType::Tmpfs => {
                    let size = mount.tmpfs_opt.as_ref().map_or(0, |opt| opt.size);
                    MountSource::Tmpfs { size: u64::try_from(size).ok().filter(|&size| size > 0) }
                }
                MountType::Cache => {
                    let (root, lock) = cache(snapshots.path(), mount)?;
                    mounted._locks.push(lock);
                    MountSource::Directory { root, selector: mount.selector.clone() }
                }
                _ => {
                    let files = match usize::try_from(mount.input) {
                        Ok(index) => input(index)?,
                        Err(_) => Snapshot::scratch(),
                    };
                    let root = if mount.readonly && mount.output == -1 {
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
                    MountSource::Directory { root, selector: mount.selector.clone() }
                }
            };
            let (target, readonly) = (mount.dest.clone(), mount.readonly);
            mounted.mounts.push(Mount { target, source, readonly });
        }
        Ok(mounted)
    }

    /// Runs the command of the op; gives what is kept, in the order of the op's mounts.
    fn run(
        self,
        op: &pb::ExecOp,
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
            hostname: meta.hostname.clone(),
            network: match op.network() {
                pb::NetMode::None => Network::None,
                pb::NetMode::Unset | pb::NetMode::Host => Network::Host,
            },
            mounts: self.mounts,
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

/// The directory of a cache mount, and the lock on it.
fn cache(snapshots: &Path, mount: &pb::Mount) -> Result<(PathBuf, File), Problem> {
    let none = pb::CacheOpt::default();
    let options = mount.cache_opt.as_ref().unwrap_or(&none);
    let id = if options.id.is_empty() { &mount.dest } else { &options.id };
    let mut number = 0;
    loop {
        let name = Digest::of(format!("{number} {id}").as_bytes());
        let directory = snapshots.join("mounts").join(&name.hex()[..32]);
        let files = directory.join("files");
        fs::create_dir_all(&files).map_err(Problem::cache("make", &files))?;
        let path = directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Problem::cache("open", &path))?;
        let operation = match options.sharing() {
            CacheSharingOpt::Shared => FlockOperation::LockShared,
            CacheSharingOpt::Locked => FlockOperation::LockExclusive,
            CacheSharingOpt::Private => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&file, operation) {
            Ok(()) => return Ok((files, file)),
            // Somebody has it, so there is another one.
            Err(Errno::WOULDBLOCK) => number += 1,
            Err(e) => return Err(Problem::cache("lock", &path)(e.into())),
        }
    }
}

/// Outputs are numbered from 0 without a gap.
fn in_order(mut outputs: Vec<(i64, FileSystem)>) -> Vec<FileSystem> {
    outputs.sort_by_key(|(number, _)| *number);
    outputs.into_iter().map(|(_, output)| output).collect()
}
