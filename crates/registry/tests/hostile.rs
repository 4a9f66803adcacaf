//! A registry that means harm: each time a clear error, nothing lost, nothing kept that is not
//! what was asked for, and nobody else's credentials.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::fake::Fake;
use common::server::{Answer, Handler, Request, Server};
use common::*;
use koskit_image::Store;
use koskit_llb::Digest;
use koskit_registry::{Client, Credentials, Options};

/// A registry that is honest but for what `lie` answers.
struct Liar<F> {
    honest: Fake,
    lie: F,
}

impl<F: Fn(&Request, &Fake) -> Option<Answer> + Send + Sync + 'static> Handler for Liar<F> {
    fn answer(&self, request: &Request) -> Answer {
        (self.lie)(request, &self.honest).unwrap_or_else(|| self.honest.answer(request))
    }
}

/// Starts it with an image `1` of this layer.
fn liar(
    layer: &[u8],
    lie: impl Fn(&Request, &Fake) -> Option<Answer> + Send + Sync + 'static,
) -> Server {
    let honest = Fake::default();
    honest.image("1", layer);
    Server::with(Arc::new(Liar { honest, lie }))
}

fn impatient() -> Options {
    Options { patience: Duration::from_millis(500), retries: 2, ..options() }
}

/// A pull of `a:1` fails soon, saying this, and changes nothing.
fn fails(server: &Server, expected: &str) {
    let (_folder, store) = store();
    // What is here stays.
    let mine = image(&store, "arm64", 1, 100);
    let kept = name(&server.name("a:1"));
    store.tag(&kept, &mine.descriptor).unwrap();
    let begin = Instant::now();
    let client = Client::new(impatient());
    let error = client.pull(&kept, Some(&arm64()), &store, &|_| {}).unwrap_err();
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert!(!text.contains('\u{1b}') && text.len() < 1000, "{text}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    // What it is still writing ends with it.
    drop(client);
    assert_eq!(leftovers(&store), 0);
    assert_eq!(store.find(&kept).unwrap().unwrap().digest(), mine.descriptor.digest());
    assert!(all_blobs_are_what_they_say(&store));
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn all_blobs_are_what_they_say(store: &Store) -> bool {
    let blobs = std::fs::read_dir(store.path().join("blobs/sha256")).unwrap();
    blobs.map(Result::unwrap).all(|entry| {
        let bytes = std::fs::read(entry.path()).unwrap();
        Digest::of(&bytes).hex() == entry.file_name().to_str().unwrap()
    })
}

fn of_blob(request: &Request, layer: &Digest) -> bool {
    request.method == "GET" && request.path.ends_with(layer.as_str())
}

fn of_manifest(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/manifests/")
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn blobs_of_another_length_or_with_other_bytes_are_refused() {
    let layer = noise(1, 100_000);
    let digest = Digest::of(&layer);
    let with = |body: Vec<u8>| {
        let digest = digest.clone();
        liar(&layer, move |request, _| {
            of_blob(request, &digest).then(|| Answer::new(200).body(body.clone()))
        })
    };
    fails(&with(noise(1, 100_001)), "it sends 100001 bytes, and its descriptor says 100000");
    fails(&with(noise(1, 99_999)), "it sends 99999 bytes");
    fails(&with(noise(2, 100_000)), "its bytes have the digest sha256:");
    fails(&with(Vec::new()), "it sends 0 bytes");
}

#[test]
fn a_blob_without_end_is_cut_where_its_descriptor_says() {
    let layer = noise(1, 100_000);
    let digest = Digest::of(&layer);
    let piece = noise(7, 10_000);
    let server = liar(&layer, move |request, _| {
        of_blob(request, &digest)
            .then(|| Answer::new(200).body(piece.clone()).endless(Duration::ZERO))
    });
    // The bytes up to there are others, or one chunk reaches over the end.
    let (_folder, store) = store();
    let client = Client::new(impatient());
    let error = client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {});
    let text = chain(&error.unwrap_err());
    assert!(
        text.contains("more than the 100000 bytes") || text.contains("have the digest"),
        "{text}"
    );
    drop(client);
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn parts_that_were_not_asked_for_are_refused() {
    let layer = noise(1, 100_000);
    let digest = Digest::of(&layer);
    let with = |field: &'static str| {
        let (digest, bytes) = (digest.clone(), layer.clone());
        liar(&layer, move |request, _| {
            if !of_blob(request, &digest) {
                return None;
            }
            let mut answer = Answer::new(200).body(bytes.clone());
            if request.header("range").is_some() {
                answer = Answer::new(206).header("content-range", field).body(&bytes[50_000..]);
            } else {
                answer.cut = Some(50_000);
            }
            Some(answer)
        })
    };
    fails(&with("bytes 40000-99999/100000"), "it sends \"bytes 40000-99999/100000\" for the bytes");
    fails(&with("bytes 50000-99999/200000"), "for the bytes from 50000 on");
    fails(&with("nonsense"), "it sends a part, and not which");
}

#[test]
fn what_only_drips_is_given_up() {
    let layer = noise(1, 100_000);
    let digest = Digest::of(&layer);
    let drip = Duration::from_millis(20);
    let server = liar(&layer, move |request, _| {
        of_blob(request, &digest).then(|| Answer::new(200).body("x").endless(drip))
    });
    fails(&server, "nothing came for 0.5 s");
    let server = liar(&layer, move |request, _| {
        of_manifest(request).then(|| Answer::new(200).body(" ").endless(drip))
    });
    fails(&server, "nothing came for 0.5 s");
}

#[test]
fn huge_and_endless_manifests_are_refused_before_they_are_read() {
    let with =
        |make: fn() -> Answer| liar(b"layer", move |request, _| of_manifest(request).then(make));
    let large = || Answer::new(200).header("content-type", MANIFEST).body(vec![b' '; 5 << 20]);
    fails(&with(large), "it is larger than 4194304 bytes");
    let endless = || {
        let answer = Answer::new(200).header("content-type", MANIFEST).body(vec![b' '; 1 << 16]);
        answer.endless(Duration::ZERO)
    };
    fails(&with(endless), "it is larger than 4194304 bytes");
    let lies = || Answer::new(200).header("content-length", "9223372036854775807");
    fails(&with(lies), "it is larger than 4194304 bytes");
}

#[test]
fn what_is_no_manifest_is_told_to_be_none() {
    let with = |text: &'static str, media_type: &'static str| {
        liar(b"layer", move |request, _| {
            of_manifest(request)
                .then(|| Answer::new(200).header("content-type", media_type).body(text))
        })
    };
    fails(
        &with("<html>\u{1b}[31m</html>", "text/html"),
        "gives a wrong answer for the manifest of",
    );
    fails(&with("{", MANIFEST), "EOF while parsing");
    fails(&with("[]", MANIFEST), "wrong answer");
    fails(&with("{}", MANIFEST), "missing field");
    fails(&with("{\"schemaVersion\":1}", "application/json"), "Docker's first format");
    fails(
        &with("{\"mediaType\":\"evil/\\u001b[2J\"}", "application/json"),
        "neither a manifest's nor",
    );
    let digest = "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"size\":1,\"digest\":\
        \"sha256:../../../../etc/passwd\"},\"layers\":[]}";
    fails(&with(digest, MANIFEST), "wrong answer");
}

#[test]
fn a_manifest_with_another_digest_than_was_asked_for_is_refused() {
    let server = liar(b"layer", |request, honest| {
        of_manifest(request).then(|| {
            let (_, bytes) = honest.state().manifests["1"].clone();
            Answer::new(200).header("content-type", MANIFEST).body([&bytes[..], b" "].concat())
        })
    });
    let client = Client::new(impatient());
    let honest = Digest::of(b"another");
    let error = client.document(&name(&server.name("a")).with_digest(honest)).unwrap_err();
    assert!(error.to_string().contains("instead of sha256:"), "{error}");
    let server = liar(b"layer", |request, honest| {
        let digest = Digest::of(b"another").to_string();
        of_manifest(request).then(|| {
            let mut answer = honest.answer(request);
            answer.headers.retain(|(name, _)| name != "docker-content-digest");
            answer.header("docker-content-digest", digest)
        })
    });
    let error = client.document(&name(&server.name("a:1"))).unwrap_err();
    assert!(error.to_string().contains("and not the one that is told"), "{error}");
}

#[test]
fn indexes_without_end_and_with_too_much_in_them_are_refused() {
    // Each index lists another one.
    let server = liar(b"layer", |request, honest| {
        if !of_manifest(request) {
            return None;
        }
        let mut below = honest.state().manifests["1"].1.clone();
        let mut media_type = MANIFEST;
        for _ in 0..8 {
            let (digest, size) = (Digest::of(&below), below.len());
            below = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [{
                "mediaType": media_type, "digest": digest.as_str(), "size": size,
                "platform": { "os": "linux", "architecture": "arm64" },
            }] })
            .to_string()
            .into_bytes();
            media_type = INDEX;
            let mut state = honest.state();
            state.manifests.insert(Digest::of(&below).to_string(), (INDEX.into(), below.clone()));
        }
        let name = request.path.rsplit('/').next().unwrap();
        (name == "1").then(|| Answer::new(200).header("content-type", INDEX).body(below))
    });
    fails(&server, "its indexes have no end");
    let (_folder, store) = store();
    let client = Client::new(impatient());
    let error = client.pull(&name(&server.name("a:1")), None, &store, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("it lists more than any image has"), "{error}");

    let server = liar(b"layer", |request, _| {
        let entry = serde_json::json!({
            "mediaType": MANIFEST, "digest": Digest::of(b"").as_str(), "size": 0,
        });
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; 5000],
        });
        of_manifest(request)
            .then(|| Answer::new(200).header("content-type", INDEX).body(index.to_string()))
    });
    fails(&server, "it has more than 4096 entries");
}

