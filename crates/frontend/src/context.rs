//! Build contexts: where files come from that the Dockerfile does not make itself.

use std::fmt;
use std::str::FromStr;

use koskit_llb::{
    Builder, Copy, Digest, FileOp, Git, GitUrl, Http, Local, Note, OciLayout, Platform, Reference,
    Source, State, pb,
};
use thiserror::Error;

use crate::{ImageConfig, Options, variables};

/// A build context. The main one is what COPY and ADD copy from; named ones stand for images
/// or stages in FROM and in `--from`.
#[derive(Clone, PartialEq)]
pub enum Context {
    /// A folder of the client, or an archive of one.
    Local {
        /// The name under which the solver finds it, `local://NAME`.
        name: String,
        /// The patterns of its `.dockerignore`, see [`crate::ignore_patterns`].
        ignore: Vec<String>,
    },
    /// Nothing.
    Scratch,
    /// An image; without a tag and a digest it is the one with the tag `latest`.
    Image(Reference),
    /// A git repository.
    Git {
        /// Where it is.
        url: GitUrl,
        /// The same as it was written.
        text: String,
    },
    /// A file of a web server.
    Http {
        /// Its URL.
        url: String,
        /// As the main context: whether the file is an archive, which is unpacked. If it is
        /// not, it is the Dockerfile.
        archive: bool,
    },
    /// An image in an OCI layout of the client.
    OciLayout {
        /// The name under which the solver finds the layout.
        store: String,
        /// The digest of its manifest, or of an index with it.
        digest: Digest,
    },
    /// The result of another build.
    Graph {
        /// The graph of that build.
        definition: pb::Definition,
        /// The configuration of its image, if it is one.
        config: Option<Box<ImageConfig>>,
    },
}

/// Why a text names no context.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a build context: {why}")]
pub struct ContextError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// What the main context's file is called when it comes from a web server.
const DOWNLOADED: &str = "context";

impl Context {
    /// A folder of the client without a `.dockerignore`.
    pub fn local(name: &str) -> Self {
        Self::Local { name: name.into(), ignore: Vec::new() }
    }

    /// The patterns of its `.dockerignore`, if it is a folder of the client. What comes from
    /// elsewhere has all its files.
    pub fn ignore(&self) -> &[String] {
        match self {
            Self::Local { ignore, .. } => ignore,
            _ => &[],
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({self})")
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { name, .. } => write!(f, "local:{name}"),
            Self::Scratch => f.write_str("docker-image://scratch"),
            Self::Image(name) => write!(f, "docker-image://{}", name.familiar()),
            Self::Git { text, .. } => f.write_str(text),
            Self::Http { url, .. } => f.write_str(url),
            Self::OciLayout { store, digest } => write!(f, "oci-layout://{store}@{digest}"),
            Self::Graph { .. } => f.write_str("input"),
        }
    }
}

impl FromStr for Context {
    type Err = ContextError;

    /// Reads a context as BuildKit's option `context:NAME` has it: `docker-image://alpine`,
    /// `https://host/repo.git#v1`, `git@host:repo.git`, `https://host/file.tar.gz` (taken for
    /// an archive by its ending), `oci-layout://STORE@DIGEST`, `local:NAME`.
    fn from_str(text: &str) -> Result<Self, ContextError> {
        let fail = |why: String| ContextError { text: text.chars().take(300).collect(), why };
        if let Some(name) = text.strip_prefix("docker-image:") {
            let name = name.strip_prefix("//").unwrap_or(name);
            return match name {
                "scratch" => Ok(Self::Scratch),
                name => {
                    let name = name.parse::<Reference>().map_err(|e| fail(e.to_string()))?;
                    Ok(Self::Image(name))
                }
            };
        }
        if let Some(layout) = text.strip_prefix("oci-layout:") {
            let layout = layout.strip_prefix("//").unwrap_or(layout);
            let (store, digest) = layout
                .rsplit_once('@')
                .ok_or_else(|| fail("the digest of its manifest is missing, @sha256:…".into()))?;
            let digest = digest.parse().map_err(|error| fail(format!("{error}")))?;
            return Ok(Self::OciLayout { store: store.into(), digest });
        }
        if let Some(name) = text.strip_prefix("local:").filter(|name| !name.is_empty()) {
            return Ok(Self::local(name));
        }
        if let Some(url) = GitUrl::parse(text).map_err(|error| fail(error.to_string()))? {
            return Ok(Self::Git { url, text: text.into() });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let path = text.split(['?', '#']).next().unwrap_or(text);
            let ends = [".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst"];
            let archive = ends.iter().any(|end| path.ends_with(end));
            return Ok(Self::Http { url: text.into(), archive });
        }
        Err(fail("it is no URL of a kind that is known".into()))
    }
}

/// The graph of the main context alone: what a Dockerfile in a remote context is read from.
pub fn context_graph(options: &Options) -> pb::Definition {
    let mut builder = Builder::new();
    let state = main(&mut builder, options, &[]);
    builder.definition(state)
}

