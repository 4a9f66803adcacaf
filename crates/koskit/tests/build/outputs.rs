//! `koskit build --output`: what is written, and what strangers read of it.

use crate::common::{Home, text};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

const DOCKERFILE: &str = "FROM scratch AS base\nCOPY a /first/\nFROM base\nARG TARGETARCH\n\
    COPY b /second/$TARGETARCH\nLABEL x=y\n";

fn home() -> Home {
    let home = Home::new();
    home.write("app/Dockerfile", DOCKERFILE);
    home.write("app/a", "a\n");
    home.write("app/b", "b\n".repeat(1000));
    home
}

/// The blob that a descriptor in a layout stands for.
fn blob(home: &Home, layout: &str, descriptor: &serde_json::Value) -> serde_json::Value {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    home.json(Path::new(layout).join("blobs/sha256").join(digest))
}

fn entries(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let path = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        entry.unwrap().path().unwrap().display().to_string()
    };
    archive.entries().unwrap().map(path).collect()
}

#[test]
fn one_build_is_written_in_all_forms() {
    let home = home();
    home.must(&[
        "build",
        "-t",
        "app:1",
        "-o",
        "type=oci,dest=layout",
        "-o",
        "type=oci,dest=app.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "files",
        "-o",
        "type=tar,dest=files.tar",
        "--metadata-file",
        "metadata.json",
        "--iidfile",
        "id",
        "app",
    ]);
    let index = home.json("layout/index.json");
    let manifest = blob(&home, "layout", &index["manifests"][0]);
    let metadata = home.json("metadata.json");
    assert_eq!(metadata["containerimage.digest"], index["manifests"][0]["digest"]);
    assert_eq!(metadata["containerimage.config.digest"], manifest["config"]["digest"]);
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    assert_eq!(fs::read_to_string(home.path("id")).unwrap(), manifest["config"]["digest"]);
    assert_eq!(fs::read_to_string(home.path("files/first/a")).unwrap(), "a\n");
    let files = entries(&fs::read(home.path("files.tar")).unwrap());
    assert_eq!(files, ["first/", "first/a", "second/", "second/arm64"]);
    let docker = entries(&fs::read(home.path("docker.tar")).unwrap());
    assert!(docker.contains(&"manifest.json".to_owned()), "{docker:?}");
    // The image is in the store, too.
    let listed = text(&home.must(&["images", "-q", "--no-trunc"]));
    assert_eq!(listed.trim(), manifest["config"]["digest"]);
}

#[test]
fn an_archive_on_standard_output_is_that_of_a_file() {
    let home = home();
    home.must(&["build", "-o", "type=tar,dest=files.tar", "app"]);
    let files = fs::read(home.path("files.tar")).unwrap();
    assert!(home.must(&["build", "-o", "-", "app"]) == files);
    assert!(home.must(&["build", "-q", "-o", "type=tar,dest=-", "app"]) == files);
    let said = home.fails(&["build", "-o", "-", "-o", "type=oci,dest=-", "app"]);
    assert!(said.contains("only one output can be written to standard output"), "{said}");
}

#[test]
fn several_platforms_make_an_index_and_a_directory_for_each() {
    let home = home();
    home.must(&[
        "build",
        "-t",
        "app",
        "--platform",
        "linux/arm64,linux/amd64",
        "-o",
        "type=oci,dest=layout",
        "-o",
        "files",
        "--annotation",
        "index:of=index",
        "--annotation",
        "manifest[linux/amd64]:of=amd64",
        "app",
    ]);
    let layout = home.json("layout/index.json");
    let index = blob(&home, "layout", &layout["manifests"][0]);
    assert_eq!(index["annotations"]["of"], "index");
    let platforms: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    let amd = blob(&home, "layout", &index["manifests"][0]);
    let arm = blob(&home, "layout", &index["manifests"][1]);
    assert_eq!(amd["annotations"]["of"], "amd64");
    assert!(arm.get("annotations").is_none());
    // What is the same for both is there once.
    assert_eq!(amd["layers"][0], arm["layers"][0]);
    assert_ne!(amd["layers"][1], arm["layers"][1]);
    assert!(home.path("files/linux_amd64/second/amd64").is_file());
    assert!(home.path("files/linux_arm64/second/arm64").is_file());
    let said = home.fails(&[
        "build",
        "--platform",
        "linux/arm64,linux/amd64",
        "-o",
        "type=docker,dest=x.tar",
        "app",
    ]);
    assert!(said.contains("docker exporter does not currently support"), "{said}");
    assert!(!home.path("x.tar").exists());
}

