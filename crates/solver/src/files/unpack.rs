//! Archives that ADD unpacks.
//!
//! An entry goes where a process with this root would put it: links on the way are followed and
//! do not leave the root, be they of the image or of the archive. What is there is replaced, but
//! a directory by a directory. Devices are left out, as no layer has any; all other things that
//! an archive may hold and a layer may not are an error.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use koskit_image::layer::{Entry, EntryKind, Reader, is_portable};
use koskit_image::{LayerError, Limits};
use rustix::fs::{self as sys, AtFlags, FileType, Mode, Timespec};
use sha2::{Digest as _, Sha256};

use super::change::{Attributes, Changes, kind, remove_all};
use super::owner::Ids;
use super::{FileError, Result, failed};
use crate::decompress::{Decompressed, is_archive};

/// A reader that remembers the digest of what was read.
struct Hashing<R> {
    inner: R,
    sha: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(bytes)?;
        self.sha.update(&bytes[..len]);
        Ok(len)
    }
}

impl Changes<'_> {
    /// Unpacks a file into a directory, if it is an archive, and tells whether it is. `expected`
    /// is the SHA-256 that the file must have; `name` is for messages.
    pub fn unpack(
        &self,
        mut file: File,
        name: &Path,
        to: &Path,
        owner: Option<Ids>,
        expected: Option<[u8; 32]>,
    ) -> Result<bool> {
        if !is_archive(&file) {
            return Ok(false);
        }
        file.rewind().map_err(failed("read", name))?;
        let mut hashing = Hashing { inner: file, sha: Sha256::new() };
        let plain = Decompressed::new(&mut hashing).map_err(failed("read", name))?;
        let mut reader = Reader::new(plain, &Limits::default());
        let unpacked = self.unpack_all(&mut reader, to, owner).map_err(|e| e.into_file(name));
        drop(reader);
        // Whatever came of it, it is not what was asked for if it has changed.
        io::copy(&mut hashing, &mut io::sink()).map_err(failed("read", name))?;
        if expected.is_some_and(|expected| hashing.sha.finalize()[..] != expected) {
            return Err(FileError::Changed(name.into()));
        }
        unpacked.map(|()| true)
    }

    fn unpack_all<R: Read>(
        &self,
        reader: &mut Reader<R>,
        to: &Path,
        owner: Option<Ids>,
    ) -> std::result::Result<(), Failure> {
        // The attributes of directories come last: what is put inside changes their times.
        let mut directories: Vec<(PathBuf, Attributes)> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while let Some(entry) = reader.next()? {
            let Some(name) = entry.path.file_name() else {
                // The root of the archive says nothing about where it goes.
                continue;
            };
            let parent = to.join(entry.path.parent().unwrap_or(Path::new("")));
            self.make_directories(&parent, 0o755, owner.unwrap_or((0, 0)), None)?;
            let at = self.root.resolve(&parent, true)?.join(name);
            let attributes = attributes(&entry, owner);
            let directory = entry.kind == EntryKind::Directory;
            if entry.kind == EntryKind::Device {
                continue;
            }
            if let EntryKind::Link(target) = &entry.kind {
                self.unpack_link(target, to, &at)?;
                continue;
            }
            self.clear(&at, directory)?;
            match &entry.kind {
                EntryKind::Directory => {
                    self.directory(&at)?;
                    directories.push((at, attributes));
                }
                EntryKind::File(_) => {
                    let mut file = self.create(&at)?;
                    let mut content = reader.content();
                    loop {
                        match content.read(&mut buffer) {
                            Ok(0) => break,
                            Ok(len) => {
                                file.write_all(&buffer[..len]).map_err(failed("write", &at))?;
                            }
                            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                            Err(e) => return Err(content.failed(e).into()),
                        }
                    }
                    self.finish(&file, &at, &attributes)?;
                }
                EntryKind::Symlink(target) => {
                    let (parent, name) = self.vacate(&at)?;
                    sys::symlinkat(target, &parent, &name).map_err(failed("make", &at))?;
                    self.finish_link(&parent, &name, &at, &attributes)?;
                }
                EntryKind::Fifo => {
                    let (parent, name) = self.vacate(&at)?;
                    let mode = Mode::from_raw_mode(attributes.mode);
                    sys::mknodat(&parent, &name, FileType::Fifo, mode, 0)
                        .map_err(failed("make", &at))?;
                    sys::chmodat(&parent, &name, mode, AtFlags::empty())
                        .map_err(failed("set the permissions of", &at))?;
                    self.finish_link(&parent, &name, &at, &attributes)?;
                }
                EntryKind::Link(_) | EntryKind::Device => {}
            }
        }
        for (at, attributes) in directories.iter().rev() {
            // A later entry may have replaced it.
            let there = self.root.stat(at)?.is_some_and(|s| kind(&s) == FileType::Directory);
            if there {
                self.finish(self.root.directory(at)?, at, attributes)?;
            }
        }
        Ok(())
    }

    fn unpack_link(&self, target: &Path, to: &Path, at: &Path) -> Result<()> {
        let target = self.root.resolve(&to.join(target), false)?;
        let file = self.root.stat(&target)?.filter(|stat| kind(stat) != FileType::Directory);
        if file.is_none() {
            return Err(FileError::Missing { path: target, place: super::Place::Target });
        }
        if target == at {
            return Ok(());
        }
        self.clear(at, false)?;
        let (old, old_name) = self.root.parent(&target)?;
        let (parent, name) = self.root.parent(at)?;
        sys::linkat(&old, &old_name, &parent, &name, AtFlags::empty()).map_err(failed("link", at))
    }

    /// Removes what is at a path, unless both that and what is to come are directories.
    pub(super) fn clear(&self, at: &Path, directory: bool) -> Result<()> {
        match self.root.stat(at)? {
            Some(stat) if kind(&stat) == FileType::Directory && directory => Ok(()),
            Some(_) => {
                let (parent, name) = self.root.parent(at)?;
                remove_all(&parent, &name).map_err(failed("replace", at))
            }
            None => Ok(()),
        }
    }
}

fn attributes(entry: &Entry, owner: Option<Ids>) -> Attributes {
    let xattrs = match entry.kind {
        EntryKind::File(_) | EntryKind::Directory => entry.xattrs.iter(),
        _ => Default::default(),
    };
    let xattrs = xattrs.filter(|(name, _)| is_portable(name));
    Attributes {
        mode: entry.mode,
        owner: owner.unwrap_or((entry.uid, entry.gid)),
        time: Some(Timespec { tv_sec: entry.mtime, tv_nsec: 0 }),
        xattrs: xattrs.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// What goes wrong: with the archive, or with the files.
enum Failure {
    Archive(LayerError),
    File(FileError),
}

impl Failure {
    fn into_file(self, name: &Path) -> FileError {
        match self {
            // What is said of a layer holds for any archive.
            Self::Archive(e) => FileError::Archive {
                path: name.into(),
                why: e.to_string().replacen("the layer", "it", 1),
                source: e,
            },
            Self::File(e) => e,
        }
    }
}

impl From<LayerError> for Failure {
    fn from(e: LayerError) -> Self {
        Self::Archive(e)
    }
}

impl From<FileError> for Failure {
    fn from(e: FileError) -> Self {
        Self::File(e)
    }
}
