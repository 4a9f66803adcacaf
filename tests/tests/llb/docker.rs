//! What BuildKit, in a real docker daemon, makes of a case.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use koskit_tests::{Docker, Home, Said};
use serde_json::Value;

use crate::case::{self, Case, World};
use crate::files;
use crate::graph::Steps;
use crate::images::Images;

/// A daemon with the images of the corpus, and what the corpus fetches from elsewhere.
pub struct Oracle<'d> {
    docker: &'d Docker,
    images: &'d Images,
    home: Home,
    pub world: World,
    git: Child,
}

/// What came of a build.
pub struct Result {
    pub steps: Steps,
    /// The configuration of the image.
    pub config: Value,
    /// The files of the image.
    pub files: BTreeMap<String, String>,
}

impl<'d> Oracle<'d> {
    pub fn new(docker: &'d Docker, images: &'d Images) -> Self {
        let home = Home::new();
        let path = |name: &str| home.path().join(name).display().to_string();
        case::write(&home.path().join("images.tar"), images.archive());
        docker.must(&["load", "--input", &path("images.tar")]);
        home.store().load(&images.archive()[..]).unwrap();
        for name in ["a", "b", "keep.x", "e.x", "with space", "a&b", "c<d>", "dir/x", "dir/y/z"] {
            case::write(&home.path().join("context").join(name), name);
        }
        case::write(&home.path().join("context/archive.tar"), case::web_archive());
        case::write(&home.path().join("folder/a"), "a");
        case::write(&home.path().join("folder/x"), "x");
        fs::create_dir(home.path().join("layout")).unwrap();
        tar::Archive::new(&images.one("full")[..]).unpack(home.path().join("layout")).unwrap();
        let commit = repository(docker, home.path());
        let (port, git) = git_server(docker, home.path());
        let world = World {
            web: format!("http://127.0.0.1:{}", web_server()),
            git: format!("git://127.0.0.1:{port}"),
            commit,
            folder: path("folder"),
            layout: path("layout"),
        };
        Self { docker, images, home, world, git }
    }

