//! Paths of images: text with slashes, whatever the host has.

/// `a/./b//c/..` is `a/b`; as Go's `path.Clean`. An empty path is `.`.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, path) => format!("/{path}"),
        (false, path) if path.is_empty() => ".".into(),
        (false, path) => path,
    }
}

/// A path below `dir`, unless it is absolute itself; `..` does not lead above `/`.
pub fn join(dir: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{dir}/{path}")) }
}

/// Clean, and from the root.
pub fn clean_absolute(path: &str) -> String {
    join("/", path)
}

/// Clean, and from the root, with the `/` or `/.` at the end that say that it is a
/// directory.
pub fn clean_destination(path: &str) -> String {
    with_ending(clean_absolute(path), path)
}

/// Gives a clean path the ending that the original had.
pub fn with_ending(mut clean: String, original: &str) -> String {
    if original.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    } else if original.ends_with("/.") {
        if clean != "/" {
            clean.push('/');
        }
        clean.push('.');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        let cases = [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("../a", "../a"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("./", "."),
            ("/.", "/"),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        assert_eq!(join("/app", "../../../etc"), "/etc");
        assert_eq!(join("app", "b"), "/app/b");
        assert_eq!(join("/app", "/b"), "/b");
    }

    #[test]
    fn a_destination_keeps_the_ending_that_makes_it_a_directory() {
        let cases =
            [("/a/", "/a/"), ("/a/.", "/a/."), ("/a", "/a"), ("/", "/"), ("/.", "/."), ("a", "/a")];
        for (path, expected) in cases {
            assert_eq!(clean_destination(path), expected, "{path:?}");
        }
    }
}
