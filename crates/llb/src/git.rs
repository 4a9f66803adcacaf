//! The URLs of git repositories, with which commit and which folder of it are meant.

use std::str::FromStr;

use thiserror::Error;

use crate::path;
use crate::url::decode;

/// Where a git repository is, and what is wanted of it: `https://host/repo.git#ref:folder`,
/// `https://host/repo.git?tag=v1&subdir=folder`, `git@host:repo.git#ref`.
///
/// That a `http` or `https` URL is one of a repository can only be told by its path, which
/// ends with `.git`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl {
    /// What git is given.
    pub remote: String,
    /// `https`, `http`, `ssh` or `git`.
    scheme: String,
    /// The host, and the port if there is one.
    host: String,
    /// The path on it.
    path: String,
    /// A branch, a tag or a commit; `None` is the default branch.
    pub reference: Option<String>,
    /// A folder of the repository; `None` is all of it.
    pub subdir: Option<String>,
    /// What the commit must be.
    pub checksum: Option<String>,
    /// Whether the `.git` is kept, if the URL says so.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, if the URL says so.
    pub submodules: Option<bool>,
    /// `github.com/…` without a scheme: it could as well be a folder.
    pub ambiguous: bool,
}

/// Why a git URL cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GitUrlError {
    /// It is a URL, but not one of a repository, or no URL at all.
    #[error("{0:?} is not the URL of a git repository")]
    NotGit(String),
    /// It is one, but what is asked of it makes no sense.
    #[error("{0}")]
    Query(String),
}

impl GitUrl {
    /// Reads the URL of a repository. `None` is anything else.
    ///
    /// # Errors
    /// What is wrong with its query.
    pub fn parse(text: &str) -> Result<Option<Self>, GitUrlError> {
        let Some((mut url, query)) = split(text) else { return Ok(None) };
        url.set_query(&query).map_err(GitUrlError::Query)?;
        Ok(Some(url))
    }

    /// Whether it is reached by ssh.
    pub fn is_ssh(&self) -> bool {
        self.scheme == "ssh"
    }

    /// Host, path, commit and folder: equal for one repository, whatever it is reached by.
    pub fn identity(&self) -> String {
        let mut out = format!("{}{}", self.host, path::clean_absolute(&self.path));
        if self.reference.is_some() || self.subdir.is_some() {
            out = format!("{out}#{}", self.reference.as_deref().unwrap_or_default());
        }
        if let Some(subdir) = &self.subdir {
            out = format!("{out}:{subdir}");
        }
        out
    }

    fn set_query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch) = (None, None);
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")));
            let (Some(key), Some(value)) = (key, value) else {
                return Err(format!("{pair:?} in the git URL has a wrong % escape"));
            };
            if seen.contains(&key) {
                return Err(format!("{key} is given twice in the git URL"));
            }
            if value.is_empty() && !matches!(key.as_str(), "submodules" | "keep-git-dir") {
                return Err(format!("{key} in the git URL has no value"));
            }
            match key.as_str() {
                "ref" => unify(&mut self.reference, value, "ref")?,
                "tag" => tag = Some(prefixed("refs/tags/", &value)),
                "branch" => branch = Some(prefixed("refs/heads/", &value)),
                "subdir" => unify(&mut self.subdir, value, "subdir")?,
                "checksum" | "commit" => self.checksum = Some(value),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, &value)?),
                "submodules" => self.submodules = Some(boolean(&key, &value)?),
                _ => {
                    return Err(format!(
                        "a git URL has no {key:?}; it has ref, tag, branch, subdir, checksum, keep-git-dir and submodules"
                    ));
                }
            }
            seen.push(key);
        }
        if tag.is_some() && branch.is_some() {
            return Err("the git URL has both a tag and a branch".into());
        }
        match tag.or(branch) {
            Some(reference) => unify(&mut self.reference, reference, "ref"),
            None => Ok(()),
        }
    }
}

impl FromStr for GitUrl {
    type Err = GitUrlError;

    fn from_str(text: &str) -> Result<Self, GitUrlError> {
        Self::parse(text)?.ok_or_else(|| GitUrlError::NotGit(text.chars().take(300).collect()))
    }
}

/// The parts of a URL, with the query apart; `None` where it is not one of a repository.
fn split(text: &str) -> Option<(GitUrl, String)> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    if text.starts_with("github.com/") {
        let (mut url, query) = absolute(&format!("https://{text}"), true)?;
        // git is given the https URL; without the scheme it is what the user has written.
        url.ambiguous = true;
        return Some((url, query));
    }
    match text.find("://") {
        Some(_) => absolute(text, false),
        None => scp(text),
    }
}

