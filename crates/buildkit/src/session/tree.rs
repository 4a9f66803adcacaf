//! The files of a directory of ours, as far as a server wants them.
//!
//! A server says by patterns what it wants: *include* (only what matches, or is in a directory
//! that does), *exclude* (not what matches: `.dockerignore`), and *follow*, paths of which the
//! symbolic links are to be followed, so that what a COPY names is complete. Whatever it says,
//! no path leads out of the directory: links are read, never gone through.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::Stat;
use koskit_llb::path::clean;
use koskit_llb::{Glob, Patterns, Stars};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// What a server wants of a directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub follow: Vec<String>,
}

/// A directory, of which some files are wanted.
pub(crate) struct Tree {
    path: PathBuf,
    directory: OwnedFd,
    /// `None` is all.
    include: Option<Patterns>,
    /// The directories that included paths are in, as far as they have no `*`.
    prefixes: Vec<String>,
    exclude: Patterns,
    /// The directories in which something may be taken back (`!`) of what is excluded, as far as
    /// they have no `*`.
    taken_back: Vec<String>,
}

/// Go's bits of a file's type and mode, which the protocol has.
mod go {
    pub const DIR: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const NAMED_PIPE: u32 = 1 << 25;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const STICKY: u32 = 1 << 20;
    pub const TYPE: u32 = DIR | SYMLINK | NAMED_PIPE | 1 << 26 | 1 << 24 | 1 << 21 | 1 << 19;
}

/// Whether a server may ask for what is in such a file.
pub(crate) fn has_content(stat: &Stat) -> bool {
    stat.mode & go::TYPE == 0
}

impl Tree {
    /// Opens a directory.
    ///
    /// # Errors
    /// There is none, or a pattern is none.
    pub fn open(path: &Path, wanted: &Wanted) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let patterns = |lines: &[String]| {
            Patterns::new(lines).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
        };
        let mut include = wanted.include.clone();
        if !wanted.follow.is_empty() {
            include.extend(follow(path, &wanted.follow)?);
        }
        let everything = include.is_empty() || include.iter().any(|path| path == ".");
        let prefixes = include.iter().map(|pattern| literal(pattern)).collect();
        Ok(Self {
            path: path.to_owned(),
            directory,
            include: if everything { None } else { Some(patterns(&include)?) },
            prefixes,
            exclude: patterns(&wanted.exclude)?,
            taken_back: wanted
                .exclude
                .iter()
                .filter_map(|line| line.trim().strip_prefix('!'))
                .map(literal)
                .collect(),
        })
    }

    /// Names every wanted file: a directory before what is in it, the entries of a directory
    /// by their names. Directories in which nothing is wanted are left out.
    ///
    /// # Errors
    /// Something cannot be read, or what `tell` says.
    pub fn walk(&self, tell: &mut dyn FnMut(Stat) -> io::Result<()>) -> io::Result<()> {
        self.directory(Path::new(""), &mut Vec::new(), tell)
    }

    /// Opens a file to read what is in it.
    ///
    /// # Errors
    /// It is not there any more, or no file.
    pub fn file(&self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = File::from(openat2(&self.directory, path, flags, Mode::empty(), resolve)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no longer a file")),
        }
    }

    /// `waiting` are the directories above, as far as nobody was told of them yet.
    fn directory(
        &self,
        inside: &Path,
        waiting: &mut Vec<Stat>,
        tell: &mut dyn FnMut(Stat) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut names = fs::read_dir(self.path.join(inside))
            .and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(|e| at(&self.path.join(inside), e))?;
        names.sort();
        for name in names {
            let path = inside.join(name);
            let full = self.path.join(&path);
            let excluded = self.exclude.matches(&path);
            let wanted = !excluded && self.include.as_ref().is_none_or(|p| p.matches(&path));
            let metadata = match fs::symlink_metadata(&full) {
                Ok(metadata) => metadata,
                // Somebody has just removed it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(_) if !wanted => continue,
                Err(e) => return Err(at(&full, e)),
            };
            let is_directory = metadata.is_dir();
            let inside_wanted = is_directory
                && (!excluded || leads_to(&self.taken_back, &path))
                && (wanted || self.include.is_none() || leads_to(&self.prefixes, &path));
            if !wanted && !inside_wanted {
                continue;
            }
            let kind = metadata.file_type();
            if kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
                // No image can have the first, and no COPY takes the others.
                continue;
            }
            let stat = self.stat(&path, &metadata).map_err(|e| at(&full, e))?;
            if wanted {
                for above in waiting.iter_mut().filter(|above| !above.path.is_empty()) {
                    tell(std::mem::take(above))?;
                }
                tell(stat)?;
                if is_directory {
                    waiting.push(Stat::default());
                }
            } else {
                waiting.push(stat);
            }
            if is_directory {
                if inside_wanted {
                    self.directory(&path, waiting, tell)?;
                }
                waiting.pop();
            }
        }
        Ok(())
    }

    fn stat(&self, path: &Path, metadata: &fs::Metadata) -> io::Result<Stat> {
        let text = |path: &Path| {
            let why = "its name is not UTF-8, and BuildKit's protocol knows no other";
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, why))
        };
        let kind = metadata.file_type();
        let (bits, linkname) = if kind.is_dir() {
            (go::DIR, String::new())
        } else if kind.is_symlink() {
            (go::SYMLINK, text(&fs::read_link(self.path.join(path))?)?)
        } else if kind.is_fifo() {
            (go::NAMED_PIPE, String::new())
        } else {
            (0, String::new())
        };
        let mode = metadata.mode();
        let special = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];
        let special = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, bit)| bit);
        Ok(Stat {
            path: text(path)?,
            mode: special.fold(bits | mode & 0o777, |mode, bit| mode | bit),
            // Whose they are here, and what a desktop notes about them, is no part of a build.
            uid: 0,
            gid: 0,
            size: if kind.is_file() { metadata.len().try_into().unwrap_or(i64::MAX) } else { 0 },
            mod_time: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            linkname,
            ..Stat::default()
        })
    }
}

