//! The platform: what a machine boots with besides containers.

use crate::Error;
use std::path::{Path, PathBuf};

/// A folder with the files that `./x build` makes for one kind of machine.
#[derive(Clone, Debug)]
pub struct Platform {
    folder: PathBuf,
}

/// The environment variable that names another platform folder.
const VARIABLE: &str = "KOSKIT_PLATFORM";
const FILES: [&str; 5] = [
    Platform::LOADER,
    Platform::ROOT_SERVER,
    Platform::LIBKOS,
    Platform::KERNEL_RELEASE,
    Platform::KERNEL_DEBUG,
];

impl Platform {
    pub(crate) const LOADER: &str = "loader.elf";
    pub(crate) const ROOT_SERVER: &str = "root-server.elf";
    const KERNEL_NAME: &str = "kernel.txt";
    const LIBKOS: &str = "libkos.elf";
    pub(crate) const KERNEL_RELEASE: &str = "kernel-release.elf";
    pub(crate) const KERNEL_DEBUG: &str = "kernel-debug.elf";

    /// The platform that `KOSKIT_PLATFORM` names, else the one beside our own executable: for
    /// `target/release/koskit` that is `target/platform`.
    ///
    /// # Errors
    /// [`Error::NoPlatform`]
    pub fn find() -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty()) {
            return Self::open(Path::new(&folder));
        }
        let executable = std::env::current_exe()
            .map_err(|source| Error::Host { what: "find our own executable", source })?;
        // target/release/koskit, and target/release/deps/TEST.
        let beside = executable
            .ancestors()
            .skip(1)
            .take(3)
            .map(|folder| folder.join("platform"))
            .find(|folder| folder.is_dir());
        let expected = executable.with_file_name("../platform");
        Self::open(&beside.unwrap_or(expected))
    }

    /// The platform in this folder.
    ///
    /// # Errors
    /// [`Error::NoPlatform`]
    pub fn open(folder: &Path) -> Result<Self, Error> {
        match FILES.iter().find(|file| !folder.join(file).is_file()) {
            Some(file) => Err(Error::NoPlatform { folder: folder.to_owned(), file }),
            None => Ok(Self { folder: folder.to_owned() }),
        }
    }

    /// The ELF file of libkos, which is a part of every native container.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn libkos(&self) -> Result<Vec<u8>, Error> {
        self.read(Self::LIBKOS)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its kernel is, for people; `None` where it does not say.
    pub fn kernel(&self) -> Option<String> {
        let mut text = std::fs::read_to_string(self.folder.join(Self::KERNEL_NAME)).ok()?;
        text.retain(|c| !c.is_control());
        Some(text)
    }

    /// The names of its files, and where they are.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        FILES.iter().map(|file| (*file, self.folder.join(file)))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub(crate) fn read(&self, file: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(file);
        std::fs::read(&path).map_err(|source| Error::Read { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_platform_is_named_with_what_to_do() {
        let error = Platform::open(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no loader.elf for a seL4 machine in /nonexistent; run ./x build"
        );
    }
}
