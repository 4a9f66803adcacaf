//! Standard output and standard error: plain text for programs, colours for terminals.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};

/// How a command prints a list.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Listing {
    #[default]
    Table,
    Json,
}

/// How a command prints what it has to tell.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Telling {
    #[default]
    Text,
    Json,
}

/// How a command prints its result for programs.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Object {
    /// One JSON object on a line
    Json,
}

/// Standard output cannot be written.
#[derive(Debug)]
pub struct WriteError(pub io::Error);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output cannot be written")
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Writes to standard output.
///
/// # Errors
/// [`WriteError`]; who called it ends, without a word if the reader has gone.
pub fn print(text: &str) -> Result<(), WriteError> {
    bytes(text.as_bytes())
}

/// Writes bytes to standard output, at once.
///
/// # Errors
/// As [`print`].
pub fn bytes(bytes: &[u8]) -> Result<(), WriteError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(WriteError)
}

/// Writes to standard error. Where that fails there is nobody to tell.
pub fn error(text: &str) {
    error_bytes(text.as_bytes());
}

/// Writes bytes to standard error.
pub fn error_bytes(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// For standard error: on where it is a terminal and `NO_COLOR` is not set.
    pub fn stderr() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(is_live() && !refused)
    }

    /// For standard output.
    pub fn stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(io::stdout().is_terminal() && !refused)
    }

    /// Whether there are colours.
    pub fn is_on(self) -> bool {
        self.0
    }

    /// The text in the colour of this SGR code.
    pub fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether standard error is a terminal on which a line can change.
pub fn is_live() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    io::stderr().is_terminal() && !dumb
}

/// Text in columns, as wide as their widest cell and three spaces apart.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes as docker writes it: three digits and a decimal unit.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let decimals = match value {
        _ if unit == "B" => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 999, 1000, 9994, 9996, 12_345, 999_499, 999_500, 5_678_000_000];
        let texts = sizes.map(size);
        assert_eq!(
            texts,
            ["0B", "999B", "1.00kB", "9.99kB", "10.0kB", "12.3kB", "999kB", "1.00MB", "5.68GB"]
        );
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_spaces_at_the_end_of_a_line() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(table(&[row("NAME", "B"), row("ä", "")]), "NAME   B\nä\n");
    }
}
