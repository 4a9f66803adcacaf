//! What else a build takes from outside: secrets, agents, named contexts.

use crate::build::context::ignore;
use crate::build::fields::pairs;
use crate::build::layout;
use anyhow::{Context as _, Result, anyhow, bail};
use koskit_frontend::Context;
use koskit_image::Scratch;
use koskit_llb::{Inputs, Secret};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The contexts of `--build-context`, by their names; the directories and layouts among them are
/// added to the inputs.
///
/// # Errors
/// One of them is none.
pub fn contexts(given: &[String], inputs: &mut Inputs) -> Result<BTreeMap<String, Context>> {
    let mut contexts = BTreeMap::new();
    for text in given {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| anyhow!("invalid context value: {text}, expected key=value"))?;
        contexts.insert(name.to_owned(), context(name, value, inputs)?);
    }
    Ok(contexts)
}

fn context(name: &str, value: &str, inputs: &mut Inputs) -> Result<Context> {
    if let Some(path) = value.strip_prefix("oci-layout:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        let (path, digest) = layout::find(path)
            .with_context(|| format!("the build context {name}={value} cannot be used"))?;
        inputs.oci_layouts.insert(name.to_owned(), path);
        return Ok(Context::OciLayout { store: name.to_owned(), digest });
    }
    let path = Path::new(value);
    if path.is_dir() {
        let ignore = ignore(path, None)?;
        inputs.local.insert(name.to_owned(), path.to_owned());
        return Ok(Context::Local { name: name.to_owned(), ignore });
    }
    let is_url =
        value.contains("://") || value.starts_with("git@") || value.starts_with("docker-image:");
    if !is_url {
        bail!("failed to get build context {name}: stat {value}: no such directory");
    }
    Ok(value.parse::<Context>()?)
}

/// The secrets of `--secret`, by their IDs.
///
/// # Errors
/// One of them is malformed, or its file is not there.
pub fn secrets(given: &[String]) -> Result<BTreeMap<String, Secret>> {
    given.iter().map(|text| secret(text)).collect()
}

