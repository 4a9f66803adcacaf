//! File descriptors, and what they stand for. As in Linux, several descriptors may stand for
//! one open file, with one offset; that is what `dup` does.

use crate::errno::{Errno, Result};
use crate::initrd::File;
use crate::proc::Text;
use crate::stream::{Counter, End, Epoll, Socket, Timer};
use crate::tree::{self, Inode, Node};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

/// Most descriptors (RLIMIT_NOFILE).
pub const FD_MAX: usize = 1024;

/// Flags of `open`, with AArch64's values.
#[expect(missing_docs, reason = "Linux's own names")]
pub mod flag {
    pub const ACCESS: u32 = 3;
    pub const RDONLY: u32 = 0;
    pub const WRONLY: u32 = 1;
    pub const RDWR: u32 = 2;
    pub const CREAT: u32 = 0o100;
    pub const EXCL: u32 = 0o200;
    pub const TRUNC: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const NONBLOCK: u32 = 0o4000;
    pub const DIRECTORY: u32 = 0o40_000;
    pub const NOFOLLOW: u32 = 0o100_000;
    pub const DIRECT: u32 = 0o200_000;
    pub const CLOEXEC: u32 = 0o2_000_000;
    pub const PATH: u32 = 0o10_000_000;
    /// O_TMPFILE's own bit; O_DIRECTORY comes with it.
    pub const TMPFILE: u32 = 0o20_000_000;
}

/// What an open file is.
pub enum Object {
    /// A regular file of the archive that nobody has changed yet.
    File(File),
    /// A regular file of the upper layer.
    Regular(Rc<Inode>),
    /// A directory.
    Directory(Node),
    /// A place in the tree, whatever is there (O_PATH).
    Path(Node),
    /// A file of `/proc` or `/sys`, whose text is made when it is read.
    Text(Text),
    /// An end of a pipe.
    Pipe(End),
    /// `eventfd2`'s.
    Counter(Counter),
    /// `timerfd_create`'s.
    Timer(Timer),
    /// `epoll_create1`'s.
    Epoll(Epoll),
    /// A socket.
    Socket(Rc<Socket>),
    /// A stream to the root server.
    Console(u8),
    /// `/dev/null`, and standard input: it is always at its end.
    Null,
    /// `/dev/zero`.
    Zero,
    /// `/dev/full`.
    Full,
    /// `/dev/random` and `/dev/urandom`.
    Random,
}

/// An open file. What it holds goes with its last descriptor.
pub struct Open {
    /// What it is.
    pub object: Object,
    /// Where the next read begins; of a directory, where its listing goes on.
    pub offset: Cell<u64>,
    /// Flags that it was opened with.
    pub flags: Cell<u32>,
}

impl Open {
    /// An open file at its beginning.
    pub fn new(object: Object, flags: u32) -> Self {
        Self { object, offset: Cell::new(0), flags: Cell::new(flags & !flag::CLOEXEC) }
    }

    /// # Errors
    /// EBADF where it was not opened for reading.
    pub fn readable(&self) -> Result<&Self> {
        let flags = self.flags.get();
        let bad = flags & flag::ACCESS == flag::WRONLY || flags & flag::PATH != 0;
        if bad { Err(Errno::BADF) } else { Ok(self) }
    }

    /// # Errors
    /// EBADF where it was not opened for writing.
    pub fn writable(&self) -> Result<&Self> {
        let flags = self.flags.get();
        let bad = flags & flag::ACCESS == flag::RDONLY || flags & flag::PATH != 0;
        if bad { Err(Errno::BADF) } else { Ok(self) }
    }

    /// Whether calls give EAGAIN instead of waiting.
    pub fn nonblocking(&self) -> bool {
        self.flags.get() & flag::NONBLOCK != 0
    }
}

#[derive(Clone)]
struct Fd {
    open: Rc<Open>,
    cloexec: bool,
}

/// The descriptors of a process.
#[derive(Default)]
pub struct Table {
    fds: Vec<Option<Fd>>,
}

impl Table {
    /// A table with standard input, output and error.
    pub fn new(input: Object, output: Object, error: Object) -> Self {
        let mut table = Self::default();
        for (object, flags) in
            [(input, flag::RDONLY), (output, flag::WRONLY), (error, flag::WRONLY)]
        {
            // An empty table has room for three.
            let _ = table.open(object, flags);
        }
        table
    }

    /// Bytes that opening something may allocate, or making it the descriptor `to`.
    pub fn cost(&self, to: u64) -> usize {
        let (length, room) = (self.fds.len(), self.fds.capacity());
        let needed = (to.min(FD_MAX as u64) as usize).max(length) + 1;
        // Vectors double; the allocator rounds up once more.
        let grown = if needed <= room { 0 } else { needed.max(2 * room).max(8) };
        2 * (size_of::<Open>() + grown * size_of::<Option<Fd>>())
    }

    /// Opens something at the lowest free descriptor.
    ///
    /// # Errors
    /// EMFILE.
    pub fn open(&mut self, object: Object, flags: u32) -> Result {
        self.add(Rc::new(Open::new(object, flags)), flags & flag::CLOEXEC != 0)
    }

