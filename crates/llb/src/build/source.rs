//! File systems that come from outside.

use std::collections::BTreeMap;

use super::{Builder, Draft, Inputs, Note, State};
use crate::pb;
use crate::{GitUrl, Platform, Reference};

/// Where a file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image of a registry or a store.
    Image {
        /// Its name, best with a digest.
        reference: Reference,
        /// Which of its variants.
        platform: Platform,
        /// Where it is looked for.
        resolve: ResolveMode,
    },
    /// A folder of the client.
    Local(Local),
    /// A git repository.
    Git(Git),
    /// A file of a web server.
    Http(Http),
    /// An image of an OCI layout of the client.
    OciLayout(OciLayout),
}

/// Where an image is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResolveMode {
    /// Where the solver thinks best.
    #[default]
    Default,
    /// In the registry, whatever the store has.
    Pull,
    /// In the store first.
    Local,
}

/// A folder of the client, and which part of it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// `context` is the build context.
    pub name: String,
    /// Only these paths, and what symbolic links in them lead to.
    pub follow_paths: Vec<String>,
    /// Only what matches one of these.
    pub include_patterns: Vec<String>,
    /// Not what these match: the lines of `.dockerignore`.
    pub exclude_patterns: Vec<String>,
    /// A name under which transfers of it can be found again.
    pub shared_key_hint: String,
    /// Which client's folder it is, where several are connected.
    pub session: Option<String>,
}

/// A commit of a git repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// Where it is, which commit, which folder of it.
    pub url: GitUrl,
    /// The `.git` is kept.
    pub keep_git_dir: bool,
    /// What the commit must be.
    pub checksum: Option<String>,
}

/// A file of a web server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Its URL.
    pub url: String,
    /// What the file is called in the file system; by default what the server calls it.
    pub filename: Option<String>,
    /// `sha256:…` of what it must be.
    pub checksum: Option<String>,
}

/// An image of an OCI layout of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciLayout {
    /// What to call it; only for messages.
    pub reference: Reference,
    /// Which of its variants.
    pub platform: Platform,
    /// Which of the client's layouts.
    pub store: String,
    /// Which client's layout it is, where several are connected.
    pub session: Option<String>,
}

impl Builder {
    /// Adds a source.
    pub fn source(&mut self, source: Source, note: Note) -> State {
        let (draft, platform) = match source {
            Source::Image { reference, platform, resolve } => {
                (image(&reference, resolve), Some(platform))
            }
            Source::Local(local) => (self::local(local), None),
            Source::Git(git) => (self::git(git), None),
            Source::Http(http) => (self::http(http), None),
            Source::OciLayout(layout) => {
                let platform = layout.platform.clone();
                (oci_layout(layout), Some(platform))
            }
        };
        self.add(draft, platform.as_ref(), note)
    }
}

fn image(reference: &Reference, resolve: ResolveMode) -> Draft {
    let mut attrs = Attributes::new("source.image");
    match resolve {
        ResolveMode::Default => {}
        ResolveMode::Pull => {
            attrs.set("image.resolvemode", Some("source.image.resolvemode"), "pull");
        }
        ResolveMode::Local => attrs.set("image.resolvemode", None, "local"),
    }
    attrs.draft(format!("docker-image://{reference}"))
}

fn local(local: Local) -> Draft {
    let mut attrs = Attributes::new("source.local");
    let mut set = |name, cap, value: &str| attrs.set(name, Some(cap), value);
    set("local.session", "source.local.sessionid", &local.session.unwrap_or_default());
    let include = json(&local.include_patterns);
    set("local.includepattern", "source.local.includepatterns", &include);
    set("local.followpaths", "source.local.followpaths", &json(&local.follow_paths));
    let exclude = json(&local.exclude_patterns);
    set("local.excludepatterns", "source.local.excludepatterns", &exclude);
    set("local.sharedkeyhint", "source.local.sharedkeyhint", &local.shared_key_hint);
    attrs.draft(format!("local://{}", local.name))
}

fn git(git: Git) -> Draft {
    let mut attrs = Attributes::new("source.git");
    let url = &git.url;
    let flag = |on: bool| if on { "true" } else { "" };
    attrs.set("git.keepgitdir", Some("source.git.keepgitdir"), flag(git.keep_git_dir));
    attrs.set("git.fullurl", Some("source.git.fullurl"), &url.remote);
    // The names of the secrets that the solver may ask the client for.
    attrs.set("git.authtokensecret", None, "GIT_AUTH_TOKEN");
    attrs.set("git.authheadersecret", None, "GIT_AUTH_HEADER");
    if url.is_ssh() {
        attrs.caps.push("source.git.knownsshhosts");
        attrs.set("git.mountsshsock", Some("source.git.mountsshsock"), "default");
    }
    let checksum = git.checksum.unwrap_or_default();
    attrs.set("git.checksum", Some("source.git.checksum"), &checksum);
    let skip = flag(url.submodules == Some(false));
    attrs.set("git.skipsubmodules", Some("source.git.skipsubmodules"), skip);
    attrs.draft(format!("git://{}", url.identity()))
}

fn http(http: Http) -> Draft {
    let mut attrs = Attributes::new("source.http");
    let checksum = http.checksum.unwrap_or_default();
    attrs.set("http.checksum", Some("source.http.checksum"), &checksum);
    attrs.set("http.filename", None, &http.filename.unwrap_or_default());
    attrs.draft(http.url)
}

fn oci_layout(layout: OciLayout) -> Draft {
    let mut attrs = Attributes::new("source.ocilayout");
    attrs.set("oci.session", None, &layout.session.unwrap_or_default());
    attrs.set("oci.store", None, &layout.store);
    attrs.draft(format!("oci-layout://{}", layout.reference))
}

/// The attributes of a source, and the capabilities that they ask of a solver.
struct Attributes {
    attrs: BTreeMap<String, String>,
    caps: Vec<&'static str>,
}

impl Attributes {
    fn new(cap: &'static str) -> Self {
        Self { attrs: BTreeMap::new(), caps: vec![cap] }
    }

    /// Sets an attribute, unless its value is empty.
    fn set(&mut self, name: &str, cap: Option<&'static str>, value: &str) {
        if !value.is_empty() {
            self.attrs.insert(name.to_owned(), value.to_owned());
            self.caps.extend(cap);
        }
    }

    fn draft(self, identifier: String) -> Draft {
        let op = pb::op::Op::Source(pb::SourceOp { identifier, attrs: self.attrs });
        Draft { op, inputs: Inputs::default(), caps: self.caps }
    }
}

/// A list as Go's encoder writes it (with `<`, `>` and `&` escaped); no list is no text.
fn json(list: &[String]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let text = serde_json::to_string(list).expect("strings are always JSON");
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}
