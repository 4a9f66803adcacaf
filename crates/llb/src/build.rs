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

/// One output of one op of a [`Builder`]. What equal ops give is equal.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    op: usize,
    index: i64,
    /// Which of the times that the op was added is meant.
    node: usize,
}

impl PartialEq for Output {
    fn eq(&self, other: &Self) -> bool {
        (self.op, self.index) == (other.op, other.index)
    }
}

impl Eq for Output {}

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
    nodes: Vec<Node>,
    by_digest: BTreeMap<Digest, usize>,
    file: Option<pb::SourceInfo>,
}

#[derive(Debug)]
struct Op {
    digest: Digest,
    bytes: Vec<u8>,
}

/// An op as it was added. What is said of it each time is only put together when the graph is
/// complete, since that depends on the way from the result to it.
#[derive(Debug)]
struct Node {
    op: usize,
    /// Other nodes, in the order in which they are to be met.
    inputs: Vec<usize>,
    metadata: pb::OpMetadata,
    lines: Option<(usize, usize)>,
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
        let mut written = vec![false; self.ops.len()];
        for index in self.needed(output.node) {
            let node = &self.nodes[index];
            let op = &self.ops[node.op];
            if !std::mem::replace(&mut written[node.op], true) {
                definition.def.push(op.bytes.clone());
            }
            any.ignore_cache |= node.metadata.ignore_cache;
            any.description |= !node.metadata.description.is_empty();
            let digest = op.digest.to_string();
            if let Some(lines) = node.lines.filter(|_| self.file.is_some()) {
                let locations = source.locations.entry(digest.clone()).or_default();
                locations.locations.push(location(lines));
            }
            merge_metadata(definition.metadata.entry(digest).or_default(), &node.metadata);
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

    /// The nodes behind one, inputs first.
    fn needed(&self, root: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![(root, 0)];
        seen[root] = true;
        while let Some((node, next)) = stack.last_mut() {
            match self.nodes[*node].inputs.get(*next) {
                Some(&input) => {
                    *next += 1;
                    if !std::mem::replace(&mut seen[input], true) {
                        stack.push((input, 0));
                    }
                }
                None => {
                    order.push(*node);
                    stack.pop();
                }
            }
        }
        order
    }

    fn input(&self, output: Output) -> pb::Input {
        pb::Input { digest: self.ops[output.op].digest.to_string(), index: output.index }
    }

    fn add(&mut self, draft: Draft, platform: Option<&Platform>, note: Note) -> State {
        let op = pb::Op {
            inputs: draft.inputs.unique.iter().map(|&output| self.input(output)).collect(),
            op: Some(draft.op),
            platform: platform.map(Platform::to_pb),
            constraints: Some(pb::WorkerConstraints::default()),
        };
        let mut metadata = pb::OpMetadata { ignore_cache: note.ignore_cache, ..default() };
        let description = &mut metadata.description;
        if !note.name.is_empty() {
            description.insert("llb.customname".into(), note.name);
        }
        if let Some(command) = note.command {
            description.insert("com.docker.dockerfile.v1.command".into(), command);
        }
        if let Some(ProgressGroup { id, name, weak }) = note.group {
            metadata.progress_group = Some(pb::ProgressGroup { id, name, weak });
        }
        metadata.caps = draft.caps.into_iter().map(|cap| (cap.to_owned(), true)).collect();
        let inputs = draft.inputs.met.iter().map(|output| output.node).collect();
        Some(self.node(marshal(&op), inputs, metadata, note.lines))
    }

    /// Adds an op by its bytes; gives its first output.
    fn node(
        &mut self,
        bytes: Vec<u8>,
        inputs: Vec<usize>,
        metadata: pb::OpMetadata,
        lines: Option<(usize, usize)>,
    ) -> Output {
        let digest = Digest::of(&bytes);
        let op = *self.by_digest.entry(digest.clone()).or_insert_with(|| {
            self.ops.push(Op { digest, bytes });
            self.ops.len() - 1
        });
        self.nodes.push(Node { op, inputs, metadata, lines });
        Output { op, index: 0, node: self.nodes.len() - 1 }
    }
}

/// Where an op is added twice, the later words win, as they do in BuildKit.
fn merge_metadata(known: &mut pb::OpMetadata, other: &pb::OpMetadata) {
    known.description.extend(other.description.clone());
    known.caps.extend(other.caps.clone());
    known.ignore_cache |= other.ignore_cache;
    if other.progress_group.is_some() {
        known.progress_group.clone_from(&other.progress_group);
    }
}

/// The bytes of an op, as BuildKit writes them: Go's encoder puts what an op does behind all
/// its other fields, whatever the fields' numbers are. Digests depend on that.
pub fn marshal(op: &pb::Op) -> Vec<u8> {
    let mut bytes = pb::Op { op: None, ..op.clone() }.encode_to_vec();
    bytes.extend(pb::Op { op: op.op.clone(), ..default() }.encode_to_vec());
    bytes
}

#[derive(Default)]
struct Summary {
    ignore_cache: bool,
    description: bool,
}

fn default<T: Default>() -> T {
    T::default()
}

fn location((first, last): (usize, usize)) -> pb::Location {
    let position =
        |line: usize| pb::Position { line: line.try_into().unwrap_or(i32::MAX), character: 0 };
    let range = |line| pb::Range { start: Some(position(line)), end: Some(position(line)) };
    pb::Location { source_index: 0, ranges: (first..=last).map(range).collect() }
}

/// An op before it has a digest.
struct Draft {
    op: pb::op::Op,
    inputs: Inputs,
    caps: Vec<&'static str>,
}

/// Inputs of an op.
#[derive(Default)]
struct Inputs {
    /// Each once, as the op names them.
    unique: Vec<Output>,
    /// As they are to be met on the way from the result.
    met: Vec<Output>,
}

impl Inputs {
    /// The index of a state among the inputs, which it joins if it must; -1 is the empty
    /// file system.
    fn index(&mut self, state: State) -> i64 {
        let Some(output) = state else { return -1 };
        self.met.push(output);
        let at = self.unique.iter().position(|&known| known == output).unwrap_or_else(|| {
            self.unique.push(output);
            self.unique.len() - 1
        });
        at as i64
    }

    /// Inputs that are not compared with each other.
    fn all(outputs: Vec<Output>) -> Self {
        Self { met: outputs.clone(), unique: outputs }
    }
}

#[cfg(test)]
mod tests;
