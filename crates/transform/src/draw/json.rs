//! Both graphs for a program.

use super::{Change, Picture};
use serde_json::{Value, json};

impl Picture {
    /// `steps` in topological order; `inputs` are indices in it. `before` is the digest that a
    /// changed step had. Without the steps that are `added`, the `added_inputs` and the
    /// `added_env`, it is the graph before.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let of = |added| -> Vec<usize> {
                let inputs = step.inputs.iter().filter(|(_, is)| *is == added);
                inputs.map(|(input, _)| *input).collect()
            };
            json!({
                "name": step.name,
                "op": step.kind,
                "change": match step.change {
                    Change::Same => "same",
                    Change::Added => "added",
                    Change::Mounted => "mounted",
                    Change::Follows => "follows",
                },
                "digest": step.digest.as_str(),
                "before": step.before.as_ref().map(|digest| digest.as_str()),
                "platform": step.platform,
                "stage": self.lanes[step.lane],
                "inputs": of(false),
                "added_inputs": of(true),
                "added_env": step.env,
            })
        });
        let sdk = self.sdk.as_ref();
        let sdk = sdk.map(|s| json!({ "image": s.image, "mount": s.mount, "env": s.env }));
        json!({
            "title": self.title,
            "sel4": self.reason.is_some(),
            "reason": self.reason,
            "sdk": sdk,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}
