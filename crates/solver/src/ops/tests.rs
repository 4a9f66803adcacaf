//! Graphs as other clients than our frontend may write them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use koskit_image::{Limits, Tree};
use koskit_llb::{Digest, Graph, Inputs, Platform, Secret, pb};
use pb::file_action::Action;
use pb::op::Op;
use prost::Message as _;

use crate::solver::tests::{World, add_base, add_programs, chain, show};
use crate::testing::inside;
use crate::{Event, SolveError, Solved};

mod emulated;
mod sources;

/// A definition that is being written. An op's name is its number.
#[derive(Default)]
struct Ops(Vec<Vec<u8>>);

/// An output of an op.
type Output = (usize, i64);

impl Ops {
    fn add(&mut self, op: Op, inputs: &[Output]) -> usize {
        self.add_op(Some(op), inputs)
    }

    fn add_op(&mut self, op: Option<Op>, inputs: &[Output]) -> usize {
        self.add_for(&Platform::host(), op, inputs)
    }

    fn add_for(&mut self, platform: &Platform, op: Option<Op>, inputs: &[Output]) -> usize {
        let digest = |op: usize| Digest::of(&self.0[op]).to_string();
        let inputs = inputs.iter();
        let inputs = inputs.map(|&(op, index)| pb::Input { digest: digest(op), index }).collect();
        let platform = Some(platform.to_pb());
        let op = pb::Op { inputs, op, platform, ..pb::Op::default() };
        self.0.push(op.encode_to_vec());
        self.0.len() - 1
    }

    fn source(&mut self, identifier: &str) -> Output {
        self.source_with(identifier, &[])
    }

    fn source_with(&mut self, identifier: &str, attrs: &[(&str, &str)]) -> Output {
        let attrs = attrs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        let source = pb::SourceOp { identifier: identifier.into(), attrs: attrs.collect() };
        (self.add(Op::Source(source), &[]), 0)
    }

    /// A file op of one action for each line: `write PATH TEXT`, `dir PATH`, `rm PATH`.
    fn file(&mut self, base: Option<Output>, lines: &[&str]) -> Output {
        let inputs = base.as_slice();
        let actions = lines.iter().enumerate().map(|(i, line)| pb::FileAction {
            input: match i {
                0 => inputs.len() as i64 - 1,
                i => (inputs.len() + i - 1) as i64,
            },
            secondary_input: -1,
            output: if i + 1 == lines.len() { 0 } else { -1 },
            action: Some(action(line)),
        });
        let actions = actions.collect();
        (self.add(Op::File(pb::FileOp { actions }), inputs), 0)
    }

    fn merge(&mut self, parts: &[Output]) -> Output {
        let inputs = (0..parts.len() as i64).map(|input| pb::MergeInput { input }).collect();
        (self.add(Op::Merge(pb::MergeOp { inputs }), parts), 0)
    }

    fn diff(&mut self, lower: Output, upper: Output) -> Output {
        let (below, above) = (pb::LowerDiffInput { input: 0 }, pb::UpperDiffInput { input: 1 });
        let op = pb::DiffOp { lower: Some(below), upper: Some(above) };
        (self.add(Op::Diff(op), &[lower, upper]), 0)
    }

    /// `/bin/sh -c SCRIPT` in a root, with other mounts before it.
    fn exec(&mut self, root: Output, script: &str, change: impl FnOnce(&mut pb::ExecOp)) -> Output {
        let args = ["/bin/sh", "-c", script].map(String::from).into();
        let env = vec!["PATH=/bin:/usr/bin".into()];
        let meta = pb::Meta { args, env, cwd: "/".into(), ..pb::Meta::default() };
        let mounts = vec![pb::Mount { dest: "/".into(), ..pb::Mount::default() }];
        let mut op = pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() };
        change(&mut op);
        (self.add(Op::Exec(op), &[root]), 0)
    }

    fn definition(mut self, result: Output) -> pb::Definition {
        self.add_op(None, &[result]);
        pb::Definition { def: self.0, ..pb::Definition::default() }
    }

    fn graph(self, result: Output) -> Graph {
        Graph::new(&self.definition(result)).unwrap()
    }
}

