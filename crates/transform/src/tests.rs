//! What adapting does to whole Dockerfiles.

use koskit_dockerfile::Source;
use koskit_frontend::{BaseImage, Build, ImageResolver, ResolveError, convert};
use koskit_llb::{Digest, Graph, Platform, Reference, pb};
use pb::op::Op;

use crate::draw::Picture;
use crate::{AdaptError, Adapted, Options, Reason, Wish, adapt};

const HELLO: &str = "\
FROM --platform=$BUILDPLATFORM debian AS build
WORKDIR /app
COPY hello.c .
RUN make hello
RUN CC=mine make other
FROM scratch
COPY --from=build /app/hello /
ENTRYPOINT [\"/hello\"]
";

/// Knows every image but `none`; those that begin with `kos/dev-` are toolchains.
struct Images;

impl ImageResolver for Images {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        if name.path().ends_with("/none") {
            return Err("there is no image none".into());
        }
        let toolchain = name.path().starts_with("kos/dev-");
        let (labels, env) = match toolchain {
            true => (r#""com.koskit.sdk.mount": "/opt/kos/sdk""#, r#", "CC=kos-gcc", "AR=kos-ar""#),
            false => ("", ""),
        };
        let text = format!(
            r#"{{"architecture": "{}", "os": "linux",
                "config": {{"Env": ["PATH=/bin"{env}],
                    "Labels": {{{labels}}}}},
                "rootfs": {{"type": "layers", "diff_ids": ["{}"]}}}}"#,
            platform.architecture,
            Digest::of(b"layer")
        );
        Ok(BaseImage { digest: Digest::of(b"image"), config: serde_json::from_str(&text)? })
    }
}

fn build_platform() -> Platform {
    Platform::new("linux", "amd64", "")
}

fn options(wish: Wish) -> Options {
    Options { wish, sdk: None, target_platform: crate::target(), build_platform: build_platform() }
}

