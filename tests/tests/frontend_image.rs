//! koskit as BuildKit's frontend: plain `docker buildx build`, with a real docker daemon and a
//! registry on 127.0.0.1, makes images for seL4.

use koskit_tests::registry::Registry;
use koskit_tests::{Docker, Home, Said, koskit, program, root, skip};
use serde_json::Value;
use std::process::Command;
use std::sync::OnceLock;

/// The SDK's image, which examples/hello begins with.
const SDK: &str = "kos/dev-c-aarch64-kos-linux-musl";

/// A program of the tests that is made of assembler alone.
const PROGRAM: &str = "faults";

/// A registry with the frontend's image and those of the SDK, and a home that has them, too.
struct World {
    docker: &'static Docker,
    registry: Registry,
    home: Home,
}

impl World {
    /// The one of all tests here.
    fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<Option<World>> = OnceLock::new();
        let world = WORLD.get_or_init(Self::new).as_ref();
        if world.is_none() {
            skip("there is no docker daemon or no registry to be had here");
        }
        world
    }

    fn new() -> Option<Self> {
        let docker = Docker::shared().map_err(skip).ok()?;
        let registry = registry()?;
        let home = Home::with_sdk();
        let script = root().join("sdk/frontend/root.sh");
        let made = Command::new("sh")
            .arg(script)
            .arg(koskit())
            .arg(home.path().join("root"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let dockerfile = root().join("sdk/frontend/Dockerfile").display().to_string();
        let name = registry.name("kos/frontend");
        home.must(&[
            "build",
            "--platform",
            host(),
            "--sel4=false",
            "-t",
            &name,
            "-f",
            &dockerfile,
            "root",
        ]);
        home.must(&["push", &name]);
        let world = Self { docker, registry, home };
        for image in [SDK, "kos/busybox"] {
            let (store, name) = (world.home.store(), world.registry.name(image));
            let known = store.find(&image.parse().unwrap()).unwrap().expect("the SDK has it");
            store.tag(&name.parse().unwrap(), &known).unwrap();
            world.home.must(&["push", &name]);
        }
        Some(world)
    }

    fn frontend(&self) -> String {
        self.registry.name("kos/frontend")
    }

    /// `docker buildx build` in the home, which is told of the SDK's images by their names.
    fn docker(&self, words: &[&str]) -> Said {
        self.docker_with_sdk(SDK, words)
    }

    /// The same, where an image of the registry is the SDK's.
    fn docker_with_sdk(&self, image: &str, words: &[&str]) -> Said {
        let context = |name: &str, image: &str| {
            format!("--build-context={name}=docker-image://{}", self.registry.name(image))
        };
        let (sdk, busybox) = (context(SDK, image), context("kos/busybox", "kos/busybox"));
        let all =
            [&["buildx", "build", "--progress=plain", "--network=none", &sdk, &busybox], words]
                .concat();
        Said::of(self.docker.command(self.home.path(), &all).output().unwrap())
    }

    /// The same, for what must work, with an image that goes to the registry: its configuration.
    fn built(&self, name: &str, words: &[&str]) -> Value {
        let output = format!("--output=type=image,name={},push=true", self.registry.name(name));
        let said = self.docker(&[&[output.as_str(), "--provenance=false"], words].concat());
        assert_eq!(said.code, 0, "{words:?}:\n{}", said.stderr);
        self.config(name)
    }

    /// The configuration of an image of the registry.
    fn config(&self, name: &str) -> Value {
        let image = format!("docker://{}", self.registry.name(name));
        let words = ["inspect", "--config", "--tls-verify=false", "--override-arch=arm64", &image];
        let config = self.docker.peers().must("skopeo", &words).stdout;
        serde_json::from_str(&config).unwrap()
    }
}

/// It ends with the thread that starts it, which therefore is none of a test's.
fn registry() -> Option<Registry> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(Registry::start()).expect("somebody waits for it");
        loop {
            std::thread::park();
        }
    });
    receiver.recv().expect("it is started or not")
}

fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// The image that a Dockerfile's own `# syntax=` names.
fn with_syntax(world: &World, text: &str) -> String {
    format!("# syntax={}\n{text}", world.frontend())
}

#[test]
fn plain_docker_builds_the_talks_hello_for_sel4() {
    let Some(world) = World::get() else { return };
    let hello = root().join("examples/hello");
    let syntax = format!("BUILDKIT_SYNTAX={}", world.frontend());
    let config = world.built("hello", &["--build-arg", &syntax, &hello.display().to_string()]);
    assert_eq!((&config["architecture"], &config["os"]), (&"arm64".into(), &"linux".into()));
    let labels = config["config"]["Labels"].as_object().unwrap();
    // The user's own and the computed ones.
    let computed = labels.keys().filter(|name| name.starts_with("com.koskit.app.spec."));
    assert!(computed.count() >= 3, "{labels:#?}");
    // It is the program that koskit itself makes of it, with the same labels.
    world.home.must(&["build", "-t", "here", &hello.display().to_string()]);
    let here = world.home.inspect("here");
    assert_eq!(config["config"]["Labels"], here["Config"]["Labels"]);
    assert_eq!(config["config"]["Entrypoint"], here["Config"]["Entrypoint"]);
    assert_eq!(config["config"]["Cmd"], here["Config"]["Cmd"]);
    // Nothing of the toolchain is left in its history.
    assert!(!config["history"].to_string().contains("/opt/kos"), "{}", config["history"]);
}

