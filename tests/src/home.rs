//! Homes: a place for images and for what builds keep, and the command line in it.

use crate::{koskit, root};
use koskit_image::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// A home of one test, removed with it.
pub struct Home {
    folder: TempDir,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; 128 and more where a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Home {
    /// A home without images.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new() -> Self {
        let parent = root().join("target/tests");
        fs::create_dir_all(&parent).unwrap();
        Self { folder: tempfile::tempdir_in(parent).unwrap() }
    }

    /// A home with the images of the SDK, as the user's own store has them.
    ///
    /// # Panics
    /// There are none, or they cannot be copied.
    pub fn with_sdk() -> Self {
        let home = Self::new();
        let (from, to) = (Store::default_path().unwrap(), home.store_path());
        let blobs = Path::new("blobs/sha256");
        fs::create_dir_all(to.join(blobs)).unwrap();
        for entry in fs::read_dir(from.join(blobs)).expect("there is no store; run ./x sdk") {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            // Another disk has no links to this one.
            let to = to.join(blobs).join(name);
            fs::hard_link(&path, &to).or_else(|_| fs::copy(&path, &to).map(drop)).unwrap();
        }
        for file in ["index.json", "oci-layout"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        home
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where its images are.
    pub fn store_path(&self) -> PathBuf {
        self.path().join("data/koskit")
    }

    /// Its images.
    ///
    /// # Panics
    /// The store cannot be opened.
    pub fn store(&self) -> Store {
        Store::open(self.store_path()).unwrap()
    }

    /// Writes a file, and the folders that it is in.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The variables that make it the home of a command.
    pub fn environment(&self) -> [(&'static str, PathBuf); 6] {
        let path = |name| self.path().join(name);
        [
            ("XDG_DATA_HOME", path("data")),
            ("XDG_CACHE_HOME", path("cache")),
            ("XDG_CONFIG_HOME", path("config")),
            ("XDG_RUNTIME_DIR", path("run")),
            ("XDG_STATE_HOME", path("state")),
            ("DOCKER_CONFIG", path("docker")),
        ]
    }

    /// The command line with these arguments, which runs in this home.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(koskit());
        command
            .args(words)
            .current_dir(self.path())
            .envs(self.environment())
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("KOSKIT_PLATFORM")
            .env_remove("DOCKER_AUTH_CONFIG")
            .env_remove("KOSKIT_POLICY")
            .env_remove("COSIGN_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    /// Runs the command line with these arguments to its end.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn koskit(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    /// The same, for what must work.
    ///
    /// # Panics
    /// It does not.
    pub fn must(&self, words: &[&str]) -> Said {
        let said = self.koskit(words);
        assert_eq!(said.code, 0, "koskit {words:?}:\n{}{}", said.stdout, said.stderr);
        said
    }

    /// What `koskit inspect` says of an image.
    ///
    /// # Panics
    /// There is no such image.
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let said = self.must(&["inspect", "--format", "json", name]);
        let mut all: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        all[0].take()
    }

    /// The names of all images.
    ///
    /// # Panics
    /// The store cannot be read.
    pub fn names(&self) -> Vec<String> {
        let tagged = self.store().list().unwrap();
        tagged.into_iter().map(|tagged| tagged.reference.familiar()).collect()
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Said {
    /// What a finished command said.
    pub fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: Self::status(output.status),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// A status as a shell tells it: 128 and the number of a signal that ended it.
    pub fn status(status: ExitStatus) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        code.expect("it has ended, somehow")
    }
}
