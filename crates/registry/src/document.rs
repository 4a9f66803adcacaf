//! Manifests and indexes as registries give them: bytes that nobody vouches for.

use koskit_llb::{Digest, Platform};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use thiserror::Error;

/// The largest manifest or index that is read, as registries themselves limit it.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// More than any index has, and few enough to be asked for one by one.
const MAX_CHILDREN: usize = 4096;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_V1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What is asked for, the best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index, read and checked. Its bytes are kept as they came, since its digest
/// is theirs.
#[derive(Clone, Debug)]
pub struct Document {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// As they came.
    pub bytes: Vec<u8>,
    /// What they say.
    pub kind: Kind,
}

/// What a document says.
#[derive(Clone, Debug)]
pub enum Kind {
    /// An image for one platform, or an artifact.
    Manifest(Box<ImageManifest>),
    /// A list of manifests.
    Index(Box<ImageIndex>),
}

/// Bytes that are no manifest and no index.
#[derive(Debug, Error)]
pub enum DocumentError {
    /// Larger than [`MAX_DOCUMENT`].
    #[error("it is larger than 4 MiB")]
    Large,
    /// What Docker wrote until 2015.
    #[error(
        "it is in Docker's first format, which is no longer used; push the image anew with a current tool"
    )]
    Schema1,
    /// Another type.
    #[error("its type {0:?} is neither a manifest's nor an index's")]
    Type(String),
    /// Two answers to what it is.
    #[error("it says that it is {inside:?}, but was sent as {outside:?}")]
    Types {
        /// Its own word.
        inside: String,
        /// The header's, or its descriptor's.
        outside: String,
    },
    /// The parts of both in one document, which two programs would read differently.
    #[error("it is a manifest and an index at once")]
    Both,
    /// JSON that is not what it should be.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// More entries than any image has.
    #[error("it has more than {MAX_CHILDREN} entries")]
    Children,
    /// A digest of another algorithm, or none.
    #[error("it names a part by {0:?}, and koskit reads SHA-256 digests only")]
    Digest(String),
}

impl Document {
    /// Reads a document. `media_type` is what the header or the descriptor says of it; without
    /// one, its own word counts.
    ///
    /// # Errors
    /// It is not one, or contradicts itself.
    pub fn parse(media_type: Option<&str>, bytes: Vec<u8>) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "schemaVersion")]
            schema_version: Option<serde_json::Value>,
            #[serde(rename = "mediaType")]
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(DocumentError::Large);
        }
        let outside = media_type.map(|t| t.split(';').next().unwrap_or_default().trim().to_owned());
        // Many servers call everything this, which says nothing.
        let outside = outside.filter(|t| is_document(t) || !is_vague(t));
        if outside.as_deref().is_some_and(is_schema1) {
            return Err(DocumentError::Schema1);
        }
        let shape: Shape = serde_json::from_slice(&bytes)?;
        let old = shape.schema_version.as_ref().is_some_and(|version| version == 1);
        if old || shape.media_type.as_deref().is_some_and(is_schema1) {
            return Err(DocumentError::Schema1);
        }
        let media_type = match (shape.media_type, outside) {
            (Some(inside), Some(outside)) if inside != outside => {
                return Err(DocumentError::Types { inside, outside });
            }
            (Some(inside), _) => inside,
            (None, Some(outside)) => outside,
            (None, None) if shape.manifests.is_some() => MediaType::ImageIndex.to_string(),
            (None, None) => MediaType::ImageManifest.to_string(),
        };
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(DocumentError::Both);
        }
        let kind = match media_type.as_str() {
            "application/vnd.oci.image.manifest.v1+json" | DOCKER_MANIFEST => {
                Kind::Manifest(serde_json::from_slice(&bytes)?)
            }
            "application/vnd.oci.image.index.v1+json" | DOCKER_LIST => {
                Kind::Index(serde_json::from_slice(&bytes)?)
            }
            other => return Err(DocumentError::Type(crate::answer::plain(other))),
        };
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let descriptor = Descriptor::new(media_type.as_str().into(), size, to_oci(&digest));
        let document = Self { descriptor, bytes, kind };
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.children().len() + self.blobs().len() > MAX_CHILDREN {
            return Err(DocumentError::Children);
        }
        let subject = self.subject();
        let parts = self.children().iter().chain(self.blobs()).chain(subject);
        for part in parts {
            let digest = part.digest().as_ref();
            if digest.parse::<Digest>().is_err() {
                return Err(DocumentError::Digest(crate::answer::plain(digest)));
            }
        }
        Ok(())
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        digest(&self.descriptor)
    }

    /// The manifests and indexes that an index lists.
    pub fn children(&self) -> &[Descriptor] {
        match &self.kind {
            Kind::Manifest(_) => &[],
            Kind::Index(index) => index.manifests(),
        }
    }

    /// The configuration and the layers of a manifest.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        match &self.kind {
            Kind::Manifest(manifest) => {
                std::iter::once(manifest.config()).chain(manifest.layers()).collect()
            }
            Kind::Index(_) => Vec::new(),
        }
    }

    /// What it says something about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.kind {
            Kind::Manifest(manifest) => manifest.subject().as_ref(),
            Kind::Index(index) => index.subject().as_ref(),
        }
    }

    /// What kind of artifact it is (image specification, "Guidelines for Artifact Usage"): its
    /// own word, else the type of its configuration.
    pub fn artifact_type(&self) -> Option<String> {
        match &self.kind {
            Kind::Manifest(manifest) => {
                let own = manifest.artifact_type().as_ref();
                Some(own.unwrap_or(manifest.config().media_type()).to_string())
            }
            Kind::Index(index) => index.artifact_type().as_ref().map(ToString::to_string),
        }
    }

    /// Whether a manifest is an image's, and no chart's or signature's.
    pub fn is_image(&self) -> bool {
        match &self.kind {
            Kind::Manifest(manifest) => {
                let docker = "application/vnd.docker.container.image.v1+json";
                let config = manifest.config().media_type();
                *config == MediaType::ImageConfig || config.as_ref() == docker
            }
            Kind::Index(_) => false,
        }
    }
}

