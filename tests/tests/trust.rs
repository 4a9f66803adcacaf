//! Signatures, the policy of what may run, and bills of materials: what a user sees, and whether
//! strangers understand it.

use koskit_tests::registry::Registry;
use koskit_tests::{Home, Peers, Said, skip};
use std::fs;
use std::process::Command;

const PASSWORD: &str = "a password";

/// A home with an image `app`, and a key pair `NAME.key`, `NAME.pub` for each name.
fn home(keys: &[&str]) -> Home {
    let home = Home::new();
    home.write("app/Dockerfile", "FROM scratch\nCOPY Cargo.lock /src/\nENTRYPOINT [\"/app\"]\n");
    home.write(
        "app/Cargo.lock",
        "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\n",
    );
    home.must(&["build", "-q", "-t", "app", "app"]);
    for key in keys {
        assert_eq!(
            with_password(&home, &["trust", "generate", "--output-key-prefix", key]).code,
            0
        );
    }
    home
}

fn with_password(home: &Home, words: &[&str]) -> Said {
    Said::of(home.command(words).env("COSIGN_PASSWORD", PASSWORD).output().unwrap())
}

#[test]
fn what_is_signed_verifies_and_what_has_changed_does_not() {
    let home = home(&["mine", "other"]);
    let unsigned = home.koskit(&["verify", "--key", "mine.pub", "app"]);
    assert_eq!(unsigned.code, 1);
    assert!(unsigned.stderr.contains("is not signed"), "{}", unsigned.stderr);

    let signed = with_password(&home, &["sign", "--key", "mine.key", "-a", "by=test", "app"]);
    assert_eq!(signed.code, 0, "{}", signed.stderr);
    let said = home.must(&["verify", "--key", "mine.pub", "app"]);
    let payloads: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let digest = &home.inspect("app")["Digest"];
    assert_eq!(payloads[0]["critical"]["image"]["docker-manifest-digest"], *digest);
    assert_eq!(payloads[0]["optional"]["by"], "test");
    assert_eq!(home.must(&["images", "-q"]).stdout.lines().count(), 1, "signatures are no images");

    let other = home.koskit(&["verify", "--key", "other.pub", "app"]);
    assert!(other.stderr.contains("is signed, but not by that key"), "{}", other.stderr);
    home.must(&["build", "-q", "-t", "app", "--label", "changed=yes", "app"]);
    let changed = home.koskit(&["verify", "--key", "mine.pub", "app"]);
    assert_eq!((changed.code, changed.stdout.as_str()), (1, ""));
}

#[test]
fn a_key_opens_with_its_password_only_and_is_never_written_over() {
    let home = home(&["mine"]);
    let mut wrong = home.command(&["sign", "--key", "mine.key", "app"]);
    let wrong = Said::of(wrong.env("COSIGN_PASSWORD", "another").output().unwrap());
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("the password is wrong"), "{}", wrong.stderr);
    let none = home.koskit(&["sign", "--key", "mine.key", "app"]);
    assert!(none.stderr.contains("set COSIGN_PASSWORD"), "{}", none.stderr);
    let before = fs::read(home.path().join("mine.key")).unwrap();
    let again = with_password(&home, &["trust", "generate", "--output-key-prefix", "mine"]);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    assert_eq!(fs::read(home.path().join("mine.key")).unwrap(), before);
    let public = home.koskit(&["sign", "--key", "mine.pub", "app"]);
    assert!(public.stderr.contains("the key mine.pub cannot be used"), "{}", public.stderr);
}

#[test]
fn only_what_the_policy_allows_is_run() {
    let home = home(&["mine"]);
    let run = || home.koskit(&["run", "app"]);
    // It has no program: the next thing after the policy that is wrong with it.
    let no_program = "the program \"/app\" cannot be found";
    assert!(run().stderr.contains(no_program), "{}", run().stderr);

    home.must(&["trust", "set", "--type", "reject", "default"]);
    let refused = run();
    assert_eq!(refused.code, 125);
    assert!(refused.stderr.contains("the image app may not run"), "{}", refused.stderr);
    assert!(refused.stderr.contains("refuses all images of default"), "{}", refused.stderr);

    home.must(&["trust", "set", "--key", "mine.pub", "docker.io/library"]);
    assert!(run().stderr.contains("it is not signed"), "{}", run().stderr);
    assert_eq!(with_password(&home, &["sign", "--key", "mine.key", "app"]).code, 0);
    assert!(run().stderr.contains(no_program), "{}", run().stderr);

    let shown = home.must(&["trust", "show"]).stdout;
    let rows: Vec<Vec<&str>> =
        shown.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let expected =
        [["SCOPE", "TYPE"], ["docker.io/library", "sigstoreSigned"], ["default", "reject"]];
    assert_eq!(rows, expected);
    home.must(&["trust", "remove", "docker.io/library"]);
    assert_eq!(run().code, 125);
}

