//! What must be in a file system so that something can be mounted there.

use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, OFlags, Stat, Timespec, Timestamps, fstat, statat, unlinkat, utimensat,
};

use super::{MountSource, Process};
use crate::rooted::Root;

/// Directories and empty files that were made for mounts, to be removed if nobody uses them.
pub(super) struct Stubs {
    root: Root,
    made: Vec<Stub>,
}

struct Stub {
    path: PathBuf,
    /// The modification time of what it lies in, before and after it was made.
    parent: (Timespec, Timespec),
}

impl Stubs {
    /// Makes what is missing for a run. The reason why not is a sentence.
    pub fn make(root: &Path, process: &Process) -> Result<Self, String> {
        let opened = Root::open(root).map_err(|e| format!("its root cannot be opened: {e}"))?;
        let mut stubs = Self { root: opened, made: Vec::new() };
        let result = stubs.make_all(process);
        if result.is_err() {
            stubs.remove();
            return result.map(|()| unreachable!("it is an error"));
        }
        Ok(stubs)
    }

    fn make_all(&mut self, process: &Process) -> Result<(), String> {
        for path in ["/proc", "/dev", "/sys"] {
            self.directory(Path::new(path)).map_err(|e| format!("{path} cannot be made: {e}"))?;
        }
        for path in ["/etc/hosts", "/etc/resolv.conf"] {
            // Whoever has a directory there does without.
            let _ = self.file(Path::new(path));
        }
        for mount in &process.mounts {
            let target = Path::new(&mount.target);
            let made = match is_file(&mount.source)? {
                true => self.file(target),
                false => self.directory(target),
            };
            made.map_err(|e| format!("the mount point {} cannot be made: {e}", mount.target))?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> std::io::Result<()> {
        let path = self.root.resolve(path)?;
        let mut at = PathBuf::new();
        for name in path.iter() {
            let before = self.time(&at)?;
            let parent = at.clone();
            at.push(name);
            if !self.root.make_directories(&at)?.1.is_empty() {
                let parent = (before, self.time(&parent)?);
                self.made.push(Stub { path: at.clone(), parent });
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> std::io::Result<()> {
        let path = self.root.resolve(path)?;
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        self.directory(&parent)?;
        let before = self.time(&parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        match self.root.open_resolved(&path, flags) {
            Ok(_) => {
                let parent = (before, self.time(&parent)?);
                self.made.push(Stub { path, parent });
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes what was made and is still empty. What fails stays: the file system is the
    /// command's, which may have made anything of it.
    pub fn remove(self) {
        for stub in self.made.iter().rev() {
            let _ = self.remove_one(stub);
        }
    }

    fn remove_one(&self, stub: &Stub) -> std::io::Result<()> {
        let parent = stub.path.parent().unwrap_or(Path::new(""));
        let name = stub.path.file_name().unwrap_or_default();
        let fd = self.root.open_resolved(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let untouched = modified(&fstat(&fd)?) == stub.parent.1;
        let stat = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => unlinkat(&fd, name, AtFlags::REMOVEDIR)?,
            FileType::RegularFile if stat.st_size == 0 => unlinkat(&fd, name, AtFlags::empty())?,
            _ => return Ok(()),
        }
        if untouched {
            let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
            let times = Timestamps { last_access: omit, last_modification: stub.parent.0 };
            utimensat(&fd, ".", &times, AtFlags::empty())?;
        }
        Ok(())
    }

    fn time(&self, path: &Path) -> std::io::Result<Timespec> {
        Ok(modified(&fstat(self.root.open_resolved(path, OFlags::PATH)?)?))
    }
}

/// Whether a file is to be mounted, rather than a directory.
pub(super) fn is_file(source: &MountSource) -> Result<bool, String> {
    let (root, selector) = match source {
        MountSource::Directory { root, selector } => (root, selector),
        MountSource::Tmpfs { .. } => return Ok(false),
        MountSource::Secret { .. } => return Ok(true),
    };
    let failed =
        |e: std::io::Error| format!("{selector:?}, which it mounts, cannot be opened: {e}");
    let source = Root::open(root).and_then(|root| root.open_at(Path::new(selector), OFlags::PATH));
    let stat = fstat(source.map_err(failed)?).map_err(|e| failed(e.into()))?;
    Ok(FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
}

fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ }
}
