//! A commit of a git repository as a file system.
//!
//! ```text
//! git/NAME/lock      held while the repository is used
//!          repo/     what was fetched of one remote, bare
//! ```
//!
//! A build asks the remote which commit a branch or tag is (`git ls-remote`). If that one was
//! checked out before, no more is done. Else it is fetched alone, without what came before it; a
//! server that does not give single commits is asked for all. Files have the time of the commit
//! and plain permissions, so that the same commit is the same everywhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use koskit_llb::pb;
use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, Timespec, Timestamps, flock, utimensat};

use crate::Problem;
use crate::cache::KeyBuilder;
use crate::filesystem::{FileSystem, Layers};
use crate::git::Git;
use crate::ops::{Build, Sourced};
use crate::portable::Commit;
use crate::rooted::Root;
use crate::snapshot::{Temporary, same};

/// Where what is fetched is kept in the repository, lest git takes it for garbage.
const KEPT: &str = "refs/koskit";

/// What is asked for.
struct Asked {
    remote: String,
    /// A branch, a tag, a commit; empty is what the remote has checked out.
    reference: String,
    /// A folder; empty is all.
    folder: String,
    keep_git: bool,
    submodules: bool,
    /// The beginning of the commit's name.
    checksum: Option<String>,
    attributes: BTreeMap<String, String>,
}

/// What a reference stands for.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// The commit.
    commit: String,
    /// What to fetch: a full name of a reference, or the commit itself.
    name: String,
    /// The tag's own name, where it is an object with words of its own.
    tag: Option<String>,
}

