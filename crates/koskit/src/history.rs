//! `koskit history`: how an image was made.

use crate::names;
use crate::output::{self, Listing};
use anyhow::Result;
use clap::Args;
use koskit_image::Image;
use koskit_llb::Platform;
use serde_json::json;

/// Show how an image was made
///
/// The newest step comes first. Sizes are those of the layers as they are kept and sent:
/// compressed.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The image: its name, or the first digits of its ID
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Do not shorten commands
    #[arg(long)]
    no_trunc: bool,
    /// Print nothing but the digests of layers
    #[arg(short, long)]
    quiet: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

const EXAMPLES: &str = "\
Examples:
  koskit history hello
  koskit history --no-trunc --format json hello | jq -r .CreatedBy";

/// One step.
struct Step {
    created: String,
    by: String,
    comment: String,
    /// Digest and size, if it changed files.
    layer: Option<(String, u64)>,
}

/// Prints the steps.
///
/// # Errors
/// There is no such image, or it cannot be read.
pub fn history(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let image = names::image(&store, &arguments.image, arguments.platform.as_ref())?;
    output::print(&text(&steps(&image), arguments))?;
    Ok(())
}

/// The newest first.
fn steps(image: &Image) -> Vec<Step> {
    let mut layers = image.layers.iter();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let history = image.config.history().iter().flatten().map(|entry| {
        let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
        Step {
            created: text(entry.created()),
            by: text(entry.created_by()),
            comment: text(entry.comment()),
            layer: layer.map(|layer| (layer.digest.to_string(), layer.size)),
        }
    });
    let mut steps: Vec<_> = history.collect();
    // Nobody says how these were made.
    steps.extend(layers.map(|layer| Step {
        created: String::new(),
        by: String::new(),
        comment: String::new(),
        layer: Some((layer.digest.to_string(), layer.size)),
    }));
    steps.reverse();
    steps
}

fn text(steps: &[Step], arguments: &Arguments) -> String {
    if arguments.quiet {
        let layers = steps.iter().filter_map(|step| step.layer.as_ref());
        return layers.map(|(digest, _)| format!("{digest}\n")).collect();
    }
    if arguments.format == Listing::Json {
        return steps.iter().map(|step| format!("{}\n", step.json())).collect();
    }
    let head = ["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for step in steps {
        let (digest, size) = match &step.layer {
            Some((digest, size)) if arguments.no_trunc => (digest.clone(), *size),
            Some((digest, size)) => (digest["sha256:".len()..][..12].to_owned(), *size),
            None => (String::new(), 0),
        };
        let by = match arguments.no_trunc {
            true => clean(&step.by),
            false => shorten(&clean(&step.by), 45),
        };
        table.push(vec![
            digest,
            step.created.clone(),
            by,
            output::size(size),
            clean(&step.comment),
        ]);
    }
    output::table(&table)
}

impl Step {
    fn json(&self) -> serde_json::Value {
        json!({
            "CreatedAt": self.created,
            "CreatedBy": self.by,
            "Comment": self.comment,
            "Layer": self.layer.as_ref().map(|(digest, _)| digest),
            "Bytes": self.layer.as_ref().map_or(0, |(_, size)| *size),
        })
    }
}

/// An image's text may hold anything; what reaches a terminal is one line without control
/// characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shorten(text: &str, length: usize) -> String {
    match text.chars().count() {
        count if count > length => text.chars().take(length - 1).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_of_itself_is_one_short_line() {
        assert_eq!(clean("a\x1b[2J\nb"), "a [2J b");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
