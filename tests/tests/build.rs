//! `koskit build`, and the images that it makes.

use koskit_tests::{Home, Said, koskit, root, skip};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What a build without any tool can do.
const SCRATCH: &str =
    "FROM scratch\nARG WORD=none\nCOPY . /files/\nLABEL word=$WORD\nCMD [\"/x\"]\n";

fn home(dockerfile: &str) -> Home {
    let home = Home::new();
    home.write("app/Dockerfile", dockerfile);
    home.write("app/file", "text\n");
    home
}

#[test]
fn what_is_built_is_listed_and_inspected_as_docker_does() {
    let home = home(SCRATCH);
    home.must(&["build", "-t", "app:1", "--build-arg", "WORD=one", "--label", "a=b", "app"]);
    let listed = home.must(&["images"]).stdout;
    let mut lines = listed.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["REPOSITORY", "TAG", "IMAGE", "ID", "PLATFORM", "SIZE"]);
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3]), ("app", "1", "linux/arm64"));
    let image = home.inspect("app:1");
    assert_eq!(image["Id"].as_str().unwrap()[7..19], *row[2]);
    assert_eq!(image["Config"]["Labels"], serde_json::json!({ "word": "one", "a": "b" }));
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["/x"]));
    assert_eq!(image["RepoTags"], serde_json::json!(["app:1"]));
    assert_eq!(image["Created"], "1970-01-01T00:00:00Z");
    let json = home.must(&["images", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!((&json["Repository"], &json["Tag"]), (&"app".into(), &"1".into()));
}

#[test]
fn a_quiet_build_prints_the_image_id_and_nothing_else() {
    let home = home(SCRATCH);
    let said = home.must(&["build", "-q", "-t", "app", "app"]);
    let id = home.inspect("app")["Id"].as_str().unwrap().to_owned();
    assert_eq!(said, Said { code: 0, stdout: id + "\n", stderr: String::new() });
}

#[test]
fn ignored_files_are_not_in_the_image_and_a_stage_can_be_chosen() {
    let home = home("FROM scratch AS first\nCOPY . /\nFROM scratch\nCOPY file /other\n");
    home.write("app/.dockerignore", "# no secrets\n*.key\n");
    home.write("app/a.key", "secret");
    home.must(&["build", "--target", "first", "-t", "app", "app"]);
    let store = home.store();
    let image = store.resolve(&"app".parse().unwrap(), &"linux/arm64".parse().unwrap()).unwrap();
    let tree = koskit_image::Tree::read(&store, &image, &Default::default()).unwrap();
    let names: Vec<String> = tree.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(names, ["", ".dockerignore", "Dockerfile", "file"]);
}

#[test]
fn a_build_argument_that_nothing_takes_is_told() {
    let home = home(SCRATCH);
    let said = home.must(&["build", "--build-arg", "WROD=x", "app"]);
    let warning = "warning: no ARG that was built takes the build argument WROD\n";
    assert!(said.stderr.ends_with(warning), "{}", said.stderr);
}

#[test]
fn the_time_of_an_image_is_what_source_date_epoch_says() {
    let home = home(SCRATCH);
    let mut command = home.command(&["build", "-q", "-t", "app", "app"]);
    let said = Said::of(command.env("SOURCE_DATE_EPOCH", "951782400").output().unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(home.inspect("app")["Created"], "2000-02-29T00:00:00Z");
}

/// The schemas of the OCI, which refer to each other by the names of their files.
struct Schemas(PathBuf);

impl Schemas {
    fn read(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }

    fn check(self: &Arc<Self>, schema: &str, document: &Path) {
        let retriever = Retriever(Arc::clone(self));
        let options = jsonschema::options().with_retriever(retriever);
        let validator = options.build(&self.read(schema)).unwrap();
        let document = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "by {schema}: {document:#}");
    }
}

struct Retriever(Arc<Schemas>);

impl jsonschema::Retrieve for Retriever {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.path().as_str();
        Ok(self.0.read(path.rsplit('/').next().unwrap_or_default()))
    }
}