#[test]
fn sizes_that_no_disk_has_are_not_believed() {
    let server = liar(b"layer", |request, honest| {
        of_manifest(request).then(|| {
            let (_, bytes) = honest.state().manifests["1"].clone();
            let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            manifest["config"]["size"] = 9_000_000_000_000_000_000u64.into();
            Answer::new(200).header("content-type", MANIFEST).body(manifest.to_string())
        })
    });
    fails(&server, "it is larger than 4 MiB");
    let server = liar(b"layer", |request, honest| {
        of_manifest(request).then(|| {
            let (_, bytes) = honest.state().manifests["1"].clone();
            let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            manifest["layers"][0]["size"] = u64::MAX.into();
            Answer::new(200).header("content-type", MANIFEST).body(manifest.to_string())
        })
    });
    fails(&server, "it sends 5 bytes, and its descriptor says 18446744073709551615");
}

#[test]
fn nothing_that_is_no_http_does_harm() {
    for raw in [
        &b"\0\0\0\0"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"",
        b"SSH-2.0-OpenSSH\r\n",
    ] {
        let raw = raw.to_vec();
        let server = liar(b"layer", move |request, _| {
            of_manifest(request).then(|| Answer::raw(raw.clone()))
        });
        fails(&server, "cannot reach the registry");
    }
    let server = liar(b"layer", |request, _| {
        let field = "x".repeat(1 << 20);
        of_manifest(request).then(|| Answer::new(200).header("x", field.clone()))
    });
    fails(&server, "cannot reach the registry");
}

