//! What the store writes, judged by others: the OCI's own JSON schemas, where they are at hand
//! (`../shared/conformance`, seen from the project's root), and skopeo, where it is installed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use jsonschema::{Retrieve, Uri, Validator};
use koskit_image::{Archive, Export, Limits, NodeKind, Store, Tree};
use serde_json::{Value, json};

/// Finds schemas by the last part of their name: they refer to each other by URL.
struct Folder(PathBuf);

impl Folder {
    /// The folder, or `None` with a note that the test was skipped.
    fn find() -> Option<Self> {
        let root = match std::env::var_os("KOSKIT_CONFORMANCE") {
            Some(root) => PathBuf::from(root),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        };
        let folder = root.join("oci-image");
        if !folder.is_dir() {
            println!("skipped: {} is not there", folder.display());
            return None;
        }
        Some(Self(folder))
    }

    fn read(&self, name: &str) -> Value {
        read(&self.0.join(name))
    }

    fn schema(&self, name: &str) -> Validator {
        let options = jsonschema::options().with_retriever(Self(self.0.clone()));
        options.build(&self.read(name)).unwrap()
    }
}

impl Retrieve for Folder {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        Ok(serde_json::from_slice(&fs::read(self.0.join(name))?)?)
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn valid(schema: &Validator, document: &Value) {
    let errors: Vec<String> =
        schema.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn blob(store: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    read(&store.join("blobs/sha256").join(hex))
}

#[test]
fn all_documents_of_a_store_and_of_an_export_are_valid() {
    let Some(folder) = Folder::find() else { return };
    let (directory, store) = store();
    let arm = image(&store, &[archive(&[file("hello", "x")]), archive(&[file("b", "y")])]);
    let mut config = arm.config_json.clone();
    config["architecture"] = json!("amd64");
    let intel = store.add_image(&config, &arm.layers).unwrap();
    let name = "hello".parse().unwrap();
    store.tag(&name, &arm.descriptor).unwrap();
    store.tag_platform(&name, &intel).unwrap();
    store.tag(&"other:1".parse().unwrap(), &arm.descriptor).unwrap();
    let exported = directory.path().join("exported");
    store.export(&[Export::of(&arm, Some(&name))], &exported).unwrap();

    let (index, layout) =
        (folder.schema("image-index-schema.json"), folder.schema("image-layout-schema.json"));
    for root in [store.path(), &exported] {
        valid(&index, &read(&root.join("index.json")));
        valid(&layout, &read(&root.join("oci-layout")));
    }
    let both = store.find(&name).unwrap().unwrap();
    valid(&index, &blob(store.path(), &json!(both.digest().as_ref())));
    for image in [&arm, &intel] {
        let manifest = blob(store.path(), &json!(image.digest().as_str()));
        valid(&folder.schema("image-manifest-schema.json"), &manifest);
        let config = blob(store.path(), &manifest["config"]["digest"]);
        valid(&folder.schema("config-schema.json"), &config);
    }
}

#[test]
fn the_schemas_do_find_mistakes() {
    let Some(folder) = Folder::find() else { return };
    let manifest = folder.schema("image-manifest-schema.json");
    assert!(!manifest.is_valid(&json!({ "schemaVersion": 1, "config": {}, "layers": [] })));
    // Behind a reference to another file.
    let bad = json!({ "mediaType": "a/b", "size": 1, "digest": "no digest" });
    assert!(!folder.schema("image-index-schema.json").is_valid(&json!({
        "schemaVersion": 2, "manifests": [bad],
    })));
}

/// skopeo's output, or `None` with a note that the test was skipped.
fn skopeo(arguments: &[&str]) -> Option<Vec<u8>> {
    let Ok(output) = Command::new("skopeo").args(arguments).output() else {
        println!("skipped: skopeo is not installed");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {error}");
    Some(output.stdout)
}

#[test]
fn skopeo_inspects_and_copies_what_the_store_exports() {
    let (directory, store) = store();
    let image = image(&store, &[archive(&[directory_entry(), file("d/hello", "hi")])]);
    let exported = directory.path().join("exported");
    let images = [Export::of(&image, Some(&"hello:1".parse().unwrap()))];
    store.export(&images, &exported).unwrap();
    let from = format!("oci:{}:1", exported.display());
    // The platform is arm64's, whatever this machine is.
    let platform = ["--override-os=linux", "--override-arch=arm64"];

    let arguments = [platform[0], platform[1], "inspect", &from];
    let Some(inspected) = skopeo(&arguments) else { return };
    let inspected: Value = serde_json::from_slice(&inspected).unwrap();
    assert_eq!(inspected["Digest"], image.digest().as_str());
    assert_eq!(inspected["Architecture"], "arm64");
    assert_eq!(inspected["Labels"]["com.koskit.app.name"], "hello");
    assert_eq!(inspected["Layers"], json!([image.layers[0].digest.as_str()]));

    let copied = directory.path().join("copied");
    let to = format!("oci:{}:2", copied.display());
    let policy = directory.path().join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let policy = format!("--policy={}", policy.display());
    skopeo(&[&policy, platform[0], platform[1], "copy", &from, &to]).unwrap();
    let archived = directory.path().join("hello.tar");
    store.export_archive(&images, Archive::Oci, &archived).unwrap();
    let from = format!("oci-archive:{}:1", archived.display());
    let twice = format!("oci:{}:3", copied.display());
    skopeo(&[&policy, platform[0], platform[1], "copy", &from, &twice]).unwrap();

    // And what skopeo wrote is a store.
    let opened = Store::open(&copied).unwrap();
    let index = read(&copied.join("index.json"));
    let descriptors: Vec<_> = index["manifests"].as_array().unwrap().to_vec();
    assert_eq!(descriptors.len(), 2);
    for descriptor in descriptors {
        let descriptor = serde_json::from_value(descriptor).unwrap();
        let image = opened.image(&descriptor).unwrap();
        let tree = Tree::read(&opened, &image, &Limits::default()).unwrap();
        assert_eq!(tree.get("d/hello").unwrap().kind, NodeKind::File(b"hi"[..].into()));
    }
}

fn directory_entry() -> Raw {
    common::directory("d")
}
