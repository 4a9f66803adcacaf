//! What is said about images beside them: what a build keeps, and whether docker reads it.

use koskit_tests::registry::Registry;
use koskit_tests::{Docker, Home, Peers, Said, root, skip};
use serde_json::Value;
use std::fs;

/// A home with a build context `app` whose image holds a lock file.
fn home() -> Home {
    let home = Home::new();
    home.write("app/Dockerfile", "FROM scratch\nARG MODE=x\nCOPY Cargo.lock /src/\n");
    home.write(
        "app/Cargo.lock",
        "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\n",
    );
    home
}

#[test]
fn docker_reads_the_attestations_that_koskit_pushes() {
    let peers = match Peers::enter() {
        Ok(peers) => peers,
        Err(why) => return skip(&why),
    };
    let Some(registry) = Registry::start() else { return };
    let home = home();
    let name = registry.name("team/app:1");
    let words = ["build", "-q", "--sbom", "--provenance=mode=max", "--build-arg", "MODE=fast"];
    home.must(&[&words[..], &["-t", &name, "app"]].concat());
    home.must(&["push", "-q", &name]);
    let inspect = |format: &str| {
        let words = ["buildx", "imagetools", "inspect", &name, "--format", format];
        let said = Said::of(peers.command(home.path(), "docker", &words).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    let sbom = inspect("{{json .SBOM}}");
    assert_eq!(sbom["SPDX"]["packages"][1]["name"], "serde", "{sbom:#}");
    let provenance = inspect("{{json .Provenance}}");
    let definition = &provenance["SLSA"]["buildDefinition"];
    let arguments = &definition["externalParameters"]["request"]["args"];
    assert_eq!(arguments["build-arg:MODE"], "fast", "{provenance:#}");
    let steps = &definition["internalParameters"]["buildConfig"]["llbDefinition"];
    assert!(steps.as_array().is_some_and(|steps| steps.len() > 1), "{provenance:#}");
}

#[test]
fn a_native_image_lists_what_the_sdk_has_linked_into_it() {
    let home = Home::with_sdk();
    let context = root().join("examples/hello").display().to_string();
    home.must(&["build", "-q", "--sbom", "-t", "hello", &context]);
    let sbom: Value = serde_json::from_str(&home.must(&["sbom", "hello"]).stdout).unwrap();
    let packages = sbom["packages"].as_array().unwrap();
    let musl = packages.iter().find(|package| package["name"] == "musl-dev");
    let musl = musl.unwrap_or_else(|| panic!("musl is not listed: {sbom:#}"));
    let related = |relation: &&Value| relation["relatedSpdxElement"] == musl["SPDXID"];
    let relation = sbom["relationships"].as_array().unwrap().iter().find(related).unwrap();
    assert_eq!(relation["relationshipType"], "STATIC_LINK");
    assert!(relation["comment"].as_str().unwrap().contains("may have linked"), "{relation}");
    for absent in ["libc6-dev-arm64-cross", "libstdc++-12-dev-arm64-cross"] {
        let listed = packages.iter().any(|package| package["name"] == absent);
        assert!(!listed, "{absent} is in no program that is C with musl");
    }
    let gcc = |package: &Value| package["name"] == "gcc-12-aarch64-linux-gnu";
    assert!(!packages.iter().any(gcc), "the compiler is no part of the image");
}

#[test]
fn the_packages_of_an_image_of_the_sdk_are_found() {
    let home = Home::with_sdk();
    let said = home.must(&["sbom", "--platform", "linux/arm64", "kos/busybox"]);
    let sbom: Value = serde_json::from_str(&said.stdout).unwrap();
    let found = |package: &Value| package["name"] == "busybox-static";
    assert!(sbom["packages"].as_array().unwrap().iter().any(found), "{sbom:#}");
}

#[test]
fn an_image_with_attestations_is_the_same_image() {
    let home = home();
    home.must(&["build", "-q", "-t", "plain", "app"]);
    home.must(&["build", "-q", "--attest", "type=sbom,format=cyclonedx", "-t", "told", "app"]);
    assert_eq!(home.inspect("plain")["Id"], home.inspect("told")["Id"]);
    let shown = home.must(&["sbom", "--format", "cyclonedx", "told"]).stdout;
    let again = home.must(&["sbom", "--format", "cyclonedx", "--rescan", "told"]).stdout;
    assert_eq!(shown, again);
    assert_eq!(home.must(&["images"]).stdout.lines().count(), 3, "attestations are no images");
}

#[test]
fn the_same_build_says_the_same_on_another_machine() {
    let digest = || {
        let home = home();
        home.must(&["build", "-q", "--sbom", "--provenance=true", "-t", "app", "app"]).stdout
    };
    assert_eq!(digest(), digest());
}

#[test]
fn what_no_secret_may_be_in_has_its_name_only() {
    let home = home();
    home.write("token", "very secret");
    let words = ["build", "-q", "--provenance=mode=max", "--secret", "id=token,src=token"];
    home.must(&[&words[..], &["-t", "app", "-o", "type=oci,dest=out,tar=false", "app"]].concat());
    let mut found = 0;
    for entry in std::fs::read_dir(home.path().join("out/blobs/sha256")).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains("very secret"));
        found += usize::from(text.contains("\"id\":\"token\""));
    }
    assert_eq!(found, 1);
}

