//! File systems that come from outside.

use std::sync::Arc;

use koskit_image::{Error, Store};
use koskit_llb::{Inputs, PatternError, Patterns, Platform, Reference, Vertex, pb};

use super::Build;
use crate::Problem;
use crate::filesystem::{Context, FileSystem, Layers};
use crate::hashes::Hashes;

impl Build<'_> {
    /// What a source op stands for. Nothing is unpacked or read yet.
    pub fn source(&self, op: &pb::SourceOp, vertex: &Vertex) -> Result<FileSystem, Problem> {
        let (scheme, rest) = op.identifier.split_once("://").unwrap_or(("", &op.identifier));
        match scheme {
            "docker-image" => image(rest, vertex.platform.as_ref(), &self.solver.store),
            "local" => local(rest, op, self.inputs, self.hashes),
            "git" | "http" | "https" | "oci-layout" | "blob" => Err(Problem::Unsupported(format!(
                "it does not fetch {}; a RUN can, with a program of its image",
                op.identifier
            ))),
            _ => Err(Problem::Unsupported(format!("it knows no source {}", op.identifier))),
        }
    }
}

fn image(name: &str, platform: Option<&Platform>, store: &Store) -> Result<FileSystem, Problem> {
    let invalid = |e| Problem::Invalid(format!("{name:?} is no name of an image: {e}"));
    let reference: Reference = name.parse().map_err(invalid)?;
    let host = Platform::host();
    let image = store.resolve(&reference, platform.unwrap_or(&host))?;
    // Those that are elsewhere are fetched when a step needs their files.
    if let Some(layer) = image.layers.iter().find(|layer| !store.can_have(&layer.digest)) {
        return Err(Error::MissingBlob(layer.digest.clone()).into());
    }
    Ok(FileSystem::Layers(Arc::new(Layers::image(image.layers))))
}

fn local(
    name: &str,
    op: &pb::SourceOp,
    inputs: &Inputs,
    hashes: &Arc<Hashes>,
) -> Result<FileSystem, Problem> {
    let path = inputs.local.get(name).ok_or_else(|| Problem::NoLocal(name.to_owned()))?;
    let mut ignored = Vec::new();
    for (key, value) in &op.attrs {
        match key.as_str() {
            "local.excludepatterns" => {
                ignored = serde_json::from_str::<Vec<String>>(value)
                    .map_err(|e| Problem::Invalid(format!("the attribute {key} of {name}: {e}")))?;
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
    let (path, hashes) = (path.clone(), Arc::clone(hashes));
    Ok(FileSystem::Context(Arc::new(Context { path, ignored, hashes })))
}
