//! BuildKit's digest of files, as it names the part of an input that a step takes.
//!
//! That of a file is of the header that a tar archive has for it, in docker's old form, and of
//! what is in it; that of a directory is of the names and digests of what is in it, sorted.

use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use koskit_llb::path::clean_absolute;
use koskit_llb::{Digest, Patterns};
use sha2::{Digest as _, Sha256};

use super::ops::{Selector, base};
use crate::files::{Entry, FileError, Filter, Find, Kind, View, failed};

/// The digest of all that is selected of a directory of the user's.
pub(super) fn digest(view: &View, selectors: &[Selector]) -> Result<Digest, FileError> {
    let whole = [Selector::default()];
    let selectors = if selectors.is_empty() { &whole[..] } else { selectors };
    let digests = selectors.iter().map(|selector| one(view, selector));
    let digests = digests.collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    Ok(Digest::of(texts.join("\0").as_bytes()))
}

fn one(view: &View, selector: &Selector) -> Result<Digest, FileError> {
    let path = clean_absolute(&selector.path);
    let find = Find {
        follow: selector.follow,
        wildcard: selector.wildcard,
        allow_none: true,
        contents: false,
    };
    let filter = Filter {
        include: Patterns::new(&selector.include)?,
        exclude: Patterns::new(&selector.exclude)?,
    };
    let selection = view.select(&path, find, &filter)?;
    if !selector.is_special() {
        let found = &selection.matches[0];
        return tree(view, &found.entries, path == "/");
    }
    let mut listed: Vec<(Vec<u8>, Digest)> = Vec::new();
    for found in &selection.matches {
        let name = found.name.file_name().unwrap_or_default().as_bytes().to_vec();
        if selector.follow && is_link(view, &found.name)? {
            listed.push((name, followed(view, &found.name)?));
            continue;
        }
        for (index, entry) in found.entries.iter().enumerate() {
            let top = index == 0;
            let alone = found.entries.len() == 1 && matches!(entry.kind, Kind::Directory);
            // Of the directory that patterns are for, only what is in it may matter.
            if top && (path == "/" || alone && !selector.include.is_empty()) {
                continue;
            }
            let name = match entry.path.file_name() {
                Some(name) => name.as_bytes().to_vec(),
                None => name.clone(),
            };
            let is_link = matches!(entry.kind, Kind::Symlink(_));
            let digest = match path == "/" && selector.follow && is_link && depth(entry) == 1 {
                true => followed(view, &entry.path)?,
                false => header(view, entry)?,
            };
            listed.push((name, digest));
        }
    }
    match listed.as_slice() {
        [] => return Ok(Digest::of(b"")),
        [(name, digest)] if name == base(&path).as_bytes() => return Ok(digest.clone()),
        _ => {}
    }
    let mut sha = Sha256::new();
    for (index, (name, digest)) in listed.iter().enumerate() {
        if index != 0 {
            sha.update([0]);
        }
        sha.update(name);
        sha.update(digest.as_str());
    }
    Ok(Digest::from_bytes(sha.finalize().into()))
}

fn is_link(view: &View, path: &Path) -> Result<bool, FileError> {
    let path = view.root.resolve(path, false)?;
    let stat = view.root.stat(&path)?;
    let kind = |stat: rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode);
    Ok(stat.map(kind) == Some(rustix::fs::FileType::Symlink))
}

/// The digest of what a link leads to, which counts as a whole.
fn followed(view: &View, path: &Path) -> Result<Digest, FileError> {
    let find = Find { follow: true, wildcard: false, allow_none: false, contents: false };
    let selection = view.select(&path.to_string_lossy(), find, &Filter::default())?;
    tree(view, &selection.matches[0].entries, false)
}

fn depth(entry: &Entry) -> usize {
    entry.path.components().count()
}

/// The digest of the first entry with all others, which are in it.
fn tree(view: &View, entries: &[Entry], is_root: bool) -> Result<Digest, FileError> {
    let Some(top) = entries.first() else { return Ok(Digest::of(b"")) };
    if !matches!(top.kind, Kind::Directory) {
        return header(view, top);
    }
    // Directories that are not ended yet, with their names.
    let mut open: Vec<(&Path, Sha256)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        close(&mut open, Some(&entry.path));
        match &entry.kind {
            Kind::Directory => {
                let mut sha = Sha256::new();
                sha.update([0]);
                // Nobody tells of the root itself.
                let own = match index == 0 && is_root {
                    true => Digest::of(b""),
                    false => header(view, entry)?,
                };
                sha.update(own.as_str());
                open.push((&entry.path, sha));
            }
            _ => {
                let digest = header(view, entry)?;
                let (_, parent) = open.last_mut().expect("the first one is a directory");
                add(parent, &entry.path, &digest);
            }
        }
    }
    close(&mut open, None);
    let (_, sha) = open.pop().expect("the first one is a directory");
    Ok(Digest::from_bytes(sha.finalize().into()))
}

