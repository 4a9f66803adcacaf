//! Reading a definition that anybody may have written.

mod several;

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use thiserror::Error;

use crate::pb;
use crate::{Digest, Platform};

/// More ops than this in one definition is no build that anybody wrote.
const MAX_OPS: usize = 100_000;

/// A definition that was checked: every input exists, nothing goes in a circle, every index
/// is in range.
///
/// Vertices are stored in topological order: an [`Edge`] of vertex `i` always points to one
/// before it. Ops that the result does not need are left out, and equal ops are one vertex.
#[derive(Clone, Debug)]
pub struct Graph {
    vertices: Vec<Vertex>,
    /// At least one.
    results: Vec<Option<Edge>>,
    files: Vec<pb::SourceInfo>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// SHA-256 of the op's bytes; equal for equal ops on equal inputs.
    pub digest: Digest,
    /// What it does. Indices in it ([`pb::Mount::input`], [`pb::FileAction::input`], …) are
    /// in range of [`Self::inputs`].
    pub op: pb::op::Op,
    /// The file systems that it starts from.
    pub inputs: Vec<Edge>,
    /// Where it must run or what image it needs; `None` where that makes no difference.
    pub platform: Option<Platform>,
    /// How many file systems it gives.
    pub outputs: u32,
    /// Name, progress group and the like; no part of the digest.
    pub metadata: pb::OpMetadata,
    /// The places in the source that it comes from.
    pub locations: Vec<SourceRange>,
}

/// A file system that one vertex gives to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// Index of the vertex in [`Graph::vertices`].
    pub vertex: usize,
    /// Which of its outputs, below [`Vertex::outputs`].
    pub output: u32,
}

/// Lines of a source file, counted from 1, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceRange {
    /// Index in [`Graph::files`].
    pub file: usize,
    /// The first line.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// Why a definition cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The bytes are not the protobuf message that they should be.
    #[error("the build graph cannot be read: {what} is not valid protobuf")]
    Decode {
        /// What was being read.
        what: String,
        /// The decoder's reason.
        #[source]
        source: prost::DecodeError,
    },
    /// More than 100 000 ops.
    #[error("the build graph has {0} operations; more than {MAX_OPS} are refused")]
    TooLarge(usize),
    /// The last op does not name exactly one result.
    #[error("the build graph does not end with the operation that names its result")]
    NoResult,
    /// An op without a kind in the middle, or of a kind that is not known.
    #[error("operation {0} of the build graph is of an unknown kind")]
    UnknownKind(Digest),
    /// An input that the definition does not hold.
    #[error("operation {from} needs {missing:?}, which the build graph does not hold")]
    MissingInput {
        /// Who needs it.
        from: Digest,
        /// The digest as it was written.
        missing: String,
    },
    /// An index that points nowhere.
    #[error("operation {at} refers to {what} {index}, but there are {count}")]
    Range {
        /// The op with the index in it.
        at: Digest,
        /// What the index counts.
        what: &'static str,
        /// The index.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// A part that must be there is not.
    #[error("operation {at} lacks its {what}")]
    Incomplete {
        /// The op.
        at: Digest,
        /// The part.
        what: &'static str,
    },
    /// Ops that need each other. SHA-256 should make that impossible.
    #[error("the operations of the build graph need each other in a circle")]
    Cycle,
}

impl Graph {
    /// Decodes and checks a marshalled [`pb::Definition`].
    ///
    /// # Errors
    /// [`GraphError`] where anything about it is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, GraphError> {
        let definition = pb::Definition::decode(bytes)
            .map_err(|source| GraphError::Decode { what: "the definition".into(), source })?;
        Self::new(&definition)
    }

    /// Checks a definition.
    ///
    /// # Errors
    /// [`GraphError`] where anything about it is wrong.
    pub fn new(definition: &pb::Definition) -> Result<Self, GraphError> {
        let files = definition.source.as_ref().map(|s| s.infos.clone()).unwrap_or_default();
        let Some((last, ops)) = definition.def.split_last() else {
            // An empty definition is an empty file system: `FROM scratch` and nothing else.
            return Ok(Self { vertices: Vec::new(), results: vec![None], files });
        };
        if ops.len() > MAX_OPS {
            return Err(GraphError::TooLarge(ops.len()));
        }
        let terminal = decode_op(last, &Digest::of(last))?;
        let [result] = terminal.inputs.as_slice() else { return Err(GraphError::NoResult) };
        if terminal.op.is_some() {
            return Err(GraphError::NoResult);
        }

        let mut all = HashMap::with_capacity(ops.len());
        for bytes in ops {
            let digest = Digest::of(bytes);
            let op = decode_op(bytes, &digest)?;
            all.insert(digest.as_str().to_owned(), (digest, op));
        }
        let order = topological_order(&all, &Digest::of(last), result)?;
        let index: HashMap<&str, usize> =
            order.iter().enumerate().map(|(i, digest)| (digest.as_str(), i)).collect();

        let mut vertices: Vec<Vertex> = Vec::with_capacity(order.len());
        for digest in &order {
            let (digest, op) = &all[digest];
            let inputs = op
                .inputs
                .iter()
                .map(|input| edge(&vertices, index[input.digest.as_str()], input.index, digest))
                .collect::<Result<Vec<_>, _>>()?;
            let kind = op.op.clone().ok_or_else(|| GraphError::UnknownKind(digest.clone()))?;
            let outputs = check_op(&kind, inputs.len(), digest)?;
            vertices.push(Vertex {
                op: kind,
                inputs,
                platform: op.platform.as_ref().map(Platform::from),
                outputs,
                metadata: definition.metadata.get(digest.as_str()).cloned().unwrap_or_default(),
                locations: locations(definition, digest, files.len()),
                digest: digest.clone(),
            });
        }
        let at = Digest::of(last);
        let result = edge(&vertices, index[result.digest.as_str()], result.index, &at)?;
        Ok(Self { vertices, results: vec![Some(result)], files })
    }

    /// The vertices, each after all that it needs.
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The vertex that an edge comes from.
    pub fn vertex(&self, edge: Edge) -> &Vertex {
        &self.vertices[edge.vertex]
    }

    /// What the build is for; `None` is an empty file system.
    pub fn result(&self) -> Option<Edge> {
        self.results.first().copied().flatten()
    }

    /// Of a graph that was made of several, what each of them is for, in their order.
    pub fn results(&self) -> &[Option<Edge>] {
        &self.results
    }

    /// The files that [`Vertex::locations`] refer to.
    pub fn files(&self) -> &[pb::SourceInfo] {
        &self.files
    }
}

