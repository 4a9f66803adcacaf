//! Registries as a user has them: `koskit pull`, `push`, `copy`, `login`, and FROM of what is not
//! here, beside skopeo, buildah and docker.

use koskit_tests::registry::{PASSWORD, Registry, Setup, USER, installed};
use koskit_tests::{Docker, Home, Said, skip};
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const BOTH: Setup = Setup { password: true, tls: true };

/// Builds an image with one file, for this platform.
fn build(home: &Home, name: &str, platform: &str, text: &str) {
    home.write("context/file", text);
    home.write("context/Dockerfile", "FROM scratch\nCOPY file /\nLABEL a=b\n");
    home.must(&["build", "-q", "--platform", platform, "-t", name, "context"]);
}

/// Runs `koskit login` with a password on its standard input.
fn login(home: &Home, registry: &Registry, words: &[&str], password: &str) -> Said {
    let host = registry.host();
    let mut all = vec!["login", "-u", USER, "--password-stdin", &host];
    all.extend(words);
    let mut command = home.command(&all);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    Said::of(process.wait_with_output().unwrap())
}

/// Makes a registry's certificate known to a home.
fn trust(home: &Home, registry: &Registry) {
    let text = fs::read_to_string(registry.ca()).unwrap();
    home.write(&format!("config/koskit/certs.d/{}/ca.crt", registry.host()), &text);
}

fn must(command: &mut Command) -> String {
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.code, 0, "{command:?}: {}{}", said.stdout, said.stderr);
    said.stdout
}

#[test]
fn what_one_pushes_another_pulls_and_runs_nothing_twice() {
    let Some(registry) = Registry::start() else { return };
    let (one, two) = (Home::new(), Home::new());
    let name = registry.name("team/hello:1");
    build(&one, &name, "linux/arm64", "hello");
    let digest = one.inspect(&name)["Digest"].as_str().unwrap().to_owned();
    let said = one.must(&["push", &name]);
    assert!(said.stdout.starts_with(&format!("1: digest: {digest} size: ")), "{}", said.stdout);
    assert!(said.stderr.contains(&format!("pushing {name}")), "{}", said.stderr);

    let said = two.must(&["pull", &name]);
    let end = format!("Digest: {digest}\nStatus: Downloaded newer image for {name}\n{name}\n");
    assert_eq!(said.stdout, end);
    let said = two.must(&["pull", &name]);
    assert!(said.stdout.contains("Status: Image is up to date for "), "{}", said.stdout);
    assert_eq!(two.must(&["pull", "-q", &name]).stdout, format!("{name}\n"));
    assert_eq!(two.inspect(&name)["Digest"].as_str(), Some(digest.as_str()));
    let said = two.must(&["push", "--format", "json", &name]);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&json["Name"], &json["Digest"]), (&name.as_str().into(), &digest.as_str().into()));

    let said = two.koskit(&["pull", &registry.name("team/none")]);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains(&format!("the registry {} has no", registry.host())),
        "{}",
        said.stderr
    );
    let said = two.koskit(&["pull", "--platform", "linux/amd64", &name]);
    assert!(said.stderr.contains("is not for linux/amd64, but for linux/arm64"), "{}", said.stderr);
    let said = two.koskit(&["push", "nothing"]);
    assert!(
        said.stderr.contains("there is no image nothing:latest in the store"),
        "{}",
        said.stderr
    );
}

