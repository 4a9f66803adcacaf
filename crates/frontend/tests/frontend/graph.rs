//! The graphs and configs that Dockerfiles give.

use koskit_dockerfile::Rule;
use koskit_frontend::{Build, Context, Options};
use koskit_llb::{Graph, Platform, pb};

use crate::common::{self, build, build_with, options, show};

/// The talk's own file, on the images that koskit has for it.
const HELLO: &str = r#"FROM --platform=$BUILDPLATFORM kos/dev-c-aarch64-kos-linux-musl as build
COPY . /app/
RUN gcc -fPIC -pie -o /app/hello /app/hello.c

FROM --platform=$BUILDPLATFORM kos/busybox as files
RUN mkdir -p /out
RUN echo "foo" > /out/foo.txt
RUN echo "bar" > /out/bar.txt

FROM scratch
COPY --from=build /app/hello /
COPY --from=files /out/* /
ENV HELLO="WORLD"
ENTRYPOINT ["/hello"]
CMD ["hello_world", "test"]
"#;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn the_talks_dockerfile_gives_the_graph_that_buildkit_makes_of_it() {
    let (build, graph) = build(HELLO);
    let shell =
        |command: &str| format!(r#"["/bin/sh", "-c", {command:?}] in / as root with ["{PATH}"]"#);
    let expected = format!(
        r#"0 <- [] on linux/amd64 [build 1/3] FROM docker.io/kos/dev-c-aarch64-kos-linux-musl:latest@DIGEST
    docker-image://docker.io/kos/dev-c-aarch64-kos-linux-musl:latest@DIGEST
1 <- [] [internal] load build context
    local://context local.sharedkeyhint=context
2 <- [0 1] [build 2/3] COPY . /app/
    copy / /app/
3 <- [2] on linux/amd64 [build 3/3] RUN gcc -fPIC -pie -o /app/hello /app/hello.c
    {}
4 <- [3] [stage-2 1/2] COPY --from=build /app/hello /
    copy /app/hello /
5 <- [] on linux/amd64 [files 1/4] FROM docker.io/kos/busybox:latest@DIGEST
    docker-image://docker.io/kos/busybox:latest@DIGEST
6 <- [5] on linux/amd64 [files 2/4] RUN mkdir -p /out
    {}
7 <- [6] on linux/amd64 [files 3/4] RUN echo "foo" > /out/foo.txt
    {}
8 <- [7] on linux/amd64 [files 4/4] RUN echo "bar" > /out/bar.txt
    {}
9 <- [4 8] [stage-2 2/2] COPY --from=files /out/* /
    copy /out/* /
"#,
        shell("gcc -fPIC -pie -o /app/hello /app/hello.c"),
        shell("mkdir -p /out"),
        shell(r#"echo "foo" > /out/foo.txt"#),
        shell(r#"echo "bar" > /out/bar.txt"#),
    );
    assert_eq!(show(&graph), expected);
    let command = graph.vertices()[3].description("com.docker.dockerfile.v1.command");
    assert_eq!(command, Some("RUN gcc -fPIC -pie -o /app/hello /app/hello.c"));
    assert_eq!(graph.vertices()[3].locations[0].first, 3);

    let json = r#"{"architecture":"arm64","os":"linux","config":{"Env":["PATH","HELLO=WORLD"],"Entrypoint":["/hello"],"Cmd":["hello_world","test"],"ArgsEscaped":true,"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"COPY /app/hello / # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"COPY /out/* / # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"ENV HELLO=WORLD","comment":"buildkit.dockerfile.v0","empty_layer":true},{"created_by":"ENTRYPOINT [\"/hello\"]","comment":"buildkit.dockerfile.v0","empty_layer":true},{"created_by":"CMD [\"hello_world\" \"test\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}]}"#;
    assert_eq!(serde_json::to_string(&build.config).unwrap().replace(PATH, "PATH"), json);
    let rules: Vec<_> = build.warnings.iter().map(|w| w.rule).collect();
    assert_eq!(rules, [Some(Rule::FromAsCasing); 2]);
}

#[test]
fn what_an_image_sets_is_taken_over_and_instructions_change_it() {
    let text = "\
FROM base
ENV B=\"two words\" A=$A$A
WORKDIR sub
USER 7:8
LABEL m='x y' l=
EXPOSE 53/udp 8000-8001
VOLUME /data /more
STOPSIGNAL SIGINT
MAINTAINER me
RUN make
ENTRYPOINT [\"/new\"]
";
    let (build, graph) = build(text);
    let exec = show(&graph).lines().last().unwrap().trim().to_owned();
    let env = r#"["PATH=/bin", "B=two words", "A=11"]"#;
    assert_eq!(exec, format!(r#"["/bin/sh", "-c", "make"] in /w/sub as 7:8 with {env}"#));
    let names: Vec<_> = graph.vertices().iter().skip(1).map(|v| v.name()).collect();
    assert_eq!(names, ["[2/3] WORKDIR sub", "[3/3] RUN make"]);

    let config = &build.config.config;
    assert_eq!(config.env, ["PATH=/bin", "A=11", "B=two words"]);
    assert_eq!(config.entrypoint.as_deref().unwrap(), ["/new"]);
    assert_eq!(config.cmd, None, "a CMD of the base is not for the new ENTRYPOINT");
    assert_eq!(config.user, "7:8");
    assert_eq!(config.stop_signal, "SIGINT");
    let ports = ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"];
    assert!(config.exposed_ports.keys().eq(ports));
    assert!(config.volumes.keys().eq(["/data", "/more"]));
    let labels = &config.labels;
    assert_eq!((labels["m"].as_str(), labels["l"].as_str()), ("x y", ""));
    assert_eq!(build.config.author.as_deref(), Some("me"));
}

/// The history as `docker history` shows it, without its first entry.
fn history(build: &Build) -> Vec<String> {
    build.config.history.iter().filter_map(|h| h.created_by.clone()).collect()
}

#[test]
fn the_history_tells_what_was_done_with_which_arguments() {
    let text = "\
FROM kos/busybox
ARG V=1 W
RUN echo $V
COPY --chown=me --chmod=644 a b /
LABEL a=b
";
    let (build, _) = build(text);
    let expected = [
        "base",
        "ARG V=1 W",
        "RUN |2 V=1 W= /bin/sh -c echo $V # buildkit",
        "COPY --chown=me --chmod=644 a b / # buildkit",
        "LABEL a=b",
    ];
    assert_eq!(history(&build), expected);
}

#[test]
fn only_what_is_copied_is_asked_of_the_context() {
    let attrs = |text: &str| {
        let context = Context::Local { name: "context".into(), ignore: vec!["*.o".into()] };
        let options = Options { context, ..options() };
        let (_, graph) = build_with(text, &options);
        let shown = show(&graph);
        let local = shown.lines().find(|l| l.contains("local://")).unwrap();
        local.trim().to_owned()
    };
    let common = r#"local://context local.excludepatterns=["*.o"]"#;
    assert_eq!(
        attrs("FROM scratch\nCOPY b/../c a* /x/\nCOPY /d /\n"),
        format!(r#"{common} local.followpaths=["a*","c","d"] local.sharedkeyhint=context"#)
    );
    assert_eq!(
        attrs("FROM scratch\nCOPY a /\nCOPY . /\n"),
        format!("{common} local.sharedkeyhint=context")
    );
}

/// The copy actions of the only file op.
fn copies(graph: &Graph) -> Vec<pb::FileActionCopy> {
    let file = graph.vertices().iter().find_map(|vertex| match &vertex.op {
        pb::op::Op::File(file) => Some(file),
        _ => None,
    });
    let actions = file.unwrap().actions.iter().filter_map(|a| a.action.clone());
    actions
        .map(|action| match action {
            pb::file_action::Action::Copy(copy) => copy,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_copy_says_where_to_and_whose_and_what_a_pattern_may_do() {
    let (_, graph) = build("FROM base\nCOPY --chown=1:staff --chmod=u+x a* b .\n");
    let copies = copies(&graph);
    assert_eq!(copies.len(), 2);
    let copy = &copies[0];
    assert_eq!((copy.src.as_str(), copy.dest.as_str()), ("/a*", "/w/"));
    assert_eq!(copy.mode_str, "u+x");
    assert!(copy.owner.is_some());
    let set = [
        copy.follow_symlink,
        copy.dir_copy_contents,
        copy.create_dest_path,
        copy.allow_wildcard,
        copy.allow_empty_wildcard,
    ];
    assert_eq!(set, [true; 5]);
    assert!(!copy.attempt_unpack_docker_compatibility);
}

#[test]
fn destinations_are_relative_to_the_working_directory() {
    let cases = [
        ("x", "/w/x"),
        ("x/", "/w/x/"),
        ("./", "/w/"),
        ("/", "/"),
        ("/x/.", "/x/."),
        ("../y", "/y"),
    ];
    for (destination, expected) in cases {
        let (_, graph) = build(&format!("FROM base\nCOPY a {destination}\n"));
        assert_eq!(copies(&graph)[0].dest, expected, "{destination}");
    }
}

#[test]
fn a_stage_that_the_target_does_not_need_is_not_even_looked_at() {
    let text = "\
FROM nowhere AS unused
RUN false

FROM kos/busybox AS base
FROM base AS middle
RUN make
FROM middle
COPY --from=0 a /
";
    let options = Options { target: Some("Middle".into()), ..options() };
    let (_, graph) = build_with(text, &options);
    let names: Vec<_> = graph.vertices().iter().map(|v| v.name()).collect();
    let digest = common::digest();
    let from = format!("[base 1/1] FROM docker.io/kos/busybox:latest@{digest}");
    assert_eq!(names, [from.as_str(), "[middle 1/1] RUN make"]);
}

#[test]
fn files_can_be_copied_from_an_image_or_from_a_stage_by_its_number() {
    let text = "\
FROM base AS one
FROM scratch
COPY --from=0 /a /
COPY --from=kos/busybox /bin /bin
";
    let (_, graph) = build(text);
    let shown = show(&graph);
    let platforms: Vec<_> = graph.vertices().iter().filter_map(|v| v.platform.clone()).collect();
    assert_eq!(platforms.len(), 2, "{shown}");
    assert!(platforms.iter().all(|p| p.architecture == "arm64"), "{shown}");
    assert!(shown.contains("on linux/arm64 FROM docker.io/kos/busybox:latest@DIGEST"), "{shown}");
    assert!(shown.contains("[stage-1 2/2] COPY --from=kos/busybox /bin /bin"), "{shown}");
}

/// The environment of the only RUN.
fn run_env(text: &str, options: &Options) -> Vec<String> {
    let (_, graph) = build_with(text, options);
    let exec = graph.vertices().iter().find_map(|vertex| match &vertex.op {
        pb::op::Op::Exec(exec) => exec.meta.clone(),
        _ => None,
    });
    exec.unwrap().env.into_iter().filter(|e| !e.starts_with("PATH=")).collect()
}

#[test]
fn an_argument_is_seen_where_it_is_declared() {
    let given = |name: &str, value: &str| {
        let mut options = options();
        options.build_args.insert(name.into(), value.into());
        options
    };
    let text = "ARG G=global\nFROM kos/busybox\nARG G\nARG L=$G-local\nRUN x\n";
    assert_eq!(run_env(text, &options()), ["G=global", "L=global-local"]);
    assert_eq!(run_env(text, &given("G", "1")), ["G=1", "L=1-local"]);
    assert_eq!(run_env(text, &given("L", "2")), ["G=global", "L=2"]);

    let undeclared = "ARG G=global\nFROM kos/busybox\nRUN x\n";
    assert_eq!(run_env(undeclared, &options()), [""; 0]);
    let inherited = "FROM kos/busybox AS a\nARG X=1\nFROM a\nRUN x\n";
    assert_eq!(run_env(inherited, &options()), ["X=1"], "as a stage takes over all of its base");

    let (build, _) = build_with(text, &given("TYPO", "1"));
    assert_eq!(build.unused_args, ["TYPO"]);
}

#[test]
fn the_platforms_are_known_as_arguments() {
    let text = "\
FROM --platform=$BUILDPLATFORM kos/busybox
ARG BUILDPLATFORM BUILDARCH TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETSTAGE
RUN x
";
    let expected = [
        "BUILDPLATFORM=linux/amd64",
        "BUILDARCH=amd64",
        "TARGETPLATFORM=linux/arm64",
        "TARGETOS=linux",
        "TARGETARCH=arm64",
        "TARGETVARIANT=",
        "TARGETSTAGE=default",
    ];
    assert_eq!(run_env(text, &options()), expected);
    let (build, graph) = build(text);
    assert_eq!(graph.vertices()[0].platform, Some(Platform::new("linux", "amd64", "")));
    assert_eq!(build.config.architecture, "arm64", "the image is for the target");
}

#[test]
fn a_run_without_a_shell_gets_its_words_as_they_are() {
    let (_, graph) = build("FROM kos/busybox\nRUN [\"a\", \"$B c\"]\n");
    let shown = show(&graph);
    assert!(shown.contains(r#"["a", "$B c"] in /"#), "{shown}");
}

#[test]
fn here_documents_become_files_and_scripts() {
    let text = "\
FROM kos/busybox
ENV V=1
COPY <<a <<'b' /etc/
$V \"quoted\"
a
$V
b
RUN <<EOF
one
two
EOF
RUN cat <<-E > /f
\tx
\tE
RUN <<EOF
#!/bin/awk
EOF
";
    let (_, graph) = build(text);
    let shown = show(&graph);
    for expected in [
        "[2/5] COPY <<a <<b /etc/",
        r#"["/bin/sh", "-c", "one\ntwo\n"]"#,
        "RUN <<EOF (one...)",
        r#"["/bin/sh", "-c", "cat <<-E > /f\n\tx\nE"]"#,
        r#"["/bin/sh", "-c", "/dev/pipes/EOF"]"#,
    ] {
        assert!(shown.contains(expected), "{expected} is missing in\n{shown}");
    }
    let made = graph.vertices().iter().filter_map(|vertex| match &vertex.op {
        pb::op::Op::File(file) => file.actions[0].action.clone(),
        _ => None,
    });
    let files: Vec<_> = made
        .filter_map(|action| match action {
            pb::file_action::Action::Mkfile(f) => {
                Some((f.path, String::from_utf8(f.data).unwrap()))
            }
            _ => None,
        })
        .collect();
    let expected = [
        ("/a".to_owned(), "1 \"quoted\"\n".to_owned()),
        ("/b".into(), "$V\n".into()),
        ("/EOF".into(), "#!/bin/awk\n".into()),
    ];
    assert_eq!(files, expected);
}

#[test]
fn an_empty_file_system_is_a_build_too() {
    let (build, graph) = build("FROM scratch\nLABEL a=b\n");
    assert_eq!(graph.result(), None);
    assert_eq!(history(&build), ["LABEL a=b"]);
}

#[test]
fn labels_from_outside_win_over_those_of_the_file() {
    let mut options = options();
    options.labels.insert("a".into(), "2".into());
    let (build, _) = build_with("FROM scratch\nLABEL a=1 b=1\n", &options);
    let labels = &build.config.config.labels;
    assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("2", "1"));
}

#[test]
fn instructions_of_an_onbuild_are_done_where_the_image_is_used() {
    let text = "\
FROM scratch AS tools
COPY tool /
FROM onbuild
RUN last
ONBUILD RUN next
FROM 1
";
    let (_, graph) = build(&text.replace("FROM 1\n", ""));
    let names: Vec<_> = graph.vertices().iter().map(|v| v.name()).collect();
    let from = format!("[stage-1 1/2] FROM docker.io/library/onbuild:latest@{}", common::digest());
    let expected = [
        from.as_str(),
        "[internal] load build context",
        "[tools 1/1] COPY tool /",
        "[stage-1 2/4] ONBUILD COPY --from=tools /tool /",
        "[stage-1 3/4] ONBUILD RUN /tool $V",
        "[stage-1 4/4] RUN last",
    ];
    assert_eq!(names, expected);
    assert!(show(&graph).contains(r#"["/bin/bash", "-c", "last"]"#), "the shell is the image's");

    let (build, graph) = build(
        &text
            .replace("FROM onbuild", "FROM kos/busybox AS onbuild")
            .replace("FROM 1", "FROM onbuild"),
    );
    let names: Vec<_> = graph.vertices().iter().map(|v| v.name()).collect();
    assert_eq!(names[1..], ["[onbuild 2/2] RUN last", "[stage-2 1/1] ONBUILD RUN next"]);
    assert_eq!(build.config.config.on_build, [""; 0]);
}

#[test]
fn an_onbuild_is_kept_for_later_with_its_here_documents() {
    let (build, _) = build("FROM scratch\nONBUILD COPY <<E /\nx\nE\nONBUILD RUN make\n");
    assert_eq!(build.config.config.on_build, ["COPY <<E /\nx\nE", "RUN make"]);
}

#[test]
fn a_shell_is_used_from_where_it_is_set() {
    let text = "\
FROM kos/busybox
SHELL [\"/bin/bash\", \"-e\", \"-c\"]
RUN one
CMD two
RUN [\"three\"]
";
    let (build, graph) = build(text);
    let shown = show(&graph);
    assert!(shown.contains(r#"["/bin/bash", "-e", "-c", "one"]"#), "{shown}");
    assert!(shown.contains(r#"["three"]"#), "{shown}");
    let bash = ["/bin/bash", "-e", "-c"];
    assert_eq!(build.config.config.cmd.as_deref().unwrap(), [&bash[..], &["two"]].concat());
    assert_eq!(build.config.config.shell, bash);
    assert_eq!(history(&build)[1], "SHELL [/bin/bash -e -c]");
}

#[test]
fn a_health_check_is_in_the_config_and_in_the_history() {
    let text = "FROM scratch\nHEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x\n";
    let (build, _) = build(text);
    let check = build.config.config.healthcheck.clone().unwrap();
    assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
    assert_eq!((check.interval, check.retries, check.timeout), (90_000_000_000, 2, 0));
    let expected = r#"HEALTHCHECK &{["CMD-SHELL" "curl -f x"] "1m30s" "0s" "0s" "0s" '\x02'}"#;
    assert_eq!(history(&build), [expected]);
    let none = common::build("FROM scratch\nHEALTHCHECK NONE\n").0.config.config.healthcheck;
    assert_eq!(none.unwrap().test, ["NONE"]);
}
