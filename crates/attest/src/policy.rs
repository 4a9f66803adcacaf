//! What may run: a policy as podman, skopeo and CRI-O have it.
//! <https://github.com/containers/image/blob/main/docs/containers-policy.json.5.md>

use base64::prelude::{BASE64_STANDARD, Engine};
use koskit_image::Store;
use koskit_llb::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

use crate::{KeyError, Payload, PublicKey, SignatureError, verify};

/// The transport whose scopes are image names.
const DOCKER: &str = "docker";

/// A policy: for each scope of names, what an image must fulfil, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For images that no scope names.
    pub default: Vec<Requirement>,
    /// By transport and scope; for images that have a name, the transport is `docker`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must fulfil.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Requirement {
    /// Nothing.
    InsecureAcceptAnything {},
    /// It cannot.
    Reject {},
    /// One of these keys has signed it.
    SigstoreSigned {
        /// A public key's file.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_path: Option<PathBuf>,
        /// Public keys' files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        key_paths: Vec<PathBuf>,
        /// A public key, in base64.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_data: Option<String>,
        /// Public keys, in base64.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        key_datas: Vec<String>,
        /// Which name the signature must be for.
        #[serde(default, skip_serializing_if = "Identity::is_default")]
        signed_identity: Identity,
    },
}

/// Which name a signature must be for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Identity {
    /// The same name and tag; a name with a digest, the same repository.
    #[default]
    MatchRepoDigestOrExact,
    /// The same name and tag.
    MatchExact,
    /// The same repository.
    MatchRepository,
    /// This name and tag, whatever the image is called.
    ExactReference {
        /// The name and tag.
        docker_reference: String,
    },
    /// This repository, whatever the image is called.
    ExactRepository {
        /// The repository.
        docker_repository: String,
    },
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It cannot be read or written.
    #[error("the policy {path} cannot be used: {source}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no policy.
    #[error(
        "the policy {path} is not one that koskit can obey: {source}; see containers-policy.json(5)"
    )]
    Json {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Why an image may not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nothing of that name may.
    #[error("the policy refuses all images of {scope}")]
    Rejected {
        /// The scope that says so.
        scope: String,
    },
    /// It is not signed, or not by the right key, or for another name.
    #[error("the policy wants {name} to be signed ({scope}): {why}")]
    Unsigned {
        /// The image.
        name: String,
        /// The scope that says so.
        scope: String,
        /// What is missing.
        why: String,
    },
    /// A key of the policy cannot be read.
    #[error("the policy's key {key} cannot be used: {why}")]
    Key {
        /// Where it should be.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// The signatures cannot be read.
    #[error(transparent)]
    Store(#[from] koskit_image::Error),
}

impl Default for Policy {
    /// Everything may run.
    fn default() -> Self {
        Self { default: vec![Requirement::InsecureAcceptAnything {}], transports: BTreeMap::new() }
    }
}

impl Identity {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn allows(&self, signed: &str, name: &Reference) -> bool {
        let Ok(signed) = signed.parse::<Reference>() else { return false };
        let repository = |name: &Reference| (name.domain().to_owned(), name.path().to_owned());
        let same_repository = repository(&signed) == repository(name);
        let same_tag = signed.tag().is_some() && signed.tag() == name.tag();
        match self {
            Self::MatchRepository => same_repository,
            Self::MatchExact => same_repository && same_tag,
            Self::MatchRepoDigestOrExact => {
                same_repository && (same_tag || name.digest().is_some())
            }
            Self::ExactReference { docker_reference } => {
                docker_reference.parse::<Reference>().is_ok_and(|wanted| wanted == signed)
            }
            Self::ExactRepository { docker_repository } => docker_repository
                .parse::<Reference>()
                .is_ok_and(|wanted| repository(&wanted) == repository(&signed)),
        }
    }
}

impl Policy {
    /// Reads a policy; where there is no file, everything may run.
    ///
    /// # Errors
    /// [`PolicyError`]. A requirement that koskit does not know is an error: it cannot be obeyed.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| PolicyError::Json { path: path.into(), source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(PolicyError::File { path: path.into(), source }),
        }
    }

    /// Writes it. Either all of it is there afterwards or what was there before.
    ///
    /// # Errors
    /// It cannot be written.
    ///
    /// # Panics
    /// Never: a policy can be written as JSON.
    pub fn save(&self, path: &Path) -> Result<(), PolicyError> {
        let failed = |source| PolicyError::File { path: path.into(), source };
        let mut bytes = serde_json::to_vec_pretty(self).expect("its keys are strings");
        bytes.push(b'\n');
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let half = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&half, bytes).and_then(|()| fs::rename(&half, path)).map_err(failed)
    }

    /// Sets what images of a scope must fulfil; without a scope, all that no other scope names.
    pub fn set(&mut self, scope: Option<&str>, requirements: Vec<Requirement>) {
        match scope {
            None => self.default = requirements,
            Some(scope) => {
                self.transports
                    .entry(DOCKER.into())
                    .or_default()
                    .insert(scope.into(), requirements);
            }
        }
    }

    /// Forgets a scope, and tells whether there was one.
    pub fn remove(&mut self, scope: &str) -> bool {
        let scopes = self.transports.get_mut(DOCKER);
        scopes.is_some_and(|scopes| scopes.remove(scope).is_some())
    }

    /// All scopes of names with what they want, the default last.
    pub fn scopes(&self) -> impl Iterator<Item = (&str, &[Requirement])> {
        let named = self.transports.get(DOCKER).into_iter().flatten();
        let named = named.map(|(scope, wanted)| (scope.as_str(), wanted.as_slice()));
        named.chain([("default", self.default.as_slice())])
    }

    /// Whether an image of that name may run. `digests` are those that a signature may be
    /// about: of the index that the name stands for, and of the manifest in it.
    ///
    /// # Errors
    /// It may not.
    pub fn check(
        &self,
        store: &Store,
        name: &Reference,
        digests: &[Digest],
    ) -> Result<(), Refused> {
        let (scope, wanted) = self.scope_of(name);
        if wanted.is_empty() {
            return Err(Refused::Rejected { scope });
        }
        wanted.iter().try_for_each(|wanted| wanted.check(store, name, digests, &scope))
    }

    /// The nearest scope: name and tag, repository, the folders it is in, the host, hosts below
    /// a domain, all.
    fn scope_of(&self, name: &Reference) -> (String, &[Requirement]) {
        let name = if name.digest().is_some() { name.clone() } else { name.clone().tagged() };
        let repository = format!("{}/{}", name.domain(), name.path());
        let mut candidates = Vec::new();
        if let Some(digest) = name.digest() {
            candidates.push(format!("{repository}@{digest}"));
        } else if let Some(tag) = name.tag() {
            candidates.push(format!("{repository}:{tag}"));
        }
        let mut at = repository.as_str();
        loop {
            candidates.push(at.to_owned());
            let Some((above, _)) = at.rsplit_once('/') else { break };
            at = above;
        }
        let mut host = name.domain().split(':').next().unwrap_or_default();
        while let Some((_, above)) = host.split_once('.') {
            candidates.push(format!("*.{above}"));
            host = above;
        }
        candidates.push(String::new());
        let scopes = self.transports.get(DOCKER);
        for candidate in candidates {
            if let Some(wanted) = scopes.and_then(|scopes| scopes.get(&candidate)) {
                let shown = if candidate.is_empty() { "all names".into() } else { candidate };
                return (shown, wanted);
            }
        }
        ("default".into(), &self.default)
    }
}

