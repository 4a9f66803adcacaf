//! A directory made a layer.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{
    Entry, EntryKind, LayerError, OPAQUE, OWNER_XATTR, Writer, is_portable, is_reserved, whiteout,
};
use crate::Compression;

/// How a directory is packed.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// No time in the layer is later than this one, in seconds since 1970: SOURCE_DATE_EPOCH.
    /// Times are part of a layer's digest, so two builds of the same files give the same layer
    /// only with it.
    pub latest: Option<i64>,
    /// How a blob is compressed that is made of it; the archive itself is not.
    pub compression: Compression,
}

/// Writes a directory as a layer's tar archive: an overlay's upper directory, in which
/// whiteouts and opaque directories become the layer's own, or any other.
///
/// The same files give the same bytes: entries are sorted, with no names of users and groups,
/// no fractions of seconds, and of the extended attributes those alone that belong to a file
/// wherever it is. Memory depends on the number of names in a directory and of hard links, not
/// on the size of files. Sockets are left out, as in all container tools.
///
/// The caller must be able to read all files: without privileges, that is root of the user
/// namespace in which they were made.
///
/// # Errors
/// A device node, a name that begins with `.wh.`, a directory that overlayfs has renamed
/// (it must be mounted with `redirect_dir=off,metacopy=off`), or a file that cannot be read.
pub fn pack(directory: &Path, to: impl Write, options: &PackOptions) -> Result<(), LayerError> {
    let writer = Writer::new(BufWriter::with_capacity(1 << 16, to));
    let mut packer = Packer { directory, writer, options, links: HashMap::new() };
    // For each directory that is being packed, the names that are left, last first.
    let mut open: Vec<(PathBuf, Vec<OsString>)> = Vec::new();
    packer.one(Path::new(""))?;
    open.push((PathBuf::new(), packer.names(Path::new(""))?));
    while let Some((parent, names)) = open.last_mut() {
        let Some(name) = names.pop() else {
            open.pop();
            continue;
        };
        let path = parent.join(name);
        if packer.one(&path)? {
            let names = packer.names(&path)?;
            open.push((path, names));
        }
    }
    packer.writer.finish().map_err(LayerError::Write)
}