/// A mount that is not kept and has no input.
fn mount(kind: pb::MountType, dest: &str) -> pb::Mount {
    let mount_type = kind.into();
    pb::Mount { mount_type, dest: dest.into(), input: -1, output: -1, ..pb::Mount::default() }
}

fn action(line: &str) -> Action {
    let mut words = line.splitn(3, ' ');
    let (verb, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
    let rest = words.next().unwrap_or_default();
    match verb {
        "write" => Action::Mkfile(pb::FileActionMkFile {
            path,
            mode: 0o644,
            data: rest.into(),
            timestamp: 0,
            ..Default::default()
        }),
        "dir" => Action::Mkdir(pb::FileActionMkDir {
            path,
            mode: 0o755,
            make_parents: true,
            timestamp: 0,
            ..Default::default()
        }),
        "rm" => Action::Rm(pb::FileActionRm { path, ..Default::default() }),
        _ => panic!("{line}"),
    }
}

impl World {
    fn solve(&self, graph: &Graph, inputs: &Inputs) -> (Result<Solved, SolveError>, String) {
        let said = Mutex::new(Vec::new());
        let solved = self.solver.solve(graph, inputs, &self.options, &|event| {
            if let Event::Output { bytes, .. } = event {
                said.lock().unwrap().extend(bytes);
            }
        });
        (solved, String::from_utf8(said.into_inner().unwrap()).unwrap())
    }

    /// The files of a result, one line each, and how many layers they are in.
    fn made(&self, ops: Ops, result: Output) -> (Vec<String>, usize) {
        let (solved, said) = self.solve(&ops.graph(result), &Inputs::default());
        self.listed(&solved.unwrap_or_else(|e| panic!("{}\n{said}", chain(&e))))
    }

    fn listed(&self, solved: &Solved) -> (Vec<String>, usize) {
        let Platform { os, architecture, .. } = Platform::host();
        let config = serde_json::json!({"os": os, "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": []}});
        let config: koskit_frontend::ImageConfig = serde_json::from_value(config).unwrap();
        let image = self.store.add_image(&config, &solved.layers).unwrap();
        let tree = Tree::read(&self.store, &image, &Limits::default()).unwrap();
        let files = tree.iter().filter(|(path, _)| *path != Path::new("")).map(show).collect();
        (files, solved.layers.len())
    }
}

#[test]
fn merged_file_systems_lie_one_on_the_other() {
    inside(|_, dir| {
        let world = World::new(dir);
        let mut ops = Ops::default();
        let a = ops.file(None, &["dir /d", "write /d/a a", "write /both a"]);
        let b = ops.file(None, &["dir /d", "write /d/b b", "write /both b"]);
        let merged = ops.merge(&[a, b]);
        let top = ops.file(Some(merged), &["rm /d/a", "write /top t"]);
        let expected = ["644 0:0 both b", "755 0:0 d/", "644 0:0 d/b b", "644 0:0 top t"];
        assert_eq!(world.made(ops, top), (expected.map(String::from).into(), 3));
    });
}

#[test]
fn what_a_part_has_removed_is_removed_from_those_below_it() {
    inside(|_, dir| {
        let world = World::new(dir);
        let mut ops = Ops::default();
        let base = ops.file(None, &["write /a a", "write /b b"]);
        let without = ops.file(Some(base), &["rm /a"]);
        let removal = ops.diff(base, without);
        let other = ops.file(None, &["write /a other", "write /c c"]);
        let merged = ops.merge(&[other, removal]);
        assert_eq!(world.made(ops, merged), (vec!["644 0:0 c c".into()], 2));
    });
}

