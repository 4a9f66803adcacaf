//! What was built, made an image, written where it is wanted, and named.
//!
//! Names come last: who is stopped before that has the images that he had.

use crate::build::annotations::{self, Annotation, Place};
use crate::build::attest::Told;
use crate::build::engine::Made;
use crate::build::epoch;
use crate::build::outputs::{Dest, Kind, Output};
use crate::registry::{Blobs, Layers};
use anyhow::{Context as _, Result, bail};
use koskit_image::oci::Descriptor;
use koskit_image::{
    Added, Annotations, Archive, Export, Form, Image, Layer, RootFs, Store, Variant, replace_file,
};
use koskit_llb::{Digest, Platform, Reference};
use koskit_progress::{Progress, Step};
use koskit_registry::Client;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// What was built for one platform.
pub struct Built {
    /// Which.
    pub platform: Platform,
    /// Its configuration and layers.
    pub made: Made,
    /// What is said about it.
    pub told: Told,
}

/// Writes what was built.
pub struct Exporter<'a> {
    /// Where images are kept.
    pub store: &'a Store,
    /// For registries.
    pub client: &'a Client,
    /// Is told.
    pub progress: &'a Progress,
    /// The image's names.
    pub tags: Vec<Reference>,
    /// Of all outputs.
    pub annotations: &'a [Annotation],
}

/// An image or an index of several, as it is in the store.
pub struct Root {
    /// Of the manifest or the index.
    pub descriptor: Descriptor,
    /// The image of each platform.
    pub images: Vec<Image>,
    /// The annotations of the descriptor where it stands in a layout's index.
    annotations: Annotations,
}

impl Root {
    /// The digest of the manifest or the index.
    pub fn digest(&self) -> Digest {
        self.descriptor.digest().as_ref().parse().expect("it was made with this digest")
    }

    /// What docker calls the image's ID: of one image, the digest of its configuration.
    pub fn id(&self) -> Digest {
        match self.images.as_slice() {
            [image] if self.digest() == image.digest() => image.id(),
            _ => self.digest(),
        }
    }
}

