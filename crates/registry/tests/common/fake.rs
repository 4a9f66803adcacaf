//! A registry in memory, with faults that tests set: connections that break, answers that ask to
//! wait, tokens.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use koskit_llb::Digest;

use super::server::{Answer, Handler, Request};

#[derive(Default)]
pub struct Fake(Mutex<State>);

#[derive(Default)]
pub struct State {
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// Media type and bytes, by tag and by digest.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub uploads: BTreeMap<String, Vec<u8>>,
    /// After so many bytes of a blob the connection is cut, so often.
    pub cut_downloads: (usize, usize),
    /// The same of bodies that are sent to it.
    pub cut_uploads: (usize, usize),
    /// It knows no `Range`.
    pub no_ranges: bool,
    /// It forgets what has arrived of an upload that broke.
    pub forgets: bool,
    /// It has more than it told of an upload that broke, so often, and refuses what goes on there.
    pub runs_late: usize,
    /// So many answers are 503 or 429 first, with this field.
    pub busy: (usize, u16, Option<String>),
    /// Larger bodies are refused.
    pub largest: Option<usize>,
    /// The only answer to `Authorization`.
    pub authorization: Option<String>,
    /// What it says to who has not that.
    pub challenge: Option<String>,
    /// It knows the list of referrers.
    pub referrers: bool,
    next: usize,
}

impl Fake {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Puts a blob there.
    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.state().blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    /// Puts an image of one layer there, which is not compressed and no archive.
    pub fn image(&self, tag: &str, layer: &[u8]) -> String {
        let diff_id = self.blob(layer);
        let config = serde_json::json!({
            "os": "linux", "architecture": "arm64",
            "rootfs": { "type": "layers", "diff_ids": [diff_id.as_str()] },
        });
        let config = config.to_string();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(config.as_bytes()).as_str(), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": diff_id.as_str(), "size": layer.len(),
            }],
        });
        self.manifest(tag, manifest.to_string())
    }

    pub fn manifest(&self, tag: &str, text: String) -> String {
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let media_type = value["mediaType"].as_str().unwrap().to_owned();
        let digest = Digest::of(text.as_bytes()).to_string();
        let entry = (media_type, text.into_bytes());
        let mut state = self.state();
        state.manifests.insert(tag.into(), entry.clone());
        state.manifests.insert(digest.clone(), entry);
        digest
    }
}

impl Handler for Fake {
    fn cut(&self, request: &Request) -> Option<usize> {
        let mut state = self.state();
        let sends = matches!(request.method.as_str(), "PUT" | "PATCH");
        if !(sends && request.path.contains("/uploads/") && state.cut_uploads.1 > 0) {
            return None;
        }
        state.cut_uploads.1 -= 1;
        Some(state.cut_uploads.0)
    }

