//! Dockerfiles built by the BuildKit of a real docker daemon.

mod proxy;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;

use koskit_buildkit::{Cache, Client, Error, Request, Solved};
use koskit_dockerfile::Source;
use koskit_frontend::{BaseImage, Build, Context, ImageResolver, Options, ResolveError, convert};
use koskit_image::Store;
use koskit_llb::{Digest, Graph, Platform, Reference, Secret};
use koskit_progress::Status;
use koskit_tests::{Docker, Home, skip};

use proxy::{Certificates, Proxy};

struct Images(Store);

impl ImageResolver for Images {
    fn resolve(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ResolveError> {
        let image = self.0.resolve(name, platform)?;
        let config = serde_json::from_value(image.config_json.clone())?;
        Ok(BaseImage { digest: image.digest(), config })
    }
}

/// A home whose folder `context` is the build context.
struct Project {
    home: Home,
    request: Request,
    told: RefCell<Status>,
}

impl Project {
    fn new() -> Self {
        let home = Home::with_sdk();
        std::fs::create_dir(home.path().join("context")).unwrap();
        let mut request = Request::default();
        request.inputs.local.insert("context".into(), home.path().join("context"));
        Self { home, request, told: RefCell::default() }
    }

    fn convert(&self, dockerfile: &str) -> Build {
        let platform = Platform::host();
        let ignore = std::fs::read_to_string(self.home.path().join("context/.dockerignore"));
        let ignore = koskit_frontend::ignore_patterns(&ignore.unwrap_or_default());
        let context = Context::Local { name: "context".into(), ignore };
        let options = Options { target_platform: platform, context, ..Options::default() };
        let source = Source::new("Dockerfile", dockerfile);
        convert(source, &options, &Images(self.home.store())).unwrap()
    }

    fn solve(&self, client: &Client, dockerfile: &str) -> Result<Solved, Error> {
        let definition = self.convert(dockerfile).definition;
        client.solve(&definition, &self.request, &self.home.store(), &|status| {
            let mut told = self.told.borrow_mut();
            told.vertexes.extend(status.vertexes);
            told.logs.extend(status.logs);
        })
    }

    /// All files of the layers, the last one of each path.
    fn files(&self, solved: &Solved) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for layer in &solved.layers {
            let reader = self.home.store().layer(layer).unwrap();
            for entry in tar::Archive::new(reader).entries().unwrap() {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                let path = entry.path().unwrap().display().to_string();
                files.insert(path.trim_start_matches("./").to_owned(), bytes);
            }
        }
        files
    }

    fn output(&self) -> String {
        let told = self.told.borrow();
        told.logs.iter().map(|log| String::from_utf8_lossy(&log.data).into_owned()).collect()
    }
}

/// The daemon of all tests here, or the reason why there is none.
macro_rules! docker {
    () => {
        match Docker::shared() {
            Ok(docker) => docker,
            Err(why) => return skip(why),
        }
    };
}

fn connect(docker: &Docker) -> Client {
    Client::connect(&format!("docker://{}", docker.socket().display())).unwrap()
}

