//! In-toto statements: <https://github.com/in-toto/attestation/tree/main/spec/v1>, and how
//! BuildKit keeps them beside images, which every tool that reads its attestations knows.

use crate::artefact::{self, Document};
use koskit_image::oci::Descriptor;
use koskit_image::{Error, Image, Store, Variant};
use koskit_llb::{Digest, Platform, Reference};
use serde_json::{Value, json};

/// Predicate: an SPDX document.
pub const SPDX: &str = "https://spdx.dev/Document";
/// Predicate: a CycloneDX document.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";
/// Predicate: SLSA provenance, <https://slsa.dev/spec/v1.0/provenance>.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION: &str = "attestation-manifest";

/// What is said about an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    /// [`SPDX`], [`CYCLONEDX`], [`PROVENANCE`], or somebody else's.
    pub kind: String,
    /// The document.
    pub document: Value,
}

impl Predicate {
    /// The statement that this is so of an image.
    pub fn about(&self, name: Option<&Reference>, platform: &Platform, digest: &Digest) -> Value {
        let name = name.map_or_else(
            || "_".to_owned(),
            |name| {
                let platform = platform.to_string().replace('/', "%2F");
                let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
                let path = name.familiar();
                let path = path.split('@').next().unwrap_or_default();
                let path = name
                    .tag()
                    .and_then(|tag| path.strip_suffix(&format!(":{tag}")))
                    .unwrap_or(path);
                format!("pkg:docker/{path}{tag}?platform={platform}")
            },
        );
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": self.kind,
            "subject": [{ "name": name, "digest": { "sha256": digest.hex() } }],
            "predicate": self.document,
        })
    }
}

/// Writes what is said about an image, if anything, for an entry beside its own in an index.
/// <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>
///
/// # Errors
/// The store cannot be written.
pub fn attestation(
    store: &Store,
    name: Option<&Reference>,
    image: &Image,
    predicates: &[Predicate],
) -> Result<Option<Variant>, Error> {
    if predicates.is_empty() {
        return Ok(None);
    }
    let documents = predicates.iter().map(|predicate| {
        let statement = predicate.about(name, &image.platform, &image.digest());
        Document {
            bytes: statement.to_string().into_bytes(),
            annotation: (PREDICATE, predicate.kind.clone()),
        }
    });
    let manifest = artefact::write(store, MEDIA_TYPE, &documents.collect::<Vec<_>>())?;
    let annotations = [
        (REFERENCE_DIGEST.to_owned(), image.digest().to_string()),
        (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
    ];
    Ok(Some(Variant {
        platform: Platform::new("unknown", "unknown", ""),
        descriptor: manifest,
        annotations: annotations.into(),
    }))
}

/// What an index says about one of its images.
///
/// # Errors
/// A document is missing, damaged or not valid.
pub fn attached(
    store: &Store,
    index: &Descriptor,
    image: &Digest,
) -> Result<Vec<Predicate>, Error> {
    let invalid = |what: &Digest, why: &str| Error::Invalid {
        what: format!("the attestation {what}"),
        why: why.to_owned(),
    };
    let mut predicates = Vec::new();
    for entry in store.manifests(index)? {
        let annotation = |key: &str| entry.annotations().as_ref().and_then(|all| all.get(key));
        let about = annotation(REFERENCE_DIGEST).is_some_and(|digest| digest == image.as_str());
        if !about || annotation(REFERENCE_TYPE).is_none_or(|kind| kind != ATTESTATION) {
            continue;
        }
        for layer in store.manifest(&entry)?.layers() {
            if layer.media_type().as_ref() != MEDIA_TYPE {
                continue;
            }
            let statement: Value = serde_json::from_slice(&store.document(layer)?)
                .map_err(|e| invalid(image, &e.to_string()))?;
            let of = |value: &Value| value["digest"]["sha256"] == image.hex();
            if !statement["subject"].as_array().is_some_and(|all| all.iter().any(of)) {
                return Err(invalid(image, "it is about another image"));
            }
            let kind = statement["predicateType"].as_str();
            let kind = kind.ok_or_else(|| invalid(image, "it has no predicateType"))?.to_owned();
            predicates.push(Predicate { kind, document: statement["predicate"].clone() });
        }
    }
    Ok(predicates)
}
