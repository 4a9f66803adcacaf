//! Names of images, as a person gives them.

use anyhow::{Context, Result};
use koskit_image::oci::Descriptor;
use koskit_image::{Error, Image, Store, folders};
use koskit_llb::{Platform, Reference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What runs on a seL4 machine.
pub fn target() -> Platform {
    Platform::new("linux", "arm64", "")
}

/// The store of this user.
///
/// # Errors
/// There is no place for it, or it cannot be written.
pub fn store() -> Result<Store> {
    let path = Store::default_path()?;
    let opened = Store::open(&path);
    opened.with_context(|| format!("the image store in {} cannot be used", path.display()))
}

/// The directory in which builds keep what they have done: `$XDG_CACHE_HOME/koskit/build`, by
/// default `~/.cache/koskit/build`.
///
/// # Errors
/// The environment has neither variable.
pub fn cache() -> Result<PathBuf> {
    let cache = folders::cache()
        .context("there is no place for the build cache: set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("koskit/build"))
}

/// The image of that name for a platform.
///
/// # Errors
/// A sentence that says what to do, where there is none.
pub fn resolve(store: &Store, name: &Reference, platform: &Platform) -> Result<Image> {
    store.resolve(name, platform).map_err(|error| match error {
        Error::NotFound(name) => missing(store, &name),
        other => other.into(),
    })
}

/// What a person means by the name of an image, or by the first digits of its ID.
pub struct Found {
    /// The name, if that was given.
    pub reference: Option<Reference>,
    /// Of its manifest or index.
    pub descriptor: Descriptor,
    /// All names of it.
    pub all: Vec<Reference>,
}

/// Finds an image by its name, by its digest, or by the first four digits or more of its ID or
/// digest.
///
/// # Errors
/// There is none, or several begin so.
pub fn any(store: &Store, text: &str) -> Result<Found> {
    let names = store.names()?;
    let named = |descriptor: &Descriptor| {
        let same = names.iter().filter(|(_, d)| d.digest() == descriptor.digest());
        same.map(|(name, _)| name.clone()).collect()
    };
    if let Ok(name) = text.parse::<Reference>() {
        let name = name.tagged();
        if let Some((name, descriptor)) = names.iter().find(|(known, _)| *known == name) {
            let (reference, descriptor) = (Some(name.clone()), descriptor.clone());
            return Ok(Found { reference, all: named(&descriptor), descriptor });
        }
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let mut found: Vec<Descriptor> = Vec::new();
    if digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        for (_, descriptor) in &names {
            if !found.contains(descriptor)
                && ids(store, descriptor).any(|id| id.starts_with(digits))
            {
                let mut descriptor = descriptor.clone();
                descriptor.set_annotations(None);
                found.push(descriptor);
            }
        }
        found.dedup_by(|a, b| a.digest() == b.digest());
        if let (true, Ok(digest)) = (found.is_empty(), text.parse()) {
            // Nobody has named it yet.
            found.extend(store.describe(&digest).ok());
        }
    }
    match found.as_slice() {
        [one] => Ok(Found { reference: None, all: named(one), descriptor: one.clone() }),
        [] => match text.parse::<Reference>() {
            Ok(name) => Err(missing(store, &name.tagged())),
            Err(error) => Err(error.into()),
        },
        _ => anyhow::bail!("several images begin with {text}; give more digits of it"),
    }
}

/// Digits of all IDs and digests that a name stands for.
fn ids(store: &Store, descriptor: &Descriptor) -> impl Iterator<Item = String> + use<> {
    let digest = descriptor.digest().digest().to_owned();
    let platforms = store.platforms(descriptor).unwrap_or_default();
    let images = platforms.into_iter().filter_map(|(_, d)| store.image(&d).ok());
    let ids: Vec<_> = images.map(|image| image.id().hex().to_owned()).collect();
    std::iter::once(digest).chain(ids)
}

/// One image of what [`any`] finds: for a platform, or the likeliest one.
///
/// # Errors
/// As [`any`]; or it is not for that platform, or cannot be read.
pub fn image(store: &Store, text: &str, wanted: Option<&Platform>) -> Result<Image> {
    let found = any(store, text)?;
    let platforms = store.platforms(&found.descriptor)?;
    let of = |wanted: &Platform| platforms.iter().find(|(platform, _)| platform == wanted);
    let image = match wanted {
        Some(wanted) => of(wanted).with_context(|| format!("{text} is not for {wanted}"))?,
        None => {
            let any = of(&target()).or_else(|| platforms.first());
            any.with_context(|| format!("{text} has no image for any platform"))?
        }
    };
    Ok(store.image(&image.1)?)
}

/// Whether a name is one of the SDK's images, which are made here and in no registry.
pub fn is_ours(name: &Reference) -> bool {
    name.domain() == "docker.io" && name.path().starts_with("kos/")
}

/// There is no such image: what to do about it.
pub fn missing(store: &Store, name: &Reference) -> anyhow::Error {
    let familiar = name.familiar();
    if is_ours(name) {
        return anyhow::anyhow!("there is no image {familiar} yet; ./x sdk makes the kos/ images");
    }
    let short = short(name);
    match near(store, name) {
        Some(near) => {
            anyhow::anyhow!("there is no image {familiar} in the store; did you mean {near}?")
        }
        None => anyhow::anyhow!(
            "there is no image {familiar} in the store; build it with `koskit build -t {short}`, \
             fetch it with `koskit pull {short}`, or look at `koskit images`",
        ),
    }
}

/// There is no such image here, and its registry has it not or cannot be asked.
pub fn unknown(store: &Store, name: &Reference, error: koskit_registry::Error) -> anyhow::Error {
    let familiar = name.familiar();
    let error = anyhow::Error::new(error);
    match near(store, name) {
        Some(near) => {
            error.context(format!("there is no image {familiar} here; did you mean {near}?"))
        }
        None => error.context(format!("there is no image {familiar} here")),
    }
}

/// A name in the store that may have been meant.
fn near(store: &Store, name: &Reference) -> Option<String> {
    let tagged = store.list().unwrap_or_default();
    let known: Vec<String> = tagged.iter().map(|tagged| short(&tagged.reference)).collect();
    koskit_dockerfile::nearest(&short(name), known.iter().map(String::as_str)).map(str::to_owned)
}

/// A name without its tag where that is the usual one.
pub fn short(name: &Reference) -> String {
    let familiar = name.familiar();
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

/// Repository and tag.
pub fn parts(name: &Reference) -> (String, String) {
    let familiar = name.familiar();
    let tag = name.tag().unwrap_or("<none>");
    let repository = familiar.split('@').next().unwrap_or_default();
    let repository = repository.strip_suffix(&format!(":{tag}")).unwrap_or(repository);
    (repository.to_owned(), tag.to_owned())
}

/// The first digits of a digest, enough to tell images apart.
pub fn short_id(id: &koskit_llb::Digest) -> String {
    id.hex()[..12].to_owned()
}

/// Options that are given as NAME=VALUE.
///
/// # Errors
/// One of them is not.
pub fn pairs(what: &str, given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => anyhow::bail!("the {what} {text:?} is not of the form NAME=VALUE"),
    };
    given.iter().map(pair).collect()
}

/// A time as an image's configuration has it: RFC 3339, in UTC. Seconds since 1970, from 0 on.
pub fn created(seconds: i64) -> String {
    koskit_progress::Time::new(seconds, 0).to_string()
}

/// The same, of nanoseconds since 1970.
pub fn time(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    koskit_progress::Time::new(seconds as i64, rest as u32).to_string()
}

/// How long ago that was, as docker says it.
pub fn since(nanoseconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    span(now.saturating_sub(Duration::from_nanos(nanoseconds)).as_secs())
}

fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..2700 => format!("{minutes} minutes"),
        2700..5400 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(created(0), "1970-01-01T00:00:00Z");
        assert_eq!(created(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(created(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(created(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn spans_are_said_as_docker_says_them() {
        let spans = [0, 1, 59, 60, 150, 3600, 7200, 86_400 * 3, 86_400 * 30].map(span);
        let words = [
            "Less than a second",
            "1 second",
            "59 seconds",
            "About a minute",
            "2 minutes",
            "About an hour",
            "2 hours",
            "3 days",
            "4 weeks",
        ];
        assert_eq!(spans, words);
    }

    #[test]
    fn a_name_has_a_repository_and_a_tag() {
        let parts = |text: &str| parts(&text.parse::<Reference>().unwrap().tagged());
        assert_eq!(parts("hello"), ("hello".into(), "latest".into()));
        assert_eq!(parts("localhost:5000/a/b:1"), ("localhost:5000/a/b".into(), "1".into()));
    }
}
