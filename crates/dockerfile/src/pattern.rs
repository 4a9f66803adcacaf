//! The patterns of `${v#p}`: literals, `?` for one character, `*` for any number.

use thiserror::Error;

use crate::expand::MAX_LENGTH;
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

    /// How many steps it takes to match a text of this length, at most.
    pub fn work(&self, length: usize) -> u64 {
        (self.0.len() as u64 + 1).saturating_mul(length as u64 + 1)
    }

    /// The length of the shortest or longest match at the beginning. All ways to match are
    /// followed at once, so the time is the product of both lengths, whatever the pattern.
    fn match_start(&self, text: &[char], longest: bool) -> Option<usize> {
        let tokens = &self.0;
        // `reached[i]`: the first i tokens match what was read so far.
        let mut reached = vec![false; tokens.len() + 1];
        let mut next = reached.clone();
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
            next.fill(false);
            for (i, token) in tokens.iter().enumerate().filter(|&(i, _)| reached[i]) {
                next[token.after(i)] |= token.takes(c);
            }
            skip_many(tokens, &mut next);
            std::mem::swap(&mut reached, &mut next);
            if !reached.contains(&true) {
                break;
            }
        }
        found
    }

    /// The first match from a place on, and of those that begin there the longest. The time is
    /// that of [`Self::match_start`]: of all ways to the same token, the earliest beginning
    /// wins.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        let tokens = &self.0;
        // Where the earliest match begins of which the first i tokens have matched.
        let mut begins: Vec<Option<usize>> = vec![None; tokens.len() + 1];
        let mut next = begins.clone();
        let mut found: Option<(usize, usize)> = None;
        for at in from..=text.len() {
            if found.is_none() {
                earlier(&mut begins[0], Some(at));
            }
            for (i, token) in tokens.iter().enumerate() {
                if *token == Token::Many {
                    let begin = begins[i];
                    earlier(&mut begins[i + 1], begin);
                }
            }
            if let Some(begin) = begins[tokens.len()] {
                if found.is_none_or(|(first, _)| begin <= first) {
                    found = Some((begin, at));
                }
            }
            let Some(&c) = text.get(at) else { break };
            next.fill(None);
            for (i, token) in tokens.iter().enumerate() {
                let worth = begins[i].is_some_and(|b| found.is_none_or(|(first, _)| b <= first));
                if worth && token.takes(c) {
                    earlier(&mut next[token.after(i)], begins[i]);
                }
            }
            std::mem::swap(&mut begins, &mut next);
            if found.is_some() && begins.iter().all(Option::is_none) {
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
        let (mut copied, mut at) = (0, 0);
        while let Some((begin, end)) = self.find(&chars, at) {
            out.extend(&chars[copied..begin]);
            // An empty match right behind another match is no match of its own.
            if end > copied || begin == 0 {
                match all {
                    true => {
                        let matched: String = chars[begin..end].iter().collect();
                        out.push_str(&go::replacement(replacement, &matched));
                    }
                    false => out.push_str(replacement),
                }
            }
            copied = end;
            at = end.max(at + 1);
            // Who calls has a limit, and asks for no more than what goes beyond it.
            if !all || at > chars.len() || out.len() > MAX_LENGTH {
                break;
            }
        }
        out.extend(&chars[copied..]);
        out
    }
}

impl Token {
    fn takes(self, c: char) -> bool {
        match self {
            Token::Literal(literal) => literal == c,
            Token::One | Token::Many => c != '\n',
        }
    }

    /// How many tokens have matched after this one, number `i`, took a character.
    fn after(self, i: usize) -> usize {
        if self == Token::Many { i } else { i + 1 }
    }
}

/// The earlier of two beginnings.
fn earlier(slot: &mut Option<usize>, other: Option<usize>) {
    *slot = match (*slot, other) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
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
        assert_eq!(pattern.replace(&text, "x", true), "x".to_owned() + "b");
        let text = "a".repeat(200_000);
        assert_eq!(Pattern::new("*b").unwrap().replace(&text, "x", true), text);
        assert_eq!(Pattern::new("aab").unwrap().replace(&text, "x", true), text);
    }

    #[test]
    fn the_first_match_is_replaced_as_far_as_it_goes() {
        let cases = [
            ("a*c", "xabcabcy", "x-y"),
            ("a?", "aab", "-b"),
            ("b*", "ab\nbc", "a-\n-"),
            ("*b", "ab\ncb\nd", "-\n-\nd"),
            ("aab", "aaab", "a-"),
            ("ab*ab", "ababab", "-"),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().replace(text, "-", true), expected);
        }
    }

    #[test]
    fn needless_escapes_are_errors() {
        assert_eq!(Pattern::new("\\x").unwrap_err(), PatternError::Escape);
        assert_eq!(Pattern::new("x\\").unwrap_err(), PatternError::Escape);
        assert_eq!(Pattern::new("\\*").unwrap().trim_start("*x", false), "x");
    }
}
