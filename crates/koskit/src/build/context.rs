//! Where a build reads from: the context, the Dockerfile, and what of the context counts.

use anyhow::{Context as _, Result, anyhow, bail};
use koskit_dockerfile::Source;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a build reads.
pub struct Context {
    /// The directory that COPY copies from.
    pub path: PathBuf,
    /// The Dockerfile.
    pub dockerfile: Source,
    /// The patterns of its `.dockerignore`.
    pub ignore: Vec<String>,
}

impl Context {
    /// Reads the Dockerfile and the `.dockerignore` of a context.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn open(path: &Path, file: Option<&Path>) -> Result<Self> {
        let context = directory(path)?;
        let (dockerfile, beside) = dockerfile(path, file)?;
        let ignore = ignore(&context, beside.as_deref())?;
        Ok(Self { path: context, dockerfile, ignore })
    }
}

fn directory(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        bail!("the build context {text:?} is not a directory; koskit builds from directories only");
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path.to_owned()),
        Ok(_) => bail!("the build context {text:?} is a file; give the directory that it is in"),
        Err(error) => {
            Err(error).with_context(|| format!("the build context {text:?} cannot be read"))
        }
    }
}

/// The Dockerfile, and its path where it has one.
fn dockerfile(context: &Path, file: Option<&Path>) -> Result<(Source, Option<PathBuf>)> {
    let path = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.context("cannot read a Dockerfile from standard input")?;
            return Ok((Source::new("Dockerfile", text), None));
        }
        Some(path) => path.to_owned(),
        None => context.join("Dockerfile"),
    };
    let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
    match fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok((Source::new(shown, text), Some(path))),
            Err(_) => bail!("{shown} is not UTF-8 text, as a Dockerfile must be"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => Err(anyhow!(
            "there is no Dockerfile in {}; name another file with -f",
            context.display()
        )),
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

/// What of the context does not count: the patterns of `NAME.dockerignore` beside the
/// Dockerfile, else of the context's `.dockerignore`.
fn ignore(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(koskit_frontend::ignore_patterns(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(Vec::new())
}
