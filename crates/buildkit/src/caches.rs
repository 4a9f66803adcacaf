//! Caches that a server begins with and that it writes.
//!
//! One in a registry is the server's own affair, but for the credentials. One of the type `local`
//! is a directory here: the server reads its blobs, or writes them, through the session, and what
//! of them is the cache is noted in `index.json`, here. One of the type `inline` comes within the
//! configuration of the image, and names the image's layers by their places.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use base64::Engine as _;
use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry};
use koskit_image::tag_in_layout;
use koskit_llb::Digest;
use serde_json::{Value, json};

use crate::Error;
use crate::client::{Cache, Request};
use crate::session::Layout;

/// The member of an image's configuration that has the records of a cache within it, in base64.
const INLINE: &str = "moby.buildkit.cache.v0";
/// The answer of the server that has the descriptor of the cache which it has written.
const WRITTEN: &str = "cache.manifest";

/// What a server is told of the caches of a build.
#[derive(Default)]
pub(crate) struct Caches {
    pub options: CacheOptions,
    /// The directories that it may read and write, by the IDs that it calls them by.
    pub layouts: BTreeMap<String, Layout>,
    /// The directories that it writes, and the tags of the caches in them.
    written: Vec<(PathBuf, String)>,
}

impl Caches {
    pub fn new(request: &Request) -> Result<Self, Error> {
        let mut caches = Self::default();
        for cache in &request.cache_from {
            if cache.kind == "local" {
                let path = caches.layout(cache, "src", false)?;
                if !cache.attributes.contains_key("digest") {
                    let why = "a cache of type local needs its digest";
                    return Err(Error::Cache(format!("{}: {why}", path.display())));
                }
            }
            caches.options.imports.push(entry(cache));
        }
        for cache in &request.cache_to {
            if cache.kind == "local" {
                let path = caches.layout(cache, "dest", true)?;
                let tag = cache.attributes.get("tag").map_or("latest", String::as_str);
                caches.written.push((path, tag.to_owned()));
            }
            caches.options.exports.push(entry(cache));
        }
        Ok(caches)
    }

