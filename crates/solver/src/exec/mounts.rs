//! The file systems that a command sees.

use std::ffi::CString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, makedev, mknodat,
    symlinkat, unlinkat,
};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};

use super::stage::failed;
use super::{Mount, MountSource, Process, stubs};
use crate::namespace::{self, Ids};
use crate::rooted::Root;

/// No setuid programs, devices or programs at all.
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// What is in `/dev`: name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// What of `/proc` changes the machine. Docker lets it be read only.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// What of `/proc` tells of the machine's memory and of other processes. Docker hides it.
const HIDDEN: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// Mounts everything in the root of a command, seen by this mount namespace only.
pub(super) fn mount_all(
    root: &Path,
    process: &Process,
    hostname: &str,
    resolv_conf: Option<&str>,
) -> Result<(), String> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(failed("leave the mounts of the machine"))?;
    // What is to become the root must be a mount.
    mount_bind_recursive(root, root).map_err(failed("mount the root"))?;
    let root = Root::open(root).map_err(failed("open the root"))?;

    let dev = mount_dev(&root)?;
    mount_proc(&root, process.insecure)?;
    // Only who owns the network may have it: with the machine's, that is the machine's root.
    let sys = root.resolve(Path::new("/sys")).map_err(failed("find /sys"))?;
    if let Ok(target) = place(&root, &sys) {
        let flags = if process.insecure { DATA } else { DATA | MountFlags::RDONLY };
        let mounted = mount("sysfs", in_proc(&target), "sysfs", flags, None);
        if mounted.is_err() && process.insecure {
            // Then the machine's own, of which its root lets others change nothing.
            let _ = mount_bind_recursive("/sys", in_proc(&target));
        }
    }
    let mut hosts =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &process.hosts {
        hosts += &format!("{address}\t{name}\n");
    }
    mount_text(&root, &dev, "/etc/hosts", &hosts)?;
    if let Some(text) = resolv_conf {
        mount_text(&root, &dev, "/etc/resolv.conf", text)?;
    }
    for wanted in &process.mounts {
        mount_one(&root, &dev, wanted)
            .map_err(|why| format!("{} cannot be mounted: {why}", wanted.target))?;
    }
    Ok(())
}

/// Makes a directory the root of this mount namespace, and lets go of the old one.
pub(super) fn enter(root: &Path) -> Result<(), String> {
    std::env::set_current_dir(root).map_err(failed("enter the root"))?;
    rustix::process::pivot_root(".", ".").map_err(failed("change the root"))?;
    // The old root lies over the new one now.
    unmount(".", UnmountFlags::DETACH).map_err(failed("leave the old root"))?;
    std::env::set_current_dir("/").map_err(failed("enter the root"))
}

fn mount_dev(root: &Root) -> Result<OwnedFd, String> {
    let path = ordinary(root, "/dev")?;
    let data = options("mode=755,size=65536k");
    let target = place(root, &path)?;
    mount("tmpfs", in_proc(&target), "tmpfs", MountFlags::NOSUID, data.as_c_str())
        .map_err(failed("mount /dev"))?;
    let dev = place(root, &path)?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        let device = makedev(major, minor);
        if mknodat(&dev, name, FileType::CharacterDevice, mode, device).is_ok() {
            // Root of the machine has nodes of its own. Again, without the umask.
            rustix::fs::chmodat(&dev, name, mode, AtFlags::empty())
                .map_err(failed(format!("make /dev/{name}")))?;
            continue;
        }
        // Others borrow the machine's.
        let action = format!("make /dev/{name}");
        let file = make_file(dev.as_fd(), name, b"").map_err(failed(&action))?;
        match mount_bind(format!("/dev/{name}"), in_proc(&file)) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT) => {
                unlinkat(&dev, name, AtFlags::empty()).map_err(failed(&action))?;
            }
            Err(e) => return Err(failed(&action)(e)),
        }
        // A device can be written all the same; its permissions cannot be changed.
        let _ = read_only(root, &path.join(name));
    }
    for (target, name) in LINKS {
        symlinkat(target, &dev, name).map_err(failed(format!("make /dev/{name}")))?;
    }
    let (shm, _) = root.make_directories(&path.join("shm")).map_err(failed("make /dev/shm"))?;
    let data = options("mode=1777,size=65536k");
    mount("shm", in_proc(&place(root, &shm)?), "tmpfs", DATA, data.as_c_str())
        .map_err(failed("mount /dev/shm"))?;
    let (pts, _) = root.make_directories(&path.join("pts")).map_err(failed("make /dev/pts"))?;
    let pts = place(root, &pts)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    // Group 5 is tty; with a single user there is no such group. A build needs no terminal.
    let _ = ["newinstance,ptmxmode=0666,mode=0620,gid=5", "newinstance,ptmxmode=0666,mode=0620"]
        .iter()
        .find(|data| {
            mount("devpts", in_proc(&pts), "devpts", flags, options(data).as_c_str()).is_ok()
        });
    Ok(dev)
}

