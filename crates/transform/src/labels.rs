//! The labels that an image for seL4 gets when it is built.
//!
//! Computing them needs few of an image's files: the program, the file that states the contract,
//! and the links that lead there. Whoever has the files shows them through [`Files`]: the image
//! store layer by layer ([`StoreFiles`]), a BuildKit frontend by its gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use koskit_frontend::ImageConfig;
use koskit_image::oci::ImageConfiguration;
use koskit_image::{Layer, Limits, Lookup, Node, NodeKind, Store, Tree};
use koskit_lower::LowerError;
use koskit_spec::label;
use thiserror::Error;

/// Labels by their names.
pub type Labels = BTreeMap<String, String>;

/// Where PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A path through more links than this leads nowhere, as in Linux.
const MAX_LINKS: usize = 40;

/// The files of a finished build.
pub trait Files {
    /// What is at a path, which is relative and clean; links are not followed. Of a file also its
    /// contents.
    ///
    /// # Errors
    /// The files cannot be read. That there is nothing is no error.
    fn node(&mut self, path: &Path) -> Result<Option<Node>, Box<dyn Error + Send + Sync>>;
}

/// The files of an image whose layers are in the store.
pub struct StoreFiles<'a>(Lookup<'a>);

impl<'a> StoreFiles<'a> {
    /// Layers from the lowest to the topmost.
    pub fn new(store: &'a Store, layers: &'a [Layer]) -> Self {
        Self(Lookup::new(store, layers, Limits::default()))
    }
}

impl Files for StoreFiles<'_> {
    fn node(&mut self, path: &Path) -> Result<Option<Node>, Box<dyn Error + Send + Sync>> {
        Ok(self.0.node(path)?)
    }
}

/// Why an image gets no labels.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// Its files cannot be read.
    #[error("the files of the image cannot be read")]
    Files(#[source] Box<dyn Error + Send + Sync>),
    /// Its labels state no contract.
    #[error(transparent)]
    Contract(#[from] LowerError),
    /// It is no image configuration.
    #[error("the image's configuration is not valid")]
    Config(#[source] Box<dyn Error + Send + Sync>),
}

/// The labels that a built image's contract lacks; what its author set is not among them.
///
/// # Errors
/// [`LabelsError`].
pub fn labels(
    store: &Store,
    config: &ImageConfig,
    layers: &[Layer],
) -> Result<Labels, LabelsError> {
    labels_of_files(&mut StoreFiles::new(store, layers), config)
}

/// The same for an image whose files are elsewhere.
///
/// # Errors
/// [`LabelsError`].
pub fn labels_of_files(files: &mut dyn Files, config: &ImageConfig) -> Result<Labels, LabelsError> {
    let mut gathered = Gathered { files, tree: Tree::new(), asked: BTreeSet::new() };
    for path in wanted(config) {
        gathered.follow(&path)?;
    }
    let invalid = |error: Box<dyn Error + Send + Sync>| LabelsError::Config(error);
    let text = serde_json::to_vec(config).map_err(|e| invalid(e.into()))?;
    let config = ImageConfiguration::from_reader(text.as_slice()).map_err(|e| invalid(e.into()))?;
    Ok(koskit_lower::labels(&gathered.tree, &config)?)
}

/// All paths at which the program or the contract's file may be.
fn wanted(config: &ImageConfig) -> Vec<PathBuf> {
    let config = &config.config;
    let labelled = |name| config.labels.get(name).map(PathBuf::from);
    let mut paths: Vec<PathBuf> = labelled(label::SPEC).into_iter().collect();
    if let Some(path) = labelled(label::BINARY) {
        paths.push(path);
        return paths;
    }
    let words = [&config.entrypoint, &config.cmd];
    let Some(word) = words.into_iter().flatten().flatten().next() else { return paths };
    let cwd = Path::new("/").join(&config.working_dir);
    if word.contains('/') {
        paths.push(cwd.join(word));
    } else {
        let search = config.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
        let search = search.unwrap_or(DEFAULT_PATH).split(':');
        paths.extend(search.map(|directory| cwd.join(directory).join(word)));
    }
    paths
}

/// Part of an image: what was asked for.
struct Gathered<'a> {
    files: &'a mut dyn Files,
    tree: Tree,
    asked: BTreeSet<PathBuf>,
}

impl Gathered<'_> {
    /// Takes all that a path leads through.
    fn follow(&mut self, path: &Path) -> Result<(), LabelsError> {
        let mut rest: Vec<OsString> = Vec::new();
        push(&mut rest, path);
        let (mut at, mut links) = (PathBuf::new(), 0);
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            if self.asked.insert(next.clone()) {
                if let Some(node) = self.files.node(&next).map_err(LabelsError::Files)? {
                    self.tree.insert(next.clone(), node);
                }
            }
            match self.tree.get(&next).map(|node| &node.kind) {
                Some(NodeKind::Directory) => at = next,
                Some(NodeKind::Symlink(target)) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    let target = target.clone();
                    push(&mut rest, &target);
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Pushes the parts of a path, the first one last.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    });
    rest.extend(parts);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by their paths, and which of them were asked for.
    struct Few(BTreeMap<PathBuf, Node>, Vec<PathBuf>);

    impl Files for Few {
        fn node(&mut self, path: &Path) -> Result<Option<Node>, Box<dyn Error + Send + Sync>> {
            self.1.push(path.to_owned());
            Ok(self.0.get(path).cloned())
        }
    }

    fn few(nodes: &[(&str, Node)]) -> Few {
        Few(nodes.iter().map(|(path, node)| (path.into(), node.clone())).collect(), Vec::new())
    }

    fn config(json: &str) -> ImageConfig {
        let text = format!(
            r#"{{"architecture": "arm64", "os": "linux", "config": {json},
                "rootfs": {{"type": "layers", "diff_ids": []}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn binary(files: &mut Few, json: &str) -> Option<String> {
        labels_of_files(files, &config(json)).unwrap().remove(label::BINARY)
    }

    #[test]
    fn the_program_is_found_in_path_and_behind_links() {
        let mut files = few(&[
            ("bin", Node::symlink("usr/bin")),
            ("usr", Node::directory(0o755)),
            ("usr/bin", Node::directory(0o755)),
            ("usr/bin/sh", Node::symlink("/usr/bin/dash")),
            ("usr/bin/dash", Node::file(0o755, &b"\x7fELF"[..])),
        ]);
        let found = binary(&mut files, r#"{"Cmd": ["sh"], "Env": ["PATH=/none:/bin"]}"#);
        assert_eq!(found.as_deref(), Some("/usr/bin/dash"));
        let found = binary(&mut files, r#"{"Cmd": ["../bin/sh"], "WorkingDir": "/usr/lib"}"#);
        assert_eq!(found, None);
    }

    #[test]
    fn nothing_is_read_that_is_not_needed() {
        let mut files = few(&[
            ("hello", Node::file(0o755, &b"\x7fELF"[..])),
            ("other", Node::file(0o755, &b"\x7fELF"[..])),
        ]);
        assert_eq!(binary(&mut files, r#"{"Entrypoint": ["/hello"]}"#).as_deref(), Some("/hello"));
        assert_eq!(files.1, [PathBuf::from("hello")]);
    }

    #[test]
    fn links_in_a_circle_lead_nowhere() {
        let mut files = few(&[("a", Node::symlink("b")), ("b", Node::symlink("a"))]);
        assert_eq!(binary(&mut files, r#"{"Entrypoint": ["/a"]}"#), None);
    }
}