impl Vertex {
    /// What to call this step: the custom name, else a short description of the op.
    pub fn name(&self) -> String {
        match self.description("llb.customname") {
            Some(name) => name.to_owned(),
            None => self.summary(),
        }
    }

    /// An entry of the metadata's description, such as `com.docker.dockerfile.v1.command`.
    pub fn description(&self, key: &str) -> Option<&str> {
        self.metadata.description.get(key).map(String::as_str)
    }

    /// The op in a few words, from what it does and not from what it is called.
    pub fn summary(&self) -> String {
        use pb::file_action::Action;
        use pb::op::Op;
        match &self.op {
            Op::Source(source) => source.identifier.clone(),
            Op::Exec(exec) => exec.meta.as_ref().map(|m| m.args.join(" ")).unwrap_or_default(),
            Op::File(file) => {
                let words =
                    file.actions.iter().filter_map(|a| a.action.as_ref()).map(|a| match a {
                        Action::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
                        Action::Mkfile(file) => format!("mkfile {}", file.path),
                        Action::Mkdir(dir) => format!("mkdir {}", dir.path),
                        Action::Rm(rm) => format!("rm {}", rm.path),
                        Action::Symlink(link) => {
                            format!("symlink {} {}", link.oldpath, link.newpath)
                        }
                    });
                words.collect::<Vec<_>>().join(", ")
            }
            Op::Build(_) => "build".into(),
            Op::Merge(_) => "merge".into(),
            Op::Diff(_) => "diff".into(),
        }
    }
}

fn decode_op(bytes: &[u8], digest: &Digest) -> Result<pb::Op, GraphError> {
    pb::Op::decode(bytes)
        .map_err(|source| GraphError::Decode { what: format!("operation {digest}"), source })
}

type Ops = HashMap<String, (Digest, pb::Op)>;

/// Depth-first, with a stack of its own: the depth is the sender's choice.
fn topological_order(
    all: &Ops,
    terminal: &Digest,
    result: &pb::Input,
) -> Result<Vec<String>, GraphError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let find = |from: &Digest, digest: &str| {
        all.get(digest).ok_or_else(|| GraphError::MissingInput {
            from: from.clone(),
            missing: digest.chars().take(80).collect(),
        })
    };
    let mut marks: HashMap<&str, Mark> = HashMap::new();
    let mut order = Vec::new();
    let (root, root_op) = find(terminal, &result.digest)?;
    let mut stack = vec![(root, root_op, 0)];
    marks.insert(root.as_str(), Mark::Open);
    while let Some((digest, op, next)) = stack.last_mut() {
        let Some(input) = op.inputs.get(*next) else {
            marks.insert(digest.as_str(), Mark::Done);
            order.push(digest.as_str().to_owned());
            stack.pop();
            continue;
        };
        *next += 1;
        let (child, child_op) = find(digest, &input.digest)?;
        match marks.get(child.as_str()) {
            Some(Mark::Done) => {}
            Some(Mark::Open) => return Err(GraphError::Cycle),
            None => {
                marks.insert(child.as_str(), Mark::Open);
                stack.push((child, child_op, 0));
            }
        }
    }
    Ok(order)
}

fn edge(vertices: &[Vertex], vertex: usize, output: i64, at: &Digest) -> Result<Edge, GraphError> {
    let count = vertices[vertex].outputs;
    match u32::try_from(output) {
        Ok(output) if output < count => Ok(Edge { vertex, output }),
        _ => {
            let at = at.clone();
            Err(GraphError::Range { at, what: "output", index: output, count: count as usize })
        }
    }
}