#[test]
fn a_dockerfile_names_its_frontend_and_gets_the_toolchain() {
    let Some(world) = World::get() else { return };
    // A toolchain by its label, whose compiler has one program for everybody.
    let home = &world.home;
    let sdk = "\
FROM kos/busybox
COPY cc program /bin/
ENV CC=/opt/kos/sdk/bin/cc
LABEL com.koskit.sdk.mount=/opt/kos/sdk
";
    home.write("sdk/Dockerfile", sdk);
    home.write("sdk/cc", "#!/bin/sh\ncp /opt/kos/sdk/bin/program \"$2\"\n");
    std::fs::copy(program(PROGRAM), home.path().join("sdk/program")).unwrap();
    let compiler = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.path().join("sdk/cc"), compiler).unwrap();
    let name = world.registry.name("stand-in");
    home.must(&["build", "--platform", host(), "--sel4=false", "-t", &name, "sdk"]);
    home.must(&["push", &name]);

    let text = "\
FROM --platform=$BUILDPLATFORM kos/busybox AS build
COPY . /src
RUN test ! -e /src/unused && $CC -o /hello /src/hello.c
FROM scratch
COPY --from=build /hello /
LABEL com.koskit.app.spec.heap_pages=77
ENTRYPOINT [\"/hello\"]
";
    home.write("c/hello.c", "int main(void) { return 7; }\n");
    home.write("c/unused", "x");
    home.write("c/.dockerignore", "unused\n");
    home.write("c/Dockerfile", &with_syntax(world, text));
    let output = format!("--output=type=image,name={},push=true", world.registry.name("c"));
    let words = [output.as_str(), "--provenance=false", "c"];
    let said = world.docker_with_sdk("stand-in", &words);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let config = world.config("c");
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["com.koskit.app.spec.heap_pages"], "77");
    assert!(labels["com.koskit.app.spec.ut_large_page"].is_string(), "{labels}");
    // The toolchain is in neither configuration nor history.
    assert!(!config.to_string().contains("/opt/kos"), "{config:#}");
}

#[test]
fn several_platforms_and_options_of_docker_reach_it() {
    let Some(world) = World::get() else { return };
    let text = "\
FROM kos/busybox AS one
ARG WORD=none
LABEL word=$WORD
FROM one AS two
LABEL two=2
";
    world.home.write("multi/Dockerfile", &with_syntax(world, text));
    let words = [
        "--platform=linux/amd64,linux/arm64",
        "--build-arg=WORD=given",
        "--label=added=yes",
        "--target=one",
        "multi",
    ];
    let config = world.built("multi", &words);
    assert_eq!(config["config"]["Labels"]["word"], "given");
    assert_eq!(config["config"]["Labels"]["added"], "yes");
    assert_eq!(config["config"]["Labels"]["two"], Value::Null);
    let image = format!("docker://{}", world.registry.name("multi"));
    let index =
        world.docker.peers().must("skopeo", &["inspect", "--raw", "--tls-verify=false", &image]);
    let index: Value = serde_json::from_str(&index.stdout).unwrap();
    let platforms: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    assert_eq!(platforms.len(), 2, "{index:#}");
}

#[test]
fn what_is_wrong_with_a_dockerfile_docker_shows_as_koskit_does() {
    let Some(world) = World::get() else { return };
    world.home.write("bad/Dockerfile", &with_syntax(world, "FROM scratch\nFORM x\nCOPPY a b\n"));
    let said = world.docker(&["bad"]);
    assert_ne!(said.code, 0);
    for part in ["did you mean FROM?", "did you mean COPY?", "Dockerfile:3"] {
        assert!(said.stderr.contains(part), "{part} is missing:\n{}", said.stderr);
    }
    world.home.write(
        "failing/Dockerfile",
        &with_syntax(
            world,
            "\
FROM --platform=$BUILDPLATFORM kos/busybox
RUN exit 5
",
        ),
    );
    let said = world.docker(&["--platform", host(), "failing"]);
    assert!(said.code != 0 && said.stderr.contains("exit code: 5"), "{}", said.stderr);
    world.home.write("lint/Dockerfile", &with_syntax(world, "FROM scratch as x\nCOPY . /\n"));
    let said = world.docker(&["--check", "lint"]);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("FromAsCasing"), "{all}");
}