impl Exporter<'_> {
    /// Writes what was built to all outputs, and names it.
    ///
    /// # Errors
    /// The first output that cannot be written. None is half written, and no name changes.
    pub fn export(&self, built: &[Built], outputs: &[Output]) -> Result<Root> {
        let root = self.progress.step("exporting to image", |step| {
            let _task = step.task("exporting manifest and configuration");
            self.root(built, None)
        })?;
        for output in outputs {
            match output.kind {
                Kind::CacheOnly => {}
                Kind::Image if !output.push => {}
                Kind::Docker if output.dest.is_none() => {}
                _ => self.progress.step(&output.describe(), |step| {
                    self.output(built, output, step).map_err(Sentence)
                })?,
            }
        }
        self.progress.step("naming the image", |step| {
            drop(step.task(&format!("writing image {}", root.id())));
            self.name(&root, outputs, built, step)
        })?;
        Ok(root)
    }

    fn name(
        &self,
        root: &Root,
        outputs: &[Output],
        built: &[Built],
        step: &Step<'_>,
    ) -> Result<()> {
        let mut named = Vec::new();
        for name in &self.tags {
            named.push((name.clone(), root.descriptor.clone()));
        }
        let images = outputs.iter().filter(|output| output.kind == Kind::Image);
        for output in images {
            let own = self.root(built, Some(output))?;
            // The last one to say what a name stands for has it.
            for name in if output.names.is_empty() { &self.tags } else { &output.names } {
                named.push((name.clone(), own.descriptor.clone()));
            }
        }
        for (name, descriptor) in named {
            let _task = step.task(&format!("naming to {name}"));
            self.store.tag(&name, &descriptor)?;
        }
        Ok(())
    }

    /// The manifests in the form that an output wants.
    fn root(&self, built: &[Built], output: Option<&Output>) -> Result<Root> {
        let mut annotations = self.annotations.to_vec();
        annotations.extend(output.into_iter().flat_map(|output| output.annotations.clone()));
        let at =
            |place, platform: Option<&Platform>| annotations::at(&annotations, place, platform);
        let docker = output.is_some_and(|output| output.docker);
        let mut images = Vec::new();
        for Built { platform, made, .. } in built {
            let layers = self.layers(made, output)?;
            let form = Form { docker, annotations: at(Place::Manifest, Some(platform)) };
            images.push(self.store.add_image_as(&config(made)?, &layers, &form)?);
        }
        let attestations = self.attestations(built, &images, output)?;
        if let ([image], [built], []) = (images.as_slice(), built, attestations.as_slice()) {
            let index = [Place::Index, Place::IndexDescriptor];
            if index.iter().any(|&place| !at(place, None).is_empty()) {
                bail!("index annotations not supported for single platform export");
            }
            let descriptor = image.descriptor.clone();
            let annotations = at(Place::ManifestDescriptor, Some(&built.platform));
            return Ok(Root { descriptor, images, annotations });
        }
        let variant = |(image, built): (&Image, &Built)| Variant {
            platform: built.platform.clone(),
            descriptor: image.descriptor.clone(),
            annotations: at(Place::ManifestDescriptor, Some(&built.platform)),
        };
        let variants = images.iter().zip(built).map(variant).chain(attestations);
        let variants: Vec<Variant> = variants.collect();
        let form = Form { docker, annotations: at(Place::Index, None) };
        let descriptor = self.store.add_index_as(&variants, &form)?;
        Ok(Root { descriptor, images, annotations: at(Place::IndexDescriptor, None) })
    }

    /// What is said about the images; archives for docker have no place for it.
    fn attestations(
        &self,
        built: &[Built],
        images: &[Image],
        output: Option<&Output>,
    ) -> Result<Vec<Variant>> {
        let mut attestations = Vec::new();
        if output.is_some_and(|output| output.kind == Kind::Docker) {
            return Ok(attestations);
        }
        let name = output.and_then(|output| output.names.first()).or(self.tags.first());
        for (image, built) in images.iter().zip(built) {
            let predicates = built.told.about(name, image);
            attestations.extend(koskit_attest::attestation(self.store, name, image, &predicates)?);
        }
        Ok(attestations)
    }

    /// The layers of an image, compressed as an output wants them.
    fn layers(&self, made: &Made, output: Option<&Output>) -> Result<Vec<Layer>> {
        let Some((output, compression)) = output.and_then(|o| Some((o, o.compression?))) else {
            return Ok(made.layers.clone());
        };
        let convert = |(index, layer): (usize, &Layer)| {
            if index < made.base && !output.force_compression {
                return Ok(layer.clone());
            }
            self.complete(std::slice::from_ref(layer))?;
            Ok(self.store.convert_layer(layer, compression)?)
        };
        made.layers.iter().enumerate().map(convert).collect()
    }

    fn complete(&self, layers: &[Layer]) -> Result<()> {
        Layers::new(self.progress).complete(self.store, layers)
    }

    fn output(&self, built: &[Built], output: &Output, step: &Step<'_>) -> Result<()> {
        if output.needs_layers() {
            for Built { made, .. } in built {
                self.complete(&made.layers)?;
            }
        }
        if output.is_stdout() && io::stdout().is_terminal() {
            bail!("refusing to write an archive to the terminal; use dest=FILE, or redirect it");
        }
        match output.kind {
            Kind::Oci | Kind::Docker => {
                if output.kind == Kind::Docker && built.len() > 1 {
                    bail!(
                        "docker exporter does not currently support exporting manifest lists; \
                           use type=oci"
                    );
                }
                let root = self.root(built, Some(output))?;
                let _task = step.task("sending tarball");
                self.archive(&root, output)
            }
            Kind::Local | Kind::Tar => {
                let _task = step.task("copying files");
                self.files(built, output)
            }
            Kind::Image | Kind::Registry | Kind::CacheOnly => {
                let root = self.root(built, Some(output))?;
                let names = if output.names.is_empty() { &self.tags } else { &output.names };
                names.iter().try_for_each(|name| self.push(&root.descriptor, name, step))
            }
        }
    }

    fn archive(&self, root: &Root, output: &Output) -> Result<()> {
        let names = if output.names.is_empty() { &self.tags } else { &output.names };
        let (descriptor, annotations) = (root.descriptor.clone(), root.annotations.clone());
        let images = [Export { root: descriptor, names: names.clone(), annotations }];
        let kind = if output.kind == Kind::Docker { Archive::Docker } else { Archive::Oci };
        match &output.dest {
            Some(Dest::Path(path)) if output.is_archive() => {
                self.store.export_archive(&images, kind, path)?;
            }
            Some(Dest::Path(path)) => self.store.export(&images, path)?,
            _ => self.store.write_archive(&images, kind, io::stdout().lock())?,
        }
        Ok(())
    }

    fn files(&self, built: &[Built], output: &Output) -> Result<()> {
        let split = output.platform_split.unwrap_or(built.len() > 1);
        if !split && built.len() > 1 {
            bail!(
                "the files of several platforms need a directory for each; leave out \
                   platform-split=false"
            );
        }
        let below = |platform: &Platform| match split {
            true => PathBuf::from(platform.to_string().replace('/', "_")),
            false => PathBuf::new(),
        };
        let files = built.iter().map(|built| {
            let (below, layers) = (below(&built.platform), built.made.layers.as_slice());
            Ok(RootFs { below, layers, added: self.statements(built, output)? })
        });
        let files: Vec<RootFs<'_>> = files.collect::<Result<_>>()?;
        match (&output.dest, output.kind) {
            (Some(Dest::Path(path)), Kind::Local) => self.store.write_files(&files, path)?,
            (Some(Dest::Path(path)), _) => {
                replace_file(path, |to| self.store.write_tar(&files, to))?;
            }
            _ => self.store.write_tar(&files, io::stdout().lock())?,
        }
        Ok(())
    }

    /// What is said about files that are no image: each as a file beside them, as in BuildKit.
    fn statements(&self, built: &Built, output: &Output) -> Result<Vec<Added>> {
        if built.told.is_nothing() {
            return Ok(Vec::new());
        }
        let image = self.store.add_image_as(
            &config(&built.made)?,
            &built.made.layers,
            &Form { docker: false, annotations: Annotations::new() },
        )?;
        let subjects: Vec<(String, String)> = self
            .store
            .file_digests(&built.made.layers)?
            .into_iter()
            .map(|(path, digest)| (path.display().to_string(), digest.hex().to_owned()))
            .collect();
        let time = epoch::epoch()?;
        let added =
            built.told.about(self.tags.first(), &image).into_iter().map(|predicate| Added {
                name: format!("{}{}", output.attestation_prefix, predicate.file_name()),
                content: format!("{:#}\n", predicate.statement(&subjects)).into_bytes(),
                time,
            });
        Ok(added.collect())
    }

    fn push(&self, root: &Descriptor, name: &Reference, step: &Step<'_>) -> Result<()> {
        let blobs = Blobs::new(step);
        let digest = self.client.push(self.store, root, name, &|event| blobs.tell(event))?;
        drop(step.task(&format!("pushing manifest for {name}@{digest}")));
        Ok(())
    }
}

