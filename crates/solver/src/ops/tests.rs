//! Graphs as other clients than our frontend may write them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use koskit_image::{Limits, Tree};
use koskit_llb::{Digest, Graph, Inputs, Platform, pb};
use pb::file_action::Action;
use pb::op::Op;
use prost::Message as _;

use crate::solver::tests::{World, add_base, chain, show};
use crate::testing::inside;
use crate::{Event, SolveError, Solved};

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
        let digest = |op: usize| Digest::of(&self.0[op]).to_string();
        let inputs = inputs.iter();
        let inputs = inputs.map(|&(op, index)| pb::Input { digest: digest(op), index }).collect();
        let platform = Some(Platform::host().to_pb());
        let op = pb::Op { inputs, op, platform, ..pb::Op::default() };
        self.0.push(op.encode_to_vec());
        self.0.len() - 1
    }

    fn source(&mut self, identifier: &str) -> Output {
        let source = pb::SourceOp { identifier: identifier.into(), ..pb::SourceOp::default() };
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

    fn definition(mut self, result: Output) -> pb::Definition {
        self.add_op(None, &[result]);
        pb::Definition { def: self.0, ..pb::Definition::default() }
    }

    fn graph(self, result: Output) -> Graph {
        Graph::new(&self.definition(result)).unwrap()
    }
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