impl Build<'_> {
    /// A commit of a repository.
    pub(super) fn git(&self, op: &pb::SourceOp) -> Result<Sourced, Problem> {
        let asked = Asked::read(op)?;
        let failed = |why: String| Problem::Fetch { what: shown(&asked.remote), why };
        let directory = self.solver.snapshots.temporary()?;
        let git = self.git_for(&asked, &directory)?;
        let repository = self.repository(&asked.remote)?;
        let run = |local, arguments: &[&str]| {
            git.run(&repository.path, local, arguments, self.cancel).map_err(failed)
        };
        if !repository.path.join("HEAD").exists() {
            fs::create_dir_all(&repository.path)
                .map_err(Problem::cache("make", &repository.path))?;
            let object_format = match asked.reference.len() {
                64 if is_hex(&asked.reference) => "--object-format=sha256",
                _ => "--object-format=sha1",
            };
            let init = ["-c", "init.defaultBranch=main", "init", "--bare", "-q", object_format];
            run(false, &[&init[..], &["--template=", "."]].concat())?;
        }
        let found = self.find(&asked, &run)?;
        if let Some(wanted) = &asked.checksum {
            let is = |name: &str| name.starts_with(wanted.as_str());
            if !is(&found.commit) && !found.tag.as_deref().is_some_and(is) {
                let why = format!("its commit is {}, and not {wanted}", found.commit);
                return Err(failed(why));
            }
        }
        let mut key = KeyBuilder::new("git").with(&found.commit).with(&asked.folder);
        key = key.with([u8::from(asked.keep_git), u8::from(asked.submodules)]);
        if asked.keep_git {
            // It is written down in there.
            key = key.with(&asked.remote).with(&asked.reference);
        }
        let key = key.finish();
        let layers = |snapshot| {
            let layers = Layers::made(key.clone(), &Layers::scratch(), &snapshot);
            Sourced { files: FileSystem::Layers(Arc::new(layers)), names: found.names(&asked) }
        };
        if let Some(known) = self.solver.snapshots.get(&key)? {
            return Ok(layers(known));
        }
        if run(false, &["cat-file", "-e", &format!("{}^{{commit}}", found.commit)]).is_err() {
            let kept = format!("+{}:{KEPT}/{}", found.name, found.commit);
            let one = ["fetch", "-q", "--depth=1", "--no-tags", "--", &asked.remote, &kept];
            let one = run(false, &one);
            if let Err(e) = one {
                if found.name != found.commit {
                    return Err(e);
                }
                self.fetch_all(&asked, &run)?;
            }
        }
        self.check_out(&asked, &found, &git, &repository.path, &directory)?;
        Ok(layers(directory.commit(&key)?))
    }

    /// Finds out which commit is asked for.
    fn find(&self, asked: &Asked, run: Run<'_>) -> Result<Found, Problem> {
        let reference = asked.reference.as_str();
        if is_hex(reference) && matches!(reference.len(), 40 | 64) {
            let (commit, name) = (reference.to_lowercase(), reference.to_lowercase());
            return Ok(Found { commit, name, tag: None });
        }
        let wanted = if reference.is_empty() { "HEAD" } else { reference };
        let peeled = format!("{wanted}^{{}}");
        let list = ["ls-remote", "--symref", "--", &asked.remote, wanted, &peeled];
        let listed = run(false, &list)?;
        if let Some(found) = of_list(&listed, wanted) {
            return Ok(found);
        }
        // It may be the beginning of a commit's name.
        let failed = |why: String| Problem::Fetch { what: shown(&asked.remote), why };
        let missing = || failed(format!("it has no branch, tag or commit {reference:?}"));
        if !is_hex(reference) || reference.len() < 7 {
            return Err(missing());
        }
        self.fetch_all(asked, run)?;
        let commit =
            run(false, &["rev-parse", "-q", "--verify", &format!("{reference}^{{commit}}")]);
        let commit = commit.map_err(|_| missing())?.trim().to_owned();
        Ok(Found { name: commit.clone(), commit, tag: None })
    }

    fn fetch_all(&self, asked: &Asked, run: Run<'_>) -> Result<(), Problem> {
        let shallow = run(false, &["rev-parse", "--is-shallow-repository"])?;
        let unshallow: &[&str] = if shallow.trim() == "true" { &["--unshallow"] } else { &[] };
        let all = format!("+refs/*:{KEPT}/all/*");
        let fetch = [&["fetch", "-q", "--no-tags"], unshallow, &["--", &asked.remote, &all]];
        run(false, &fetch.concat()).map(drop)
    }

    /// Puts the files of a commit into a directory.
    fn check_out(
        &self,
        asked: &Asked,
        found: &Found,
        git: &Git,
        repository: &Path,
        directory: &Temporary,
    ) -> Result<(), Problem> {
        let failed = |why: String| Problem::Fetch { what: shown(&asked.remote), why };
        let tree = directory.path().join("tree");
        fs::DirBuilder::new().mode(0o755).create(&tree).map_err(Problem::cache("make", &tree))?;
        let run = |local, arguments: &[&str]| {
            git.run(&tree, local, arguments, self.cancel).map_err(failed)
        };
        let format =
            format!("--object-format={}", if found.commit.len() == 64 { "sha256" } else { "sha1" });
        run(false, &["-c", "init.defaultBranch=main", "init", "-q", "--template=", &format])?;
        let source = repository.to_string_lossy();
        run(true, &["fetch", "-q", "--depth=1", "--no-tags", "--", &source, &found.commit])?;
        run(false, &["checkout", "-q", "--detach", "FETCH_HEAD"])?;
        let time = run(false, &["log", "-1", "--format=%ct"])?.trim().parse().unwrap_or(0);
        run(false, &["remote", "add", "origin", &without_user(&asked.remote)])?;
        if asked.submodules && tree.join(".gitmodules").exists() {
            let update = ["submodule", "update", "-q", "--init", "--recursive", "--depth=1"];
            run(false, &update)?;
        }
        match asked.keep_git {
            true => {
                // They name a directory of this machine, and a moment.
                let _ = fs::remove_file(tree.join(".git/FETCH_HEAD"));
                let _ = fs::remove_dir_all(tree.join(".git/logs"));
            }
            false => remove_git(&tree).map_err(Problem::cache("change", &tree))?,
        }
        let folder = folder(&tree, &asked.folder).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                failed(format!("the commit has no folder {:?}", asked.folder))
            }
            _ => Problem::cache("read", &tree)(e),
        })?;
        plain(&folder, time).map_err(Problem::cache("change", &folder))?;
        let files = directory.files();
        fs::remove_dir(&files).map_err(Problem::cache("replace", &files))?;
        fs::rename(&folder, &files).map_err(Problem::cache("make", &files))
    }

    /// How git is run: with the secrets and agents that the build has for it.
    fn git_for(&self, asked: &Asked, directory: &Temporary) -> Result<Git, Problem> {
        let mut git = Git::default();
        let attribute = |name: &str| asked.attributes.get(name);
        if let Some((scope, host)) = web_host(&asked.remote) {
            let mut authorized = false;
            for (name, token) in [("git.authheadersecret", false), ("git.authtokensecret", true)] {
                let Some(id) = attribute(name).filter(|_| !authorized) else { continue };
                // One for this host comes before one for all.
                let own = self.secret(&format!("{id}.{host}"), true)?;
                let secret = match own {
                    Some(secret) => Some(secret),
                    None => self.secret(id, true)?,
                };
                let Some(secret) = secret else { continue };
                let value = match token {
                    false => secret.0,
                    true => {
                        let user = [b"x-access-token:", secret.0.trim_ascii()].concat();
                        format!("basic {}", STANDARD.encode(user)).into_bytes()
                    }
                };
                git.header(&scope, &value);
                authorized = true;
            }
        }
        let ssh = asked.remote.starts_with("ssh://") || !asked.remote.contains("://");
        if ssh {
            let id = attribute("git.mountsshsock").map_or("default", String::as_str);
            let agent = self.inputs.ssh.get(id).ok_or_else(|| Problem::NoSsh(id.to_owned()))?;
            let known = match attribute("git.knownsshhosts") {
                Some(text) => {
                    let path = directory.path().join("known_hosts");
                    fs::write(&path, text).map_err(Problem::cache("write", &path))?;
                    Some(path)
                }
                None => None,
            };
            git.ssh(agent, known.as_deref());
        }
        Ok(git)
    }

    /// What was fetched of a remote until now, for this build alone as long as it is there.
    fn repository(&self, remote: &str) -> Result<Repository, Problem> {
        let name = KeyBuilder::new("git repository").with(remote).finish();
        let directory = self.note("git", &name)?;
        let path = directory.join("lock");
        loop {
            fs::create_dir_all(&directory).map_err(Problem::cache("make", &directory))?;
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(Problem::cache("open", &path))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if same(&file, &path) => {
                    // For people, and for those who clean up.
                    let _ = fs::write(directory.join("id"), without_user(remote));
                    let _ = file.set_modified(std::time::SystemTime::now());
                    return Ok(Repository { path: directory.join("repo"), _lock: file });
                }
                // It was removed before it was locked.
                Ok(()) => continue,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(Problem::cache("lock", &path)(e.into())),
            }
            if self.cancel.is_cancelled() {
                let why = "the build was stopped".to_owned();
                return Err(Problem::Fetch { what: shown(remote), why });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Runs git in the repository.
type Run<'a> = &'a dyn Fn(bool, &[&str]) -> Result<String, Problem>;

struct Repository {
    path: PathBuf,
    _lock: File,
}

impl Asked {
    fn read(op: &pb::SourceOp) -> Result<Self, Problem> {
        let rest = op.identifier.strip_prefix("git://").unwrap_or(&op.identifier);
        let (address, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut asked = Self {
            remote: format!("https://{address}"),
            reference: reference.to_owned(),
            folder: folder.trim_matches('/').to_owned(),
            keep_git: false,
            submodules: true,
            checksum: None,
            attributes: op.attrs.clone(),
        };
        let invalid =
            |what: &str, value: &str| Problem::Invalid(format!("{value:?} is no {what} of git"));
        for (key, value) in &op.attrs {
            match key.as_str() {
                "git.fullurl" => asked.remote.clone_from(value),
                "git.keepgitdir" => asked.keep_git = value == "true",
                "git.skipsubmodules" => asked.submodules = value != "true",
                "git.checksum" => {
                    if !is_hex(value) || value.len() < 7 {
                        return Err(invalid("commit", value));
                    }
                    asked.checksum = Some(value.to_lowercase());
                }
                "git.fetchbycommit" => {}
                "git.mtime" if matches!(value.as_str(), "checkout" | "commit") => {}
                "git.authtokensecret"
                | "git.authheadersecret"
                | "git.knownsshhosts"
                | "git.mountsshsock" => {}
                _ => return Err(Problem::Unsupported(format!("{key} of a git repository"))),
            }
        }
        if asked.remote.starts_with('-') {
            return Err(invalid("URL", &asked.remote));
        }
        if !asked.remote.contains("://") && !asked.remote.contains('@') {
            asked.remote = format!("https://{}", asked.remote);
        }
        // Nothing of these may be taken for an option, nor for one of git's ways to run programs.
        let known = ["https://", "http://", "git://", "ssh://"];
        let scp = !asked.remote.contains("://") && asked.remote.contains(':');
        let strange = |c: char| c.is_ascii_control() || c == ' ';
        if !(known.iter().any(|scheme| asked.remote.starts_with(scheme)) || scp)
            || asked.remote.contains("::")
            || asked.remote.contains(strange)
        {
            return Err(invalid("URL", &asked.remote));
        }
        let special = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
        let reference = &asked.reference;
        if reference.starts_with('-') || reference.contains("..") || reference.contains(special) {
            return Err(invalid("reference", reference));
        }
        Ok(asked)
    }
}

impl Found {
    /// What BuildKit calls it.
    fn names(&self, asked: &Asked) -> Vec<String> {
        // A commit that was asked for by its own name has no other.
        let reference = Some(self.name.as_str()).filter(|name| *name != self.commit);
        let ids = [Some(self.commit.as_str()), self.tag.as_deref()];
        let name = |id| {
            let (keep_git, submodules) = (asked.keep_git, asked.submodules);
            Commit { id, reference, folder: &asked.folder, keep_git, submodules }.name()
        };
        ids.into_iter().flatten().map(name).collect()
    }
}

/// Finds a reference in what `git ls-remote --symref` writes: a branch before a tag, as BuildKit
/// and `git checkout` have it.
fn of_list(listed: &str, wanted: &str) -> Option<Found> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    // The branch that the wanted name stands for.
    let mut branch = None;
    for (id, name) in listed.lines().filter_map(|line| line.split_once('\t')) {
        match id.strip_prefix("ref: ") {
            Some(target) if name == wanted => branch = Some(target),
            Some(_) => {}
            None => drop(all.insert(name, id)),
        }
    }
    if let (Some(branch), Some(id)) = (branch, all.get(wanted).copied()) {
        all.insert(branch, id);
    }
    let names = [
        branch.unwrap_or(wanted).to_owned(),
        format!("refs/{wanted}"),
        format!("refs/heads/{wanted}"),
        format!("refs/tags/{wanted}"),
    ];
    let name = names.iter().find(|name| all.contains_key(name.as_str()))?;
    let own = all[name.as_str()];
    let (commit, tag) = match all.get(format!("{name}^{{}}").as_str()) {
        Some(commit) => (*commit, Some(own.to_owned())),
        None => (own, None),
    };
    let good = matches!(commit.len(), 40 | 64) && is_hex(commit);
    good.then(|| Found { commit: commit.to_owned(), name: name.clone(), tag })
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Scheme and host of a web server, as a scope of git's configuration, and the host alone.
fn web_host(remote: &str) -> Option<(String, String)> {
    let url = reqwest::Url::parse(remote).ok()?;
    let host = url.host_str()?.to_owned();
    if !matches!(url.scheme(), "https" | "http") {
        return None;
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some((format!("{}://{host}{port}/", url.scheme()), host))
}

/// A URL as it may be shown.
fn shown(remote: &str) -> String {
    format!("the git repository {}", without_user(remote))
}

fn without_user(remote: &str) -> String {
    match reqwest::Url::parse(remote) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(None);
            let _ = url.set_username("");
            url.to_string()
        }
        _ => remote.to_owned(),
    }
}

/// A folder of what was checked out. Links lead nowhere.
fn folder(tree: &Path, folder: &str) -> io::Result<PathBuf> {
    let root = Root::open(tree)?;
    let relative: PathBuf = Path::new(folder).iter().filter(|part| *part != ".").collect();
    root.open_resolved(&relative, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok(tree.join(relative))
}

/// Removes all that git has written for itself: in the root, and in submodules.
fn remove_git(tree: &Path) -> io::Result<()> {
    let mut open = vec![tree.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let is_directory = entry.file_type()?.is_dir();
            match (entry.file_name().as_encoded_bytes() == b".git", is_directory) {
                (true, true) => fs::remove_dir_all(entry.path())?,
                (true, false) => fs::remove_file(entry.path())?,
                (false, true) => open.push(entry.path()),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// Gives all files one time, and the permissions that git knows: 755 and 644.
fn plain(tree: &Path, time: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut open = vec![tree.to_owned()];
    let mut directories = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                open.push(entry.path());
                continue;
            }
            if metadata.is_file() {
                let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
            }
            utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        directories.push(directory);
    }
    for directory in directories {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        utimensat(CWD, &directory, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(identifier: &str, attributes: &[(&str, &str)]) -> Result<Asked, String> {
        let attrs = attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Asked::read(&pb::SourceOp { identifier: identifier.into(), attrs })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_asked_is_in_the_identifier_and_the_url() {
        let asked = asked(
            "git://example.com/a/b.git#v1:sub/dir",
            &[("git.fullurl", "ssh://git@example.com/a/b.git"), ("git.keepgitdir", "true")],
        );
        let asked = asked.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(asked.remote, "ssh://git@example.com/a/b.git");
        assert_eq!((asked.reference.as_str(), asked.folder.as_str()), ("v1", "sub/dir"));
        assert!(asked.keep_git && asked.submodules);
    }

    #[test]
    fn nothing_that_is_asked_is_an_option_or_a_program() {
        for url in ["-u/bin/sh", "ext::sh -c id", "file:///etc", "https://x/ y", "a@b:c::d"] {
            assert!(asked("git://x/y", &[("git.fullurl", url)]).is_err(), "{url}");
        }
        for reference in ["--upload-pack=x", "a..b", "a b", "a^{}", "x~1"] {
            assert!(asked(&format!("git://x/y#{reference}"), &[]).is_err(), "{reference}");
        }
    }

    #[test]
    fn a_tag_stands_for_its_commit_and_comes_after_a_branch() {
        let [a, b, c] = ["a", "b", "c"].map(|x| x.repeat(40));
        let list = format!("{a}\trefs/heads/v1\n{b}\trefs/tags/v1\n{c}\trefs/tags/v1^{{}}\n");
        let name = "refs/tags/v1".to_owned();
        let tag = Found { commit: c, name, tag: Some(b) };
        assert_eq!(of_list(&list[list.find('\n').unwrap() + 1..], "v1").as_ref(), Some(&tag));
        assert_eq!(of_list(&list, "refs/tags/v1"), Some(tag));
        let name = "refs/heads/v1".to_owned();
        let found = || Some(Found { commit: a.clone(), name: name.clone(), tag: None });
        assert_eq!(of_list(&list, "v1"), found());
        assert_eq!(of_list(&list, "refs/heads/v1"), found());
        let head = format!("ref: refs/heads/v1\tHEAD\n{a}\tHEAD\n");
        assert_eq!(of_list(&head, "HEAD"), found());
        assert_eq!(of_list(&list, "v2"), None);
        assert_eq!(of_list("bad\tHEAD\n", "HEAD"), None);
    }
}
