//! How the solver comes to mount file systems without being root.
//!
//! [`enter`] moves the *whole process* into namespaces of its own: there is no second process
//! that would do the solver's work, so whatever koskit writes, it writes from inside.
//!
//! - Root with `CAP_SYS_ADMIN` gets a mount namespace: its mounts are seen by nobody else and
//!   end with the process.
//! - Everybody else gets a user namespace as well. User 0 inside is the user outside, so files in
//!   the store and on the command line are read and written as before and stay the user's.
//!   Users 1 and up are the ranges that `/etc/subuid` and `/etc/subgid` give to the user, set by
//!   `newuidmap` and `newgidmap`; where there are none, user 0 is the only one ([`Ids::Single`]),
//!   and an image's owners are recorded in an attribute instead.
//! - Root without `CAP_SYS_ADMIN`, as in many a container, gets a user namespace in which all
//!   numbers mean what they mean outside.
//!
//! A process can only enter a user namespace while it has a single thread, so [`enter`] belongs
//! at the start of a command.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe};
use thiserror::Error;

/// The users and groups that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// All those of an image: at least 0 to 65535.
    Many,
    /// User 0 and group 0, which are the caller's. `chown` to another fails, and so do programs
    /// that change to another user.
    Single,
}

/// What a user does to have more than [`Ids::Single`].
pub(crate) const MORE_IDS: &str = "install uidmap and give yourself others with `sudo usermod \
     --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`";

/// Why there are no namespaces for the solver.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The kernel or what guards it says no.
    #[error("a build needs a user namespace, and the system does not allow one: {hint}")]
    Forbidden {
        /// What to do about it.
        hint: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Too late.
    #[error("a build must enter its namespaces before the process starts a second thread")]
    Threads,
    /// Something else.
    #[error("cannot {action} for the namespaces of a build")]
    System {
        /// A verb and its object.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Whether this process has entered a user namespace of its own.
static USER: AtomicBool = AtomicBool::new(false);
/// Whether this process has entered.
static ENTERED: Mutex<bool> = Mutex::new(false);

/// Moves this process to where it may mount. The second call does nothing.
///
/// # Errors
/// The system does not allow user namespaces, or the process has several threads already.
pub fn enter() -> Result<(), NamespaceError> {
    let mut entered = ENTERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if *entered {
        return Ok(());
    }
    if !enter_as_root()? {
        enter_as_user()?;
        USER.store(true, Ordering::Relaxed);
    }
    // A mount namespace begins with mounts that tell each other about theirs.
    let private = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| forbidden(e.into()))?;
    *entered = true;
    Ok(())
}

/// Whether [`enter`] has moved this process into a user namespace of its own.
pub(crate) fn is_user() -> bool {
    USER.load(Ordering::Relaxed)
}

/// Moves this process, which is root, into a user namespace with the users that there are here.
pub(crate) fn enter_same() -> Result<(), NamespaceError> {
    enter_as_user()
}

/// The users and groups of the namespace that this process is in.
pub fn ids() -> Ids {
    // It may be the machine's own, with all of them.
    let covers =
        |map: Vec<[u32; 3]>| map.iter().map(|&[_, _, count]| u64::from(count)).sum::<u64>();
    let many = |file| id_map(file).is_ok_and(|map| covers(map) > 65_535);
    if many("/proc/self/uid_map") && many("/proc/self/gid_map") { Ids::Many } else { Ids::Single }
}

/// The name of a directory for files that are written by these users and groups: the same
/// number on the disk is another owner in another namespace.
pub(crate) fn ids_name() -> io::Result<String> {
    let name = |map: Vec<[u32; 3]>| {
        let parts =
            map.iter().map(|[inside, outside, count]| format!("{inside}.{outside}.{count}"));
        parts.collect::<Vec<_>>().join("_")
    };
    let (users, groups) =
        (name(id_map("/proc/self/uid_map")?), name(id_map("/proc/self/gid_map")?));
    Ok(if users == groups { users } else { format!("{users}-{groups}") })
}

/// A mount namespace, if this process may have one as it is.
fn enter_as_root() -> Result<bool, NamespaceError> {
    let mine = capabilities(None).map_err(system("read the capabilities"))?;
    if !getuid().is_root() || !mine.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(false);
    }
    // SAFETY: the table of open files stays shared, which is all that the function asks for.
    match unsafe { unshare_unsafe(UnshareFlags::NEWNS) } {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM) => Ok(false),
        Err(e) => Err(system("make a mount namespace")(e)),
    }
}

