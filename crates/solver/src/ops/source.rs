//! File systems that come from outside.

mod git;
mod http;
mod oci_layout;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_image::{Error, Layer, Store};
use koskit_llb::{PatternError, Patterns, Platform, Reference, Vertex, pb};

use super::{Build, Sourced};
use crate::Problem;
use crate::cache::KeyBuilder;
use crate::files::{Changes, Root};
use crate::filesystem::{Context, FileSystem, Layers};
use crate::portable;

impl Sourced {
    fn image(reference: &Reference, platform: Option<&Platform>, layers: Vec<Layer>) -> Self {
        let layers = Layers::image(layers);
        let names = portable::image_names(reference, platform, &layers);
        Self { files: FileSystem::Layers(Arc::new(layers)), names }
    }
}

impl Build<'_> {
    /// What a source op stands for. Nothing is unpacked or read yet.
    pub fn source(&self, op: &pb::SourceOp, vertex: &Vertex) -> Result<Sourced, Problem> {
        let (scheme, rest) = op.identifier.split_once("://").unwrap_or(("", &op.identifier));
        match scheme {
            "docker-image" => image(rest, vertex.platform.as_ref(), &self.solver.store),
            "local" => self.local(rest, op),
            "http" | "https" => self.http(op),
            "git" => self.git(op),
            "oci-layout" => self.oci_layout(rest, op, vertex),
            _ => Err(Problem::Unsupported(format!("it knows no source {}", op.identifier))),
        }
    }

    /// A directory of the user's, or an archive of one.
    fn local(&self, name: &str, op: &pb::SourceOp) -> Result<Sourced, Problem> {
        let path = self.inputs.local.get(name).ok_or_else(|| Problem::NoLocal(name.to_owned()))?;
        let mut ignored = Vec::new();
        for (key, value) in &op.attrs {
            match key.as_str() {
                "local.excludepatterns" => {
                    ignored = serde_json::from_str::<Vec<String>>(value).map_err(|e| {
                        Problem::Invalid(format!("the attribute {key} of {name}: {e}"))
                    })?;
                }
                // What is copied lies within them, and nothing else is read: the directory is here.
                "local.followpaths" => {}
                // They say how a directory is sent from one machine to another.
                "local.session"
                | "local.sharedkeyhint"
                | "local.unique"
                | "local.differ"
                | "local.metadatatransfer" => {}
                key => {
                    return Err(Problem::Unsupported(format!("{key} of a local directory")));
                }
            }
        }
        let ignored = Patterns::new(&ignored).map_err(|PatternError { pattern, why }| {
            Problem::Invalid(format!("{pattern:?} in .dockerignore is not a pattern: {why}"))
        })?;
        let path = match path.is_file() {
            true => self.unpacked(path)?,
            false => path.clone(),
        };
        let hashes = Arc::clone(self.hashes);
        let files = FileSystem::Context(Arc::new(Context { path, ignored, hashes }));
        // What is taken of it has a name, and not the whole.
        Ok(Sourced { files, names: Vec::new() })
    }

    /// The directory that an archive is unpacked into.
    fn unpacked(&self, archive: &Path) -> Result<PathBuf, Problem> {
        let failed = |why: String| Problem::Fetch { what: archive.display().to_string(), why };
        let open = || File::open(archive).map_err(|e| failed(e.to_string()));
        let digest = self.hashes.of(&open()?).map_err(|e| failed(e.to_string()))?;
        let snapshots = &self.solver.snapshots;
        let key = KeyBuilder::new("archive").with(digest).finish();
        let snapshot = match snapshots.get(&key)? {
            Some(known) => known,
            None => {
                let directory = snapshots.temporary()?;
                let root = Root::open(&directory.files())?;
                let ownership = snapshots.ownership();
                let changes = Changes {
                    root: &root,
                    ownership,
                    epoch: self.options.epoch,
                    warn: &|_| {},
                    links: None,
                };
                if !changes.unpack(open()?, archive, Path::new("/"), None, Some(digest))? {
                    return Err(failed("it is neither a directory nor a tar archive".into()));
                }
                directory.commit(&key)?
            }
        };
        Ok(snapshots.directory(&snapshot))
    }
}

fn image(name: &str, platform: Option<&Platform>, store: &Store) -> Result<Sourced, Problem> {
    let invalid = |e| Problem::Invalid(format!("{name:?} is no name of an image: {e}"));
    let reference: Reference = name.parse().map_err(invalid)?;
    let host = Platform::host();
    let image = store.resolve(&reference, platform.unwrap_or(&host))?;
    // Those that are elsewhere are fetched when a step needs their files.
    if let Some(layer) = image.layers.iter().find(|layer| !store.can_have(&layer.digest)) {
        return Err(Error::MissingBlob(layer.digest.clone()).into());
    }
    Ok(Sourced::image(&reference, platform, image.layers))
}