#[test]
fn an_image_of_the_store_is_built_on_and_the_layers_come_back() {
    let docker = docker!();
    let project = Project::new();
    project.home.write("context/a.txt", "from the context");
    project.home.write("context/secret.txt", "not for the builder");
    project.home.write("context/.dockerignore", "secret.txt\n");
    let dockerfile = "\
        FROM kos/busybox AS one\n\
        RUN --network=none cat /etc/passwd >/passwd && echo said\n\
        RUN --network=none true\n\
        FROM kos/busybox\n\
        COPY . /context/\n\
        COPY --from=one /passwd /passwd\n\
        RUN --network=none ln -s passwd /link\n\
        RUN --network=none true\n";
    let solved = project.solve(&connect(docker), dockerfile).unwrap();
    // busybox, the context, passwd, the link, nothing.
    assert_eq!(solved.changed, [true, true, true, true, false]);
    assert_eq!(solved.layers.len(), 4);
    let files = project.files(&solved);
    assert_eq!(files["context/a.txt"], b"from the context");
    assert!(!files.contains_key("context/secret.txt"));
    assert_eq!(files["passwd"], b"root:x:0:0:root:/root:/bin/sh\n");
    assert!(files.contains_key("link") && files.contains_key("bin/busybox"));
    assert!(project.output().contains("said"), "{}", project.output());
    // What it is told of are the vertices of the graph that was asked for.
    let graph = Graph::new(&project.convert(dockerfile).definition).unwrap();
    let told = project.told.borrow();
    for vertex in graph.vertices() {
        let known = told.vertexes.iter().any(|told| told.digest == vertex.digest);
        assert!(known, "{} is missing in {:#?}", vertex.name(), told.vertexes);
    }
    // The base's layer is the one that was in the store.
    let base = project.home.store().resolve(&"kos/busybox".parse().unwrap(), &Platform::host());
    assert_eq!(solved.layers[0].digest, base.unwrap().layers[0].digest);
}

#[test]
fn two_builds_give_the_same_layers() {
    let docker = docker!();
    let project = Project::new();
    project.home.write("context/a", "a");
    let client = connect(docker);
    let build = |file: &str| {
        let text = format!(
            "FROM kos/busybox\nCOPY {file} /x\nRUN --network=none date >/dev/null; echo a >/b\n"
        );
        let definition = {
            let mut build = project.convert(&text);
            // Without the cache it is really made twice.
            build
                .definition
                .metadata
                .values_mut()
                .for_each(|metadata| metadata.ignore_cache = true);
            build.definition
        };
        client.solve(&definition, &project.request, &project.home.store(), &|_| {}).unwrap().layers
    };
    let first = build("a");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(build("a"), first);
}

#[test]
fn secrets_and_agents_are_there_for_a_step_and_nowhere_else() {
    let docker = docker!();
    let mut project = Project::new();
    let secret = Secret::Bytes(b"hunter2".to_vec());
    project.request.inputs.secrets.insert("token".into(), secret);
    let socket = project.home.path().join("agent.sock");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    project.request.inputs.ssh.insert("default".into(), socket);
    let dockerfile = "\
        FROM kos/busybox\n\
        RUN --network=none --mount=type=secret,id=token \
            sha256sum /run/secrets/token | cut -c 1-64 >/sum\n\
        RUN --network=none --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n\
        RUN --network=none --mount=type=secret,id=other test ! -e /run/secrets/other\n";
    let client = connect(docker);
    let solved = project.solve(&client, dockerfile).unwrap();
    let files = project.files(&solved);
    let sum = format!("{}\n", Digest::of(b"hunter2").hex());
    assert_eq!(String::from_utf8_lossy(&files["sum"]), sum);
    assert!(!files.values().any(|bytes| bytes.windows(7).any(|part| part == b"hunter2")));
    let required = "FROM kos/busybox\n\
        RUN --network=none --mount=type=secret,id=other,required true\n";
    let error = project.solve(&client, required).unwrap_err().to_string();
    assert!(error.contains("other"), "{error}");
}

#[test]
fn a_step_that_fails_is_named_with_what_it_said() {
    let docker = docker!();
    let project = Project::new();
    let dockerfile = "FROM kos/busybox\nRUN --network=none echo last words; exit 3\n";
    let error = project.solve(&connect(docker), dockerfile).unwrap_err();
    let Error::Step { vertex, message } = error else { panic!("{error:?}") };
    assert!(message.contains("exit code: 3"), "{message}");
    let graph = Graph::new(&project.convert(dockerfile).definition).unwrap();
    let failed = graph.vertices().iter().find(|known| Some(&known.digest) == vertex.as_ref());
    let failed = failed.expect("it is one of the graph that was asked for");
    assert!(failed.name().contains("RUN"), "{}", failed.name());
    assert!(project.output().contains("last words"));
}

