//! Debian's git, run so that a repository cannot make it do anything else than fetch files.
//!
//! It sees no configuration but what is given here: none of the system's and the user's, no
//! hooks, no filters, no pager, and nothing that asks. It speaks the protocols of the network
//! only, so that a submodule cannot name a directory of this machine. What tells who asks goes
//! through the environment, for one host, and redirects are not followed with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::exec::Cancel;

/// The most of its output that is read.
const MAX_OUTPUT: u64 = 64 << 20;
/// The most of what it complains about that is shown, from the end.
const MAX_COMPLAINT: usize = 2000;
/// How often to look whether it has ended, or the build has.
const PAUSE: Duration = Duration::from_millis(10);

/// Variables that are handed on: how to reach the network, and where programs are.
const HANDED_ON: [&str; 12] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
];

/// How git is run for one source.
#[derive(Default)]
pub(crate) struct Git {
    /// Configuration that is not to be seen in a list of processes.
    secret: Vec<(String, Vec<u8>)>,
    env: BTreeMap<&'static str, String>,
}

impl Git {
    /// Sends a header with requests to one host: `https://host/`.
    pub fn header(&mut self, scope: &str, value: &[u8]) {
        let header = [b"Authorization: ", value.trim_ascii()].concat();
        self.secret.push((format!("http.{scope}.extraheader"), header));
        // The header would go where the server sends us.
        self.secret.push((format!("http.{scope}.followRedirects"), b"false".to_vec()));
    }

    /// Lets ssh ask an agent, and know hosts by a file; without one, by the user's own.
    pub fn ssh(&mut self, agent: &Path, known_hosts: Option<&Path>) {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let known = known_hosts.map_or_else(|| home.join(".ssh/known_hosts"), Path::to_owned);
        let options = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "IdentityFile=none".to_owned(),
            format!("UserKnownHostsFile=\"{}\"", known.display()),
        ];
        let options = options.map(|option| format!(" -o {}", quoted(&option))).concat();
        self.env.insert("GIT_SSH_COMMAND", format!("ssh -F /dev/null{options}"));
        self.env.insert("SSH_AUTH_SOCK", agent.to_string_lossy().into_owned());
    }

    /// Runs it in a directory, and gives its output. `local` lets it read other directories.
    pub fn run(
        &self,
        directory: &Path,
        local: bool,
        arguments: &[&str],
        cancel: &Cancel,
    ) -> Result<String, String> {
        let mut command = self.command(directory, local);
        command.args(arguments);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => "it takes git, which is not installed".to_owned(),
            _ => format!("git cannot be started: {e}"),
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (output, complaint, status) = std::thread::scope(|scope| {
            let output = scope.spawn(|| text(stdout));
            let complaint = scope.spawn(|| text(stderr));
            let status = wait(&mut child, cancel);
            (output.join().unwrap_or_default(), complaint.join().unwrap_or_default(), status)
        });
        match status {
            Ok(true) => Ok(output),
            Ok(false) if cancel.is_cancelled() => Err("the build was stopped".into()),
            Ok(false) => {
                let text = complaint.trim();
                let from = text.len().saturating_sub(MAX_COMPLAINT);
                let from = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
                let what = arguments.first().copied().unwrap_or_default();
                Err(format!("git {what} says: {}", &text[from..]))
            }
            Err(e) => Err(format!("git cannot be waited for: {e}")),
        }
    }

    fn command(&self, directory: &Path, local: bool) -> Command {
        let mut command = Command::new("git");
        command.current_dir(directory).env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(HANDED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.env);
        let file = if local { "always" } else { "never" };
        let config: [(&str, &[u8]); 16] = [
            ("core.hooksPath", b"/dev/null"),
            ("core.fsmonitor", b"false"),
            ("core.attributesFile", b"/dev/null"),
            ("core.excludesFile", b"/dev/null"),
            ("core.autocrlf", b"false"),
            ("credential.helper", b""),
            ("protocol.allow", b"never"),
            ("protocol.https.allow", b"always"),
            ("protocol.http.allow", b"always"),
            ("protocol.git.allow", b"always"),
            ("protocol.ssh.allow", b"always"),
            ("protocol.file.allow", file.as_bytes()),
            ("safe.directory", b"*"),
            ("gc.auto", b"0"),
            ("maintenance.auto", b"false"),
            ("advice.detachedHead", b"false"),
        ];
        let secret = self.secret.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let mut count = 0;
        for (key, value) in config.iter().copied().chain(secret) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{count}"), OsStr::from_bytes(value));
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("SSH_ASKPASS", "/bin/false"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_PAGER", "cat"),
            ("LC_ALL", "C"),
            ("HOME", "/nonexistent"),
        ] {
            command.env(name, value);
        }
        command
    }
}

/// What comes through a pipe, to its end, but no more than so much.
fn text(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = (&mut pipe).take(MAX_OUTPUT).read_to_end(&mut bytes);
        // It must not wait for somebody who reads.
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a program, and ends it and what it has started when the build is stopped.
fn wait(child: &mut Child, cancel: &Cancel) -> io::Result<bool> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if cancel.is_cancelled() {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