/// Checks the indices inside an op and counts its outputs.
fn check_op(op: &pb::op::Op, inputs: usize, at: &Digest) -> Result<u32, GraphError> {
    use pb::op::Op;
    let range = |what, index: i64, count: usize| match usize::try_from(index) {
        Ok(i) if i < count => Ok(()),
        _ => Err(GraphError::Range { at: at.clone(), what, index, count }),
    };
    // -1 stands for an empty file system.
    let input = |index: i64| if index == -1 { Ok(()) } else { range("input", index, inputs) };
    let lacks = |what| GraphError::Incomplete { at: at.clone(), what };
    match op {
        Op::Source(source) if source.identifier.is_empty() => Err(lacks("identifier")),
        Op::Source(_) => Ok(1),
        Op::Exec(exec) => {
            let meta = exec.meta.as_ref().ok_or_else(|| lacks("command"))?;
            if meta.args.is_empty() {
                return Err(lacks("command"));
            }
            if !exec.mounts.iter().any(|m| m.dest == "/") {
                return Err(lacks("root mount"));
            }
            for mount in &exec.mounts {
                input(mount.input)?;
            }
            // What a secret or an agent says of an output means nothing.
            let kept = |m: &&pb::Mount| {
                !matches!(m.mount_type(), pb::MountType::Secret | pb::MountType::Ssh)
            };
            outputs(exec.mounts.iter().filter(kept).map(|m| m.output), at)
        }
        Op::File(file) => {
            if file.actions.is_empty() {
                return Err(lacks("actions"));
            }
            for (i, action) in file.actions.iter().enumerate() {
                // An index beyond the inputs is the result of an earlier action.
                for index in [action.input, action.secondary_input] {
                    if index != -1 {
                        range("input or earlier action", index, inputs + i)?;
                    }
                }
                check_action(action, &input, &lacks)?;
            }
            outputs(file.actions.iter().map(|a| a.output), at)
        }
        Op::Merge(merge) => {
            for part in &merge.inputs {
                input(part.input)?;
            }
            Ok(1)
        }
        Op::Diff(diff) => {
            input(diff.lower.as_ref().ok_or_else(|| lacks("lower input"))?.input)?;
            input(diff.upper.as_ref().ok_or_else(|| lacks("upper input"))?.input)?;
            Ok(1)
        }
        Op::Build(build) => {
            // -1 is the frontend built into the builder.
            input(build.builder)?;
            for part in build.inputs.values() {
                input(part.input)?;
            }
            Ok(1)
        }
    }
}

fn check_action(
    action: &pb::FileAction,
    input: &dyn Fn(i64) -> Result<(), GraphError>,
    lacks: &dyn Fn(&'static str) -> GraphError,
) -> Result<(), GraphError> {
    use pb::file_action::Action;
    let owner = match action.action.as_ref().ok_or_else(|| lacks("action"))? {
        Action::Copy(copy) => &copy.owner,
        Action::Mkfile(file) => &file.owner,
        Action::Mkdir(dir) => &dir.owner,
        Action::Symlink(link) => &link.owner,
        Action::Rm(_) => &None,
    };
    // A user's name is looked up in the passwd file of the input that it names.
    for user in owner.iter().flat_map(|o| [&o.user, &o.group]).flatten() {
        if let Some(pb::user_opt::User::ByName(named)) = &user.user {
            input(named.input)?;
        }
    }
    Ok(())
}

/// Outputs are numbered from 0 without a gap; -1 is none.
fn outputs(indices: impl Iterator<Item = i64>, at: &Digest) -> Result<u32, GraphError> {
    let mut seen: Vec<i64> = indices.filter(|&i| i != -1).collect();
    seen.sort_unstable();
    let count = seen.len();
    match seen.iter().enumerate().find(|&(i, &index)| i as i64 != index) {
        None => Ok(count as u32),
        Some((_, &index)) => {
            Err(GraphError::Range { at: at.clone(), what: "output", index, count })
        }
    }
}

fn locations(definition: &pb::Definition, digest: &Digest, files: usize) -> Vec<SourceRange> {
    let none = BTreeMap::new();
    let all = definition.source.as_ref().map_or(&none, |s| &s.locations);
    let Some(locations) = all.get(digest.as_str()) else { return Vec::new() };
    let mut out = Vec::new();
    for location in &locations.locations {
        // A location is only for people: one that makes no sense is left out.
        let Ok(file) = usize::try_from(location.source_index) else { continue };
        if file >= files {
            continue;
        }
        for range in &location.ranges {
            let line = |p: &Option<pb::Position>| {
                p.as_ref().and_then(|p| u32::try_from(p.line).ok()).filter(|&l| l > 0)
            };
            let Some(first) = line(&range.start) else { continue };
            let last = line(&range.end).unwrap_or(first).max(first);
            out.push(SourceRange { file, first, last });
        }
    }
    out
}
