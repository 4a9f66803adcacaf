//! Archives that ADD unpacks.
//!
//! An entry goes where a process would put it whose root is the destination, as in Docker: a
//! slash at the beginning of its name is as good as none, and links on the way are followed and
//! do not leave it, be they of the image or of the archive. What is there is replaced, but a
//! directory by a directory. Devices are left out, which is told; all other things that an archive
//! may hold and a layer may not are an error.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use koskit_image::layer::{Entry, EntryKind, Reader, Refusal, is_portable, leads_out};
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
        let mut reader = Reader::new(plain, &Limits::default()).confined();
        self.make_directories(to, 0o755, owner.unwrap_or((0, 0)), None)?;
        let to = self.root.resolve(to, true)?;
        let root = self.root.below(&to)?;
        let inside = Changes { root: &root, links: None, ..*self };
        let unpacked = inside.unpack_all(&mut reader, &to, owner).map_err(|e| e.into_file(name));
        drop(reader);
        // Whatever came of it, it is not what was asked for if it has changed.
        io::copy(&mut hashing, &mut io::sink()).map_err(failed("read", name))?;
        if expected.is_some_and(|expected| hashing.sha.finalize()[..] != expected) {
            return Err(FileError::Changed(name.into()));
        }
        match unpacked? {
            (0, _) => {}
            (1, first) => (self.warn)(format!(
                "{} has the device node {}, which is left out",
                name.display(),
                first.display()
            )),
            (count, first) => (self.warn)(format!(
                "{} has {count} device nodes, which are left out: {} and others",
                name.display(),
                first.display()
            )),
        }
        Ok(true)
    }

    /// Unpacks everything under the root, which is at `place` of the image, and tells how many
    /// devices were left out and which was the first.
    fn unpack_all<R: Read>(
        &self,
        reader: &mut Reader<R>,
        place: &Path,
        owner: Option<Ids>,
    ) -> std::result::Result<(u64, PathBuf), Failure> {
        let mut left_out = (0, PathBuf::new());
        // The attributes of directories come last: what is put inside changes their times.
        let mut directories: Vec<(PathBuf, Attributes)> = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while let Some(entry) = reader.next()? {
            let Some(name) = entry.path.file_name() else {
                // The root of the archive says nothing about where it goes.
                continue;
            };
            if entry.kind == EntryKind::Device {
                left_out.0 += 1;
                if left_out.0 == 1 {
                    left_out.1.clone_from(&entry.path);
                }
                continue;
            }
            let parent = entry.path.parent().unwrap_or(Path::new(""));
            self.make_directories(parent, 0o755, owner.unwrap_or((0, 0)), None)?;
            let at = self.root.resolve(parent, true)?.join(name);
            let attributes = attributes(&entry, owner);
            let directory = entry.kind == EntryKind::Directory;
            if let EntryKind::Link(target) = &entry.kind {
                self.unpack_link(target, &at)?;
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
                    if leads_out(&place.join(&at), target) {
                        let refusal = Refusal::LinkLeaves(target.clone());
                        return Err(LayerError::Refused { path: entry.path, refusal }.into());
                    }
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
        Ok(left_out)
    }

    fn unpack_link(&self, target: &Path, at: &Path) -> Result<()> {
        let target = self.root.resolve(target, false)?;
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
