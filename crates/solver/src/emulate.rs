//! Programs for other machines, run by QEMU's user mode.
//!
//! Linux has a list of interpreters for programs that it does not know itself (`binfmt_misc`).
//! Since Linux 6.7 each user namespace can have one of its own, so that nothing of the machine is
//! changed and nobody need be root: where koskit has entered a user namespace, it makes the list
//! of that one. Root has entered none; if the machine's own list has no interpreter, the command
//! is put into a user namespace in which all numbers mean what they mean outside.
//!
//! The interpreter is opened here (flag `F`) and the image need not have it. It is told by what name
//! a program was called (`P`), on which busybox and its like depend. A list is there for
//! as long as its file system is held open.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use koskit_llb::Platform;
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use serde::{Deserialize, Serialize};

use crate::namespace;

/// An interpreter for the programs of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Emulator {
    /// QEMU's name of the machine.
    machine: String,
    /// What an ELF file of it begins with, and which bits of that count.
    magic: Vec<u8>,
    mask: Vec<u8>,
    /// The interpreter, a path in Rust's own sense.
    interpreter: PathBuf,
}

/// QEMU's machine, and what tells its programs: the class (1 for 32 bits, 2 for 64), the order of
/// bytes (1 for little, 2 for big), the machine's number in ELF.
type Machine = (&'static str, u8, u8, u16);

/// By the architecture of a platform.
const MACHINES: [(&str, Machine); 12] = [
    ("386", ("i386", 1, 1, 3)),
    ("amd64", ("x86_64", 2, 1, 62)),
    ("arm", ("arm", 1, 1, 40)),
    ("arm64", ("aarch64", 2, 1, 183)),
    ("loong64", ("loongarch64", 2, 1, 258)),
    ("mips64", ("mips64", 2, 2, 8)),
    ("mips64le", ("mips64el", 2, 1, 8)),
    ("ppc64", ("ppc64", 2, 2, 21)),
    ("ppc64le", ("ppc64le", 2, 1, 21)),
    ("riscv64", ("riscv64", 2, 1, 243)),
    ("s390x", ("s390x", 2, 2, 22)),
    ("sparc64", ("sparc64", 2, 2, 43)),
];

impl Emulator {
    /// The one that a platform's programs need here, if they need one and it is installed.
    pub fn of(platform: &Platform) -> Option<Self> {
        let host = Platform::host();
        let wanted = platform.architecture.as_str();
        let native =
            wanted == host.architecture || (wanted, &*host.architecture) == ("386", "amd64");
        if native || platform.os != "linux" {
            return None;
        }
        let (_, machine) = MACHINES.iter().find(|(name, _)| *name == wanted)?;
        let interpreter = find(machine.0)?;
        Some(Self::new(*machine, interpreter))
    }

    fn new((machine, class, order, number): Machine, interpreter: PathBuf) -> Self {
        let half = |n: u16| if order == 1 { n.to_le_bytes() } else { n.to_be_bytes() };
        // The header of ELF; an executable is type 2, one that can lie anywhere 3.
        let mut magic = vec![0x7f, b'E', b'L', b'F', class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        magic.extend(half(2));
        magic.extend(half(number));
        let mut mask = vec![0xff; 20];
        // Which system's conventions it has.
        mask[7] = 0;
        mask[16..18].copy_from_slice(&half(0xfffe));
        Self { machine: machine.into(), magic, mask, interpreter }
    }

    /// Sees to it that programs which this process starts can be of that machine. Gives false
    /// where that takes a user namespace of their own.
    pub fn prepare(&self) -> bool {
        if namespace::is_user() {
            // What cannot be had is missed when a program is started.
            let _ = self.register_here();
            return true;
        }
        list().is_ok_and(|list| self.is_registered(&list))
    }

    /// Makes this user namespace's list, once, and keeps it for the life of this process.
    fn register_here(&self) -> io::Result<()> {
        static LIST: Mutex<Option<OwnedFd>> = Mutex::new(None);
        let mut kept = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        let list = match kept.take() {
            Some(list) => list,
            None => list()?,
        };
        self.register(kept.insert(list))
    }

    /// Makes the list of the user namespace that this process has just entered. It is there for
    /// as long as what is given.
    pub fn register_alone(&self) -> io::Result<OwnedFd> {
        let list = list()?;
        self.register(&list)?;
        Ok(list)
    }

    fn register(&self, list: &OwnedFd) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let mut register = File::from(openat(list, "register", flags, Mode::empty())?);
        match register.write_all(&self.line()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// As `register` takes it: the kernel's admin-guide/binfmt-misc.rst.
    fn line(&self) -> Vec<u8> {
        let escaped =
            |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
        let head = format!(
            ":koskit-{}:M:0:{}:{}:",
            self.machine,
            escaped(&self.magic),
            escaped(&self.mask)
        );
        [head.as_bytes(), self.interpreter.as_os_str().as_bytes(), b":POCF"].concat()
    }

    /// Whether a list has an interpreter for these programs that no image need have.
    fn is_registered(&self, list: &OwnedFd) -> bool {
        let Ok(entries) = rustix::fs::Dir::read_from(list) else { return false };
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
        let text = |name: std::ffi::CString| {
            let name = OsStr::from_bytes(name.to_bytes()).to_owned();
            let file = openat(list, &name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            let mut text = Vec::new();
            File::from(file).take(1 << 14).read_to_end(&mut text).ok()?;
            String::from_utf8(text).ok()
        };
        let magic: String = self.magic.iter().map(|byte| format!("{byte:02x}")).collect();
        let is = |text: String| {
            let mut lines = text.lines();
            let line = |start: &str, has: &str| {
                text.lines().any(|line| line.strip_prefix(start).is_some_and(|l| l.contains(has)))
            };
            lines.next() == Some("enabled") && line("flags: ", "F") && line("magic ", &magic)
        };
        names.filter_map(text).any(is)
    }
}

/// The list of this user namespace, mounted nowhere.
fn list() -> io::Result<OwnedFd> {
    let fs = fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The interpreter of a machine: one that needs no libraries, which the image does not have.
fn find(machine: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    let directories: Vec<PathBuf> = std::env::split_paths(&path).chain(usual).collect();
    let names = [format!("qemu-{machine}-static"), format!("qemu-{machine}")];
    let mut all = names.iter().flat_map(|name| directories.iter().map(move |d| d.join(name)));
    all.find(|path| path.is_absolute() && is_static(path))
        .and_then(|path| fs::canonicalize(path).ok())
}

/// Whether an ELF file of this machine names no loader.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF\x02") {
        return false;
    }
    let number = |at: usize, len: usize| {
        let bytes = head.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)))
    };
    let headers =
        || Some((number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize));
    let Some((offset, size, count)) = headers() else { return false };
    let kind = |n: usize| number(offset.checked_add(n.checked_mul(size)?)?, 4);
    (0..count.min(64)).all(|n| kind(n).is_some_and(|kind| kind != u64::from(INTERPRETER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_their_header() {
        let line = |name: &str| {
            let (_, machine) = MACHINES.iter().find(|(arch, _)| *arch == name).unwrap();
            let line = Emulator::new(*machine, "/usr/bin/qemu".into()).line();
            String::from_utf8(line).unwrap()
        };
        // As Debian's qemu-user-static registers it.
        let wanted = r":koskit-aarch64:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu:POCF";
        assert_eq!(line("arm64"), wanted);
        assert!(
            line("s390x").contains(r"\x00\x02\x00\x16:")
                && line("s390x").contains(r"\xff\xfe\xff\xff:/")
        );
    }

    #[test]
    fn this_machines_own_programs_need_no_interpreter() {
        assert!(Emulator::of(&Platform::host()).is_none());
        assert!(Emulator::of(&"windows/arm64".parse().unwrap()).is_none());
    }
}
