//! What BuildKit calls what comes from outside. It makes the keys of sources of these names.

use koskit_llb::{Digest, Platform, Reference};
use serde_json::json;

use super::ops::{Object, encoded};
use crate::filesystem::{Layers, Piece};

/// Of an image: one name by its manifest, if that is known, and one by its layers.
pub(crate) fn image(
    reference: &Reference,
    platform: Option<&Platform>,
    layers: &Layers,
) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(digest) = reference.digest() {
        let platform = platform.cloned().unwrap_or_else(Platform::host).to_pb();
        let whole = Object::new()
            .value("Digest", Some(digest.as_str().into()))
            .value("OS", Some(platform.os.as_str().into()))
            .value("Arch", Some(platform.architecture.as_str().into()))
            .text("Variant", &platform.variant)
            .text("OSVersion", &platform.os_version)
            .list("OSFeatures", platform.os_features.iter().map(|one| one.as_str().into()));
        names.push(Digest::of(&encoded(&whole.json())).to_string());
    }
    let layers = layers.pieces().into_iter().filter_map(|piece| match piece {
        Piece::Image(layer) | Piece::Imported(layer) => Some(layer.diff_id),
        Piece::Made(_) | Piece::Nothing => None,
    });
    names.extend(chain(layers).map(|digest| digest.to_string()));
    names
}

/// The name that a stack of layers has: of each layer on those below it.
fn chain(diff_ids: impl Iterator<Item = Digest>) -> Option<Digest> {
    diff_ids.fold(None, |below, diff_id| match below {
        None => Some(diff_id),
        Some(below) => Some(Digest::of(format!("{below} {diff_id}").as_bytes())),
    })
}

/// A commit of a git repository, and what is wanted of it.
pub(crate) struct Commit<'a> {
    /// The commit, or the tag that stands for it, as newer servers have it.
    pub id: &'a str,
    /// The full name of the branch or tag that led to it, if one did.
    pub reference: Option<&'a str>,
    /// A folder of it; empty is all.
    pub folder: &'a str,
    pub keep_git: bool,
    pub submodules: bool,
}

impl Commit<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        let mut name = self.id.to_owned();
        if self.keep_git {
            name.push_str(".git");
            if let Some(reference) = self.reference {
                name.extend(["#", reference]);
            }
        }
        if !self.folder.is_empty() {
            name.extend([":", self.folder]);
        }
        if !self.submodules {
            name.push_str("(skip-submodules)");
        }
        name
    }
}

/// A file of a web server.
pub(crate) struct File<'a> {
    pub name: &'a str,
    /// 0 where nobody has chosen one.
    pub mode: u32,
    pub owner: (u32, u32),
    pub digest: &'a Digest,
    /// What the server says of when it was changed; empty where the digest was given.
    pub modified: &'a str,
    /// The secret that was sent.
    pub secret: Option<&'a str>,
    /// What was asked with.
    pub headers: &'a [(String, String)],
}

impl File<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        let mut headers: Vec<(String, &str)> =
            self.headers.iter().map(|(name, value)| (canonical(name), value.as_str())).collect();
        headers.sort();
        let headers =
            headers.into_iter().map(|(name, value)| json!({"Name": name, "Value": value}));
        let whole = Object::new()
            .value("Filename", Some(self.name.into()))
            .value("Perm", Some(self.mode.into()))
            .value("UID", Some(self.owner.0.into()))
            .value("GID", Some(self.owner.1.into()))
            .value("Checksum", Some(self.digest.as_str().into()))
            .text("LastModTime", self.modified)
            .text("AuthHeaderSecret", self.secret.unwrap_or_default())
            .list("Header", headers);
        Digest::of(&encoded(&whole.json())).to_string()
    }
}

/// A header's name as Go writes it: `User-Agent`.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    };
    name.split('-').map(part).collect::<Vec<_>>().join("-")
}
