//! What another build has made.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use koskit_image::{Image, Layer, Store, oci};
use koskit_llb::{Digest, Reference};
use serde::Deserialize;

use super::{
    CONFIG_TYPE, CacheError, Config, ConfigLayer, EdgeKey, INLINE, Import, Known, Origin, Record,
};

/// The largest manifest or configuration that is read.
const MAX_DOCUMENT: u64 = 16 << 20;
/// More layers than this have no file system.
const MAX_DEPTH: usize = 500;

/// A manifest, or an index as BuildKit's older exporters write it, as far as a cache needs it.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Entry>,
    #[serde(default)]
    layers: Vec<Entry>,
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
struct Entry {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// Gives a small blob, of at most so many bytes.
pub type ReadBlob<'a> =
    &'a dyn Fn(&oci::Descriptor, u64) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>>;

impl Import {
    /// Reads a cache from its manifest.
    ///
    /// # Errors
    /// It is no cache, or a part of it cannot be read.
    pub fn read(manifest: &[u8], origin: Origin, blob: ReadBlob<'_>) -> Result<Self, CacheError> {
        let what = origin.shown();
        let invalid = |why: String| CacheError::Invalid { what: what.clone(), why };
        let manifest: Manifest =
            serde_json::from_slice(manifest).map_err(|e| invalid(e.to_string()))?;
        let is_config = |entry: &&Entry| entry.media_type == CONFIG_TYPE;
        let mut configs = manifest.config.iter().chain(&manifest.manifests);
        let Some(config) = configs.rfind(is_config) else {
            return Err(invalid(format!("it has no configuration of the type {CONFIG_TYPE}")));
        };
        let digest: Digest = config.digest.parse().map_err(|e| invalid(format!("{e}")))?;
        let descriptor = oci::Descriptor::new(
            oci::MediaType::Other(CONFIG_TYPE.into()),
            config.size,
            digest.as_str().parse::<oci::Digest>().map_err(|e| invalid(format!("{e}")))?,
        );
        let bytes = blob(&descriptor, MAX_DOCUMENT)
            .map_err(|source| CacheError::Read { what: what.clone(), source })?;
        if Digest::of(&bytes) != digest {
            return Err(invalid("its configuration is damaged".into()));
        }
        let config: Config = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        let blobs = manifest.layers.into_iter().chain(manifest.manifests);
        let blobs: HashMap<String, Entry> =
            blobs.map(|entry| (entry.digest.clone(), entry)).collect();
        let layers = config.layers.iter().map(|layer| full(layer, blobs.get(&layer.blob)?));
        Self::new(&config, &layers.collect::<Vec<_>>(), origin)
    }

