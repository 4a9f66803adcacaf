//! Transfers that break, registries that are busy, and those that can do less than others.

mod common;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::fake::Fake;
use common::server::{Answer, Handler, Request, Server};
use common::*;
use koskit_registry::{Client, Error, Event, Options, State, What};

fn fake() -> (Arc<Fake>, Server) {
    let fake = Arc::new(Fake::default());
    let server = Server::with(Arc::clone(&fake));
    (fake, server)
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let (fake, server) = fake();
    let layer = noise(1, 1_000_000);
    fake.image("1", &layer);
    // More often than one attempt is repeated: each brings some bytes, so it is worth it. The first
    // is the configuration, which is smaller than that.
    fake.state().cut_downloads = (100_000, 10);
    let (_folder, store) = store();
    let retries = RefCell::new(0);
    let tell = |event: &Event| {
        if let State::Retry { .. } = event.state {
            *retries.borrow_mut() += 1;
        }
    };
    let client = Client::new(options());
    let pulled = client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &tell).unwrap();
    assert!(is_whole(&store, &pulled.images[0]));
    assert!(*retries.borrow() >= 8, "{retries:?}");
    let ranges: Vec<_> =
        server.seen().into_iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges[0], "bytes=100000-");
    assert_eq!(ranges[7], "bytes=800000-");
}

#[test]
fn a_registry_without_ranges_begins_anew_and_the_blob_is_the_same() {
    let (fake, server) = fake();
    fake.image("1", &noise(1, 500_000));
    (fake.state().cut_downloads, fake.state().no_ranges) = ((300_000, 3), true);
    let (_folder, store) = store();
    let client = Client::new(options());
    let pulled = client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {}).unwrap();
    assert!(is_whole(&store, &pulled.images[0]));
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn a_download_that_breaks_each_time_at_once_ends_with_an_error_and_leaves_nothing() {
    let (fake, server) = fake();
    fake.image("1", &noise(1, 500_000));
    fake.state().cut_downloads = (0, usize::MAX);
    let (_folder, store) = store();
    let client = Client::new(options());
    let error =
        client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {}).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    drop(client);
    assert_eq!(leftovers(&store), 0);
    assert!(store.list().unwrap().is_empty());
    // And the next pull has it all.
    fake.state().cut_downloads = (0, 0);
    let client = Client::new(options());
    client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {}).unwrap();
}

#[test]
fn what_a_stopped_pull_has_left_is_not_fetched_again() {
    let (fake, server) = fake();
    let layer = noise(1, 5_000_000);
    fake.image("1", &layer);
    let (_folder, store) = store();
    let pull = |retries| {
        let client = Client::new(Options { retries, ..options() });
        client.pull(&name(&server.name("a:1")), Some(&arm64()), &store, &|_| {})
    };
    fake.state().cut_downloads = (2_000_000, 2);
    assert!(pull(0).is_err());
    assert_eq!(leftovers(&store), 1);
    fake.state().cut_downloads = (0, 0);
    let pulled = pull(0).unwrap();
    assert!(is_whole(&store, &pulled.images[0]));
    assert_eq!(leftovers(&store), 0);
    let ranges = server.seen().into_iter().filter_map(|r| r.header("range").map(str::to_owned));
    assert_eq!(ranges.collect::<Vec<_>>(), ["bytes=2000000-"]);

    // Where what was left is wrong, all of it is fetched.
    let (_other_folder, other) = common::store();
    let part = other.path().join(format!("ingest/{}.part", koskit_llb::Digest::of(&layer).hex()));
    std::fs::write(&part, noise(2, 3_000_000)).unwrap();
    let client = Client::new(options());
    let pulled = client.pull(&name(&server.name("a:1")), Some(&arm64()), &other, &|_| {}).unwrap();
    assert!(is_whole(&other, &pulled.images[0]));
    std::fs::write(&part, noise(2, 9_000_000)).unwrap();
    std::fs::remove_file(other.blob_path(&koskit_llb::Digest::of(&layer))).unwrap();
    client.pull(&name(&server.name("a:1")), Some(&arm64()), &other, &|_| {}).unwrap();
    assert!(is_whole(&other, &pulled.images[0]));
}