#[test]
fn the_same_part_can_be_merged_twice() {
    inside(|_, dir| {
        let world = World::new(dir);
        let mut ops = Ops::default();
        let base = ops.file(None, &["dir /d", "write /d/f old"]);
        let changed = ops.file(Some(base), &["write /d/f new", "write /d/g g"]);
        let merged = ops.merge(&[changed, base]);
        let top = ops.file(Some(merged), &["write /d/h h"]);
        let expected = ["755 0:0 d/", "644 0:0 d/f old", "644 0:0 d/g g", "644 0:0 d/h h"];
        assert_eq!(world.made(ops, top), (expected.map(String::from).into(), 4));
    });
}

#[test]
fn a_difference_is_what_was_done_and_what_it_is_put_on_is_not_unpacked() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let mut ops = Ops::default();
        let base = ops.source("docker-image://docker.io/library/base:latest");
        let copied = ops.file(None, &["dir /new", "write /new/file f"]);
        let merged = ops.merge(&[base, copied]);
        let difference = ops.diff(base, merged);
        let layers = || fs::read_dir(world.solver.snapshots.path().join("layers")).unwrap().count();
        let graph = |ops: &Ops, result| Ops(ops.0.clone()).graph(result);
        let solved = world.solve(&graph(&ops, merged), &Inputs::default()).0.unwrap();
        assert_eq!((solved.layers.len(), solved.changed.len()), (2, 2));
        let expected = ["755 0:0 new/", "644 0:0 new/file f"].map(String::from);
        assert_eq!(world.made(ops, difference), (expected.into(), 1));
        assert_eq!(layers(), 1);
    });
}

#[test]
fn a_difference_of_what_has_nothing_in_common_is_found_file_by_file() {
    inside(|_, dir| {
        let world = World::new(dir);
        let lower = ["dir /d/gone", "write /d/same s", "write /d/other 1", "write /gone g"];
        let upper = ["dir /d/new", "write /d/same s", "write /d/other 2", "write /d/new/file n"];
        let mut ops = Ops::default();
        let (old, new) = (ops.file(None, &lower), ops.file(None, &upper));
        let difference = ops.diff(old, new);
        let again = ops.merge(&[old, difference]);
        let wanted = [
            "755 0:0 d/",
            "755 0:0 d/new/",
            "644 0:0 d/new/file n",
            "644 0:0 d/other 2",
            "644 0:0 d/same s",
        ];
        let alone = [wanted[0], wanted[1], wanted[2], wanted[3]].map(String::from);
        assert_eq!(world.made(Ops(ops.0.clone()), difference), (alone.into(), 1));
        assert_eq!(world.made(ops, again), (wanted.map(String::from).into(), 2));
        // Nothing was copied.
        let layers = world.solver.snapshots.path().join("layers");
        let find = std::process::Command::new("find")
            .arg(&layers)
            .args(["-links", "2", "-type", "f"])
            .output();
        let names = String::from_utf8(find.unwrap().stdout).unwrap();
        assert_eq!(names.lines().filter(|name| name.ends_with("d/new/file")).count(), 2, "{names}");
    });
}

const BASE: &str = "docker-image://docker.io/library/base:latest";

fn secret(id: &str, dest: &str, optional: bool) -> pb::Mount {
    let options = pb::SecretOpt { id: id.into(), mode: 0o440, optional, ..Default::default() };
    pb::Mount { secret_opt: Some(options), ..mount(pb::MountType::Secret, dest) }
}