#[test]
fn an_exported_image_is_what_the_schemas_of_the_oci_say() {
    let folder = match std::env::var_os("KOSKIT_CONFORMANCE") {
        Some(folder) => PathBuf::from(folder).join("oci-image"),
        None => root().join("../shared/conformance/oci-image"),
    };
    if !folder.is_dir() {
        return skip(format!("{} is not there", folder.display()));
    }
    let schemas = Arc::new(Schemas(folder));
    let home = home(
        "FROM scratch\nCOPY . /files/\nENV A=b\nLABEL a=b\nEXPOSE 80\nUSER 1:1\nWORKDIR /w\n\
         ENTRYPOINT [\"/x\"]\nCMD [\"y\"]\n",
    );
    home.must(&["build", "-t", "app:1", "-o", "type=oci,dest=layout", "app"]);
    let layout = home.path().join("layout");
    schemas.check("image-index-schema.json", &layout.join("index.json"));
    schemas.check("image-layout-schema.json", &layout.join("oci-layout"));
    let image = home.inspect("app:1");
    let blob = |name: &str| layout.join("blobs/sha256").join(&image[name].as_str().unwrap()[7..]);
    schemas.check("image-manifest-schema.json", &blob("Digest"));
    schemas.check("config-schema.json", &blob("Id"));
}

#[test]
fn colours_and_the_tree_that_changes_are_for_terminals() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("there is no script, which makes terminals");
    }
    let home = home(SCRATCH);
    let on_terminal = |variable: &str| {
        let words = format!("{} build app", koskit().display());
        let mut command = Command::new("script");
        command.args(["-qec", &words, "/dev/null"]).envs(home.environment());
        command.current_dir(home.path()).env("TERM", "xterm").env_remove("NO_COLOR");
        let said = Said::of(command.env(variable, "1").output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stdout);
        said.stdout
    };
    let shown = on_terminal("COLOR");
    assert!(shown.contains("\x1b[34m => ") && shown.contains("\x1b[K\r\n"), "{shown:?}");
    let shown = on_terminal("NO_COLOR");
    assert!(!shown.contains("\x1b[34m") && shown.contains("\x1b[K\r\n"), "{shown:?}");
    let shown = home.must(&["build", "app"]).stderr;
    assert!(!shown.contains(['\x1b', '\r']), "{shown:?}");
}

#[test]
fn skopeo_inspects_and_copies_what_was_exported() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        return skip("there is no skopeo");
    }
    let home = home(SCRATCH);
    home.must(&["build", "-t", "app:1", "-o", "type=oci,dest=layout", "app"]);
    let skopeo = |words: &[&str]| {
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "--override-arch", "arm64"])
            .args(words)
            .current_dir(home.path())
            .output()
            .unwrap();
        let said = Said::of(output);
        assert_eq!(said.code, 0, "skopeo {words:?}: {}", said.stderr);
        said
    };
    let inspected = skopeo(&["inspect", "oci:layout:1"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["Digest"], home.inspect("app:1")["Digest"]);
    assert_eq!(inspected["Architecture"], "arm64");
    skopeo(&["copy", "oci:layout:1", "dir:copied"]);
    assert!(home.path().join("copied/manifest.json").is_file());
}

#[test]
fn a_killed_build_leaves_a_store_that_works_and_no_process() {
    let home = Home::with_sdk();
    let dockerfile = |command: &str| {
        let from = "FROM --platform=$BUILDPLATFORM kos/busybox";
        home.write("app/Dockerfile", &format!("{from}\nRUN {command}\nRUN echo b >/b\n"));
    };
    dockerfile("echo begun-3901 && sleep 3901");
    let mut build = home.command(&["build", "-t", "app", "app"]);
    let mut build = build.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(build.stderr.take().unwrap());
    let begun = stderr.lines().map_while(Result::ok).any(|line| line.ends_with(" begun-3901"));
    assert!(begun, "the command has not begun");
    build.kill().unwrap();
    build.wait().unwrap();
    // The command dies with us, but who waits for that has to poll.
    let sleeps = || {
        let output = Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().any(|line| line.ends_with("sleep 3901"))
    };
    for _ in 0..100 {
        if !sleeps() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!sleeps(), "the command of the killed build still runs");
    assert!(!home.names().contains(&"app:latest".to_owned()));

    dockerfile("true");
    home.must(&["build", "-t", "app", "app"]);
    assert!(home.names().contains(&"app:latest".to_owned()));
    let left = fs::read_dir(home.store_path().join("ingest")).unwrap();
    assert_eq!(left.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["lock"]);
}