#[test]
fn a_policy_that_cannot_be_understood_lets_nothing_run() {
    let home = home(&[]);
    home.write("config/koskit/policy.json", r#"{"default": [{"type": "signedBy"}]}"#);
    let said = home.koskit(&["run", "app"]);
    assert_eq!(said.code, 125);
    assert!(said.stderr.contains("is not one that koskit can obey"), "{}", said.stderr);
}

#[test]
fn a_bill_of_materials_lists_what_is_in_the_image() {
    let home = home(&[]);
    let spdx: serde_json::Value =
        serde_json::from_str(&home.must(&["sbom", "app"]).stdout).unwrap();
    let purl = |package: &serde_json::Value| {
        package["externalRefs"][0]["referenceLocator"].as_str().unwrap().to_owned()
    };
    let packages: Vec<String> = spdx["packages"].as_array().unwrap().iter().map(purl).collect();
    assert_eq!(packages[1..], ["pkg:cargo/serde@1.0.2"]);
    home.must(&["sbom", "--format", "cyclonedx", "-o", "bom.json", "app"]);
    let bom = fs::read_to_string(home.path().join("bom.json")).unwrap();
    let bom: serde_json::Value = serde_json::from_str(&bom).unwrap();
    assert_eq!(bom["components"][0]["purl"], "pkg:cargo/serde@1.0.2");
}

/// Debian's tool for keys and signatures on the same curve.
#[test]
fn openssl_verifies_our_signatures_and_we_sign_with_its_keys() {
    let openssl = |home: &Home, words: &[&str]| {
        let output = Command::new("openssl").args(words).current_dir(home.path()).output();
        Said::of(output.unwrap())
    };
    if Command::new("openssl").arg("version").output().is_err() {
        return skip("there is no openssl");
    }
    let home = home(&[]);
    let made =
        openssl(&home, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "k"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(openssl(&home, &["ec", "-in", "k", "-pubout", "-out", "k.pub"]).code, 0);
    home.must(&["sign", "--key", "k", "app"]);
    let said = home.must(&["verify", "--key", "k.pub", "app"]);

    // The payload and its signature, as they lie in the store.
    let store = home.store();
    let digest = home.inspect("app")["Digest"].as_str().unwrap().replace(':', "-");
    let name = format!("app:{digest}.sig").parse().unwrap();
    let manifest = store.manifest(&store.find(&name).unwrap().unwrap()).unwrap();
    let layer = &manifest.layers()[0];
    let payload = store.document(layer).unwrap();
    assert_eq!(format!("[{}]\n", String::from_utf8(payload.clone()).unwrap()), said.stdout);
    fs::write(home.path().join("payload"), payload).unwrap();
    let signature = &layer.annotations().as_ref().unwrap()["dev.cosignproject.cosign/signature"];
    home.write("signature.base64", signature);
    let decode = ["base64", "-d", "-A", "-in", "signature.base64", "-out", "signature"];
    assert_eq!(openssl(&home, &decode).code, 0);
    let verify = ["dgst", "-sha256", "-verify", "k.pub", "-signature", "signature", "payload"];
    let verified = openssl(&home, &verify);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, "Verified OK\n"));
}

/// skopeo as it is when told to trust this key, and only this, for a registry. Debian has taken
/// signatures of this kind out of its older one.
fn strict(home: &Home, registry: &Registry, key: &str, peers: &Peers, words: &[&str]) -> Said {
    let key = home.path().join(key);
    let scope = registry.host();
    home.write(
        "policy.json",
        &format!(
            r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"{scope}":
                [{{"type": "sigstoreSigned", "keyPath": {key:?}}}]}}}}}}"#
        ),
    );
    home.write("registries.d/all.yaml", "default-docker:\n  use-sigstore-attachments: true\n");
    let mut all = vec!["--policy", "policy.json", "--registries.d", "registries.d"];
    all.extend(["--override-arch", "arm64"]);
    all.extend(words);
    Said::of(peers.command(home.path(), "skopeo", &all).output().unwrap())
}

#[test]
fn skopeo_verifies_what_koskit_has_signed_and_pushed() {
    let peers = match Peers::enter() {
        Ok(peers) => peers,
        Err(why) => return skip(&why),
    };
    let Some(registry) = Registry::start() else { return };
    let home = home(&["mine", "other"]);
    let name = registry.name("team/app:1");
    home.must(&["build", "-q", "-t", &name, "app"]);
    assert_eq!(with_password(&home, &["sign", "--key", "mine.key", &name]).code, 0);
    home.must(&["push", "-q", &name]);
    let from = format!("docker://{name}");
    let copy = |key: &str, to: &str| {
        strict(&home, &registry, key, &peers, &["copy", "--src-tls-verify=false", &from, to])
    };
    let good = copy("mine.pub", "dir:good");
    assert_eq!(good.code, 0, "{}", good.stderr);
    let bad = copy("other.pub", "dir:bad");
    assert_ne!(bad.code, 0, "{}", bad.stdout);
}

#[test]
fn koskit_verifies_what_skopeo_has_signed() {
    let peers = match Peers::enter() {
        Ok(peers) => peers,
        Err(why) => return skip(&why),
    };
    let Some(registry) = Registry::start() else { return };
    let home = home(&["mine", "other"]);
    home.must(&["build", "-q", "-t", "app", "-o", "type=oci,dest=app.tar", "app"]);
    let name = registry.name("team/theirs:1");
    home.write("password", PASSWORD);
    let to = format!("docker://{name}");
    let words = ["--insecure-policy", "copy", "--dest-tls-verify=false"];
    let key = ["--sign-by-sigstore-private-key", "mine.key", "--sign-passphrase-file", "password"];
    let words = [&words[..], &key, &["oci-archive:app.tar", &to]].concat();
    let pushed = strict(&home, &registry, "mine.pub", &peers, &words);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);

    home.must(&["pull", "-q", &name]);
    home.must(&["verify", "--key", "mine.pub", &name]);
    assert_eq!(home.koskit(&["verify", "--key", "other.pub", &name]).code, 1);
    home.must(&["trust", "set", "--type", "reject", "default"]);
    home.must(&["trust", "set", "--key", "mine.pub", &registry.host()]);
    let run = home.koskit(&["run", &name]);
    assert!(run.stderr.contains("the program \"/app\" cannot be found"), "{}", run.stderr);
}
