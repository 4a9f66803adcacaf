//! `koskit inspect`: everything about an image, in docker's shape.

use crate::{lower, names, output};
use anyhow::Result;
use clap::{Args, ValueEnum};
use koskit_image::{Image, Store};
use koskit_llb::{Platform, Reference};
use serde_json::{Value, json};

/// Show everything about images
///
/// Prints a JSON array with an object for each image, in the shape that docker gives it.
#[derive(Args)]
pub struct Arguments {
    /// Names of images
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<Reference>,
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Indented for people, or on one line for programs; JSON in both cases
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Pretty,
    Json,
}

/// Prints the images.
///
/// # Errors
/// There is no such image, or it cannot be read.
pub fn inspect(arguments: &Arguments) -> Result<()> {
    let store = names::store()?;
    let mut all = Vec::new();
    for name in &arguments.names {
        let image = find(&store, name, arguments.platform.as_ref())?;
        all.push(describe(&store, &image)?);
    }
    let all = Value::Array(all);
    let text = match arguments.format {
        Format::Pretty => format!("{all:#}\n"),
        Format::Json => format!("{all}\n"),
    };
    output::print(&text)?;
    Ok(())
}

/// The image of a name, for a platform or the likeliest one.
///
/// # Errors
/// There is no such image, or it cannot be read.
pub fn find(store: &Store, name: &Reference, wanted: Option<&Platform>) -> Result<Image> {
    let name = name.clone().tagged();
    let target = names::target();
    let platform = match wanted {
        Some(wanted) => wanted.clone(),
        None => match store.find(&name) {
            Ok(Some(descriptor)) => {
                let platforms = store.platforms(&descriptor)?;
                let has_target = platforms.iter().any(|(platform, _)| *platform == target);
                let other = platforms.into_iter().next().map(|(platform, _)| platform);
                other.filter(|_| !has_target).unwrap_or(target)
            }
            _ => target,
        },
    };
    names::resolve(store, &name, &platform)
}

fn describe(store: &Store, image: &Image) -> Result<Value> {
    let digest = image.digest();
    let mut tags = Vec::new();
    for tagged in store.list()? {
        let manifest = |d: &koskit_image::oci::Descriptor| d.digest().as_ref() == digest.as_str();
        if manifest(&tagged.descriptor) || tagged.platforms.iter().any(|(_, d)| manifest(d)) {
            tags.push(tagged.reference.familiar());
        }
    }
    let config = &image.config_json;
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| json!({ "Digest": layer.digest.as_str(), "Size": layer.size }))
        .collect();
    let diff_ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let mut object = json!({
        "Id": image.id().as_str(),
        "Digest": digest.as_str(),
        "RepoTags": &tags,
        "Created": config["created"],
        "Author": config["author"],
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": image.size(),
        "Config": config["config"],
        "RootFS": { "Type": "layers", "Layers": diff_ids },
        "Layers": layers,
        "History": config["history"],
    });
    if let Some(native) = native(store, image, tags.first()) {
        object["Native"] = native;
    }
    let fields = object.as_object_mut().expect("it was written as an object");
    fields.retain(|_, value| !value.is_null() && value != "");
    Ok(object)
}

/// What the image comes to on seL4, or why it cannot run there natively. `None` where that is
/// not to be known: it is for other machines, or there is no platform yet.
fn native(store: &Store, image: &Image, name: Option<&String>) -> Option<Value> {
    if image.platform != names::target() {
        return None;
    }
    let platform = koskit_machine::Platform::find().ok()?;
    let options = koskit_lower::Options {
        name: name.cloned().unwrap_or_default(),
        ..koskit_lower::Options::default()
    };
    Some(match lower::lower(store, image, &options, &platform) {
        Ok(bundle) => bundle.spec_json(),
        Err(error) => {
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            json!({ "Error": causes.join(": ") })
        }
    })
}