#[test]
fn a_secret_is_seen_by_its_command_and_by_nothing_else() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let graph = || {
            let mut ops = Ops::default();
            let base = ops.source(BASE);
            let script = "cat /run/secrets/file; echo $VARIABLE; stat -c %a:%u /run/secrets/file
                (echo x > /run/secrets/file) 2>/dev/null || echo read-only
                [ -e /run/secrets/none ] || echo none";
            let run = ops.exec(base, script, |op| {
                op.mounts.push(secret("file", "/run/secrets/file", false));
                op.mounts.push(secret("absent", "/run/secrets/none", true));
                let (id, name) = ("bytes".into(), "VARIABLE".into());
                op.secretenv.push(pb::SecretEnv { id, name, optional: false });
            });
            ops.graph(run)
        };
        let path = dir.join("secret");
        fs::write(&path, "hidden-in-a-file\n").unwrap();
        let mut inputs = Inputs::default();
        inputs.secrets.insert("file".into(), Secret::File(path.clone()));
        inputs.secrets.insert("bytes".into(), Secret::Bytes(b"hidden-in-memory".to_vec()));
        let (solved, said) = world.solve(&graph(), &inputs);
        let solved = solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
        assert_eq!(said, "hidden-in-a-file\nhidden-in-memory\n440:0\nread-only\nnone\n");
        // Neither in the cache nor in the store is a trace of them, but for that there was one.
        fs::remove_file(&path).unwrap();
        let grep = std::process::Command::new("grep").args(["-rl", "hidden-in-"]).arg(dir).output();
        assert_eq!(String::from_utf8(grep.unwrap().stdout).unwrap(), "");
        assert_eq!(solved.layers.len(), 1, "the command has left something");

        // Another secret is no reason to do it again.
        inputs.secrets.insert("file".into(), Secret::Bytes(b"other".to_vec()));
        let (again, said) = world.solve(&graph(), &inputs);
        assert_eq!((again.unwrap(), said.as_str()), (solved, ""));
    });
}

#[test]
fn a_secret_that_is_not_given_is_named() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let mut ops = Ops::default();
        let base = ops.source(BASE);
        let run = ops.exec(base, "true", |op| op.mounts.push(secret("token", "/t", false)));
        let graph = ops.graph(run);
        let error = world.solve(&graph, &Inputs::default()).0.unwrap_err();
        let wanted = "the build needs the secret \"token\", which it was not given: add --secret \
            id=token,src=FILE";
        assert_eq!(chain(&error), wanted);
        let large = Secret::File("/dev/zero".into());
        let inputs = Inputs { secrets: [("token".into(), large)].into(), ..Inputs::default() };
        let error = world.solve(&graph, &inputs).0.unwrap_err();
        let wanted = "the secret \"token\" cannot be used: a secret may not be larger than 500 KiB";
        assert_eq!(chain(&error), wanted);
    });
}

/// Ends a process with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_command_reaches_the_agent_that_it_was_given() {
    use std::process::{Command, Stdio};
    inside(|_, dir| {
        let programs = ["/usr/bin/ssh-agent", "/usr/bin/ssh-add", "/usr/bin/ssh-keygen"];
        if !programs.iter().all(|program| Path::new(program).exists()) {
            return println!("skipped: there is no ssh-agent (package openssh-client)");
        }
        let world = World::new(dir);
        let shell = ["/bin/sh", "/bin/stat", programs[1]].map(String::from);
        add_programs(&world, dir, "ssh", &shell);
        let socket = dir.join("agent");
        let quiet = |command: &mut Command| {
            command.env("SSH_AUTH_SOCK", &socket).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let agent = quiet(Command::new(programs[0]).arg("-D").arg("-a").arg(&socket));
        let _agent = Running(agent);
        let key = dir.join("key");
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "the-key", "-f"];
        assert!(
            quiet(Command::new(programs[2]).args(arguments).arg(&key)).wait().unwrap().success()
        );
        let start = std::time::Instant::now();
        while !quiet(Command::new(programs[1]).arg(&key)).wait().unwrap().success() {
            assert!(start.elapsed().as_secs() < 30);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }

        let mut ops = Ops::default();
        let base = ops.source("docker-image://docker.io/library/ssh:latest");
        // ssh-add asks for the user's name.
        let base = ops.file(Some(base), &["dir /etc", "write /etc/passwd root:x:0:0::/:/bin/sh"]);
        let script = "stat -c %a /run/agent; ssh-add -l";
        let run = ops.exec(base, script, |op| {
            let options = pb::SshOpt { id: "default".into(), mode: 0o600, ..Default::default() };
            let mount = mount(pb::MountType::Ssh, "/run/agent");
            op.mounts.push(pb::Mount { ssh_opt: Some(options), ..mount });
            op.meta.as_mut().unwrap().env.push("SSH_AUTH_SOCK=/run/agent".into());
        });
        let graph = ops.graph(run);
        let inputs =
            Inputs { ssh: [("default".into(), socket.clone())].into(), ..Inputs::default() };
        let (solved, said) = world.solve(&graph, &inputs);
        solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
        assert!(said.starts_with("600\n") && said.contains("the-key (ED25519)"), "{said}");
        let mut world = world;
        world.options.no_cache = true;
        let error = world.solve(&graph, &Inputs::default()).0.unwrap_err();
        let wanted = "the build needs an SSH agent, which it was not given: add --ssh default";
        assert_eq!(chain(&error), wanted);
    });
}

