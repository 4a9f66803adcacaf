//! An image of an OCI layout. What is needed of it is brought into the store.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use koskit_image::{Error, oci};
use koskit_llb::{Digest, Platform, Reference, Vertex, pb};
use oci::MediaType;

use crate::Problem;
use crate::ops::{Build, Sourced};

/// The largest manifest, index or configuration.
const MAX_DOCUMENT: u64 = 4 << 20;

impl Build<'_> {
    /// An image of a layout that the build was given.
    pub(super) fn oci_layout(
        &self,
        name: &str,
        op: &pb::SourceOp,
        vertex: &Vertex,
    ) -> Result<Sourced, Problem> {
        let reference: Reference = name
            .parse()
            .map_err(|e| Problem::Invalid(format!("{name:?} is no name of an image: {e}")))?;
        let familiar = name.split(['@', ':']).next().unwrap_or(name);
        let id = op.attrs.get("oci.store").map_or(familiar, String::as_str);
        let layouts = &self.inputs.oci_layouts;
        let layout = layouts.get(id).ok_or_else(|| Problem::NoLayout(id.to_owned()))?;
        let layout = Layout { path: layout.clone() };
        let host = Platform::host();
        let platform = vertex.platform.as_ref().unwrap_or(&host);
        let digest = match reference.digest() {
            Some(digest) => digest.clone(),
            None => layout.find(reference.tag().unwrap_or("latest"))?,
        };
        self.bring_documents(&layout, &digest)?;
        let exactly = reference.with_digest(digest);
        let image = self.solver.store.resolve(&exactly, platform)?;
        for layer in &image.layers {
            self.bring(&layout, &layer.digest, layer.size)?;
        }
        Ok(Sourced::image(&exactly, vertex.platform.as_ref(), image.layers))
    }

    /// Brings a manifest, or an index with all manifests, with their configurations.
    fn bring_documents(&self, layout: &Layout, digest: &Digest) -> Result<(), Problem> {
        let mut wanted = vec![(digest.clone(), true)];
        let mut count = 0;
        while let Some((digest, deeper)) = wanted.pop() {
            count += 1;
            if count > 1000 {
                return Err(layout.bad("it has more than a thousand manifests"));
            }
            let bytes = match layout.document(&digest) {
                Ok(bytes) => bytes,
                // An index may name images that nobody has copied; the one that is wanted is
                // missed later.
                Err(_) if count > 1 => continue,
                Err(e) => return Err(e),
            };
            self.solver.store.add_document(MediaType::ImageManifest, &bytes)?;
            if !deeper {
                continue;
            }
            let document: serde_json::Value = serde_json::from_slice(&bytes)
                .map_err(|e| layout.bad(&format!("{digest} is no manifest: {e}")))?;
            let list = document["manifests"].as_array().cloned().unwrap_or_default();
            let inner = list.iter().map(|manifest| (&manifest["digest"], true));
            for (digest, deeper) in inner.chain([(&document["config"]["digest"], false)]) {
                let digest = digest.as_str().and_then(|digest| digest.parse().ok());
                wanted.extend(digest.map(|digest| (digest, deeper)));
            }
        }
        Ok(())
    }

    fn bring(&self, layout: &Layout, digest: &Digest, size: u64) -> Result<(), Problem> {
        if self.solver.store.has_blob(digest) {
            return Ok(());
        }
        let path = layout.blob(digest);
        let file = File::open(&path).map_err(|_| Error::MissingBlob(digest.clone()))?;
        let mut writer = self.solver.store.blob_writer()?;
        // One more byte shows that there are too many.
        io::copy(&mut file.take(size + 1), &mut writer).map_err(Problem::cache("copy", &path))?;
        Ok(writer.finish_as(digest, size)?)
    }
}

/// The directory of a layout: OCI image specification, image-layout.md.
struct Layout {
    path: PathBuf,
}

impl Layout {
    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    /// What a tag stands for in the index; a lone image needs none.
    fn find(&self, tag: &str) -> Result<Digest, Problem> {
        let index: serde_json::Value =
            serde_json::from_slice(&self.read(&self.path.join("index.json"))?)
                .map_err(|e| self.bad(&format!("its index.json is damaged: {e}")))?;
        let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
        let named = |manifest: &&serde_json::Value| {
            let name = manifest["annotations"]["org.opencontainers.image.ref.name"].as_str();
            name.is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
        };
        let found = match manifests.as_slice() {
            [only] => Some(only),
            all => all.iter().find(named),
        };
        let digest = found.and_then(|manifest| manifest["digest"].as_str()?.parse().ok());
        digest.ok_or_else(|| self.bad(&format!("it has no image {tag:?}")))
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, Problem> {
        let bytes = self.read(&self.blob(digest))?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(self.bad(&format!("its blob {digest} is damaged"))),
        }
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Problem> {
        let missing = |e| self.bad(&format!("{:?} cannot be read: {e}", path.display()));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(missing)?;
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(missing)?;
        match bytes.len() as u64 > MAX_DOCUMENT {
            true => Err(self.bad(&format!("{:?} is larger than 4 MiB", path.display()))),
            false => Ok(bytes),
        }
    }

    fn bad(&self, why: &str) -> Problem {
        let what = format!("the OCI layout {}", self.path.display());
        Problem::Fetch { what, why: why.to_owned() }
    }
}