#[test]
fn what_docker_asks_of_a_dockerfile_it_answers_as_docker_does() {
    let Some(world) = World::get() else { return };
    let text = "\
# WORD what it says
ARG WORD=none
# one the first
FROM scratch AS one
ARG WORD
FROM one AS two
RUN --mount=type=secret,id=key,required \\
    --mount=type=ssh true
";
    // Without the first line, docker's own frontend answers; a comment keeps the lines.
    world.home.write("asked/Dockerfile", &with_syntax(world, text));
    world.home.write("plain/Dockerfile", &format!("#\n{text}"));
    let ask = |call: &str, words: &[&str]| {
        let call = format!("--call={call}");
        let all = |context| [&[call.as_str()], words, &[context]].concat();
        let (asked, plain) = (world.docker(&all("asked")), world.docker(&all("plain")));
        assert_eq!((asked.code, plain.code), (0, 0), "{}{}", asked.stderr, plain.stderr);
        (asked.stdout, plain.stdout)
    };
    for call in ["outline", "targets"] {
        for words in [&[][..], &["--target=one", "--build-arg=WORD=x"]] {
            let (asked, plain) = ask(call, words);
            assert_eq!(asked, plain, "{call}");
            let (asked, plain) = ask(&format!("{call},format=json"), words);
            let of = |text: &str| {
                let mut document: Value = serde_json::from_str(text).unwrap();
                assert!(document["sources"].as_array_mut().unwrap().pop().is_some());
                document
            };
            assert_eq!(of(&asked), of(&plain), "{call}");
        }
    }
    let (asked, plain) = ask("subrequests.describe", &[]);
    for line in plain.lines().filter(|line| !line.starts_with("NAME")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(asked.contains(name), "{name} is missing:\n{asked}");
    }
    let said = world.docker(&["--call=else", "asked"]);
    assert!(said.code != 0 && said.stderr.contains("frontend.outline"), "{}", said.stderr);
}

#[test]
fn a_bill_of_materials_is_written_by_the_frontend_or_by_the_generator_that_is_named() {
    let Some(world) = World::get() else { return };
    let lock = "version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.2\"\n";
    world.home.write("bill/Cargo.lock", lock);
    world
        .home
        .write("bill/Dockerfile", &with_syntax(world, "FROM scratch\nCOPY Cargo.lock /src/\n"));
    let bill = |name: &str, words: &[&str]| -> Value {
        let name = world.registry.name(name);
        let output = format!("--output=type=image,name={name},push=true");
        let said = world.docker(&[&[output.as_str()], words].concat());
        assert_eq!(said.code, 0, "{words:?}:\n{}", said.stderr);
        let words = ["buildx", "imagetools", "inspect", &name, "--format", "{{json .SBOM}}"];
        let said = Said::of(world.docker.command(world.home.path(), &words).output().unwrap());
        serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{name}: {said:?}"))
    };
    let named = |bill: &Value, name: &str| {
        let packages = bill["SPDX"]["packages"].as_array().cloned().unwrap_or_default();
        packages.iter().any(|package| package["name"] == name)
    };
    let own = bill("bill", &["--sbom=true", "bill"]);
    assert!(named(&own, "serde"), "{own:#}");
    let both = bill("bill-both", &["--sbom=true", "--platform=linux/amd64,linux/arm64", "bill"]);
    for platform in ["linux/amd64", "linux/arm64"] {
        assert!(named(&both[platform], "serde"), "{both:#}");
    }
    // What the toolchain links has no file in the image.
    let hello = root().join("examples/hello").display().to_string();
    let syntax = format!("--build-arg=BUILDKIT_SYNTAX={}", world.frontend());
    let native = bill("bill-hello", &["--sbom=true", &syntax, &hello]);
    assert!(named(&native, "musl-dev"), "{native:#}");

    let statement = r#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","subject":[],"predicate":{"packages":[{"name":"of-another"}]}}"#;
    world.home.write("generator/statement", statement);
    let text = "\
FROM kos/busybox
COPY statement /
ENTRYPOINT [\"/bin/sh\", \"-c\", \"grep serde $BUILDKIT_SCAN_SOURCE/src/Cargo.lock && cp /statement $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json\"]
";
    world.home.write("generator/Dockerfile", text);
    let generator = world.registry.name("generator");
    let words = ["build", "--platform", host(), "--sel4=false", "-t", &generator, "generator"];
    world.home.must(&words);
    world.home.must(&["push", &generator]);
    let attest = format!("--attest=type=sbom,generator={generator}");
    let other = bill("bill-other", &[&attest, "bill"]);
    assert!(named(&other, "of-another"), "{other:#}");

    let missing = world.registry.name("missing");
    let attest = format!("--attest=type=sbom,generator={missing}");
    let said = world.docker(&[&attest, "bill"]);
    assert!(said.code != 0 && said.stderr.contains("the generator"), "{}", said.stderr);
}