    /// Builds a case, for each platform.
    pub fn build(&self, case: &Case) -> std::result::Result<Vec<Result>, String> {
        let images = self.images;
        let folder = self.home.path().join("cases").join(&case.name);
        let file = folder.join("Dockerfile");
        case::write(&file, case.fill(&case.text, &self.world, images));
        if let Some(ignore) = &case.ignore {
            case::write(&folder.join("Dockerfile.dockerignore"), ignore);
        }
        let output = folder.join("out.tar");
        let mut words: Vec<String> = [
            "buildx",
            "build",
            "--progress=rawjson",
            "--provenance=mode=max",
            &format!("--output=type=oci,dest={}", output.display()),
        ]
        .map(str::to_owned)
        .to_vec();
        let mut own = case.words.iter().map(|word| case.fill(word, &self.world, images));
        let main = case.main().map(|_| own.next().unwrap());
        words.extend(own);
        let has = |flag: &str| case.words.iter().any(|word| word == flag);
        if !has("--platform") {
            words.push("--platform=linux/amd64".into());
        }
        if !has("--network") {
            words.push("--network=none".into());
        }
        // A Dockerfile beside a remote context comes from standard input.
        let from_stdin = main.is_some();
        words.push(format!(
            "--file={}",
            if from_stdin { "-".into() } else { file.display().to_string() }
        ));
        words.push(main.unwrap_or_else(|| ".".into()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.docker.command(&self.home.path().join("context"), &words);
        if from_stdin {
            command.stdin(fs::File::open(&file).unwrap());
        }
        let said = Said::of(command.output().unwrap());
        if said.code != 0 {
            let all = said.stderr.lines().filter(|line| !line.starts_with('{'));
            return Err(all.collect::<Vec<_>>().join("\n"));
        }
        Ok(results(&output, &vertexes(&said.stderr)))
    }
}

impl Oracle<'_> {
    /// The files of the image that koskit makes of a case, with its own solver.
    pub fn koskit(&self, case: &Case) -> std::result::Result<BTreeMap<String, String>, String> {
        let folder = self.home.path().join("cases").join(&case.name);
        let output = folder.join("koskit.tar");
        let images = &self.images;
        let mut own = case.words.iter().map(|word| case.fill(word, &self.world, images));
        let main = case.main().map(|_| own.next().unwrap());
        let mut words = vec!["build".to_owned(), "--progress=plain".to_owned()];
        words.extend(own);
        let has = |flag: &str| case.words.iter().any(|word| word == flag);
        words.extend((!has("--platform")).then(|| "--platform=linux/amd64".to_owned()));
        words.extend((!has("--network")).then(|| "--network=none".to_owned()));
        words.push(format!("--output=type=oci,dest={}", output.display()));
        let file = folder.join("Dockerfile");
        let from_stdin = main.is_some();
        let shown = file.display().to_string();
        words.push(format!("--file={}", if from_stdin { "-" } else { &shown }));
        words.push(main.unwrap_or_else(|| ".".into()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.home.command(&words);
        command.current_dir(self.home.path().join("context"));
        if from_stdin {
            command.stdin(fs::File::open(&file).unwrap());
        }
        let said = Said::of(command.output().unwrap());
        if said.code != 0 {
            return Err(said.stderr.lines().rev().take(12).collect::<Vec<_>>().join(" | "));
        }
        let blobs = files::blobs(fs::File::open(&output).unwrap());
        let top: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
        Ok(files::of_manifest(&blobs, &files::json(&blobs, &top["manifests"][0])))
    }
}

impl Drop for Oracle<'_> {
    fn drop(&mut self) {
        let _ = self.git.kill();
        let _ = self.git.wait();
    }
}

/// What was told of each vertex last, by digest.
fn vertexes(stderr: &str) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for line in stderr.lines() {
        let Ok(status) = serde_json::from_str::<Value>(line) else { continue };
        for vertex in status["vertexes"].as_array().into_iter().flatten() {
            out.insert(vertex["digest"].as_str().unwrap().to_owned(), vertex.clone());
        }
    }
    out
}

/// The graphs, configurations and files in an OCI archive with provenance, in the order of its
/// index.
fn results(archive: &Path, names: &BTreeMap<String, Value>) -> Vec<Result> {
    let blobs = files::blobs(fs::File::open(archive).unwrap());
    let top: Value = serde_json::from_slice(&blobs["index.json"]).unwrap();
    let index = files::json(&blobs, &top["manifests"][0]);
    let manifests = index["manifests"].as_array().unwrap();
    let images = manifests.iter().filter(|m| m["platform"]["os"] != "unknown");
    let result = |descriptor: &Value| {
        let manifest = files::json(&blobs, descriptor);
        let of =
            |m: &&Value| m["annotations"]["vnd.docker.reference.digest"] == descriptor["digest"];
        let attestation = files::json(&blobs, manifests.iter().find(of).unwrap());
        let statement = files::json(&blobs, &attestation["layers"][0]);
        Result {
            steps: Steps::theirs(&statement["predicate"], names),
            config: files::json(&blobs, &manifest["config"]),
            files: files::of_manifest(&blobs, &manifest),
        }
    };
    images.map(result).collect()
}

/// A repository whose commit is the same each time. Gives that.
fn repository(docker: &Docker, home: &Path) -> String {
    let work = home.join("work");
    case::write(&work.join("sub/f"), "f");
    case::write(&work.join("g"), "g");
    let script = "
        export GIT_AUTHOR_DATE='1000000000 +0000' GIT_COMMITTER_DATE='1000000000 +0000'
        git init --quiet --initial-branch=main
        git config user.name x; git config user.email x@example.org
        git add . && git commit --quiet --message=one
        git clone --quiet --bare . ../git/repo.git
        git -C ../git/repo.git config uploadpack.allowAnySHA1InWant true
        git rev-parse HEAD";
    let said = Said::of(docker.peers().command(&work, "sh", &["-ec", script]).output().unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    said.stdout.trim().to_owned()
}

fn git_server(docker: &Docker, home: &Path) -> (u16, Child) {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = format!("--base-path={}", home.join("git").display());
    let words = ["daemon", "--verbose", "--export-all", "--reuseaddr", "--listen=127.0.0.1"];
    let port_word = format!("--port={port}");
    let words: Vec<&str> = words.into_iter().chain([base.as_str(), &port_word]).collect();
    let mut command = docker.peers().command(home, "git", &words);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert!(line.contains("Ready"), "git daemon: {line}");
    thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (port, child)
}

/// A web server that has an archive under every name, for as long as the test runs.
fn web_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let data = case::web_archive();
    let length = data.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if !first.starts_with("HEAD") {
        stream.write_all(&data)?;
    }
    Ok(())
}