#[test]
fn several_platforms_are_built_as_one_and_share_what_they_can() {
    let (one, two) = (home(), home());
    let platforms = ["--platform=linux/arm64,linux/amd64", "--progress=plain"];
    let cache = one.path("cache");
    let to = format!("--cache-to=type=local,mode=max,dest={}", cache.display());
    let command = ["build", platforms[0], platforms[1], &to, "app"];
    let said = one.command(&command).output().unwrap();
    let told = text(&said.stderr);
    assert!(said.status.success(), "{told}");
    let steps: BTreeSet<&str> = told.lines().filter(|line| line.contains(" COPY ")).collect();
    assert_eq!(steps.len(), 3, "{told}");
    // The cache is of both.
    let from = format!("--cache-from=type=local,src={}", cache.display());
    let command = ["build", platforms[0], platforms[1], &from, "app"];
    let said = two.command(&command).output().unwrap();
    let told = text(&said.stderr);
    assert!(said.status.success(), "{told}");
    assert_eq!(told.matches(" CACHED").count(), 3, "{told}");
}

#[test]
fn layers_are_compressed_as_an_output_wants_them() {
    let home = home();
    home.must(&[
        "build",
        "-o",
        "type=oci,dest=zstd,compression=zstd,compression-level=19",
        "-o",
        "type=oci,dest=plain,compression=uncompressed,oci-mediatypes=false",
        "-o",
        "type=oci,dest=gzip,compression=gzip",
        "app",
    ]);
    let layers = |layout: &str| {
        let index = home.json(format!("{layout}/index.json"));
        let manifest = blob(&home, layout, &index["manifests"][0]);
        let layers = manifest["layers"].as_array().unwrap().clone();
        let types: Vec<String> =
            layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect();
        let config = blob(&home, layout, &manifest["config"]);
        (types, config["rootfs"]["diff_ids"].clone())
    };
    let (zstd, zstd_ids) = layers("zstd");
    let (plain, plain_ids) = layers("plain");
    let (gzip, gzip_ids) = layers("gzip");
    assert!(zstd.iter().all(|name| name == "application/vnd.oci.image.layer.v1.tar+zstd"));
    assert!(plain.iter().all(|name| name == "application/vnd.docker.image.rootfs.diff.tar"));
    assert!(gzip.iter().all(|name| name == "application/vnd.oci.image.layer.v1.tar+gzip"));
    assert!(zstd_ids == plain_ids && plain_ids == gzip_ids);
}

#[test]
fn the_same_build_gives_the_same_digest_elsewhere() {
    let id = |home: &Home| text(&home.must(&["build", "-q", "app"]));
    let (one, two) = (home(), home());
    // Others have checked it out at another time, with another mask.
    let old = fs::File::options().write(true).open(two.path("app/a")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(id(&one), id(&two));
}

#[test]
fn skopeo_reads_all_archives() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("skipped: there is no skopeo");
        return;
    }
    let home = home();
    home.must(&[
        "build",
        "-t",
        "app:1",
        "-o",
        "type=oci,dest=app.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "type=oci,dest=zstd.tar,compression=zstd",
        "app",
    ]);
    let names =
        ["oci-archive:app.tar:1", "docker-archive:docker.tar:app:1", "oci-archive:zstd.tar:1"];
    for (index, from) in names.into_iter().enumerate() {
        let to = format!("dir:copied{index}");
        let words = ["--insecure-policy", "--override-arch", "arm64", "copy", from, &to];
        let output =
            Command::new("skopeo").args(words).current_dir(home.path("")).output().unwrap();
        assert!(output.status.success(), "{from}: {}", text(&output.stderr));
    }
}

