//! Caches that koskit and BuildKit share: in one server, and through directories, registries and
//! images.

use base64::Engine as _;
use koskit_tests::registry::Registry;
use koskit_tests::server::{self, Running};
use koskit_tests::{Docker, Home, Said, skip};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Who builds alone on the server, as others prune it.
static ALONE: Mutex<()> = Mutex::new(());

/// A registry with a base image, a home, and a folder `context` in it.
struct World {
    docker: &'static Docker,
    registry: Registry,
    home: Home,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl World {
    /// With a Dockerfile whose `BASE` is the base image.
    fn with(dockerfile: &str) -> Option<Self> {
        let docker = Docker::shared().map_err(skip).ok()?;
        let registry = Registry::start()?;
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (sdk, home) = (Home::with_sdk(), Home::new());
        let (store, base) = (sdk.store(), registry.name("base"));
        let known = store.find(&"kos/busybox".parse().unwrap()).unwrap().expect("the SDK has it");
        store.tag(&base.parse().unwrap(), &known).unwrap();
        sdk.must(&["push", &base]);
        home.write("context/Dockerfile", &dockerfile.replace("BASE", &base));
        home.write("context/hello.txt", "hello\n");
        home.write("context/folder/a", "a\n");
        home.write("context/folder/sub/b", "b\n");
        let world = Self { docker, registry, home, _alone: alone };
        world.prune();
        Some(world)
    }

    /// Lets the server forget all that it has built.
    fn prune(&self) {
        self.docker.must(&["buildx", "prune", "--all", "--force"]);
    }

    /// Builds by koskit's own engine, in a home that has neither images nor results.
    fn koskit_anew(&self, words: &[&str]) -> Steps {
        for folder in ["cache", "data"] {
            // What other users than this one own is removed by the one who may.
            let folder = self.home.path().join(folder);
            let removed = std::process::Command::new("rm").arg("-rf").arg(folder).status();
            assert!(removed.unwrap().success());
        }
        self.koskit(words)
    }

    fn koskit(&self, words: &[&str]) -> Steps {
        let common = ["build", "--progress=rawjson", "--platform", platform(), "context"];
        Steps::of(self.home.koskit(&[&common[..], words].concat()))
    }

    /// Builds by koskit on the server.
    fn remote(&self, words: &[&str]) -> Steps {
        let builder = format!("docker://{}", self.docker.socket().display());
        self.koskit(&[&["--builder", &builder][..], words].concat())
    }

    /// Builds by docker itself.
    fn docker(&self, words: &[&str]) -> Steps {
        let common = [
            "buildx",
            "build",
            "--progress=rawjson",
            "--provenance=false",
            "--platform",
            platform(),
        ];
        let output = ["--output=type=cacheonly", "context"];
        let output = match words.iter().any(|word| word.contains("push=true")) {
            true => &output[1..],
            false => &output[..],
        };
        let words = [&common[..], output, words].concat();
        Steps::of(Said::of(self.docker.command(self.home.path(), &words).output().unwrap()))
    }

    /// Another file than before.
    fn change(&self) {
        self.home.write("context/hello.txt", "hello again\n");
    }
}

fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// The steps of a build, as `--progress=rawjson` tells them.
#[derive(Debug)]
struct Steps {
    /// The instructions that were done.
    done: BTreeSet<String>,
    /// Those whose result was known, and those that nobody asked for as all after them was known.
    cached: BTreeSet<String>,
    said: String,
}

impl Steps {
    fn of(said: Said) -> Self {
        assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
        let mut steps = Self { done: BTreeSet::new(), cached: BTreeSet::new(), said: said.stderr };
        let mut all: BTreeMap<String, (String, bool)> = BTreeMap::new();
        for line in steps.said.lines() {
            let status: Value = serde_json::from_str(line).unwrap_or_default();
            for vertex in status["vertexes"].as_array().into_iter().flatten() {
                let (digest, name) = (vertex["digest"].to_string(), vertex["name"].as_str());
                let step = all.entry(digest).or_default();
                name.unwrap_or_default().clone_into(&mut step.0);
                // What ends with an error here was stopped, as the build went well.
                let known = vertex["cached"] == true || vertex["error"].is_string();
                step.1 |= known;
            }
        }
        for (name, known) in all.into_values() {
            // `[build 2/3] RUN true`
            let Some((_, what)) = name.split_once("] ") else { continue };
            if ["RUN ", "COPY ", "ADD ", "WORKDIR "].iter().any(|word| what.starts_with(word)) {
                let list = if known { &mut steps.cached } else { &mut steps.done };
                list.insert(what.to_owned());
            }
        }
        // COPY --link has a second vertex, which is no work.
        steps.done.retain(|what| !steps.cached.contains(what));
        steps
    }

