//! Tests of what takes namespaces.
//!
//! A test cannot enter a user namespace: it is one thread of several. So [`inside`] starts the
//! test's program again, for this test alone, and there the namespaces are entered before `main`,
//! while there is one thread.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::CapabilitySet;

use crate::namespace::{self, Ids, NamespaceError};

/// What the process was before it entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Root.
    Root,
    /// A user with subordinate users.
    Many,
    /// A user with none.
    Single,
    /// Root without CAP_SYS_ADMIN, as in a container.
    Bare,
}

/// Names the world to a program that is started again.
const WORLD: &str = "KOSKIT_TEST_WORLD";
/// And the directory.
const DIRECTORY: &str = "KOSKIT_TEST_DIRECTORY";
/// A user who need not exist.
const USER: u32 = 4711;
/// The statuses of a program that cannot do its test here.
const NO_BIND: i32 = 77;
const NO_NAMESPACE: i32 = 78;

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    crate::init();
    if std::env::var_os(WORLD).is_some() {
        if let Err(e) = crate::namespace::enter() {
            println!("{e}: {:?}", std::error::Error::source(&e));
            let forbidden = matches!(e, NamespaceError::Forbidden { .. });
            std::process::exit(if forbidden { NO_NAMESPACE } else { 1 });
        }
    }
}

/// Runs a closure inside namespaces, as root and as users, with a directory of its own that is
/// empty. What cannot be tried is skipped, and said.
pub fn inside<F: Fn(World, &Path)>(test: F) {
    if let Some(world) = std::env::var_os(WORLD) {
        let world = match world.to_str() {
            Some("Root") => World::Root,
            Some("Bare") => World::Bare,
            Some("Many") => World::Many,
            Some("Single") => World::Single,
            _ if namespace::ids_name().unwrap().starts_with("0.0.") => World::Bare,
            _ if namespace::ids() == Ids::Many => World::Many,
            _ => World::Single,
        };
        return test(world, &PathBuf::from(std::env::var_os(DIRECTORY).unwrap()));
    }
    // The closure's own name is that of the test.
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").unwrap().1.trim_end_matches("::{{closure}}");
    let mine = rustix::thread::capabilities(None).unwrap().effective;
    let root = rustix::process::getuid().is_root() && mine.contains(CapabilitySet::SYS_ADMIN);
    // Others can only be who they are.
    let worlds = match root {
        true => [World::Root, World::Many, World::Single, World::Bare].map(Some).to_vec(),
        false => vec![None],
    };
    for world in worlds {
        if let Err(why) = run(name, world) {
            let world = world.map_or("this user".into(), |world| format!("{world:?}"));
            println!("skipped: {name} as {world}: {why}");
        }
    }
}

fn run(name: &str, world: Option<World>) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let beside = tempfile::tempdir().unwrap();
    let mut program = std::env::current_exe().unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c");
    let has = |name: &str| Command::new(name).arg("--version").output().is_ok();
    if matches!(world, Some(World::Many | World::Single | World::Bare)) && !has("setpriv") {
        return Err("there is no setpriv".into());
    }
    if world == Some(World::Many) && !has("newuidmap") {
        return Err("there is no newuidmap (package uidmap)".into());
    }
    let other_user = matches!(world, Some(World::Many | World::Single));
    if world == Some(World::Bare) {
        command.arg("exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"");
    } else if other_user {
        let readable = |path: &Path| {
            path.ancestors().all(|p| fs::metadata(p).is_ok_and(|m| m.permissions().mode() & 5 == 5))
        };
        if !readable(&program) {
            // As in a root's home directory.
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(beside.path(), mode).unwrap();
            let to = beside.path().join("program");
            fs::hard_link(&program, &to).or_else(|_| fs::copy(&program, &to).map(|_| ())).unwrap();
            program = to;
        }
        std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).unwrap();
        let (ids, users) = (beside.path().join("ids"), beside.path().join("users"));
        let range =
            if world == Some(World::Many) { format!("{USER}:700000:65536\n") } else { "".into() };
        fs::write(&ids, range).unwrap();
        // newuidmap wants to know the user's name.
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        fs::write(&users, format!("{passwd}koskit-test:x:{USER}:{USER}::/:/bin/sh\n")).unwrap();
        command.arg(format!(
            "for f in /etc/subuid /etc/subgid; do mount --bind {ids} $f || exit {NO_BIND}; done
             mount --bind {users} /etc/passwd || exit {NO_BIND}
             exec setpriv --reuid={USER} --regid={USER} --clear-groups \"$@\"",
            ids = ids.display(),
            users = users.display()
        ));
    } else {
        command.arg("exec \"$@\"");
    }
    command.arg("sh").arg(&program).args(["--exact", name, "--nocapture"]);
    if other_user {
        let mut outer = Command::new("unshare");
        outer.arg("--mount").arg(command.get_program()).args(command.get_args());
        command = outer;
    }
    let world = world.map_or("this user".into(), |world| format!("{world:?}"));
    command.env(WORLD, &world).env(DIRECTORY, dir.path());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    match output.status.code() {
        Some(NO_BIND) => return Err(format!("/etc/subuid cannot be replaced: {text}")),
        Some(NO_NAMESPACE) => return Err(text.into()),
        _ => {}
    }
    assert!(output.status.success(), "{name} as {world}: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "{name} did not run: {text}");
    for line in text.lines().filter(|line| line.starts_with("skipped: ")) {
        println!("{line}");
    }
    Ok(())
}
