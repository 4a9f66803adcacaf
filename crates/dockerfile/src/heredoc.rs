//! `<<EOF`: files inside of a Dockerfile.

use crate::Span;
use crate::expand::{Empty, ExpandError, Expander};

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// The number before the `<<`; 0 where there is none.
    pub descriptor: u32,
    /// Whether variables in it are expanded: the word was not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines are taken away.
    pub strip_tabs: bool,
    /// The lines between, with their line endings, as they are written.
    pub content: String,
    /// Where the lines between are.
    pub span: Span,
}

impl Heredoc {
    /// Reads a word such as `<<EOF`, `3<<-"EOF"`. `None` is any other word.
    ///
    /// # Errors
    /// [`ExpandError`] where the quotes in it do not match.
    pub fn parse(word: &str) -> Result<Option<Self>, ExpandError> {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
        let (strip_tabs, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
        if rest.is_empty() || rest.contains('<') {
            return Ok(None);
        }
        let plain = Expander { keep_unset: true, ..Expander::new('\\') };
        let quoted = Expander { raw_quotes: true, ..plain };
        let [name] = plain.words(rest, &Empty)?.try_into().unwrap_or_default();
        let [raw] = quoted.words(rest, &Empty)?.try_into().unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        let quotes = |s: &str| s.matches(['\'', '"']).count();
        Ok(Some(Self {
            expand: quotes(&name) == quotes(&raw),
            descriptor: word[..digits].parse().unwrap_or_default(),
            strip_tabs,
            content: String::new(),
            span: Span::default(),
            name,
        }))
    }

    /// The content as the file gets it: without tabs at the beginning of lines if they are
    /// to be stripped.
    pub fn data(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|l| l.trim_start_matches('\t')).collect()
    }

    /// Whether a line, without its line ending, is the last one.
    pub(crate) fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        self.name == if self.strip_tabs { line.trim_start_matches('\t') } else { line }
    }
}

/// All here-documents that a line begins.
pub(crate) fn in_line(line: &str) -> Result<Vec<Heredoc>, ExpandError> {
    let raw =
        Expander { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Expander::new('\\') };
    // What cannot be split is for the shell to complain about.
    let words = raw.words(line, &Empty).unwrap_or_default();
    words.iter().filter_map(|word| Heredoc::parse(word).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_says_what_becomes_of_the_content() {
        let doc = Heredoc::parse("3<<-'EOF'").unwrap().unwrap();
        let read = (doc.name.as_str(), doc.descriptor, doc.expand, doc.strip_tabs);
        assert_eq!(read, ("EOF", 3, false, true));
        assert!(Heredoc::parse("<<EOF").unwrap().unwrap().expand);
        assert!(!Heredoc::parse("<<E\"O\"F").unwrap().unwrap().expand);
        for none in ["<<", "<<<a", "a<<b", "<", "<<''"] {
            assert_eq!(Heredoc::parse(none).unwrap(), None, "{none}");
        }
        assert!(Heredoc::parse("<<'E").is_err());
    }

    #[test]
    fn a_line_may_begin_several() {
        let docs = in_line("COPY <<a  << \"b\" x<<c <<-d /e").unwrap();
        let names: Vec<_> = docs.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d"]);
    }
}
