//! In-toto statements: <https://github.com/in-toto/attestation/tree/main/spec/v1>, and how
//! BuildKit keeps them beside images, which every tool that reads its attestations knows.

use crate::artefact::{self, Document};
use koskit_image::oci::Descriptor;
use koskit_image::{Error, Image, Store, Variant};
use koskit_llb::{Digest, Platform, Reference};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::ops::Range;

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
/// The largest statement that is read.
const MAX_STATEMENT: u64 = 64 << 20;

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
        let name = purl(name, platform);
        self.statement(&[(name, digest.hex().to_owned())])
    }

    /// The statement that this is so of files, each with its SHA-256 in hexadecimal digits.
    pub fn statement(&self, subjects: &[(String, String)]) -> Value {
        let subject = |(name, digest): &(String, String)| json!({ "name": name, "digest": { "sha256": digest } });
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": self.kind,
            "subject": subjects.iter().map(subject).collect::<Vec<_>>(),
            "predicate": self.document,
        })
    }

    /// The name of a file that has only this: as BuildKit's, and for CycloneDX as its
    /// specification wants it.
    pub fn file_name(&self) -> &'static str {
        match self.kind.as_str() {
            SPDX => "sbom.spdx.json",
            CYCLONEDX => "sbom.cdx.json",
            _ => "provenance.json",
        }
    }
}

/// What an image is called in a statement.
fn purl(name: Option<&Reference>, platform: &Platform) -> String {
    let Some(name) = name else { return "_".to_owned() };
    let platform = platform.to_string().replace('/', "%2F");
    let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
    let path = name.familiar();
    let path = path.split('@').next().unwrap_or_default();
    let path = name.tag().and_then(|tag| path.strip_suffix(&format!(":{tag}"))).unwrap_or(path);
    format!("pkg:docker/{path}{tag}?platform={platform}")
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

/// What an index says about one of its images: the first document of a kind, as its text.
///
/// A bill of materials may be large. It is the one thing in memory, once, and not taken apart.
///
/// # Errors
/// A document is missing, damaged, not valid, or larger than 64 MiB.
pub fn attached(
    store: &Store,
    index: &Descriptor,
    image: &Digest,
    kind: &str,
) -> Result<Option<String>, Error> {
    let invalid = |what: &Digest, why: &str| Error::Invalid {
        what: format!("the attestation {what}"),
        why: why.to_owned(),
    };
    for entry in store.manifests(index)? {
        let annotation = |key: &str| entry.annotations().as_ref().and_then(|all| all.get(key));
        let about = annotation(REFERENCE_DIGEST).is_some_and(|digest| digest == image.as_str());
        if !about || annotation(REFERENCE_TYPE).is_none_or(|kind| kind != ATTESTATION) {
            continue;
        }
        for layer in store.manifest(&entry)?.layers() {
            // Who wrote it may not have said of which kind it is; then it says so itself.
            let said = layer.annotations().as_ref().and_then(|all| all.get(PREDICATE));
            let other = said.is_some_and(|said| said != kind);
            if layer.media_type().as_ref() != MEDIA_TYPE || other {
                continue;
            }
            let bytes = store.document_within(layer, MAX_STATEMENT)?;
            let text = String::from_utf8(bytes).map_err(|_| invalid(image, "it is no UTF-8"))?;
            let statement: Statement<'_> =
                serde_json::from_str(&text).map_err(|e| invalid(image, &e.to_string()))?;
            if !statement.subject.iter().any(|subject| subject.digest["sha256"] == image.hex()) {
                return Err(invalid(image, "it is about another image"));
            }
            if statement.predicate_type == kind {
                let predicate = statement.predicate;
                let predicate = predicate.ok_or_else(|| invalid(image, "it has no predicate"))?;
                let place = place(predicate.get(), &text);
                return Ok(Some(cut(text, place)));
            }
        }
    }
    Ok(None)
}

/// What is read of a statement; that it is JSON to its end is checked on the way.
#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(default)]
    subject: Vec<Subject>,
    /// As it is written.
    #[serde(borrow)]
    predicate: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: Value,
}

/// Where a part of a text stands in it.
fn place(part: &str, text: &str) -> Range<usize> {
    let from = part.as_ptr() as usize - text.as_ptr() as usize;
    from..from + part.len()
}

/// A part of a text, in the same memory.
fn cut(mut text: String, place: Range<usize>) -> String {
    text.truncate(place.end);
    text.drain(..place.start);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicate_is_found_whatever_stands_around_it() {
        let text = r#"{"x":{"predicate":1},"a\"}":"predicate","predicate" : {"p":[1,"}\\"]} ,
            "predicateType":"t","z":[]}"#;
        let found = |text: &str| {
            let statement: Statement<'_> = serde_json::from_str(text).unwrap();
            let place = place(statement.predicate?.get(), text);
            Some(cut(text.to_owned(), place))
        };
        assert_eq!(found(text).unwrap().trim(), r#"{"p":[1,"}\\"]}"#);
        assert_eq!(found(r#"{"predicateType":"t","predicate":[]}"#).as_deref(), Some("[]"));
        assert_eq!(found(r#"{"predicateType":"t","x":{"predicate":1}}"#), None);
    }

    #[test]
    fn a_large_document_is_read_whole_and_one_that_is_too_large_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let config = json!({ "os": "linux", "architecture": "arm64", "config": {} });
        let image = store.add_image(&config, &[]).unwrap();
        let read = |len: usize| {
            let document = json!({ "text": "x".repeat(len) });
            let predicates = [
                Predicate { kind: PROVENANCE.into(), document: json!({}) },
                Predicate { kind: SPDX.into(), document },
            ];
            let beside = attestation(&store, None, &image, &predicates).unwrap().unwrap();
            let own = Variant {
                platform: image.platform.clone(),
                descriptor: image.descriptor.clone(),
                annotations: Default::default(),
            };
            let index = store.add_index_as(&[own, beside], &Default::default()).unwrap();
            attached(&store, &index, &image.digest(), SPDX)
        };
        let text = read(5 << 20).unwrap().unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["text"].as_str().unwrap().len(), 5 << 20);
        let error = read(64 << 20).unwrap_err().to_string();
        assert!(error.contains("it is larger than 64 MiB"), "{error}");
    }
}
