//! What a graph takes from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// What a graph takes from outside, besides images: the folders, secrets and agents that its ops
/// name. Both engines take it, so that a build is the same with either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// What `local://NAME` stands for, by name: a directory, or a tar archive (which may be
    /// compressed) of one. `context` is the build context.
    pub local: BTreeMap<String, PathBuf>,
    /// The secrets of `RUN --mount=type=secret`, by ID.
    pub secrets: BTreeMap<String, Secret>,
    /// The sockets of the agents of `RUN --mount=type=ssh`, by ID. `default` is the one that is
    /// meant where none is named.
    pub ssh: BTreeMap<String, PathBuf>,
    /// The directories that `oci-layout://NAME` stands for, by name.
    pub oci_layouts: BTreeMap<String, PathBuf>,
}

/// A secret. Nothing that shows values shows what it holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// What a file holds when it is used.
    File(PathBuf),
    /// This.
    Bytes(Vec<u8>),
}

impl Secret {
    /// The most bytes that a secret may have, as in BuildKit: 500 KiB.
    pub const MAX_SIZE: u64 = 500 << 10;

    /// What it holds.
    ///
    /// # Errors
    /// The file cannot be read, or is larger than [`Self::MAX_SIZE`].
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::File(path) => {
                File::open(path)?.take(Self::MAX_SIZE + 1).read_to_end(&mut bytes)?;
            }
            Self::Bytes(given) => bytes.clone_from(given),
        }
        if bytes.len() as u64 > Self::MAX_SIZE {
            let why = "a secret may not be larger than 500 KiB";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(_) => f.write_str("Bytes(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_secret_is_not_what_it_holds() {
        let secret = Secret::Bytes(b"hunter2".to_vec());
        let inputs =
            Inputs { secrets: BTreeMap::from([("id".into(), secret)]), ..Inputs::default() };
        let shown = format!("{inputs:?} {inputs:#?}");
        // Neither as text nor as a list of numbers.
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }

    #[test]
    fn a_secret_has_an_end() {
        let largest = Secret::Bytes(vec![0; Secret::MAX_SIZE as usize]);
        assert!(largest.read().is_ok());
        let error = Secret::File("/dev/zero".into()).read().unwrap_err();
        assert_eq!(error.to_string(), "a secret may not be larger than 500 KiB");
    }
}