#[test]
fn a_context_comes_from_standard_input_too() {
    let home = home();
    let id = text(&home.must(&["build", "-q", "app"]));
    let archive = |compress: bool| {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_dir_all(".", home.path("app")).unwrap();
        let archive = builder.into_inner().unwrap();
        if !compress {
            return archive;
        }
        home.write("context.tar", archive);
        let gzip = Command::new("gzip").arg("-c").arg(home.path("context.tar")).output().unwrap();
        gzip.stdout
    };
    let build = |input: Vec<u8>, words: &[&str]| {
        home.write("input", input);
        let stdin = fs::File::open(home.path("input")).unwrap();
        let output = home.command(words).stdin(stdin).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    for compress in [false, true] {
        assert_eq!(build(archive(compress), &["build", "-q", "-"]), id);
    }
    assert_eq!(build(DOCKERFILE.into(), &["build", "-q", "-f", "-", "app"]), id);
    build(b"FROM scratch\nLABEL a=b\n".to_vec(), &["build", "-q", "-"]);
    home.write("input", "FROM scratch\nCOPY a /\n");
    let stdin = fs::File::open(home.path("input")).unwrap();
    let output = home.command(&["build", "-"]).stdin(stdin).output().unwrap();
    assert!(text(&output.stderr).contains("Dockerfile:2"), "{}", text(&output.stderr));
    let left = fs::read_dir(home.path("cache/koskit/build")).unwrap();
    let left = left.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "tar"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_dockerfile_may_be_outside_and_its_own_ignore_file_counts() {
    let home = home();
    home.write("other/My.Dockerfile", "FROM scratch\nCOPY . /\n");
    home.write("other/My.Dockerfile.dockerignore", "b\nDockerfile\n.dockerignore\n");
    home.write("app/.dockerignore", "a\n");
    home.must(&["build", "-f", "other/My.Dockerfile", "-o", "out", "app"]);
    let names = |path: &str| {
        let mut names: Vec<_> =
            fs::read_dir(home.path(path)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("out"), ["a"]);
    home.write("app/Dockerfile", "FROM scratch\nCOPY . /\n");
    home.must(&["build", "-o", "out2", "app"]);
    assert_eq!(names("out2"), [".dockerignore", "Dockerfile", "b"]);
}

#[test]
fn named_contexts_are_directories_and_layouts() {
    let home = home();
    home.must(&["build", "-t", "base", "-o", "type=oci,dest=layout", "app"]);
    home.write("more/file", "more\n");
    home.write("named/Dockerfile", "FROM base\nCOPY --from=more file /more\n");
    let layout = format!("base=oci-layout://{}", home.path("layout").display());
    home.must(&[
        "build",
        "--build-context",
        "more=more",
        "--build-context",
        &layout,
        "-o",
        "out",
        "named",
    ]);
    let mut text = String::new();
    fs::File::open(home.path("out/more")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "more\n");
    assert!(home.path("out/first/a").is_file());
}

#[test]
fn what_cannot_be_had_is_refused_in_docker_s_words() {
    let home = home();
    let cases: [(&[&str], &str); 8] = [
        (&["--push", "app"], "tag is needed when pushing to registry"),
        (&["-f", "-", "-"], "can't use stdin for both build context and dockerfile"),
        (&["--secret", "id=a,src=nowhere", "app"], "failed to stat nowhere"),
        (&["--build-context", "x=nowhere", "app"], "failed to get build context x: stat nowhere"),
        (&["--annotation", "index:a=b", "app"], "index annotations not supported for single"),
        (&["--cgroup-parent", "a/b", "app"], "--cgroup-parent a/b cannot be had"),
        (&["--network", "bridge", "app"], "unsupported network mode \"bridge\""),
        (&["--allow", "everything", "app"], "invalid entitlement: everything"),
    ];
    for (words, expected) in cases {
        let said = home.fails(&[&["build"], words].concat());
        assert!(said.contains(expected), "{words:?}: {said}");
    }
}

#[test]
fn a_cache_in_a_directory_serves_another_home() {
    let (one, two) = (home(), home());
    one.must(&["build", "--cache-to", "type=local,dest=cache-of-one,mode=max", "app"]);
    let from = format!("type=local,src={}", one.path("cache-of-one").display());
    let build = |from: &str| {
        let output = two.command(&["build", "--cache-from", from, "app"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = build("type=local,src=nowhere");
    assert!(said.contains("ERROR"), "{said}");
    let two_again = home();
    let output = two_again.command(&["build", "--cache-from", &from, "app"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches(" CACHED\n").count(), 2, "{said}");
    let said = one.fails(&["build", "--cache-to", "type=gha", "app"]);
    assert!(said.contains("there is no cache of type \"gha\""), "{said}");
}

/// Serves one file, whatever is asked for. Gives the URL of its directory.
fn serve(bytes: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                asked.push(byte[0]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            // Who has hung up wants no more of it.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| {
                if asked.starts_with(b"HEAD") { Ok(()) } else { stream.write_all(&bytes) }
            });
        }
    });
    url
}

#[test]
fn a_context_of_a_web_server_is_an_archive_or_a_dockerfile_whatever_it_is_called() {
    let home = home();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", home.path("app")).unwrap();
    let archive = serve(builder.into_inner().unwrap());
    let id = text(&home.must(&["build", "-q", "app"]));
    for name in ["context.tar", "context"] {
        assert_eq!(text(&home.must(&["build", "-q", &format!("{archive}/{name}")])), id);
    }
    let said = home.fails(&["build", "-f", "Other", &format!("{archive}/context.tar")]);
    assert!(said.contains("failed to read dockerfile: open Other: no such file"), "{said}");
    let dockerfile = serve(b"FROM scratch\nLABEL from=web\n".to_vec());
    home.must(&["build", "-t", "web", &format!("{dockerfile}/Dockerfile")]);
    assert!(text(&home.must(&["inspect", "web"])).contains("\"from\": \"web\""));
}
