//! Variables and quotes in the words of an instruction.
//!
//! The language is BuildKit's, which is a part of the shell's: `$v`, `${v}`, `${v:-w}`,
//! `${v-w}`, `${v:+w}`, `${v+w}`, `${v:?w}`, `${v?w}`, `${v#p}`, `${v##p}`, `${v%p}`,
//! `${v%%p}`, `${v/p/r}` and `${v//p/r}`, inside of double quotes or outside of all quotes.
//! Patterns know `*`, `?` and a backslash before those.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

use crate::go::{is_digit, is_letter};
use crate::pattern::{Pattern, PatternError};

/// `${a:-${b:-${…}}}` deeper than this is refused.
const MAX_DEPTH: usize = 100;
/// No text that arises is longer, in bytes: `${a///${a///$a}}` grows with a power of its own
/// length, and `ENV a=$a$a` doubles with each line.
pub(crate) const MAX_LENGTH: usize = 4 << 20;
/// Characters that one expansion looks at, at most.
const MAX_WORK: u64 = 1 << 26;

/// Where the values of variables come from.
pub trait Environment {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

/// An environment without variables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Empty;

impl Environment for Empty {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Expands variables and takes quotes away. The fields change what is taken away; all are
/// off by default.
#[derive(Clone, Copy, Debug)]
pub struct Expander {
    /// The escape character of the file: `\` or a backtick.
    pub escape: char,
    /// Quotes stay in the text.
    pub raw_quotes: bool,
    /// Escape characters stay in the text.
    pub raw_escapes: bool,
    /// Quotes are characters as any other.
    pub ignore_quotes: bool,
    /// A variable that is not set stays as it is written.
    pub keep_unset: bool,
}

/// What became of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// The text.
    pub text: String,
    /// The words of it, split at white space that was not quoted.
    pub words: Vec<String>,
    /// Variables that were asked for and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and are not set.
    pub unmatched: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpandError {
    /// A quote is opened and not closed.
    #[error("a {0} is opened and not closed")]
    Quote(&'static str),
    /// `${` without `}`, or `${v/p` without the second `/`.
    #[error("the ${{ lacks its {0:?}")]
    Unclosed(char),
    /// `${}`, `${:…}`, `${{…`.
    #[error("there is no variable name after ${{")]
    NoName,
    /// `${v:=w}` and others.
    #[error("the modifier {0:?} after a variable's name is not known")]
    Modifier(String),
    /// `${v?message}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text after the `?`, or what is wrong.
        message: String,
    },
    /// The pattern of `${v#p}` and its like.
    #[error("the pattern {pattern:?} cannot be used: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: PatternError,
    },
    /// Values that grow without end.
    #[error("it becomes longer than {} MiB, or takes too long", MAX_LENGTH >> 20)]
    Large,
    /// Braces in braces in braces.
    #[error("variables are nested more than {MAX_DEPTH} deep")]
    Depth,
}

impl Expander {
    /// An expander with all options off.
    pub fn new(escape: char) -> Self {
        let off = false;
        Self { escape, raw_quotes: off, raw_escapes: off, ignore_quotes: off, keep_unset: off }
    }

    /// Expands a text.
    ///
    /// # Errors
    /// [`ExpandError`] where the text is not well formed, or a variable that `${v?}`
    /// demands is missing.
    pub fn expand(&self, text: &str, env: &dyn Environment) -> Result<Expansion, ExpandError> {
        // As Go's scanner does, which BuildKit uses.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let chars = text.chars().peekable();
        let (matched, unmatched) = (BTreeSet::new(), BTreeSet::new());
        let mut run = Run {
            options: *self,
            chars,
            env,
            raw: self.raw_escapes,
            depth: 0,
            work: 0,
            matched,
            unmatched,
        };
        let (text, words) = run.until(None, self.raw_escapes)?;
        Ok(Expansion { text, words, matched: run.matched, unmatched: run.unmatched })
    }

