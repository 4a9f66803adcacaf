//! What Go's standard library thinks of characters, which BuildKit's parser is written with.

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// A letter of any script; marks that are put on letters are none.
pub(crate) fn is_letter(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Letter
}

/// A decimal digit of any script.
pub(crate) fn is_digit(c: char) -> bool {
    c.general_category() == GeneralCategory::DecimalNumber
}

fn is_printable(c: char) -> bool {
    use GeneralCategoryGroup::{Letter, Mark, Number, Punctuation, Symbol};
    c == ' ' || matches!(c.general_category_group(), Letter | Mark | Number | Punctuation | Symbol)
}

/// A string as Go's `%q` prints it.
pub fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c < ' ' || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// What Go's regular expressions put in the place of a match: `$0` and `${0}` are the match
/// itself, `$$` is a dollar, and all other names are groups, of which there are none here.
pub(crate) fn replacement(template: &str, matched: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = group(rest) {
            if name == "0" {
                out.push_str(matched);
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// The name behind a dollar, and what is behind that.
fn group(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| is_letter(c) || is_digit(c) || c == '_';
    let body = text.strip_prefix('{').unwrap_or(text);
    let length = body.find(|c| !is_name(c)).unwrap_or(body.len());
    let (name, rest) = body.split_at(length);
    let rest = match body.len() < text.len() {
        true => rest.strip_prefix('}')?,
        false => rest,
    };
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        let cases = [
            ("a\"\\b", r#""a\"\\b""#),
            ("\x07\x08\x0c\n\r\t\x0b\x01\x7f", r#""\a\b\f\n\r\t\v\x01\x7f""#),
            ("한é\u{301}😀 ", "\"한é\u{301}😀 \""),
            ("\u{a0}\u{ad}\u{2028}\u{feff}\u{e000}", r#""\u00a0\u00ad\u2028\ufeff\ue000""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ];
        for (text, quoted) in cases {
            assert_eq!(go_quote(text), quoted);
        }
    }

    #[test]
    fn a_dollar_in_a_replacement_names_a_group() {
        let cases = [
            ("a$0.b", "aX.b"),
            ("a$0b", "a"),
            ("a$0_b", "a"),
            ("<${0}>", "<X>"),
            ("$$0", "$0"),
            ("$1${a}.", "."),
            ("$00", ""),
            ("5$", "5$"),
            ("$-${", "$-${"),
            ("${0", "${0"),
        ];
        for (template, expected) in cases {
            assert_eq!(replacement(template, "X"), expected, "{template}");
        }
    }

    #[test]
    fn a_mark_is_no_letter_and_a_fraction_no_digit() {
        assert!(is_letter('한') && is_letter('ß') && !is_letter('\u{93f}') && !is_letter('ⅷ'));
        assert!(is_digit('7') && is_digit('٣') && !is_digit('½') && !is_digit('²'));
    }
}
