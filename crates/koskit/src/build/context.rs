//! Where a build reads from: the context, the Dockerfile, and what of the context counts.
//!
//! A context is a directory, a tar archive, or a URL that the engine fetches. Standard input may
//! be a Dockerfile without a context or the archive of one; its first bytes tell.

use crate::build::engine::Engine;
use crate::build::spool::{self, Spool};
use anyhow::{Context as _, Result, anyhow, bail};
use koskit_dockerfile::Source;
use koskit_frontend::{Context, context_graph, ignore_patterns};
use koskit_image::Store;
use koskit_llb::Inputs;
use koskit_progress::Progress;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The name of the main context among an engine's inputs.
pub const NAME: &str = "context";
/// The largest Dockerfile that is read, and `.dockerignore`.
const MAX_FILE: u64 = 16 << 20;

/// What `koskit build` was given as its context. Nothing of a URL has been fetched yet.
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, which is removed afterwards if it came from standard input.
    Archive(Spool),
    /// Nothing but a Dockerfile.
    Dockerfile(String),
    /// What the engine fetches.
    Remote(Context),
}

/// What a build reads.
pub struct Main {
    /// The Dockerfile.
    pub dockerfile: Source,
    /// The context, as the frontend knows it.
    pub context: Context,
    /// The directory or archive that it stands for, if it is one.
    pub local: Option<PathBuf>,
}

impl Place {
    /// Finds out what a context is. Standard input is read, if it is that.
    ///
    /// # Errors
    /// There is no such thing.
    pub fn find(text: &str, file: Option<&Path>) -> Result<Self> {
        if text == "-" {
            if file == Some(Path::new("-")) {
                bail!("invalid argument: can't use stdin for both build context and dockerfile");
            }
            return Self::stdin();
        }
        let path = Path::new(text);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(Self::Directory(path.to_owned())),
            Ok(_) => match spool::open(path) {
                Ok(Some(archive)) => return Ok(Self::Archive(archive)),
                Ok(None) => bail!(
                    "the build context {text:?} is a file and no tar archive; give the directory \
                     that it is in"
                ),
                Err(error) => {
                    let sentence = format!("the build context {text:?} cannot be read");
                    return Err(error).context(sentence);
                }
            },
            Err(error) => {
                if !text.contains("://")
                    && !text.starts_with("git@")
                    && !text.starts_with("github.com/")
                {
                    let sentence = format!("the build context {text:?} cannot be read");
                    return Err(error).context(sentence);
                }
            }
        }
        Ok(Self::Remote(text.parse::<Context>()?))
    }

    fn stdin() -> Result<Self> {
        let stdin = spool::stdin().context("cannot read the build context from standard input")?;
        match stdin {
            spool::Stdin::Archive(archive) => Ok(Self::Archive(archive)),
            spool::Stdin::Other(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self::Dockerfile(text)),
                Err(_) => bail!("standard input is neither a Dockerfile nor a tar archive"),
            },
        }
    }

    /// Reads the Dockerfile and the `.dockerignore`, from a URL by an engine.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read(
        &self,
        file: Option<&Path>,
        options: &koskit_frontend::Options,
        fetch: &Fetch<'_>,
    ) -> Result<Main> {
        match (self.local(file)?, self) {
            (Some(main), _) => Ok(main),
            (None, Self::Remote(context)) => remote(context, file, options, fetch),
            (None, _) => bail!("there is no Dockerfile"),
        }
    }

    /// The same without an engine; nothing, if it takes one.
    fn local(&self, file: Option<&Path>) -> Result<Option<Main>> {
        let from_stdin = match file {
            Some(path) if path == Path::new("-") => Some(dockerfile_of_stdin()?),
            _ => None,
        };
        let main = match self {
            Self::Directory(path) => {
                let (dockerfile, beside) = match from_stdin {
                    Some(dockerfile) => (dockerfile, None),
                    None => dockerfile(path, file)?,
                };
                let ignore = ignore(path, beside.as_deref())?;
                let context = Context::Local { name: NAME.into(), ignore };
                Main { dockerfile, context, local: Some(path.clone()) }
            }
            Self::Archive(archive) => {
                let name = in_context(file)?;
                let found =
                    archive.files(&|path| is_dockerfile(path, &name) || is_ignore(path, &name))?;
                let take = |path: &str| found.get(Path::new(path)).cloned();
                let dockerfile = match from_stdin {
                    Some(dockerfile) => dockerfile,
                    None => find(&name, &take, "the tar archive of the build context")?,
                };
                let own = file.is_none_or(|path| path != Path::new("-"));
                let own = take(&format!("{name}.dockerignore")).filter(|_| own);
                let ignore = match own.or_else(|| take(".dockerignore")) {
                    Some(bytes) => ignore_patterns(&String::from_utf8_lossy(&bytes)),
                    None => Vec::new(),
                };
                let context = Context::Local { name: NAME.into(), ignore };
                Main { dockerfile, context, local: Some(archive.path().to_owned()) }
            }
            Self::Dockerfile(text) => {
                let dockerfile = Source::new("Dockerfile", text.clone());
                Main { dockerfile, context: Context::Scratch, local: None }
            }
            Self::Remote(context) => match from_stdin {
                Some(dockerfile) => Main { dockerfile, context: context.clone(), local: None },
                None => return Ok(None),
            },
        };
        Ok(Some(main))
    }
}

