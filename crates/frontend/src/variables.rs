//! Variables: what ENV and ARG set, and what is set from the beginning.

use std::collections::BTreeMap;

use koskit_dockerfile::Environment;
use koskit_llb::Platform;

/// Variables in the order in which they were set last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Sets a variable; it moves to the end.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.into(), value.into()));
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// `name=value`, in order.
    pub fn to_list(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The arguments that no ARG needs to declare before the first FROM. The user may give each
/// another value.
pub(crate) fn predefined(
    build: &Platform,
    target: &Platform,
    stage: Option<&str>,
    given: &BTreeMap<String, String>,
) -> Variables {
    let mut variables = Variables::default();
    let mut set = |name: &str, value: &str| {
        variables.set(name, given.get(name).map_or(value, String::as_str));
    };
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        set(&format!("{prefix}PLATFORM"), &platform.to_string());
        set(&format!("{prefix}OS"), &platform.os);
        set(&format!("{prefix}OSVERSION"), &platform.os_version);
        set(&format!("{prefix}ARCH"), &platform.architecture);
        set(&format!("{prefix}VARIANT"), &platform.variant);
    }
    set("TARGETSTAGE", stage.unwrap_or("default"));
    variables
}

/// Name and value of `name=value`.
pub(crate) fn split(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or((text, ""))
}

/// Arguments that say what a scanner for SBOMs shall look at.
pub(crate) const SCANNER: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Whether no ARG need declare a build argument: it is for the builder, or for all commands.
pub(crate) fn needs_no_declaration(name: &str) -> bool {
    let proxies = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
    name == "SOURCE_DATE_EPOCH"
        || name.starts_with("BUILDKIT_")
        || proxies.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether a text means yes, as Go reads it.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