    /// Expands a text; white space stays.
    ///
    /// # Errors
    /// As [`Self::expand`].
    pub fn word(&self, text: &str, env: &dyn Environment) -> Result<String, ExpandError> {
        Ok(self.expand(text, env)?.text)
    }

    /// Expands a text and splits it at the white space that was not quoted.
    ///
    /// # Errors
    /// As [`Self::expand`].
    pub fn words(&self, text: &str, env: &dyn Environment) -> Result<Vec<String>, ExpandError> {
        Ok(self.expand(text, env)?.words)
    }
}

/// Words as they grow.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A character that ends the word if it is white space.
    fn split(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Run<'a> {
    options: Expander,
    chars: Peekable<Chars<'a>>,
    env: &'a dyn Environment,
    /// Escape characters stay, now.
    raw: bool,
    depth: usize,
    work: u64,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Run<'_> {
    /// Reads to the end, or to `stop`, which is taken.
    fn until(
        &mut self,
        stop: Option<char>,
        raw: bool,
    ) -> Result<(String, Vec<String>), ExpandError> {
        if self.depth == MAX_DEPTH {
            return Err(ExpandError::Depth);
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.raw, raw);
        let result = self.read(stop);
        self.raw = outer;
        self.depth -= 1;
        result
    }

    fn read(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), ExpandError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    self.grow(&mut text, &value)?;
                    value.chars().for_each(|c| words.split(c));
                }
                '\'' | '"' if !self.options.ignore_quotes => {
                    let value = if c == '"' { self.double()? } else { self.single()? };
                    self.grow(&mut text, &value)?;
                    words.current.push_str(&value);
                }
                '<' => {
                    let value = self.heredoc();
                    text.push_str(&value);
                    words.current.push_str(&value);
                }
                _ => {
                    self.chars.next();
                    if c != self.options.escape {
                        words.split(c);
                        text.push(c);
                        continue;
                    }
                    if self.raw {
                        words.current.push(c);
                        text.push(c);
                    }
                    let Some(escaped) = self.chars.next() else { break };
                    words.current.push(escaped);
                    text.push(escaped);
                }
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some(stop) => Err(ExpandError::Unclosed(stop)),
        }
    }

    /// Adds a value to a text that does not grow without end.
    fn grow(&mut self, text: &mut String, value: &str) -> Result<(), ExpandError> {
        self.work(value.len() as u64)?;
        if text.len() + value.len() > MAX_LENGTH {
            return Err(ExpandError::Large);
        }
        text.push_str(value);
        Ok(())
    }

    fn work(&mut self, steps: u64) -> Result<(), ExpandError> {
        self.work = self.work.saturating_add(steps);
        if self.work > MAX_WORK { Err(ExpandError::Large) } else { Ok(()) }
    }

    /// Nothing between single quotes is special.
    fn single(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.chars.next();
        text.extend(quote.filter(|_| self.options.raw_quotes));
        loop {
            match self.chars.next() {
                None => return Err(ExpandError::Quote("single quote")),
                Some('\'') => {
                    text.extend(quote.filter(|_| self.options.raw_quotes));
                    return Ok(text);
                }
                Some(c) => text.push(c),
            }
        }
    }

    /// Between double quotes the escape character escapes `"`, `$` and itself, and is a
    /// character as any other before all else.
    fn double(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = self.chars.next();
        text.extend(quote.filter(|_| self.options.raw_quotes));
        loop {
            match self.chars.peek() {
                None => return Err(ExpandError::Quote("double quote")),
                Some('"') => {
                    self.chars.next();
                    text.extend(quote.filter(|_| self.options.raw_quotes));
                    return Ok(text);
                }
                Some('$') => {
                    let value = self.dollar()?;
                    self.grow(&mut text, &value)?;
                }
                Some(&c) => {
                    self.chars.next();
                    if c != self.options.escape {
                        text.push(c);
                        continue;
                    }
                    if self.raw {
                        text.push(c);
                    }
                    match self.chars.peek() {
                        None => {}
                        Some(&next) if next == '"' || next == '$' || next == c => {
                            self.chars.next();
                            text.push(next);
                        }
                        Some(_) => text.push(c),
                    }
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match self.lookup(&name) {
                _ if name.is_empty() => "$".into(),
                None if self.options.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err(ExpandError::Unclosed('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::NoName),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            Some('}') => Ok(match self.lookup(&name) {
                None if self.options.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => {
                let modifier = self.chars.next();
                match modifier {
                    Some(c @ ('-' | '+' | '?')) => self.conditional(&name, c, true),
                    // The word is read first, so that an unclosed brace is told as that.
                    Some('#' | '%') | None => Err(modifier_error(true, modifier)),
                    Some(_) => {
                        self.until(Some('}'), false)?;
                        Err(modifier_error(true, modifier))
                    }
                }
            }
            Some(c @ ('-' | '+' | '?')) => self.conditional(&name, c, false),
            Some(c @ ('#' | '%')) => self.trim(&name, c),
            Some('/') => self.replace(&name),
            None => Err(ExpandError::Unclosed('}')),
            other => Err(modifier_error(false, other)),
        }
    }

    /// `${v:-w}`, `${v:+w}`, `${v:?w}`; without the colon, only a variable that is not set
    /// at all counts as missing.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        colon: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), false)?;
        let value = self.lookup(name);
        let is_set = value.is_some();
        if !is_set && self.options.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let value = value.filter(|v| !(colon && v.is_empty()));
        match modifier {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map(|_| word).unwrap_or_default()),
            _ => value.ok_or_else(|| ExpandError::Required {
                name: name.to_owned(),
                message: match word.as_str() {
                    "" if is_set => "is not allowed to be empty".into(),
                    "" => "is not allowed to be unset".into(),
                    _ => word,
                },
            }),
        }
    }

    /// `${v#p}` and `${v%p}` take away what matches at the beginning or the end; doubled,
    /// as much of it as they can.
    fn trim(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let (word, _) = self.until(Some('}'), true)?;
        let value = self.lookup(name);
        let Some(value) = value.or_else(|| (!self.options.keep_unset).then(String::new)) else {
            return Ok(format!("${{{name}{modifier}{word}}}"));
        };
        let (longest, text) = match word.strip_prefix(modifier) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = self.pattern(text)?;
        self.work(pattern.work(value.len()))?;
        Ok(match modifier {
            '#' => pattern.trim_start(&value, longest),
            _ => pattern.trim_end(&value, longest),
        })
    }

    /// `${v/p/r}` replaces the first match, `${v//p/r}` all. In the latter a dollar that is
    /// left in the replacement is special, see [`crate::go::replacement`].
    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let (text, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        match self.lookup(name) {
            None if self.options.keep_unset => Ok(format!("${{{name}/{text}/{replacement}}}")),
            value => {
                let (pattern, value) = (self.pattern(&text)?, value.unwrap_or_default());
                self.work(pattern.work(value.len()))?;
                let replaced = pattern.replace(&value, &replacement, all);
                self.work(replaced.len() as u64)?;
                Ok(replaced)
            }
        }
    }

    fn pattern(&self, text: &str) -> Result<Pattern, ExpandError> {
        Pattern::new(text).map_err(|source| ExpandError::Pattern { pattern: text.into(), source })
    }

    /// Letters, digits and underscores; or digits only; or one special character.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(&c) if is_digit(c) => {
                while let Some(c) = self.chars.next_if(|&c| is_digit(c)) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|&c| is_letter(c) || is_digit(c) || c == '_') {
            name.push(c);
        }
        name
    }

    /// `<<` and the blanks behind it belong to one word with what follows.
    fn heredoc(&mut self) -> String {
        let mut text = String::from("<");
        self.chars.next();
        if let Some(second) = self.chars.next_if_eq(&'<') {
            text.push(second);
            while let Some(c) = self.chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')) {
                text.push(c);
            }
        }
        text
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        let value = self.env.get(name).map(str::to_owned);
        if !name.is_empty() {
            let set = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
            set.insert(name.to_owned());
        }
        value
    }
}