struct Packer<'a, W: Write> {
    directory: &'a Path,
    writer: Writer<BufWriter<W>>,
    options: &'a PackOptions,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    /// Packs what is at a path, and tells whether it is a directory.
    fn one(&mut self, path: &Path) -> Result<bool, LayerError> {
        let unfit = |why| Err(LayerError::Unfit { path: path.into(), why });
        let full = self.directory.join(path);
        let metadata = fs::symlink_metadata(&full).map_err(failed("read", &full))?;
        let kind = metadata.file_type();
        let name = path.file_name().unwrap_or_default();
        if is_reserved(name) {
            return unfit("names that begin with .wh. mean removed files there");
        }
        if kind.is_socket() {
            return Ok(false);
        }
        if kind.is_char_device() && metadata.rdev() == 0 {
            let mut entry = self.entry(path.with_file_name(whiteout(name)), &metadata);
            entry.kind = EntryKind::File(0);
            self.write(&entry)?;
            return Ok(false);
        }
        if kind.is_char_device() || kind.is_block_device() {
            return unfit("device nodes are not allowed there");
        }
        let mut entry = self.entry(path.into(), &metadata);
        let mut opaque = false;
        for xattr in xattrs(&full).map_err(failed("read the attributes of", &full))? {
            match xattr.as_bytes() {
                b"user.overlay.opaque" | b"trusted.overlay.opaque" => {
                    let value = xattr_value(&full, &xattr);
                    opaque = value.map_err(failed("read the attributes of", &full))? == b"y";
                }
                b"user.overlay.redirect"
                | b"trusted.overlay.redirect"
                | b"user.overlay.metacopy"
                | b"trusted.overlay.metacopy" => {
                    return unfit("overlayfs has left a part of it in a lower directory");
                }
                name if name == OWNER_XATTR.as_bytes() => {
                    let owner = xattr_value(&full, &xattr);
                    let owner = owner.map_err(failed("read the attributes of", &full))?;
                    match recorded_owner(&owner) {
                        Some(owner) => (entry.uid, entry.gid) = owner,
                        None => return unfit("its recorded owner is not UID:GID"),
                    }
                }
                name if is_portable(&xattr) => {
                    if name.contains(&b'=') {
                        return unfit("it has an attribute with = in its name");
                    }
                    let value = xattr_value(&full, &xattr);
                    let value = value.map_err(failed("read the attributes of", &full))?;
                    entry.xattrs.insert(xattr, value);
                }
                _ => {}
            }
        }
        if kind.is_dir() {
            self.write(&entry)?;
            if opaque {
                entry.path.push(OsStr::from_bytes(OPAQUE));
                (entry.kind, entry.xattrs) = (EntryKind::File(0), BTreeMap::new());
                self.write(&entry)?;
            }
            return Ok(true);
        }
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode) {
                (entry.kind, entry.xattrs) = (EntryKind::Link(first.clone()), BTreeMap::new());
                self.write(&entry)?;
                return Ok(false);
            }
            // A hard link to a symbolic link or pipe would be refused by many a reader.
            if kind.is_file() {
                self.links.insert(inode, path.into());
            }
        }
        if kind.is_symlink() {
            let target = fs::read_link(&full).map_err(failed("read", &full))?;
            entry.kind = EntryKind::Symlink(target);
        } else if kind.is_fifo() {
            entry.kind = EntryKind::Fifo;
        } else {
            return self.file(&full, entry).map(|()| false);
        }
        self.write(&entry)?;
        Ok(false)
    }

    fn file(&mut self, full: &Path, mut entry: Entry) -> Result<(), LayerError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = File::options().read(true).custom_flags(flags).open(full);
        let mut file = file.map_err(failed("read", full))?;
        let size = file.metadata().map_err(failed("read", full))?.len();
        entry.kind = EntryKind::File(size);
        self.write(&entry)?;
        let mut read = Failing { inner: &mut file, failed: false };
        self.writer.content(&mut read, size).map_err(|e| match read.failed {
            true => failed("read", full)(e),
            false if e.kind() == io::ErrorKind::UnexpectedEof => failed("read", full)(e),
            false => LayerError::Write(e),
        })
    }

    fn write(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.writer.entry(entry).map_err(LayerError::Write)
    }

    /// An entry with what the metadata say, without its kind.
    fn entry(&self, path: PathBuf, metadata: &Metadata) -> Entry {
        let latest = self.options.latest.unwrap_or(i64::MAX);
        Entry {
            path,
            kind: EntryKind::Directory,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: metadata.mtime().min(latest),
            xattrs: BTreeMap::new(),
        }
    }

    /// The names in a directory, sorted, last first.
    fn names(&self, path: &Path) -> Result<Vec<OsString>, LayerError> {
        let full = self.directory.join(path);
        let entries = fs::read_dir(&full).map_err(failed("read", &full))?;
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let mut names = names.map_err(failed("read", &full))?;
        names.sort_by(|a, b| b.cmp(a));
        Ok(names)
    }
}

/// Remembers that it was the reading that failed.
struct Failing<R> {
    inner: R,
    failed: bool,
}

impl<R: io::Read> io::Read for Failing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read(bytes).inspect_err(|e| self.failed = e.kind() != io::ErrorKind::Interrupted)
    }
}

/// The names of a file's extended attributes, sorted.
pub(super) fn xattrs(path: &Path) -> io::Result<Vec<OsString>> {
    let list = match sized(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Err(e) if e == rustix::io::Errno::OPNOTSUPP => Vec::new(),
        other => other?,
    };
    let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<OsString> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
    names.sort();
    Ok(names)
}

/// The value of an extended attribute.
pub(super) fn xattr_value(path: &Path, name: &OsStr) -> io::Result<Vec<u8>> {
    Ok(sized(|buffer| rustix::fs::lgetxattr(path, name, buffer))?)
}

/// Calls what fills a buffer with extended attributes or their names, with one that is large
/// enough: Linux knows no attribute and no list of more than 64 KiB.
///
/// # Errors
/// Those of the call.
pub fn sized(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 16 => {
                buffer.resize(buffer.len() * 4, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Reads [`OWNER_XATTR`].
pub fn recorded_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| LayerError::File { action, path, source }
}
