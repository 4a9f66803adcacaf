//! The process of a container: its words, its environment, where it starts, and its program.
//!
//! ENTRYPOINT and CMD are the OCI image specification's ("config.md"); what the command line
//! overrides is as in `docker run`: arguments replace CMD, a new entrypoint also drops CMD.

use crate::{LowerError, Options};
use koskit_image::oci::ImageConfiguration;
use koskit_image::{Node, NodeKind, ResolveError, Tree};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// PATH where the image sets none: the one that Docker gives.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program gets to see when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// At least one.
    pub args: Vec<String>,
    /// `NAME=value`, each name once; always with a PATH.
    pub env: Vec<String>,
    /// Absolute and clean.
    pub cwd: String,
}

impl Words {
    /// Reads them off a configuration, and changes what the options say.
    pub fn of(config: &ImageConfiguration, options: &Options) -> Result<Self, LowerError> {
        let config = config.config().clone().unwrap_or_default();
        let image_cmd = config.cmd().clone().unwrap_or_default();
        let (mut args, cmd) = match &options.entrypoint {
            Some(word) if word.is_empty() => (Vec::new(), Vec::new()),
            Some(word) => (vec![word.clone()], Vec::new()),
            None => (config.entrypoint().clone().unwrap_or_default(), image_cmd),
        };
        args.extend(if options.args.is_empty() { cmd } else { options.args.clone() });
        if args.is_empty() {
            return Err(LowerError::NoCommand);
        }
        let mut env = Vec::new();
        for entry in config.env().iter().flatten().chain(&options.env) {
            set(&mut env, entry)?;
        }
        if value(&env, "PATH").is_none() {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let cwd = match &options.workdir {
            Some(path) if !path.starts_with('/') => {
                return Err(LowerError::RelativeWorkdir(path.clone()));
            }
            Some(path) => clean(path),
            None => clean(config.working_dir().as_deref().unwrap_or("/")),
        };
        Ok(Self { args, env, cwd })
    }
}

/// Sets or removes one variable; one that is set again stays at its place.
fn set(env: &mut Vec<String>, entry: &str) -> Result<(), LowerError> {
    let name = entry.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(LowerError::Variable(entry.into()));
    }
    let at = env.iter().position(|old| old.split('=').next() == Some(name));
    match (at, entry.contains('=')) {
        (Some(at), true) => env[at] = entry.into(),
        (None, true) => env.push(entry.into()),
        (Some(at), false) => drop(env.remove(at)),
        (None, false) => {}
    }
    Ok(())
}

fn value<'a>(env: &'a [String], name: &str) -> Option<&'a str> {
    env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// An absolute path without `.`, `..` and doubled slashes. A relative one begins at the root.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Makes the working directory where it is missing, as Docker does.
pub(crate) fn make_workdir(tree: &mut Tree, cwd: &str) -> Result<(), LowerError> {
    let blocked = |path: &Path| LowerError::Workdir(cwd.into(), Path::new("/").join(path));
    let mut at = PathBuf::new();
    for part in Path::new(cwd).components() {
        let Component::Normal(part) = part else { continue };
        let next = at.join(part);
        at = match tree.resolve(&next) {
            Ok((path, node)) if node.is_directory() => path.to_owned(),
            // A link that leads nowhere is in the way as well.
            Err(ResolveError::NotFound(_)) if tree.get(&next).is_none() => {
                tree.insert(next.clone(), Node::directory(0o755));
                next
            }
            _ => return Err(blocked(&next)),
        };
    }
    Ok(())
}

/// Finds the program, and gives its path in the image (absolute, links followed) and bytes.
/// `stated` is the label's path; else the first word is looked up as a shell would.
pub(crate) fn program(
    tree: &Tree,
    words: &Words,
    stated: Option<&str>,
) -> Result<(PathBuf, Arc<[u8]>), LowerError> {
    let word = stated.unwrap_or(&words.args[0]);
    let not_found = |source| LowerError::NotFound { word: word.into(), source };
    let (path, node) = if stated.is_none() && !word.contains('/') {
        search(tree, words, word)?
    } else {
        tree.resolve(Path::new(&words.cwd).join(word)).map_err(not_found)?
    };
    let path = Path::new("/").join(path);
    let NodeKind::File(bytes) = &node.kind else { return Err(LowerError::NotFile(path)) };
    if node.mode & 0o111 == 0 {
        return Err(LowerError::NotExecutable(path));
    }
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(&line[..line.len().min(256)]).trim().to_owned();
        return Err(LowerError::Script { path, interpreter });
    }
    Ok((path, bytes.clone()))
}

