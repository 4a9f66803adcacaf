//! Lines for a terminal: `+` was added, `~` was changed.

use super::{Change, Picture, short_names};

impl Picture {
    /// The steps in an order in which they can be done, each with what was added to it.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.headline());
        out.push('\n');
        for (index, step) in self.steps.iter().enumerate() {
            let mark = match step.change {
                Change::Added => '+',
                Change::Mounted => '~',
                Change::Same | Change::Follows => ' ',
            };
            let from = step.inputs.iter().filter(|(_, added)| !added);
            let from: Vec<String> = from.map(|(input, _)| (input + 1).to_string()).collect();
            let from = match from.is_empty() {
                true => String::new(),
                false => format!("  <- {}", from.join(" ")),
            };
            out.push_str(&format!("{mark} {:>3} {}{from}\n", index + 1, step.name));
            if let (Some(sdk), Change::Mounted) = (&self.sdk, step.change) {
                for (input, _) in step.inputs.iter().filter(|(_, added)| *added) {
                    let set = sdk.env.iter().filter(|entry| !step.env.contains(entry));
                    let set: Vec<&str> = set.filter_map(|entry| entry.split('=').next()).collect();
                    let but = match set.is_empty() {
                        true => String::new(),
                        false => format!(", but not {}, which the step has", set.join(" ")),
                    };
                    out.push_str(&format!("      + the SDK, mounted from {}{but}\n", input + 1));
                }
            }
        }
        if let Some(sdk) = &self.sdk {
            let image = short_names(&sdk.image);
            out.push_str(&format!(
                "\nThe SDK is {image}, mounted read-only at {}, and\n",
                sdk.mount
            ));
            for entry in &sdk.env {
                out.push_str(&format!("  {entry}\n"));
            }
        }
        if let Some(afterwards) = self.afterwards() {
            out.push_str(&format!("\n{afterwards}\n"));
        }
        out
    }
}