/// Ends the directories that a path is not in; all but the first where there is none.
fn close(open: &mut Vec<(&Path, Sha256)>, next: Option<&Path>) {
    while open.len() > 1 {
        let (path, _) = open.last().expect("there is more than one");
        if next.is_some_and(|next| next.starts_with(path)) {
            return;
        }
        let (path, sha) = open.pop().expect("there is more than one");
        let digest = Digest::from_bytes(sha.finalize().into());
        let (_, parent) = open.last_mut().expect("there was more than one");
        add(parent, path, &digest);
    }
}

fn add(parent: &mut Sha256, path: &Path, digest: &Digest) {
    parent.update([0]);
    parent.update(path.file_name().unwrap_or_default().as_bytes());
    parent.update(digest.as_str());
}

/// The digest of an entry without what is in a directory.
fn header(view: &View, entry: &Entry) -> Result<Digest, FileError> {
    let mut file = None;
    let (mut size, mut link) = (0, Path::new(""));
    let kind = match &entry.kind {
        Kind::Directory => '5',
        Kind::Fifo => '6',
        Kind::Symlink(target) => {
            link = target;
            '2'
        }
        Kind::File { .. } => {
            let opened = view.root.file(&entry.source)?;
            size = opened.metadata().map_err(failed("read", &entry.source))?.len();
            file = Some(opened);
            '0'
        }
    };
    let mut text = String::from("name");
    let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
    let _ = write!(text, "mode{mode}uid{uid}gid{gid}size{size}typeflag{kind}linkname");
    let mut sha = Sha256::new();
    sha.update(text);
    sha.update(link.as_os_str().as_bytes());
    sha.update("unamegnamedevmajor0devminor0");
    if let Some(mut file) = file {
        io::copy(&mut file, &mut sha).map_err(failed("read", &entry.source))?;
    }
    Ok(Digest::from_bytes(sha.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Arc;

    use super::*;
    use crate::files::Root;
    use crate::hashes::Hashes;

    /// A context with a file, a directory and links to both.
    fn context() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("folder/sub")).unwrap();
        for (name, text) in
            [("hello.txt", "hello again\n"), ("folder/a", "a\n"), ("folder/sub/b", "b\n")]
        {
            fs::write(path(name), text).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        for name in ["folder", "folder/sub"] {
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("folder", path("link")).unwrap();
        dir
    }

    fn of(dir: &Path, ignored: &[&str], selectors: &[Selector]) -> Digest {
        let ignored: Vec<String> = ignored.iter().map(|one| (*one).to_owned()).collect();
        let hashes = Arc::new(Hashes::load(dir.join("none")));
        let ignored = Patterns::new(&ignored).unwrap();
        let view = View::context(Root::open(dir).unwrap(), ignored, hashes);
        digest(&view, selectors).unwrap()
    }

    fn follow(path: &str) -> Selector {
        Selector { path: path.into(), follow: true, ..Selector::default() }
    }

    #[test]
    fn files_have_the_digest_that_buildkit_has_for_them() {
        let dir = context();
        let digest = of(dir.path(), &[], &[follow("/folder"), follow("/hello.txt")]);
        // Of the record that docker 28.5.2 exports for COPY hello.txt folder ./
        let expected = "sha256:e25bb2caf03064293a871f1539b06c83d3cbe751033874a6b8ce5500d99b9126";
        assert_eq!(Digest::of(format!("{digest}@-1").as_bytes()).as_str(), expected);
    }

    #[test]
    fn a_link_is_what_it_leads_to_where_it_is_followed() {
        let dir = context();
        let folder = of(dir.path(), &[], &[follow("/folder")]);
        assert_eq!(of(dir.path(), &[], &[follow("/link")]), folder);
        let link = Selector { follow: false, ..follow("/link") };
        assert_ne!(of(dir.path(), &[], &[link]), folder);
    }

    #[test]
    fn what_is_left_out_or_changed_makes_a_difference_and_a_time_does_not() {
        let dir = context();
        // What it leads to would count as a whole.
        fs::remove_file(dir.path().join("link")).unwrap();
        let all = || of(dir.path(), &[], &[]);
        let first = all();
        let hello = dir.path().join("hello.txt");
        fs::write(&hello, "hello again\n").unwrap();
        assert_eq!(all(), first);
        assert_ne!(of(dir.path(), &["folder/a"], &[]), first);
        let without = Selector { exclude: vec!["folder/a".into()], ..follow("/") };
        let without = |dir: &Path| of(dir, &[], std::slice::from_ref(&without));
        let before = without(dir.path());
        fs::write(dir.path().join("folder/a"), "other\n").unwrap();
        assert_eq!(without(dir.path()), before);
        assert_ne!(all(), first);
        fs::set_permissions(&hello, fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(without(dir.path()), before);
    }
}
