//! What only ADD has: files of web servers and git repositories.

use koskit_dockerfile::{Add, Diagnostic, Word};
use koskit_llb::{Git, GitUrl, Http, Note, Source, url};

use crate::Result;
use crate::evaluate::Evaluator;
use crate::step::From;

/// The flags of an ADD that are about what comes from elsewhere.
pub(crate) struct Remote {
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    unpack: Option<bool>,
}

impl Remote {
    /// Reads the flags, for these sources.
    pub fn new(evaluator: &Evaluator<'_, '_>, add: &Add, sources: &[String]) -> Result<Self> {
        let mut remote =
            Self { checksum: None, keep_git_dir: add.keep_git_dir, unpack: add.unpack };
        let Some(word) = &add.checksum else { return Ok(remote) };
        let text = evaluator.expand(word)?;
        if text.is_empty() {
            return Ok(remote);
        }
        let fail = |message: &str| Err(Box::new(Diagnostic::error(word.span, message)));
        let [source] = sources else {
            return fail("--checksum is for one source, and there are others");
        };
        // What is wrong with a repository's URL is told with the source.
        if !is_web(source) && matches!(GitUrl::parse(source), Ok(None)) {
            return fail("--checksum is for files of web servers and for git repositories");
        }
        remote.checksum = Some(text);
        Ok(remote)
    }

    /// Whether what comes from there is unpacked, if it is an archive.
    pub fn unpack(&self, from: &From) -> bool {
        let file = matches!(from, From::Source(source) if matches!(source.0, Source::Http(_)));
        file && self.unpack == Some(true)
    }
}

fn is_web(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// The file system that a source of another machine is, and the path in it; `None` is a path
/// of the context. Without `remote`, which COPY does not have, there can be no other.
pub(crate) fn source(
    text: &str,
    word: &Word,
    remote: Option<&mut Remote>,
    name: impl FnOnce() -> String,
) -> Result<Option<(From, String)>> {
    let fail = |message: String| Err(Box::new(Diagnostic::error(word.span, message)));
    let url = match GitUrl::parse(text) {
        Ok(url) => url.filter(|url| !url.ambiguous),
        Err(error) => return fail(error.to_string()),
    };
    if url.is_none() && !is_web(text) {
        return Ok(None);
    }
    let Some(remote) = remote else {
        return fail("COPY cannot fetch anything; ADD can".into());
    };
    if let Some(url) = url {
        let git = match git(url, remote) {
            Ok(git) => git,
            Err(message) => return fail(message),
        };
        let source = Box::new((Source::Git(git), Note::new(name())));
        return Ok(Some((From::Source(source), "/".into())));
    }
    if let Some(checksum) = &remote.checksum
        && !is_digest(checksum)
    {
        return fail(format!("{checksum:?} is not a checksum; expected sha256: and 64 digits"));
    }
    let filename = url::file_name(text).unwrap_or_else(|| "__unnamed__".into());
    let http = Http {
        url: text.to_owned(),
        filename: Some(filename.clone()),
        checksum: remote.checksum.clone(),
    };
    let note = Note { command: Some(String::new()), ..Note::new(name()) };
    let source = Box::new((Source::Http(http), note));
    Ok(Some((From::Source(source), format!("/{filename}"))))
}

/// A repository, for which both the flags and its URL may say the same.
fn git(url: GitUrl, remote: &mut Remote) -> Result<Git, String> {
    if let (Some(flag), Some(own)) = (remote.keep_git_dir, url.keep_git_dir)
        && flag != own
    {
        return Err("--keep-git-dir and the keep-git-dir of the URL differ".into());
    }
    if let (Some(flag), Some(own)) = (&remote.checksum, &url.checksum)
        && flag != own
    {
        return Err("--checksum and the checksum of the URL differ".into());
    }
    let keep_git_dir = url.keep_git_dir.or(remote.keep_git_dir).unwrap_or_default();
    let checksum = url.checksum.clone().or_else(|| remote.checksum.clone());
    Ok(Git { url, keep_git_dir, checksum })
}

/// `sha256:…` or one of its larger brothers.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
