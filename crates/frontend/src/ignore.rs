//! The lines of a `.dockerignore`.

use koskit_llb::path;

/// Reads the patterns of a `.dockerignore` (or of a `NAME.dockerignore` beside the Dockerfile
/// `NAME`, which takes its place), for [`crate::Options::ignore`].
///
/// Comments and empty lines are left out, paths are cleaned, and a slash at the beginning is
/// taken away: all patterns are relative to the context. What they match is decided where the
/// context is read.
pub fn ignore_patterns(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut patterns = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let line = line.trim();
        let (not, body) = match line.strip_prefix('!') {
            Some(body) => ("!", body.trim()),
            None => ("", line),
        };
        if body.is_empty() {
            // A lone `!` means nothing; the reader of the context says so.
            patterns.extend((!not.is_empty()).then(|| not.to_owned()));
            continue;
        }
        let clean = path::clean(body);
        let relative = clean.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&clean);
        patterns.push(format!("{not}{relative}"));
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::ignore_patterns;

    #[test]
    fn patterns_are_cleaned_and_comments_left_out() {
        let text = "\u{feff}# no\n\n  a/./b/  \n/c\n! /d/../e \n **/*.o\n #f\n/\n!\n";
        assert_eq!(ignore_patterns(text), ["a/b", "c", "!e", "**/*.o", "#f", "/", "!"]);
    }
}
