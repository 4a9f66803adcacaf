//! `koskit images`: what is in the store.

use crate::names::{self, parts, short_id};
use crate::output::{self, Listing};
use anyhow::{Result, bail};
use clap::Args;
use koskit_image::{Image, Tagged};
use koskit_llb::Reference;
use serde_json::json;

/// List images
#[derive(Args)]
pub struct Arguments {
    /// Only images of this name, with any tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
    /// Do not shorten digests
    #[arg(long)]
    no_trunc: bool,
    /// Print nothing but image IDs
    #[arg(short, long)]
    quiet: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

/// One image under one name.
struct Row {
    tagged: Tagged,
    image: Image,
}

/// Prints the images.
///
/// # Errors
/// The store cannot be read.
pub fn images(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let mut rows = Vec::new();
    let mut broken = None;
    for (reference, descriptor) in store.names()? {
        if arguments.name.as_ref().is_some_and(|name| !matches(name, &reference)) {
            continue;
        }
        let platforms = match store.platforms(&descriptor) {
            Ok(platforms) => platforms,
            // One image that is damaged hides no other.
            Err(error) => {
                let name = names::short(&reference);
                output::error(&format!("{name} cannot be read: {error}\n"));
                broken = Some(name);
                continue;
            }
        };
        let tagged = Tagged { reference, descriptor, platforms };
        for (_, descriptor) in &tagged.platforms {
            // An index may name platforms that were never fetched.
            if let Ok(image) = store.image(descriptor) {
                rows.push(Row { tagged: tagged.clone(), image });
            }
        }
    }
    output::print(&text(&rows, arguments))?;
    if let Some(name) = broken {
        bail!("an image is damaged; build or pull it again, or remove it by `koskit rmi {name}`");
    }
    Ok(())
}

fn text(rows: &[Row], arguments: &Arguments) -> String {
    let id = |image: &Image| match arguments.no_trunc {
        true => image.id().to_string(),
        false => short_id(&image.id()),
    };
    if arguments.quiet {
        let mut ids: Vec<String> = rows.iter().map(|row| id(&row.image) + "\n").collect();
        ids.dedup();
        return ids.concat();
    }
    if arguments.format == Listing::Json {
        return rows.iter().map(|row| format!("{}\n", row.json(id(&row.image)))).collect();
    }
    let head = ["REPOSITORY", "TAG", "IMAGE ID", "PLATFORM", "SIZE"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(|row| {
        let (repository, tag) = parts(&row.tagged.reference);
        let platform = row.image.platform.to_string();
        vec![repository, tag, id(&row.image), platform, output::size(row.image.size())]
    }));
    output::table(&table)
}

impl Row {
    fn json(&self, id: String) -> serde_json::Value {
        let (repository, tag) = parts(&self.tagged.reference);
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": id,
            "Digest": self.image.digest().as_str(),
            "Platform": self.image.platform.to_string(),
            "CreatedAt": self.image.config.created(),
            "Size": output::size(self.image.size()),
            "Bytes": self.image.size(),
        })
    }
}

fn matches(wanted: &Reference, name: &Reference) -> bool {
    wanted.domain() == name.domain()
        && wanted.path() == name.path()
        && (wanted.tag().is_none() || wanted.tag() == name.tag())
}