fn build(text: &str) -> Build {
    let options = koskit_frontend::Options {
        build_platform: build_platform(),
        ..koskit_frontend::Options::default()
    };
    convert(Source::new("Dockerfile", text), &options, &Images)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn adapted(text: &str, options: &Options) -> (Build, Adapted) {
    let build = build(text);
    let adapted = adapt(&build.definition, &build.config, options, &Images).unwrap();
    (build, adapted)
}

/// The commands of a graph: their last word, their variables but for PATH, their mounts.
fn commands(definition: &pb::Definition) -> Vec<String> {
    let graph = Graph::new(definition).unwrap();
    let execs = graph.vertices().iter().filter_map(|vertex| match &vertex.op {
        Op::Exec(exec) => Some((vertex, exec)),
        _ => None,
    });
    let line = |(vertex, exec): (&koskit_llb::Vertex, &pb::ExecOp)| {
        let meta = exec.meta.as_ref().unwrap();
        let env: Vec<&str> =
            meta.env.iter().map(String::as_str).filter(|e| !e.starts_with("PATH=")).collect();
        let mounts: Vec<String> = exec
            .mounts
            .iter()
            .map(|mount| {
                let input = vertex.inputs[mount.input as usize];
                let from = graph.vertex(input).summary();
                let from = from.split('@').next().unwrap().to_owned();
                match mount.dest.as_str() {
                    "/" => "/".into(),
                    dest => format!("{dest} ro={} out={} {from}", mount.readonly, mount.output),
                }
            })
            .collect();
        format!("{} | {} | {}", meta.args.last().unwrap(), env.join(" "), mounts.join(", "))
    };
    execs.map(line).collect()
}

const SDK: &str = "/opt/kos/sdk ro=true out=-1 \
                   docker-image://docker.io/kos/dev-c-aarch64-kos-linux-musl:latest";

#[test]
fn an_ordinary_build_keeps_every_byte() {
    for (text, wish) in [
        (HELLO, Wish::Auto),
        (HELLO, Wish::No),
        ("FROM kos/busybox\nRUN true\nLABEL com.koskit.app.name=a\n", Wish::No),
    ] {
        let (build, adapted) = adapted(text, &options(wish));
        assert_eq!(adapted.definition, build.definition);
        assert_eq!((adapted.reason, adapted.commands), (None, 0));
    }
}

#[test]
fn commands_of_build_platform_stages_get_the_toolchain_and_nothing_else_does() {
    let (build, adapted) = adapted(HELLO, &options(Wish::Yes));
    assert_eq!(adapted.reason, Some(Reason::Asked));
    assert_eq!(adapted.commands, 2);
    assert_eq!(
        commands(&adapted.definition),
        [
            format!("make hello | CC=kos-gcc AR=kos-ar | /, {SDK}"),
            format!("CC=mine make other | CC=kos-gcc AR=kos-ar | /, {SDK}"),
        ]
    );
    let names = |definition: &pb::Definition| -> Vec<String> {
        let graph = Graph::new(definition).unwrap();
        graph.vertices().iter().map(|vertex| vertex.name()).collect()
    };
    let mut after = names(&adapted.definition);
    after.retain(|name| !name.starts_with("[sdk]"));
    assert_eq!(after, names(&build.definition));
    // Places in the Dockerfile go along.
    let after = Graph::new(&adapted.definition).unwrap();
    let before = Graph::new(&build.definition).unwrap();
    for vertex in after.vertices().iter().filter(|v| !v.name().starts_with("[sdk]")) {
        let was = adapted.before.get(&vertex.digest).unwrap_or(&vertex.digest);
        let was = before.vertices().iter().find(|v| v.digest == *was).unwrap();
        assert_eq!(vertex.locations, was.locations);
    }
}

#[test]
fn a_label_of_the_contract_or_an_image_of_the_sdk_makes_a_build_one_for_sel4() {
    let label = format!("{HELLO}LABEL com.koskit.app.spec.heap_pages=1\n");
    let (_, with_label) = adapted(&label, &options(Wish::Auto));
    let name = "com.koskit.app.spec.heap_pages".to_owned();
    assert_eq!(with_label.reason, Some(Reason::Label(name)));
    assert_eq!(with_label.commands, 2);
    let image = HELLO.replace("debian", "kos/busybox");
    let (_, with_image) = adapted(&image, &options(Wish::Auto));
    assert_eq!(with_image.reason, Some(Reason::Image("kos/busybox".into())));
    let other = HELLO.replace("debian", "example.com/kos/busybox");
    assert_eq!(adapted(&other, &options(Wish::Auto)).1.reason, None);
}

#[test]
fn what_sel4_machines_do_not_run_is_no_build_for_sel4() {
    let text = HELLO.replace("debian", "kos/busybox");
    let build = build(&text);
    let amd64 =
        |wish| Options { target_platform: Platform::new("linux", "amd64", ""), ..options(wish) };
    let with = |wish| adapt(&build.definition, &build.config, &amd64(wish), &Images);
    assert_eq!(with(Wish::Auto).unwrap().reason, None);
    assert!(matches!(with(Wish::Yes), Err(AdaptError::Platform(_))));
}

#[test]
fn what_the_dockerfile_says_itself_stays() {
    let text = "\
FROM --platform=$BUILDPLATFORM debian AS build
ENV CC=clang
RUN one
FROM --platform=$BUILDPLATFORM kos/dev-c-aarch64-kos-linux-musl AS has
RUN two
FROM debian AS target
RUN three
FROM scratch
COPY --from=build /a /
COPY --from=has /a /
COPY --from=target /a /
";
    let (_, adapted) = adapted(text, &options(Wish::Yes));
    assert_eq!(
        commands(&adapted.definition),
        [
            format!("one | CC=clang AR=kos-ar | /, {SDK}"),
            // From the image's own configuration.
            "two | CC=kos-gcc AR=kos-ar | /".into(),
            "three |  | /".into(),
        ]
    );
}

#[test]
fn commands_of_the_image_itself_get_nothing_even_on_the_build_platform() {
    let text = "\
FROM --platform=$BUILDPLATFORM kos/busybox AS tools
RUN one
FROM --platform=$BUILDPLATFORM kos/busybox
COPY --from=tools /a /
RUN two
";
    let (_, adapted) = adapted(text, &options(Wish::Auto));
    let commands = commands(&adapted.definition);
    assert!(commands[0].starts_with("one") && commands[0].ends_with(SDK), "{commands:?}");
    assert!(commands[1].starts_with("two") && commands[1].ends_with("| /"), "{commands:?}");
}

#[test]
fn without_a_toolchain_only_a_build_that_asked_for_one_fails() {
    let text = HELLO.replace("debian", "kos/busybox");
    let build = build(&text);
    let none = |wish| Options { sdk: Some("none".parse().unwrap()), ..options(wish) };
    let with = |wish| adapt(&build.definition, &build.config, &none(wish), &Images);
    let left = with(Wish::Auto).unwrap();
    assert_eq!(left.definition, build.definition);
    assert!(left.warnings[0].contains("there is no image none"), "{:?}", left.warnings);
    assert!(matches!(with(Wish::Yes), Err(AdaptError::Sdk(_))));
    let no_toolchain = Options { sdk: Some("kos/busybox".parse().unwrap()), ..options(Wish::Yes) };
    let error = adapt(&build.definition, &build.config, &no_toolchain, &Images).unwrap_err();
    assert!(error.to_string().contains("is no toolchain"), "{error}");
}

#[test]
fn adapting_twice_gives_the_same_bytes() {
    let one = adapted(HELLO, &options(Wish::Yes)).1.definition;
    assert_eq!(one, adapted(HELLO, &options(Wish::Yes)).1.definition);
}

fn picture(text: &str, wish: Wish) -> Picture {
    let (build, adapted) = adapted(text, &options(wish));
    Picture::new("hello", &build.definition, &adapted).unwrap()
}

#[test]
fn the_text_marks_what_was_added() {
    let text = picture(HELLO, Wish::Yes).text();
    let digest = Digest::of(b"image").hex()[..12].to_owned();
    let expected = format!(
        "\
A build for seL4: it was asked for.

    1 [build 1/5] FROM debian@{digest}
    2 [build 2/5] WORKDIR /app  <- 1
    3 [internal] load build context
    4 [build 3/5] COPY hello.c .  <- 2 3
+   5 [sdk] kos/dev-c-aarch64-kos-linux-musl
~   6 [build 4/5] RUN make hello  <- 4
      + the SDK, mounted from 5
"
    );
    assert!(text.starts_with(&expected), "{text}");
    let set = HELLO.replace("RUN make hello", "ENV CC=clang\nRUN make hello");
    let text = picture(&set, Wish::Yes).text();
    assert!(text.contains("mounted from 5, but not CC, which the step has\n"), "{text}");
}

#[test]
fn a_build_that_is_not_for_sel4_is_drawn_without_marks() {
    let picture = picture(HELLO, Wish::No);
    assert!(!picture.svg().contains("class=\"mount\""));
    assert!(!picture.dot().contains("orange"));
    assert!(picture.text().starts_with("Not a build for seL4: nothing is changed.\n"));
}

#[test]
fn no_name_of_a_step_breaks_out_of_a_drawing() {
    let text = "FROM --platform=$BUILDPLATFORM debian AS a\nRUN echo \"<b>\\\"</text>&\"\n\
                FROM scratch\nCOPY --from=a / /\n";
    let picture = picture(text, Wish::Yes);
    assert!(!picture.svg().contains("<b>"));
    assert!(picture.dot().contains("\\\"<b>"));
}

#[test]
fn programs_get_both_graphs() {
    let json = picture(HELLO, Wish::Yes).json();
    let steps = json["steps"].as_array().unwrap();
    let changes: Vec<&str> = steps.iter().map(|step| step["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["same", "same", "same", "same", "added", "mounted", "mounted", "follows"]);
    let build = build(HELLO);
    let before = Graph::new(&build.definition).unwrap();
    let digests: Vec<&str> = steps
        .iter()
        .filter(|step| step["change"] != "added")
        .map(|step| step["before"].as_str().or(step["digest"].as_str()).unwrap())
        .collect();
    let expected: Vec<&str> = before.vertices().iter().map(|v| v.digest.as_str()).collect();
    assert_eq!(digests, expected);
}
