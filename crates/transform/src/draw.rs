//! A build graph before and after [`crate::adapt`], for people and for programs.
//!
//! Both graphs are shown as one: what was added is marked, and the graph before is what remains
//! without it. Steps are laid out in lanes, a lane for each stage: a step stands below the one
//! whose files it changes, and what is copied or mounted comes from other lanes.

use std::collections::HashMap;

use koskit_llb::{Digest, Graph, GraphError, Vertex, pb};
use pb::op::Op;

use crate::{Adapted, graph};

mod dot;
mod json;
mod svg;
mod text;

/// Both graphs.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What the build is called: its directory, or its image.
    pub title: String,
    /// Why it is for seL4, if it is.
    pub reason: Option<String>,
    sdk: Option<Mounted>,
    steps: Vec<Step>,
    /// The step that makes the image's files.
    result: Option<usize>,
    /// Names of the lanes, from the left.
    lanes: Vec<String>,
}

/// The toolchain.
#[derive(Clone, Debug)]
struct Mounted {
    /// Its image, with the digest.
    image: String,
    /// Where it is mounted.
    mount: String,
    /// `NAME=value`, what its commands get.
    env: Vec<String>,
}

/// One vertex.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    /// `source`, `exec`, `file`, …
    kind: &'static str,
    change: Change,
    digest: Digest,
    /// Its digest before, where that was another.
    before: Option<Digest>,
    platform: Option<String>,
    /// What it starts from and copies from; inputs that were added are marked.
    inputs: Vec<(usize, bool)>,
    /// Variables that were added, `NAME=value`.
    env: Vec<String>,
    lane: usize,
    /// Below all that it needs.
    row: usize,
}

/// What became of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It has the same bytes.
    Same,
    /// It was not there before.
    Added,
    /// It got the toolchain.
    Mounted,
    /// It does the same, on a step that was changed.
    Follows,
}

impl Picture {
    /// Puts both graphs into one.
    ///
    /// # Errors
    /// One of them is none.
    pub fn new(
        title: &str,
        before: &pb::Definition,
        adapted: &Adapted,
    ) -> Result<Self, GraphError> {
        let old = Graph::new(before)?;
        let new = Graph::new(&adapted.definition)?;
        let by_digest: HashMap<&Digest, &Vertex> =
            old.vertices().iter().map(|vertex| (&vertex.digest, vertex)).collect();
        let mut steps: Vec<Step> = Vec::with_capacity(new.vertices().len());
        for vertex in new.vertices() {
            let before = adapted.before.get(&vertex.digest);
            let was = by_digest.get(before.unwrap_or(&vertex.digest)).copied();
            let env = match was {
                Some(was) => added(environment(vertex), environment(was)),
                None => Vec::new(),
            };
            let inputs: Vec<(usize, bool)> = vertex
                .inputs
                .iter()
                .enumerate()
                .map(|(at, edge)| (edge.vertex, was.is_some_and(|was| at >= was.inputs.len())))
                .collect();
            let mounted = inputs.iter().any(|(_, added)| *added) || !env.is_empty();
            steps.push(Step {
                name: short_names(&vertex.name()),
                kind: kind(&vertex.op),
                change: match (was, before) {
                    (None, _) => Change::Added,
                    (Some(_), None) => Change::Same,
                    (Some(_), Some(_)) if mounted => Change::Mounted,
                    (Some(_), Some(_)) => Change::Follows,
                },
                digest: vertex.digest.clone(),
                before: before.cloned(),
                platform: vertex.platform.as_ref().map(ToString::to_string),
                row: inputs.iter().map(|(input, _)| steps[*input].row + 1).max().unwrap_or(0),
                inputs,
                env,
                lane: 0,
            });
        }
        let lanes = lanes(&new, &mut steps);
        let sdk = adapted.sdk.as_ref().map(|sdk| Mounted {
            image: sdk.image.familiar(),
            mount: sdk.mount.clone(),
            env: sdk.env.clone(),
        });
        let reason = adapted.reason.as_ref().map(ToString::to_string);
        let result = new.result().map(|edge| edge.vertex);
        Ok(Self { title: title.into(), reason, sdk, steps, result, lanes })
    }