fn enter_as_user() -> Result<(), NamespaceError> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let script = mapping_script(uid, gid);
    // It is started before, since it takes the rights of the outside to set a map.
    let mut helper = script.map(spawn_helper).transpose()?;
    // SAFETY: as above.
    let entered = unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) };
    if let Err(e) = entered {
        if let Some(helper) = &mut helper {
            // It waits for a line that does not come.
            drop(helper.stdin.take());
            let _ = helper.wait();
        }
        let threads = fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
        return Err(match e {
            rustix::io::Errno::INVAL if threads > 1 => NamespaceError::Threads,
            e => forbidden(e.into()),
        });
    }
    if let Some(mut helper) = helper {
        if let Some(mut stdin) = helper.stdin.take() {
            // One that has died already says so by its status.
            let _ = stdin.write_all(b"\n");
        }
        let _ = helper.wait();
    }
    // What the helper has not done, and everything where there was none.
    let write = |file: &str, text: String| {
        fs::write(Path::new("/proc/self").join(file), text)
            .map_err(|source| NamespaceError::System { action: "map users and groups", source })
    };
    let mapped = |file| id_map(file).is_ok_and(|map| !map.is_empty());
    if !mapped("/proc/self/uid_map") {
        write("uid_map", format!("0 {uid} 1\n"))?;
    }
    if !mapped("/proc/self/gid_map") {
        write("setgroups", "deny".into())?;
        write("gid_map", format!("0 {gid} 1\n"))?;
    }
    Ok(())
}

/// A shell script that maps more than one user and group for the process `$1`.
fn mapping_script(uid: u32, gid: u32) -> Option<String> {
    if uid == 0 {
        // Those that there are here, as they are.
        let same = |file| {
            let map = id_map(file).ok()?;
            let lines = map.iter().map(|[first, _, count]| format!(r"{first} {first} {count}\n"));
            Some(lines.collect::<String>())
        };
        let (users, groups) = (same("/proc/self/uid_map")?, same("/proc/self/gid_map")?);
        return Some(format!(
            "printf '{users}' >/proc/$1/uid_map && printf '{groups}' >/proc/$1/gid_map"
        ));
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&passwd, uid);
    let arguments = |file, own: u32| {
        let ranges = subordinate(&fs::read_to_string(file).ok()?, name, uid);
        let mut next = 1;
        let mut arguments = format!("0 {own} 1");
        for (first, count) in &ranges {
            arguments += &format!(" {next} {first} {count}");
            next += count;
        }
        (next > 1).then_some(arguments)
    };
    let (users, groups) = (arguments("/etc/subuid", uid)?, arguments("/etc/subgid", gid)?);
    Some(format!("newuidmap \"$1\" {users} && newgidmap \"$1\" {groups}"))
}

/// A shell that runs a script as soon as it reads a line. Its words go nowhere: if it fails,
/// there is one user, which [`ids`] tells.
fn spawn_helper(script: String) -> Result<std::process::Child, NamespaceError> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("read -r _ && {script}")).arg("sh");
    command.arg(std::process::id().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|source| NamespaceError::System { action: "start /bin/sh", source })
}

/// The name of a user in the text of `/etc/passwd`.
fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// A user's ranges in the text of `/etc/subuid` or `/etc/subgid`, as first number and count.
fn subordinate(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let user = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let theirs = Some(user) == name || user.parse() == Ok(uid);
        (theirs && count > 0).then_some((first, count))
    });
    // More than a few are of no use, and Linux takes no more than 340.
    ranges.take(16).collect()
}

/// The lines of a map of users or groups: first number inside, first one outside, count.
fn id_map(file: &str) -> io::Result<Vec<[u32; 3]>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next()??])
    };
    Ok(fs::read_to_string(file)?.lines().filter_map(line).collect())
}

fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> NamespaceError {
    move |e| NamespaceError::System { action, source: e.into() }
}

/// An error that names the switch that is off.
fn forbidden(source: io::Error) -> NamespaceError {
    let is = |file: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(file)).is_ok_and(|v| v.trim() == value)
    };
    let set = |key: &str, value: &str| format!("run `sudo sysctl -w {key}={value}`");
    let hint = if is("user/max_user_namespaces", "0") {
        set("user.max_user_namespaces", "15000")
    } else if is("kernel/unprivileged_userns_clone", "0") {
        set("kernel.unprivileged_userns_clone", "1")
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        set("kernel.apparmor_restrict_unprivileged_userns", "0")
    } else if !Path::new("/proc/self/ns/user").exists() {
        "its kernel has none (CONFIG_USER_NS)".into()
    } else {
        "run koskit as root; inside a container, start that with `--privileged` or with \
         `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
            .into()
    };
    NamespaceError::Forbidden { hint, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, inside};

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "ann:100000:65536\nbob:165536:65536\n1000:300000:10\nann:x:1\n#\n\nann:7:0\n";
        assert_eq!(subordinate(text, Some("ann"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(subordinate(text, None, 5), []);
    }

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbad\n";
        assert_eq!(user_name(passwd, 1000), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn a_process_inside_may_mount_and_its_files_are_those_of_the_user_outside() {
        inside(|world, dir| {
            assert!(getuid().is_root());
            let wanted = if world == World::Single { Ids::Single } else { Ids::Many };
            assert_eq!(ids(), wanted);
            let same = matches!(world, World::Root | World::Bare);
            assert_eq!(ids_name().unwrap().starts_with("0.0."), same);
            let target = dir.join("mounted");
            fs::create_dir(&target).unwrap();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", &target, "tmpfs", flags, None).unwrap();
            fs::write(target.join("file"), "").unwrap();
        });
    }
}
