//! Graphs in a form in which two of them can be compared: koskit's and BuildKit's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use koskit_llb::{Digest, Graph, marshal, pb};
use serde_json::Value;

use crate::decode;

/// A graph; each step after all that it needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps(pub Vec<Step>);

/// One op.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As it is in the graph.
    pub digest: String,
    /// Its inputs are empty: they are in `inputs`.
    pub op: pb::Op,
    /// Which steps, and which of their outputs.
    pub inputs: Vec<(usize, i64)>,
    /// What it is called.
    pub name: String,
    /// The name of the group that it is shown in, and whether it is a weak member.
    pub group: Option<(String, bool)>,
    /// The lines of the Dockerfile that it comes from.
    pub lines: Vec<(i64, i64)>,
}

impl Steps {
    /// Of a graph of ours.
    pub fn ours(graph: &Graph) -> Self {
        let vertices = graph.vertices().iter().map(|vertex| Step {
            digest: vertex.digest.to_string(),
            op: pb::Op {
                inputs: Vec::new(),
                op: Some(vertex.op.clone()),
                platform: vertex.platform.as_ref().map(koskit_llb::Platform::to_pb),
                constraints: Some(pb::WorkerConstraints::default()),
            },
            inputs: vertex.inputs.iter().map(|e| (e.vertex, i64::from(e.output))).collect(),
            name: vertex.name(),
            group: vertex.metadata.progress_group.as_ref().map(|g| (g.name.clone(), g.weak)),
            lines: vertex.locations.iter().map(|l| (l.first.into(), l.last.into())).collect(),
        });
        let mut steps = Self(vertices.collect());
        steps.order();
        steps
    }

    /// Of the provenance of a build by BuildKit; names and groups are by digest.
    pub fn theirs(predicate: &Value, names: &BTreeMap<String, Value>) -> Self {
        let config = &predicate["buildConfig"];
        let all = config["llbDefinition"].as_array().expect("the steps");
        let digests: BTreeMap<&str, &String> = config["digestMapping"]
            .as_object()
            .expect("digests")
            .iter()
            .map(|(digest, step)| (step.as_str().unwrap(), digest))
            .collect();
        let index: BTreeMap<&str, usize> =
            all.iter().enumerate().map(|(i, s)| (s["id"].as_str().unwrap(), i)).collect();
        let located = &predicate["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]["source"]
            ["locations"];
        // The last one only names the result.
        let steps = all[..all.len() - 1].iter().map(|step| {
            let id = step["id"].as_str().unwrap();
            let inputs = step["inputs"].as_array().into_iter().flatten();
            let inputs = inputs.map(|input| {
                let (id, output) = input.as_str().unwrap().split_once(':').unwrap();
                (index[id], output.parse().unwrap())
            });
            let digest = digests[id].clone();
            let shown = names.get(&digest).cloned().unwrap_or_default();
            let group = &shown["progressGroup"];
            let locations = located[id]["locations"].as_array().into_iter().flatten();
            let ranges = locations.flat_map(|l| l["ranges"].as_array().into_iter().flatten());
            let line = |v: &Value| v["line"].as_i64().unwrap();
            Step {
                op: decode::op(step["op"].clone(), Vec::new()),
                inputs: inputs.collect(),
                name: shown["name"].as_str().unwrap_or_default().to_owned(),
                group: group["name"]
                    .as_str()
                    .map(|name| (name.to_owned(), group["weak"].as_bool().unwrap_or_default())),
                lines: ranges.map(|r| (line(&r["start"]), line(&r["end"]))).collect(),
                digest,
            }
        });
        let mut steps = Self(steps.collect());
        steps.order();
        steps
    }

    /// Puts the steps into the order in which the last one meets its inputs, which does not
    /// depend on how they were written.
    fn order(&mut self) {
        let Some(last) = self.0.len().checked_sub(1) else { return };
        let mut order = Vec::new();
        self.visit(last, &mut order);
        let place: BTreeMap<usize, usize> =
            order.iter().enumerate().map(|(new, &old)| (old, new)).collect();
        let steps = order.iter().map(|&old| {
            let mut step = self.0[old].clone();
            for (input, _) in &mut step.inputs {
                *input = place[input];
            }
            step
        });
        self.0 = steps.collect();
    }

    fn visit(&self, step: usize, order: &mut Vec<usize>) {
        for &(input, _) in &self.0[step].inputs {
            if !order.contains(&input) {
                self.visit(input, order);
            }
        }
        if !order.contains(&step) {
            order.push(step);
        }
    }

    /// Gives what differs from machine to machine a name that does not, and each step the
    /// digest that it would have then.
    pub fn normalise(&mut self, names: &[(String, &str)]) {
        let plain = |text: &str| {
            names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        };
        let mut digests: Vec<String> = Vec::new();
        for step in &mut self.0 {
            if let Some(pb::op::Op::Source(source)) = &mut step.op.op {
                source.identifier = plain(&source.identifier);
                source.attrs.values_mut().for_each(|value| *value = plain(value));
                source.attrs.retain(|name, _| !MACHINE.contains(&name.as_str()));
            }
            step.name = plain(&step.name);
            if let Some((name, _)) = &mut step.group {
                *name = plain(name);
            }
            let input = |&(input, index): &(usize, i64)| pb::Input {
                digest: digests[input].clone(),
                index,
            };
            let inputs = step.inputs.iter().map(input).collect();
            let op = pb::Op { inputs, ..step.op.clone() };
            step.digest = Digest::of(&marshal(&op)).to_string();
            digests.push(step.digest.clone());
        }
    }

    /// Whether a step takes something from the client of the build.
    pub fn has_connection(&self) -> bool {
        self.0.iter().any(|step| match &step.op.op {
            Some(pb::op::Op::Source(source)) => {
                ["local://", "oci-layout://"].iter().any(|kind| source.identifier.starts_with(kind))
            }
            _ => false,
        })
    }

    /// One line a step: the beginning of its digest, its lines, its name.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for step in &self.0 {
            let digest = &step.digest["sha256:".len()..][..16];
            let lines: Vec<_> = step.lines.iter().map(|(first, _)| first.to_string()).collect();
            let group = match &step.group {
                None => "",
                Some((_, true)) => " (part)",
                Some((_, false)) => " (group)",
            };
            let _ = writeln!(out, "{digest} {:4}{group} {}", lines.join(","), step.name);
        }
        out
    }

    /// All in which two graphs differ, a line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        if self.0.len() != other.0.len() {
            out.push(format!("steps: {} here, {} there", self.0.len(), other.0.len()));
        }
        for (i, (ours, theirs)) in self.0.iter().zip(&other.0).enumerate() {
            let mut compare = |what: &str, ours: String, theirs: String| {
                if ours != theirs {
                    out.push(format!("step {i} {what}:\n    here  {ours}\n    there {theirs}"));
                }
            };
            compare("op", format!("{:?}", ours.op), format!("{:?}", theirs.op));
            compare("inputs", format!("{:?}", ours.inputs), format!("{:?}", theirs.inputs));
            compare("name", ours.name.clone(), theirs.name.clone());
            compare("group", format!("{:?}", ours.group), format!("{:?}", theirs.group));
            compare("lines", format!("{:?}", ours.lines), format!("{:?}", theirs.lines));
            compare("digest", ours.digest.clone(), theirs.digest.clone());
        }
        out
    }
}

/// Attributes that name a connection.
const MACHINE: [&str; 3] = ["local.session", "oci.session", "oci.store"];
