//! What comes from web servers, repositories, layouts and archives.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::fetch::tests::{Server, answer};

impl World {
    fn of_source(
        &self,
        identifier: &str,
        attrs: &[(&str, &str)],
        inputs: &Inputs,
    ) -> Result<Vec<String>, String> {
        let mut ops = Ops::default();
        let source = ops.source_with(identifier, attrs);
        match self.solve(&ops.graph(source), inputs).0 {
            Ok(solved) => Ok(self.listed(&solved).0),
            Err(error) => Err(chain(&error)),
        }
    }
}

#[test]
fn a_file_of_a_web_server_is_fetched_once() {
    inside(|_, dir| {
        let world = World::new(dir);
        let server = Server::new(|head, _| match head.contains("if-none-match: \"1\"") {
            true => answer("304 Not Modified", &["ETag: \"1\""], b""),
            false => answer("200 OK", &["Content-Length: 5", "ETag: \"1\""], b"hello"),
        });
        let url = format!("{}/a/file.txt", server.url);
        let get = |attrs: &[(&str, &str)]| world.of_source(&url, attrs, &Inputs::default());
        for _ in 0..2 {
            assert_eq!(get(&[]).unwrap(), ["600 0:0 file.txt hello"]);
        }
        let requests = server.requests();
        assert!(requests[0].starts_with("get /a/file.txt http/1.1\r\n"));
        assert_eq!(requests.len(), 2);
        assert!(requests[1].contains("if-none-match: \"1\"\r\n"));

        let attrs = [
            ("http.filename", "../other"),
            ("http.perm", "0755"),
            ("http.uid", "7"),
            ("http.gid", "8"),
            ("http.header.accept", "text/plain"),
        ];
        assert_eq!(get(&attrs).unwrap(), ["755 7:8 other hello"]);
        assert!(server.requests()[2].contains("accept: text/plain\r\n"));
    });
}

#[test]
fn with_a_checksum_no_server_is_asked_for_what_is_known() {
    inside(|_, dir| {
        let world = World::new(dir);
        let server = Server::new(|_, _| answer("200 OK", &["Content-Length: 5"], b"hello"));
        let url = format!("{}/file", server.url);
        let get = |checksum: &Digest| {
            world.of_source(&url, &[("http.checksum", checksum.as_str())], &Inputs::default())
        };
        let right = Digest::of(b"hello");
        for _ in 0..3 {
            assert_eq!(get(&right).unwrap(), ["600 0:0 file hello"]);
        }
        assert_eq!(server.requests().len(), 1);
        let wrong = Digest::of(b"other");
        let wanted = format!("cannot get {url}: its checksum is {right}, and not {wrong}");
        assert_eq!(get(&wrong).unwrap_err(), wanted);
    });
}

#[test]
fn a_secret_for_a_web_server_is_in_the_request_and_nowhere_else() {
    inside(|_, dir| {
        let world = World::new(dir);
        let server =
            Server::new(|head, _| match head.contains("authorization: bearer hush-hush") {
                true => answer("200 OK", &["Content-Length: 2", "ETag: \"1\""], b"ok"),
                false => answer("401 Unauthorized", &[], b""),
            });
        let url = format!("{}/file", server.url);
        let attrs = [("http.authheadersecret", "token")];
        let inputs = |secret: &str| {
            let secret = Secret::Bytes(secret.into());
            Inputs { secrets: [("token".into(), secret)].into(), ..Inputs::default() }
        };
        let error = world.of_source(&url, &attrs, &inputs("Bearer wrong")).unwrap_err();
        assert_eq!(error, format!("cannot get {url}: the server answers 401 Unauthorized"));
        let files = world.of_source(&url, &attrs, &inputs("Bearer hush-hush\n"));
        assert_eq!(files.unwrap(), ["600 0:0 file ok"]);
        let grep = Command::new("grep").args(["-rl", "hush-hush"]).arg(dir).output().unwrap();
        assert_eq!(String::from_utf8(grep.stdout).unwrap(), "");
    });
}