/// The configuration as it is written.
fn config(made: &Made) -> Result<serde_json::Value> {
    let mut config = serde_json::to_value(&made.config)?;
    if let Some(records) = &made.inline_cache {
        config[koskit_solver::portable::INLINE] = records.as_str().into();
    }
    Ok(config)
}

/// An error and its causes in one line, as a step shows it.
#[derive(Debug)]
struct Sentence(anyhow::Error);

impl std::fmt::Display for Sentence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl From<Sentence> for anyhow::Error {
    fn from(Sentence(error): Sentence) -> Self {
        error
    }
}

/// What `--metadata-file` holds: as docker writes it.
///
/// # Errors
/// It cannot be written.
pub fn write_metadata(path: &Path, root: &Root, names: &[Reference]) -> Result<()> {
    let mut document = serde_json::json!({
        "containerimage.digest": root.digest().as_str(),
        "containerimage.descriptor": root.descriptor,
    });
    if let [image] = root.images.as_slice() {
        document["containerimage.config.digest"] = image.id().as_str().into();
    }
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        document["image.name"] = names.join(",").into();
    }
    write_file(path, &format!("{document:#}\n"))
}

/// Writes a small file, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let written = replace_file(path, |to| {
        io::Write::write_all(to, text.as_bytes()).map_err(|source| koskit_image::Error::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}
