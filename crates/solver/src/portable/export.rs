//! What a build has made, to be used elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use koskit_image::{Layer, Store, oci, tag_in_layout};
use koskit_llb::Digest;

use super::edges::Link;
use super::{
    Annotations, CONFIG_TYPE, CacheError, Config, ConfigLayer, EdgeKey, Input, Record, RecordChain,
    RecordResult,
};
use crate::filesystem::Layers;
use crate::solver::Options;

/// When all of it was made: the same build shall give the same bytes.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// How much is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The steps whose layers are the result's.
    #[default]
    Min,
    /// All steps.
    Max,
}

/// The results of all steps of a build, by their keys.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(crate) results: BTreeMap<Digest, Arc<Layers>>,
    /// Names, and the keys that they stand for.
    pub(crate) aliases: BTreeMap<Digest, Digest>,
    /// What BuildKit knows the outputs of steps by, and what they came to.
    pub(crate) edges: Vec<(Arc<EdgeKey>, Arc<Layers>)>,
    pub(crate) options: Options,
}

/// A cache as it is written: its layers are in the store.
#[derive(Clone, Debug)]
pub struct CacheExport {
    /// For each key, the layers of the result.
    results: Vec<(Digest, Vec<Layer>)>,
    aliases: Vec<(Digest, Digest)>,
    /// The same for BuildKit.
    edges: Vec<(Arc<EdgeKey>, Vec<Layer>)>,
}

/// BuildKit's records, each once, by the keys that they are made of.
#[derive(Default)]
struct Links {
    places: HashMap<*const EdgeKey, Vec<i64>>,
    contents: HashMap<Digest, i64>,
}

/// The layers of all results as a tree: each is there once on those below it.
#[derive(Default)]
struct Tree {
    layers: Vec<ConfigLayer>,
    places: HashMap<(i64, String), i64>,
    blobs: Vec<Layer>,
}

impl CacheExport {
    /// `results` of which none has more layers than the store has.
    pub(crate) fn new(
        results: Vec<(Digest, Vec<Layer>)>,
        aliases: impl IntoIterator<Item = (Digest, Digest)>,
        edges: Vec<(Arc<EdgeKey>, Vec<Layer>)>,
    ) -> Self {
        let known = |key: &Digest| results.iter().any(|(other, _)| other == key);
        let aliases = aliases.into_iter().filter(|(_, key)| known(key)).collect();
        Self { results, aliases, edges }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.edges.is_empty()
    }

    /// All layers, each once.
    pub fn layers(&self) -> Vec<Layer> {
        self.tree().0.blobs
    }

    /// Writes manifest and configuration into the store, from where it can be pushed under the
    /// name of a cache.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn manifest(&self, store: &Store) -> Result<oci::Descriptor, CacheError> {
        let (config, manifest) = self.documents()?;
        store.add_blob(&config)?;
        store.add_blob(&manifest)?;
        let media_type = oci::MediaType::ImageManifest;
        Ok(oci::Descriptor::new(media_type, manifest.len() as u64, oci_digest(&manifest)))
    }

    /// Writes it into a directory, an OCI layout, under a tag; other tags stay.
    ///
    /// # Errors
    /// The directory cannot be written, or a layer is not in the store.
    pub fn write(&self, store: &Store, directory: &Path, tag: &str) -> Result<(), CacheError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| CacheError::File { action, path, source }
        };
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(failed("make", &blobs))?;
        let put = |path: &Path, write: &dyn Fn(&mut fs::File) -> io::Result<()>| {
            let parent = path.parent().unwrap_or(directory);
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            write(file.as_file_mut())?;
            file.persist(path).map(drop).map_err(|e| e.error)
        };
        for layer in self.layers() {
            let path = blobs.join(layer.digest.hex());
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == layer.size) {
                continue;
            }
            let mut blob = store.blob(&layer.digest, layer.size)?;
            let done = tempfile::NamedTempFile::new_in(&blobs).and_then(|mut file| {
                io::copy(&mut blob, &mut file)?;
                file.persist(&path).map(drop).map_err(|e| e.error)
            });
            done.map_err(failed("write", &path))?;
        }
        let (config, manifest) = self.documents()?;
        for bytes in [&config, &manifest] {
            let path = blobs.join(Digest::of(bytes).hex());
            put(&path, &|file| io::Write::write_all(file, bytes))
                .map_err(failed("write", &path))?;
        }
        let descriptor = serde_json::json!({
            "mediaType": oci::MediaType::ImageManifest.to_string(),
            "digest": Digest::of(&manifest).as_str(),
            "size": manifest.len(),
        });
        // As its blobs, which are temporary files until they are whole.
        tag_in_layout(directory, descriptor, tag, 0o600)
            .map_err(failed("write", &directory.join("index.json")))?;
        Ok(())
    }

    /// The records as they are put into the configuration of an image with these layers, under
    /// [`super::INLINE`]; `None` where none fits.
    pub fn inline(&self, image: &[Layer]) -> Option<String> {
        let mut records = Vec::new();
        let mut places = HashMap::new();
        for (key, layers) in &self.results {
            let same = |(one, other): (&Layer, &Layer)| one.diff_id == other.diff_id;
            let fits = layers.len() <= image.len() && layers.iter().zip(image).all(same);
            if !fits || layers.is_empty() {
                continue;
            }
            places.insert(key, records.len() as i64);
            records.push(Record {
                digest: key.to_string(),
                results: vec![result(layers.len() as i64 - 1)],
                ..Record::default()
            });
        }
        records.extend(
            self.aliases.iter().filter_map(|(name, key)| Some(alias(name, *places.get(key)?))),
        );
        let mut links = Links::default();
        for (key, layers) in &self.edges {
            let same = |(one, other): (&Layer, &Layer)| one.diff_id == other.diff_id;
            let fits = layers.len() <= image.len() && layers.iter().zip(image).all(same);
            if fits && !layers.is_empty() {
                for place in links.add(key, &mut records) {
                    records[place as usize].results = vec![result(layers.len() as i64 - 1)];
                }
            }
        }
        if records.is_empty() {
            return None;
        }
        let json = serde_json::to_vec(&records).expect("it has string keys only");
        Some(base64::engine::general_purpose::STANDARD.encode(json))
    }

    /// Configuration and manifest.
    fn documents(&self) -> Result<(Vec<u8>, Vec<u8>), CacheError> {
        let (tree, records) = self.tree();
        let layers: Vec<_> = tree
            .blobs
            .iter()
            .map(|layer| {
                serde_json::json!({
                    "mediaType": layer.media_type.to_string(),
                    "digest": layer.digest.as_str(),
                    "size": layer.size,
                    "annotations": {
                        "buildkit/createdat": CREATED,
                        "containerd.io/uncompressed": layer.diff_id.as_str(),
                    },
                })
            })
            .collect();
        let config = Config { layers: tree.layers, records };
        let config = serde_json::to_vec(&config).expect("it has string keys only");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": oci::MediaType::ImageManifest.to_string(),
            "config": {
                "mediaType": CONFIG_TYPE,
                "digest": Digest::of(&config).as_str(),
                "size": config.len(),
            },
            "layers": layers,
        });
        Ok((config, manifest.to_string().into_bytes()))
    }

    fn tree(&self) -> (Tree, Vec<Record>) {
        let mut tree = Tree::default();
        let (mut records, mut places) = (Vec::new(), HashMap::new());
        for (key, layers) in &self.results {
            places.insert(key, records.len() as i64);
            let (mut results, mut chains) = (Vec::new(), Vec::new());
            match tree.add(layers) {
                Some(top) => results.push(result(top)),
                // A step may leave nothing at all.
                None => {
                    chains.push(RecordChain { layers: Vec::new(), created_at: CREATED.into() });
                }
            }
            records.push(Record { digest: key.to_string(), results, chains, inputs: Vec::new() });
        }
        records.extend(self.aliases.iter().map(|(name, key)| alias(name, places[key])));
        let mut links = Links::default();
        for (key, layers) in &self.edges {
            // BuildKit has no results without a layer.
            if let Some(top) = tree.add(layers) {
                for place in links.add(key, &mut records) {
                    records[place as usize].results = vec![result(top)];
                }
            }
        }
        (tree, records)
    }
}