/// Reads a context that nothing is to be fetched for.
///
/// # Errors
/// It is a URL, or cannot be read.
pub fn here(text: &str, file: Option<&Path>) -> Result<Main> {
    Place::find(text, file)?.local(file)?.with_context(|| {
        format!("the build context {text:?} is elsewhere; give a directory or a tar archive")
    })
}

/// What it takes to read files of a URL.
pub struct Fetch<'a> {
    /// Fetches.
    pub engine: &'a Engine,
    /// Where what was fetched comes to.
    pub store: &'a Store,
    /// Secrets and agents for it.
    pub inputs: &'a Inputs,
    /// Is told.
    pub progress: &'a Progress,
}

/// Reads the Dockerfile of a context that the engine fetches: the rest comes when it is needed,
/// and is fetched once.
fn remote(
    context: &Context,
    file: Option<&Path>,
    options: &koskit_frontend::Options,
    fetch: &Fetch<'_>,
) -> Result<Main> {
    let name = in_context(file)?;
    let options = koskit_frontend::Options { context: context.clone(), ..options.clone() };
    let layers = fetch.engine.fetch(&context_graph(&options), fetch.inputs, fetch.progress)?;
    let config = serde_json::json!({ "os": "linux", "architecture": "amd64" });
    let image = fetch.store.add_image(&config, &layers)?;
    let files = fetch.store.files(&image.layers, &|path| {
        // A file of a web server that is no archive is the only one that there is.
        is_dockerfile(path, &name) || path == Path::new(NAME)
    })?;
    let take = |path: &str| files.get(Path::new(path)).cloned();
    if let (Context::Http { url, archive: false }, Some(bytes)) = (context, take(NAME)) {
        if spool::is_archive(&bytes) {
            // What it is called says nothing about what it is.
            let context = Context::Http { url: url.clone(), archive: true };
            return remote(&context, file, &options, fetch);
        }
        let dockerfile = source("Dockerfile", bytes)?;
        return Ok(Main { dockerfile, context: Context::Scratch, local: None });
    }
    let dockerfile = find(&name, &take, &context.to_string())?;
    Ok(Main { dockerfile, context: context.clone(), local: None })
}

/// The Dockerfile's path in a context that is no directory here.
fn in_context(file: Option<&Path>) -> Result<String> {
    let file = file.filter(|path| *path != Path::new("-")).unwrap_or(Path::new("Dockerfile"));
    let text = file.to_str().context("the name of the Dockerfile is not UTF-8 text")?;
    let clean = koskit_llb::path::clean(&format!("/{text}"));
    Ok(clean.trim_start_matches('/').to_owned())
}

