//! Variables: those of the process win over those of `.env`.

use std::collections::BTreeMap;

/// The variables that a compose file may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process. What is not text is left out.
    pub fn process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// These.
    pub fn new(variables: BTreeMap<String, String>) -> Self {
        Self(variables)
    }

    /// A variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Adds the variables of a `.env` file that are not set yet. In the file, `NAME=value` sets
    /// one, also with `export` before; `#` begins a comment. A value in single quotes is as it
    /// stands; in double quotes and without any it may use variables, and in double quotes it
    /// may have escapes and go over several lines.
    ///
    /// # Errors
    /// The number of the line that is wrong, counted from 1, and what is.
    pub fn add_file(&mut self, text: &str) -> Result<(), (usize, String)> {
        // Within a file, later lines see earlier ones.
        let mut own = self.clone();
        let mut at = 0;
        while at < text.len() {
            let number = text[..at].matches('\n').count() + 1;
            let wrong = |why: &str| (number, why.to_owned());
            let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
            let line = text[at..end].trim_start().trim_end_matches('\r');
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            if line.is_empty() || line.starts_with('#') {
                at = end + 1;
                continue;
            }
            let (name, rest) = match line.split_once('=') {
                Some((name, rest)) => (name.trim_end(), Some(rest)),
                None => (line.trim_end(), None),
            };
            let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if name.is_empty() || !name.chars().all(good) {
                return Err(wrong("expected NAME=value"));
            }
            // A name alone is the variable as it is, if it is.
            let Some(rest) = rest else {
                at = end + 1;
                continue;
            };
            let value = rest.trim_start();
            let from = at + text[at..].find('=').expect("the line has one") + 1;
            let from = from + (rest.len() - value.len());
            let value = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let (inner, after) = quoted(&text[from + 1..], quote)
                        .ok_or_else(|| wrong("the quote is not closed"))?;
                    let rest = &text[from + 1 + after..];
                    let line_end = rest.find('\n').unwrap_or(rest.len());
                    let tail = rest[..line_end].trim();
                    if !tail.is_empty() && !tail.starts_with('#') {
                        return Err(wrong("there is something behind the closing quote"));
                    }
                    at = from + 1 + after + line_end + 1;
                    match quote {
                        '\'' => inner,
                        _ => {
                            crate::interpolate(&inner, &own).map_err(|e| (number, e.to_string()))?
                        }
                    }
                }
                _ => {
                    at = end + 1;
                    let value = value.find(" #").map_or(value, |comment| &value[..comment]);
                    let value = if value.starts_with('#') { "" } else { value.trim_end() };
                    crate::interpolate(value, &own).map_err(|e| (number, e.to_string()))?
                }
            };
            if self.get(name).is_none() {
                self.0.insert(name.to_owned(), value.clone());
            }
            own.0.entry(name.to_owned()).or_insert(value);
        }
        Ok(())
    }
}

/// The text up to the closing quote, escapes resolved in double quotes, and where the rest begins.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((out, i + 1)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                c @ ('"' | '\\') => out.push(c),
                // So that it is none for interpolation either.
                '$' => out.push_str("$$"),
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_what_is_not_set() {
        let mut variables = Environment::new([("HOME".to_owned(), "/root".to_owned())].into());
        let text = "# comment\n\nA=1\nexport B = two words # not this\nHOME=/other\nC=${A}-${HOME}\n\
                    D='${A} # kept'\nE=\"x\\n${A} \\$A\" # gone\nF=\nG\nH=\"a\nb\"\r\nI=#\n";
        variables.add_file(text).unwrap();
        let get = |name| variables.get(name);
        assert_eq!(get("A"), Some("1"));
        assert_eq!(get("B"), Some("two words"));
        assert_eq!(get("HOME"), Some("/root"));
        assert_eq!(get("C"), Some("1-/root"));
        assert_eq!(get("D"), Some("${A} # kept"));
        assert_eq!(get("E"), Some("x\n1 $A"));
        assert_eq!(get("F"), Some(""));
        assert_eq!(get("G"), None);
        assert_eq!(get("H"), Some("a\nb"));
        assert_eq!(get("I"), Some(""));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = |text: &str| Environment::default().add_file(text).unwrap_err();
        assert_eq!(wrong("A=1\nno name=2\n"), (2, "expected NAME=value".into()));
        assert_eq!(wrong("A=\"1\n"), (1, "the quote is not closed".into()));
        assert_eq!(wrong("\nA='1' 2\n"), (2, "there is something behind the closing quote".into()));
    }
}