impl Links {
    /// Adds the records of a key after those that they are made of, and gives their places.
    fn add(&mut self, key: &Arc<EdgeKey>, records: &mut Vec<Record>) -> Vec<i64> {
        if let Some(places) = self.places.get(&Arc::as_ptr(key)) {
            return places.clone();
        }
        let mut inputs = Vec::with_capacity(key.inputs.len());
        for links in &key.inputs {
            let mut input = Vec::new();
            for link in links {
                match link {
                    Link::Edge(selector, key) => {
                        let selector = selector.as_ref().map(Digest::to_string).unwrap_or_default();
                        let link = |link| Input { selector: selector.clone(), link };
                        input.extend(self.add(key, records).into_iter().map(link));
                    }
                    Link::Contents(digest) => {
                        let next = records.len() as i64;
                        let link = *self.contents.entry(digest.clone()).or_insert(next);
                        if link == next {
                            let digest = digest.to_string();
                            records.push(Record { digest, ..Record::default() });
                        }
                        input.push(Input { selector: String::new(), link });
                    }
                }
            }
            inputs.push(input);
        }
        let mut places = Vec::new();
        for digest in &key.digests {
            places.push(records.len() as i64);
            let (digest, inputs) = (digest.to_string(), inputs.clone());
            records.push(Record { digest, inputs, ..Record::default() });
        }
        self.places.insert(Arc::as_ptr(key), places.clone());
        places
    }
}

impl Tree {
    /// Adds layers, the lowest first, and gives the place of the topmost.
    fn add(&mut self, layers: &[Layer]) -> Option<i64> {
        let mut below = -1;
        for layer in layers {
            let next = self.layers.len() as i64;
            let place = *self.places.entry((below, layer.digest.to_string())).or_insert(next);
            if place == next {
                self.layers.push(ConfigLayer {
                    blob: layer.digest.to_string(),
                    parent: below,
                    annotations: Some(Annotations {
                        media_type: layer.media_type.to_string(),
                        diff_id: layer.diff_id.to_string(),
                        size: layer.size,
                        created_at: CREATED.into(),
                    }),
                });
                if !self.blobs.iter().any(|other| other.digest == layer.digest) {
                    self.blobs.push(layer.clone());
                }
            }
            below = place;
        }
        (below >= 0).then_some(below)
    }
}

fn result(layer: i64) -> RecordResult {
    RecordResult { layer, created_at: CREATED.into() }
}

fn alias(name: &Digest, link: i64) -> Record {
    let inputs = vec![vec![Input { selector: String::new(), link }]];
    Record { digest: name.to_string(), inputs, ..Record::default() }
}

fn oci_digest(bytes: &[u8]) -> oci::Digest {
    Digest::of(bytes).as_str().parse().expect("it is a digest in both crates")
}