#[test]
fn files_that_are_no_image_have_beside_them_what_is_said_about_them_as_docker_writes_it() {
    let home = Home::new();
    home.write("app/Dockerfile", "FROM scratch\nCOPY a /first/\nCOPY b /b\n");
    home.write("app/a", "a\n");
    home.write("app/b", "b\n");
    let read = |path: &str| -> Value {
        let bytes = fs::read(home.path().join(path)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let common = ["build", "--sbom", "--provenance=mode=max", "app", "-o"];
    home.must(&[&common[..], &["type=local,dest=one,attestation-prefix=app."]].concat());
    home.must(&[&common[..], &["type=tar,dest=one.tar"]].concat());
    home.must(
        &[&common[..], &["two", "--platform=linux/arm64", "--platform=linux/amd64"]].concat(),
    );
    let names = |of: &Value| -> Vec<String> {
        let subjects = of["subject"].as_array().unwrap();
        subjects.iter().map(|subject| subject["name"].as_str().unwrap().into()).collect()
    };
    let provenance = read("one/app.provenance.json");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(names(&provenance), ["b", "first/a"]);
    let sbom = read("one/app.sbom.spdx.json");
    assert_eq!(sbom["predicate"]["spdxVersion"], "SPDX-2.3");
    assert_eq!(sbom["subject"], provenance["subject"]);
    assert!(!home.path().join("two/provenance.json").exists());
    for platform in ["linux_arm64", "linux_amd64"] {
        let own = read(&format!("two/{platform}/provenance.json"));
        assert_eq!(own["subject"], provenance["subject"]);
    }
    let mut archive = tar::Archive::new(fs::File::open(home.path().join("one.tar")).unwrap());
    let found = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.path().unwrap().display().to_string(), entry.header().mtime().unwrap())
    });
    let found: Vec<_> = found.collect();
    assert!(found.contains(&("provenance.json".into(), 0)), "{found:?}");
    assert!(found.contains(&("sbom.spdx.json".into(), 0)), "{found:?}");

    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let words = ["buildx", "build", "--quiet", "--provenance=mode=max", "-o", "docker", "app"];
    let said = Said::of(docker.command(home.path(), &words).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let theirs = read("docker/provenance.json");
    let sorted = |of: &Value| {
        let mut subjects = of["subject"].as_array().unwrap().clone();
        subjects.sort_by_key(|subject| subject["name"].to_string());
        subjects
    };
    assert_eq!(sorted(&theirs), sorted(&provenance));
}