/// Whether a directory is on the way to one of these, or in it.
fn leads_to(prefixes: &[String], directory: &Path) -> bool {
    prefixes.iter().any(|prefix| {
        let prefix = Path::new(prefix.trim_start_matches('/'));
        prefix.starts_with(directory) || directory.starts_with(prefix)
    })
}

/// An error that says where.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The first components of a pattern that stand for themselves.
fn literal(pattern: &str) -> String {
    let clean = clean(pattern);
    let parts = clean.split('/').filter(|part| !part.is_empty());
    parts.take_while(|part| !Glob::is_pattern(part)).collect::<Vec<_>>().join("/")
}

/// The paths, with what the symbolic links on the way lead to.
fn follow(root: &Path, paths: &[String]) -> io::Result<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut queue: Vec<String> = paths.iter().rev().map(|path| rooted(path)).collect();
    while let Some(path) = queue.pop() {
        let (mut current, mut rest) = (String::new(), path.as_str());
        loop {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            if !current.is_empty() {
                current.push('/');
            }
            current.push_str(part);
            rest = after;
            let targets = links(root, &current)?;
            if !targets.is_empty() {
                // Each link once, so that circles end.
                if found.insert(current.clone()) {
                    queue.extend(targets.iter().map(|target| rooted(&format!("{target}/{rest}"))));
                }
                break;
            }
            if rest.is_empty() {
                found.insert(if current.is_empty() { ".".into() } else { current });
                break;
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// A path relative to the directory that stands for `/`, without `..` in it.
fn rooted(path: &str) -> String {
    clean(&format!("/{path}")).trim_start_matches('/').to_owned()
}

/// What a path leads to, if it is a symbolic link, or a pattern that matches some.
fn links(root: &Path, path: &str) -> io::Result<Vec<String>> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let target = |name: &str| -> Option<String> {
        let target = fs::read_link(root.join(parent).join(name)).ok()?;
        let target = target.to_str()?;
        Some(match target.starts_with('/') {
            true => target.to_owned(),
            false => format!("/{parent}/{target}"),
        })
    };
    if !Glob::is_pattern(name) {
        return Ok(target(name).into_iter().collect());
    }
    let Ok(glob) = Glob::new(name, Stars::Single) else { return Ok(Vec::new()) };
    let Ok(entries) = fs::read_dir(root.join(parent)) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| glob.matches(name)).filter_map(|name| target(&name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn wanted(include: &[&str], exclude: &[&str], follow: &[&str]) -> Wanted {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Wanted { include: list(include), exclude: list(exclude), follow: list(follow) }
    }

    fn paths(root: &Path, wanted: &Wanted) -> Vec<String> {
        let mut paths = Vec::new();
        let tree = Tree::open(root, wanted).unwrap();
        tree.walk(&mut |stat| {
            paths.push(stat.path);
            Ok(())
        })
        .unwrap();
        paths
    }

    fn root(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        root
    }

    #[test]
    fn files_come_sorted_each_directory_before_what_is_in_it() {
        let root = root(&["b", "a/z", "a/b/c", "a.b"]);
        let all = ["a", "a/b", "a/b/c", "a/z", "a.b", "b"];
        assert_eq!(paths(root.path(), &Wanted::default()), all);
    }

    #[test]
    fn only_what_matches_and_the_directories_that_it_is_in() {
        let root = root(&["src/a.c", "src/b.o", "src/deep/c.c", "doc/x", "src/deep/none/y"]);
        let sources = ["src", "src/a.c", "src/deep", "src/deep/c.c"];
        assert_eq!(paths(root.path(), &wanted(&["**/*.c"], &[], &[])), sources);
        assert_eq!(paths(root.path(), &wanted(&["src/*.c"], &[], &[])), ["src", "src/a.c"]);
        assert_eq!(paths(root.path(), &wanted(&["doc"], &[], &[])), ["doc", "doc/x"]);
        let taken_back = wanted(&[], &["src", "!src/deep/c.c"], &[]);
        assert_eq!(
            paths(root.path(), &taken_back),
            ["doc", "doc/x", "src", "src/deep", "src/deep/c.c"]
        );
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let root = root(&["real/file", "other/x", "data/1.txt", "far"]);
        symlink("real", root.path().join("link")).unwrap();
        symlink("/other", root.path().join("absolute")).unwrap();
        symlink("../../../../far", root.path().join("out")).unwrap();
        symlink("circle", root.path().join("circle")).unwrap();
        let follow = |path: &str| paths(root.path(), &wanted(&[], &[], &[path]));
        assert_eq!(follow("link/file"), ["link", "real", "real/file"]);
        assert_eq!(follow("absolute"), ["absolute", "other", "other/x"]);
        assert_eq!(follow("out"), ["far", "out"]);
        assert_eq!(follow("circle"), ["circle"]);
        assert_eq!(follow("data/*.txt"), ["data", "data/1.txt"]);
        assert_eq!(follow("../../etc/passwd"), Vec::<String>::new());
        assert_eq!(follow(".").len(), paths(root.path(), &Wanted::default()).len());
    }

    #[test]
    fn no_file_is_read_through_a_link_or_outside() {
        let root = root(&["dir/file"]);
        symlink("/etc/passwd", root.path().join("passwd")).unwrap();
        symlink("dir", root.path().join("link")).unwrap();
        let tree = Tree::open(root.path(), &Wanted::default()).unwrap();
        assert!(tree.file("dir/file").is_ok());
        for bad in ["passwd", "link/file", "../x", "/etc/passwd", "dir", "dir/../../x", ""] {
            assert!(tree.file(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_gos() {
        let root = root(&["suid"]);
        let path = root.path().join("suid");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("x", root.path().join("link")).unwrap();
        let mut stats = Vec::new();
        let tree = Tree::open(root.path(), &Wanted::default()).unwrap();
        tree.walk(&mut |stat| {
            stats.push((stat.path.clone(), stat.mode, stat.size, stat.linkname.clone()));
            Ok(())
        })
        .unwrap();
        let mode = (1 << 23) | 0o755;
        assert_eq!(stats[0], ("link".into(), (1 << 27) | 0o777, 0, "x".into()));
        assert_eq!(stats[1], ("suid".into(), mode, 4, String::new()));
    }

    /// As root, who may read everything, becomes somebody else in a thread of its own.
    fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        use rustix::process::{Uid, geteuid};
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if geteuid().is_root() {
                    let nobody = Uid::from_raw(65534);
                    rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                }
                work()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn what_is_excluded_is_not_read_even_if_it_cannot_be() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        let root = root(&["a", "secret/key", "d/private/x", "d/y", "k/in/f"]);
        let no_text = std::ffi::OsStr::from_bytes(b"d/private/\xff");
        fs::write(root.path().join(no_text), "").unwrap();
        let mode = |path: &str, mode| {
            let path = root.path().join(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("", 0o755);
        ["a", "secret", "d/private"].into_iter().for_each(|path| mode(path, 0));
        let listed = |exclude: &[&str], include: &[&str]| {
            let wanted = wanted(include, exclude, &[]);
            as_nobody(|| {
                let mut paths = Vec::new();
                let tree = Tree::open(root.path(), &wanted)?;
                tree.walk(&mut |stat| {
                    paths.push(stat.path);
                    Ok(())
                })?;
                Ok::<_, io::Error>(paths)
            })
        };
        let all = ["a", "secret", "d/private"];
        assert_eq!(listed(&all, &[]).unwrap(), ["d", "d/y", "k", "k/in", "k/in/f"]);
        assert_eq!(listed(&["*", "!k/in"], &[]).unwrap(), ["k", "k/in", "k/in/f"]);
        assert_eq!(listed(&all, &["d", "secret/key"]).unwrap(), ["d", "d/y"]);
        // What is not excluded must be readable, or the user shall know.
        assert!(listed(&["a", "d/private"], &[]).unwrap_err().to_string().contains("secret"));
        assert!(listed(&["*", "!secret/key"], &[]).is_err());
        ["secret", "d/private"].into_iter().for_each(|path| mode(path, 0o755));
    }
}
