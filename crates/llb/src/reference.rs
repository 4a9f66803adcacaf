//! Image names, normalised as docker does.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// The full name of an image: `docker.io/library/alpine:3.20@sha256:…`.
///
/// What is read is normalised: no domain means `docker.io`, on which a name without a slash
/// is one of `library/`. A name without a tag and without a digest gets the tag `latest` by
/// [`Reference::tagged`], not by parsing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The digest after `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Upper-case letters outside of the tag.
    #[error("the image name {0:?} has upper-case letters; write {lower:?}", lower = .0.to_lowercase())]
    UpperCase(String),
    /// Anything else.
    #[error("{text:?} is not an image name: {why}")]
    Invalid {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Reference {
    /// `docker.io`, `localhost:5000`, …
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// `library/alpine`, `kos/busybox`, …
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is after the colon.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// What is after the `@`.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with the tag `latest`, where there is neither tag nor digest.
    pub fn tagged(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same with this digest.
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// As a person writes it: without `docker.io` and `library/`.
    pub fn familiar(&self) -> String {
        let path = match self.domain.as_str() {
            DEFAULT_DOMAIN => self.path.strip_prefix(OFFICIAL).unwrap_or(&self.path).to_owned(),
            domain => format!("{domain}/{}", self.path),
        };
        path + &self.suffix()
    }

    fn suffix(&self) -> String {
        let mut text = String::new();
        if let Some(tag) = &self.tag {
            text = format!(":{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.domain, self.path, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let invalid = |why| ReferenceError::Invalid { text: text.chars().take(300).collect(), why };
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid("it is an image ID, which cannot be told from a name"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; before it, a port.
        let slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[slash..].split_once(':') {
            Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("a tag has up to 128 letters, digits, _ . and -"));
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, path)) if is_domain_like(first) => (first, path.to_owned()),
            _ => (DEFAULT_DOMAIN, name.to_owned()),
        };
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
        let path = match domain {
            DEFAULT_DOMAIN if !path.contains('/') => format!("{OFFICIAL}{path}"),
            _ => path,
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(text.chars().take(300).collect()));
        }
        if !is_domain(domain) {
            return Err(invalid("the part before the first slash is no host name"));
        }
        if !path.split('/').all(is_component) {
            return Err(invalid(
                "each part between slashes has lower-case letters and digits, joined by . _ __ or -",
            ));
        }
        if path.len() + domain.len() + 1 > 255 {
            return Err(invalid("it is longer than 255 characters"));
        }
        Ok(Self { domain: domain.into(), path, tag: tag.map(str::to_owned), digest })
    }
}

fn is_domain_like(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Lower-case words, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = part.as_bytes();
    if !(bytes.first().is_some_and(|&b| word(b)) && bytes.last().is_some_and(|&b| word(b))) {
        return false;
    }
    let mut joint = String::new();
    for &b in bytes {
        if !word(b) {
            joint.push(b as char);
            continue;
        }
        let dashes = !joint.is_empty() && joint.bytes().all(|b| b == b'-');
        if !(dashes || matches!(joint.as_str(), "" | "." | "_" | "__")) {
            return false;
        }
        joint.clear();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().tagged().to_string()
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
        assert_eq!(full("kos/busybox"), "docker.io/kos/busybox:latest");
        assert_eq!(full("index.docker.io/alpine:3"), "docker.io/library/alpine:3");
        assert_eq!(full("localhost/a"), "localhost/a:latest");
        assert_eq!(full("localhost:5000/a/b:v1"), "localhost:5000/a/b:v1");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("ghcr.io/a__b/c-d"), "ghcr.io/a__b/c-d:latest");
        let digest = Digest::of(b"");
        assert_eq!(full(&format!("a@{digest}")), format!("docker.io/library/a@{digest}"));
        assert_eq!(full(&format!("a:b@{digest}")), format!("docker.io/library/a:b@{digest}"));
    }

    #[test]
    fn the_familiar_name_leads_back_to_the_full_one() {
        for name in ["alpine:3", "kos/busybox", "localhost:5000/a/b", "ghcr.io/a/b:c"] {
            assert_eq!(name.parse::<Reference>().unwrap().familiar(), name);
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        let bad = [
            "",
            ":",
            "a:",
            "a@",
            "A",
            "a/B",
            "a b",
            "../a",
            "a//b",
            "a/",
            "-a",
            "a:b:c/d",
            "a..b",
            "a___b",
            "a@sha256:00",
            "-.x/a",
            "a.b:port/c",
            "a:ta g",
        ];
        for bad in bad {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("0".repeat(64).parse::<Reference>().is_err());
    }
}
