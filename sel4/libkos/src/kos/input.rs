//! Reading and writing.

use super::Kos;
use crate::errno::{Errno, Result};
use crate::fd::{Object, flag};
use crate::initrd::Initrd;
use crate::system::System;
use crate::user;
use koskit_spec::info::request;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore as _;

/// Most pieces of one `readv` or `writev`.
const PIECES_MAX: u64 = 1024;

impl<S: System> Kos<'_, S> {
    pub(super) fn read(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let open = self.files.get(fd)?;
        if open.flags & flag::ACCESS == flag::WRONLY || open.flags & flag::PATH != 0 {
            return Err(Errno::BADF);
        }
        let into = user::bytes_mut(address, length)?;
        let done = fill(&self.initrd, &mut self.random, open.object, open.offset, into)?;
        open.offset += done;
        Ok(done)
    }

    pub(super) fn pread(&mut self, fd: u64, address: u64, length: u64, offset: u64) -> Result {
        let open = self.files.get(fd)?;
        if open.flags & flag::ACCESS == flag::WRONLY || open.flags & flag::PATH != 0 {
            return Err(Errno::BADF);
        }
        if (offset as i64) < 0 {
            return Err(Errno::INVAL);
        }
        let into = user::bytes_mut(address, length)?;
        fill(&self.initrd, &mut self.random, open.object, offset, into)
    }

    /// `readv`, or `preadv` at an offset.
    pub(super) fn readv(&mut self, fd: u64, pieces: u64, count: u64, at: Option<u64>) -> Result {
        total(pieces, count)?;
        let mut done = 0;
        for index in 0..count {
            let [address, length] = user::words(pieces + 16 * index)?;
            let part = match at {
                None => self.read(fd, address, length)?,
                Some(offset) => self.pread(fd, address, length, offset + done)?,
            };
            done += part;
            if part < length {
                break;
            }
        }
        if count == 0 {
            self.files.get(fd)?;
        }
        Ok(done)
    }

    pub(super) fn write(&mut self, fd: u64, address: u64, length: u64) -> Result {
        let stream = match self.sink(fd)? {
            Sink::Console(stream) => stream,
            Sink::Full if length > 0 => return Err(Errno::NOSPC),
            Sink::Full | Sink::Nothing => return Ok(length),
        };
        let mut done = 0;
        for chunk in user::bytes(address, length)?.chunks(request::WRITE_MAX) {
            match self.system.write(stream, chunk) {
                Ok(taken) if taken == chunk.len() => done += taken as u64,
                Ok(taken) => return Ok(done + taken as u64),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(super) fn writev(&mut self, fd: u64, pieces: u64, count: u64) -> Result {
        let length = total(pieces, count)?;
        let stream = match self.sink(fd)? {
            Sink::Console(stream) => stream,
            Sink::Full if length > 0 => return Err(Errno::NOSPC),
            Sink::Full | Sink::Nothing => return Ok(length),
        };
        // Pieces go out together: one message for what a printf wrote, and lines stay whole.
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

    /// `pwrite64` and `pwritev`: nothing that can be written has places.
    pub(super) fn pwrite(&mut self, fd: u64) -> Result {
        match self.sink(fd)? {
            Sink::Console(_) => Err(Errno::SPIPE),
            Sink::Full => Err(Errno::NOSPC),
            Sink::Nothing => Ok(0),
        }
    }

    /// Copies from a file to a descriptor, at the file's own offset or at that in memory.
    pub(super) fn sendfile(&mut self, to: u64, from: u64, at: u64, length: u64) -> Result {
        let Object::File(file) = self.files.get(from)?.object else { return Err(Errno::INVAL) };
        if file.is_directory() {
            return Err(Errno::INVAL);
        }
        let start = match at {
            0 => self.files.get(from)?.offset,
            _ => user::words::<1>(at)?[0],
        };
        let data = self.initrd.contents(&file);
        let data = data.get(usize::try_from(start).unwrap_or(usize::MAX)..).unwrap_or_default();
        let length = length.min(data.len() as u64);
        let done = match length {
            0 => 0,
            // The archive is memory like any other.
            _ => self.write(to, data.as_ptr() as u64, length)?,
        };
        match at {
            0 => self.files.get(from)?.offset = start + done,
            _ => user::set_words(at, &[start + done])?,
        }
        Ok(done)
    }

    /// Nothing here is ever waited for: input is at its end, output is taken.
    pub(super) fn ppoll(&mut self, list: u64, count: u64, timeout: u64) -> Result {
        const IN: u16 = 0x41;
        const OUT: u16 = 0x104;
        const INVALID: u16 = 0x20;
        let mut ready = 0;
        let entries = user::bytes_mut(list, count.checked_mul(8).ok_or(Errno::INVAL)?)?;
        for entry in entries.chunks_exact_mut(8) {
            let fd = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let asked = u16::from_le_bytes([entry[4], entry[5]]);
            let found = match self.files.get(fd as u64) {
                _ if fd < 0 => 0,
                Err(_) => INVALID,
                Ok(open) if matches!(open.object, Object::Console(_)) => asked & OUT,
                Ok(_) => asked & (IN | OUT),
            };
            entry[6..8].copy_from_slice(&found.to_le_bytes());
            ready += u64::from(found != 0);
        }
        if ready == 0 {
            self.wait(timeout)?;
        }
        Ok(ready)
    }

    /// As `ppoll`: everything that is asked for is ready, but for exceptions.
    pub(super) fn pselect(&mut self, fds: u64, sets: [u64; 3], timeout: u64) -> Result {
        if fds > crate::fd::FD_MAX as u64 {
            return Err(Errno::INVAL);
        }
        let mut ready = 0;
        for (index, set) in sets.into_iter().enumerate().filter(|(_, set)| *set != 0) {
            let bytes = user::bytes_mut(set, fds.div_ceil(64) * 8)?;
            for fd in (0..fds).filter(|fd| bytes[*fd as usize / 8] >> (fd % 8) & 1 != 0) {
                self.files.get(fd)?;
                ready += u64::from(index < 2);
            }
            if index == 2 {
                bytes.fill(0);
            }
        }
        if ready == 0 {
            self.wait(timeout)?;
        }
        Ok(ready)
    }

    pub(super) fn lseek(&mut self, fd: u64, offset: u64, whence: u64) -> Result {
        let open = self.files.get(fd)?;
        let file = match open.object {
            Object::File(file) => file,
            Object::Console(_) => return Err(Errno::SPIPE),
            // Devices have no places; every one is the same.
            _ => return Ok(0),
        };
        let size = self.initrd.contents(&file).len() as u64;
        let base = match whence {
            0 => 0,
            1 => open.offset,
            2 => size,
            // SEEK_DATA and SEEK_HOLE: all of a file is data.
            3 if offset < size => return seek(&mut open.offset, offset),
            4 if offset < size => return seek(&mut open.offset, size),
            3 | 4 => return Err(Errno(6)),
            _ => return Err(Errno::INVAL),
        };
        let to = base.checked_add_signed(offset as i64).filter(|&to| to as i64 >= 0);
        seek(&mut open.offset, to.ok_or(Errno::INVAL)?)
    }

    pub(super) fn getrandom(&mut self, address: u64, length: u64) -> Result {
        self.random.fill_bytes(user::bytes_mut(address, length)?);
        Ok(length)
    }

    /// Where bytes written to a descriptor go.
    fn sink(&mut self, fd: u64) -> Result<Sink> {
        let open = self.files.get(fd)?;
        if open.flags & flag::ACCESS == flag::RDONLY || open.flags & flag::PATH != 0 {
            return Err(Errno::BADF);
        }
        match open.object {
            Object::Console(stream) => Ok(Sink::Console(stream)),
            Object::Full => Ok(Sink::Full),
            Object::Null | Object::Zero | Object::Random => Ok(Sink::Nothing),
            // No file of the archive was opened for writing.
            Object::File(_) => Err(Errno::BADF),
        }
    }
}

enum Sink {
    Console(u8),
    Full,
    Nothing,
}

fn seek(offset: &mut u64, to: u64) -> Result {
    *offset = to;
    Ok(to)
}

/// Reads from an object, at an offset where it has such a thing.
fn fill(
    initrd: &Initrd<'_>,
    random: &mut ChaCha20Rng,
    object: Object,
    offset: u64,
    into: &mut [u8],
) -> Result {
    match object {
        Object::File(file) if file.is_directory() => return Err(Errno::ISDIR),
        Object::File(file) => {
            let data = initrd.contents(&file);
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let data = data.get(start..).unwrap_or_default();
            let length = data.len().min(into.len());
            into[..length].copy_from_slice(&data[..length]);
            return Ok(length as u64);
        }
        Object::Console(_) => return Err(Errno::BADF),
        Object::Null => return Ok(0),
        Object::Zero | Object::Full => into.fill(0),
        Object::Random => random.fill_bytes(into),
    }
    Ok(into.len() as u64)
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