/// All of `/proc`, or what is nobody's business but the machine's not.
fn mount_proc(root: &Root, all: bool) -> Result<(), String> {
    let path = ordinary(root, "/proc")?;
    let target = place(root, &path)?;
    match mount("proc", in_proc(&target), "proc", DATA, None) {
        Ok(()) => {}
        // In a container whose own /proc is hidden in part, no other may be mounted.
        Err(rustix::io::Errno::PERM) => {
            mount_bind_recursive("/proc", in_proc(&target)).map_err(failed("mount /proc"))?;
        }
        Err(e) => return Err(failed("mount /proc")(e)),
    }
    if all {
        return Ok(());
    }
    for name in READ_ONLY {
        let path = path.join(name);
        let Some(target) = existing(root, &path) else { continue };
        mount_bind_recursive(in_proc(&target), in_proc(&target))
            .map_err(failed(format!("protect /proc/{name}")))?;
        read_only(root, &path).map_err(failed(format!("protect /proc/{name}")))?;
    }
    let null = place(root, &root.resolve(Path::new("/dev/null")).map_err(failed("find null"))?)?;
    for name in HIDDEN {
        let Some(target) = existing(root, &path.join(name)) else { continue };
        let hidden = match is_directory(&target) {
            true => {
                let flags = DATA | MountFlags::RDONLY;
                mount("tmpfs", in_proc(&target), "tmpfs", flags, options("size=0").as_c_str())
            }
            false => mount_bind(in_proc(&null), in_proc(&target)),
        };
        hidden.map_err(failed(format!("hide /proc/{name}")))?;
    }
    Ok(())
}

/// Mounts a text over a file, if there is one. The text is a file of `/dev` that has lost its
/// name: it goes with the namespace, and the command may write to it.
fn mount_text(root: &Root, dev: &OwnedFd, at: &str, text: &str) -> Result<(), String> {
    let Ok(path) = root.resolve(Path::new(at)) else { return Ok(()) };
    let Some(target) = existing(root, &path).filter(|target| !is_directory(target)) else {
        return Ok(());
    };
    let action = format!("mount {at}");
    mount_file(dev, text.as_bytes(), &target, |_| Ok(())).map_err(failed(&action))
}

/// Mounts a new file in memory over another one. It has a name for as long as that takes.
fn mount_file(
    dev: &OwnedFd,
    content: &[u8],
    target: &OwnedFd,
    prepare: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    const NAME: &str = ".unnamed";
    let file = make_file(dev.as_fd(), NAME, content)?;
    prepare(&file)?;
    mount_bind(in_proc(&file), in_proc(target))?;
    Ok(unlinkat(dev, NAME, AtFlags::empty())?)
}