/// The user's password for a server.
fn with_password(server: &Server) -> (tempfile::TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let auths = serde_json::json!({ "auths": { server.host(): { "auth": "bWU6c2VjcmV0" } } });
    std::fs::write(&path, auths.to_string()).unwrap();
    (folder, Options { credentials: Credentials::file(path), ..impatient() })
}

fn asks_for_password(fake: &Fake) {
    fake.state().authorization = Some("Basic bWU6c2VjcmV0".into());
    fake.state().challenge = Some("Basic realm=\"x\"".into());
}

#[test]
fn a_redirect_is_followed_without_the_password() {
    let layer = noise(1, 50_000);
    let elsewhere = {
        let layer = layer.clone();
        Server::start(move |_: &Request| Answer::new(200).body(layer.clone()))
    };
    let (host, digest) = (elsewhere.host(), Digest::of(&layer));
    let honest = Fake::default();
    honest.image("1", &layer);
    asks_for_password(&honest);
    let server = Server::with(Arc::new(Liar {
        honest,
        lie: move |request: &Request, _: &Fake| {
            of_blob(request, &digest).then(|| {
                Answer::new(307).header("location", format!("http://{host}/blob?signed=1"))
            })
        },
    }));
    let (_folder, options) = with_password(&server);
    let (_store_folder, store) = store();
    let client = Client::new(options);
    let pulled = client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {}).unwrap();
    assert!(is_whole(&store, &pulled.images[0]));
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].query, "signed=1");
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
    // The registry itself got it, with each request but the first.
    let with = server.seen().into_iter().filter(|r| r.header("authorization").is_some()).count();
    assert!(with >= 3, "{with}");
}

