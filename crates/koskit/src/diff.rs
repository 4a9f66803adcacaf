//! `koskit diff`: in what files two images differ.

use crate::output::{self, Telling};
use crate::{names, registry};
use anyhow::Result;
use clap::Args;
use koskit_image::Difference;
use koskit_llb::Platform;
use serde_json::json;

/// Show which files two images differ in
///
/// A letter stands before each path: A for added, C for changed, D for deleted. Times of files
/// are not compared.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// For people, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Telling,
    /// The older image
    #[arg(value_name = "OLD")]
    old: String,
    /// The newer one
    #[arg(value_name = "NEW")]
    new: String,
}

const EXAMPLES: &str = "\
Examples:
  koskit diff hello:1 hello:2";

/// Prints the differences.
///
/// # Errors
/// There is no such image, or a layer cannot be had or read.
pub fn diff(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let image = |text: &str| {
        let image = names::image(&store, text, arguments.platform.as_ref())?;
        registry::complete(&store, &image)?;
        anyhow::Ok(image)
    };
    let differences = store.diff(&image(&arguments.old)?, &image(&arguments.new)?)?;
    let mut text = String::new();
    for (path, difference) in differences {
        let path = format!("/{}", path.display());
        text += &match arguments.format {
            Telling::Json => format!("{}\n", json!({ "Path": path, "Kind": kind(difference) })),
            Telling::Text => {
                let line: String = path.chars().filter(|c| !c.is_control()).collect();
                format!("{} {line}\n", difference.letter())
            }
        };
    }
    output::print(&text)?;
    Ok(())
}

fn kind(difference: Difference) -> &'static str {
    match difference {
        Difference::Added => "added",
        Difference::Changed => "changed",
        Difference::Deleted => "deleted",
    }
}