    /// What the picture says above all.
    fn headline(&self) -> String {
        match &self.reason {
            Some(reason) => format!("A build for seL4: {reason}."),
            None => "Not a build for seL4: nothing is changed.".into(),
        }
    }

    /// What happens to the image, which no graph shows.
    fn afterwards(&self) -> Option<&'static str> {
        self.reason.as_ref().map(|_| {
            "When it is built, the image gets the labels of its contract (com.koskit.app.…) that \
             its author has not set."
        })
    }
}

/// Gives each step its lane. A lane goes from a source, or from nothing, down to a step whose
/// files nobody changes; where two steps change the same files, the second begins a new lane.
fn lanes(graph: &Graph, steps: &mut [Step]) -> Vec<String> {
    let vertices = graph.vertices();
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    let mut lane_of = vec![0; vertices.len()];
    for (index, vertex) in vertices.iter().enumerate() {
        let output = 0;
        let base = graph::base(vertex, output).map(|edge| edge.vertex);
        let lane =
            base.map(|base| lane_of[base]).filter(|lane| lanes[*lane].last() == base.as_ref());
        let lane = lane.unwrap_or_else(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(index);
        lane_of[index] = lane;
    }
    // What was added stands at the left, then what else comes from outside alone, and the image
    // at the right: so most lines go to the right.
    let result = graph.result().map(|edge| lane_of[edge.vertex]);
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    order.sort_by_key(|lane| {
        let added = steps[lanes[*lane][0]].change == Change::Added;
        let alone = lanes[*lane].len() == 1 && steps[lanes[*lane][0]].kind == "source";
        (!added, Some(*lane) == result, !alone, *lane)
    });
    for (place, lane) in order.iter().enumerate() {
        for index in &lanes[*lane] {
            steps[*index].lane = place;
        }
    }
    order.iter().map(|lane| stage(&lanes[*lane], steps)).collect()
}

/// What a lane is called: by the steps' names, `[STAGE 2/3] …`.
fn stage(lane: &[usize], steps: &[Step]) -> String {
    let names = lane.iter().rev().map(|index| steps[*index].name.as_str());
    let bracketed = names.filter_map(|name| name.strip_prefix('[')?.split(']').next());
    let stage = bracketed.map(|words| words.split(' ').next().unwrap_or_default());
    let mut stage = stage.filter(|name| !name.contains('/'));
    match stage.next().unwrap_or_default() {
        "internal" => "context".into(),
        "sdk" => "SDK".into(),
        name => name.to_owned(),
    }
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Exec(_) => "exec",
        Op::File(_) => "file",
        Op::Build(_) => "build",
        Op::Merge(_) => "merge",
        Op::Diff(_) => "diff",
    }
}

fn environment(vertex: &Vertex) -> &[String] {
    match &vertex.op {
        Op::Exec(exec) => exec.meta.as_ref().map_or(&[], |meta| &meta.env),
        _ => &[],
    }
}

fn added(new: &[String], old: &[String]) -> Vec<String> {
    new.iter().filter(|entry| !old.contains(entry)).cloned().collect()
}

/// A text of at most so many characters.
fn shortened(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text,
    }
}

/// Names of images in a text as a person writes them, their digests cut to what tells them from
/// others.
fn short_names(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let word = word
            .strip_prefix("docker.io/")
            .map_or(word, |name| name.strip_prefix("library/").unwrap_or(name));
        match word.split_once("@sha256:") {
            Some((name, digest)) if digest.len() == 64 && digest.is_ascii() => {
                let name = name.strip_suffix(":latest").unwrap_or(name);
                format!("{name}@{}", &digest[..12])
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