/// Adds the main context. Of a local one, only `paths` are needed; none is all of it.
pub(crate) fn main(builder: &mut Builder, options: &Options, paths: &[String]) -> State {
    let state = match &options.context {
        Context::Local { name, ignore } => {
            let local = Local {
                name: name.clone(),
                follow_paths: paths.to_vec(),
                exclude_patterns: ignore.clone(),
                shared_key_hint: name.clone(),
                session: options.session.clone(),
                ..Local::default()
            };
            let note = Note::new("[internal] load build context");
            return builder.source(Source::Local(local), note);
        }
        Context::Scratch => None,
        Context::Git { url, text } => {
            let keep = options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
            let keep = keep.is_some_and(|text| variables::is_true(text));
            builder.source(Source::Git(git(url, keep)), git_note(text))
        }
        Context::Http { url, archive } => {
            let filename = Some(DOWNLOADED.to_owned());
            let http = Http { url: url.clone(), filename, ..Http::default() };
            let note = Note::new("[internal] load remote build context");
            let file = builder.source(Source::Http(http), note);
            match archive {
                false => file,
                true => {
                    let src = format!("/{DOWNLOADED}");
                    let copy = Copy { src, dest: "/".into(), unpack: true, ..Copy::default() };
                    builder.file(None, FileOp::new().copy(file, copy), Note::default())
                }
            }
        }
        Context::Image(name) => builder.source(
            Source::Image {
                reference: name.clone().tagged(),
                platform: options.target_platform.clone(),
                resolve: options.resolve,
            },
            Note::new(format!("[internal] load build context from {}", name.familiar())),
        ),
        Context::OciLayout { store, digest } => {
            let platform = &options.target_platform;
            let layout = layout("context", store, digest, platform, options.session.clone());
            let note = Note::new("[internal] load build context");
            builder.source(Source::OciLayout(layout), note)
        }
        // It was read by whoever made the context of it.
        Context::Graph { definition, .. } => builder.import(definition).unwrap_or_default(),
    };
    match &options.context_subdir {
        None => state,
        Some(subdir) => {
            let copy = Copy {
                src: subdir.clone(),
                dest: "/".into(),
                contents_only: true,
                ..Copy::default()
            };
            builder.file(None, FileOp::new().copy(state, copy), Note::default())
        }
    }
}

pub(crate) fn git(url: &GitUrl, keep: bool) -> Git {
    Git {
        url: url.clone(),
        keep_git_dir: keep || url.keep_git_dir == Some(true),
        checksum: url.checksum.clone(),
    }
}

pub(crate) fn git_note(text: &str) -> Note {
    Note::new(format!("[internal] load git source {text}"))
}

pub(crate) fn layout(
    name: &str,
    store: &str,
    digest: &Digest,
    platform: &Platform,
    session: Option<String>,
) -> OciLayout {
    // Only a store that is known by its name and digest can be read; the rest is for people.
    let named = |name: &str| name.to_lowercase().parse::<Reference>().ok();
    let reference = named(name).unwrap_or_else(|| named("context").expect("it is a name"));
    OciLayout {
        reference: reference.with_digest(digest.clone()),
        platform: platform.clone(),
        store: store.into(),
        session,
    }
}

/// A named context as a Dockerfile meets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedContext {
    /// Its name, perhaps with a platform: `alpine`, `alpine::linux/arm64`.
    pub name: String,
    /// The same without the platform.
    pub short: String,
    pub context: Context,
}

/// The context that stands for a stage or an image. One that is for the platform alone comes
/// first.
pub(crate) fn named(options: &Options, name: &str, platform: &Platform) -> Option<NamedContext> {
    if options.contexts.is_empty() || ["scratch", "context"].contains(&&*name.to_lowercase()) {
        return None;
    }
    let short = short(name)?;
    [format!("{short}::{platform}"), short.clone()].into_iter().find_map(|name| {
        let context = options.contexts.iter().find(|(given, _)| normal(given) == name)?.1.clone();
        Some(NamedContext { name, short: short.clone(), context })
    })
}

/// The name of an image as short as it can be; `None` is no such name.
fn short(name: &str) -> Option<String> {
    let familiar = name.parse::<Reference>().ok()?.familiar();
    Some(familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned())
}

/// The name that a context was given, as it is looked for.
fn normal(given: &str) -> String {
    let (name, platform) = given.split_once("::").unwrap_or((given, ""));
    let name = short(name).unwrap_or_else(|| name.to_owned());
    match platform.parse::<Platform>() {
        Ok(platform) => format!("{name}::{platform}"),
        Err(_) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Context {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_context_is_read_as_it_is_shown() {
        let digest = Digest::of(b"");
        for text in [
            "local:context",
            "docker-image://scratch",
            "docker-image://alpine",
            "docker-image://example.org/a:b",
            "https://example.org/a.git#v1:sub",
            "git@example.org:a.git",
            "https://example.org/a.tar.gz?x=1",
            &format!("oci-layout://store@{digest}"),
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        let archive = |text: &str| matches!(parse(text), Context::Http { archive: true, .. });
        assert!(archive("https://example.org/a.tar.gz?x=1"));
        assert!(!archive("https://example.org/Dockerfile"));
    }

    #[test]
    fn a_context_stands_for_all_spellings_of_a_name() {
        let platform = Platform::new("linux", "arm64", "");
        for (given, asked) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine:latest", "alpine"),
            ("alpine:3::linux/aarch64", "alpine:3"),
            ("stage", "stage"),
        ] {
            let contexts = [(given.to_owned(), Context::Scratch)].into();
            let options = Options { contexts, ..Options::default() };
            assert!(named(&options, asked, &platform).is_some(), "{given}");
            assert!(named(&options, "other", &platform).is_none());
        }
    }

    #[test]
    fn what_is_no_context_is_refused_with_a_reason() {
        for (text, why) in [
            ("folder", "no URL"),
            ("local:", "no URL"),
            ("docker-image://A", "upper-case"),
            ("oci-layout://x", "digest"),
            ("oci-layout://x@y", "digest"),
            ("https://h/a.git?x=y", "has no"),
            ("ftp://h/a", "no URL"),
        ] {
            let error = text.parse::<Context>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }
}
