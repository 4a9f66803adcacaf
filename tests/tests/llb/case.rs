//! The corpus: Dockerfiles, each for one thing. Their last lines say what that is and with
//! which of docker's options they are built.

use std::fs;
use std::path::{Path, PathBuf};

use koskit_dockerfile::Source;
use koskit_frontend::{Build, Context, Options, convert};
use koskit_llb::{Digest, Graph, Platform, ResolveMode, pb};
use koskit_tests::root;

use crate::graph::Steps;
use crate::images::Images;

/// One Dockerfile of the corpus.
pub struct Case {
    pub name: String,
    pub text: String,
    pub ignore: Option<String>,
    /// The words behind `docker buildx build`.
    pub words: Vec<String>,
}

/// What stands for `{…}` in a case: addresses and digests.
#[derive(Clone, Debug)]
pub struct World {
    /// `{web}`: a web server that has an archive under every name.
    pub web: String,
    /// `{git}`: a server with `repo.git`.
    pub git: String,
    /// `{commit}` of that.
    pub commit: String,
    /// `{folder}` with a few files.
    pub folder: String,
    /// `{layout}`: an OCI layout of the image `full`.
    pub layout: String,
}

impl World {
    /// Where nothing is to be fetched.
    pub fn nowhere() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            web: text("http://web.example"),
            git: text("git://git.example"),
            commit: "0123456789".repeat(4),
            folder: text("/folder"),
            layout: text("/layout"),
        }
    }

    /// What differs from one to the other, and what it is called in both.
    pub fn names(&self) -> Vec<(String, &'static str)> {
        let bare = |url: &str| url.split_once("://").expect("a URL").1.to_owned();
        vec![
            (self.web.clone(), "{web}"),
            (bare(&self.web), "{web-host}"),
            (self.git.clone(), "{git}"),
            (bare(&self.git), "{git-host}"),
            (self.commit.clone(), "{commit}"),
        ]
    }
}

/// The archive that the web server has, and that is in the context.
pub fn web_archive() -> Vec<u8> {
    crate::images::archive(&[("x", 0o644, Some(b"x\n")), ("y", 0o600, Some(b"y\n"))])
}

pub fn folder() -> PathBuf {
    root().join("tests/llb")
}

/// All cases, by name.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".Dockerfile")
        else {
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let ignore = fs::read_to_string(path.with_extension("Dockerfile.dockerignore")).ok();
        let words = text.lines().last().and_then(|line| line.strip_prefix("# build: "));
        let words = words.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        cases.push(Case { name: name.to_owned(), text, ignore, words });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// Its text, or another of its own, in a world.
    pub fn fill(&self, text: &str, world: &World, images: &Images) -> String {
        text.replace("{web}", &world.web)
            .replace("{git}", &world.git)
            .replace("{commit}", &world.commit)
            .replace("{folder}", &world.folder)
            .replace("{layout}", &world.layout)
            .replace("{checksum}", Digest::of(&web_archive()).as_str())
            .replace("{base}", images.digest("base").as_str())
    }

    /// The main context, where it is not the folder that all others have.
    pub fn main(&self) -> Option<&String> {
        self.words.first().filter(|word| !word.starts_with('-'))
    }

    /// What koskit makes of it, for each platform.
    pub fn ours(&self, world: &World, images: &Images) -> Result<Vec<(Steps, Build)>, String> {
        let options = self.options(world, images);
        let build = |options: &Options| {
            let text = self.fill(&self.text, world, images);
            let build = convert(Source::new("Dockerfile", text), options, images)
                .map_err(|error| format!("it cannot be built here: {error}"))?;
            let graph = Graph::new(&build.definition).map_err(|error| error.to_string())?;
            Ok((Steps::ours(&graph), build))
        };
        options.iter().map(build).collect()
    }

    /// docker's options as ours.
    fn options(&self, world: &World, images: &Images) -> Vec<Options> {
        let amd64 = Platform::new("linux", "amd64", "");
        let ignore = self.ignore.as_deref().map(koskit_frontend::ignore_patterns);
        let mut options = Options {
            target_platform: amd64.clone(),
            build_platform: amd64.clone(),
            resolve: ResolveMode::Local,
            // RUN has no other network in the peers' root.
            network: pb::NetMode::None,
            context: Context::Local { name: "context".into(), ignore: ignore.unwrap_or_default() },
            ..Options::default()
        };
        let mut platforms = vec![amd64];
        let mut words = self.words.iter().map(|word| self.fill(word, world, images)).peekable();
        if self.main().is_some() {
            let context = words.next().unwrap();
            options.context = match context.parse().unwrap() {
                Context::Http { url, .. } => Context::Http { url, archive: true },
                context => context,
            };
        }
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        };
        while let Some(flag) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{flag} has no value"));
            match flag.as_str() {
                "--allow" | "--secret" => drop(value()),
                "--no-cache" => options.no_cache = true,
                "--no-cache-filter" => options.no_cache_filter.push(value()),
                "--target" => options.target = Some(value()),
                "--cgroup-parent" => options.cgroup_parent = value(),
                "--build-arg" => options.build_args.extend([pair(&value())]),
                "--label" => options.labels.extend([pair(&value())]),
                // docker writes names of machines in small letters.
                "--add-host" => options.extra_hosts.push(pair(&value().to_lowercase())),
                "--shm-size" => {
                    assert_eq!(value(), "64m");
                    options.shm_size = 64 << 20;
                }
                "--network" => {
                    assert_eq!(value(), "host");
                    options.network = pb::NetMode::Host;
                }
                "--ulimit" => {
                    let (name, limits) = pair(&value());
                    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
                    let (soft, hard) = (soft.parse().unwrap(), hard.parse().unwrap());
                    options.ulimits.push(pb::Ulimit { name, soft, hard });
                }
                "--platform" => {
                    platforms = value().split(',').map(|p| p.parse().unwrap()).collect();
                }
                "--build-context" => {
                    let (name, text) = pair(&value());
                    let context = match text.strip_prefix("oci-layout://") {
                        Some(_) => {
                            let digest = images.digest("full");
                            Context::OciLayout { store: "store".into(), digest }
                        }
                        // A path.
                        None if text.starts_with('/') => Context::local(&name),
                        None => text.parse().unwrap(),
                    };
                    options.contexts.insert(name, context);
                }
                other => panic!("{}: {other} is not known", self.name),
            }
        }
        let multi_platform = platforms.len() > 1;
        let all = platforms.into_iter().map(|target_platform| {
            let target_platform = target_platform.clone();
            Options { target_platform, multi_platform, ..options.clone() }
        });
        all.collect()
    }
}

/// A path that the peers see, too.
pub fn write(path: &Path, data: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
}