#[test]
fn what_the_context_lacks_is_said() {
    let docker = docker!();
    let mut project = Project::new();
    let error = project.solve(&connect(docker), "FROM scratch\nCOPY missing /\n").unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    let gone = project.home.path().join("gone");
    project.request.inputs.local.insert("context".into(), gone);
    let error = project.solve(&connect(docker), "FROM scratch\nCOPY x /\n").unwrap_err();
    assert!(error.to_string().contains("gone as the directory context"), "{error}");
}

#[test]
fn a_server_by_itself_is_a_builder() {
    let docker = docker!();
    let project = Project::new();
    project.home.write("context/file", "x");
    let socket = project.home.path().join("buildkitd.sock");
    let proxy = Proxy::buildkitd(docker.socket(), &socket);
    let client = Client::connect(&proxy.builder).unwrap();
    assert!(client.workers().unwrap()[0].platforms.contains(&Platform::host()));
    let solved = project.solve(&client, "FROM scratch\nCOPY file /\n").unwrap();
    assert_eq!(project.files(&solved)["file"], b"x");
    assert_eq!(project.solve(&client, "FROM scratch\n").unwrap(), Solved::default());
}

#[test]
fn a_server_by_itself_writes_a_cache_here_and_begins_with_it() {
    let docker = docker!();
    let mut project = Project::new();
    let socket = project.home.path().join("buildkitd.sock");
    let proxy = Proxy::buildkitd(docker.socket(), &socket);
    let client = Client::connect(&proxy.builder).unwrap();
    let directory = project.home.path().join("kept");
    let cache = |key: &str, more: &[(&str, &str)]| {
        let path = directory.display().to_string();
        let more = more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let attributes = more.chain([(key.to_owned(), path)]).collect();
        vec![Cache { kind: "local".into(), attributes }]
    };
    project.request.cache_to =
        cache("dest", &[("tag", "other"), ("image-manifest", "false"), ("compression", "zstd")]);
    let dockerfile = "FROM kos/busybox\nRUN --network=none echo a cache >/a\n";
    project.solve(&client, dockerfile).unwrap();
    let index = std::fs::read(directory.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "other");
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.index.v1+json");
    project.request.cache_to = Vec::new();
    project.request.cache_from = cache("src", &[("digest", entry["digest"].as_str().unwrap())]);
    project.solve(&client, dockerfile).unwrap();
    let told = project.told.borrow();
    let read = told.vertexes.iter().find(|told| told.name.starts_with("importing cache manifest"));
    assert!(read.is_some_and(|read| read.error.is_empty()), "{:#?}", told.vertexes);
}

#[test]
fn tls_takes_certificates_of_both_sides() {
    let docker = docker!();
    let project = Project::new();
    project.home.write("context/file", "x");
    let (certificates, others) = (Certificates::new(), Certificates::new());
    for as_docker in [false, true] {
        let proxy = Proxy::tls(docker.socket(), &certificates, as_docker);
        let connect = |query: String| Client::connect(&format!("{}?{query}", proxy.builder));
        let client = connect(certificates.query(true)).unwrap();
        let solved = project.solve(&client, "FROM scratch\nCOPY file /\n").unwrap();
        assert_eq!(project.files(&solved)["file"], b"x");
        let refused = |query| connect(query).err().expect("it is refused").to_string();
        let stranger = refused(others.query(true));
        assert!(stranger.contains("certificate"), "{stranger}");
        let anonymous = refused(certificates.query(false));
        assert!(anonymous.contains("cannot talk to the"), "{anonymous}");
    }
}

#[test]
fn where_no_builder_is_one_reads_what_to_do() {
    let missing = Client::connect("unix:///nowhere.sock").err().unwrap().to_string();
    let wanted = "there is no BuildKit server at /nowhere.sock; start it, or name another one with \
                  --builder";
    assert_eq!(missing, wanted);
    let docker = docker!();
    // One that expects HTTP/1.1.
    let builder = format!("unix://{}", docker.socket().display());
    let other = Client::connect(&builder).err().unwrap().to_string();
    assert!(other.contains("cannot talk to the BuildKit server"), "{other}");
}
