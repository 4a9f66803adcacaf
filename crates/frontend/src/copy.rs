//! COPY and ADD: files of the context, of another stage or of an image, and of elsewhere.

use koskit_dockerfile::{Add, Copy, Diagnostic, Expander, Heredoc, Place, Word};
use koskit_llb::{self as llb, Digest, Mode, Note, Owner, ProgressGroup, path};

use crate::Result;
use crate::add::{self, Remote};
use crate::evaluate::Evaluator;
use crate::step::{Document, From, Step};

/// Evaluates a COPY.
pub(crate) fn copy(evaluator: &mut Evaluator<'_, '_>, copy: &Copy, place: &Place) -> Result<()> {
    evaluate(evaluator, copy, None, place)
}

/// Evaluates an ADD.
pub(crate) fn add(evaluator: &mut Evaluator<'_, '_>, add: &Add, place: &Place) -> Result<()> {
    evaluate(evaluator, &add.copy, Some(add), place)
}

fn evaluate(
    evaluator: &mut Evaluator<'_, '_>,
    copy: &Copy,
    add: Option<&Add>,
    place: &Place,
) -> Result<()> {
    let origin = evaluator.plan.origin(copy, evaluator.index, evaluator.options)?;
    let word = copy.from.as_ref().unwrap_or(&copy.destination);
    let from = evaluator.from(origin, word, Some(place.lines))?;
    let expand = |word: &Option<Word>| word.as_ref().map(|w| evaluator.expand(w)).transpose();
    let chown = expand(&copy.chown)?.filter(|text| !text.is_empty());
    let chmod = expand(&copy.chmod)?.filter(|text| !text.is_empty());
    let sources =
        copy.sources.iter().map(|word| source(evaluator, word)).collect::<Result<Vec<_>>>()?;
    let destination = evaluator.expand(&copy.destination)?;
    let mut remote = add.map(|add| Remote::new(evaluator, add, &sources)).transpose()?;

    let mode = match (&chmod, &copy.chmod) {
        (Some(text), Some(word)) => Some(mode(text, word)?),
        _ => None,
    };
    let common = llb::Copy {
        dest: below(evaluator.state.workdir(), &destination),
        owner: chown.as_deref().map(Owner::parse),
        mode,
        create_dest: true,
        exclude: copy.exclude.iter().map(|word| word.text.clone()).collect(),
        ..llb::Copy::default()
    };
    let history = history(copy, add.is_some(), &chown, &chmod, &sources, &destination);

    let mut copies = Vec::new();
    for (text, word) in sources.iter().zip(&copy.sources) {
        let name = || evaluator.part(place, "");
        let outside = add::source(text, word, remote.as_mut(), name)?;
        copies.push(match outside {
            Some((outside, src)) => {
                let unpack = remote.as_ref().is_some_and(|r| r.unpack(&outside));
                (outside, llb::Copy { src, unpack, ..common.clone() })
            }
            None => (from.clone(), local(copy, add, text, &common)),
        });
    }
    for doc in &copy.heredocs {
        let data = content(evaluator, doc)?.into_bytes();
        let document = Document { name: doc.name.clone(), mode: 0o644, data };
        let copy = llb::Copy { src: doc.name.clone(), ..common.clone() };
        copies.push((From::Document(Box::new(document)), copy));
    }

    for text in &sources {
        // A repository is looked for in the context, too, as BuildKit does: its name is part
        // of what the context is asked for.
        let web = text.starts_with("http://") || text.starts_with("https://");
        if add.is_none() || !web {
            evaluator.need(&from, text);
        }
    }
    let link = (copy.link && chmod.is_none()).then(|| evaluator.part(place, "LINK "));
    let ignore_cache = evaluator.ignore_cache();
    let note = Note { ignore_cache, ..evaluator.step(place) };
    let (note, link) = match link {
        None => (note, None),
        Some(name) => group(note, name, evaluator),
    };
    evaluator.steps.push(Step::Copy { copies, note, link });
    evaluator.state.image.note(history, true);
    Ok(())
}

/// Files of the context, of a stage or of an image.
fn local(copy: &Copy, add: Option<&Add>, text: &str, common: &llb::Copy) -> llb::Copy {
    let (mut src, mut include) = (text, Vec::new());
    if copy.parents {
        // What is before `/./` is not kept.
        let (parent, pattern) = text.split_once("/./").unwrap_or(("/", text));
        src = parent;
        include.push(path::clean_absolute(pattern).trim_start_matches('/').to_owned());
    }
    llb::Copy {
        src: path::clean_absolute(src),
        include,
        unpack: add.is_some_and(|add| add.unpack.unwrap_or(true)),
        follow_symlinks: true,
        contents_only: true,
        wildcard: true,
        allow_empty_wildcard: true,
        ..common.clone()
    }
}

/// The notes of the two ops of a `--link`, which are shown as one step: that which makes the
/// files, and that which lays them over the others.
fn group(note: Note, link: String, evaluator: &Evaluator<'_, '_>) -> (Note, Option<Note>) {
    let seed = format!("{} {} {}", evaluator.index, evaluator.steps.len(), note.name);
    let id = Digest::of(seed.as_bytes()).hex()[..25].to_owned();
    let group = |weak| Some(ProgressGroup { id: id.clone(), name: note.name.clone(), weak });
    let link = Note { name: link, group: group(false), ..note.clone() };
    (Note { group: group(true), ..note }, Some(link))
}

fn history(
    copy: &Copy,
    add: bool,
    chown: &Option<String>,
    chmod: &Option<String>,
    sources: &[String],
    destination: &str,
) -> String {
    let mut words = vec![if add { "ADD" } else { "COPY" }.to_owned()];
    words.extend(copy.parents.then(|| "--parents".to_owned()));
    words.extend(chown.as_ref().map(|text| format!("--chown={text}")));
    words.extend(chmod.as_ref().map(|text| format!("--chmod={text}")));
    words.extend(sources.iter().cloned());
    words.extend(copy.heredocs.iter().map(|doc| format!("<<{}", doc.name)));
    format!("{} {destination} # buildkit", words.join(" "))
}

fn source(evaluator: &Evaluator<'_, '_>, word: &Word) -> Result<String> {
    let text = evaluator.expand(word)?;
    if text.is_empty() {
        let message = "the name of what is to be copied is empty";
        return Err(Box::new(Diagnostic::error(word.span, message)));
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

/// `ugo+rwx`, `u=rw-x`, `g=u`.
fn is_symbolic(text: &str) -> bool {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    rest.starts_with(['+', '-', '=']) && rest.bytes().all(|b| b"+-=rwxXstugo".contains(&b))
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

#[cfg(test)]
mod tests {
    use super::is_symbolic;

    #[test]
    fn a_symbolic_mode_has_clauses_of_whom_how_and_what() {
        for good in ["u+x", "+x", "ugo=rwX", "a=", "u=rw-x", "g=u", "o-t", "u+rw+x"] {
            assert!(is_symbolic(good), "{good}");
        }
        for bad in ["", "u", "x", "u+q", "rw", "755", "u x"] {
            assert!(!is_symbolic(bad), "{bad}");
        }
    }
}