/// A descriptor's digest, which was checked when its document was read.
pub(crate) fn digest(descriptor: &Descriptor) -> Digest {
    descriptor.digest().as_ref().parse().expect("only SHA-256 digests pass Document::parse")
}

pub(crate) fn to_oci(digest: &Digest) -> oci_spec::image::Digest {
    digest.as_str().parse().expect("it is a digest in both crates")
}

/// What a descriptor says that its target is for. Attestations are for `unknown`.
pub(crate) fn platform(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    let variant = platform.variant().as_deref().unwrap_or_default();
    Some(Platform::new(&platform.os().to_string(), &platform.architecture().to_string(), variant))
}

/// Whether it is a manifest's or an index's type.
pub(crate) fn is_document(media_type: &str) -> bool {
    let types =
        ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"];
    types.contains(&media_type) || media_type == DOCKER_MANIFEST || media_type == DOCKER_LIST
}

/// Whether a layer may be only where its vendor has it.
pub(crate) fn is_foreign(media_type: &MediaType) -> bool {
    let text = media_type.as_ref();
    text.contains(".nondistributable.") || text.contains("image.rootfs.foreign.")
}

fn is_vague(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

fn is_schema1(media_type: &str) -> bool {
    media_type == DOCKER_V1 || media_type == DOCKER_V1_SIGNED
}

/// Reads bytes as a document, for a fuzzer: none of it may panic, and what is read keeps its
/// promises.
pub fn fuzz(bytes: &[u8]) {
    for media_type in [None, Some("application/vnd.oci.image.index.v1+json"), Some(DOCKER_MANIFEST)]
    {
        let Ok(document) = Document::parse(media_type, bytes.to_vec()) else { continue };
        assert_eq!(document.digest(), Digest::of(bytes));
        for part in document.children().iter().chain(document.blobs()).chain(document.subject()) {
            let _ = (digest(part), platform(part), is_foreign(part.media_type()));
        }
        let _ = (document.artifact_type(), document.is_image());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest() -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":0}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{DIGEST}","size":0}}]}}"#
        )
    }

    fn parse(media_type: Option<&str>, text: &str) -> Result<Document, String> {
        Document::parse(media_type, text.as_bytes().to_vec()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_manifest_is_read_whatever_the_header_calls_it_as_long_as_it_does_not_contradict() {
        let text = manifest();
        let oci = Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8");
        for outside in [None, Some("application/json"), Some("text/plain; charset=utf-8"), oci] {
            let document = parse(outside, &text).unwrap();
            assert_eq!(document.blobs().len(), 2);
            assert_eq!(document.digest(), Digest::of(text.as_bytes()));
            assert!(document.is_image());
        }
        let error = parse(Some(DOCKER_LIST), &text).unwrap_err();
        assert!(error.contains("but was sent as"), "{error}");
        assert!(parse(Some("text/html"), &text).unwrap_err().contains("but was sent as"));
    }

    #[test]
    fn a_document_without_a_type_is_what_it_looks_like() {
        let text =
            manifest().replace(r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#, "");
        assert!(matches!(parse(None, &text).unwrap().kind, Kind::Manifest(_)));
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x/y","digest":"{DIGEST}","size":1}}]}}"#
        );
        assert_eq!(parse(None, &index).unwrap().children().len(), 1);
    }

    #[test]
    fn what_two_programs_would_read_differently_is_refused() {
        let text = manifest().replacen('{', r#"{"manifests":[],"#, 1);
        assert_eq!(parse(None, &text).unwrap_err(), DocumentError::Both.to_string());
    }

    #[test]
    fn old_formats_other_digests_and_other_types_are_told_apart() {
        let error = |text: &str| parse(None, text).unwrap_err();
        assert!(error(r#"{"schemaVersion":1,"name":"a"}"#).contains("first format"));
        assert!(parse(Some(DOCKER_V1_SIGNED), "{}").unwrap_err().contains("first format"));
        let sha512 = manifest().replacen("sha256:", "sha512:", 1);
        assert!(!error(&sha512).is_empty());
        assert!(error(r#"{"mediaType":"a/b"}"#).contains("neither a manifest's nor an index's"));
        assert!(!error("[]").is_empty() && !error("").is_empty() && !error("null").is_empty());
        let deep = "[".repeat(100_000);
        assert!(!error(&deep).is_empty());
        let large = " ".repeat(MAX_DOCUMENT as usize) + &manifest();
        assert_eq!(error(&large), DocumentError::Large.to_string());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            fuzz(&bytes);
        }

        #[test]
        fn no_change_of_a_manifest_makes_it_panic(at in 0..400usize, byte: u8) {
            let mut bytes = manifest().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            fuzz(&bytes);
        }
    }
}
