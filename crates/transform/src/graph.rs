//! Finding the commands that get the toolchain, and giving it to them.

use std::collections::{BTreeMap, HashMap, HashSet};

use koskit_llb::{
    Builder, Digest, Edge, Graph, Note, Platform, Reference, ResolveMode, Source, Vertex, pb,
};
use pb::op::Op;
use prost::Message as _;

use crate::sdk::Sdk;

/// Names of the SDK's images begin so.
const SDK_IMAGES: &str = "kos/";
/// Those of toolchain images.
const TOOLCHAINS: &str = "kos/dev-";

/// The first image of the SDK that the graph begins with, by its familiar name.
pub fn sdk_image(graph: &Graph) -> Option<String> {
    let mut names = graph.vertices().iter().filter_map(image);
    let name = names.find(|name| is_of_sdk(name, SDK_IMAGES))?;
    let familiar = name.familiar();
    // The digest says nothing to a person, and the tag is the usual one.
    let name = familiar.split('@').next().unwrap_or_default();
    Some(name.strip_suffix(":latest").unwrap_or(name).to_owned())
}

/// The image that a source is, by the name that the Dockerfile has for it: where a named context
/// stands for it, as an image from elsewhere, the vertex's name begins with that.
fn image(vertex: &Vertex) -> Option<Reference> {
    let name = vertex.name();
    let context = name.strip_prefix("[context ").and_then(|rest| rest.split(']').next());
    if let Some(context) = context {
        return context.split("::").next()?.parse().ok();
    }
    match &vertex.op {
        Op::Source(source) => source.identifier.strip_prefix("docker-image://")?.parse().ok(),
        _ => None,
    }
}

fn is_of_sdk(name: &Reference, prefix: &str) -> bool {
    name.domain() == "docker.io" && name.path().starts_with(prefix)
}

/// The digests of the commands that are to get the toolchain: on the build platform, in a stage
/// that the image copies from, and that does not begin with a toolchain.
pub fn commands(graph: &Graph, build: &Platform) -> HashSet<Digest> {
    let of_image: HashSet<usize> =
        graph.result().into_iter().flat_map(|result| lineage(graph, result)).collect();
    let candidates = graph.vertices().iter().enumerate().filter(|(index, vertex)| {
        matches!(vertex.op, Op::Exec(_))
            && vertex.platform.as_ref() == Some(build)
            && !of_image.contains(index)
    });
    let without = candidates.filter(|(index, _)| {
        let edge = Edge { vertex: *index, output: 0 };
        let root = lineage(graph, edge).last().map(|index| &graph.vertices()[index]);
        !root.and_then(image).is_some_and(|name| is_of_sdk(&name, TOOLCHAINS))
    });
    without.map(|(_, vertex)| vertex.digest.clone()).collect()
}

/// A file system's own history: the vertex that made it, the one that made what that began
/// with, and so on to a source or to nothing.
pub(crate) fn lineage(graph: &Graph, from: Edge) -> impl Iterator<Item = usize> {
    let next = |edge: &Edge| base(graph.vertex(*edge), edge.output);
    std::iter::successors(Some(from), next).map(|edge| edge.vertex)
}

/// The file system that a vertex changes to make one of its outputs.
pub(crate) fn base(vertex: &Vertex, output: u32) -> Option<Edge> {
    let input =
        |index: i64| usize::try_from(index).ok().and_then(|i| vertex.inputs.get(i).copied());
    match &vertex.op {
        Op::Source(_) | Op::Build(_) => None,
        Op::Exec(exec) => {
            let made = exec.mounts.iter().find(|mount| mount.output == i64::from(output));
            input(made?.input)
        }
        Op::File(file) => {
            let output = i64::from(output);
            let mut at = file.actions.iter().find(|action| action.output == output)?.input;
            // An index beyond the inputs is an earlier action.
            while let Some(earlier) = usize::try_from(at).ok()?.checked_sub(vertex.inputs.len()) {
                at = file.actions.get(earlier)?.input;
            }
            input(at)
        }
        Op::Merge(merge) => input(merge.inputs.first()?.input),
        Op::Diff(diff) => input(diff.upper.as_ref()?.input),
    }
}

/// A definition with the toolchain mounted.
pub struct Mounted {
    pub definition: pb::Definition,
    /// For how many commands that was possible.
    pub commands: usize,
    /// What each op that is now another was before: new digests to old ones.
    pub before: BTreeMap<Digest, Digest>,
}

