//! The graphs and configs that Dockerfiles give.

use crate::common::{build, show};

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

    let json = r#"{"architecture":"arm64","os":"linux","config":{"Env":["PATH","HELLO=WORLD"],"Entrypoint":["/hello"],"Cmd":["hello_world","test"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"COPY /app/hello / # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"COPY /out/* / # buildkit","comment":"buildkit.dockerfile.v0"},{"created_by":"ENV HELLO=WORLD","comment":"buildkit.dockerfile.v0","empty_layer":true},{"created_by":"ENTRYPOINT [\"/hello\"]","comment":"buildkit.dockerfile.v0","empty_layer":true},{"created_by":"CMD [\"hello_world\" \"test\"]","comment":"buildkit.dockerfile.v0","empty_layer":true}]}"#;
    assert_eq!(build.config.to_string().unwrap().replace(PATH, "PATH"), json);
    assert_eq!(build.warnings, []);
}
