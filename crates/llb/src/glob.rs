//! Patterns for paths: those of COPY and those of `.dockerignore`.
//!
//! `*` and `?` stand for any characters but `/`, `[a-z]` and `[^a-z]` for one, and a backslash
//! takes the meaning from what follows. In a `.dockerignore`, `**` stands for anything: the rules
//! of moby's `patternmatcher`. Time is the product of both lengths, whatever the pattern.

use std::path::Path;

use thiserror::Error;

/// A pattern that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{pattern:?} is not a pattern: {why}")]
pub struct PatternError {
    /// As it is written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// One pattern.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Token>);

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    One,
    /// `*`.
    Many,
    /// `**` at the end.
    Rest,
    /// `**/`: nothing, or directories. Whoever is here may also be two further.
    Directories,
    /// The inside of `**/`, which always follows it.
    Within,
}

/// What `**` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stars {
    /// What `*` does.
    Single,
    /// Any number of directories.
    Double,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str, stars: Stars) -> Result<Self, PatternError> {
        let bad = |why| Err(PatternError { pattern: text.to_owned(), why });
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if stars == Stars::Double && chars.peek() == Some(&'*') => {
                    while chars.peek() == Some(&'*') {
                        chars.next();
                    }
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    match chars.peek() {
                        None => tokens.push(Token::Rest),
                        Some(_) => tokens.extend([Token::Directories, Token::Within]),
                    }
                }
                '*' => tokens.push(Token::Many),
                '?' => tokens.push(Token::One),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let first = match chars.next() {
                            Some(']') if !ranges.is_empty() => break,
                            Some('\\') => chars.next(),
                            Some(']' | '-') => None,
                            other => other,
                        };
                        let Some(first) = first else { return bad("its [ has no ]") };
                        let mut last = first;
                        if chars.next_if_eq(&'-').is_some() {
                            let end = match chars.next() {
                                Some('\\') => chars.next(),
                                Some(']' | '-') => None,
                                other => other,
                            };
                            let Some(end) = end else { return bad("its [ has no ]") };
                            last = end;
                        }
                        ranges.push((first, last));
                    }
                    tokens.push(Token::Class { negated, ranges });
                }
                '\\' => match chars.next() {
                    Some(c) => tokens.push(Token::Char(c)),
                    None => return bad("nothing follows its last backslash"),
                },
                c => tokens.push(Token::Char(c)),
            }
        }
        Ok(Self(tokens))
    }

    /// Whether a text has anything in it that makes it a pattern.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether all of the text is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        let tokens = &self.0;
        // `reached[i]`: the first i tokens match what was read so far.
        let mut reached = vec![false; tokens.len() + 1];
        self.reach(&mut reached, 0);
        for c in text.chars() {
            let mut next = vec![false; tokens.len() + 1];
            for (i, token) in tokens.iter().enumerate().filter(|&(i, _)| reached[i]) {
                match token {
                    Token::Char(wanted) if *wanted == c => self.reach(&mut next, i + 1),
                    Token::Class { negated, ranges } => {
                        let inside = ranges.iter().any(|&(a, b)| (a..=b).contains(&c));
                        if inside != *negated {
                            self.reach(&mut next, i + 1);
                        }
                    }
                    Token::One if c != '/' => self.reach(&mut next, i + 1),
                    Token::Many if c != '/' => self.reach(&mut next, i),
                    Token::Rest => self.reach(&mut next, i),
                    Token::Within => {
                        next[i] = true;
                        if c == '/' {
                            self.reach(&mut next, i + 1);
                        }
                    }
                    _ => {}
                }
            }
            reached = next;
        }
        reached[tokens.len()]
    }

    /// Marks what can be reached at `i` without reading anything.
    fn reach(&self, reached: &mut [bool], i: usize) {
        reached[i] = true;
        match self.0.get(i) {
            Some(Token::Many | Token::Rest) => self.reach(reached, i + 1),
            Some(Token::Directories) => {
                reached[i + 1] = true;
                self.reach(reached, i + 2);
            }
            _ => {}
        }
    }
}

/// The lines of a `.dockerignore`, and of what else excludes or includes files that way. A later
/// pattern overrides an earlier one; `!` takes back what an earlier one said; what a pattern
/// says of a directory it says of all that is inside.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<(bool, Glob)>);

impl Patterns {
    /// Reads patterns that are relative to the same directory as the paths.
    ///
    /// # Errors
    /// The first that is none.
    pub fn new(lines: &[impl AsRef<str>]) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        for line in lines {
            let line = line.as_ref().trim();
            let (takes_back, body) = match line.strip_prefix('!') {
                Some(body) => (true, body),
                None => (false, line),
            };
            if body.is_empty() {
                let why = "there is nothing to be taken back";
                if takes_back {
                    return Err(PatternError { pattern: line.to_owned(), why });
                }
                continue;
            }
            let clean = crate::path::clean(body);
            let relative = clean.strip_prefix('/').unwrap_or(&clean);
            patterns.push((takes_back, Glob::new(relative, Stars::Double)?));
        }
        Ok(Self(patterns))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether inside of a directory that matches there may be something that does not.
    pub fn take_back(&self) -> bool {
        self.0.iter().any(|(takes_back, _)| *takes_back)
    }

    /// Whether a path matches. Paths are relative and clean.
    pub fn matches(&self, path: &Path) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let path = path.to_string_lossy();
        let ends: Vec<usize> =
            path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        let mut matched = false;
        for (takes_back, glob) in &self.0 {
            if *takes_back == matched && ends.iter().any(|&end| glob.matches(&path[..end])) {
                matched = !takes_back;
            }
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cases of moby's `patternmatcher` that tell its rules apart.
    #[test]
    fn patterns_of_dockerignore_match_as_mobys_do() {
        let cases = [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("dir/**", "dirx", false),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc?def", "abc/def", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("**/foo/bar", "a/b/foo/bar/baz", true),
            ("abc/**", "abc", false),
            ("*/foo", "foo", false),
            ("/a/./b/", "a/b/c", true),
        ];
        for (pattern, path, expected) in cases {
            let patterns = Patterns::new(&[pattern]).unwrap();
            assert_eq!(patterns.matches(Path::new(path)), expected, "{pattern} of {path}");
        }
    }

    #[test]
    fn a_later_pattern_overrides_an_earlier_one() {
        let patterns = Patterns::new(&["*", "!src", "src/*.o", "!src/keep.o"]).unwrap();
        let left_out = |path| patterns.matches(Path::new(path));
        assert!(left_out("README"));
        assert!(!left_out("src/main.c"));
        assert!(left_out("src/main.o"));
        assert!(!left_out("src/keep.o"));
        assert!(!left_out("src/deep/main.o"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["[", "[]", "[a", "[a-]", "[-a]", "a\\"] {
            assert!(Glob::new(bad, Stars::Single).is_err(), "{bad}");
        }
        assert!(Patterns::new(&["!"]).is_err());
        assert!(!Patterns::new(&["", "  "]).unwrap().matches(Path::new("a")));
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let glob = Glob::new(&"*a".repeat(200), Stars::Single).unwrap();
        assert!(!glob.matches(&("a".repeat(2000) + "b")));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_stars(text in "[a-c/]{0,8}") {
            prop_assert!(Glob::new(&text, Stars::Double).unwrap().matches(&text));
            prop_assert!(Glob::new("**", Stars::Double).unwrap().matches(&text));
            let flat = !text.contains('/');
            prop_assert_eq!(Glob::new("*", Stars::Double).unwrap().matches(&text), flat);
        }
    }
}
