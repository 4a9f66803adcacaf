//! Where a machine's things are. All of it is the user's alone.
//!
//! ```text
//! $XDG_RUNTIME_DIR/koskit/NAME.sock      the keeper's socket
//! $XDG_RUNTIME_DIR/koskit/NAME.lock      locked while the keeper lives
//! $XDG_STATE_HOME/koskit/machines/NAME/  logs of its containers, and the keeper's own
//! ```
//! Without XDG_RUNTIME_DIR it is /tmp/koskit-UID. What a keeper that was killed has left is
//! recognised by its lock, which nobody holds, and removed by the next command.

use crate::Error;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The place of a machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// The machine's name.
    pub name: String,
    runtime: PathBuf,
    state: PathBuf,
}

/// Held by a keeper as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Place {
    /// The place of a machine with this name.
    ///
    /// # Errors
    /// The name is none, or there is no place that is ours alone.
    pub fn new(name: &str) -> Result<Self, Error> {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !first || name.len() > 31 || !name.chars().all(good) {
            return Err(Error::Name(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), runtime: runtime()?, state: state()?.join(name) })
    }

    /// The places of all machines that run, and of those that have left something.
    ///
    /// # Errors
    /// As [`Place::new`], or the folder cannot be read.
    pub fn all() -> Result<Vec<Self>, Error> {
        let folder = runtime()?;
        let failed = |source| Error::File { what: "read", path: folder.clone(), source };
        let mut places = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            places.extend(name.and_then(|name| Self::new(name).ok()));
        }
        places.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(places)
    }

    /// The keeper's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join(format!("{}.sock", self.name))
    }

    /// The folder of the machine's files.
    pub fn folder(&self) -> &Path {
        &self.state
    }

    fn lock_path(&self) -> PathBuf {
        self.runtime.join(format!("{}.lock", self.name))
    }

    /// Becomes the machine's keeper; what an earlier one has left is removed.
    ///
    /// # Errors
    /// [`Error::Runs`]
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.lock_path();
        let failed = |source| Error::File { what: "lock", path: path.clone(), source };
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(Error::Runs(self.name.clone())),
                Err(error) => return Err(failed(error.into())),
            }
            // Somebody may have removed it between the two calls: then it is no lock of anything.
            let ours = file.metadata().map_err(failed)?;
            if fs::metadata(&path).is_ok_and(|now| now.ino() == ours.ino()) {
                self.clean()?;
                return Ok(Lock(file));
            }
        }
    }

    /// Whether a keeper lives here. What a dead one has left is removed.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn is_kept(&self) -> Result<bool, Error> {
        if !self.lock_path().exists() {
            return Ok(false);
        }
        match self.lock() {
            Ok(lock) => {
                self.leave();
                drop(lock);
                Ok(false)
            }
            Err(Error::Runs(_)) => Ok(true),
            Err(other) => Err(other),
        }
    }

    /// Removes the socket and the files.
    fn clean(&self) -> Result<(), Error> {
        for result in [
            fs::remove_file(self.socket()).map_err(|error| (self.socket(), error)),
            fs::remove_dir_all(&self.state).map_err(|error| (self.state.clone(), error)),
        ] {
            match result {
                Err((path, source)) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File { what: "remove", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes everything but the files, by whoever holds the lock.
    pub(crate) fn leave(&self) {
        // Where this fails, the next command tries it.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_file(self.lock_path());
    }

    /// Makes the folder of its files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_folder(&self) -> Result<(), Error> {
        private(&self.state)
    }
}

/// The error of who needs a machine that does not run.
pub fn stopped(name: &str) -> Error {
    let option = if name == "default" { String::new() } else { format!(" {name}") };
    Error::Refused(format!(
        "the machine {name} does not run; start it with: koskit machine start{option}"
    ))
}

/// Where sockets are.
fn runtime() -> Result<PathBuf, Error> {
    let folder = match absolute("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join("koskit"),
        None => PathBuf::from(format!("/tmp/koskit-{}", rustix::process::geteuid().as_raw())),
    };
    private(&folder)?;
    // /tmp is everybody's: somebody else may have been there before.
    let metadata = fs::symlink_metadata(&folder).map_err(|source| Error::File {
        what: "read",
        path: folder.clone(),
        source,
    })?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !own || metadata.mode() & 0o077 != 0 {
        return Err(Error::Shared(folder));
    }
    Ok(folder)
}

fn state() -> Result<PathBuf, Error> {
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    let state = absolute("XDG_STATE_HOME").or_else(home).ok_or(Error::NoHome)?;
    Ok(state.join("koskit/machines"))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn private(folder: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::File { what: "make", path: folder.to_owned(), source })
}
