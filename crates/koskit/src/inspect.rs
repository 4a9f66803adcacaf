//! `koskit inspect`: everything about an image or a container, in docker's shape.

use crate::machine::Which;
use crate::{holds, lower, names, output, ps};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use koskit_image::{Image, Store};
use koskit_keeper::State;
use koskit_llb::{Platform, Reference};
use serde_json::{Value, json};

/// Show everything about images and containers
///
/// Prints a JSON array with an object for each, in the shape that docker gives it. A name of a
/// container on the machine that runs comes first; of one that runs, each capability that it holds
/// is shown, as the kernel tells it.
#[derive(Args)]
pub struct Arguments {
    /// Names of containers or images, or ids of containers
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Only images, or only containers
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    #[command(flatten)]
    machine: Which,
    /// The image for this platform; default: linux/arm64, or whatever there is
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Indented JSON, JSON on one line, or a table of the capabilities of containers
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Image,
    Container,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Pretty,
    Json,
    Table,
}

/// Prints them.
///
/// # Errors
/// There is no such image or container, or it cannot be read.
pub fn inspect(arguments: &Arguments) -> Result<()> {
    let mut all = Vec::new();
    for name in &arguments.names {
        if arguments.kind != Some(Kind::Image) {
            match container(&arguments.machine, name) {
                Ok(Some(container)) => {
                    all.push(container);
                    continue;
                }
                Err(error) if arguments.kind == Some(Kind::Container) => return Err(error),
                _ => {}
            }
            if arguments.kind == Some(Kind::Container) {
                // It says what to do.
                arguments.machine.must()?;
            }
        }
        let store = names::store()?;
        let image = find(&store, &name.parse()?, arguments.platform.as_ref())?;
        all.push(describe(&store, &image)?);
    }
    if arguments.format == Format::Table {
        let tables: Vec<String> = all
            .iter()
            .map(|one| match one["Capabilities"].as_array() {
                Some(held) => Ok(holds::table(held)),
                None => bail!("{} is no container that runs", one["Name"].as_str().unwrap_or("it")),
            })
            .collect::<Result<_>>()?;
        output::print(&tables.join("\n"))?;
        return Ok(());
    }
    let all = Value::Array(all);
    let text = match arguments.format {
        Format::Json => format!("{all}\n"),
        Format::Pretty | Format::Table => format!("{all:#}\n"),
    };
    output::print(&text)?;
    Ok(())
}

/// A container of a machine, if that runs.
fn container(machine: &Which, name: &str) -> Result<Option<Value>> {
    if machine.client()?.is_none() {
        return Ok(None);
    }
    let told = ps::one(machine, name)?;
    let time = |time: Option<u64>| time.map_or(String::new(), names::time);
    // It may end at any time.
    let running = told.state == State::Running;
    let held = if running { holds::of(machine, &told).ok() } else { None };
    let mut shown = json!({
        "Id": told.id,
        "Name": told.name,
        "Image": told.image,
        "Created": names::time(told.created),
        "Path": told.command.first(),
        "Args": told.command.get(1..),
        "State": {
            "Status": told.state,
            "Running": told.state == State::Running,
            "Restarting": told.state == State::Restarting,
            "ExitCode": told.status,
            "Error": told.error.unwrap_or_default(),
            "StartedAt": time(told.started),
            "FinishedAt": time(told.finished),
        },
        "RestartCount": told.restarts,
        "HostConfig": { "RestartPolicy": { "Name": told.restart.to_string() } },
        "Config": { "OpenStdin": told.interactive },
        "Number": told.number,
        "Native": told.spec,
    });
    if let Some(held) = held {
        shown["Capabilities"] = held.into();
    }
    Ok(Some(shown))
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
