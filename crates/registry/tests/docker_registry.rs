//! Against Debian's docker-registry, beside skopeo.

mod common;

use std::cell::RefCell;

use common::*;
use koskit_registry::{Client, Error, Event, State, What};
use koskit_tests::registry::{Registry, Setup};

const ALL: [Setup; 4] = [
    Setup { password: false, tls: false },
    Setup { password: true, tls: false },
    Setup { password: false, tls: true },
    Setup { password: true, tls: true },
];

#[test]
fn what_was_pushed_is_pulled_with_and_without_password_and_tls() {
    for setup in ALL {
        let Some(registry) = Registry::with(setup) else { return };
        let client = client_of(&registry, setup.password, setup.tls);
        let (_here, store) = store();
        let image = image(&store, "arm64", 3, 300_000);
        let to = name(&registry.name("a/b:1"));
        let digest = client.push(&store, &image.descriptor, &to, &|_| {}).unwrap();
        assert_eq!(digest, image.digest());

        let (_there, other) = common::store();
        let pulled = client.pull(&to, Some(&arm64()), &other, &|_| {}).unwrap();
        assert_eq!(pulled.descriptor.digest(), image.descriptor.digest(), "{setup:?}");
        assert_eq!(pulled.images.len(), 1);
        assert!(is_whole(&other, &pulled.images[0]));
        assert_eq!(leftovers(&other), 0);
    }
}

#[test]
fn without_the_password_or_the_certificate_there_is_an_error_that_says_what_to_do() {
    let Some(registry) = Registry::with(Setup { password: true, tls: true }) else { return };
    let to = name(&registry.name("a:1"));
    let error = client_of(&registry, false, true).document(&to).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("koskit login 127.0.0.1:"), "{error}");
    let error = client_of(&registry, true, false).document(&to).unwrap_err();
    assert!(
        matches!(&error, Error::Connection { source, .. }
        if source.to_string().contains("certificate")),
        "{error:?}"
    );
    let error = client_of(&registry, true, true).document(&to).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("manifest unknown"), "{error}");
}

