//! The patterns of `${v#p}`: literals, `?` for one character, `*` for any number.

use thiserror::Error;

use crate::go;

/// A pattern, ready to match.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Literal(char),
    One,
    Many,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// A backslash before something that needs none.
    #[error("a backslash stands before *, ?, /, }} or another backslash only")]
    Escape,
}

impl Pattern {
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        // As Go's scanner does, which BuildKit uses.
        let mut chars = text.strip_prefix('\u{feff}').unwrap_or(text).chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(c),
                    _ => return Err(PatternError::Escape),
                },
                c => Token::Literal(c),
            });
        }
        Ok(Self(tokens))
    }

    /// The length of the shortest or longest match at the beginning. All ways to match are
    /// followed at once, so the time is the product of both lengths, whatever the pattern.
    fn match_start(&self, text: &[char], longest: bool) -> Option<usize> {
        let tokens = &self.0;
        // `reached[i]`: the first i tokens match what was read so far.
        let mut reached = vec![false; tokens.len() + 1];
        reached[0] = true;
        skip_many(tokens, &mut reached);
        let mut found = None;
        for read in 0..=text.len() {
            if reached[tokens.len()] {
                found = Some(read);
                if !longest {
                    break;
                }
            }
            let Some(&c) = text.get(read) else { break };
            let mut next = vec![false; tokens.len() + 1];
            for (i, token) in tokens.iter().enumerate().filter(|&(i, _)| reached[i]) {
                match token {
                    Token::Literal(l) => next[i + 1] |= *l == c,
                    Token::One => next[i + 1] |= c != '\n',
                    Token::Many => next[i] |= c != '\n',
                }
            }
            skip_many(tokens, &mut next);
            reached = next;
            if !reached.contains(&true) {
                break;
            }
        }
        found
    }

    /// The text without the match at its beginning.
    pub fn trim_start(&self, text: &str, longest: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let cut = self.match_start(&chars, longest).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    /// The text without the match at its end.
    pub fn trim_end(&self, text: &str, longest: bool) -> String {
        let reversed = Self(self.0.iter().rev().copied().collect());
        let chars: Vec<char> = text.chars().rev().collect();
        let cut = reversed.match_start(&chars, longest).unwrap_or(0);
        chars[cut..].iter().rev().collect()
    }

    /// The text with the first match, or all, replaced. Each match is the longest at its
    /// place.
    pub fn replace(&self, text: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut out = String::new();
        let mut copied = 0;
        let mut at = 0;
        while at <= chars.len() {
            let Some(length) = self.match_start(&chars[at..], true) else {
                at += 1;
                continue;
            };
            // An empty match right behind another match is no match of its own.
            if length > 0 || at == 0 || at > copied {
                out.extend(&chars[copied..at]);
                match all {
                    true => {
                        let matched: String = chars[at..at + length].iter().collect();
                        out.push_str(&go::replacement(replacement, &matched));
                    }
                    false => out.push_str(replacement),
                }
                copied = at + length;
                if !all {
                    break;
                }
            }
            at += length.max(1);
        }
        out.extend(&chars[copied.min(chars.len())..]);
        out
    }
}

/// `*` may match nothing.
fn skip_many(tokens: &[Token], reached: &mut [bool]) {
    for (i, token) in tokens.iter().enumerate() {
        if *token == Token::Many && reached[i] {
            reached[i + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pattern_matches_between_all_characters() {
        let empty = Pattern::new("").unwrap();
        assert_eq!(empty.replace("ab", "-", true), "-a-b-");
        assert_eq!(empty.replace("ab", "-", false), "-ab");
        assert_eq!(Pattern::new("*").unwrap().replace("ab", "-", true), "-");
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let pattern = Pattern::new(&"*a".repeat(200)).unwrap();
        let text = "a".repeat(2000) + "b";
        assert_eq!(pattern.trim_end(&text, true), text);
    }

    #[test]
    fn needless_escapes_are_errors() {
        assert_eq!(Pattern::new("\\x").unwrap_err(), PatternError::Escape);
        assert_eq!(Pattern::new("x\\").unwrap_err(), PatternError::Escape);
        assert_eq!(Pattern::new("\\*").unwrap().trim_start("*x", false), "x");
    }
}