impl Requirement {
    fn check(
        &self,
        store: &Store,
        name: &Reference,
        digests: &[Digest],
        scope: &str,
    ) -> Result<(), Refused> {
        let Self::SigstoreSigned { signed_identity, .. } = self else {
            return match self {
                Self::Reject {} => Err(Refused::Rejected { scope: scope.into() }),
                _ => Ok(()),
            };
        };
        let tagged = if name.digest().is_some() { name.clone() } else { name.clone().tagged() };
        let mut why = "it is not signed".to_owned();
        for key in self.keys()? {
            for digest in digests {
                match verify(store, name, digest, &key) {
                    Ok(payloads) => {
                        let signed = |p: &Payload| p.critical.identity.reference.clone();
                        if payloads.iter().any(|p| signed_identity.allows(&signed(p), &tagged)) {
                            return Ok(());
                        }
                        why = format!("it is signed for {}", signed(&payloads[0]));
                    }
                    Err(SignatureError::Store(error)) => return Err(error.into()),
                    Err(SignatureError::Unsigned(_)) => {}
                    Err(SignatureError::OtherKey(_)) => why = "it is signed by another key".into(),
                }
            }
        }
        Err(Refused::Unsigned { name: name.familiar(), scope: scope.into(), why })
    }

    /// The keys of a `sigstoreSigned`: at least one.
    fn keys(&self) -> Result<Vec<PublicKey>, Refused> {
        let Self::SigstoreSigned { key_path, key_paths, key_data, key_datas, .. } = self else {
            return Ok(Vec::new());
        };
        let refused = |key: String, why: String| Refused::Key { key, why };
        let parse = |key: &str, bytes: Vec<u8>| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            PublicKey::from_pem(&text).map_err(|e: KeyError| refused(key.to_owned(), e.to_string()))
        };
        let mut keys = Vec::new();
        for path in key_path.iter().chain(key_paths) {
            let shown = path.display().to_string();
            let bytes = fs::read(path).map_err(|e| refused(shown.clone(), e.to_string()))?;
            keys.push(parse(&shown, bytes)?);
        }
        for data in key_data.iter().chain(key_datas) {
            let bytes = BASE64_STANDARD.decode(data);
            let bytes = bytes.map_err(|e| refused("in keyData".into(), e.to_string()))?;
            keys.push(parse("in keyData", bytes)?);
        }
        if keys.is_empty() {
            return Err(refused("of sigstoreSigned".into(), "there is none".into()));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, sign};