#[test]
fn an_image_of_a_layout_is_brought_into_the_store() {
    inside(|_, dir| {
        let elsewhere = World::new(&dir.join("elsewhere"));
        fs::create_dir_all(dir.join("elsewhere/base/d")).unwrap();
        fs::write(dir.join("elsewhere/base/d/f"), "f").unwrap();
        add_programs(&elsewhere, &dir.join("elsewhere"), "base", &[]);
        let image = elsewhere.store.resolve(&"base".parse().unwrap(), &Platform::host()).unwrap();
        let layout = elsewhere.store.path().to_owned();
        fs::create_dir_all(dir.join("here")).unwrap();
        let world = World::new(&dir.join("here"));
        let inputs =
            Inputs { oci_layouts: [("one".into(), layout.clone())].into(), ..Inputs::default() };
        let attrs = [("oci.store", "one")];
        let exactly = format!("oci-layout://docker.io/library/x@{}", image.digest());
        let files = world.of_source(&exactly, &attrs, &inputs).unwrap();
        assert_eq!(files, ["755 0:0 d/", "644 0:0 d/f f"]);
        let by_tag = world.of_source("oci-layout://docker.io/library/x:latest", &attrs, &inputs);
        assert_eq!(by_tag.unwrap(), files);
        let error = world.of_source(&exactly, &[("oci.store", "two")], &inputs).unwrap_err();
        assert_eq!(error, "the build needs the OCI layout \"two\", which it was not given");

        // A layer that is another one is not taken.
        fs::create_dir_all(dir.join("third")).unwrap();
        let world = World::new(&dir.join("third"));
        let layer = layout.join("blobs/sha256").join(image.layers[0].digest.hex());
        let mut bytes = fs::read(&layer).unwrap();
        bytes[20] ^= 1;
        fs::write(&layer, bytes).unwrap();
        let error = world.of_source(&exactly, &attrs, &inputs).unwrap_err();
        assert!(error.contains(image.layers[0].digest.hex()), "{error}");
    });
}

#[test]
fn a_context_may_be_an_archive() {
    inside(|_, dir| {
        let world = World::new(dir);
        let mut builder =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
        for (name, text) in [("Dockerfile", "x"), ("src/a", "a"), ("src/b.o", "b")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(1234);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let archive = dir.join("context.tar.gz");
        fs::write(&archive, builder.into_inner().unwrap().finish().unwrap()).unwrap();
        let inputs = Inputs { local: [("context".into(), archive)].into(), ..Inputs::default() };
        let attrs = [("local.excludepatterns", "[\"**/*.o\"]")];
        let files = world.of_source("local://context", &attrs, &inputs).unwrap();
        assert_eq!(files, ["644 0:0 Dockerfile x", "755 0:0 src/", "644 0:0 src/a a"]);
        let other = dir.join("other");
        fs::write(&other, "no archive").unwrap();
        let inputs = Inputs { local: [("context".into(), other)].into(), ..Inputs::default() };
        let error = world.of_source("local://context", &attrs, &inputs).unwrap_err();
        assert!(error.ends_with("it is neither a directory nor a tar archive"), "{error}");
    });
}

/// Repositories below a directory, served by git's own daemon.
struct Daemon {
    url: String,
    directory: PathBuf,
    _process: Running,
}

impl Daemon {
    fn start(dir: &Path) -> Option<Self> {
        let path = Command::new("git").arg("--exec-path").output().ok()?.stdout;
        let path = String::from_utf8(path).ok()?;
        let program = Path::new(path.trim()).join("git-daemon");
        if !program.exists() {
            println!("skipped: there is no git daemon (package git)");
            return None;
        }
        let directory = dir.join("repositories");
        fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut daemon = Command::new(program);
        daemon.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", "--base-path=."]);
        daemon.arg(format!("--port={port}")).current_dir(&directory);
        daemon.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
        daemon
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("HOME", dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running(daemon.spawn().unwrap());
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { url: format!("git://127.0.0.1:{port}"), directory, _process: process })
    }

    /// Runs git in a repository.
    fn git(&self, repository: &str, arguments: &[&str]) -> String {
        let directory = self.directory.join(repository);
        fs::create_dir_all(&directory).unwrap();
        let mut git = Command::new("git");
        git.arg("-c").arg("protocol.file.allow=always").arg("-c").arg("init.defaultBranch=main");
        git.args(arguments).current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "a").env(format!("GIT_{who}_EMAIL"), "a@b");
            git.env(format!("GIT_{who}_DATE"), "@1000000000 +0000");
        }
        let output = git.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes a file and commits it.
    fn commit(&self, repository: &str, path: &str, text: &str) -> String {
        let file = self.directory.join(repository).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self.git(repository, &["add", "."]);
        self.git(repository, &["commit", "-q", "-m", path]);
        self.git(repository, &["rev-parse", "HEAD"])
    }

    fn get(
        &self,
        world: &World,
        what: &str,
        attrs: &[(&str, &str)],
    ) -> Result<Vec<String>, String> {
        let url = format!("{}/{}", self.url, what.split('#').next().unwrap());
        let mut all = vec![("git.fullurl", url.as_str())];
        all.extend(attrs);
        world.of_source(&format!("git://127.0.0.1/{what}"), &all, &Inputs::default())
    }
}

