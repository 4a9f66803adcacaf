//! Making a definition.
//!
//! The shapes follow BuildKit's client (`client/llb`): the order of inputs, what is
//! normalised, which ops carry a platform, which capabilities the metadata names. So the
//! same step has the same digest here and there.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::pb;
use crate::{Digest, Platform};

mod combine;
mod exec;
mod file;
mod source;

pub use exec::{Exec, Mount, MountKind, SecretMount, SshMount};
pub use file::{Copy, FileOp, Mode, Owner};
pub use source::{Git, Http, Local, OciLayout, ResolveMode, Source};

/// A file system in a graph that is being built; `None` is the empty one.
///
/// It belongs to the [`Builder`] that made it.
pub type State = Option<Output>;

/// One output of one op of a [`Builder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    op: usize,
    index: i64,
}

/// The name of a step and other things that do not change what it does.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// What to call it: `[build 2/3] COPY . /app/`.
    pub name: String,
    /// The instruction as it is written.
    pub command: Option<String>,
    /// Lines of the source file, counted from 1.
    pub lines: Option<(usize, usize)>,
    /// Run it even if its result is known.
    pub ignore_cache: bool,
    /// Shown as part of a larger step.
    pub group: Option<ProgressGroup>,
}

/// A step that is made of several ops, shown as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Equal for the ops of one step, and for no others.
    pub id: String,
    /// What to call the step.
    pub name: String,
    /// The group is only shown where an op of it that is not weak is done, too.
    pub weak: bool,
}

impl Note {
    /// A note with a name alone.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A graph while it is being built.
///
/// Ops are marshalled as they are added, so the graph has no circles and equal ops are one.
#[derive(Debug, Default)]
pub struct Builder {
    ops: Vec<Op>,
    by_digest: BTreeMap<Digest, usize>,
    file: Option<pb::SourceInfo>,
}

#[derive(Debug)]
struct Op {
    digest: Digest,
    bytes: Vec<u8>,
    inputs: Vec<usize>,
    metadata: pb::OpMetadata,
    ranges: Vec<(usize, usize)>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the file that the lines of all notes are of.
    pub fn source_file(&mut self, name: &str, language: &str, text: &str) {
        self.file = Some(pb::SourceInfo {
            filename: name.into(),
            data: text.into(),
            definition: None,
            language: language.into(),
        });
    }

    /// The definition whose result is `state`, with all that it needs and nothing else.
    pub fn definition(&self, state: State) -> pb::Definition {
        let Some(output) = state else { return pb::Definition::default() };
        let mut definition = pb::Definition::default();
        let mut source = pb::Source { infos: self.file.clone().into_iter().collect(), ..default() };
        let mut any = Summary::default();
        for index in self.needed(output.op) {
            let op = &self.ops[index];
            definition.def.push(op.bytes.clone());
            definition.metadata.insert(op.digest.to_string(), op.metadata.clone());
            any.ignore_cache |= op.metadata.ignore_cache;
            any.description |= !op.metadata.description.is_empty();
            if !op.ranges.is_empty() && self.file.is_some() {
                source.locations.insert(op.digest.to_string(), locations(&op.ranges));
            }
        }
        let last = pb::Op { inputs: vec![self.input(output)], ..default() }.encode_to_vec();
        let mut caps = BTreeMap::from([("constraints".into(), true), ("platform".into(), true)]);
        if any.ignore_cache {
            caps.insert("meta.ignorecache".into(), true);
        }
        if any.description {
            caps.insert("meta.description".into(), true);
        }
        let metadata = pb::OpMetadata { caps, ..default() };
        definition.metadata.insert(Digest::of(&last).to_string(), metadata);
        definition.def.push(last);
        definition.source = Some(source);
        definition
    }

    /// Inputs first, in the order in which each op names them.
    fn needed(&self, root: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.ops.len()];
        let mut stack = vec![(root, 0)];
        seen[root] = true;
        while let Some((op, next)) = stack.last_mut() {
            match self.ops[*op].inputs.get(*next) {
                Some(&input) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[input], true) {
                        stack.push((input, 0));
                    }
                }
                None => {
                    order.push(*op);
                    stack.pop();
                }
            }
        }
        order
    }

    fn input(&self, output: Output) -> pb::Input {
        pb::Input { digest: self.ops[output.op].digest.to_string(), index: output.index }
    }

    fn add(&mut self, draft: Draft, platform: Option<&Platform>, note: Note) -> usize {
        let op = pb::Op {
            inputs: draft.inputs.iter().map(|&output| self.input(output)).collect(),
            op: Some(draft.op),
            platform: platform.map(Platform::to_pb),
            constraints: Some(pb::WorkerConstraints::default()),
        };
        let bytes = op.encode_to_vec();
        let digest = Digest::of(&bytes);
        let inputs: Vec<usize> = draft.inputs.iter().map(|output| output.op).collect();
        let index = self.insert(digest, bytes, inputs);
        let op = &mut self.ops[index];
        // Where an op is added twice, the later words win, as they do in BuildKit.
        if !note.name.is_empty() {
            op.metadata.description.insert("llb.customname".into(), note.name);
        }
        if let Some(command) = note.command {
            op.metadata.description.insert("com.docker.dockerfile.v1.command".into(), command);
        }
        if let Some(ProgressGroup { id, name, weak }) = note.group {
            op.metadata.progress_group = Some(pb::ProgressGroup { id, name, weak });
        }
        op.metadata.ignore_cache |= note.ignore_cache;
        op.metadata.caps.extend(draft.caps.into_iter().map(|cap| (cap.to_owned(), true)));
        op.ranges.extend(note.lines);
        index
    }

    /// The place of an op among those of this graph, which it joins if it must.
    fn insert(&mut self, digest: Digest, bytes: Vec<u8>, inputs: Vec<usize>) -> usize {
        *self.by_digest.entry(digest.clone()).or_insert_with(|| {
            let metadata = pb::OpMetadata::default();
            self.ops.push(Op { digest, bytes, inputs, metadata, ranges: Vec::new() });
            self.ops.len() - 1
        })
    }
}

#[derive(Default)]
struct Summary {
    ignore_cache: bool,
    description: bool,
}

fn default<T: Default>() -> T {
    T::default()
}

fn locations(ranges: &[(usize, usize)]) -> pb::Locations {
    let position =
        |line: usize| pb::Position { line: line.try_into().unwrap_or(i32::MAX), character: 0 };
    let location = |&(first, last): &(usize, usize)| pb::Location {
        source_index: 0,
        ranges: (first..=last)
            .map(|line| pb::Range { start: Some(position(line)), end: Some(position(line)) })
            .collect(),
    };
    pb::Locations { locations: ranges.iter().map(location).collect() }
}

/// An op before it has a digest.
struct Draft {
    op: pb::op::Op,
    inputs: Vec<Output>,
    caps: Vec<&'static str>,
}

/// Inputs of an op, each named once.
#[derive(Default)]
struct Inputs(Vec<Output>);

impl Inputs {
    /// The index of a state among the inputs, which it joins if it must; -1 is the empty
    /// file system.
    fn index(&mut self, state: State) -> i64 {
        let Some(output) = state else { return -1 };
        let at = self.0.iter().position(|&known| known == output).unwrap_or_else(|| {
            self.0.push(output);
            self.0.len() - 1
        });
        at as i64
    }
}

#[cfg(test)]
mod tests;
