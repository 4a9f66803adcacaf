//! `/dev`, `/proc` and `/sys`: files that every container has, whatever its image holds. One
//! table says which ([`TABLE`]); texts are made when they are read, by [`text`]'s functions.
//!
//! They cost no memory. `/dev` can be written to as a tmpfs: what changes there goes to the
//! upper layer of the [`Tree`]. `/proc` and `/sys` cannot, but for the few files that mean
//! something when they are written.

mod text;

pub use text::{Facts, HOSTNAME, RELEASE};

use crate::errno::{Errno, Result};
use crate::fd::{Object, Table};
use crate::initrd::{S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, compare};
use crate::stat::Stat;
use crate::tree::{Tree, device};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::{self, Write as _};

/// A file of the table, or what stands for a descriptor in `/proc/self/fd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// The place in the table.
    Entry(u16),
    /// The number of the descriptor.
    Descriptor(u16),
}

/// What a file of the table is.
enum What {
    Directory,
    /// The directory of descriptors.
    Descriptors,
    /// A character device.
    Device(u32, u32),
    Link(&'static str),
    /// A link to the program.
    Exe,
    /// A link to the working directory.
    Cwd,
    Text(fn(&Facts<'_>, &mut String) -> fmt::Result),
    /// A text that never changes.
    Constant(&'static str),
    /// A text that can be written.
    Writable(fn(&Facts<'_>, &mut String) -> fmt::Result),
}

use What::{Constant, Cwd, Descriptors, Device, Directory, Exe, Link, Text as Made, Writable};

/// The process's directory.
const PROCESS: &str = "proc/1";
/// The directory of its descriptors.
const DESCRIPTORS: &str = "proc/1/fd";
/// What file systems begin with, and where in the root.
const MOUNTS: [&str; 3] = ["dev", "proc", "sys"];
/// Keys of the table in [`Fixed::key`]; those of the archive's files are smaller.
const KEYS: u64 = 2 << 32;

/// All files, sorted as the archive's index is: a directory comes directly before what is in it.
#[rustfmt::skip]
const TABLE: &[(&str, What)] = &[
    ("dev", Directory),
    ("dev/console", Device(5, 1)),
    ("dev/fd", Link("/proc/self/fd")),
    ("dev/full", Device(1, 7)),
    ("dev/mqueue", Directory),
    ("dev/null", Device(1, 3)),
    ("dev/random", Device(1, 8)),
    ("dev/shm", Directory),
    ("dev/stderr", Link("/proc/self/fd/2")),
    ("dev/stdin", Link("/proc/self/fd/0")),
    ("dev/stdout", Link("/proc/self/fd/1")),
    ("dev/tty", Device(5, 0)),
    ("dev/urandom", Device(1, 9)),
    ("dev/zero", Device(1, 5)),
    ("proc", Directory),
    (PROCESS, Directory),
    ("proc/1/auxv", Made(text::auxv)),
    ("proc/1/cgroup", Constant("0::/\n")),
    ("proc/1/cmdline", Made(text::cmdline)),
    ("proc/1/comm", Writable(text::comm)),
    ("proc/1/cpuset", Constant("/\n")),
    ("proc/1/cwd", Cwd),
    ("proc/1/environ", Made(text::environ)),
    ("proc/1/exe", Exe),
    (DESCRIPTORS, Descriptors),
    ("proc/1/limits", Made(text::limits)),
    ("proc/1/loginuid", Constant("4294967295")),
    ("proc/1/maps", Made(text::maps)),
    ("proc/1/mountinfo", Made(text::mountinfo)),
    ("proc/1/mounts", Made(text::mounts)),
    ("proc/1/oom_score", Constant("0\n")),
    ("proc/1/oom_score_adj", Writable(text::oom_score_adj)),
    ("proc/1/personality", Constant("00000000\n")),
    ("proc/1/root", Link("/")),
    ("proc/1/smaps", Made(text::smaps)),
    ("proc/1/smaps_rollup", Made(text::smaps_rollup)),
    ("proc/1/stat", Made(text::stat)),
    ("proc/1/statm", Made(text::statm)),
    ("proc/1/status", Made(text::status)),
    ("proc/1/task", Directory),
    ("proc/1/task/1", Directory),
    ("proc/1/task/1/comm", Writable(text::comm)),
    ("proc/1/task/1/stat", Made(text::stat)),
    ("proc/1/task/1/status", Made(text::status)),
    ("proc/cmdline", Constant("\n")),
    ("proc/cpuinfo", Made(text::cpuinfo)),
    ("proc/filesystems", Constant("nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\toverlay\n")),
    ("proc/loadavg", Made(text::loadavg)),
    ("proc/meminfo", Made(text::meminfo)),
    ("proc/mounts", Link("self/mounts")),
    ("proc/self", Link("1")),
    ("proc/stat", Made(text::machine_stat)),
    ("proc/swaps", Constant("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
    ("proc/sys", Directory),
    ("proc/sys/fs", Directory),
    ("proc/sys/fs/file-max", Constant("9223372036854775807\n")),
    ("proc/sys/fs/nr_open", Made(text::nr_open)),
    ("proc/sys/fs/pipe-max-size", Constant("1048576\n")),
    ("proc/sys/kernel", Directory),
    ("proc/sys/kernel/cap_last_cap", Constant("40\n")),
    ("proc/sys/kernel/core_pattern", Constant("core\n")),
    ("proc/sys/kernel/hostname", Made(text::hostname)),
    ("proc/sys/kernel/ngroups_max", Constant("65536\n")),
    ("proc/sys/kernel/osrelease", Made(text::osrelease)),
    ("proc/sys/kernel/ostype", Constant("Linux\n")),
    ("proc/sys/kernel/pid_max", Constant("32768\n")),
    ("proc/sys/kernel/random", Directory),
    ("proc/sys/kernel/random/boot_id", Made(text::boot_id)),
    ("proc/sys/kernel/random/entropy_avail", Constant("256\n")),
    ("proc/sys/kernel/random/uuid", Made(text::uuid)),
    ("proc/sys/kernel/threads-max", Constant("32768\n")),
    ("proc/sys/kernel/version", Constant("#1 seL4\n")),
    ("proc/sys/net", Directory),
    ("proc/sys/net/core", Directory),
    ("proc/sys/net/core/somaxconn", Constant("4096\n")),
    ("proc/sys/net/ipv4", Directory),
    ("proc/sys/net/ipv4/ip_local_port_range", Constant("32768\t60999\n")),
    ("proc/sys/vm", Directory),
    ("proc/sys/vm/max_map_count", Constant("65530\n")),
    ("proc/sys/vm/overcommit_memory", Constant("2\n")),
    ("proc/thread-self", Link("1/task/1")),
    ("proc/uptime", Made(text::uptime)),
    ("proc/version", Made(text::version)),
    ("sys", Directory),
    ("sys/devices", Directory),
    ("sys/devices/system", Directory),
    ("sys/devices/system/cpu", Directory),
    ("sys/devices/system/cpu/cpu0", Directory),
    ("sys/devices/system/cpu/cpu0/online", Constant("1\n")),
    ("sys/devices/system/cpu/cpu0/topology", Directory),
    ("sys/devices/system/cpu/cpu0/topology/core_id", Constant("0\n")),
    ("sys/devices/system/cpu/cpu0/topology/core_siblings_list", Constant("0\n")),
    ("sys/devices/system/cpu/cpu0/topology/physical_package_id", Constant("0\n")),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", Constant("0\n")),
    ("sys/devices/system/cpu/kernel_max", Constant("0\n")),
    ("sys/devices/system/cpu/offline", Constant("\n")),
    ("sys/devices/system/cpu/online", Constant("0\n")),
    ("sys/devices/system/cpu/possible", Constant("0\n")),
    ("sys/devices/system/cpu/present", Constant("0\n")),
    ("sys/devices/system/node", Directory),
    ("sys/devices/system/node/node0", Directory),
    ("sys/devices/system/node/node0/cpulist", Constant("0\n")),
    ("sys/devices/system/node/node0/cpumap", Constant("1\n")),
    ("sys/devices/system/node/node0/meminfo", Made(text::node_meminfo)),
    ("sys/devices/system/node/online", Constant("0\n")),
    ("sys/devices/system/node/possible", Constant("0\n")),
    ("sys/fs", Directory),
    ("sys/fs/cgroup", Directory),
    ("sys/kernel", Directory),
    ("sys/kernel/mm", Directory),
    ("sys/kernel/mm/transparent_hugepage", Directory),
    ("sys/kernel/mm/transparent_hugepage/enabled", Constant("always madvise [never]\n")),
    ("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", Constant("2097152\n")),
];

/// The paths of all files.
#[cfg(test)]
pub fn paths() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(path, _)| *path)
}

impl Fixed {
    /// The file system that begins with this name in the root.
    pub fn mount(name: &[u8]) -> Option<Self> {
        MOUNTS.iter().find(|mount| mount.as_bytes() == name).and_then(|_| Self::find(name))
    }

    /// All file systems that begin in the root.
    pub fn mounts() -> impl Iterator<Item = (&'static [u8], Self)> {
        MOUNTS.iter().filter_map(|name| Some((name.as_bytes(), Self::find(name.as_bytes())?)))
    }

    fn find(path: &[u8]) -> Option<Self> {
        let found = TABLE.binary_search_by(|(at, _)| compare(at.as_bytes(), path));
        found.ok().map(|index| Self::Entry(index as u16))
    }

    fn what(self) -> &'static What {
        match self {
            Self::Entry(index) => {
                TABLE.get(usize::from(index)).map_or(&Directory, |(_, what)| what)
            }
            Self::Descriptor(_) => &Cwd,
        }
    }

    /// The path from the root, without the first slash.
    pub fn path(self) -> String {
        let mut path = String::new();
        match self {
            Self::Entry(_) => path.push_str(self.entry()),
            // Writing to a string does not fail.
            Self::Descriptor(fd) => drop(write!(path, "{DESCRIPTORS}/{fd}")),
        }
        path
    }

    /// The path in the table.
    fn entry(self) -> &'static str {
        match self {
            Self::Entry(index) => TABLE.get(usize::from(index)).map_or("", |(path, _)| path),
            Self::Descriptor(_) => DESCRIPTORS,
        }
    }

    /// The directory that it is in; `None` where a file system begins.
    pub fn parent(self) -> Option<Self> {
        let path = match self {
            Self::Entry(_) => self.entry().rsplit_once('/')?.0,
            Self::Descriptor(_) => DESCRIPTORS,
        };
        Self::find(path.as_bytes())
    }

    /// The file with this name in a directory.
    pub fn child_named(self, name: &[u8], files: &Table) -> Option<Self> {
        if matches!(self.what(), Descriptors) {
            let text = core::str::from_utf8(name).ok()?;
            let plain = text == "0" || !text.starts_with(['0', '+']);
            let fd = text.parse().ok().filter(|_| plain)?;
            return files.get(u64::from(fd)).ok().map(|_| Self::Descriptor(fd));
        }
        let mut path = Vec::from(self.entry());
        path.push(b'/');
        path.extend_from_slice(name);
        Self::find(&path)
    }

    /// The file in a directory where its listing goes on, its name, and where the listing goes
    /// on behind it. It begins at 0.
    pub fn child(self, from: u32, files: &Table) -> Option<(Vec<u8>, Self, u32)> {
        if matches!(self.what(), Descriptors) {
            let fd = files.next(from.into())?;
            let mut name = String::new();
            let _ = write!(name, "{fd}");
            return Some((name.into_bytes(), Self::Descriptor(fd as u16), fd as u32 + 1));
        }
        let Self::Entry(index) = self else { return None };
        let directory = self.entry();
        let start = usize::from(index) + 1;
        for (place, (path, _)) in TABLE.iter().enumerate().skip(start.max(from as usize)) {
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            if !name.contains('/') {
                return Some((name.into(), Self::Entry(place as u16), place as u32 + 1));
            }
        }
        None
    }

    /// What tells it apart from every other file that can have an inode above.
    pub fn key(self) -> u64 {
        match self {
            Self::Entry(index) => KEYS + u64::from(index),
            Self::Descriptor(fd) => KEYS + TABLE.len() as u64 + u64::from(fd),
        }
    }

    /// The number of its file system.
    pub fn device(self) -> u32 {
        match self.entry().get(..3) {
            Some("dev") => device::DEV,
            Some("sys") => device::SYS,
            _ => device::PROC,
        }
    }

    /// Its type: one of the `S_IF…` values.
    pub fn kind(self) -> u32 {
        self.mode() & S_IFMT
    }

    fn mode(self) -> u32 {
        match self.what() {
            _ if matches!(self, Self::Descriptor(_)) => S_IFLNK | 0o700,
            Directory if self.entry() == "dev/shm" => S_IFDIR | 0o1777,
            Directory if self.device() == device::DEV => S_IFDIR | 0o755,
            Directory => S_IFDIR | 0o555,
            Descriptors => S_IFDIR | 0o500,
            Device(5, 1) => S_IFCHR | 0o620,
            Device(..) => S_IFCHR | 0o666,
            Link(_) | Exe | Cwd => S_IFLNK | 0o777,
            Made(_) | Constant(_) => S_IFREG | 0o444,
            Writable(_) => S_IFREG | 0o644,
        }
    }

    /// What `stat` tells of it, at a time.
    pub fn stat(self, now: i64) -> Stat {
        let rdev = if let Device(major, minor) = self.what() { (*major, *minor) } else { (0, 0) };
        let mode = self.mode();
        let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        let ino = self.key() - KEYS + 1;
        let (device, times) = (self.device(), [now; 3]);
        Stat { device, ino, mode, nlink, rdev, times, ..Stat::default() }
    }

    /// Where a symbolic link leads. What a descriptor stands for is told by
    /// [`crate::kos::Kos`], which knows more of it.
    pub fn target(self, tree: &Tree<'_>) -> Option<Vec<u8>> {
        match self.what() {
            _ if matches!(self, Self::Descriptor(_)) => None,
            Link(target) => Some((*target).into()),
            Exe => Some(tree.exe.clone()),
            Cwd => Some(tree.path(&tree.current(&tree.cwd)).0),
            _ => None,
        }
    }

    /// The number of the descriptor, if it stands for one.
    pub fn descriptor(self) -> Option<u64> {
        match self {
            Self::Descriptor(fd) => Some(fd.into()),
            Self::Entry(_) => None,
        }
    }

    /// What is opened where it is neither directory nor link.
    ///
    /// # Errors
    /// ENXIO for a terminal: there is none.
    pub fn open(self) -> Result<Object> {
        match self.what() {
            Device(major, minor) => open_device((*major, *minor)),
            _ => Ok(Object::Text(Text { file: self, made: RefCell::default() })),
        }
    }

    /// Whether it means something to write to it.
    pub fn is_writable(self) -> bool {
        matches!(self.what(), Writable(_) | Device(..)) || self.device() == device::DEV
    }
}

/// What is opened where a device node is.
///
/// # Errors
/// ENXIO where there is no such device.
pub fn open_device(number: (u32, u32)) -> Result<Object> {
    match number {
        (1, 3) => Ok(Object::Null),
        (1, 5) => Ok(Object::Zero),
        (1, 7) => Ok(Object::Full),
        (1, 8 | 9) => Ok(Object::Random),
        _ => Err(Errno::NXIO),
    }
}

/// An open file whose text is made when it is read from its beginning.
pub struct Text {
    file: Fixed,
    made: RefCell<Vec<u8>>,
}

impl Text {
    /// The file.
    pub fn file(&self) -> Fixed {
        self.file
    }

    /// Reads from an offset; returns how many bytes there were.
    pub fn read(&self, facts: &Facts<'_>, offset: u64, into: &mut [u8]) -> usize {
        let mut made = self.made.borrow_mut();
        if offset == 0 || made.is_empty() {
            *made = match self.file.what() {
                Constant(text) => Vec::from(*text),
                Made(make) | Writable(make) => {
                    let mut text = String::new();
                    // Writing to a string does not fail.
                    let _ = make(facts, &mut text);
                    text.into_bytes()
                }
                _ => Vec::new(),
            };
        }
        let rest = made.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_file_is_in_a_directory() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| compare(a.as_bytes(), b.as_bytes()).is_lt()));
        for (index, (path, _)) in TABLE.iter().enumerate() {
            let file = Fixed::Entry(index as u16);
            match file.parent() {
                Some(parent) => {
                    assert!(matches!(parent.what(), Directory), "{path}");
                    let name = path.rsplit('/').next().unwrap();
                    let files = Table::default();
                    assert_eq!(parent.child_named(name.as_bytes(), &files), Some(file), "{path}");
                }
                None => assert!(MOUNTS.contains(path), "{path}"),
            }
        }
    }

    #[test]
    fn directories_list_what_is_directly_in_them() {
        let files = Table::default();
        let names = |path: &str| {
            let directory = Fixed::find(path.as_bytes()).unwrap();
            let mut names = std::vec![];
            let mut from = 0;
            while let Some((name, _, next)) = directory.child(from, &files) {
                names.push(String::from_utf8(name).unwrap());
                from = next;
            }
            names
        };
        assert_eq!(names("sys"), ["devices", "fs", "kernel"]);
        assert_eq!(names("proc/sys"), ["fs", "kernel", "net", "vm"]);
        assert_eq!(names("dev/shm"), [""; 0]);
        assert_eq!(names(DESCRIPTORS), [""; 0]);
    }
}
