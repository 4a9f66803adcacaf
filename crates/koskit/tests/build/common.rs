//! A home of one test, and the command line in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with images, a build cache and whatever a test puts there; removed with it.
pub struct Home(tempfile::TempDir);

impl Home {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where something in it is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, and the directories that it is in.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// `koskit` with these arguments.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koskit"));
        command.args(words).current_dir(self.0.path());
        for (name, value) in self.variables() {
            command.env(name, value);
        }
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("BUILDKIT_PROGRESS");
        command
    }

    /// The variables that make it a home.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("XDG_DATA_HOME", self.path("data")), ("XDG_CACHE_HOME", self.path("cache"))]
    }

    /// Runs it, for what must work. Gives what it wrote to standard output.
    pub fn must(&self, words: &[&str]) -> Vec<u8> {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "koskit {words:?}: {}", text(&output.stderr));
        output.stdout
    }

    /// Runs it, for what must not work. Gives its complaint.
    pub fn fails(&self, words: &[&str]) -> String {
        let output: Output = self.command(words).output().unwrap();
        assert!(!output.status.success(), "koskit {words:?} works");
        text(&output.stderr)
    }

    /// A JSON document in it.
    pub fn json(&self, name: impl AsRef<Path>) -> serde_json::Value {
        let path = self.0.path().join(name);
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