/// The first executable file of this name in a directory of PATH.
fn search<'a>(
    tree: &'a Tree,
    words: &Words,
    word: &str,
) -> Result<(&'a Path, &'a Node), LowerError> {
    let search = value(&words.env, "PATH").unwrap_or(DEFAULT_PATH);
    let found = search.split(':').find_map(|directory| {
        let path = Path::new(&words.cwd).join(directory).join(word);
        let (path, node) = tree.resolve(path).ok()?;
        (matches!(node.kind, NodeKind::File(_)) && node.mode & 0o111 != 0).then_some((path, node))
    });
    found.ok_or_else(|| LowerError::NotInPath { word: word.into(), search: search.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> ImageConfiguration {
        let text = format!(
            r#"{{"os":"linux","architecture":"arm64",
                "rootfs":{{"type":"layers","diff_ids":[]}},"config":{json}}}"#
        );
        ImageConfiguration::from_reader(text.as_bytes()).unwrap()
    }

    const HELLO: &str = r#"{"Entrypoint":["/hello"],"Cmd":["hello_world","test"],
        "Env":["HELLO=WORLD"],"WorkingDir":"srv/../data//"}"#;

    fn words(options: &Options) -> Words {
        Words::of(&config(HELLO), options).unwrap()
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn entrypoint_and_cmd_together_are_the_command() {
        let words = words(&Options::default());
        assert_eq!(words.args, ["/hello", "hello_world", "test"]);
        assert_eq!(words.env, ["HELLO=WORLD", &format!("PATH={DEFAULT_PATH}")]);
        assert_eq!(words.cwd, "/data");
    }

    #[test]
    fn arguments_replace_cmd_and_a_new_entrypoint_drops_it() {
        let args = strings(&["a", "b"]);
        let replaced = words(&Options { args: args.clone(), ..Options::default() });
        assert_eq!(replaced.args, ["/hello", "a", "b"]);
        let entrypoint = Some("/bin/sh".to_owned());
        let dropped = words(&Options { entrypoint: entrypoint.clone(), ..Options::default() });
        assert_eq!(dropped.args, ["/bin/sh"]);
        let both = words(&Options { entrypoint, args: args.clone(), ..Options::default() });
        assert_eq!(both.args, ["/bin/sh", "a", "b"]);
        let none = Options { entrypoint: Some(String::new()), args, ..Options::default() };
        assert_eq!(words(&none).args, ["a", "b"]);
    }

    #[test]
    fn variables_are_set_replaced_and_removed_in_place() {
        let env = strings(&["A=1", "B=2", "HELLO=you=me", "A"]);
        let words = words(&Options { env, ..Options::default() });
        assert_eq!(words.env[..2], ["HELLO=you=me", "B=2"]);
        let env = strings(&["=1"]);
        let error = Words::of(&config(HELLO), &Options { env, ..Options::default() });
        assert!(matches!(error, Err(LowerError::Variable(_))));
    }

    #[test]
    fn an_image_without_a_command_is_refused() {
        let error = Words::of(&config("{}"), &Options::default()).unwrap_err();
        assert!(matches!(error, LowerError::NoCommand));
    }

    #[test]
    fn a_relative_working_directory_on_the_command_line_is_refused() {
        let options = Options { workdir: Some("tmp".into()), ..Options::default() };
        let error = Words::of(&config(HELLO), &options).unwrap_err();
        assert!(matches!(error, LowerError::RelativeWorkdir(_)));
    }

    #[test]
    fn a_missing_working_directory_is_made_behind_links_too() {
        let mut tree = Tree::new();
        tree.insert("srv", Node::symlink("/data"));
        tree.insert("data", Node::directory(0o700));
        make_workdir(&mut tree, "/srv/a/b").unwrap();
        assert!(tree.get("data/a/b").unwrap().is_directory());
        tree.insert("file", Node::file(0o644, &b""[..]));
        let error = make_workdir(&mut tree, "/file/a").unwrap_err();
        assert!(matches!(error, LowerError::Workdir(_, path) if path == Path::new("/file")));
    }

    fn find(tree: &Tree, word: &str, cwd: &str) -> Result<PathBuf, LowerError> {
        let env = strings(&["PATH=/nothing:/bin"]);
        let words = Words { args: strings(&[word]), env, cwd: cwd.into() };
        program(tree, &words, None).map(|(path, _)| path)
    }

    #[test]
    fn a_program_is_found_by_path_by_working_directory_and_in_path() {
        let mut tree = Tree::new();
        tree.insert("bin/busybox", Node::file(0o755, &b"\x7fELF"[..]));
        tree.insert("bin/ls", Node::symlink("busybox"));
        tree.insert("bin/data", Node::file(0o644, &b"x"[..]));
        tree.insert("bin/run", Node::file(0o755, &b"#! /bin/sh -e\necho\n"[..]));
        let busybox = Path::new("/bin/busybox");
        assert_eq!(find(&tree, "/bin/ls", "/").unwrap(), busybox);
        assert_eq!(find(&tree, "./ls", "/bin").unwrap(), busybox);
        assert_eq!(find(&tree, "ls", "/").unwrap(), busybox);
        let sentence = |word| find(&tree, word, "/").unwrap_err().to_string();
        assert!(sentence("data").contains("in no directory of PATH"));
        assert!(sentence("/bin/data").contains("not executable"));
        assert!(sentence("/bin").contains("not a file"));
        assert!(sentence("/bin/none").contains("cannot be found"));
        assert!(sentence("/bin/run").contains("a script for \"/bin/sh -e\""));
    }
}
