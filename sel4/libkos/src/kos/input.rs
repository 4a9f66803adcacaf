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

    pub(super) fn lseek(&mut self, fd: u64, offset: u64, whence: u64) -> Result {
        let open = self.files.get(fd)?;
        let node = match open.object {
            Object::File(node) => node,
            Object::Console(_) => return Err(Errno::SPIPE),
            // Devices have no places; every one is the same.
            _ => return Ok(0),
        };
        let size = self.initrd.data(node).len() as u64;
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
        Object::File(node) if initrd.is_directory(node) => return Err(Errno::ISDIR),
        Object::File(node) => {
            let data = initrd.data(node);
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
