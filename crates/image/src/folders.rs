//! Where a user's files belong (XDG Base Directory Specification 0.8).

use std::path::PathBuf;

/// `$XDG_DATA_HOME`, by default `~/.local/share`; none where the environment has neither, or only
/// relative paths, which the specification says to ignore.
pub fn data() -> Option<PathBuf> {
    folder("XDG_DATA_HOME", ".local/share")
}

/// `$XDG_CACHE_HOME`, by default `~/.cache`, as [`data`].
pub fn cache() -> Option<PathBuf> {
    folder("XDG_CACHE_HOME", ".cache")
}

/// `$XDG_CONFIG_HOME`, by default `~/.config`, as [`data`].
pub fn config() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config")
}

fn folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}
