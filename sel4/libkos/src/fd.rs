//! File descriptors, and what they stand for. As in Linux, several descriptors may stand for
//! one open file, with one offset; that is what `dup` does.

use crate::errno::{Errno, Result};
use crate::initrd::File;
use alloc::vec::Vec;

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
    pub const CLOEXEC: u32 = 0o2_000_000;
    pub const PATH: u32 = 0o10_000_000;
}

/// What an open file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A file or a directory of the archive.
    File(File),
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

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// What it is.
    pub object: Object,
    /// Where the next read begins; of a directory, where its listing goes on.
    pub offset: u64,
    /// Flags that it was opened with.
    pub flags: u32,
    /// Number of descriptors that stand for it.
    users: u32,
}

#[derive(Clone, Copy, Debug)]
struct Fd {
    open: u16,
    cloexec: bool,
}

/// The descriptors of a process.
#[derive(Default)]
pub struct Table {
    fds: Vec<Option<Fd>>,
    open: Vec<Option<Open>>,
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

    /// Bytes that the next change of the table may allocate.
    pub fn cost(&self) -> usize {
        // Vectors double; the allocator rounds up once more.
        4 * (self.open.capacity().max(8) * size_of::<Option<Open>>()
            + self.fds.capacity() * size_of::<Option<Fd>>())
            + 2 * FD_MAX * size_of::<Option<Fd>>()
    }

    /// Opens something at the lowest free descriptor.
    ///
    /// # Errors
    /// EMFILE.
    pub fn open(&mut self, object: Object, flags: u32) -> Result {
        let fd = self.free(0)?;
        let open = Open { object, offset: 0, flags: flags & !flag::CLOEXEC, users: 1 };
        let place = match self.open.iter().position(Option::is_none) {
            Some(place) => {
                self.open[place] = Some(open);
                place
            }
            None => {
                self.open.push(Some(open));
                self.open.len() - 1
            }
        };
        self.put(fd, Fd { open: place as u16, cloexec: flags & flag::CLOEXEC != 0 });
        Ok(fd as u64)
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn get(&mut self, fd: u64) -> Result<&mut Open> {
        let place = self.fd(fd)?.open;
        self.open.get_mut(usize::from(place)).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    /// EBADF.
    pub fn close(&mut self, fd: u64) -> Result {
        let open = self.get(fd)?;
        open.users -= 1;
        let unused = open.users == 0;
        let slot = &mut self.fds[fd as usize];
        if let (Some(fd), true) = (*slot, unused) {
            self.open[usize::from(fd.open)] = None;
        }
        *slot = None;
        Ok(0)
    }

    /// Makes another descriptor for an open file: the lowest free one from `from` on.
    ///
    /// # Errors
    /// EBADF, EMFILE, and EINVAL for a `from` that no descriptor can have.
    pub fn duplicate(&mut self, fd: u64, from: u64, cloexec: bool) -> Result {
        let open = self.fd(fd)?.open;
        if from >= FD_MAX as u64 {
            return Err(Errno::INVAL);
        }
        let to = self.free(from as usize)?;
        self.get(fd)?.users += 1;
        self.put(to, Fd { open, cloexec });
        Ok(to as u64)
    }

    /// Makes `to` another descriptor for an open file, whatever it was before.
    ///
    /// # Errors
    /// EBADF, and EINVAL where both are the same.
    pub fn replace(&mut self, fd: u64, to: u64, cloexec: bool) -> Result {
        let open = self.fd(fd)?.open;
        if fd == to {
            return Err(Errno::INVAL);
        }
        if to >= FD_MAX as u64 {
            return Err(Errno::BADF);
        }
        self.get(fd)?.users += 1;
        if self.fd(to).is_ok() {
            self.close(to)?;
        }
        self.put(to as usize, Fd { open, cloexec });
        Ok(to)
    }

    /// Whether a descriptor is closed by `execve`.
    ///
    /// # Errors
    /// EBADF.
    pub fn cloexec(&mut self, fd: u64) -> Result<&mut bool> {
        let slot = self.fds.get_mut(usize::try_from(fd).map_err(|_| Errno::BADF)?);
        slot.and_then(Option::as_mut).map(|fd| &mut fd.cloexec).ok_or(Errno::BADF)
    }

    fn fd(&self, fd: u64) -> Result<Fd> {
        let slot = self.fds.get(usize::try_from(fd).map_err(|_| Errno::BADF)?);
        slot.copied().flatten().ok_or(Errno::BADF)
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
        assert_eq!(table.close(1), Ok(0));
        assert_eq!(table.close(1), Err(Errno::BADF));
        assert_eq!(table.open(Object::Full, 0), Ok(1));
        assert_eq!(table.open(Object::Full, 0), Ok(4));
        assert_eq!(table.get(5).map(|_| ()), Err(Errno::BADF));
        assert_eq!(table.get(u64::MAX).map(|_| ()), Err(Errno::BADF));
    }

    #[test]
    fn duplicates_share_one_offset_and_live_on_their_own() {
        let mut table = table();
        let fd = table.open(Object::Zero, flag::CLOEXEC).unwrap();
        let other = table.duplicate(fd, 10, false).unwrap();
        assert_eq!(other, 10);
        table.get(fd).unwrap().offset = 7;
        assert_eq!(table.get(other).unwrap().offset, 7);
        assert!(*table.cloexec(fd).unwrap() && !*table.cloexec(other).unwrap());
        table.close(fd).unwrap();
        assert_eq!(table.get(other).unwrap().object, Object::Zero);
        assert_eq!(table.replace(other, 1, false), Ok(1));
        assert_eq!(table.get(1).unwrap().offset, 7);
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
