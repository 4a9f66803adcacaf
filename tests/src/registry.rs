//! A registry of Debian's `docker-registry` on this machine, for one test.
//!
//! It listens on a free port of 127.0.0.1, keeps its data in the folder of the tests, and ends
//! with the test, however that ends: when the [`Registry`] is dropped and, by a signal that the
//! kernel sends, when the thread that started it is gone.

use crate::{root, skip};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Who may use a registry that has a password.
pub const USER: &str = "kos";
/// The password of [`USER`].
pub const PASSWORD: &str = "pass:word with spaces";

/// A running registry.
pub struct Registry {
    process: Child,
    folder: TempDir,
    port: u16,
    setup: Setup,
}

/// What a registry asks of its users.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// [`USER`] and [`PASSWORD`], for all that is done with it.
    pub password: bool,
    /// HTTPS, with a certificate that only [`Registry::ca`] vouches for.
    pub tls: bool,
}

impl Registry {
    /// Starts a registry for everybody, over plain HTTP. Where the program is missing, this says
    /// that the test is skipped.
    ///
    /// # Panics
    /// It does not start.
    pub fn start() -> Option<Self> {
        Self::with(Setup::default())
    }

    /// Starts a registry that asks for this.
    ///
    /// # Panics
    /// It does not start.
    pub fn with(setup: Setup) -> Option<Self> {
        for (program, package) in
            [("docker-registry", "docker-registry"), ("htpasswd", "apache2-utils")]
        {
            if !installed(program) {
                skip(format_args!("there is no {program}; Debian's {package} has it"));
                return None;
            }
        }
        let parent = root().join("target/tests");
        fs::create_dir_all(&parent).unwrap();
        let folder = tempfile::tempdir_in(parent).unwrap();
        let config = folder.path().join("config.yml");
        fs::write(&config, configuration(folder.path(), setup)).unwrap();
        // The pages that it serves need no place on the disk beyond the test.
        let log = folder.path().join("log");
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "docker-registry", "serve"])
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("cannot start setpriv, of util-linux");
        let port = port(&mut process, &log);
        Some(Self { process, folder, port, setup })
    }

    /// `127.0.0.1:PORT`, the first part of its images' names.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The name of an image there.
    pub fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.host())
    }

    /// `http://127.0.0.1:PORT`, or with `https`.
    pub fn url(&self) -> String {
        let scheme = if self.setup.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// The file of the certificate that vouches for it, in PEM.
    ///
    /// # Panics
    /// It has none.
    pub fn ca(&self) -> PathBuf {
        assert!(self.setup.tls, "this registry speaks plain HTTP");
        self.folder.path().join("certs/ca.crt")
    }

    /// Its data, as files.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A folder with docker's `config.json`, in which the password is; for `DOCKER_CONFIG` and, as
    /// the file `config.json` in it, for `REGISTRY_AUTH_FILE`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn docker_config(&self) -> PathBuf {
        let folder = self.folder.path().join("docker");
        fs::create_dir_all(&folder).unwrap();
        let auth = base64(format!("{USER}:{PASSWORD}").as_bytes());
        let config = serde_json::json!({ "auths": { self.host(): { "auth": auth } } });
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        folder
    }

    /// `skopeo` with what it needs to know of this registry after the command: `skopeo copy
    /// --dest-tls-verify=false …` is `skopeo("copy", "dest")`.
    pub fn skopeo(&self, command: &str, side: &str) -> Command {
        let mut skopeo = Command::new("skopeo");
        let side = if side.is_empty() { String::new() } else { format!("{side}-") };
        skopeo.args(["--insecure-policy", command]);
        match self.setup.tls {
            true => {
                skopeo.arg(format!("--{side}cert-dir={}", self.ca().parent().unwrap().display()))
            }
            false => skopeo.arg(format!("--{side}tls-verify=false")),
        };
        if self.setup.password {
            skopeo.env("REGISTRY_AUTH_FILE", self.docker_config().join("config.json"));
        }
        skopeo
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The file that `docker-registry serve` reads, and the files that it names.
fn configuration(folder: &Path, setup: Setup) -> String {
    let path = |name: &str| serde_json::to_string(&folder.join(name)).unwrap();
    let mut text = format!(
        "version: 0.1\n\
         log: {{ level: info, accesslog: {{ disabled: false }} }}\n\
         storage:\n  filesystem: {{ rootdirectory: {} }}\n  delete: {{ enabled: true }}\n\
         \x20 redirect: {{ disable: true }}\n",
        path("data")
    );
    if setup.password {
        let realm = "auth:\n  htpasswd: { realm: koskit-tests";
        text += &format!("{realm}, path: {} }}\n", path("htpasswd"));
        fs::write(folder.join("htpasswd"), htpasswd()).unwrap();
    }
    text += "http:\n  addr: 127.0.0.1:0\n  secret: of-no-worth\n";
    if setup.tls {
        fs::create_dir(folder.join("certs")).unwrap();
        let (certificate, key) = certificate();
        fs::write(folder.join("certs/ca.crt"), &certificate).unwrap();
        fs::write(folder.join("server.key"), key).unwrap();
        let (certificate, key) = (path("certs/ca.crt"), path("server.key"));
        text += &format!("  tls: {{ certificate: {certificate}, key: {key} }}\n");
    }
    text
}

/// The line of the password file.
fn htpasswd() -> Vec<u8> {
    // The password is read from standard input; the least cost, as it is no secret.
    let mut process = Command::new("htpasswd")
        .args(["-niBC4", USER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    process.wait_with_output().unwrap().stdout
}

/// A certificate for 127.0.0.1 and localhost that signs itself, and its key, in PEM.
pub fn certificate() -> (String, String) {
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The port, which the registry logs when it listens.
fn port(process: &mut Child, log: &Path) -> u16 {
    let begin = Instant::now();
    loop {
        let lines = BufReader::new(File::open(log).unwrap()).lines().map_while(Result::ok);
        for line in lines {
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse().unwrap();
            }
        }
        let ended = process.try_wait().unwrap();
        if ended.is_some() || begin.elapsed() > Duration::from_secs(20) {
            let said = fs::read_to_string(log).unwrap_or_default();
            panic!("docker-registry does not listen ({ended:?}):\n{said}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a program is in PATH.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
