//! Text for terminals and logs: harmless, and as wide as there is room.

use std::time::Duration;

use koskit_llb::Reference;
use unicode_width::UnicodeWidthChar;

/// The text without what would do something to a terminal: escape sequences are left out, other
/// control characters replaced. Tabs stay.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.peek() == Some(&'[') => {
                // ECMA-48, 5.4: parameters, then one byte from @ to ~.
                chars.next();
                while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
                chars.next_if(|c| ('@'..='~').contains(c));
            }
            '\t' => out.push('\t'),
            c if c.is_control() || is_bidi(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// Characters that change in which order others are shown (as in CVE-2021-42574).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a terminal shows of a line that a program wrote, which may have drawn over it.
pub(crate) fn shown(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let last = line.rsplit(|&byte| byte == b'\r').next().unwrap_or_default();
    harmless(&String::from_utf8_lossy(last))
}

/// The first line of a name; an instruction may have several.
pub(crate) fn one_line(name: &str) -> String {
    let mut lines = name.trim().lines();
    let first = harmless(lines.next().unwrap_or_default()).replace('\t', " ");
    if lines.next().is_some() { format!("{first} …") } else { first }
}

/// What a step is called where there is little room: of an image its name as a person writes it,
/// and not its digest.
pub(crate) fn title(name: &str) -> String {
    let name = one_line(name);
    let short = name.rsplit_once(" FROM ").and_then(|(stage, image)| {
        let image: Reference = image.split('@').next()?.parse().ok()?;
        let image = image.familiar();
        Some(format!("{stage} FROM {}", image.strip_suffix(":latest").unwrap_or(&image)))
    });
    short.unwrap_or(name)
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The text's beginning, so that it takes no more than so many columns; tabs are made spaces.
pub(crate) fn cut(text: &str, room: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    // Where an ellipsis still has its place.
    let mut fits = 0;
    for c in text.chars() {
        let spaces = if c == '\t' { 8 - used % 8 } else { 0 };
        let next = used + if c == '\t' { spaces } else { columns(c) };
        if next > room {
            out.truncate(fits);
            if room > 0 {
                out.push('…');
            }
            return out;
        }
        match c {
            '\t' => out.extend(std::iter::repeat_n(' ', spaces)),
            c => out.push(c),
        }
        used = next;
        if used < room {
            fits = out.len();
        }
    }
    out
}

/// `1.2s`; from a minute on, as docker does, still in seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// A number of bytes, in decimal units.
pub(crate) fn bytes(number: i64) -> String {
    let mut value = number as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.995 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if unit == "B" { format!("{number}B") } else { format!("{value:.2}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_writes_cannot_move_the_cursor() {
        assert_eq!(
            harmless("\x1b[1;31mred\x1b[0m \x1b[2J\x1b]0;title\x07\tend \u{202e}x"),
            "red \u{fffd}]0;title\u{fffd}\tend \u{fffd}x"
        );
        assert_eq!(harmless("\x1b[12"), "");
        assert_eq!(shown(b"10%\r20%\r30%\r"), "30%");
    }

    #[test]
    fn a_step_of_several_lines_is_shown_by_its_first() {
        assert_eq!(one_line("RUN <<EOF\necho\nEOF"), "RUN <<EOF …");
        assert_eq!(one_line("RUN true\n"), "RUN true");
    }

    #[test]
    fn an_image_is_shown_by_the_name_that_a_person_writes() {
        let digest = koskit_llb::Digest::of(b"");
        let name = format!("[a 1/2] FROM docker.io/library/alpine:latest@{digest}");
        assert_eq!(title(&name), "[a 1/2] FROM alpine");
        assert_eq!(title("[1/2] COPY a FROM b:"), "[1/2] COPY a FROM b:");
    }

    #[test]
    fn a_text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äbcd", 4), "äbcd");
        assert_eq!(cut("한국어", 6), "한국어");
        assert_eq!(cut("한국어", 5), "한국…");
        assert_eq!(cut("한국어", 4), "한…");
        assert_eq!(cut("a\tb", 20), "a       b");
        assert_eq!(cut("ab", 0), "");
        assert!((0..12).all(|room| width(&cut("x한\t국어yz", room)) <= room));
    }

    #[test]
    fn bytes_have_decimal_units() {
        assert_eq!([2, 999, 1640, 29_730_000].map(bytes), ["2B", "999B", "1.64kB", "29.73MB"]);
        assert_eq!(bytes(999_995), "1.00MB");
    }
}