#[test]
fn a_commit_of_a_repository_is_found_by_branch_tag_and_name() {
    inside(|_, dir| {
        let Some(daemon) = Daemon::start(dir) else { return };
        let world = World::new(dir);
        daemon.git("r", &["init", "-q"]);
        let first = daemon.commit("r", "d/a", "1");
        daemon.git("r", &["tag", "-a", "-m", "words", "v1"]);
        let tag = daemon.git("r", &["rev-parse", "v1"]);
        daemon.git("r", &["checkout", "-q", "-b", "other"]);
        let second = daemon.commit("r", "b", "2");
        daemon.git("r", &["checkout", "-q", "main"]);
        let get = |what: &str| daemon.get(&world, what, &[]);
        let old = ["755 0:0 d/", "644 0:0 d/a 1"].map(String::from);
        let new = ["644 0:0 b 2", "755 0:0 d/", "644 0:0 d/a 1"].map(String::from);
        assert_eq!(get("r").unwrap(), old);
        assert_eq!(get("r#v1").unwrap(), old);
        assert_eq!(get("r#other").unwrap(), new);
        assert_eq!(get("r#refs/heads/other").unwrap(), new);
        assert_eq!(get(&format!("r#{second}")).unwrap(), new);
        assert_eq!(get(&format!("r#{}", &first[..10])).unwrap(), old);
        assert_eq!(get("r#other:d").unwrap(), ["644 0:0 a 1"]);
        assert!(get("r#nothing").unwrap_err().contains("no branch, tag or commit \"nothing\""));
        assert!(get("r#main:b").unwrap_err().contains("the commit has no folder \"b\""));
        let checked = |what: &str, sum: &str| daemon.get(&world, what, &[("git.checksum", sum)]);
        assert_eq!(checked("r#v1", &first[..12]).unwrap(), old);
        assert_eq!(checked("r#v1", &tag).unwrap(), old);
        let error = checked("r#v1", &second).unwrap_err();
        assert!(error.contains(&format!("its commit is {first}, and not {second}")), "{error}");

        // What a branch stands for is asked each time, and what is known not fetched again.
        let third = daemon.commit("r", "d/a", "3");
        assert_eq!(get("r").unwrap(), ["755 0:0 d/", "644 0:0 d/a 3"]);
        fs::rename(daemon.directory.join("r/.git/objects"), daemon.directory.join("gone")).unwrap();
        assert_eq!(get(&format!("r#{third}")).unwrap(), ["755 0:0 d/", "644 0:0 d/a 3"]);
    });
}

#[test]
fn the_directory_of_git_is_kept_if_asked_and_submodules_come_along() {
    inside(|_, dir| {
        let Some(daemon) = Daemon::start(dir) else { return };
        let world = World::new(dir);
        daemon.git("sub", &["init", "-q"]);
        daemon.commit("sub", "inner", "s");
        daemon.git("r", &["init", "-q"]);
        daemon.commit("r", "a", "a");
        daemon.git("r", &["submodule", "add", "-q", &format!("{}/sub", daemon.url), "module"]);
        daemon.git("r", &["commit", "-q", "-m", "module"]);
        let files = daemon.get(&world, "r", &[]).unwrap();
        let names = |files: &[String]| {
            let names = files.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned());
            names.filter(|name| !name.starts_with(".gitmodules")).collect::<Vec<_>>()
        };
        assert_eq!(names(&files), ["a a", "module/", "module/inner s"]);
        let without = daemon.get(&world, "r", &[("git.skipsubmodules", "true")]).unwrap();
        assert_eq!(names(&without), ["a a", "module/"]);
        let kept = daemon.get(&world, "r", &[("git.keepgitdir", "true")]).unwrap();
        let config = kept.iter().position(|line| line.contains(" .git/config ")).unwrap();
        let text = kept[config..].iter().find(|line| line.contains("url = ")).or(kept.get(config));
        assert!(text.unwrap().contains(&format!("{}/r", daemon.url)), "{text:?}");
    });
}

