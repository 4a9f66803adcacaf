//! What a build gets from servers that prove who they are: HTTPS with an authority of one's own,
//! and git repositories by SSH.

use koskit_tests::registry::{Registry, Setup, installed};
use koskit_tests::server::{self, Running};
use koskit_tests::{Home, Said, skip};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The registry is a web server, too.
#[test]
fn a_file_comes_by_https_from_a_server_that_an_authority_vouches_for_and_from_no_other() {
    let setup = Setup { tls: true, ..Setup::default() };
    let Some(server) = Registry::with(setup) else { return };
    let home = Home::new();
    home.write("context/Dockerfile", &format!("FROM scratch\nADD {}/v2/ /answer\n", server.url()));
    let build = |ca: Option<&Path>| {
        let mut command = home.command(&["build", "--output=type=local,dest=out", "context"]);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        if let Some(ca) = ca {
            command.env("SSL_CERT_FILE", ca);
        }
        Said::of(command.output().unwrap())
    };
    let (other, _) = koskit_tests::registry::certificate();
    home.write("other.crt", &other);
    for ca in [None, Some(home.path().join("other.crt"))] {
        let refused = build(ca.as_deref());
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        for words in [server.url().as_str(), "certificate", "Dockerfile:2"] {
            assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        }
    }
    let built = build(Some(&server.ca()));
    assert_eq!(built.code, 0, "{}", built.stderr);
    assert_eq!(fs::read_to_string(home.path().join("out/answer")).unwrap(), "{}");
}

/// A server with one repository, which knows one key.
struct Ssh {
    home: Home,
    port: u16,
    user: String,
    _server: Running,
    _agent: Running,
}

fn must(command: &mut Command) -> String {
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.code, 0, "{command:?}: {}{}", said.stdout, said.stderr);
    said.stdout
}

impl Ssh {
    /// Starts it, and an agent with the key; or says what is missing here.
    fn start() -> Result<Self, String> {
        let sshd = Path::new("/usr/sbin/sshd");
        if !sshd.exists() {
            return Err("there is no sshd; Debian's openssh-server has it".into());
        }
        if let Some(missing) = ["git", "ssh-agent", "ssh-add"].iter().find(|name| !installed(name))
        {
            return Err(format!("there is no {missing}"));
        }
        let home = Home::new();
        let path = |name: &str| home.path().join(name);
        for key in ["host", "user", "other"] {
            let words = ["-q", "-t", "ed25519", "-N", "", "-C", "koskit", "-f", key];
            must(Command::new("ssh-keygen").args(words).current_dir(home.path()));
        }
        let user = must(Command::new("id").arg("-un")).trim().to_owned();
        fs::copy(path("user.pub"), path("authorized_keys")).unwrap();
        let (server, port) = serve(&home, sshd)?;
        let host = fs::read_to_string(path("host.pub")).unwrap();
        home.write(".ssh/known_hosts", &format!("[127.0.0.1]:{port} {host}"));

        // An agent's socket has a short path.
        let agent = Running::start(&["ssh-agent", "-D", "-a", "agent"], home.path());
        wait_for(|| path("agent").exists());
        let mut add = Command::new("ssh-add");
        add.args(["-q", "user"]).current_dir(home.path()).env("SSH_AUTH_SOCK", "agent");
        must(&mut add);

        fs::create_dir(path("work")).unwrap();
        home.write("work/Dockerfile", "FROM scratch\nCOPY hello /\n");
        home.write("work/hello", "hello\n");
        server::commit(&path("work"));
        Ok(Self { home, port, user, _server: server, _agent: agent })
    }

    /// The repository there.
    fn url(&self) -> String {
        let path = self.home.path().join("work/.git");
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, path.display())
    }

    /// Builds, with the agent and what the user knows of hosts.
    fn build(&self, words: &[&str]) -> Said {
        let mut command = self.home.command(&["build", "--output=type=local,dest=out"]);
        command.args(words).env("HOME", self.home.path());
        command.env("SSH_AUTH_SOCK", self.home.path().join("agent"));
        Said::of(command.output().unwrap())
    }
}

/// Starts the server on a free port, as this user.
fn serve(home: &Home, sshd: &Path) -> Result<(Running, u16), String> {
    let path = |name: &str| home.path().join(name).display().to_string();
    let config = format!(
        "ListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin prohibit-password\n",
        path("host"),
        path("authorized_keys")
    );
    home.write("sshd_config", &config);
    // Somebody else may take a port that was free.
    for _ in 0..5 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        // As root it wants a directory in /run, which is nobody's but its own here.
        let root = must(Command::new("id").arg("-u")).trim() == "0";
        let script = format!(
            "{} exec setpriv --pdeathsig KILL {} -D -e -f {} -p {port}",
            if root { "mount -t tmpfs none /run && mkdir /run/sshd &&" } else { "" },
            sshd.display(),
            path("sshd_config"),
        );
        let mut command = Command::new(if root { "unshare" } else { "sh" });
        if root {
            command.args(["--mount", "sh"]);
        }
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = Running(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(server.0.stderr.take().unwrap());
        let mut said = String::new();
        while log.read_line(&mut said).unwrap() > 0 {
            if said.contains("Server listening") {
                // It must not wait for somebody who reads.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok((server, port));
            }
        }
        if !said.contains("in use") {
            return Err(format!("sshd does not start here: {}", said.trim()));
        }
    }
    Err("there is no free port".into())
}

fn wait_for(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_repository_comes_by_ssh_from_a_host_that_is_known_with_a_key_of_the_agent() {
    let ssh = match Ssh::start() {
        Ok(ssh) => ssh,
        Err(why) => return skip(why),
    };
    let (home, url) = (&ssh.home, ssh.url());
    let out = |name: &str| -> PathBuf { home.path().join("out").join(name) };
    home.write("context/Dockerfile", &format!("FROM scratch\nADD {url}#main /there/\n"));
    let added = ssh.build(&["--ssh", "default", "context"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    assert_eq!(fs::read_to_string(out("there/hello")).unwrap(), "hello\n");
    assert!(!out("there/.git").exists());

    let context = ssh.build(&["--ssh", "default", &format!("{url}#main")]);
    assert_eq!(context.code, 0, "{}", context.stderr);
    assert_eq!(fs::read_to_string(out("hello")).unwrap(), "hello\n");

    let no_agent = ssh.build(&["--no-cache", "context"]);
    assert_eq!(no_agent.code, 1, "{}", no_agent.stderr);
    assert!(no_agent.stderr.contains("--ssh default"), "{}", no_agent.stderr);

    let other = fs::read_to_string(home.path().join("other.pub")).unwrap();
    home.write(".ssh/known_hosts", &format!("[127.0.0.1]:{} {other}", ssh.port));
    let impostor = ssh.build(&["--no-cache", "--ssh", "default", "context"]);
    assert_eq!(impostor.code, 1, "{}", impostor.stderr);
    assert!(impostor.stderr.contains("Host key verification failed"), "{}", impostor.stderr);

    let host = fs::read_to_string(home.path().join("host.pub")).unwrap();
    home.write(".ssh/known_hosts", &format!("[127.0.0.1]:{} {host}", ssh.port));
    fs::copy(home.path().join("other.pub"), home.path().join("authorized_keys")).unwrap();
    let stranger = ssh.build(&["--no-cache", "--ssh", "default", "context"]);
    assert_eq!(stranger.code, 1, "{}", stranger.stderr);
    assert!(stranger.stderr.contains("Permission denied"), "{}", stranger.stderr);
}
