//! Signatures of images as cosign keeps them: an image `REPOSITORY:sha256-….sig` whose layers
//! are what was signed. <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>

use base64::prelude::{BASE64_STANDARD, Engine};
use koskit_image::oci::Descriptor;
use koskit_image::{Error, Store};
use koskit_llb::{Digest, Reference};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thiserror::Error;

use crate::artefact::{self, Document};
use crate::{Key, PublicKey};

const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const KIND: &str = "cosign container image signature";

/// Why an image is not verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Nobody has signed it.
    #[error("{0} is not signed")]
    Unsigned(Digest),
    /// Others have signed it.
    #[error("{0} is signed, but not by that key")]
    OtherKey(Digest),
    /// The signatures cannot be read.
    #[error(transparent)]
    Store(#[from] Error),
}

/// What is signed: <https://github.com/containers/image/blob/main/docs/containers-signature.5.md>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// What has to be understood.
    pub critical: Critical,
    /// What the signer has to say besides.
    pub optional: Option<BTreeMap<String, Value>>,
}

/// The part of a [`Payload`] that has to be understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Critical {
    /// The name under which it was signed.
    pub identity: Identity,
    /// The image.
    pub image: Signed,
    /// What kind of payload this is.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The name under which an image was signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The full name, with or without a tag.
    #[serde(rename = "docker-reference")]
    pub reference: String,
}

/// The image that was signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    /// The digest of its manifest or index.
    #[serde(rename = "docker-manifest-digest")]
    pub digest: String,
}

/// A signature in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    bytes: Vec<u8>,
    signature: Vec<u8>,
}

impl Signature {
    /// What was signed, if it was signed by that key and is about that image.
    pub fn payload(&self, key: &PublicKey, image: &Digest) -> Option<Payload> {
        if !key.verifies(&self.bytes, &self.signature) {
            return None;
        }
        let payload: Payload = serde_json::from_slice(&self.bytes).ok()?;
        let critical = &payload.critical;
        (critical.kind == KIND && critical.image.digest == image.as_str()).then_some(payload)
    }
}

/// The name of an image's signatures.
///
/// # Panics
/// Never: the name is well-formed.
pub fn signature_name(name: &Reference, image: &Digest) -> Reference {
    let repository = format!("{}/{}", name.domain(), name.path());
    let name = format!("{repository}:sha256-{}.sig", image.hex());
    name.parse().expect("a repository and 75 letters make a name")
}

/// Signs a manifest or an index under a name, and keeps the signature in the store, with those
/// that are there. Signing twice with the same key is signing once.
///
/// # Errors
/// The store cannot be read or written.
///
/// # Panics
/// Never: a payload can be written.
pub fn sign(
    store: &Store,
    name: &Reference,
    image: &Digest,
    key: &Key,
    optional: &BTreeMap<String, String>,
) -> Result<Descriptor, Error> {
    let tagged = name.clone().tagged();
    let tag = tagged.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    let optional: BTreeMap<_, _> =
        optional.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    let payload = Payload {
        critical: Critical {
            identity: Identity { reference: format!("{}/{}{tag}", name.domain(), name.path()) },
            image: Signed { digest: image.to_string() },
            kind: KIND.into(),
        },
        optional: (!optional.is_empty()).then_some(optional),
    };
    let bytes = serde_json::to_vec(&payload).expect("its keys are strings");
    let new = Signature { signature: key.sign(&bytes), bytes };

    let to = signature_name(name, image);
    let mut all = read(store, &to)?;
    all.retain(|signature| *signature != new);
    all.push(new);
    let descriptor = write(store, &all)?;
    store.tag(&to, &descriptor)?;
    Ok(descriptor)
}

/// What the owner of a key says about an image: at least one payload.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    store: &Store,
    name: &Reference,
    image: &Digest,
    key: &PublicKey,
) -> Result<Vec<Payload>, SignatureError> {
    let all = read(store, &signature_name(name, image))?;
    if all.is_empty() {
        return Err(SignatureError::Unsigned(image.clone()));
    }
    let payloads: Vec<_> =
        all.iter().filter_map(|signature| signature.payload(key, image)).collect();
    if payloads.is_empty() {
        return Err(SignatureError::OtherKey(image.clone()));
    }
    Ok(payloads)
}

/// All signatures of that name; none where there is no such name.
fn read(store: &Store, name: &Reference) -> Result<Vec<Signature>, Error> {
    let Some(descriptor) = store.find(name)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for layer in store.manifest(&descriptor)?.layers() {
        let annotations = layer.annotations().as_ref();
        let signature = annotations.and_then(|all| all.get(SIGNATURE));
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok());
        if let (true, Some(signature)) = (layer.media_type().as_ref() == MEDIA_TYPE, signature) {
            all.push(Signature { bytes: store.document(layer)?, signature });
        }
    }
    Ok(all)
}

fn write(store: &Store, all: &[Signature]) -> Result<Descriptor, Error> {
    let documents = all.iter().map(|signature| Document {
        bytes: signature.bytes.clone(),
        annotation: (SIGNATURE, BASE64_STANDARD.encode(&signature.signature)),
    });
    artefact::write(store, MEDIA_TYPE, &documents.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn name() -> Reference {
        "registry.example/a/b:1".parse().unwrap()
    }

    #[test]
    fn a_signed_image_verifies_with_the_signers_key_only() {
        let (_folder, store) = store();
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let image = Digest::of(b"manifest");
        let unsigned = verify(&store, &name(), &image, &key.public());
        assert!(matches!(unsigned, Err(SignatureError::Unsigned(_))));

        let notes = BTreeMap::from([("build".to_owned(), "7".to_owned())]);
        sign(&store, &name(), &image, &key, &notes).unwrap();
        let payloads = verify(&store, &name(), &image, &key.public()).unwrap();
        assert_eq!(payloads[0].critical.identity.reference, "registry.example/a/b:1");
        assert_eq!(payloads[0].optional.as_ref().unwrap()["build"], "7");
        let refused = verify(&store, &name(), &image, &other.public());
        assert!(matches!(refused, Err(SignatureError::OtherKey(_))));
        let changed = verify(&store, &name(), &Digest::of(b"other"), &key.public());
        assert!(matches!(changed, Err(SignatureError::Unsigned(_))));
    }

    #[test]
    fn several_may_sign_and_each_counts_once() {
        let (_folder, store) = store();
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        let image = Digest::of(b"manifest");
        for key in [&one, &two, &one] {
            sign(&store, &name(), &image, key, &BTreeMap::new()).unwrap();
        }
        assert_eq!(read(&store, &signature_name(&name(), &image)).unwrap().len(), 2);
        verify(&store, &name(), &image, &one.public()).unwrap();
        verify(&store, &name(), &image, &two.public()).unwrap();
    }

    #[test]
    fn a_signature_of_one_image_is_none_of_another() {
        let (_folder, store) = store();
        let key = Key::generate().unwrap();
        let (image, other) = (Digest::of(b"manifest"), Digest::of(b"other"));
        let descriptor = sign(&store, &name(), &image, &key, &BTreeMap::new()).unwrap();
        // As a registry could do it: the signature under the other image's name.
        store.tag(&signature_name(&name(), &other), &descriptor).unwrap();
        let refused = verify(&store, &name(), &other, &key.public());
        assert!(matches!(refused, Err(SignatureError::OtherKey(_))));
    }
}