/// Gives a file away. Where there is a single user, it is of use to that one only.
fn set_owner(file: &OwnedFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    if namespace::ids() == Ids::Single {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

fn mount_one(root: &Root, dev: &OwnedFd, wanted: &Mount) -> Result<(), String> {
    let target = Path::new(&wanted.target);
    // A mount before this one may have covered what was made for it.
    let path = match stubs::is_file(&wanted.source)? {
        false => root.make_directories(target).map_err(failed("make the mount point"))?.0,
        true => {
            let path = root.resolve(target).map_err(failed("find the mount point"))?;
            let parent = path.parent().unwrap_or(Path::new(""));
            root.make_directories(parent).map_err(failed("make the mount point"))?;
            match root.open_resolved(&path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("make the mount point")(e));
                }
                _ => path,
            }
        }
    };
    if path.as_os_str().is_empty() {
        return Err("it is the root itself".into());
    }
    let target = place(root, &path)?;
    match &wanted.source {
        MountSource::Directory { root: source, selector } => {
            let source = Root::open(source)
                .and_then(|source| source.open_at(Path::new(selector), OFlags::PATH))
                .map_err(failed("open its source"))?;
            mount_bind_recursive(in_proc(&source), in_proc(&target)).map_err(failed("mount it"))?;
        }
        MountSource::Tmpfs { size } => {
            let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
            let data = options(format!("mode=1777{size}"));
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("tmpfs", in_proc(&target), "tmpfs", flags, data.as_c_str())
                .map_err(failed("mount it"))?;
        }
        MountSource::Secret { content, owner, mode } => {
            let prepare = |file: &OwnedFd| {
                set_owner(file, *owner)?;
                Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?)
            };
            mount_file(dev, &content.0, &target, prepare).map_err(failed("mount it"))?;
        }
    }
    if wanted.readonly {
        read_only(root, &path).map_err(failed("protect it"))?;
    }
    Ok(())
}

/// This program's own file, by way of a mount of its own that is read-only and seen nowhere.
pub(super) fn read_only_program() -> io::Result<OwnedFd> {
    const EXE: &str = "/proc/self/exe";
    let path = std::fs::read_link(EXE)?;
    let open = || rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    mount_bind(&path, &path)?;
    let file = open().map_err(io::Error::from).and_then(|file| {
        protect(&file)?;
        Ok(file)
    });
    unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    let file = file?;
    // Another one may have taken its place.
    let (found, wanted) = (fstat(&file)?, rustix::fs::stat(EXE)?);
    match (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) {
        true => Ok(file),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Lets nobody write to the mount at a path.
fn read_only(root: &Root, path: &Path) -> io::Result<()> {
    protect(&root.open_resolved(path, OFlags::PATH)?)
}

/// Lets nobody write to a mount. A user namespace may not drop the other flags.
fn protect(target: &OwnedFd) -> io::Result<()> {
    let has = fstatvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (is, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if has.contains(is) {
            flags |= flag;
        }
    }
    Ok(mount_remount(in_proc(target), flags, "")?)
}

/// A directory of the root that is where its name says, rather than behind a link: what comes
/// later relies on it.
fn ordinary(root: &Root, path: &str) -> Result<PathBuf, String> {
    let relative = PathBuf::from(path.trim_start_matches('/'));
    let found = root.open_resolved(&relative, OFlags::PATH | OFlags::DIRECTORY);
    match found {
        Ok(_) => Ok(relative),
        Err(_) => Err(format!("{path} of the image is not a directory")),
    }
}

/// A descriptor of what is at a resolved path, mounts included.
fn place(root: &Root, path: &Path) -> Result<OwnedFd, String> {
    root.open_resolved(path, OFlags::PATH).map_err(failed(format!("find /{}", path.display())))
}

fn existing(root: &Root, path: &Path) -> Option<OwnedFd> {
    root.open_resolved(path, OFlags::PATH).ok()
}

fn is_directory(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// A path for what takes only paths. It is this process's own `/proc`, not the image's.
fn in_proc(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn make_file(parent: BorrowedFd<'_>, name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
    let mut file = File::from(file);
    file.write_all(content)?;
    Ok(file.into())
}

fn options(text: impl Display) -> CString {
    CString::new(text.to_string()).expect("options have no zero byte")
}
