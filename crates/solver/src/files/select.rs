//! What a COPY takes, and how two of that are told apart.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use koskit_llb::{Glob, Patterns, Stars};
use rustix::fs::{FileType, Stat};
use sha2::{Digest as _, Sha256};

use super::change::owner_of;
use super::{FileError, Ownership, Result, Root, failed};
use crate::hashes::{Hashes, hash};

/// Where files are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of the user's.
    Context,
    /// An image, or what a build has made.
    Image,
    /// What a build makes.
    Target,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "the build context",
            Self::Image => "the image or stage that it is copied from",
            Self::Target => "the file system that is built",
        })
    }
}

/// A root as a build sees it.
///
/// Of a context, the patterns of its `.dockerignore` are not there, all files are root's, and
/// extended attributes and times are those of an accident: they are left out.
pub(crate) struct View {
    /// The files.
    pub root: Root,
    /// What they are.
    pub place: Place,
    ignored: Patterns,
    ownership: Ownership,
    /// What is known of the files of a context. Those of images are read once.
    hashes: Option<Arc<Hashes>>,
}

/// What a COPY leaves out of its sources; paths are relative to each.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Only these, if there are any.
    pub include: Patterns,
    /// Not these.
    pub exclude: Patterns,
}

/// How sources are found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Find {
    /// A source that is a link stands for what it leads to.
    pub follow: bool,
    /// A source may be a pattern.
    pub wildcard: bool,
    /// A pattern may match nothing.
    pub allow_none: bool,
    /// A directory is only what is in it.
    pub contents: bool,
}

impl Find {
    /// All that is in a directory, which is there.
    pub fn all() -> Self {
        Self { follow: true, wildcard: false, allow_none: false, contents: true }
    }
}

/// Files that a COPY takes.
#[derive(Debug)]
pub(crate) struct Selection {
    /// For each source.
    pub matches: Vec<Match>,
}

/// One source.
#[derive(Debug)]
pub(crate) struct Match {
    /// Its name, for a destination that is a directory.
    pub name: PathBuf,
    /// Itself and all that is inside: each after its parent, sorted.
    pub entries: Vec<Entry>,
}

/// One file, directory or link.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Relative to the source, which is the empty path.
    pub path: PathBuf,
    /// Relative to the root.
    pub source: PathBuf,
    /// Permissions and the bits above them: at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// What it is.
    pub kind: Kind,
}

/// What an [`Entry`] is.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory,
    File {
        /// Device and inode, where it has several names.
        link: Option<(u64, u64)>,
        /// The SHA-256 of what is in it, where [`Selection::digest`] was called.
        content: Option<[u8; 32]>,
    },
    Symlink(PathBuf),
    Fifo,
}

/// A directory that is being walked.
struct Open {
    source: PathBuf,
    /// Relative to the source of the copy.
    path: PathBuf,
    /// Those that are left.
    names: std::vec::IntoIter<OsString>,
    /// How many entries there were when it was opened.
    entry: usize,
    hidden: bool,
}

impl View {
    /// A build context.
    pub fn context(root: Root, ignored: Patterns, hashes: Arc<Hashes>) -> Self {
        let (place, ownership, hashes) = (Place::Context, Ownership::Ignored, Some(hashes));
        Self { root, place, ignored, ownership, hashes }
    }

    /// An image, or what a build has made of one.
    pub fn image(root: Root, ownership: Ownership) -> Self {
        let (place, ignored) = (Place::Image, Patterns::default());
        Self { root, place, ignored, ownership, hashes: None }
    }

    /// Finds the sources of a COPY.
    pub fn select(&self, source: &str, find: Find, filter: &Filter) -> Result<Selection> {
        let asked = Path::new(source.trim_start_matches('/'));
        let names = match find.wildcard && Glob::is_pattern(source) {
            true => self.expand(source, find.follow)?,
            false => vec![asked.to_owned()],
        };
        let missing = || Err(FileError::Missing { path: asked.to_owned(), place: self.place });
        if names.is_empty() && !find.allow_none {
            return missing();
        }
        let mut matches = Vec::with_capacity(names.len());
        for name in names {
            let path = self.root.resolve(&name, find.follow)?;
            let Some(stat) = self.root.stat(&path)? else { return missing() };
            let mut entries = Vec::new();
            // The root is there even if all that is in it is not.
            let hidden = !path.as_os_str().is_empty() && self.ignored.matches(&path);
            if let Some(mut entry) = self.entry(&path, PathBuf::new(), &stat)? {
                let directory = matches!(entry.kind, Kind::Directory);
                if directory && find.contents {
                    // Only what is inside is copied.
                    (entry.mode, entry.uid, entry.gid, entry.mtime) = (0o755, 0, 0, 0);
                }
                entries.push(entry);
                if directory && (!hidden || self.ignored.take_back()) {
                    self.walk(&path, filter, &mut entries)?;
                }
            }
            if hidden && entries.len() <= 1 {
                return Err(FileError::Ignored { path: name });
            }
            matches.push(Match { name, entries });
        }
        Ok(Selection { matches })
    }