#[test]
fn redirects_in_a_circle_and_to_other_things_than_http_are_refused() {
    let with = |location: &'static str| {
        liar(b"layer", move |request, _| {
            of_manifest(request).then(|| Answer::new(302).header("location", location))
        })
    };
    fails(&with("/v2/a/manifests/1"), "it redirects again and again");
    fails(&with("file:///etc/passwd"), "it leads to an address that is not HTTP");
    fails(&with("http://"), "wrong answer");
    let nowhere = liar(b"layer", |request, _| of_manifest(request).then(|| Answer::new(302)));
    fails(&nowhere, "it names no location to go on at");
}

#[test]
fn an_upload_that_is_sent_elsewhere_goes_there_without_the_password() {
    let elsewhere = Server::start(|_: &Request| Answer::new(201));
    let host = elsewhere.host();
    let honest = Fake::default();
    asks_for_password(&honest);
    let server = Server::with(Arc::new(Liar {
        honest,
        lie: move |request: &Request, honest: &Fake| {
            let begins = request.method == "POST" && request.header("authorization").is_some();
            let manifest = request.method == "PUT" && request.path.contains("/manifests/");
            match () {
                () if begins => {
                    Some(Answer::new(202).header("location", format!("http://{host}/up")))
                }
                () if manifest => Some(honest.answer(request)),
                () => None,
            }
        },
    }));
    let (_folder, options) = with_password(&server);
    let (_store_folder, store) = store();
    let image = image(&store, "arm64", 1, 1000);
    let client = Client::new(options);
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_list_that_goes_on_elsewhere_is_refused() {
    let server = liar(b"layer", |request, _| {
        let tags = request.path.ends_with("/tags/list") || request.path.contains("/referrers/");
        let index = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[],\"tags\":[]}}"
        );
        tags.then(|| {
            Answer::new(200)
                .header("content-type", INDEX)
                .header("link", "<http://127.0.0.1:1/more>; rel=\"next\"")
                .body(index)
        })
    });
    let client = Client::new(impatient());
    let error = client.tags(&name(&server.name("a"))).unwrap_err();
    assert!(error.to_string().contains("it goes on at another registry"), "{error}");
    let by_digest = name(&server.name("a")).with_digest(Digest::of(b"x"));
    let error = client.referrers(&by_digest).unwrap_err();
    assert!(error.to_string().contains("it goes on at another registry"), "{error}");
    let endless = liar(b"layer", |request, _| {
        let link = format!("<{}>; rel=next", request.path);
        request
            .path
            .ends_with("/tags/list")
            .then(|| Answer::new(200).header("link", link).body("{\"tags\":[\"a\"]}"))
    });
    let error = client.tags(&name(&endless.name("a"))).unwrap_err();
    assert!(error.to_string().contains("it has no end"), "{error}");
}

#[test]
fn a_registry_that_keeps_something_else_is_told_to() {
    let server = liar(b"layer", |request, honest| {
        (request.method == "PUT" && request.path.contains("/manifests/")).then(|| {
            let digest = Digest::of(b"another").to_string();
            let mut answer = honest.answer(request);
            answer.headers.retain(|(name, _)| name != "docker-content-digest");
            answer.header("docker-content-digest", digest)
        })
    });
    let (_folder, store) = store();
    let image = image(&store, "arm64", 1, 1000);
    let client = Client::new(impatient());
    let error =
        client.push(&store, &image.descriptor, &name(&server.name("a:2")), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("it has kept it as sha256:"), "{error}");
}

#[test]
fn an_error_page_of_any_size_is_no_more_than_a_status() {
    let server = liar(b"layer", |request, _| {
        of_manifest(request)
            .then(|| Answer::new(400).body(vec![b'x'; 1 << 16]).endless(Duration::ZERO))
    });
    fails(&server, "bad request (HTTP 400)");
}