#[test]
fn an_index_is_pushed_and_pulled_whole_or_for_one_platform() {
    let Some(registry) = Registry::start() else { return };
    let client = Client::new(options());
    let (_here, store) = store();
    let (arm, intel) = (image(&store, "arm64", 2, 1000), image(&store, "amd64", 3, 2000));
    let all = [(arm64(), arm.descriptor.clone()), (amd64(), intel.descriptor.clone())];
    let index = store.add_index(&all).unwrap();
    let to = name(&registry.name("multi"));
    client.push(&store, &index, &to, &|_| {}).unwrap();

    let (_there, other) = common::store();
    let pulled = client.pull(&to, Some(&amd64()), &other, &|_| {}).unwrap();
    assert_eq!(pulled.descriptor.digest(), index.digest());
    assert_eq!(pulled.images[0].digest(), intel.digest());
    assert!(is_whole(&other, &pulled.images[0]));
    assert!(!other.has_blob(&arm.digest()), "what was not asked for is not fetched");
    let error =
        client.pull(&to, Some(&"linux/s390x".parse().unwrap()), &other, &|_| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is not for linux/s390x, but for linux/amd64, linux/arm64"), "{text}");

    // An index of which a part is missing is pushed where the part is, and nowhere else.
    client.push(&other, &index, &to, &|_| {}).unwrap();
    let elsewhere = name(&registry.name("elsewhere"));
    let error = client.push(&other, &index, &elsewhere, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("the image for linux/arm64 is missing"), "{error}");

    let pulled = client.pull(&to, None, &other, &|_| {}).unwrap();
    assert_eq!(pulled.images.len(), 2);
    assert!(pulled.images.iter().all(|image| is_whole(&other, image)));
}

#[test]
fn resolving_fetches_no_layers_and_each_can_be_fetched_later() {
    let Some(registry) = Registry::start() else { return };
    let client = Client::new(options());
    let (_here, store) = store();
    let image = image(&store, "arm64", 3, 1000);
    let to = name(&registry.name("lazy"));
    client.push(&store, &image.descriptor, &to, &|_| {}).unwrap();
    let (_there, other) = common::store();
    let resolved = client.resolve(&to, &arm64(), &other).unwrap();
    let layers = &resolved.images[0].layers;
    assert!(layers.iter().all(|layer| !other.has_blob(&layer.digest)));
    client.layer(&to, &layers[1], &other, &|_| {}).unwrap();
    let there: Vec<bool> = layers.iter().map(|layer| other.has_blob(&layer.digest)).collect();
    assert_eq!(there, [false, true, false]);
    other.complete(&resolved.images[0].layers, &client).unwrap();
    assert!(is_whole(&other, &resolved.images[0]));

    // An image on such a base is pushed, although the base was never here.
    let (_third, third) = common::store();
    let resolved = client.resolve(&to, &arm64(), &third).unwrap();
    let mut layers = resolved.images[0].layers.clone();
    layers.push(layer(&third, 9, 100));
    let config = serde_json::json!({ "os": "linux", "architecture": "arm64" });
    let built = third.add_image(&config, &layers).unwrap();
    let Some(elsewhere) = Registry::start() else { return };
    for target in [registry.name("built"), elsewhere.name("built")] {
        client.push(&third, &built.descriptor, &name(&target), &|_| {}).unwrap();
        let (_fourth, fourth) = common::store();
        let pulled = client.pull(&name(&target), Some(&arm64()), &fourth, &|_| {}).unwrap();
        assert!(is_whole(&fourth, &pulled.images[0]));
    }
    assert!(!third.has_blob(&layers[0].digest));
}

#[test]
fn skopeo_reads_what_we_push_and_we_read_what_skopeo_pushes() {
    for setup in ALL {
        let Some(registry) = Registry::with(setup) else { return };
        if !koskit_tests::registry::installed("skopeo") {
            return koskit_tests::skip("there is no skopeo");
        }
        let client = client_of(&registry, setup.password, setup.tls);
        let (here, store) = store();
        let image = image(&store, "arm64", 2, 100_000);
        let ours = name(&registry.name("ours:1"));
        client.push(&store, &image.descriptor, &ours, &|_| {}).unwrap();
        let said =
            must(registry.skopeo("inspect", "").arg("--raw").arg(format!("docker://{ours}")));
        assert_eq!(koskit_llb::Digest::of(said.as_bytes()), image.digest());

        // In Docker's own format, through skopeo, from a layout.
        let layout = here.path().join("layout");
        store.export(&[koskit_image::Export::of(&image, Some(&ours))], &layout).unwrap();
        let theirs = registry.name("theirs:1");
        let from = format!("oci:{}:1", layout.display());
        must(registry.skopeo("copy", "dest").args([
            "--format",
            "v2s2",
            &from,
            &format!("docker://{theirs}"),
        ]));
        let (_there, other) = common::store();
        let pulled = client.pull(&name(&theirs), Some(&arm64()), &other, &|_| {}).unwrap();
        assert!(pulled.descriptor.media_type().as_ref().contains("docker"), "{setup:?}");
        assert!(is_whole(&other, &pulled.images[0]));
        assert_eq!(pulled.images[0].layers[0].diff_id, image.layers[0].diff_id);
    }
}

#[test]
fn a_blob_that_another_repository_has_is_mounted_and_one_that_is_there_not_sent() {
    let Some(registry) = Registry::start() else { return };
    let client = Client::new(options());
    let (_here, store) = store();
    let image = image(&store, "arm64", 2, 5000);
    let base = name(&registry.name("base:1"));
    client.push(&store, &image.descriptor, &base, &|_| {}).unwrap();
    store.tag(&base, &image.descriptor).unwrap();

    let told = RefCell::new(Vec::new());
    let tell = |event: &Event| {
        let state = match &event.state {
            State::Mounted(from) => format!("mounted from {from}"),
            State::Present => "present".into(),
            State::Done => "done".into(),
            _ => return,
        };
        told.borrow_mut().push((event.digest.clone(), state));
    };
    let state = |digest: &koskit_llb::Digest| {
        told.borrow().iter().find(|(told, _)| told == digest).map(|(_, state)| state.clone())
    };
    let more = layer(&store, 77, 100);
    let layers = [image.layers[0].clone(), image.layers[1].clone(), more.clone()];
    let config = serde_json::json!({ "os": "linux", "architecture": "arm64" });
    let built = store.add_image(&config, &layers).unwrap();
    let to = name(&registry.name("other/app"));
    client.push(&store, &built.descriptor, &to, &tell).unwrap();
    assert_eq!(state(&layers[0].digest).unwrap(), "mounted from base");
    assert_eq!(state(&more.digest).unwrap(), "done");
    told.borrow_mut().clear();
    client.push(&store, &built.descriptor, &to, &tell).unwrap();
    assert!(layers.iter().all(|layer| state(&layer.digest).unwrap() == "present"));
}

#[test]
fn an_upload_in_chunks_is_the_same_blob() {
    let Some(registry) = Registry::start() else { return };
    let client = Client::new(koskit_registry::Options { chunk: Some(100_000), ..options() });
    let (_here, store) = store();
    let image = image(&store, "arm64", 2, 350_000);
    let to = name(&registry.name("chunks"));
    client.push(&store, &image.descriptor, &to, &|_| {}).unwrap();
    assert!(registry.log().matches("PATCH").count() >= 8);
    let (_there, other) = common::store();
    let pulled = client.pull(&to, Some(&arm64()), &other, &|_| {}).unwrap();
    assert!(is_whole(&other, &pulled.images[0]));
}

#[test]
fn a_copy_between_registries_has_everything_and_nothing_stays_here() {
    let (Some(one), Some(two)) =
        (Registry::start(), Registry::with(Setup { password: true, tls: true }))
    else {
        return;
    };
    let client = client_of(&two, true, true);
    let (_here, store) = store();
    let (arm, intel) = (image(&store, "arm64", 2, 1000), image(&store, "amd64", 2, 400_000));
    let all = [(arm64(), arm.descriptor.clone()), (amd64(), intel.descriptor.clone())];
    let index = store.add_index(&all).unwrap();
    let from = name(&one.name("multi:1"));
    client.push(&store, &index, &from, &|_| {}).unwrap();
    // Something that refers to one of the images, as a signature does.
    let signature = artifact(&client, &from, &arm.descriptor, "application/vnd.example.signature");

    let to = name(&two.name("a/copy:2"));
    let digest = client.copy(&from, &to, What::All, &|_| {}).unwrap();
    assert_eq!(digest.as_str(), index.digest().as_ref());
    let (_there, other) = common::store();
    let pulled = client.pull(&to, None, &other, &|_| {}).unwrap();
    assert_eq!(pulled.images.len(), 2);
    assert!(pulled.images.iter().all(|image| is_whole(&other, image)));
    let listed = client.referrers(&to.clone().with_digest(arm.digest())).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest(), signature.digest());
    let kind = listed[0].artifact_type().as_ref().unwrap().to_string();
    assert_eq!(kind, "application/vnd.example.signature");

    // Within one registry, blobs are mounted.
    let mounted = RefCell::new(0);
    let near = name(&two.name("b/near:3"));
    let count = |event: &Event| {
        if let State::Mounted(from) = event.state {
            assert_eq!(from, "a/copy");
            *mounted.borrow_mut() += 1;
        }
    };
    client.copy(&to, &near, What::WithoutReferrers, &count).unwrap();
    assert!(*mounted.borrow() >= 3, "{mounted:?}");
    assert!(client.referrers(&near.clone().with_digest(arm.digest())).unwrap().is_empty());
}