    /// All paths that a pattern matches, sorted. Links to directories are followed up to the
    /// first part that is a pattern.
    fn expand(&self, pattern: &str, follow: bool) -> Result<Vec<PathBuf>> {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let plain = parts.iter().take_while(|part| !Glob::is_pattern(part)).count();
        let start: PathBuf = parts[..plain].iter().collect();
        let start = match follow {
            true => self.root.find(&start, true)?,
            false => Some(start),
        };
        let mut found: Vec<PathBuf> = start.into_iter().collect();
        for (i, part) in parts.iter().enumerate().skip(plain) {
            let glob = Glob::new(part, Stars::Single)?;
            let mut next = Vec::new();
            for directory in &found {
                match self.root.stat(directory)? {
                    Some(stat) if kind(&stat) == FileType::Directory => {}
                    _ => continue,
                }
                for name in self.root.names(directory)? {
                    let path = directory.join(&name);
                    let last = i + 1 == parts.len();
                    // Of a directory that is left out, something inside may be taken back.
                    let hidden = self.ignored.matches(&path) && (last || !self.ignored.take_back());
                    if glob.matches(&name.to_string_lossy()) && !hidden {
                        next.push(path);
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Adds what is inside of a directory, whose entry was added last. It does so with a stack of
    /// its own: how deep directories are is somebody else's choice.
    fn walk(&self, top: &Path, filter: &Filter, entries: &mut Vec<Entry>) -> Result<()> {
        let names = self.root.names(top)?.into_iter();
        let (source, path) = (top.to_owned(), PathBuf::new());
        let mut open = vec![Open { source, path, names, entry: entries.len(), hidden: false }];
        while let Some(directory) = open.last_mut() {
            let Some(name) = directory.names.next() else {
                // One that is hidden is there only for what is in it.
                if directory.hidden && entries.len() == directory.entry {
                    entries.pop();
                }
                open.pop();
                continue;
            };
            let (source, path) = (directory.source.join(&name), directory.path.join(&name));
            let included = filter.include.is_empty() || filter.include.matches(&path);
            let excluded = self.ignored.matches(&source) || filter.exclude.matches(&path);
            let hidden = excluded || !included;
            let deeper = (included || !filter.include.is_empty())
                && (!excluded || self.ignored.take_back() || filter.exclude.take_back());
            if !deeper {
                continue;
            }
            // A file may have gone away since the directory was read.
            let Some(stat) = self.root.stat(&source)? else { continue };
            let is_directory = kind(&stat) == FileType::Directory;
            if hidden && !is_directory {
                continue;
            }
            let Some(entry) = self.entry(&source, path.clone(), &stat)? else { continue };
            entries.push(entry);
            if is_directory {
                let names = self.root.names(&source)?.into_iter();
                open.push(Open { source, path, names, entry: entries.len(), hidden });
            }
        }
        Ok(())
    }

    /// `None` for a socket, which nothing can be done with.
    fn entry(&self, source: &Path, path: PathBuf, stat: &Stat) -> Result<Option<Entry>> {
        let kind = match kind(stat) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => {
                let link = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
                Kind::File { link, content: None }
            }
            FileType::Symlink => Kind::Symlink(self.root.read_link(source)?),
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice | FileType::BlockDevice => {
                return Err(FileError::Device(source.into()));
            }
            _ => return Ok(None),
        };
        let (uid, gid) = match self.ownership {
            Ownership::Real => (stat.st_uid, stat.st_gid),
            Ownership::Recorded if matches!(kind, Kind::File { .. } | Kind::Directory) => {
                owner_of(&self.root, source)?.unwrap_or((0, 0))
            }
            _ => (0, 0),
        };
        let (mode, mtime) = (stat.st_mode & 0o7777, stat.st_mtime);
        let source = source.to_owned();
        Ok(Some(Entry { path, source, mode, uid, gid, mtime, kind }))
    }
}

impl Selection {
    /// Fails unless something is selected that a pattern matches, relative to the source.
    pub fn require(&self, pattern: &str, view: &View) -> Result<()> {
        let wanted = Patterns::new(&[pattern.to_owned()]).map_err(FileError::from)?;
        let mut all = self.matches.iter().flat_map(|one| &one.entries);
        match all.any(|entry| wanted.matches(&entry.path)) {
            true => Ok(()),
            false => Err(FileError::Missing { path: pattern.into(), place: view.place }),
        }
    }

    /// A digest of all that a copy is made of: names, contents, permissions, owners and links,
    /// but no times. Reads all files; what they hold is remembered, for the copy to be that.
    pub fn digest(&mut self, view: &View) -> Result<[u8; 32]> {
        let mut sha = Sha256::new();
        for one in &mut self.matches {
            // For each file with several names, the first of them.
            let mut links = HashMap::new();
            field(&mut sha, one.name.file_name().unwrap_or_default().as_bytes());
            field(&mut sha, &one.entries.len().to_le_bytes());
            for (index, entry) in one.entries.iter_mut().enumerate() {
                field(&mut sha, entry.path.as_os_str().as_bytes());
                for number in [entry.mode, entry.uid, entry.gid] {
                    sha.update(number.to_le_bytes());
                }
                match &mut entry.kind {
                    Kind::Directory => sha.update(b"d"),
                    Kind::Symlink(target) => {
                        sha.update(b"l");
                        field(&mut sha, target.as_os_str().as_bytes());
                    }
                    Kind::Fifo => sha.update(b"p"),
                    Kind::File { link, content } => {
                        let file = view.root.file(&entry.source)?;
                        let read = match &view.hashes {
                            Some(hashes) => hashes.of(&file),
                            None => hash(&file),
                        };
                        let read = read.map_err(failed("read", &entry.source))?;
                        *content = Some(read);
                        sha.update(b"f");
                        sha.update(read);
                        let first = link.map(|link| *links.entry(link).or_insert(index));
                        sha.update((first.unwrap_or(index) as u64).to_le_bytes());
                    }
                }
            }
        }
        Ok(sha.finalize().into())
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Puts something into a digest so that it cannot be taken for something else.
fn field(sha: &mut Sha256, bytes: &[u8]) {
    sha.update((bytes.len() as u64).to_le_bytes());
    sha.update(bytes);
}