    fn layout(&mut self, cache: &Cache, key: &str, writable: bool) -> Result<PathBuf, Error> {
        let path = cache.attributes.get(key).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| Error::Cache(format!("type=local needs {key}=…")))?;
        let layout = self.layouts.entry(format!("local:{path}")).or_insert_with(|| Layout {
            path: path.into(),
            only: None,
            writable,
        });
        layout.writable |= writable;
        Ok(path.into())
    }

    /// Notes in the directories what the server has written there.
    pub fn finish(&self, response: &HashMap<String, String>) -> Result<(), Error> {
        // A cache that nothing is in is not written.
        let Some(text) = response.get(WRITTEN) else { return Ok(()) };
        let manifest: Value = serde_json::from_str(text).unwrap_or_default();
        let digest = manifest["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
        let Some(digest) = digest else { return Err(Error::Cache(format!("written as {text}"))) };
        for (directory, tag) in &self.written {
            // With several caches, the server names one of them.
            if directory.join("blobs/sha256").join(digest.hex()).is_file() {
                let descriptor = json!({
                    "mediaType": manifest["mediaType"],
                    "digest": manifest["digest"],
                    "size": manifest["size"],
                });
                // A cache is for everybody whom its directory is for.
                let tagged = tag_in_layout(directory, descriptor, tag, 0o644);
                tagged.map_err(|source| Error::Input {
                    what: format!("the cache {}", directory.display()),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

fn entry(cache: &Cache) -> CacheOptionsEntry {
    let attrs = cache.attributes.clone().into_iter().collect();
    CacheOptionsEntry { r#type: cache.kind.clone(), attrs }
}

/// The cache within the configuration of an image, for an image that has only those of its layers
/// that are `kept`. `None` where there is none, or none that makes sense.
pub(crate) fn inline(config: &Value, kept: &[bool]) -> Option<String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let records = base64.decode(config.get(INLINE)?.as_str()?).ok()?;
    let mut records: Vec<Value> = serde_json::from_slice(&records).ok()?;
    // For each layer, how many are kept below it.
    let mut below = Vec::with_capacity(kept.len());
    let mut count = 0u64;
    for &kept in kept {
        below.push(count);
        count += u64::from(kept);
    }
    let place = |value: &Value| usize::try_from(value.as_u64()?).ok().filter(|&i| i < kept.len());
    for record in &mut records {
        let record = record.as_object_mut()?;
        let (mut layers, mut chains) = (Vec::new(), Vec::new());
        for mut result in take(record, "layers") {
            let top = place(&result["layer"])?;
            // The topmost one that is left of those up to it.
            match below[top] + u64::from(kept[top]) {
                0 => {
                    result.as_object_mut()?.remove("layer");
                    result["layers"] = json!([]);
                    chains.push(result);
                }
                left => {
                    result["layer"] = (left - 1).into();
                    layers.push(result);
                }
            }
        }
        for mut chain in take(record, "chains") {
            let places = chain["layers"].as_array()?.iter().map(place);
            let places = places.collect::<Option<Vec<_>>>()?;
            let left = places.into_iter().filter(|&i| kept[i]).map(|i| below[i]);
            chain["layers"] = left.collect();
            chains.push(chain);
        }
        for (name, list) in [("layers", layers), ("chains", chains)] {
            if !list.is_empty() {
                record.insert(name.into(), list.into());
            }
        }
    }
    Some(base64.encode(serde_json::to_vec(&records).ok()?))
}

fn take(record: &mut serde_json::Map<String, Value>, name: &str) -> Vec<Value> {
    match record.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(kind: &str, attributes: &[(&str, &str)]) -> Cache {
        let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        Cache { kind: kind.into(), attributes: attributes.collect() }
    }

    #[test]
    fn directories_of_caches_are_to_be_read_or_written() {
        let digest = Digest::of(b"").to_string();
        let request = Request {
            cache_from: vec![cache("local", &[("src", "/from"), ("digest", &digest)])],
            cache_to: vec![
                cache("local", &[("dest", "/to"), ("mode", "max")]),
                cache("registry", &[("ref", "a/b")]),
            ],
            ..Request::default()
        };
        let caches = Caches::new(&request).unwrap();
        assert_eq!(caches.options.exports[0].attrs["mode"], "max");
        assert!(!caches.layouts["local:/from"].writable && caches.layouts["local:/to"].writable);
        assert_eq!(caches.layouts.len(), 2);
        for from in [&[][..], &[("src", "/x")]] {
            let cache_from = vec![cache("local", from)];
            assert!(Caches::new(&Request { cache_from, ..Request::default() }).is_err());
        }
    }

    #[test]
    fn what_was_written_gets_its_tag_and_others_keep_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let dest = folder.path().display().to_string();
        for (bytes, tag) in [(&b"one"[..], "1"), (b"two", "2"), (b"three", "1")] {
            let digest = Digest::of(bytes);
            std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
            let cache_to = vec![cache("local", &[("dest", &dest), ("tag", tag)])];
            let caches = Caches::new(&Request { cache_to, ..Request::default() }).unwrap();
            let manifest = json!({ "mediaType": "x/y", "digest": digest.as_str(), "size": 3 });
            let response = HashMap::from([(WRITTEN.to_owned(), manifest.to_string())]);
            caches.finish(&response).unwrap();
            caches.finish(&HashMap::new()).unwrap();
        }
        let index = std::fs::read(folder.path().join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        let digests: Vec<_> = manifests.iter().map(|entry| &entry["digest"]).collect();
        assert_eq!(digests, [Digest::of(b"two").as_str(), Digest::of(b"three").as_str()]);
    }

    #[test]
    fn a_cache_within_an_image_counts_the_layers_that_are_left() {
        let records = json!([
            { "digest": "a", "layers": [{ "layer": 0, "createdAt": "x" }] },
            { "digest": "b", "layers": [{ "layer": 2 }], "inputs": [[{ "link": 0 }]] },
            { "digest": "c", "chains": [{ "layers": [3, 1, 2] }] },
        ]);
        let base64 = base64::engine::general_purpose::STANDARD;
        let config = json!({ INLINE: base64.encode(records.to_string()) });
        let left = |kept: &[bool]| -> Option<Value> {
            let text = inline(&config, kept)?;
            Some(serde_json::from_slice(&base64.decode(text).unwrap()).unwrap())
        };
        assert_eq!(left(&[true; 4]).unwrap(), records);
        let expected = json!([
            { "digest": "a", "chains": [{ "layers": [], "createdAt": "x" }] },
            { "digest": "b", "layers": [{ "layer": 0 }], "inputs": [[{ "link": 0 }]] },
            { "digest": "c", "chains": [{ "layers": [1, 0] }] },
        ]);
        assert_eq!(left(&[false, true, false, true]).unwrap(), expected);
        // It names a layer that is not there.
        assert_eq!(left(&[true; 3]), None);
        assert_eq!(inline(&json!({}), &[true]), None);
    }
}