fn secret(text: &str) -> Result<(String, Secret)> {
    let wrong = |why: String| anyhow!("invalid secret {text:?}: {why}");
    let (mut id, mut path, mut variable, mut kind) = (None, None, None, None);
    for (key, value) in pairs(text).map_err(wrong)? {
        match key.as_str() {
            "id" => id = Some(value),
            "src" | "source" => path = Some(PathBuf::from(value)),
            "env" => variable = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => return Err(wrong(format!("unsupported secret type {value:?}"))),
            _ => return Err(wrong(format!("unexpected key {key:?}"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| wrong("it has no id".into()))?;
    // As in docker: of type env, what is called src is the variable; and without either the ID
    // is the name of the variable, if there is one, else of the file.
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = path.take().map(|path| path.display().to_string());
    }
    let file = kind.as_deref() == Some("file");
    if path.is_none() && variable.is_none() {
        match std::env::var_os(&id).is_some() && !file {
            true => variable = Some(id.clone()),
            false => path = Some(PathBuf::from(&id)),
        }
    }
    let secret = match (path, variable) {
        (Some(path), _) => {
            let metadata = fs::metadata(&path);
            let metadata =
                metadata.with_context(|| format!("failed to stat {}", path.display()))?;
            if metadata.len() > Secret::MAX_SIZE {
                bail!("secret {id} too big. max size 500KiB");
            }
            Secret::File(path)
        }
        (None, variable) => {
            let variable = variable.unwrap_or_default();
            let value = std::env::var_os(&variable).unwrap_or_default();
            Secret::Bytes(std::os::unix::ffi::OsStringExt::into_vec(value))
        }
    };
    Ok((id, secret))
}

/// The agents of `--ssh`, and those that were started for keys: they end with it.
#[derive(Default)]
pub struct Agents {
    /// The sockets, by ID.
    pub sockets: BTreeMap<String, PathBuf>,
    started: Arc<Mutex<Vec<Agent>>>,
}

/// An `ssh-agent`.
struct Agent {
    child: Child,
    _socket: Scratch,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agents {
    /// Reads `default`, `ID`, `ID=SOCKET` and `ID=KEY,…`.
    ///
    /// # Errors
    /// There is no agent, or a key cannot be used.
    pub fn open(given: &[String]) -> Result<Self> {
        let mut agents = Self::default();
        for text in given {
            let (id, paths) = match text.split_once('=') {
                Some((id, paths)) => (id, paths.split(',').map(PathBuf::from).collect()),
                None => (text.as_str(), Vec::new()),
            };
            if id.is_empty() {
                bail!("invalid ssh value {text:?}: it has no ID");
            }
            if agents.sockets.contains_key(id) {
                bail!("duplicate ssh agent or key ID {id:?}");
            }
            let socket = agents.socket(&paths)?;
            agents.sockets.insert(id.to_owned(), socket);
        }
        Ok(agents)
    }

    /// Ends the agents that were started, from wherever.
    pub fn end(&self) -> impl Fn() + Send + 'static {
        let started = Arc::clone(&self.started);
        move || started.lock().unwrap_or_else(PoisonError::into_inner).clear()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Agent>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&mut self, paths: &[PathBuf]) -> Result<PathBuf> {
        let Some(first) = paths.first() else {
            let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
            return socket.map(PathBuf::from).context(
                "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set, or name a key",
            );
        };
        let is_socket = |path: &Path| {
            let metadata = fs::metadata(path);
            let metadata =
                metadata.with_context(|| format!("failed to stat {}", path.display()))?;
            Ok::<_, anyhow::Error>(metadata.file_type().is_socket())
        };
        for path in paths {
            if is_socket(path)? && paths.len() > 1 {
                bail!("only single socket allowed, and no keys beside it: {}", path.display());
            }
        }
        if is_socket(first)? {
            return Ok(first.clone());
        }
        self.start(paths)
    }

    /// Starts an agent that has these keys and no others.
    fn start(&mut self, keys: &[PathBuf]) -> Result<PathBuf> {
        let name = format!("koskit-agent-{}-{}", std::process::id(), self.lock().len());
        let path = std::env::temp_dir().join(name);
        let socket = Scratch::new(&path);
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(
                "a key for ssh takes an agent: install openssh-client, or name the socket \
                      of one that runs",
            )?;
        let agent = Agent { child, _socket: socket };
        for _ in 0..200 {
            if path.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for key in keys {
            let output = Command::new("ssh-add")
                .arg(key)
                .env("SSH_AUTH_SOCK", &path)
                // A key with a passphrase is for an agent that the user has.
                .env_remove("DISPLAY")
                .env("SSH_ASKPASS_REQUIRE", "never")
                .stdin(Stdio::null())
                .output()
                .context("ssh-add cannot be started")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = koskit_progress::harmless(said.lines().next().unwrap_or_default());
                bail!("failed to parse {}: ssh-add says {said:?}", key.display());
            }
        }
        self.lock().push(agent);
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_file_or_a_variable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "x").unwrap();
        let file = secret(&format!("id=a,src={}", path.display())).unwrap();
        assert_eq!(file, ("a".into(), Secret::File(path.clone())));
        let path = std::env::var("PATH").unwrap().into_bytes();
        for text in ["id=a,env=PATH", "id=a,type=env,src=PATH"] {
            assert_eq!(secret(text).unwrap().1, Secret::Bytes(path.clone()), "{text}");
        }
        assert_eq!(secret("id=PATH").unwrap(), ("PATH".into(), Secret::Bytes(path)));
        let error = secret("id=a,src=/nowhere/at/all").unwrap_err();
        assert_eq!(error.to_string(), "failed to stat /nowhere/at/all");
        for bad in ["", "src=a", "id=a,x=y", "id=a,type=magic", "id="] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_named_context_is_a_directory_or_a_url() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".dockerignore"), "*.o\n").unwrap();
        let mut inputs = Inputs::default();
        let given =
            [format!("files={}", directory.path().display()), "base=docker-image://alpine".into()];
        let contexts = contexts(&given, &mut inputs).unwrap();
        assert_eq!(contexts["files"].ignore(), ["*.o"]);
        assert_eq!(inputs.local["files"], directory.path());
        assert!(matches!(contexts["base"], Context::Image(_)));
        let bad = |text: &str| super::contexts(&[text.into()], &mut Inputs::default()).is_err();
        assert!(bad("x") && bad("x=/nowhere") && bad("=x") && bad("x=oci-layout:///nowhere"));
    }

    #[test]
    fn an_agent_is_a_socket_or_made_of_keys() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let agents = Agents::open(&[format!("git={}", socket.display())]).unwrap();
        assert_eq!(agents.sockets["git"], socket);
        let twice = format!("a={0},{0}", socket.display());
        assert!(Agents::open(&[twice]).is_err() && Agents::open(&["=x".into()]).is_err());

        let key = directory.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: there is no ssh-keygen");
            return;
        }
        let agents = Agents::open(&[format!("default={}", key.display())]).unwrap();
        let socket = agents.sockets["default"].clone();
        let list =
            || Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(String::from_utf8_lossy(&list().stdout).contains("ED25519"));
        drop(agents);
        assert!(!socket.exists());
        fs::write(&key, "no key").unwrap();
        assert!(Agents::open(&[format!("default={}", key.display())]).is_err());
    }
}