fn is_dockerfile(path: &Path, name: &str) -> bool {
    path == Path::new(name) || name == "Dockerfile" && path == Path::new("dockerfile")
}

fn is_ignore(path: &Path, name: &str) -> bool {
    path == Path::new(".dockerignore") || path == Path::new(&format!("{name}.dockerignore"))
}

/// The Dockerfile among some files. As in docker, one whose name is in lower case will do.
fn find(name: &str, take: &dyn Fn(&str) -> Option<Vec<u8>>, whose: &str) -> Result<Source> {
    if let Some(bytes) = take(name) {
        return source(name, bytes);
    }
    match take("dockerfile").filter(|_| name == "Dockerfile") {
        Some(bytes) => source("dockerfile", bytes),
        None => bail!(
            "failed to read dockerfile: open {name}: no such file or directory in {whose}; name \
             another file with -f"
        ),
    }
}

fn source(name: &str, bytes: Vec<u8>) -> Result<Source> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(_) => bail!("{name} is not UTF-8 text, as a Dockerfile must be"),
    }
}

fn dockerfile_of_stdin() -> Result<Source> {
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_FILE).read_to_end(&mut bytes);
    read.context("cannot read a Dockerfile from standard input")?;
    source("Dockerfile", bytes)
}

/// The Dockerfile of a directory, and its path.
fn dockerfile(context: &Path, file: Option<&Path>) -> Result<(Source, Option<PathBuf>)> {
    let mut path = match file {
        Some(path) => path.to_owned(),
        None => context.join("Dockerfile"),
    };
    if file.is_none() && !path.exists() && context.join("dockerfile").exists() {
        path = context.join("dockerfile");
    }
    let shown = path.strip_prefix(".").unwrap_or(&path).display().to_string();
    match read(&path) {
        Ok(bytes) => Ok((source(&shown, bytes)?, Some(path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => Err(anyhow!(
            "there is no Dockerfile in {}; name another file with -f",
            context.display()
        )),
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}")),
    }
}

/// What of a directory does not count: the patterns of `NAME.dockerignore` beside the
/// Dockerfile, else of the directory's `.dockerignore`.
///
/// # Errors
/// It is there and cannot be read.
pub fn ignore(context: &Path, dockerfile: Option<&Path>) -> Result<Vec<String>> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match read(&path) {
            Ok(bytes) => return Ok(ignore_patterns(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(Vec::new())
}

/// A whole file, if it is not too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        let why = "it is larger than 16 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_context_is_shows_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let find = |path: &Path| Place::find(path.to_str().unwrap(), None);
        assert!(matches!(find(directory.path()), Ok(Place::Directory(_))));
        let file = directory.path().join("file");
        fs::write(&file, "FROM scratch").unwrap();
        assert!(find(&file).is_err());
        let mut archive = tar::Builder::new(fs::File::create(&file).unwrap());
        archive.append_dir(".", directory.path()).unwrap();
        archive.into_inner().unwrap();
        assert!(matches!(find(&file), Ok(Place::Archive(_))));
        let remote = |text: &str| matches!(Place::find(text, None), Ok(Place::Remote(_)));
        assert!(remote("https://host/repo.git#v1") && remote("git@host:repo.git"));
        assert!(remote("https://host/context.tar.gz"));
        assert!(find(&directory.path().join("nothing")).is_err());
    }

    #[test]
    fn a_path_in_a_context_does_not_leave_it() {
        let name = |path: &str| in_context(Some(Path::new(path))).unwrap();
        assert_eq!(name("../../a/./b"), "a/b");
        assert_eq!(name("/a"), "a");
        assert_eq!(in_context(None).unwrap(), "Dockerfile");
    }
}