    fn policy(text: &str) -> Policy {
        serde_json::from_str(text).unwrap()
    }

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn the_nearest_scope_decides() {
        let scopes = [
            "registry.example/team/app:1",
            "registry.example/team/app",
            "registry.example/team",
            "registry.example",
            "*.example",
        ];
        let mut policy = Policy::default();
        for scope in scopes {
            policy.set(Some(scope), vec![Requirement::Reject {}]);
        }
        let scope = |text: &str| policy.scope_of(&name(text)).0;
        assert_eq!(scope("registry.example/team/app:1"), scopes[0]);
        assert_eq!(scope("registry.example/team/app:2"), scopes[1]);
        assert_eq!(scope("registry.example/team/other"), scopes[2]);
        assert_eq!(scope("registry.example/x"), scopes[3]);
        assert_eq!(scope("other.example/x"), scopes[4]);
        assert_eq!(scope("hello"), "default");
    }

    #[test]
    fn an_image_must_be_signed_by_the_right_key_for_the_right_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let path = folder.path().join("key.pub");
        fs::write(&path, key.public().to_pem()).unwrap();
        let policy = policy(&format!(
            r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"r.example":
                [{{"type": "sigstoreSigned", "keyPath": {path:?}}}]}}}}}}"#
        ));
        let image = Digest::of(b"image");
        let check = |text: &str| policy.check(&store, &name(text), std::slice::from_ref(&image));
        let why = |text: &str| check(text).unwrap_err().to_string();

        assert_eq!(why("hello"), "the policy refuses all images of default");
        let unsigned = "the policy wants r.example/a:1 to be signed (r.example): it is not signed";
        assert_eq!(why("r.example/a:1"), unsigned);
        sign(&store, &name("r.example/a:1"), &image, &other, &BTreeMap::new()).unwrap();
        assert!(why("r.example/a:1").ends_with("it is signed by another key"));
        sign(&store, &name("r.example/a:1"), &image, &key, &BTreeMap::new()).unwrap();
        check("r.example/a:1").unwrap();
        assert!(why("r.example/a:2").ends_with("it is signed for r.example/a:1"));
        check(&format!("r.example/a@{image}")).unwrap();
    }

    #[test]
    fn what_koskit_cannot_obey_is_an_error_and_not_passed_over() {
        let parse = serde_json::from_str::<Policy>;
        for text in [
            r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}"#,
            r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/k", "fulcio": {}}]}"#,
            r#"{"default": [{"type": "reject", "unless": "x"}]}"#,
            r#"{"default": [], "more": 1}"#,
            r#"{}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let none = policy(r#"{"default": []}"#);
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        assert!(none.check(&store, &name("hello"), &[]).is_err());
    }

    #[test]
    fn a_policy_is_the_same_after_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/policy.json");
        assert_eq!(Policy::load(&path).unwrap(), Policy::default());
        let mut policy = Policy::default();
        policy.set(None, vec![Requirement::Reject {}]);
        policy.set(
            Some("docker.io/library"),
            vec![Requirement::SigstoreSigned {
                key_path: Some("/k".into()),
                key_paths: vec![],
                key_data: None,
                key_datas: vec![],
                signed_identity: Identity::MatchRepository,
            }],
        );
        policy.save(&path).unwrap();
        assert_eq!(Policy::load(&path).unwrap(), policy);
        assert!(policy.remove("docker.io/library") && !policy.remove("docker.io/library"));
    }
}
