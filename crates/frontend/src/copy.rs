//! COPY: files of the context, of another stage or of an image.

use koskit_dockerfile::{Copy, Diagnostic, Expander, Heredoc, Place, Word};
use koskit_llb::{self as llb, Mode, Note, Owner, path};

use crate::Result;
use crate::evaluate::Evaluator;
use crate::step::{Document, From, Step};

pub(crate) fn evaluate(
    evaluator: &mut Evaluator<'_, '_>,
    copy: &Copy,
    place: &Place,
) -> Result<()> {
    if copy.link || copy.parents || !copy.exclude.is_empty() {
        let what = "COPY --link, --parents or --exclude";
        return Err(crate::instructions::refuse(place.keyword.span, what));
    }
    let from = evaluator.origin(copy)?;
    let expand = |word: &Option<Word>| word.as_ref().map(|w| evaluator.expand(w)).transpose();
    let chown = expand(&copy.chown)?.filter(|text| !text.is_empty());
    let chmod = expand(&copy.chmod)?.filter(|text| !text.is_empty());
    let sources =
        copy.sources.iter().map(|word| source(evaluator, word)).collect::<Result<Vec<_>>>()?;
    let destination = evaluator.expand(&copy.destination)?;

    let mut history = String::from("COPY");
    let flags = [("chown", &chown), ("chmod", &chmod)];
    let flags =
        flags.iter().filter_map(|(name, text)| Some(format!("--{name}={}", text.as_ref()?)));
    let documents = copy.heredocs.iter().map(|doc| format!("<<{}", doc.name));
    for word in flags.chain(sources.iter().cloned()).chain(documents) {
        history = format!("{history} {word}");
    }
    history = format!("{history} {destination} # buildkit");

    let mode = match (&chmod, &copy.chmod) {
        (Some(text), Some(word)) => Some(mode(text, word)?),
        _ => None,
    };
    let common = llb::Copy {
        dest: below(evaluator.state.workdir(), &destination),
        owner: chown.as_deref().map(Owner::parse),
        mode,
        create_dest: true,
        ..llb::Copy::default()
    };
    let copies = sources.iter().map(|src| llb::Copy {
        src: path::clean_absolute(src),
        follow_symlinks: true,
        contents_only: true,
        wildcard: true,
        allow_empty_wildcard: true,
        ..common.clone()
    });
    let copies: Vec<_> = copies.collect();
    let mut documents = Vec::new();
    for doc in &copy.heredocs {
        let data = content(evaluator, doc)?.into_bytes();
        let document = Document { name: doc.name.clone(), mode: 0o644, data };
        documents.push((document, llb::Copy { src: doc.name.clone(), ..common.clone() }));
    }

    if matches!(from, From::Context) {
        evaluator.context_paths.extend(copies.iter().map(|copy| copy.src.clone()));
    }
    let note = Note { ignore_cache: evaluator.options.no_cache, ..evaluator.step(place) };
    evaluator.steps.push(Step::Copy { from, copies, documents, note });
    evaluator.state.image.note(history, true);
    Ok(())
}

fn source(evaluator: &Evaluator<'_, '_>, word: &Word) -> Result<String> {
    let text = evaluator.expand(word)?;
    let fail = |message: &str| Err(Box::new(Diagnostic::error(word.span, message)));
    if text.is_empty() {
        return fail("the name of what is to be copied is empty");
    }
    let remote = ["http://", "https://", "git://", "ssh://", "git@"];
    if remote.iter().any(|prefix| text.starts_with(prefix)) {
        return fail("COPY cannot fetch anything; RUN can, with a program of the image");
    }
    Ok(text)
}

/// A path in the image; what it ends with says whether it is a directory.
fn below(workdir: &str, destination: &str) -> String {
    let destination = if matches!(destination, "" | ".") { "./" } else { destination };
    path::with_ending(path::join(workdir, destination), destination)
}

/// Octal, or as `chmod` reads it.
fn mode(text: &str, word: &Word) -> Result<Mode> {
    match u32::from_str_radix(text, 8) {
        Ok(bits) if bits <= 0o7777 && !text.starts_with('+') => Ok(Mode::Bits(bits)),
        Err(_) if text.split(',').all(is_symbolic) => Ok(Mode::Symbolic(text.to_owned())),
        _ => Err(Box::new(
            Diagnostic::error(word.span, format!("{text:?} is not a file mode"))
                .label("expected an octal number up to 7777, or one as u+x,g=rw"),
        )),
    }
}

/// `ugo+rwx`.
fn is_symbolic(text: &str) -> bool {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    let Some(rest) = rest.strip_prefix(['+', '-', '=']) else { return false };
    rest.bytes().all(|b| b"rwxXst".contains(&b))
}

/// What a here-document holds, with the values of variables unless its word is quoted.
fn content(evaluator: &Evaluator<'_, '_>, doc: &Heredoc) -> Result<String> {
    let data = doc.data();
    if !doc.expand {
        return Ok(data);
    }
    let expander = Expander { ignore_quotes: true, ..Expander::new('\\') };
    expander
        .word(&data, &evaluator.state.variables)
        .map_err(|error| Box::new(Diagnostic::error(doc.span, error.to_string())))
}