#[test]
fn who_asks_for_a_repository_is_told_to_its_host_only() {
    inside(|_, dir| {
        if Command::new("git").arg("version").output().is_err() {
            return println!("skipped: there is no git");
        }
        let world = World::new(dir);
        let elsewhere = Server::new(|_, _| answer("404 Not Found", &[], b""));
        let location = format!("Location: {}/x/info/refs", elsewhere.url);
        let server = Server::new(move |_, _| answer("302 Found", &[&location], b""));
        let url = format!("{}/r.git", server.url);
        let attrs = [
            ("git.fullurl", url.as_str()),
            ("git.authtokensecret", "GIT_AUTH_TOKEN"),
            ("git.authheadersecret", "GIT_AUTH_HEADER"),
        ];
        let get = |secrets: &[(&str, &str)]| {
            let secret =
                |(id, text): &(&str, &str)| (id.to_string(), Secret::Bytes((*text).into()));
            let secrets = secrets.iter().map(secret).collect();
            let inputs = Inputs { secrets, ..Inputs::default() };
            let error = world.of_source("git://127.0.0.1/r.git", &attrs, &inputs).unwrap_err();
            assert!(!error.contains("hush") && error.contains(&url), "{error}");
            server.requests().pop().unwrap()
        };
        // Base64 of x-access-token:hush.
        let token = "authorization: basic ec1hy2nlc3mtdg9rzw46ahvzaa==\r\n";
        assert!(get(&[("GIT_AUTH_TOKEN", "hush\n")]).contains(token));
        let own = [("GIT_AUTH_TOKEN", "other"), ("GIT_AUTH_TOKEN.127.0.0.1", "hush")];
        assert!(get(&own).contains(token));
        let header = get(&[("GIT_AUTH_TOKEN", "other"), ("GIT_AUTH_HEADER", "bearer hush")]);
        assert!(header.contains("authorization: bearer hush\r\n"), "{header}");
        assert!(!get(&[]).contains("authorization"));
        assert!(elsewhere.requests().iter().all(|request| !request.contains("authorization")));
    });
}

#[test]
fn a_repository_makes_nothing_run_and_reads_nothing_of_this_machine() {
    inside(|_, dir| {
        let Some(daemon) = Daemon::start(dir) else { return };
        let world = World::new(dir);
        // A submodule that is a directory of this machine.
        daemon.git("private", &["init", "-q"]);
        daemon.commit("private", "secret", "s");
        daemon.git("r", &["init", "-q"]);
        daemon.commit("r", "a", "a");
        let private = daemon.directory.join("private");
        daemon.git("r", &["submodule", "add", "-q", private.to_str().unwrap(), "module"]);
        daemon.git("r", &["commit", "-q", "-m", "module"]);
        let error = daemon.get(&world, "r", &[]).unwrap_err();
        assert!(error.contains("transport 'file' not allowed"), "{error}");
        // Configuration of whoever builds.
        let home = dir.join("home");
        fs::create_dir(&home).unwrap();
        let touch =
            format!("[core]\n\tfsmonitor = touch {0}/ran\n\thooksPath = {0}\n", dir.display());
        fs::write(home.join(".gitconfig"), touch).unwrap();
        let hook = dir.join("post-checkout");
        fs::write(&hook, format!("#!/bin/sh\ntouch {}/ran\n", dir.display())).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&hook, mode).unwrap();
        // SAFETY: tests of this kind have their process for themselves, and it has read what it
        // wanted to know.
        unsafe { std::env::set_var("HOME", &home) };
        daemon.git("plain", &["init", "-q"]);
        daemon.commit("plain", "a", "a");
        assert_eq!(daemon.get(&world, "plain", &[]).unwrap(), ["644 0:0 a a"]);
        assert!(!dir.join("ran").exists());
    });
}