#[test]
fn who_has_logged_in_may_push_and_who_has_logged_out_may_not() {
    let Some(registry) = Registry::with(BOTH) else { return };
    let home = Home::new();
    let name = registry.name("secret");
    build(&home, &name, "linux/arm64", "hello");
    let said = home.koskit(&["push", &name]);
    assert!(said.stderr.contains("certificate"), "{}", said.stderr);
    let ca = registry.ca().display().to_string();
    let said = home.koskit(&["push", "--ca-file", &ca, &name]);
    let hint = format!("`koskit login {}`", registry.host());
    assert!(said.code == 1 && said.stderr.contains(&hint), "{}", said.stderr);
    trust(&home, &registry);

    let said = login(&home, &registry, &[], "wrong");
    assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{}", said.stderr);
    assert!(!home.path().join("docker/config.json").exists());
    let said = login(&home, &registry, &[], &format!("{PASSWORD}\n"));
    assert_eq!((said.code, said.stdout.as_str()), (0, "Login Succeeded\n"), "{}", said.stderr);
    assert!(!said.stderr.contains(PASSWORD));
    home.must(&["push", &name]);
    home.must(&["pull", &name]);
    // The others take what we have written.
    if installed("skopeo") {
        let mut skopeo = registry.skopeo("inspect", "");
        skopeo.env("REGISTRY_AUTH_FILE", home.path().join("docker/config.json"));
        must(skopeo.arg(format!("docker://{name}:latest")));
    }

    let said = home.must(&["logout", &registry.host()]);
    assert!(said.stdout.starts_with("Removing login credentials for 127.0.0.1:"));
    let said = home.must(&["logout", &registry.host()]);
    assert!(said.stdout.starts_with("Not logged in to 127.0.0.1:"));
    assert_eq!(home.koskit(&["push", &name]).code, 1);
    let said = home.koskit(&["pull", "--insecure", &name]);
    assert!(said.stderr.contains(&hint), "a certificate is no password: {}", said.stderr);
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let Some(registry) = Registry::with(Setup { password: true, tls: false }) else { return };
    if !installed("script") {
        return skip("there is no script, of Debian's bsdutils");
    }
    let home = Home::new();
    let words = format!("{} login {}", koskit_tests::koskit().display(), registry.host());
    let mut command = Command::new("script");
    command.args(["-qec", &words, "/dev/null"]).envs(home.environment());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut stdout = process.stdout.take().unwrap();
    // Each is typed when it is asked for.
    let mut shown = String::new();
    for (question, answer) in [("Username: ", USER), ("Password: ", PASSWORD)] {
        while !shown.ends_with(question) {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {shown}"));
            shown.push(char::from(byte[0]));
        }
        stdin.write_all(format!("{answer}\n").as_bytes()).unwrap();
    }
    stdout.read_to_string(&mut shown).unwrap();
    assert!(process.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("Login Succeeded") && shown.contains(USER), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[test]
fn a_credential_helper_keeps_the_password() {
    let Some(registry) = Registry::with(Setup { password: true, tls: false }) else { return };
    let home = Home::new();
    let name = registry.name("secret");
    build(&home, &name, "linux/arm64", "hello");
    // One that keeps a single password in a file.
    let kept = home.path().join("kept");
    let script = format!(
        "#!/bin/sh\nkept={}\ncase $1 in\nstore) cat >$kept;;\nget) cat $kept 2>/dev/null || \
         {{ echo credentials not found in native keychain; exit 1; }};;\nerase) rm $kept;;\nesac\n",
        kept.display()
    );
    home.write("bin/docker-credential-file", &script);
    let program = home.path().join("bin/docker-credential-file");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    home.write("docker/config.json", "{\"credsStore\": \"file\"}");
    let path = format!("{}:{}", home.path().join("bin").display(), std::env::var("PATH").unwrap());
    let run = |words: &[&str]| Said::of(home.command(words).env("PATH", &path).output().unwrap());
    let host = registry.host();
    let said = run(&["login", "-u", USER, "-p", PASSWORD, &host]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    let config = fs::read_to_string(home.path().join("docker/config.json")).unwrap();
    assert!(!config.contains("auth\"") && config.contains(&host), "{config}");
    assert_eq!(run(&["push", &name]).code, 0);
    assert_eq!(run(&["logout", &host]).code, 0);
    assert!(!kept.exists());
    assert_eq!(run(&["push", &name]).code, 1);
    let said = home.koskit(&["push", &name]);
    assert!(
        said.stderr.contains("docker-credential-file failed: there is no such program"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_build_fetches_of_its_base_only_what_it_needs() {
    let Some(registry) = Registry::start() else { return };
    let (one, two) = (Home::new(), Home::new());
    let base = registry.name("base:1");
    build(&one, &base, "linux/arm64", "from the base");
    one.must(&["push", &base]);
    let layer = one.inspect(&base)["Layers"][0]["Digest"].as_str().map(str::to_owned);
    let layer = layer.unwrap_or_else(|| panic!("{}", one.inspect(&base)));
    let has = |home: &Home| home.store().has_blob(&layer.parse().unwrap());

    // Only a label: the layer stays where it is, also when the result is pushed.
    two.write("label/Dockerfile", &format!("FROM {base}\nLABEL c=d\n"));
    let built = registry.name("built:1");
    two.must(&["build", "-q", "-t", &built, "label"]);
    assert!(!has(&two));
    let said = two.must(&["push", "--progress=plain", &built]);
    assert!(said.stderr.contains("mounted from base"), "{}", said.stderr);
    assert!(!has(&two));

    // A file of it: the layer is fetched.
    two.write("copy/Dockerfile", &format!("FROM scratch\nCOPY --from={base} /file /copied\n"));
    let said = two.must(&["build", "--progress=plain", "-t", "copied", "copy"]);
    assert!(has(&two));
    assert!(said.stderr.contains(&format!("pulling a layer of {base}")), "{}", said.stderr);
    assert!(said.stderr.contains(&layer), "{}", said.stderr);
    assert!(two.names().contains(&base));

    let three = Home::new();
    three.must(&["pull", &built]);
    assert!(has(&three));
    // What was not fetched for a build is fetched when the image is written out.
    let four = Home::new();
    four.write("label/Dockerfile", &format!("FROM {base}\nLABEL c=d\n"));
    four.must(&["build", "-q", "-o", "type=oci,dest=out", "label"]);
    assert!(has(&four));
}

#[test]
fn a_base_that_is_nowhere_is_told_with_its_place() {
    let Some(registry) = Registry::start() else { return };
    let home = Home::new();
    let base = registry.name("nowhere:1");
    home.write("context/Dockerfile", &format!("FROM {base}\n"));
    let said = home.koskit(&["build", "context"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("Dockerfile:1"), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("there is no image {base} here")), "{}", said.stderr);
    assert!(said.stderr.contains("manifest unknown"), "{}", said.stderr);
}

#[test]
fn a_copy_has_all_platforms_and_the_same_digest() {
    let (Some(from), Some(to)) = (Registry::start(), Registry::with(BOTH)) else { return };
    let home = Home::new();
    trust(&home, &to);
    login(&home, &to, &[], PASSWORD);
    let name = from.name("multi:1");
    let digests: Vec<String> = ["linux/arm64", "linux/amd64"]
        .map(|platform| {
            build(&home, &from.name("part"), platform, platform);
            home.must(&["push", "-q", &from.name("part")]);
            home.inspect(&from.name("part"))["Digest"].as_str().unwrap().to_owned()
        })
        .to_vec();
    // Both under one name, by the store.
    let store = home.store();
    let images = digests.iter().zip(["linux/arm64", "linux/amd64"]).map(|(digest, platform)| {
        let name: koskit_llb::Reference = from.name("part").parse().unwrap();
        let image = store
            .resolve(&name.with_digest(digest.parse().unwrap()), &platform.parse().unwrap())
            .unwrap();
        (image.platform, image.descriptor)
    });
    let index = store.add_index(&images.collect::<Vec<_>>()).unwrap();
    store.tag(&name.parse().unwrap(), &index).unwrap();
    home.must(&["push", &name]);

    let copied = to.name("copy:2");
    let said = home.must(&["copy", &name, &copied]);
    assert_eq!(said.stdout, format!("{copied}: digest: {}\n", index.digest()));
    let other = Home::new();
    trust(&other, &to);
    login(&other, &to, &[], PASSWORD);
    other.must(&["pull", "--platform", "linux/amd64", &copied]);
    assert_eq!(other.must(&["images", "-q"]).stdout.lines().count(), 1);
    let said = other.must(&["pull", "--platform", "all", "--format", "json", &copied]);
    assert!(
        said.stdout.contains(r#""Platforms":["linux/amd64","linux/arm64"]"#)
            || said.stdout.contains(r#""Platforms":["linux/arm64","linux/amd64"]"#),
        "{}",
        said.stdout
    );
    assert_eq!(other.must(&["images", "-q"]).stdout.lines().count(), 2);
}

#[test]
fn buildah_and_skopeo_take_what_we_push_and_we_take_what_they_push() {
    let Some(registry) = Registry::start() else { return };
    let home = Home::new();
    let name = registry.name("ours:1");
    build(&home, &name, "linux/amd64", "hello");
    home.must(&["push", &name]);
    if !installed("skopeo") {
        return skip("there is no skopeo");
    }
    let layout = home.path().join("layout");
    let (from, to) = (format!("docker://{name}"), format!("oci:{}:1", layout.display()));
    must(registry.skopeo("copy", "src").args(["--override-arch=amd64", &from, &to]));
    let theirs = registry.name("theirs:1");
    must(registry.skopeo("copy", "dest").args([&to, &format!("docker://{theirs}")]));
    home.must(&["pull", "--platform", "linux/amd64", &theirs]);
    assert_eq!(home.inspect(&theirs)["Digest"], home.inspect(&name)["Digest"]);

    if !installed("buildah") {
        return skip("there is no buildah");
    }
    let root = home.path().join("buildah");
    let buildah = |words: &[&str]| {
        let mut command = Command::new("buildah");
        let run = root.join("run");
        command.args(["--storage-driver", "vfs", "--root"]).arg(&root).arg("--runroot").arg(run);
        Said::of(command.args(words).output().unwrap())
    };
    let said = buildah(&["pull", "-q", "--arch", "amd64", "--tls-verify=false", &name]);
    if said.code != 0 && said.stderr.contains("permission") {
        return skip(format_args!("buildah cannot work here: {}", said.stderr));
    }
    assert_eq!(said.code, 0, "{}", said.stderr);
    let again = registry.name("buildah:1");
    let said = buildah(&["push", "-q", "--tls-verify=false", &name, &again]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    home.must(&["pull", "--platform", "linux/amd64", &again]);
    let diff_ids = |name: &str| home.inspect(name)["RootFS"].clone();
    assert_eq!(diff_ids(&again), diff_ids(&name));
}

#[test]
fn docker_takes_what_we_push_and_we_take_what_docker_pushes() {
    let Some(registry) = Registry::start() else { return };
    let docker = match Docker::shared() {
        Ok(docker) => docker,
        Err(why) => return skip(why),
    };
    let home = Home::new();
    let name = registry.name("ours:1");
    build(&home, &name, "linux/amd64", "hello");
    home.must(&["push", &name]);
    docker.must(&["pull", &name]);
    let said = docker.must(&["image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", &name]);
    assert_eq!(said.stdout.trim(), "linux/amd64");
    let theirs = registry.name("theirs:1");
    docker.must(&["tag", &name, &theirs]);
    docker.must(&["push", &theirs]);
    home.must(&["pull", "--platform", "linux/amd64", &theirs]);
    let layers = |name: &str| home.inspect(name)["Layers"].clone();
    assert_eq!(layers(&theirs), layers(&name));
    // With attestations, as its builds have them.
    home.write("docker-context/Dockerfile", "FROM scratch\nCOPY file /\n");
    home.write("docker-context/file", "hello");
    let attested = registry.name("attested:1");
    let words = [
        "buildx",
        "build",
        "--provenance=mode=max",
        "--push",
        "-q",
        "-t",
        &attested,
        "docker-context",
    ];
    must(&mut docker.command(home.path(), &words));
    home.must(&["pull", "--platform", "linux/amd64", &attested]);
    home.must(&["pull", "--platform", "all", &attested]);
    home.must(&["copy", &attested, &registry.name("copied:1")]);
    docker.must(&["pull", &registry.name("copied:1")]);
}