/// `any` is whether a path on a web server may end as it likes.
fn absolute(text: &str, any: bool) -> Option<(GitUrl, String)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https" | "ssh" | "git") {
        return None;
    }
    let (rest, fragment) = cut(rest, '#');
    let (rest, query) = cut(rest, '?');
    let (authority, raw_path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let strange = |c: char| c.is_ascii_control() || c == ' ';
    if host.is_empty() || rest.contains(strange) {
        return None;
    }
    let path = decode(raw_path)?;
    // A web server has all kinds of files.
    let web = matches!(scheme.as_str(), "http" | "https");
    if web && !any && !path.ends_with(".git") {
        return None;
    }
    let remote = format!("{scheme}://{authority}{raw_path}");
    let url = with_fragment(remote, &scheme, host, &path, &decode(fragment)?);
    Some((url, query.to_owned()))
}

/// `git@host:path`.
fn scp(text: &str) -> Option<(GitUrl, String)> {
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is =
        |text: &str, other: char| !text.is_empty() && text.chars().all(|c| word(c) || c == other);
    if !is(user, '_') || !is(host, '.') {
        return None;
    }
    let (rest, fragment) = cut(rest, '#');
    let (path, query) = cut(rest, '?');
    let remote = format!("{user}@{host}:{path}");
    Some((with_fragment(remote, "ssh", host, path, fragment), query.to_owned()))
}

fn with_fragment(remote: String, scheme: &str, host: &str, path: &str, fragment: &str) -> GitUrl {
    let (reference, subdir) = cut(fragment, ':');
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    GitUrl {
        remote,
        scheme: scheme.into(),
        host: host.into(),
        path: path.into(),
        reference: some(reference),
        subdir: some(subdir),
        checksum: None,
        keep_git_dir: None,
        submodules: None,
        ambiguous: false,
    }
}

fn cut(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn prefixed(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Sets what the fragment may have set, too.
fn unify(known: &mut Option<String>, value: String, what: &str) -> Result<(), String> {
    match known {
        Some(known) if *known != value => {
            Err(format!("the git URL has two values for its {what}: {known:?} and {value:?}"))
        }
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{key} in the git URL is true or false, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> GitUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_fragment_names_a_commit_and_a_folder() {
        let url = parse("https://user@example.org:8080/a/b.git#v1:sub/dir");
        assert_eq!(url.remote, "https://user@example.org:8080/a/b.git");
        assert_eq!(url.identity(), "example.org:8080/a/b.git#v1:sub/dir");
        assert_eq!(parse("https://example.org/a.git#:sub").identity(), "example.org/a.git#:sub");
        assert_eq!(parse("git://example.org/a").identity(), "example.org/a");
    }

    #[test]
    fn a_query_says_the_same_and_more() {
        let url = parse("https://h/a.git?tag=v1&subdir=s&checksum=abc&keep-git-dir&submodules=0");
        assert_eq!(url.identity(), "h/a.git#refs/tags/v1:s");
        assert_eq!(url.checksum.as_deref(), Some("abc"));
        assert_eq!((url.keep_git_dir, url.submodules), (Some(true), Some(false)));
        assert_eq!(parse("https://h/a.git?branch=b").identity(), "h/a.git#refs/heads/b");
        assert_eq!(parse("https://h/a.git?ref=x#x").identity(), "h/a.git#x");
    }

    #[test]
    fn ssh_is_also_written_as_scp_writes_it() {
        let url = parse("git@example.org:a/b.git?ref=c%2Fd#:e");
        assert!(url.is_ssh());
        assert_eq!(url.remote, "git@example.org:a/b.git");
        assert_eq!(url.identity(), "example.org/a/b.git#c/d:e");
        assert!(parse("ssh://git@example.org/a").is_ssh());
    }

    #[test]
    fn what_could_be_a_folder_says_so() {
        let url = parse("github.com/a/b#c");
        assert!(url.ambiguous);
        assert_eq!(
            (url.remote.as_str(), url.identity().as_str()),
            ("https://github.com/a/b", "github.com/a/b#c")
        );
    }

    #[test]
    fn files_and_folders_are_no_repositories() {
        for text in [
            "a.git",
            "./a@b:c",
            "../a",
            "/a",
            "https://h/a.tar.gz",
            "ftp://h/a.git",
            "https://github.com/a/b",
            "",
            "a@b/c:d",
            "https:///a.git",
            "https://h/%zz.git",
        ] {
            assert_eq!(GitUrl::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn a_wrong_query_is_told() {
        for (query, part) in [
            ("x=1", "has no \"x\""),
            ("ref=", "no value"),
            ("ref=a&ref=b", "twice"),
            ("ref=a#b", "two values"),
            ("tag=a&branch=b", "both"),
            ("submodules=maybe", "true or false"),
            ("ref=%z", "escape"),
        ] {
            let error = GitUrl::parse(&format!("https://h/a.git?{query}")).unwrap_err();
            assert!(error.to_string().contains(part), "{query}: {error}");
        }
    }
}