/// Mounts the toolchain for these commands. What does not come after one of them keeps its
/// bytes.
pub fn mount(
    definition: &pb::Definition,
    graph: &Graph,
    commands: &HashSet<Digest>,
    sdk: &Sdk,
) -> Mounted {
    let toolchain = Toolchain::new(sdk);
    let bytes: HashMap<Digest, &Vec<u8>> =
        definition.def.iter().map(|bytes| (Digest::of(bytes), bytes)).collect();
    let mut out = pb::Definition {
        source: definition.source.clone().map(|mut source| {
            source.locations.clear();
            source
        }),
        ..pb::Definition::default()
    };
    let mut renamed: HashMap<String, String> = HashMap::new();
    let mut before = BTreeMap::new();
    let (mut count, mut there) = (0, bytes.contains_key(&toolchain.digest));
    let terminal = definition.def.last().map(|bytes| Digest::of(bytes));
    let all = graph.vertices().iter().map(|vertex| vertex.digest.clone()).chain(terminal);
    for old in all {
        let mut op = pb::Op::decode(bytes[&old].as_slice()).expect("Graph::new has decoded it");
        let mut metadata = definition.metadata.get(old.as_str()).cloned().unwrap_or_default();
        let mut changed = false;
        for input in &mut op.inputs {
            if let Some(new) = renamed.get(&input.digest) {
                input.digest.clone_from(new);
                changed = true;
            }
        }
        if commands.contains(&old) && toolchain.give(&mut op, sdk) {
            if !std::mem::replace(&mut there, true) {
                out.def.push(toolchain.bytes.clone());
                out.metadata.insert(toolchain.digest.to_string(), toolchain.metadata.clone());
            }
            metadata.caps.insert("exec.mount.bind".into(), true);
            count += 1;
            changed = true;
        }
        let (new, bytes) = match changed {
            true => {
                let bytes = koskit_llb::marshal(&op);
                (Digest::of(&bytes), bytes)
            }
            false => (old.clone(), bytes[&old].clone()),
        };
        if let Some(source) = &mut out.source {
            let locations = definition.source.as_ref().and_then(|s| s.locations.get(old.as_str()));
            if let Some(locations) = locations {
                source.locations.insert(new.to_string(), locations.clone());
            }
        }
        out.def.push(bytes);
        out.metadata.insert(new.to_string(), metadata);
        renamed.insert(old.to_string(), new.to_string());
        if new != old {
            before.insert(new, old);
        }
    }
    Mounted { definition: out, commands: count, before }
}

/// The op of the toolchain image.
struct Toolchain {
    digest: Digest,
    bytes: Vec<u8>,
    metadata: pb::OpMetadata,
}

impl Toolchain {
    fn new(sdk: &Sdk) -> Self {
        let mut builder = Builder::new();
        let source = Source::Image {
            reference: sdk.image.clone(),
            platform: sdk.platform.clone(),
            resolve: ResolveMode::default(),
        };
        let name = sdk.image.familiar();
        let name = name.split('@').next().unwrap_or_default();
        let name = name.strip_suffix(":latest").unwrap_or(name);
        let state = builder.source(source, Note::new(format!("[sdk] {name}")));
        let mut definition = builder.definition(state);
        let bytes = definition.def.swap_remove(0);
        let digest = Digest::of(&bytes);
        let metadata = definition.metadata.remove(digest.as_str()).unwrap_or_default();
        Self { digest, bytes, metadata }
    }

    /// Mounts it for a command and sets the variables that the command has not. False where the
    /// command has something else in its place, and is left as it is.
    fn give(&self, op: &mut pb::Op, sdk: &Sdk) -> bool {
        let Some(Op::Exec(exec)) = &mut op.op else { return false };
        let Some(meta) = &mut exec.meta else { return false };
        let taken = |mount: &pb::Mount| {
            let place = mount.dest.trim_end_matches('/');
            place == sdk.mount || place.starts_with(&format!("{}/", sdk.mount))
        };
        if exec.mounts.iter().any(taken) {
            return false;
        }
        let digest = self.digest.to_string();
        let at = op.inputs.iter().position(|i| i.digest == digest && i.index == 0);
        let at = at.unwrap_or_else(|| {
            op.inputs.push(pb::Input { digest, index: 0 });
            op.inputs.len() - 1
        });
        // As everywhere in LLB, sorted by target: what is mounted inside of another comes later.
        let before = exec.mounts.partition_point(|mount| mount.dest.as_str() < sdk.mount.as_str());
        let mount = pb::Mount {
            input: at as i64,
            dest: sdk.mount.clone(),
            readonly: true,
            output: -1,
            ..pb::Mount::default()
        };
        exec.mounts.insert(before, mount);
        let names = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        let set: HashSet<String> = meta.env.iter().map(|entry| names(entry)).collect();
        meta.env.extend(sdk.env.iter().filter(|entry| !set.contains(&names(entry))).cloned());
        true
    }
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
