//! Tar archives as contexts: found out by their first bytes, and kept in a file while the build
//! lasts if they came from standard input.

use crate::names;
use anyhow::{Context, Result, bail};
use koskit_image::{Files, Scratch, files_of_archive, unpack_archive};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// How much of the beginning tells what it is: a header of a tar archive.
const HEAD: usize = 512;
/// The largest Dockerfile on standard input.
const MAX_TEXT: u64 = 16 << 20;

/// A tar archive, which may be compressed with gzip or zstd.
pub struct Spool {
    path: PathBuf,
    /// Removes it afterwards.
    _scratch: Option<Scratch>,
}

/// What was on standard input.
pub enum Stdin {
    /// A tar archive.
    Archive(Spool),
    /// All of something else.
    Other(Vec<u8>),
}

impl Spool {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents of some of its files.
    ///
    /// # Errors
    /// It is damaged, or the files are too large.
    pub fn files(&self, wanted: &dyn Fn(&Path) -> bool) -> Result<Files> {
        let what = || format!("the build context {:?} cannot be read", self.path);
        let file = File::open(&self.path).with_context(what)?;
        files_of_archive(file, wanted).with_context(what)
    }
}

/// A file, if it is an archive.
///
/// # Errors
/// It cannot be read.
pub fn open(path: &Path) -> Result<Option<Spool>> {
    let mut file = File::open(path)?;
    let head = head(&mut file)?;
    if let Some(program) = other_program(&head) {
        return Ok(Some(keep(&mut decompress(program, File::open(path)?)?)?));
    }
    Ok(is_archive(&head).then(|| Spool { path: path.to_owned(), _scratch: None }))
}

/// Reads standard input.
///
/// # Errors
/// It cannot be read, or is too large for a Dockerfile.
pub fn stdin() -> Result<Stdin> {
    let mut stdin = io::stdin();
    let head = head(&mut stdin)?;
    let (archive, program) = (is_archive(&head), other_program(&head));
    let mut all = io::Cursor::new(head).chain(stdin);
    if archive {
        let spool = keep(&mut all)?;
        return Ok(Stdin::Archive(match program {
            Some(program) => keep(&mut decompress(program, File::open(spool.path())?)?)?,
            None => spool,
        }));
    }
    let mut bytes = Vec::new();
    all.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT {
        bail!("it is no tar archive, and larger than 16 MiB, which no Dockerfile is");
    }
    Ok(Stdin::Other(bytes))
}

/// A directory that goes away.
pub struct Unpacked(Scratch);

impl Unpacked {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Unpacks an archive, for an engine that only takes directories.
///
/// # Errors
/// It is damaged or hostile, or the disk is full.
pub fn unpacked(archive: &Path) -> Result<Unpacked> {
    let scratch = Scratch::new(own_path("d")?);
    let unpack = || {
        fs::create_dir(scratch.path())?;
        unpack_archive(File::open(archive)?, scratch.path())?;
        anyhow::Ok(())
    };
    unpack().with_context(|| format!("the build context {archive:?} cannot be unpacked"))?;
    Ok(Unpacked(scratch))
}

/// Whether these are the first bytes of a tar archive, compressed or not.
pub fn is_archive(head: &[u8]) -> bool {
    let compressed = matches!(head, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
    compressed || other_program(head).is_some() || is_tar(head)
}

/// Whether this is a header of a tar archive: its checksum is right.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..HEAD) else { return false };
    let field = String::from_utf8_lossy(&header[148..156]);
    let field = field.trim_matches(['\0', ' ']);
    let Ok(wanted) = u32::from_str_radix(field, 8) else { return false };
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    wanted == sum(&header[..148]) + 8 * u32::from(b' ') + sum(&header[156..])
}

/// What decompresses other kinds, as in docker.
fn other_program(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        _ => None,
    }
}

fn head(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    from.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Decompresses by a program.
fn decompress(program: &'static str, from: File) -> Result<impl Read> {
    let mut command = Command::new(program);
    command.arg("-dc").stdin(Stdio::from(from)).stdout(Stdio::piped());
    let child = command.spawn().with_context(|| {
        format!("the archive is compressed with {program}, which is not installed")
    })?;
    Ok(Decompressed { child, program })
}

/// What a program writes, which must end well.
struct Decompressed {
    child: std::process::Child,
    program: &'static str,
}

impl Read for Decompressed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        match stdout.read(bytes)? {
            0 if !bytes.is_empty() && !self.child.wait()?.success() => {
                Err(io::Error::other(format!("{} could not decompress it", self.program)))
            }
            n => Ok(n),
        }
    }
}

/// A path that no other process uses.
fn own_path(end: &str) -> Result<PathBuf> {
    let cache = names::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(cache.join(format!("context-{}-{next}.{end}", std::process::id())))
}

/// Keeps an archive in a file of its own.
fn keep(from: &mut impl Read) -> Result<Spool> {
    let path = own_path("tar")?;
    let scratch = Scratch::new(&path);
    let mut write = || {
        let mut file = File::create(&path)?;
        io::copy(from, &mut file)?;
        file.flush()
    };
    let written: io::Result<()> = write();
    written.with_context(|| format!("cannot write the build context to {}", path.display()))?;
    Ok(Spool { path, _scratch: Some(scratch) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_shows_by_its_first_bytes() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, "Dockerfile", &b""[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        assert!(is_archive(&archive) && is_archive(&[0x1f, 0x8b, 8]) && is_archive(b"BZh9"));
        assert!(!is_archive(b"FROM scratch\n") && !is_archive(b"") && !is_archive(&[0; 512]));
        assert!(!is_archive(&[b'x'; 1024]));
    }
}