fn cached(id: &str, sharing: pb::CacheSharingOpt) -> pb::Mount {
    let options = pb::CacheOpt { id: id.into(), sharing: sharing.into() };
    let mount = mount(pb::MountType::Cache, &format!("/{id}"));
    pb::Mount { cache_opt: Some(options), ..mount }
}

#[test]
fn a_cache_mount_begins_with_files_and_keeps_what_is_written() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let run = |script: &str| {
            let mut ops = Ops::default();
            let base = ops.source(BASE);
            let first = ops.file(None, &["dir /cache/sub", "write /cache/sub/first first"]);
            let root = pb::Mount { dest: "/".into(), ..pb::Mount::default() };
            let mut cache = cached("c", pb::CacheSharingOpt::Locked);
            (cache.input, cache.selector) = (1, "/cache".into());
            let op = pb::ExecOp {
                meta: Some(pb::Meta {
                    args: ["/bin/sh", "-c", script].map(String::from).into(),
                    env: vec!["PATH=/bin".into()],
                    cwd: "/".into(),
                    ..pb::Meta::default()
                }),
                mounts: vec![root, cache],
                ..pb::ExecOp::default()
            };
            let run = (ops.add(Op::Exec(op), &[base, first]), 0);
            let (solved, said) = world.solve(&ops.graph(run), &Inputs::default());
            solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
            said
        };
        assert_eq!(run("cat /c/sub/first; echo; echo second > /c/sub/first"), "first\n");
        assert_eq!(run("cat /c/sub/first; echo third > /c/third"), "second\n");
        assert_eq!(run("cat /c/third /c/sub/first"), "third\nsecond\n");
    });
}

#[test]
fn commands_that_lock_the_same_mounts_in_other_orders_do_not_wait_for_ever() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        world.options.jobs = std::num::NonZeroUsize::new(4);
        add_base(&world, dir);
        let mut ops = Ops::default();
        let base = ops.source(BASE);
        let mut runs = Vec::new();
        for n in 0..6 {
            // Who is alone finds no file of another one.
            let script = format!(
                "[ ! -e /a/busy ] && [ ! -e /b/busy ] && echo > /a/busy && echo > /b/busy && \
                 sleep 0.1 && rm /a/busy /b/busy && echo > /done{n}"
            );
            runs.push(ops.exec(base, &script, |op| {
                let mut mounts = ["a", "b"].map(|id| cached(id, pb::CacheSharingOpt::Locked));
                if n % 2 == 1 {
                    mounts.reverse();
                }
                op.mounts.extend(mounts);
            }));
        }
        let merged = ops.merge(&runs);
        let (solved, said) = world.solve(&ops.graph(merged), &Inputs::default());
        let solved = solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
        assert_eq!(solved.changed.len(), 12);
    });
}