#[test]
fn tags_are_listed_and_a_digest_names_a_manifest() {
    let Some(registry) = Registry::start() else { return };
    let client = Client::new(options());
    let (_here, store) = store();
    let image = image(&store, "arm64", 1, 10);
    for tag in ["a", "b"] {
        client
            .push(&store, &image.descriptor, &name(&registry.name(&format!("x:{tag}"))), &|_| {})
            .unwrap();
    }
    assert_eq!(client.tags(&name(&registry.name("x"))).unwrap(), ["a", "b"]);
    let by_digest = name(&registry.name("x")).with_digest(image.digest());
    assert_eq!(client.document(&by_digest).unwrap().digest(), image.digest());
    let other = name(&registry.name("x:a")).with_digest(koskit_llb::Digest::of(b"x"));
    assert!(client.push(&store, &image.descriptor, &other, &|_| {}).is_err());
}

#[test]
fn connections_that_break_again_and_again_do_no_harm() {
    let Some(registry) = Registry::start() else { return };
    // Four connections of each kind end after some bytes of a blob.
    let proxy = proxy::start(registry.host(), 400_000, 4);
    let client = Client::new(options());
    let (_here, store) = store();
    let image = image(&store, "arm64", 3, 1_000_000);
    let through = name(&format!("{}/broken:1", proxy.host()));
    let told = RefCell::new(0);
    let tell = |event: &Event| {
        if let State::Retry { .. } = event.state {
            *told.borrow_mut() += 1;
        }
    };
    client.push(&store, &image.descriptor, &through, &tell).unwrap();
    assert!(*told.borrow() >= 1, "nothing broke");
    *told.borrow_mut() = 0;
    proxy.again(4);
    let (_there, other) = common::store();
    let pulled = client.pull(&through, Some(&arm64()), &other, &tell).unwrap();
    assert!(is_whole(&other, &pulled.images[0]));
    assert!(*told.borrow() >= 1, "nothing broke");
}

/// Pushes an artifact that is about a document.
fn artifact(
    client: &Client,
    repository: &koskit_llb::Reference,
    subject: &koskit_image::oci::Descriptor,
    kind: &str,
) -> koskit_image::oci::Descriptor {
    let empty = client
        .put_blob(repository, koskit_image::oci::MediaType::EmptyJSON, b"{}".to_vec())
        .unwrap();
    let bytes = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": {
            "mediaType": subject.media_type(), "digest": subject.digest(), "size": subject.size(),
        },
    }));
    let document = koskit_registry::Document::parse(None, bytes.unwrap()).unwrap();
    let name = repository.clone().with_digest(document.digest());
    client.put_document(&name, &document).unwrap();
    document.descriptor
}
