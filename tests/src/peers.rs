//! Programs of others, in a root of their own: docker, buildah and skopeo as users have them now.
//!
//! `./x peers` makes that root and links it to `target/peers`; `./x test` does, too. Entering it
//! takes mount and process namespaces, so a test asks first whether it can:
//!
//! ```no_run
//! # use koskit_tests::{Peers, skip};
//! # fn test() {
//! let peers = match Peers::enter() {
//!     Ok(peers) => peers,
//!     Err(why) => return skip(why),
//! };
//! peers.must("buildah", &["--version"]);
//! # }
//! ```
//!
//! The project's folder is in it where it is outside, so files of a [`Home`](crate::Home) have
//! the same paths for both sides. All else that is written there is gone with the [`Peers`].

use crate::{Said, root};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use tempfile::TempDir;

/// Makes the root and enters it; then process 1 of it runs [`INIT`].
///
/// `$1` is the root of the peers, `$2` the project, `$3` our own folder; the service follows.
const ENTER: &str = r#"
    set -eu
    peers=$1 project=$2 folder=$3 root=$3/root
    shift 3
    mkdir "$folder/upper" "$folder/work" "$root" "$folder/home"
    mount -t overlay -o "lowerdir=$peers,upperdir=$folder/upper,workdir=$folder/work" peers "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mkdir -p "$root$project"
    mount --bind "$project" "$root$project"
    mount --bind "$folder" "$root$folder"
    mkdir "$root/run/old"
    cd "$root"
    pivot_root . run/old
    exec /usr/bin/unshare --pid --fork --kill-child /bin/sh -eu -c "$INIT" init "$folder" "$@"
"#;

/// Runs the service until standard input ends, which it does with the test, however that ends.
/// With this process everything in the namespace ends.
const INIT: &str = r#"
    folder=$1
    shift
    mount -t proc proc /proc
    umount -l /run/old
    echo ready
    if [ $# != 0 ]; then
        "$@" </dev/null >"$folder/log" 2>&1 &
    fi
    cat >/dev/null
    if [ $# != 0 ]; then
        # What it has mounted it shall unmount, or nobody can remove it.
        kill "$!" 2>/dev/null && timeout 10 tail -f --pid="$!" /dev/null || true
    fi
    rm -rf --one-file-system "$folder/data" "$folder/home"
"#;

/// The entered root; left, and everything ended that runs in it, when this is dropped or the
/// test process ends.
pub struct Peers {
    child: Child,
    lifeline: Option<ChildStdin>,
    folder: TempDir,
}

impl Peers {
    /// Enters the root.
    ///
    /// # Errors
    /// Why this machine does not have it: what [`skip`](crate::skip) shall say.
    pub fn enter() -> Result<Self, String> {
        Self::with_service(|_| Vec::new())
    }

    /// The same, and starts a program there; its words are made of the folder that it can have.
    pub(crate) fn with_service(words: impl Fn(&Path) -> Vec<String>) -> Result<Self, String> {
        let peers = root().join("target/peers");
        let peers = fs::canonicalize(&peers).map_err(|_| {
            "there is no root of peers (target/peers); run ./x peers as root".to_owned()
        })?;
        let parent = root().join("target/tests");
        fs::create_dir_all(&parent).unwrap();
        let folder = tempfile::Builder::new().prefix("peers").tempdir_in(parent).unwrap();
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", ENTER, "enter"])
            .args([&peers, root(), folder.path()])
            .args(words(folder.path()))
            .env("INIT", INIT)
            .env("PATH", PATH)
            .env("HOME", folder.path().join("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start unshare: {error}"))?;
        let lifeline = child.stdin.take();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        stdout.read_line(&mut line).unwrap();
        if line != "ready\n" {
            drop(lifeline);
            let said = Said::of(child.wait_with_output().unwrap());
            let why = said.stderr.trim().replace('\n', "; ");
            return Err(format!("the root of peers cannot be entered here: {why}"));
        }
        Ok(Self { child, lifeline, folder })
    }

    /// A folder for its files, with the same path on both sides.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program of theirs, which will run in the folder `inside`, a path of the project's.
    /// Killing the command leaves the program running until the root is left.
    pub fn command(&self, inside: &Path, program: &str, words: &[&str]) -> Command {
        let namespaces = format!("/proc/{}/ns", self.child.id());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={namespaces}/mnt"))
            .arg(format!("--pid={namespaces}/pid_for_children"))
            .args(["--", "env", "-C"])
            .args([inside.as_os_str(), program.as_ref()])
            .args(words)
            .env("PATH", PATH)
            .env("HOME", self.folder().join("home"))
            .env_remove("TMPDIR")
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program of theirs to its end, in the project's root.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(&self, program: &str, words: &[&str]) -> Said {
        Said::of(self.command(root(), program, words).output().unwrap())
    }

    /// The same, for what must work.
    ///
    /// # Panics
    /// It does not.
    pub fn must(&self, program: &str, words: &[&str]) -> Said {
        let said = self.run(program, words);
        assert_eq!(said.code, 0, "{program} {words:?}:\n{}{}", said.stdout, said.stderr);
        said
    }

    /// Whether the root, and what runs in it, has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.child.wait();
    }
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_write_is_seen_here_in_the_project_and_nowhere_else() {
        let peers = match Peers::enter() {
            Ok(peers) => peers,
            Err(why) => return crate::skip(why),
        };
        let inside = peers.folder().join("seen");
        let words = format!("echo seen >{} && echo x >/usr/bin/unseen", inside.display());
        peers.must("sh", &["-c", &words]);
        assert_eq!(fs::read_to_string(inside).unwrap(), "seen\n");
        assert!(!Path::new("/usr/bin/unseen").exists());
        assert!(!root().join("target/peers/usr/bin/unseen").exists());
        assert!(peers.must("buildah", &["--version"]).stdout.starts_with("buildah version"));
        let folder = peers.folder().to_owned();
        drop(peers);
        assert!(!folder.exists());
    }

    #[test]
    fn what_runs_there_ends_with_the_lifeline() {
        let mut peers = match Peers::enter() {
            Ok(peers) => peers,
            Err(why) => return crate::skip(why),
        };
        let mut sleep = peers.command(root(), "sleep", &["1000"]).spawn().unwrap();
        // What the end of this process would do, too.
        drop(peers.lifeline.take());
        assert!(!sleep.wait().unwrap().success());
        peers.child.wait().unwrap();
    }
}