fn modifier_error(colon: bool, modifier: Option<char>) -> ExpandError {
    let colon = colon.then_some(':');
    ExpandError::Modifier(colon.into_iter().chain(modifier).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> BTreeMap<String, String> {
        let pairs = [("f", "foo.tar.gz"), ("empty", ""), ("p", "/a/b/a")];
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    fn expand(text: &str) -> Result<String, ExpandError> {
        Expander::new('\\').word(text, &env())
    }

    #[test]
    fn patterns_trim_and_replace_as_in_the_shell() {
        let cases = [
            ("${f%.*}", "foo.tar"),
            ("${f%%.*}", "foo"),
            ("${f#*.}", "tar.gz"),
            ("${f##*.}", "gz"),
            ("${f#x}", "foo.tar.gz"),
            ("${p/a/x}", "/x/b/a"),
            ("${p//a/x}", "/x/b/x"),
            ("${p//\\//-}", "-a-b-a"),
            ("${f/.*/}", "foo"),
            ("${unset#x}", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_demanded_variable_that_is_missing_is_an_error_with_its_message() {
        let error = expand("${nope:?set it by --build-arg}").unwrap_err();
        assert_eq!(error.to_string(), "nope: set it by --build-arg");
        assert_eq!(expand("${empty?x}").as_deref(), Ok(""));
        assert!(expand("${empty:?}").unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn it_is_told_which_variables_were_used() {
        let out = Expander::new('\\').expand("$f ${nope:-$empty}", &env()).unwrap();
        assert_eq!(out.matched.into_iter().collect::<Vec<_>>(), ["empty", "f"]);
        assert_eq!(out.unmatched.into_iter().collect::<Vec<_>>(), ["nope"]);
    }

    #[test]
    fn a_word_keeps_its_beginning_before_a_default() {
        let words = Expander::new('\\').words("80${x:-80} b", &Empty).unwrap();
        assert_eq!(words, ["8080", "b"]);
    }

    #[test]
    fn unset_variables_can_be_kept() {
        let keep = Expander { keep_unset: true, ..Expander::new('\\') };
        for text in ["$a", "${a}", "${a:-b}", "${a+b}", "${a#b}", "${a/b/c}"] {
            assert_eq!(keep.word(text, &Empty).as_deref(), Ok(text));
        }
    }

    #[test]
    fn values_that_grow_without_end_are_an_error_in_time() {
        let begin = std::time::Instant::now();
        let nested = (0..20).fold("$p".to_owned(), |text, _| format!("${{p///{text}}}"));
        assert_eq!(expand(&nested), Err(ExpandError::Large));
        // As many lines of ENV would do it.
        let mut env = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
        let doubled = (0..40).find_map(|_| {
            let text = Expander::new('\\').word("$a$a", &env);
            text.map(|text| env.insert("a".into(), text)).err()
        });
        assert_eq!(doubled, Some(ExpandError::Large));
        assert_eq!(env["a"].len(), MAX_LENGTH);
        // Looking at all of it again and again takes too long, whatever comes out.
        let often = "${a//xy/}".repeat(1000);
        assert_eq!(Expander::new('\\').word(&often, &env), Err(ExpandError::Large));
        assert!(begin.elapsed().as_secs() < 30);
    }

    #[test]
    fn hostile_nesting_is_an_error_and_no_overflow() {
        let deep = "${a:-".repeat(100_000);
        assert_eq!(expand(&deep), Err(ExpandError::Depth));
    }
}
