//! Variables in values: `$NAME`, `${NAME}` and the operators of the compose specification.
//!
//! | | where NAME is not set | where it is empty |
//! |---|---|---|
//! | `${NAME:-word}` | word | word |
//! | `${NAME-word}` | word | |
//! | `${NAME:?word}` | error: word | error: word |
//! | `${NAME?word}` | error: word | |
//! | `${NAME:+word}` | nothing | nothing |
//! | `${NAME+word}` | nothing | word |
//!
//! A word may have variables in it. `$$` is a dollar sign.

use crate::Environment;
use thiserror::Error;

/// How deep words may be in words.
const MAX_DEPTH: usize = 16;
/// The longest value that comes out of it.
const MAX_VALUE: usize = 1 << 20;

/// Why variables cannot be put into a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InterpolationError {
    /// A variable that must be set is not.
    #[error("the variable {name} must be set: {message}")]
    Required {
        /// Its name.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// A dollar sign that begins nothing.
    #[error("{text:?} is no variable; write $$ for a dollar sign")]
    Syntax {
        /// From the dollar sign on.
        text: String,
    },
    /// A value that grows too long.
    #[error("the value is longer than 1 MiB")]
    TooLong,
}

/// Puts variables into a value. One that is not set is empty.
///
/// # Errors
/// [`InterpolationError`].
pub fn interpolate(text: &str, variables: &Environment) -> Result<String, InterpolationError> {
    expand(text, variables, 0)
}

fn expand(text: &str, variables: &Environment, depth: usize) -> Result<String, InterpolationError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let at = &rest[dollar..];
        let syntax = || InterpolationError::Syntax { text: at.chars().take(40).collect() };
        let after = &at[1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(syntax)?;
            if depth == MAX_DEPTH {
                return Err(syntax());
            }
            out.push_str(
                &braced(&inner[..end], variables, depth).unwrap_or_else(|| Err(syntax()))?,
            );
            rest = &inner[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                return Err(syntax());
            }
            out.push_str(variables.get(&after[..length]).unwrap_or_default());
            rest = &after[length..];
        }
        if out.len() > MAX_VALUE {
            return Err(InterpolationError::TooLong);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What is between the braces; `None` where that is not of the language.
fn braced(
    inner: &str,
    variables: &Environment,
    depth: usize,
) -> Option<Result<String, InterpolationError>> {
    let length = name_length(inner);
    let (name, operation) = inner.split_at(length);
    if name.is_empty() {
        return None;
    }
    let value = variables.get(name);
    if operation.is_empty() {
        return Some(Ok(value.unwrap_or_default().to_owned()));
    }
    let (operation, colon) = match operation.strip_prefix(':') {
        Some(operation) => (operation, true),
        None => (operation, false),
    };
    let mut chars = operation.chars();
    let operator = chars.next()?;
    let word = || expand(chars.as_str(), variables, depth + 1);
    let value = value.filter(|value| !(colon && value.is_empty()));
    Some(match (operator, value) {
        ('-' | '?', Some(value)) => Ok(value.to_owned()),
        ('-', None) => word(),
        ('?', None) => word().and_then(|message| {
            Err(InterpolationError::Required { name: name.to_owned(), message })
        }),
        ('+', Some(_)) => word(),
        ('+', None) => Ok(String::new()),
        _ => return None,
    })
}

fn name_length(text: &str) -> usize {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if begins { end } else { 0 }
}

/// Where the brace is that closes this one; those in between are in pairs.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> String {
        let variables = [("A", "a"), ("EMPTY", ""), ("N", "A")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        match interpolate(text, &Environment::new(variables.into())) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_operator_tells_set_empty_and_missing_apart() {
        let cases = [
            ("$A-${A}b$$A", "a-ab$A"),
            ("[$EMPTY][$NONE][${NONE}]", "[][][]"),
            ("${A:-x}${EMPTY:-x}${NONE:-x}", "axx"),
            ("[${A-x}][${EMPTY-x}][${NONE-x}]", "[a][][x]"),
            ("[${A:+x}][${EMPTY:+x}][${NONE:+x}]", "[x][][]"),
            ("[${A+x}][${EMPTY+x}][${NONE+x}]", "[x][x][]"),
            ("${A:?no}", "a"),
            ("[${EMPTY?no}]", "[]"),
            ("${EMPTY:?no $A}", "error: the variable EMPTY must be set: no a"),
            ("${NONE?}", "error: the variable NONE must be set: "),
            ("${NONE:-${EMPTY:-${A}}}!", "a!"),
            ("${NONE:-}", ""),
            ("${NONE:-$${}", "${"),
            ("100 %", "100 %"),
        ];
        for (text, expected) in cases {
            assert_eq!(with(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_an_error() {
        for text in ["$", "a$ b", "${", "${A", "${}", "${A!x}", "${1}", "$1", "${A:}"] {
            assert!(with(text).contains("is no variable"), "{text}: {}", with(text));
        }
        assert!(with(&"${NONE:-".repeat(100)).starts_with("error: "));
    }
}