#[test]
fn private_cache_mounts_are_several_and_shared_ones_are_one() {
    inside(|_, dir| {
        let mut world = World::new(dir);
        world.options.jobs = std::num::NonZeroUsize::new(2);
        add_base(&world, dir);
        let both = |sharing, script: &str| {
            let mut ops = Ops::default();
            let base = ops.source(BASE);
            let runs = ["1", "2"].map(|n| {
                ops.exec(base, &script.replace('N', n), |op| {
                    op.mounts.push(cached("c", sharing));
                    op.mounts.push(cached("meet", pb::CacheSharingOpt::Shared));
                })
            });
            let merged = ops.merge(&runs);
            let (solved, said) = world.solve(&ops.graph(merged), &Inputs::default());
            solved.unwrap_or_else(|e| panic!("{} {said}", chain(&e)));
            let mut lines: Vec<_> = said.lines().map(String::from).collect();
            lines.sort();
            lines
        };
        // Each waits until the other has begun, with what both share.
        let meet =
            "echo > /meet/N$W; until [ -e /meet/1$W ] && [ -e /meet/2$W ]; do sleep 0.02; done";
        let script = |w: &str, rest: &str| format!("W={w}; echo N > /c/N; {meet}; {rest}");
        let private = script("p", "for f in /c/*; do echo $f; done");
        assert_eq!(both(pb::CacheSharingOpt::Private, &private), ["/c/1", "/c/2"]);
        let shared = script("s", "for f in /c/1 /c/2; do [ -e $f ] && echo $f; done");
        assert_eq!(both(pb::CacheSharingOpt::Shared, &shared), ["/c/1", "/c/1", "/c/2", "/c/2"]);
    });
}

#[test]
fn a_command_has_the_hosts_and_the_ways_to_end_that_its_op_names() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let mut ops = Ops::default();
        let base = ops.source(BASE);
        let run = ops.exec(base, "cat /etc/hosts; exit 3", |op| {
            let meta = op.meta.as_mut().unwrap();
            let (host, ip) = ("elsewhere".into(), "192.0.2.1".into());
            meta.extra_hosts.push(pb::HostIp { host, ip });
            meta.valid_exit_codes = vec![3];
        });
        let wrong = ops.exec(run, "true", |op| {
            op.meta.as_mut().unwrap().valid_exit_codes = vec![3];
        });
        let (solved, said) = world.solve(&ops.graph(wrong), &Inputs::default());
        assert!(said.contains("192.0.2.1\telsewhere\n"), "{said}");
        let error = solved.unwrap_err().to_string();
        assert_eq!(error, "the command `true` failed with exit code 0");
    });
}

#[test]
fn a_file_op_may_have_several_results_and_copy_out_of_them() {
    inside(|_, dir| {
        let world = World::new(dir);
        let graph = |wanted: i64| {
            let mut ops = Ops::default();
            let base = ops.file(None, &["write /base b"]);
            let action = |input, secondary_input, output, action| pb::FileAction {
                input,
                secondary_input,
                output,
                action: Some(action),
            };
            let copy = Action::Copy(pb::FileActionCopy {
                src: "/one".into(),
                dest: "/copied".into(),
                mode: -1,
                timestamp: -1,
                ..Default::default()
            });
            let actions = vec![
                // The base with a file, which is a result; another file beside it, which is not.
                action(0, -1, 1, self::action("write /one 1")),
                action(0, -1, -1, self::action("write /two 2")),
                // The second with a file of the first.
                action(2, 1, 0, copy),
            ];
            let op = ops.add(Op::File(pb::FileOp { actions }), &[base]);
            ops.graph((op, wanted))
        };
        let files = |wanted| {
            let (solved, _) = world.solve(&graph(wanted), &Inputs::default());
            world.listed(&solved.unwrap_or_else(|e| panic!("{}", chain(&e)))).0
        };
        assert_eq!(files(0), ["644 0:0 base b", "644 0:0 copied 1", "644 0:0 two 2"]);
        assert_eq!(files(1), ["644 0:0 base b", "644 0:0 one 1"]);
    });
}

