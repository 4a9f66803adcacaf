//! Mounts of overlayfs.
//!
//! A list of directories is one string, which Linux cuts off at a page, and paths of users' home
//! directories are long and may have colons. So all are named relative to the directory of the
//! cache, by a thread that has gone there; and where that is too long still, one by one through
//! the newer interface (`fsconfig`, `lowerdir+`: Linux 6.5).

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
    unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// What fits, with what else is in the string.
const MAX_OPTIONS: usize = 4000;

/// What is mounted over what. Paths are relative to a base, without `:`, `,` and `\`.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    /// The topmost first. There must be two where there is no upper one.
    pub lower: Vec<PathBuf>,
    /// Where changes go, and a directory for overlayfs itself on the same file system.
    pub upper: Option<(PathBuf, PathBuf)>,
}

impl Overlay {
    /// Mounts at a path, which is relative too. Devices in it are none.
    pub fn mount(&self, base: &Path, target: &Path) -> io::Result<()> {
        let work = || {
            // SAFETY: the table of open files stays shared; what this thread gets for itself is
            // the working directory.
            unsafe { unshare_unsafe(UnshareFlags::FS)? };
            rustix::process::chdir(base)?;
            let options = self.options();
            let mounted = if options.len() <= MAX_OPTIONS {
                self.mount_with(&options, target)
            } else {
                self.mount_one_by_one(target)
            };
            mounted.map_err(io::Error::from)
        };
        std::thread::scope(|scope| {
            scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn mount_with(&self, options: &str, target: &Path) -> rustix::io::Result<()> {
        let mount = |options: &str| {
            let options = CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
            mount("overlay", target, "overlay", MountFlags::NODEV, options.as_c_str())
        };
        if self.upper.is_none() {
            return mount(options);
        }
        match mount(&format!("{options},volatile")) {
            // Linux before 5.10 does not know it.
            Err(rustix::io::Errno::INVAL) => mount(options),
            other => other,
        }
    }

    fn mount_one_by_one(&self, target: &Path) -> rustix::io::Result<()> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in &self.lower {
            fsconfig_set_string(&fs, "lowerdir+", lower)?;
        }
        if let Some((upper, work)) = &self.upper {
            fsconfig_set_string(&fs, "upperdir", upper)?;
            fsconfig_set_string(&fs, "workdir", work)?;
            fsconfig_set_flag(&fs, "volatile")?;
        }
        fsconfig_set_flag(&fs, "userxattr")?;
        fsconfig_set_string(&fs, "index", "off")?;
        fsconfig_set_string(&fs, "xino", "off")?;
        fsconfig_create(&fs)?;
        let mounted =
            fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mounted, "", rustix::fs::CWD, target, flags)
    }

    /// `userxattr`: overlayfs's own attributes are `user.overlay.*`, which takes no privileges,
    /// and it turns off `redirect_dir` and `metacopy`, with which the upper directory alone
    /// would not be all that was changed. `volatile` is no part of it: what is being built need
    /// not survive a power failure, and `fsync` of each file is what package managers wait for.
    fn options(&self) -> String {
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        let lower = self.lower.iter().map(name).collect::<Vec<_>>().join(":");
        let mut options = format!("userxattr,index=off,xino=off,lowerdir={lower}");
        if let Some((upper, work)) = &self.upper {
            options += &format!(",upperdir={},workdir={}", name(upper), name(work));
        }
        options
    }
}

/// Takes a mount away. Where a process still has a file open, it ends with that.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    Ok(unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}
