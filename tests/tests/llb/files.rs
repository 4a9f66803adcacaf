//! The files of images, whatever layers they come in.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use koskit_llb::Digest;
use serde_json::Value;

/// The blobs of an OCI archive, by path.
pub type Blobs = BTreeMap<String, Vec<u8>>;

/// Reads an OCI archive.
pub fn blobs(archive: impl Read) -> Blobs {
    let mut blobs = Blobs::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        blobs.insert(path, data);
    }
    blobs
}

/// What a descriptor is of.
pub fn blob<'b>(blobs: &'b Blobs, descriptor: &Value) -> &'b [u8] {
    let digest = descriptor["digest"].as_str().expect("a digest").replace(':', "/");
    &blobs[&format!("blobs/{digest}")]
}

/// The same, which is JSON.
pub fn json(blobs: &Blobs, descriptor: &Value) -> Value {
    serde_json::from_slice(blob(blobs, descriptor)).unwrap()
}

/// The files of an image: by path, a line that tells kind, mode, owner and content. Times are
/// not told.
pub fn of_manifest(blobs: &Blobs, manifest: &Value) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for descriptor in manifest["layers"].as_array().into_iter().flatten() {
        let data = blob(blobs, descriptor);
        let mut plain = Vec::new();
        match data.starts_with(b"\x1f\x8b") {
            true => drop(MultiGzDecoder::new(data).read_to_end(&mut plain).unwrap()),
            false => plain.extend(data),
        }
        apply(&plain, &mut files);
    }
    files
}

fn apply(layer: &[u8], files: &mut BTreeMap<String, String>) {
    for entry in tar::Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let path = path.trim_matches('/').trim_start_matches("./").to_owned();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(gone) = name.strip_prefix(".wh.") {
            let below = |path: &str| match gone {
                // All that was there before in this folder.
                ".wh..opq" => format!("{folder}/"),
                gone => join(folder, gone) + if path.is_empty() { "" } else { "/" },
            };
            let (itself, prefix) = (below(""), below("x"));
            files.retain(|known, _| *known != itself && !known.starts_with(&prefix));
            continue;
        }
        let header = entry.header().clone();
        let kind = header.entry_type();
        let link = entry.link_name().unwrap().map(|path| path.display().to_string());
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let what = match kind {
            tar::EntryType::Directory => "directory".to_owned(),
            tar::EntryType::Regular => format!("file {}", &Digest::of(&data).hex()[..12]),
            tar::EntryType::Symlink => format!("link to {}", link.unwrap_or_default()),
            tar::EntryType::Link => format!("same as {}", link.unwrap_or_default()),
            other => format!("{other:?}"),
        };
        let (mode, user, group) =
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
        if !matches!(path.as_str(), "" | ".") && kind != tar::EntryType::XGlobalHeader {
            if kind != tar::EntryType::Directory {
                let below = format!("{path}/");
                files.retain(|known, _| !known.starts_with(&below));
            }
            files.insert(path, format!("{what} {:o} {user}:{group}", mode & 0o7777));
        }
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Directories on which a command has its devices and the like mounted: BuildKit leaves them
/// in the image.
const LEFT_BY_RUN: [&str; 3] = ["dev", "proc", "sys"];

/// What is in one and not in the other, a line each. What git itself writes depends on its
/// version.
pub fn differences(
    ours: &BTreeMap<String, String>,
    theirs: &BTreeMap<String, String>,
) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    let line = |path: &&String| {
        if path.contains("/.git/") || LEFT_BY_RUN.contains(&path.as_str()) {
            return None;
        }
        let (here, there) = (ours.get(*path), theirs.get(*path));
        let text = |side: Option<&String>| side.map_or("nothing".to_owned(), String::clone);
        (here != there).then(|| format!("/{path}: {} here, {} there", text(here), text(there)))
    };
    all.iter().filter_map(line).collect()
}
