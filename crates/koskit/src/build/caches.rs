//! Build caches of other places, for the engine in this process and for BuildKit servers.

use crate::build::layout;
use crate::registry::{Blobs, Connection};
use anyhow::{Context as _, Result, anyhow, bail};
use koskit_buildkit::Cache;
use koskit_image::Store;
use koskit_llb::{Platform, Reference};
use koskit_progress::Progress;
use koskit_solver::portable::{CacheError, CacheExport, Import, Mode, Origin};
use koskit_solver::{Solved, Solver};
use std::path::PathBuf;

/// Reads caches. One that cannot be had is told and passed over, as a build does without it.
pub fn import(
    caches: &[Cache],
    store: &Store,
    platforms: &[&Platform],
    progress: &Progress,
) -> Vec<Import> {
    let read = |cache: &Cache| {
        let name = match cache.kind.as_str() {
            "local" => format!("importing cache from client directory {}", field(cache, "src")),
            _ => format!("importing cache manifest from {}", field(cache, "ref")),
        };
        let read = progress
            .step(&name, |_| one(cache, store, platforms).map_err(|error| anyhow!("{error:#}")));
        read.unwrap_or_default()
    };
    caches.iter().flat_map(read).collect()
}

fn one(cache: &Cache, store: &Store, platforms: &[&Platform]) -> Result<Vec<Import>> {
    match cache.kind.as_str() {
        "local" => {
            let directory = required(cache, "src")?;
            Ok(vec![Import::read_directory(&PathBuf::from(directory), tag(cache))?])
        }
        "registry" => {
            let name: Reference = required(cache, "ref")?.parse::<Reference>()?.tagged();
            let client = Connection::default().client();
            let document = client.document(&name)?;
            let origin = Origin::Registry(name.clone());
            let blob = |descriptor: &_, limit| Ok(client.blob(&name, descriptor, limit)?);
            match Import::read(&document.bytes, origin, &blob) {
                Err(CacheError::Invalid { .. }) => {
                    // Then it is an image that has its cache within it.
                    let within = |platform: &&Platform| -> Result<Option<Import>> {
                        let pulled = client.resolve(&name, platform, store)?;
                        let image = pulled.images.first().context("there is no image")?;
                        Ok(Import::within(image, &name)?)
                    };
                    platforms.iter().filter_map(|platform| within(platform).transpose()).collect()
                }
                read => Ok(vec![read?]),
            }
        }
        other => {
            bail!("there is no cache of type {other:?} to begin with, only local and registry")
        }
    }
}

/// Caches to begin with, for a server: those in directories here with the digests of their tags.
/// One that is not there is told and passed over, as a build does without it.
pub fn of_server(caches: &[Cache], progress: &Progress) -> Vec<Cache> {
    let found = |cache: &Cache| {
        if cache.kind != "local" || !field(cache, "digest").is_empty() {
            return Some(cache.clone());
        }
        let name = format!("importing cache from client directory {}", field(cache, "src"));
        let find = || -> Result<Cache> {
            let text = format!("{}:{}", required(cache, "src")?, tag(cache));
            let (_, digest) = layout::find(&text)?;
            let mut attributes = cache.attributes.clone();
            attributes.insert("digest".into(), digest.to_string());
            Ok(Cache { attributes, ..cache.clone() })
        };
        progress.step(&name, |_| find().map_err(|error| anyhow!("{error:#}"))).ok()
    };
    caches.iter().filter_map(found).collect()
}

/// Caches that a server shall write.
///
/// # Errors
/// One lacks what says where it is. What kinds there are is the server's to say.
pub fn for_server(caches: &[Cache]) -> Result<Vec<Cache>> {
    for cache in caches {
        check_place(cache)?;
    }
    Ok(caches.to_vec())
}

/// What kinds of caches there are to be written.
///
/// # Errors
/// One of them is none, or lacks what says where it is.
pub fn check(caches: &[Cache]) -> Result<()> {
    for cache in caches {
        check_place(cache)?;
        if !matches!(cache.kind.as_str(), "local" | "registry" | "inline") {
            let kind = &cache.kind;
            bail!("there is no cache of type {kind:?}, only local, registry and inline");
        }
        if !matches!(field(cache, "mode"), "" | "min" | "max") {
            bail!("mode={} of a cache is neither min nor max", field(cache, "mode"));
        }
    }
    Ok(())
}

fn check_place(cache: &Cache) -> Result<()> {
    match cache.kind.as_str() {
        "local" => drop(required(cache, "dest")?),
        "registry" => drop(required(cache, "ref")?.parse::<Reference>()?),
        _ => {}
    }
    Ok(())
}

/// Writes caches of what a build came to. Gives those that are to be within the images, in the
/// order of `solved`.
///
/// # Errors
/// One cannot be written, unless it says `ignore-error=true`.
pub fn export(
    caches: &[Cache],
    solver: &Solver,
    store: &Store,
    records: &koskit_solver::portable::Records,
    solved: &[Solved],
    progress: &Progress,
) -> Result<Vec<Option<String>>> {
    let mut inline = vec![None; solved.len()];
    let all: Vec<&Solved> = solved.iter().collect();
    for cache in caches {
        let mode = if field(cache, "mode") == "max" { Mode::Max } else { Mode::Min };
        let name = match cache.kind.as_str() {
            "local" => "exporting cache to client directory".to_owned(),
            "inline" => "exporting cache within the image".to_owned(),
            _ => format!("exporting cache to registry {}", field(cache, "ref")),
        };
        let written = progress.step(&name, |step| {
            let cached = solver.export(records, &all, mode)?;
            match cache.kind.as_str() {
                "inline" => {
                    inline = solved.iter().map(|image| cached.inline(&image.layers)).collect();
                }
                "local" => {
                    let _task = step.task("writing layers");
                    cached.write(store, &PathBuf::from(required(cache, "dest")?), tag(cache))?;
                }
                _ => push(&cached, cache, store, &Blobs::new(step))?,
            }
            anyhow::Ok(())
        });
        if field(cache, "ignore-error") != "true" {
            written?;
        }
    }
    Ok(inline)
}

fn push(cached: &CacheExport, cache: &Cache, store: &Store, blobs: &Blobs<'_>) -> Result<()> {
    let name: Reference = required(cache, "ref")?.parse::<Reference>()?.tagged();
    let manifest = cached.manifest(store)?;
    let client = Connection::default().client();
    client.push(store, &manifest, &name, &|event| blobs.tell(event))?;
    Ok(())
}

fn tag(cache: &Cache) -> &str {
    match field(cache, "tag") {
        "" => "latest",
        tag => tag,
    }
}

fn field<'a>(cache: &'a Cache, key: &str) -> &'a str {
    cache.attributes.get(key).map_or("", String::as_str)
}

fn required<'a>(cache: &'a Cache, key: &str) -> Result<&'a str> {
    match field(cache, key) {
        "" => bail!("a cache of type {} needs {key}=…", cache.kind),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::values::cache;

    #[test]
    fn a_cache_must_say_where_it_is() {
        let check = |text: &str| check(&[cache(text).unwrap()]);
        for good in ["type=inline", "type=local,dest=x,mode=max", "type=registry,ref=a:b"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["type=local", "type=gha", "type=registry,ref=A", "type=inline,mode=all"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