    /// Reads a cache from a directory, an OCI layout, by its tag.
    ///
    /// # Errors
    /// There is none, or as [`Import::read`].
    pub fn read_directory(directory: &Path, tag: &str) -> Result<Self, CacheError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Entry>,
        }
        let origin = Origin::Directory(directory.to_owned());
        let file = |path: &Path, limit: u64| {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
            read.map(|_| bytes).map_err(|source| CacheError::File {
                action: "read",
                path: path.to_owned(),
                source,
            })
        };
        let invalid = |why: String| CacheError::Invalid { what: origin.shown(), why };
        let bytes = file(&directory.join("index.json"), MAX_DOCUMENT)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        let name = "org.opencontainers.image.ref.name";
        let named = |entry: &&Entry| entry.annotations.get(name).is_some_and(|other| other == tag);
        let Some(entry) = index.manifests.iter().find(named) else {
            return Err(invalid(format!("it has nothing with the tag {tag:?}")));
        };
        let blob = |digest: &str| -> Result<Vec<u8>, CacheError> {
            let digest: Digest = digest.parse().map_err(|e| invalid(format!("{e}")))?;
            let bytes = file(&directory.join("blobs/sha256").join(digest.hex()), MAX_DOCUMENT)?;
            match Digest::of(&bytes) == digest {
                true => Ok(bytes),
                false => Err(invalid(format!("{digest} is damaged"))),
            }
        };
        let manifest = blob(&entry.digest)?;
        Self::read(&manifest, origin.clone(), &|descriptor, _| {
            Ok(blob(descriptor.digest().as_ref())?)
        })
    }

    /// The cache within an image; `None` where it has none.
    ///
    /// # Errors
    /// What it has makes no sense.
    pub fn within(image: &Image, name: &Reference) -> Result<Option<Self>, CacheError> {
        let Some(text) = image.config_json.get(INLINE).and_then(|value| value.as_str()) else {
            return Ok(None);
        };
        let origin = Origin::Registry(name.clone());
        let invalid = |why: String| CacheError::Invalid { what: origin.shown(), why };
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        let bytes = bytes.map_err(|e| invalid(e.to_string()))?;
        let records: Vec<Record> =
            serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        let layers = image.layers.iter().enumerate();
        let config = Config {
            layers: layers
                .map(|(place, layer)| ConfigLayer {
                    blob: layer.digest.to_string(),
                    parent: place as i64 - 1,
                    annotations: None,
                })
                .collect(),
            records,
        };
        let layers: Vec<_> = image.layers.iter().cloned().map(Some).collect();
        Self::new(&config, &layers, origin).map(Some)
    }

    fn new(config: &Config, layers: &[Option<Layer>], origin: Origin) -> Result<Self, CacheError> {
        let invalid = |why: String| CacheError::Invalid { what: origin.shown(), why };
        let at = |index: i64, count: usize| {
            let index = usize::try_from(index).ok().filter(|&index| index < count);
            index.ok_or_else(|| invalid("an index in it points nowhere".into()))
        };
        let mut import = Self {
            results: HashMap::new(),
            aliases: HashMap::new(),
            records: Vec::with_capacity(config.records.len()),
            places: HashMap::new(),
            origin: origin.clone(),
        };
        for record in &config.records {
            let digest: Digest = record.digest.parse().map_err(|e| invalid(format!("{e}")))?;
            let mut inputs = Vec::with_capacity(record.inputs.len());
            for links in &record.inputs {
                let links = links
                    .iter()
                    .map(|link| Ok((link.selector.clone(), at(link.link, config.records.len())?)));
                inputs.push(links.collect::<Result<Vec<_>, CacheError>>()?);
            }
            if let ([links], true) = (inputs.as_slice(), record.results.is_empty()) {
                if let [(_, place)] = links.as_slice() {
                    let key = config.records[*place].digest.parse();
                    let key = key.map_err(|e| invalid(format!("{e}")))?;
                    import.aliases.insert(digest.clone(), key);
                }
            }
            let mut found: Option<Vec<Layer>> = None;
            for result in &record.results {
                let mut chain = Vec::new();
                let mut next = result.layer;
                while next != -1 {
                    let place = at(next, config.layers.len())?;
                    chain.push(layers[place].clone());
                    if chain.len() > MAX_DEPTH {
                        return Err(invalid("its layers go in a circle".into()));
                    }
                    next = config.layers[place].parent;
                }
                chain.reverse();
                found = found.or(chain.into_iter().collect());
            }
            for chain in &record.chains {
                let chain = chain.layers.iter().take(MAX_DEPTH);
                let places = chain.map(|&index| at(index, config.layers.len()));
                let places = places.collect::<Result<Vec<_>, _>>()?;
                found = found.or(places.iter().map(|&place| layers[place].clone()).collect());
            }
            import.places.entry(digest.clone()).or_default().push(import.records.len());
            // One without its layers says nothing by itself.
            if let Some(layers) = found.clone().filter(|_| inputs.is_empty()) {
                import.results.insert(digest.clone(), layers);
            }
            import.records.push(Known { digest, inputs, layers: found });
        }
        Ok(import)
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.records.iter().filter(|record| record.layers.is_some()).count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the records with a digest are.
    pub(super) fn records_of(&self, digest: &Digest) -> impl Iterator<Item = usize> + '_ {
        self.places.get(digest).into_iter().flatten().copied()
    }

    /// The layers of what BuildKit knows by one of these records, as [`Self::get`].
    pub(crate) fn get_record(
        &self,
        key: &EdgeKey,
        place: usize,
        store: &Store,
    ) -> Result<Option<Vec<Layer>>, CacheError> {
        let mut found = key.matches[place].iter().filter_map(|&i| self.records[i].layers.as_ref());
        match found.next() {
            Some(layers) => self.had(layers, store),
            None => Ok(None),
        }
    }

    /// The key that a name stands for.
    pub(crate) fn alias(&self, name: &Digest) -> Option<&Digest> {
        self.aliases.get(name)
    }

    /// The layers of a result. They are in the store after this, or it is noted where they are.
    pub(crate) fn get(
        &self,
        key: &Digest,
        store: &Store,
    ) -> Result<Option<Vec<Layer>>, CacheError> {
        match self.results.get(key) {
            Some(layers) => self.had(layers, store),
            None => Ok(None),
        }
    }

    fn had(&self, layers: &[Layer], store: &Store) -> Result<Option<Vec<Layer>>, CacheError> {
        for layer in layers.iter().filter(|layer| !store.has_blob(&layer.digest)) {
            match &self.origin {
                Origin::Registry(name) => store.note_source(&layer.digest, name)?,
                Origin::Directory(directory) => {
                    let path = directory.join("blobs/sha256").join(layer.digest.hex());
                    // A cache without one of its blobs is as good as none.
                    let Ok(mut blob) = File::open(&path) else { return Ok(None) };
                    let mut writer = store.blob_writer()?;
                    std::io::copy(&mut blob, &mut writer).map_err(|source| CacheError::File {
                        action: "read",
                        path,
                        source,
                    })?;
                    writer.finish_as(&layer.digest, layer.size)?;
                }
            }
        }
        Ok(Some(layers.to_vec()))
    }
}

impl Origin {
    fn shown(&self) -> String {
        match self {
            Self::Registry(name) => name.familiar(),
            Self::Directory(path) => path.display().to_string(),
        }
    }
}

/// A layer of the configuration with what the manifest says of its blob.
fn full(layer: &ConfigLayer, entry: &Entry) -> Option<Layer> {
    let annotated = entry.annotations.get("containerd.io/uncompressed");
    let diff_id = match (&layer.annotations, annotated) {
        (_, Some(diff_id)) => diff_id,
        (Some(annotations), None) => &annotations.diff_id,
        (None, None) => return None,
    };
    Some(Layer {
        media_type: entry.media_type.as_str().into(),
        digest: entry.digest.parse().ok()?,
        size: entry.size,
        diff_id: diff_id.parse().ok()?,
    })
}