    /// All were known.
    #[track_caller]
    fn all_known(&self, count: usize) {
        assert_eq!((self.done.len(), self.cached.len()), (0, count), "{}", self.said);
    }

    /// All had to be done.
    #[track_caller]
    fn all_done(&self, count: usize) {
        assert_eq!((self.done.len(), self.cached.len()), (count, 0), "{}", self.said);
    }
}

const DOCKERFILE: &str = "\
FROM BASE AS build
WORKDIR /work
COPY hello.txt folder ./
RUN --network=none tr a-z A-Z <hello.txt >loud.txt
FROM BASE
COPY --from=build /work/loud.txt /
RUN --network=none cat loud.txt >/copy
";

#[test]
fn what_docker_has_built_a_server_does_not_build_again_for_koskit_and_the_other_way_round() {
    let Some(world) = World::with(DOCKERFILE) else { return };
    world.docker(&[]).all_done(5);
    world.remote(&["-t", "a"]).all_known(5);
    world.change();
    let steps = world.remote(&["-t", "b"]);
    // An empty folder does not depend on the file.
    assert_eq!((steps.done.len(), steps.cached.len()), (4, 1), "{}", steps.said);
    world.docker(&[]).all_known(5);
}

#[test]
fn a_server_writes_caches_that_it_and_others_begin_with() {
    let Some(world) = World::with(DOCKERFILE) else { return };
    let name = world.registry.name("cache");
    let to = format!("type=registry,ref={name},mode=max");
    let steps = world.remote(&["--cache-to", "type=local,dest=kept,mode=max", "--cache-to", &to]);
    steps.all_done(5);
    let from = format!("type=registry,ref={name}");
    for cache in ["type=local,src=kept", &from] {
        world.prune();
        world.remote(&["--cache-from", cache]).all_known(5);
        world.prune();
        world.docker(&["--cache-from", cache]).all_known(5);
    }
    // One that is not there is said and passed over.
    world.prune();
    let steps = world.remote(&["--cache-from", "type=local,src=nowhere"]);
    steps.all_done(5);
    assert!(steps.said.contains("nowhere"), "{}", steps.said);
    let builder = format!("docker://{}", world.docker.socket().display());
    let words = ["build", "--builder", &builder, "--cache-to", "type=local", "context"];
    let said = world.home.koskit(&words);
    assert!(said.code != 0 && said.stderr.contains("dest=…"), "{}", said.stderr);
}

#[test]
fn a_cache_within_an_image_is_not_lost_on_the_way_through_the_store() {
    // With a step that leaves nothing, whose layer koskit leaves out.
    let text = DOCKERFILE.replace(" >/copy", " >/copy\nRUN --network=none true");
    let Some(world) = World::with(&text) else { return };
    let name = world.registry.name("app");
    world.remote(&["-t", &name, "--push", "--cache-to", "type=inline"]).all_done(6);
    let config = world.home.inspect(&name);
    assert_eq!(config["RootFS"]["Layers"].as_array().unwrap().len(), 3, "{config:#}");
    let from = format!("type=registry,ref={name}");
    world.prune();
    let steps = world.remote(&["--cache-from", &from]);
    // Those of the stage whose layers are not in the image are not needed.
    assert_eq!(steps.done.len(), 0, "{}", steps.said);
    world.prune();
    let steps = world.docker(&["--cache-from", &from]);
    assert_eq!(steps.done.len(), 0, "{}", steps.said);
}

#[test]
fn limits_reach_the_commands_of_both_builders_and_control_groups_those_of_a_server() {
    let text = "FROM BASE\nRUN --network=none ulimit -n >/limit; echo \"files: $(cat /limit)\"\n";
    let Some(world) = World::with(text) else { return };
    let logged = base64::engine::general_purpose::STANDARD.encode("files: 77");
    for steps in
        [world.remote(&["--ulimit", "nofile=77:99"]), world.koskit(&["--ulimit", "nofile=77:99"])]
    {
        assert!(steps.said.contains(&logged), "{}", steps.said);
    }
    let said = world.home.koskit(&["build", "context", "--cgroup-parent", "x"]);
    assert!(said.stderr.contains("--cgroup-parent x cannot be had"), "{}", said.stderr);
    assert!(said.stderr.contains("--builder"), "{}", said.stderr);
}

/// Steps of all kinds, which take what is hard to name.
const ALL: &str = r#"
FROM BASE AS one
WORKDIR /work/a
ENV A=b
ARG X="<&>"
COPY --chown=7:8 --chmod=640 folder /f/
COPY *.txt /t/
COPY . /all/
COPY --link folder/a /linked
RUN --network=none --mount=type=bind,target=/ctx cat /ctx/hello.txt >/h; echo "$X" >>/h
RUN --network=none --mount=type=bind,source=folder/sub,target=/ctx ls /ctx >/h2
RUN --network=none --mount=type=cache,target=/c --mount=type=tmpfs,target=/t2 \
    --mount=type=secret,id=s --mount=type=bind,from=BASE,target=/b echo x >/c/x
RUN --network=none --mount=type=cache,id=other,sharing=locked,target=/c echo 1 >/one
COPY --exclude=a folder /g/
COPY --exclude=*.txt . /nt/
ADD --link link[12] /links/
COPY link1 /l1
COPY <<TEXT /heredoc
a < b
TEXT
COPY --chown=root:root hello.txt /owned
FROM scratch
COPY --from=one /f/sub /h* /
COPY --link --from=one /linked /
"#;
/// How many they are.
const COUNT: usize = 17;

fn world_with_all() -> Option<World> {
    let world = World::with(ALL)?;
    let link = |to: &str, name: &str| {
        let path = world.home.path().join("context").join(name);
        std::os::unix::fs::symlink(to, path).unwrap();
    };
    link("hello.txt", "link1");
    link("folder", "link2");
    Some(world)
}

#[test]
fn docker_finds_all_steps_that_koskit_has_exported() {
    let Some(world) = world_with_all() else { return };
    let name = world.registry.name("cache");
    let to = format!("type=registry,ref={name},mode=max");
    world
        .koskit(&["--cache-to", "type=local,dest=kept,mode=max", "--cache-to", &to])
        .all_done(COUNT);
    let from = format!("type=registry,ref={name}");
    for cache in ["type=local,src=kept", &from] {
        world.prune();
        world.docker(&["--cache-from", cache]).all_known(COUNT);
        // And so does koskit, of course.
        world.koskit_anew(&["--cache-from", cache]).all_known(COUNT);
    }
    world.change();
    world.prune();
    let steps = world.docker(&["--cache-from", "type=local,src=kept"]);
    assert_eq!(steps.cached, BTreeSet::from(NOT_CHANGED.map(String::from)), "{}", steps.said);
}

#[test]
fn koskit_finds_all_steps_that_docker_has_exported() {
    let Some(world) = world_with_all() else { return };
    let name = world.registry.name("cache");
    let to = format!("type=registry,ref={name},mode=max");
    world
        .docker(&["--cache-to", "type=local,dest=kept,mode=max", "--cache-to", &to])
        .all_done(COUNT);
    let from = format!("type=registry,ref={name}");
    for cache in ["type=local,src=kept", &from] {
        let steps = world.koskit_anew(&["--cache-from", cache, "--output", "out"]);
        steps.all_known(COUNT);
        let file =
            |name: &str| std::fs::read_to_string(world.home.path().join("out").join(name)).unwrap();
        assert_eq!([file("h"), file("b"), file("linked")], ["hello\n<&>\n", "b\n", "a\n"]);
        std::fs::remove_dir_all(world.home.path().join("out")).unwrap();
    }
    world.change();
    let steps = world.koskit_anew(&["--cache-from", "type=local,src=kept"]);
    assert_eq!(steps.cached, BTreeSet::from(NOT_CHANGED.map(String::from)), "{}", steps.said);
}

/// Steps on what comes from servers: files, and commits of a repository.
const SERVERS: &str = "\
FROM BASE
ADD WEB/file.txt /plain.txt
ADD --chmod=600 --chown=1:2 WEB/file.txt /owned.txt
ADD --checksum=sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 \
    WEB/file.txt /checked.txt
ADD GIT#main /branch/
ADD --keep-git-dir=true GIT /kept/
ADD --keep-git-dir=true GIT#v1 /tag/
ADD GIT#v2:sub /folder/
RUN --network=none cat /plain.txt /branch/top /folder/file >/all
";
const SERVERS_COUNT: usize = 8;

/// With the servers, whose files are in the home.
fn world_with_servers() -> Option<(World, [Running; 2])> {
    let world = World::with("FROM BASE\n")?;
    let home = &world.home;
    home.write("web/file.txt", "hello\n");
    home.write("repository/top", "top\n");
    home.write("repository/sub/file", "sub\n");
    let repository = home.path().join("repository");
    server::commit(&repository);
    server::git(&repository, &["tag", "v1"]);
    let words = ["-c", "user.name=k", "-c", "user.email=k@example.org", "tag", "-a", "-m", "2"];
    server::git(&repository, &[&words[..], &["v2"]].concat());
    let (web, files) = server::serve_files(home, "web").map_err(skip).ok()?;
    let (git, repositories) = server::serve_git(home).map_err(skip).ok()?;
    let text = SERVERS.replace("BASE", &world.registry.name("base")).replace("WEB", &files);
    let text = text.replace("GIT", &format!("{repositories}/repository/.git"));
    home.write("context/Dockerfile", &text);
    Some((world, [web, git]))
}

#[test]
fn steps_on_what_comes_from_servers_are_found_by_both() {
    let Some((world, _servers)) = world_with_servers() else { return };
    world.koskit(&["--cache-to", "type=local,dest=ours,mode=max"]).all_done(SERVERS_COUNT);
    world.prune();
    world.docker(&["--cache-from", "type=local,src=ours"]).all_known(SERVERS_COUNT);
    world.prune();
    world.docker(&["--cache-to", "type=local,dest=theirs,mode=max"]).all_done(SERVERS_COUNT);
    let steps = world.koskit_anew(&["--cache-from", "type=local,src=theirs", "--output", "out"]);
    steps.all_known(SERVERS_COUNT);
    let all = std::fs::read_to_string(world.home.path().join("out/all")).unwrap();
    assert_eq!(all, "hello\ntop\nsub\n");
}

/// The steps of [`ALL`] that are not made of the file that changes.
const NOT_CHANGED: [&str; 3] =
    ["WORKDIR /work/a", "COPY --chown=7:8 --chmod=640 folder /f/", "COPY --link folder/a /linked"];

#[test]
fn the_cache_within_an_image_is_one_for_both() {
    let text = "FROM BASE\nCOPY hello.txt folder /\nRUN --network=none cat hello.txt >/copy\n\
                RUN --network=none true\nRUN --network=none echo more >/more\n";
    let Some(world) = World::with(text) else { return };
    let (here, there) = (world.registry.name("here"), world.registry.name("there"));
    let output = format!("--output=type=image,name={there},push=true");
    world.docker(&[&output, "--cache-to", "type=inline"]).all_done(4);
    let from = format!("type=registry,ref={there}");
    world.koskit_anew(&["--cache-from", &from]).all_known(4);
    world.koskit_anew(&["-t", &here, "--push", "--cache-to", "type=inline"]).all_done(4);
    world.prune();
    world.docker(&["--cache-from", &here]).all_known(4);
    world.koskit_anew(&["--cache-from", &here]).all_known(4);
}