    fn was_cut(&self, request: &Request) {
        let mut state = self.state();
        let id = request.path.rsplit('/').next().unwrap().to_owned();
        if state.forgets {
            state.uploads.remove(&id);
        } else {
            state.uploads.get_mut(&id).unwrap().extend_from_slice(&request.body);
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state();
        if let Some(wanted) = &state.authorization {
            if request.header("authorization") != Some(wanted) {
                let challenge = state.challenge.clone().unwrap();
                return Answer::error(401, "UNAUTHORIZED").header("www-authenticate", challenge);
            }
        }
        if request.path == "/v2/" {
            return Answer::new(200).body("{}");
        }
        if state.busy.0 > 0 {
            state.busy.0 -= 1;
            let answer = Answer::error(state.busy.1, "TOOMANYREQUESTS");
            return match &state.busy.2 {
                Some(after) => answer.header("retry-after", after.clone()),
                None => answer,
            };
        }
        let words: Vec<&str> = request.path.split('/').collect();
        let last = *words.last().unwrap();
        match (request.method.as_str(), words[words.len() - 2]) {
            ("GET" | "HEAD", "manifests") => match state.manifests.get(last) {
                Some((media_type, bytes)) => Answer::new(200)
                    .header("content-type", media_type.clone())
                    .header("docker-content-digest", Digest::of(bytes).to_string())
                    .body(bytes.clone()),
                None => Answer::error(404, "MANIFEST_UNKNOWN"),
            },
            ("PUT", "manifests") => {
                let digest = Digest::of(&request.body).to_string();
                let media_type = request.header("content-type").unwrap().to_owned();
                let entry = (media_type, request.body.clone());
                state.manifests.insert(last.into(), entry.clone());
                state.manifests.insert(digest.clone(), entry);
                let answer = Answer::new(201).header("docker-content-digest", digest);
                match state.referrers {
                    true => answer.header("oci-subject", "sha256:0"),
                    false => answer,
                }
            }
            ("GET", "referrers") if state.referrers => {
                let list: Vec<serde_json::Value> = state
                    .manifests
                    .iter()
                    .filter(|(name, _)| name.starts_with("sha256:"))
                    .filter_map(|(name, (media_type, bytes))| {
                        let manifest: serde_json::Value = serde_json::from_slice(bytes).ok()?;
                        (manifest["subject"]["digest"] == last).then(|| {
                            serde_json::json!({
                                "mediaType": media_type, "digest": name, "size": bytes.len(),
                                "artifactType": manifest["artifactType"],
                            })
                        })
                    })
                    .collect();
                let index = serde_json::json!({ "schemaVersion": 2,
                    "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list });
                Answer::new(200)
                    .header("content-type", "application/vnd.oci.image.index.v1+json")
                    .body(index.to_string())
            }
            ("GET" | "HEAD", "blobs") => {
                let Some(bytes) = state.blobs.get(last).cloned() else {
                    return Answer::error(404, "BLOB_UNKNOWN");
                };
                let range = request.header("range").filter(|_| !state.no_ranges);
                let from = range.map(|range| {
                    range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap()
                });
                let mut answer = match from {
                    Some(from) => {
                        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                        Answer::new(206).header("content-range", range).body(&bytes[from..])
                    }
                    None => Answer::new(200).body(bytes),
                };
                if request.method == "GET" && state.cut_downloads.1 > 0 {
                    state.cut_downloads.1 -= 1;
                    answer.cut = Some(state.cut_downloads.0);
                }
                answer
            }
            ("POST", "uploads") => {
                if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from"))
                {
                    if state.blobs.contains_key(&digest) && from == "mountable" {
                        return Answer::new(201)
                            .header("location", format!("/v2/x/blobs/{digest}"));
                    }
                }
                state.next += 1;
                let id = state.next.to_string();
                state.uploads.insert(id.clone(), Vec::new());
                Answer::new(202).header("location", format!("{}{id}?state=a", request.path))
            }
            (method, "uploads") => {
                if state.largest.is_some_and(|largest| request.body.len() > largest) {
                    return Answer::error(413, "SIZE_INVALID");
                }
                if request.header("content-range").is_some() && state.runs_late > 0 {
                    state.runs_late -= 1;
                    return Answer::error(404, "BLOB_UPLOAD_INVALID");
                }
                let Some(bytes) = state.uploads.get_mut(last) else {
                    return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
                };
                assert_eq!(request.query("state").as_deref(), Some("a"));
                if let Some(range) = request.header("content-range") {
                    let from: usize = range.split('-').next().unwrap().parse().unwrap();
                    if from != bytes.len() {
                        return Answer::error(416, "RANGE_INVALID");
                    }
                }
                bytes.extend_from_slice(&request.body);
                let received = format!("0-{}", bytes.len().saturating_sub(1));
                match method {
                    "PUT" => {
                        let bytes = state.uploads.remove(last).unwrap();
                        let digest = Digest::of(&bytes).to_string();
                        if request.query("digest") != Some(digest.clone()) {
                            return Answer::error(400, "DIGEST_INVALID");
                        }
                        state.blobs.insert(digest.clone(), bytes);
                        Answer::new(201).header("docker-content-digest", digest)
                    }
                    "DELETE" => Answer::new(204),
                    "GET" => Answer::new(204)
                        .header("range", received)
                        .header("location", format!("{}?state=a", request.path)),
                    _ => Answer::new(202)
                        .header("range", received)
                        .header("location", format!("{}?state=a", request.path)),
                }
            }
            _ => Answer::error(404, "UNSUPPORTED"),
        }
    }
}