#[test]
fn an_upload_that_breaks_goes_on_where_it_was() {
    let (fake, server) = fake();
    fake.state().cut_uploads = (400_000, 3);
    let (_folder, store) = store();
    let image = image(&store, "arm64", 1, 1_500_000);
    let client = Client::new(options());
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    let layer = &image.layers[0];
    assert_eq!(fake.state().blobs[layer.digest.as_str()].len() as u64, layer.size);
    let ranges: Vec<_> = server.seen();
    let ranges = ranges.iter().filter(|r| r.method == "PATCH");
    let ranges: Vec<_> = ranges.map(|r| r.header("content-range").unwrap().to_owned()).collect();
    assert!(ranges.iter().any(|range| range.starts_with("400000-")), "{ranges:?}");
    assert!(ranges.iter().any(|range| range.starts_with("800000-")), "{ranges:?}");
}

/// Reads no large blob before a small one comes.
#[derive(Default)]
struct SmallFirst {
    fake: Fake,
    came: AtomicBool,
    gave_up: AtomicBool,
}

impl Handler for SmallFirst {
    fn cut(&self, request: &Request) -> Option<usize> {
        if request.method == "PUT" && request.path.contains("/uploads/") {
            let length: usize = request.header("content-length").unwrap().parse().unwrap();
            if length < 1000 {
                self.came.store(true, Ordering::Relaxed);
            }
            let begin = Instant::now();
            while !self.came.load(Ordering::Relaxed) && !self.gave_up.load(Ordering::Relaxed) {
                self.gave_up.store(begin.elapsed().as_secs() > 20, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        None
    }

    fn answer(&self, request: &Request) -> Answer {
        self.fake.answer(request)
    }
}

#[test]
fn a_small_blob_does_not_wait_for_large_ones() {
    let registry = Arc::new(SmallFirst::default());
    let server = Server::with(Arc::clone(&registry));
    let (_folder, store) = store();
    let image = image(&store, "arm64", 4, 8 << 20);
    let client = Client::new(options());
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    assert!(registry.came.load(Ordering::Relaxed) && !registry.gave_up.load(Ordering::Relaxed));
}

#[test]
fn a_registry_that_forgets_what_has_arrived_gets_it_anew() {
    let (fake, server) = fake();
    (fake.state().cut_uploads, fake.state().forgets) = ((400_000, 3), true);
    let (_folder, store) = store();
    let image = image(&store, "arm64", 2, 600_000);
    let client = Client::new(options());
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    for layer in &image.layers {
        assert!(fake.state().blobs.contains_key(layer.digest.as_str()));
    }
    assert!(fake.state().manifests.contains_key("1"));
}

#[test]
fn a_registry_that_has_more_than_it_told_gets_it_anew() {
    let (fake, server) = fake();
    (fake.state().cut_uploads, fake.state().runs_late) = ((400_000, 3), 1);
    let (_folder, store) = store();
    let image = image(&store, "arm64", 1, 600_000);
    let client = Client::new(options());
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    assert_eq!(fake.state().runs_late, 0);
    assert!(fake.state().blobs.contains_key(image.layers[0].digest.as_str()));
}

#[test]
fn a_registry_that_takes_only_small_requests_gets_chunks() {
    let (fake, server) = fake();
    fake.state().largest = Some(9 << 20);
    let (_folder, store) = store();
    let image = image(&store, "arm64", 1, 20 << 20);
    let client = Client::new(options());
    client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap();
    assert!(fake.state().blobs.contains_key(image.layers[0].digest.as_str()));
    assert_eq!(server.count("PATCH", "/uploads/"), 3);
    fake.state().largest = Some(1000);
    let other = common::image(&store, "arm64", 2, 2_000_000);
    let error =
        client.push(&store, &other.descriptor, &name(&server.name("a:2")), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("takes no requests of"), "{error}");
    assert!(!fake.state().manifests.contains_key("2"));
}

#[test]
fn a_busy_registry_is_asked_again_and_as_late_as_it_wants() {
    let (fake, server) = fake();
    fake.image("1", b"layer");
    let client = Client::new(options());
    let reference = name(&server.name("a:1"));
    fake.state().busy = (3, 503, None);
    client.document(&reference).unwrap();
    fake.state().busy = (1, 429, Some("1".into()));
    let begin = std::time::Instant::now();
    client.document(&reference).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    fake.state().busy = (1, 429, Some("3600".into()));
    let error = client.document(&reference).unwrap_err();
    assert!(matches!(&error, Error::Wait { wait, .. } if wait.as_secs() == 3600), "{error}");
    fake.state().busy = (100, 500, None);
    let error = client.document(&reference).unwrap_err();
    assert!(error.to_string().contains("toomanyrequests: TOOMANYREQUESTS it is"), "{error}");
    assert_eq!(fake.state().busy.0, 100 - 6, "six attempts are enough");
}

#[test]
fn a_copy_that_breaks_on_either_side_goes_on() {
    let (from, source) = fake();
    let (to, target) = fake();
    let layer = noise(3, 1_000_000);
    let digest = from.image("1", &layer);
    from.state().cut_downloads = (300_000, 2);
    to.state().cut_uploads = (500_000, 2);
    let client = Client::new(options());
    let copied = client
        .copy(&name(&source.name("a:1")), &name(&target.name("b:2")), What::All, &|_| {})
        .unwrap();
    assert_eq!(copied.as_str(), digest);
    assert!(to.state().blobs.values().any(|blob| *blob == layer));
    assert!(to.state().manifests.contains_key("2"));
}

#[test]
fn referrers_are_listed_by_a_tag_where_the_registry_has_no_list() {
    for knows in [false, true] {
        let (fake, server) = fake();
        fake.state().referrers = knows;
        let subject = fake.image("1", b"layer");
        let client = Client::new(options());
        let repository = name(&server.name("a:1"));
        let about = client.document(&repository).unwrap().descriptor;
        let empty = koskit_image::oci::MediaType::EmptyJSON;
        let empty = client.put_blob(&repository, empty, b"{}".to_vec()).unwrap();
        for kind in ["application/vnd.one", "application/vnd.two", "application/vnd.one"] {
            let bytes = serde_json::json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "artifactType": kind, "config": empty, "layers": [empty], "subject": about,
            });
            let bytes = bytes.to_string().into_bytes();
            let document = koskit_registry::Document::parse(None, bytes).unwrap();
            let name = repository.clone().with_digest(document.digest());
            client.put_document(&name, &document).unwrap();
        }
        let by_digest = repository.clone().with_digest(subject.parse().unwrap());
        let listed = client.referrers(&by_digest).unwrap();
        let kinds = listed.iter().map(|one| one.artifact_type().as_ref().unwrap().to_string());
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort();
        assert_eq!(kinds, ["application/vnd.one", "application/vnd.two"], "{knows}");
        let tag = format!("sha256-{}", &subject["sha256:".len()..]);
        assert_eq!(fake.state().manifests.contains_key(&tag), !knows);
    }
}

#[test]
fn a_blob_that_is_damaged_here_is_told_to_be() {
    let (_fake, server) = fake();
    let (_folder, store) = store();
    let image = image(&store, "arm64", 1, 1000);
    let path = store.blob_path(&image.layers[0].digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[500] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let client = Client::new(options());
    let error =
        client.push(&store, &image.descriptor, &name(&server.name("a:1")), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn a_connection_that_is_silent_is_given_up() {
    let server = Server::start(|request: &common::server::Request| {
        if request.path != "/v2/" {
            std::thread::sleep(Duration::from_secs(20));
        }
        common::server::Answer::new(200)
    });
    let patience = Duration::from_millis(300);
    let client = Client::new(Options { patience, retries: 1, ..options() });
    let begin = std::time::Instant::now();
    let error = client.document(&name(&server.name("a:1"))).unwrap_err();
    assert!(error.to_string().contains("cannot reach"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}
