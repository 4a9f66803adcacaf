//! What `koskit build --output` and `--push` give to docker and to registries.

use koskit_tests::registry::Registry;
use koskit_tests::{Docker, Home, Said, skip};
use std::process::Command;

const DOCKERFILE: &str = "\
FROM scratch
ARG TARGETARCH
COPY file /$TARGETARCH/
LABEL made=here
CMD [\"/none\"]
";

fn home() -> Home {
    let home = Home::new();
    home.write("app/Dockerfile", DOCKERFILE);
    home.write("app/file", &"text\n".repeat(100_000));
    home
}

#[test]
fn docker_loads_the_archives_that_are_made_for_it() {
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let home = home();
    let forms = [
        ("type=docker,dest=image.tar", "docker"),
        ("type=docker,dest=image.tar,oci-mediatypes=false", "docker-types"),
        ("type=docker,dest=image.tar,compression=zstd", "zstd"),
        ("type=docker,dest=image.tar,compression=uncompressed", "plain"),
        ("type=oci,dest=image.tar", "oci"),
    ];
    for (form, name) in forms {
        let tag = format!("koskit-output-{name}:1");
        home.must(&["build", "-t", &tag, "--platform", "linux/amd64", "-o", form, "app"]);
        let loaded = docker.command(home.path(), &["load", "-i", "image.tar"]).output().unwrap();
        let said = Said::of(loaded);
        assert_eq!(said.code, 0, "{form}: {}", said.stderr);
        let label = "{{.Config.Labels.made}} {{.Architecture}}";
        let inspected = docker.must(&["image", "inspect", "-f", label, &tag]);
        assert_eq!(inspected.stdout, "here amd64\n", "{form}");
        docker.must(&["image", "rm", &tag]);
    }
}

#[test]
fn an_index_is_pushed_with_its_layers_as_they_are_wanted() {
    let Some(registry) = Registry::start() else { return };
    let home = home();
    let name = registry.name("team/app:1");
    let output = format!("type=registry,name={name},compression=zstd,annotation-index.of=index");
    let platforms = "linux/arm64,linux/amd64";
    home.must(&["build", "--platform", platforms, "-o", &output, "app"]);
    let skopeo = |words: &[&str]| {
        let common = ["--insecure-policy", "--override-arch", "arm64"];
        Command::new("skopeo").args(common).args(words).current_dir(home.path()).output()
    };
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")]);
    let Ok(raw) = raw else { return skip("there is no skopeo") };
    let index: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
    assert_eq!(index["annotations"]["of"], "index");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let from = format!("docker://{name}");
    let copied = skopeo(&["copy", "--src-tls-verify=false", &from, "dir:copied"]).unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let manifest = std::fs::read(home.path().join("copied/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = &manifest["layers"][0]["mediaType"];
    assert_eq!(*layer, "application/vnd.oci.image.layer.v1.tar+zstd");

    // And a cache in the same registry serves who has nothing.
    let cache = format!("type=registry,ref={},mode=max", registry.name("team/cache:1"));
    home.must(&["build", "--cache-to", &cache, "app"]);
    let other = self::home();
    let said = other.must(&["build", "--cache-from", &cache, "app"]);
    assert!(said.stderr.contains(" CACHED\n"), "{}", said.stderr);
}
