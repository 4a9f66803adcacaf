//! Reading and writing.

use super::{Kos, RESERVE};
use crate::errno::{Errno, Result};
use crate::fd::{Object, Open, flag};
use crate::stream::{Kind, PIPE_BUF};
use crate::system::{STDIN, System};
use crate::tree::PAGE;
use crate::user;
use alloc::rc::Rc;
use alloc::vec::Vec;
use koskit_spec::info::request;
use rand_chacha::rand_core::RngCore as _;

/// Most pieces of one `readv` or `writev`.
const PIECES_MAX: u64 = 1024;
/// Most bytes of one call, as in Linux.
const LENGTH_MAX: u64 = 0x7fff_f000;

impl<S: System> Kos<'_, S> {
    pub(super) fn read(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let open = self.files.get(fd)?.readable()?;
        let into = user::bytes_mut(address, length.min(LENGTH_MAX))?;
        if let Object::File(file) = &open.object {
            if self.tree.changed(file).is_none() {
                let offset = &open.offset;
                let done = part(self.tree.initrd.contents(file), offset.get(), into);
                offset.set(offset.get() + done);
                return Ok(done);
            }
        }
        let open = self.files.get(fd)?.clone();
        let done = self.fill(&open, None, into);
        let done = self.or_wait(&open, done)?;
        open.offset.set(open.offset.get() + done);
        Ok(done)
    }

    pub(super) fn pread(&mut self, fd: u64, address: u64, length: u64, offset: u64) -> Result {
        let open = self.files.get(fd)?.readable()?;
        if (offset as i64) < 0 {
            return Err(Errno::INVAL);
        }
        let into = user::bytes_mut(address, length.min(LENGTH_MAX))?;
        if let Object::File(file) = &open.object {
            if self.tree.changed(file).is_none() {
                return Ok(part(self.tree.initrd.contents(file), offset, into));
            }
        }
        let open = self.files.get(fd)?.clone();
        self.fill(&open, Some(offset), into)
    }

    /// Has a call wait that found nothing, unless its open file says that it must not.
    pub(super) fn or_wait(&mut self, open: &Open, result: Result) -> Result {
        match result {
            Err(Errno::AGAIN) if !open.nonblocking() => {
                let at = self.ready(open).at;
                Err(self.block(at))
            }
            result => result,
        }
    }

    /// `readv`, or `preadv` at an offset.
    pub(super) fn readv(&mut self, fd: u64, pieces: u64, count: u64, at: Option<u64>) -> Result {
        total(pieces, count)?;
        let mut done = 0;
        for index in 0..count {
            let [address, length] = user::words(pieces + 16 * index)?;
            let part = match at {
                Some(offset) => self.pread(fd, address, length, offset + done),
                None if done == 0 => self.read(fd, address, length),
                // Once there is something, nothing is waited for.
                None => {
                    let open = self.files.get(fd)?.clone();
                    let into = user::bytes_mut(address, length)?;
                    let part = self.fill(&open, None, into);
                    open.offset.set(open.offset.get() + part.unwrap_or(0));
                    part
                }
            };
            match part {
                Err(Errno::WAIT) => return part,
                Ok(part) => {
                    done += part;
                    if part < length {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if count == 0 {
            self.files.get(fd)?.readable()?;
        }
        Ok(done)
    }

    /// `preadv2` and `pwritev2`: the offset -1 stands for the file's own.
    pub(super) fn readv2(&mut self, fd: u64, pieces: [u64; 2], at: u64, flags: u64) -> Result {
        no_flags(flags)?;
        let at = if at as i64 == -1 { None } else { Some(at) };
        self.readv(fd, pieces[0], pieces[1], at)
    }

    /// Reads from an open file, at an offset where it has such a thing.
    fn fill(&mut self, open: &Rc<Open>, at: Option<u64>, into: &mut [u8]) -> Result {
        let offset = at.unwrap_or(open.offset.get());
        let initrd = &self.tree.initrd;
        match &open.object {
            Object::File(file) => Ok(match self.tree.changed(file).and_then(|i| i.contents()) {
                Some(contents) => contents.borrow().read(initrd, offset, into) as u64,
                None => part(initrd.contents(file), offset, into),
            }),
            Object::Regular(inode) => {
                let contents = inode.contents().ok_or(Errno::INVAL)?.borrow();
                Ok(contents.read(initrd, offset, into) as u64)
            }
            Object::Text(text) => {
                self.prepare()?;
                // Most is said of what is mapped.
                let parts = self.memory.ranges().count() + 16;
                self.system.reserve(RESERVE + 2048 * parts)?;
                Ok(self.with_facts(|facts| text.read(facts, offset, into)) as u64)
            }
            Object::Pipe(_) | Object::Counter(_) | Object::Timer(_) | Object::Socket(_)
                if at.is_some() =>
            {
                Err(Errno::SPIPE)
            }
            Object::Socket(socket) => self.receive_now(socket, into),
            Object::Pipe(end) => {
                let done = end.pipe.read(into, !open.nonblocking())?;
                self.changed();
                Ok(done as u64)
            }
            Object::Counter(counter) => {
                let into = into.get_mut(..8).ok_or(Errno::INVAL)?;
                into.copy_from_slice(&counter.take()?.to_le_bytes());
                self.changed();
                Ok(8)
            }
            Object::Timer(timer) => {
                let into = into.get_mut(..8).ok_or(Errno::INVAL)?;
                into.copy_from_slice(&timer.take(self.now(1)?)?.to_le_bytes());
                Ok(8)
            }
            Object::Epoll(_) => Err(Errno::INVAL),
            Object::Directory(_) => Err(Errno::ISDIR),
            Object::Console(STDIN) if at.is_some() => Err(Errno::SPIPE),
            Object::Console(STDIN) => Ok(self.system.read(into)? as u64),
            Object::Path(_) | Object::Console(_) => Err(Errno::BADF),
            Object::Null => Ok(0),
            Object::Zero | Object::Full => {
                into.fill(0);
                Ok(into.len() as u64)
            }
            Object::Random => {
                self.random.fill_bytes(into);
                Ok(into.len() as u64)
            }
        }
    }

    pub(super) fn write(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let open = self.files.get(fd)?.clone();
        open.writable()?;
        let bytes = user::bytes(address, length.min(LENGTH_MAX))?;
        self.put_all(&open, &[bytes])
    }

    /// Writes pieces one after another, and waits for room where it has to and may.
    fn put_all(&mut self, open: &Rc<Open>, pieces: &[&[u8]]) -> Result {
        let before = self.attempt().done;
        let mut done = 0;
        for piece in pieces {
            // What earlier attempts have written.
            let mut skip = before.saturating_sub(done).min(piece.len() as u64) as usize;
            done += skip as u64;
            while skip < piece.len() || piece.is_empty() && pieces.len() == 1 {
                match self.put(open, None, &piece[skip..]) {
                    Ok(part) => {
                        skip += part as usize;
                        done += part;
                        let waits = matches!(open.object, Object::Pipe(_) | Object::Socket(_));
                        let waits = waits && !open.nonblocking();
                        if skip < piece.len() && !waits {
                            return Ok(done);
                        }
                        if piece.is_empty() {
                            return Ok(done);
                        }
                    }
                    Err(Errno::AGAIN) if !open.nonblocking() => {
                        self.attempt().done = done;
                        return Err(self.block(None));
                    }
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => return Ok(done),
                }
            }
        }
        Ok(done)
    }

    pub(super) fn pwrite(&mut self, fd: u64, address: u64, length: u64, offset: u64) -> Result {
        let open = self.files.get(fd)?.clone();
        open.writable()?;
        if (offset as i64) < 0 {
            return Err(Errno::INVAL);
        }
        let bytes = user::bytes(address, length.min(LENGTH_MAX))?;
        self.put(&open, Some(offset), bytes)
    }

    /// `writev`, or `pwritev` at an offset.
    pub(super) fn writev(&mut self, fd: u64, pieces: u64, count: u64, at: Option<u64>) -> Result {
        total(pieces, count)?;
        let open = self.files.get(fd)?.clone();
        open.writable()?;
        if let (Object::Console(stream), None) = (&open.object, at) {
            return self.gather(*stream, pieces, count);
        }
        if at.is_none() && !matches!(open.object, Object::Regular(_)) {
            self.system.reserve(RESERVE + 2 * 16 * count as usize)?;
            let piece = |index| {
                let [address, length] = user::words(pieces + 16 * index)?;
                user::bytes(address, length)
            };
            let list = (0..count).map(piece).collect::<Result<Vec<_>>>()?;
            let total: usize = list.iter().map(|piece| piece.len()).sum();
            // Small ones go together or not at all, and messages always.
            let message =
                matches!(&open.object, Object::Socket(socket) if socket.kind != Kind::Stream);
            if total <= PIPE_BUF || message {
                self.system.reserve(RESERVE + 2 * total)?;
                return self.put_all(&open, &[&list.concat()]);
            }
            return self.put_all(&open, &list);
        }
        let mut done = 0;
        for index in 0..count {
            let [address, length] = user::words(pieces + 16 * index)?;
            let at = at.map(|offset| offset + done);
            let put = user::bytes(address, length).and_then(|bytes| self.put(&open, at, bytes));
            match put {
                Ok(part) => {
                    done += part;
                    if part < length {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// As [`Kos::readv2`].
    pub(super) fn writev2(&mut self, fd: u64, pieces: [u64; 2], at: u64, flags: u64) -> Result {
        no_flags(flags)?;
        let at = if at as i64 == -1 { None } else { Some(at) };
        self.writev(fd, pieces[0], pieces[1], at)
    }

    /// Writes to an open file, at an offset where it has such a thing.
    fn put(&mut self, open: &Rc<Open>, at: Option<u64>, bytes: &[u8]) -> Result {
        match &open.object {
            Object::Regular(inode) => {
                self.prepare()?;
                let mut contents = inode.contents().ok_or(Errno::INVAL)?.borrow_mut();
                let offset = match at {
                    // Even at an offset, as Linux has it.
                    _ if open.flags.get() & flag::APPEND != 0 => contents.size(),
                    Some(offset) => offset,
                    None => open.offset.get(),
                };
                let initrd = &self.tree.initrd;
                let done = contents.write(&mut self.system, initrd, offset, bytes)? as u64;
                if at.is_none() {
                    open.offset.set(offset + done);
                }
                inode.touch(self.tree.now);
                Ok(done)
            }
            Object::Console(_) | Object::Pipe(_) | Object::Counter(_) | Object::Socket(_)
                if at.is_some() =>
            {
                Err(Errno::SPIPE)
            }
            Object::Socket(socket) => self.send_now(socket, bytes, None, &[], false),
            Object::Pipe(end) => match end.pipe.write(&mut self.system, bytes) {
                Ok(done) => {
                    self.changed();
                    Ok(done as u64)
                }
                Err(Errno::PIPE) => Err(self.broken_pipe()),
                Err(error) => Err(error),
            },
            Object::Counter(counter) => {
                let bytes = bytes.first_chunk::<8>().ok_or(Errno::INVAL)?;
                counter.add(u64::from_le_bytes(*bytes))?;
                self.changed();
                Ok(8)
            }
            Object::Timer(_) | Object::Epoll(_) => Err(Errno::INVAL),
            Object::Console(stream) => self.say(*stream, bytes),
            Object::Full if !bytes.is_empty() => Err(Errno::NOSPC),
            Object::Null | Object::Zero | Object::Full | Object::Random => Ok(bytes.len() as u64),
            Object::Text(text) => self.command(text.file().path().as_str(), bytes),
            // No file of the archive was opened for writing.
            Object::File(_) | Object::Directory(_) | Object::Path(_) => Err(Errno::BADF),
        }
    }

    /// What is written to a file of `/proc`.
    fn command(&mut self, path: &str, bytes: &[u8]) -> Result {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if path.ends_with("/comm") {
            self.threads[0].set_name(text);
        } else {
            let number = core::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
            let number = number.filter(|number| (-1000..=1000).contains(number));
            self.oom_score_adj = number.ok_or(Errno::INVAL)?;
        }
        Ok(bytes.len() as u64)
    }

    /// Writes to a stream of the root server's.
    fn say(&mut self, stream: u8, bytes: &[u8]) -> Result {
        let mut done = 0;
        for chunk in bytes.chunks(request::WRITE_MAX) {
            match self.system.write(stream, chunk) {
                Ok(taken) if taken == chunk.len() => done += taken as u64,
                Ok(taken) => return Ok(done + taken as u64),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes pieces to a stream together: one message for what a printf wrote, and lines stay
    /// whole.
    fn gather(&mut self, stream: u8, pieces: u64, count: u64) -> Result {
        let (mut done, mut held) = (0, 0);
        for index in 0..count {
            let [address, length] = user::words(pieces + 16 * index)?;
            let mut piece = user::bytes(address, length)?;
            let last = index + 1 == count;
            while !piece.is_empty() || (last && held > 0) {
                let part = piece.len().min(self.gather.len() - held);
                let (now, later) = piece.split_at(part);
                self.gather[held..held + part].copy_from_slice(now);
                held += part;
                piece = later;
                if held < self.gather.len() && !(last && piece.is_empty()) {
                    break;
                }
                match self.system.write(stream, &self.gather[..held]) {
                    Ok(taken) if taken == held => done += taken as u64,
                    Ok(taken) => return Ok(done + taken as u64),
                    Err(error) if done == 0 => return Err(error),
                    Err(_) => return Ok(done),
                }
                held = 0;
            }
        }
        Ok(done)
    }

    /// Copies from a file to a descriptor, at the file's own offset or at that in memory.
    pub(super) fn sendfile(&mut self, to: u64, from: u64, at: u64, length: u64) -> Result {
        let (to, from) = (self.files.get(to)?.clone(), self.files.get(from)?.clone());
        to.writable()?;
        from.readable()?;
        if !matches!(from.object, Object::File(_) | Object::Regular(_)) {
            return Err(Errno::INVAL);
        }
        self.copy(&from, at, &to, 0, length)
    }

    pub(super) fn copy_file_range(
        &mut self,
        from: [u64; 2],
        to: [u64; 2],
        length: u64,
        flags: u64,
    ) -> Result {
        let (source, target) = (self.files.get(from[0])?.clone(), self.files.get(to[0])?.clone());
        source.readable()?;
        target.writable()?;
        if target.flags.get() & flag::APPEND != 0 {
            return Err(Errno::BADF);
        }
        if flags != 0 {
            return Err(Errno::INVAL);
        }
        for open in [&source, &target] {
            match open.object {
                Object::File(_) | Object::Regular(_) => {}
                Object::Directory(_) => return Err(Errno::ISDIR),
                _ => return Err(Errno::INVAL),
            }
        }
        self.copy(&source, from[1], &target, to[1], length)
    }

    /// Copies between open files, each at its own offset or, where there is one, at that in
    /// memory, which then moves.
    fn copy(
        &mut self,
        from: &Rc<Open>,
        from_at: u64,
        to: &Rc<Open>,
        to_at: u64,
        length: u64,
    ) -> Result {
        let start = |open: &Open, at: u64| match at {
            0 => Ok(open.offset.get()),
            _ => user::words::<1>(at).map(|[offset]| offset),
        };
        let (source, target) = (start(from, from_at)?, start(to, to_at)?);
        if (source as i64) < 0 || (target as i64) < 0 {
            return Err(Errno::INVAL);
        }
        self.system.reserve(RESERVE)?;
        let mut buffer = alloc::vec![0; PAGE.min(length as usize)];
        let length = length.min(LENGTH_MAX);
        let mut done = 0;
        while done < length {
            let part = (length - done).min(PAGE as u64) as usize;
            let read = self.fill(from, Some(source + done), &mut buffer[..part])? as usize;
            if read == 0 {
                break;
            }
            let at = (to_at != 0).then_some(target + done);
            match self.put(to, at, &buffer[..read]) {
                Ok(part) => {
                    done += part;
                    if part < read as u64 {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        match from_at {
            0 => from.offset.set(source + done),
            _ => user::set_words(from_at, &[source + done])?,
        }
        if to_at != 0 {
            user::set_words(to_at, &[target + done])?;
        }
        Ok(done)
    }

    pub(super) fn lseek(&mut self, fd: u64, offset: u64, whence: u64) -> Result {
        const CURRENT: u64 = 1;
        const END: u64 = 2;
        const DATA: u64 = 3;
        const HOLE: u64 = 4;
        let open = self.files.get(fd)?;
        let changed = match &open.object {
            Object::File(file) => self.tree.changed(file),
            Object::Regular(inode) => Some(inode),
            _ => None,
        };
        let contents = changed.and_then(|inode| inode.contents());
        let size = match (&open.object, contents) {
            (_, Some(contents)) => contents.borrow().size(),
            (Object::File(file), None) => self.tree.initrd.contents(file).len() as u64,
            (Object::Directory(_), _) => u64::from(u32::MAX),
            (Object::Text(_), _) => 0,
            (Object::Console(_) | Object::Pipe(_) | Object::Socket(_), _) => {
                return Err(Errno::SPIPE);
            }
            (Object::Counter(_) | Object::Timer(_) | Object::Epoll(_), _) => {
                return Err(Errno::SPIPE);
            }
            (Object::Path(_), _) => return Err(Errno::BADF),
            // Devices have no places; every one is the same.
            _ => return Ok(0),
        };
        let to = match whence as u32 as u64 {
            0 => Some(offset),
            CURRENT => open.offset.get().checked_add_signed(offset as i64),
            END => size.checked_add_signed(offset as i64),
            whence @ (DATA | HOLE) => Some(match contents {
                Some(contents) => contents.borrow().seek(offset, whence == DATA)?,
                None if offset >= size => return Err(Errno::NXIO),
                None if whence == DATA => offset,
                None => size,
            }),
            _ => return Err(Errno::INVAL),
        };
        let to = to.filter(|&to| to as i64 >= 0).ok_or(Errno::INVAL)?;
        open.offset.set(to);
        Ok(to)
    }

    pub(super) fn getrandom(&mut self, address: u64, length: u64) -> Result {
        self.random.fill_bytes(user::bytes_mut(address, length)?);
        Ok(length)
    }
}

/// Copies what data has from an offset on.
fn part(data: &[u8], offset: u64, into: &mut [u8]) -> u64 {
    let data = data.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
    let length = data.len().min(into.len());
    into[..length].copy_from_slice(&data[..length]);
    length as u64
}

/// Flags of `preadv2` and `pwritev2` are hints, but for one.
///
/// # Errors
/// EOPNOTSUPP for what they are not.
fn no_flags(flags: u64) -> Result<()> {
    const HINTS: u64 = 0xf;
    if flags & !HINTS == 0 { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

/// Bytes of all pieces together.
fn total(pieces: u64, count: u64) -> Result {
    if count > PIECES_MAX {
        return Err(Errno::INVAL);
    }
    let mut total = 0u64;
    for index in 0..count {
        let [_, length] = user::words(pieces + 16 * index)?;
        total = total.checked_add(length).filter(|&t| t as i64 >= 0).ok_or(Errno::INVAL)?;
    }
    Ok(total)
}