    /// Makes the lowest free descriptor one for an open file.
    ///
    /// # Errors
    /// EMFILE.
    pub fn add(&mut self, open: Rc<Open>, cloexec: bool) -> Result {
        let fd = self.free(0)?;
        self.put(fd, Fd { open, cloexec });
        Ok(fd as u64)
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn get(&self, fd: u64) -> Result<&Rc<Open>> {
        self.fd(fd).map(|fd| &fd.open)
    }

    /// Closes a descriptor; gives what it stood for.
    ///
    /// # Errors
    /// EBADF.
    pub fn close(&mut self, fd: u64) -> Result<Rc<Open>> {
        // The kernel takes the low half of the register, too.
        let slot = self.fds.get_mut(fd as u32 as usize);
        slot.and_then(Option::take).map(|fd| fd.open).ok_or(Errno::BADF)
    }

    /// Makes another descriptor for an open file: the lowest free one from `from` on.
    ///
    /// # Errors
    /// EBADF, EMFILE, and EINVAL for a `from` that no descriptor can have.
    pub fn duplicate(&mut self, fd: u64, from: u64, cloexec: bool) -> Result {
        let open = self.get(fd)?.clone();
        if from >= FD_MAX as u64 {
            return Err(Errno::INVAL);
        }
        let to = self.free(from as usize)?;
        self.put(to, Fd { open, cloexec });
        Ok(to as u64)
    }

    /// Makes `to` another descriptor for an open file, whatever it was before.
    ///
    /// # Errors
    /// EBADF, and EINVAL where both are the same.
    pub fn replace(&mut self, fd: u64, to: u64, cloexec: bool) -> Result {
        let open = self.get(fd)?.clone();
        if fd == to {
            return Err(Errno::INVAL);
        }
        if to >= FD_MAX as u64 {
            return Err(Errno::BADF);
        }
        self.put(to as usize, Fd { open, cloexec });
        Ok(to)
    }

    /// Whether a descriptor is closed by `execve`.
    ///
    /// # Errors
    /// EBADF.
    pub fn cloexec(&mut self, fd: u64) -> Result<&mut bool> {
        let slot = self.fds.get_mut(fd as u32 as usize);
        slot.and_then(Option::as_mut).map(|fd| &mut fd.cloexec).ok_or(Errno::BADF)
    }

    /// A number that no descriptor has that is open, nor a larger one.
    pub fn count(&self) -> u64 {
        self.fds.len() as u64
    }

    /// The lowest descriptor from `from` on that stands for something.
    pub fn next(&self, from: u64) -> Option<u64> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let used = self.fds.iter().enumerate().skip(from).find(|(_, slot)| slot.is_some());
        used.map(|(fd, _)| fd as u64)
    }

    /// Whether a file of the archive with this key is open, as it was before it changed.
    pub fn have(&self, key: u64) -> bool {
        self.fds.iter().flatten().any(|fd| match &fd.open.object {
            Object::File(file) => tree::key(file) == key,
            _ => false,
        })
    }

    fn fd(&self, fd: u64) -> Result<&Fd> {
        self.fds.get(fd as u32 as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    fn free(&self, from: usize) -> Result<usize> {
        let slots = self.fds.iter().enumerate().skip(from);
        let free = slots.filter(|(_, slot)| slot.is_none()).map(|(fd, _)| fd).next();
        let fd = free.unwrap_or(self.fds.len().max(from));
        if fd < FD_MAX { Ok(fd) } else { Err(Errno::MFILE) }
    }

    fn put(&mut self, place: usize, fd: Fd) {
        if place >= self.fds.len() {
            self.fds.resize(place + 1, None);
        }
        self.fds[place] = Some(fd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(Object::Null, Object::Console(1), Object::Console(2))
    }

    #[test]
    fn the_lowest_free_descriptor_is_taken() {
        let mut table = table();
        assert_eq!(table.open(Object::Zero, 0), Ok(3));
        assert!(table.close(1).is_ok());
        assert_eq!(table.close(1).err(), Some(Errno::BADF));
        assert_eq!(table.open(Object::Full, 0), Ok(1));
        assert_eq!(table.open(Object::Full, 0), Ok(4));
        assert_eq!(table.get(5).err(), Some(Errno::BADF));
        assert_eq!(table.get(u64::MAX).err(), Some(Errno::BADF));
        assert_eq!((table.next(0), table.next(4), table.next(5)), (Some(0), Some(4), None));
    }

    #[test]
    fn duplicates_share_one_offset_and_live_on_their_own() {
        let mut table = table();
        let fd = table.open(Object::Zero, flag::CLOEXEC).unwrap();
        let other = table.duplicate(fd, 10, false).unwrap();
        assert_eq!(other, 10);
        table.get(fd).unwrap().offset.set(7);
        assert_eq!(table.get(other).unwrap().offset.get(), 7);
        assert!(*table.cloexec(fd).unwrap() && !*table.cloexec(other).unwrap());
        table.close(fd).unwrap();
        assert!(matches!(table.get(other).unwrap().object, Object::Zero));
        assert_eq!(table.replace(other, 1, false), Ok(1));
        assert_eq!(table.get(1).unwrap().offset.get(), 7);
        assert_eq!(table.replace(1, 1, false), Err(Errno::INVAL));
        assert_eq!(table.replace(99, 1, false), Err(Errno::BADF));
        assert_eq!(table.replace(1, 1024, false), Err(Errno::BADF));
    }

    #[test]
    fn there_are_1024_descriptors() {
        let mut table = table();
        for fd in 3..FD_MAX as u64 {
            assert_eq!(table.open(Object::Null, 0), Ok(fd));
        }
        assert_eq!(table.open(Object::Null, 0), Err(Errno::MFILE));
        assert_eq!(table.duplicate(0, 0, false), Err(Errno::MFILE));
        assert_eq!(table.replace(0, 1000, false), Ok(1000));
    }
}
