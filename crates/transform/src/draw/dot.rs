//! The language of Graphviz.

use super::{Change, Picture, shortened};
use std::fmt::Write as _;

impl Picture {
    /// A digraph; a lane is a cluster, what was added is orange.
    pub fn dot(&self) -> String {
        let mut out = String::from("digraph build {\n");
        let head = format!("{}\n{}", self.title, self.headline());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  label={}; labelloc=t; fontname=sans;", quoted(&head));
        out.push_str("  node [shape=box, style=rounded, fontname=monospace, fontsize=10];\n");
        for (lane, name) in self.lanes.iter().enumerate() {
            let _ = writeln!(out, "  subgraph cluster_{lane} {{");
            let _ = writeln!(out, "    label={}; color=gray80; fontname=sans;", quoted(name));
            let steps = self.steps.iter().enumerate().filter(|(_, step)| step.lane == lane);
            for (index, step) in steps {
                let label = quoted(&shortened(&step.name, 60));
                let colour = match step.change {
                    Change::Added | Change::Mounted => ", color=orange, penwidth=2",
                    Change::Same | Change::Follows => "",
                };
                let _ = writeln!(out, "    s{index} [label={label}{colour}];");
            }
            out.push_str("  }\n");
        }
        for (index, step) in self.steps.iter().enumerate() {
            for (input, added) in &step.inputs {
                let colour = if *added { " [color=orange, style=dashed]" } else { "" };
                let _ = writeln!(out, "  s{input} -> s{index}{colour};");
            }
        }
        out.push_str("}\n");
        out
    }
}

/// A string of DOT. A backslash would begin an escape.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