#[test]
fn a_copy_may_replace_what_is_of_another_kind_and_miss_what_it_needs() {
    inside(|_, dir| {
        let world = World::new(dir);
        let copy = |replace, required: &[&str]| {
            let mut ops = Ops::default();
            let from = ops.file(None, &["dir /x/d", "write /x/f new", "write /x/d/g g"]);
            let base = ops.file(None, &["dir /x/f/inner", "write /x/d old"]);
            let action = Action::Copy(pb::FileActionCopy {
                src: "/x".into(),
                dest: "/x".into(),
                mode: -1,
                timestamp: -1,
                dir_copy_contents: true,
                always_replace_existing_dest_paths: replace,
                include_patterns: vec!["**".into()],
                required_paths: required.iter().map(|path| path.to_string()).collect(),
                ..Default::default()
            });
            let actions = vec![pb::FileAction {
                input: 0,
                secondary_input: 1,
                output: 0,
                action: Some(action),
            }];
            let op = ops.add(Op::File(pb::FileOp { actions }), &[base, from]);
            match world.solve(&ops.graph((op, 0)), &Inputs::default()).0 {
                Ok(solved) => Ok(world.listed(&solved).0),
                Err(error) => Err(chain(&error)),
            }
        };
        let expected = ["755 0:0 x/", "755 0:0 x/d/", "644 0:0 x/d/g g", "644 0:0 x/f new"];
        assert_eq!(copy(true, &["f"]).unwrap(), expected);
        assert!(copy(false, &[]).unwrap_err().contains("cannot replace"));
        assert!(copy(true, &["nothing"]).unwrap_err().starts_with("\"nothing\" is not in"));
    });
}

#[test]
fn a_graph_may_come_out_of_a_file() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        let built = |definition: Vec<u8>, name: &str| {
            let mut ops = Ops::default();
            let file = pb::FileActionMkFile {
                path: format!("/{name}"),
                mode: 0o644,
                data: definition,
                timestamp: 0,
                ..Default::default()
            };
            let action = pb::FileAction {
                input: -1,
                secondary_input: -1,
                output: 0,
                action: Some(Action::Mkfile(file)),
            };
            let holder = (ops.add(Op::File(pb::FileOp { actions: vec![action] }), &[]), 0);
            let input = pb::BuildInput { input: 0 };
            let op = pb::BuildOp {
                builder: -1,
                inputs: [("buildkit.llb.definition".into(), input)].into(),
                attrs: [("llbbuild.filename".into(), name.into())].into(),
                ..Default::default()
            };
            let build = (ops.add(Op::Build(op), &[holder]), 0);
            let top = ops.file(Some(build), &["write /top t"]);
            let (solved, said) = world.solve(&ops.graph(top), &Inputs::default());
            (solved.map_err(|error| chain(&error)), said)
        };
        let mut inner = Ops::default();
        let base = inner.source(BASE);
        let run = inner.exec(base, "echo told; echo i > /inner", |_| {});
        let made = inner.file(Some(run), &["write /made m"]);
        let only = inner.diff(base, made);
        let definition = inner.definition(only).encode_to_vec();
        let (solved, said) = built(definition, "graph");
        let files = world.listed(&solved.unwrap()).0;
        assert_eq!(files, ["644 0:0 inner i\n", "644 0:0 made m", "644 0:0 top t"]);
        assert_eq!(said, "told\n");
        let error = built(vec![0xff; 9], "bad").0.unwrap_err();
        assert!(error.contains("the file \"bad\" of a build op holds no graph"), "{error}");
    });
}
