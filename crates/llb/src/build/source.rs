//! File systems that come from outside.

use std::collections::BTreeMap;

use super::{Builder, Draft, Note, Output, State};
use crate::pb;
use crate::{Platform, Reference};

/// Where a file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An image of a registry or a store.
    Image {
        /// Its name, best with a digest.
        reference: Reference,
        /// Which of its variants.
        platform: Platform,
    },
    /// A folder of the client.
    Local(Local),
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

impl Builder {
    /// Adds a source.
    pub fn source(&mut self, source: Source, note: Note) -> State {
        let (draft, platform) = match source {
            Source::Image { reference, platform } => (
                draft(format!("docker-image://{reference}"), BTreeMap::new(), vec!["source.image"]),
                Some(platform),
            ),
            Source::Local(local) => (self::local(local), None),
        };
        Some(Output { op: self.add(draft, platform.as_ref(), note), index: 0 })
    }
}

fn local(local: Local) -> Draft {
    let mut attrs = BTreeMap::new();
    let mut caps = vec!["source.local"];
    let mut set = |name: &str, cap: &'static str, value: String| {
        if !value.is_empty() {
            attrs.insert(name.to_owned(), value);
            caps.push(cap);
        }
    };
    set("local.session", "source.local.sessionid", local.session.unwrap_or_default());
    let include = json(&local.include_patterns);
    set("local.includepattern", "source.local.includepatterns", include);
    set("local.followpaths", "source.local.followpaths", json(&local.follow_paths));
    let exclude = json(&local.exclude_patterns);
    set("local.excludepatterns", "source.local.excludepatterns", exclude);
    set("local.sharedkeyhint", "source.local.sharedkeyhint", local.shared_key_hint);
    draft(format!("local://{}", local.name), attrs, caps)
}

fn draft(identifier: String, attrs: BTreeMap<String, String>, caps: Vec<&'static str>) -> Draft {
    let op = pb::op::Op::Source(pb::SourceOp { identifier, attrs });
    Draft { op, inputs: Vec::new(), caps }
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
