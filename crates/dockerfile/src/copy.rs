//! COPY and ADD: what, where to, and how.

use crate::flags::{Flags, Kind};
use crate::problems::Problems;
use crate::{Add, Copy, Diagnostic, Heredoc, Node, Span, Word};

/// Reads a COPY.
pub(crate) fn copy(node: &Node) -> Result<Copy, Problems> {
    let known = [
        ("from", Kind::Value),
        ("chown", Kind::Value),
        ("chmod", Kind::Value),
        ("link", Kind::Switch),
        ("parents", Kind::Switch),
        ("exclude", Kind::List),
    ];
    let (flags, files) = both(Flags::read(node, &known), files(node))?;
    Ok(Copy {
        from: flags.value("from"),
        parents: flags.switch("parents").unwrap_or_default(),
        ..common(&flags, files)
    })
}

/// Reads an ADD.
pub(crate) fn add(node: &Node) -> Result<Add, Problems> {
    let known = [
        ("chown", Kind::Value),
        ("chmod", Kind::Value),
        ("link", Kind::Switch),
        ("exclude", Kind::List),
        ("checksum", Kind::Value),
        ("keep-git-dir", Kind::Switch),
        ("unpack", Kind::Switch),
    ];
    let (flags, files) = both(Flags::read(node, &known), files(node))?;
    Ok(Add {
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
        copy: common(&flags, files),
    })
}

/// What both are, or all that is wrong with both.
fn both<A, B>(a: Result<A, Problems>, b: Result<B, Problems>) -> Result<(A, B), Problems> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(mut a), Err(b)) => {
            a.0.extend(b.0);
            Err(a)
        }
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}

fn common(flags: &Flags, files: Files) -> Copy {
    Copy {
        sources: files.sources,
        heredocs: files.heredocs,
        destination: files.destination,
        from: None,
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        parents: false,
        exclude: flags.list("exclude"),
    }
}

/// What is behind the flags.
struct Files {
    sources: Vec<Word>,
    heredocs: Vec<Heredoc>,
    destination: Word,
}

fn files(node: &Node) -> Result<Files, Problems> {
    let keyword = node.keyword.text.to_ascii_uppercase();
    let end = Span::new(node.span.end, node.span.end);
    let words = node.args.words();
    let Some((destination, words)) = words.split_last() else {
        let error = Diagnostic::error(end, format!("{keyword} needs an argument"));
        return Err(error.label("expected the files and where to put them").into());
    };
    if words.is_empty() {
        let message = format!("{keyword} does not say where to put what it takes");
        let error = Diagnostic::error(end, message).label("expected a destination, such as /app/");
        return Err(error.into());
    }
    // The document of a word such as `<<EOF`; in a JSON list, there are none.
    let document = |word: &Word| -> Option<Heredoc> {
        let named = Heredoc::parse(&word.text).ok().flatten().filter(|_| !node.args.is_json())?;
        node.heredocs.iter().rev().find(|doc| doc.name == named.name).cloned()
    };
    if document(destination).is_some() {
        let error =
            Diagnostic::error(destination.span, "a here-document cannot be the destination");
        return Err(error.label("expected a path").into());
    }
    let (mut sources, mut heredocs) = (Vec::new(), Vec::new());
    for word in words {
        match document(word) {
            Some(document) => heredocs.push(document),
            None => sources.push(word.clone()),
        }
    }
    Ok(Files { sources, heredocs, destination: destination.clone() })
}
