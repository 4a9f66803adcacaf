//! Structures that file calls fill: `stat`, `statx` and `linux_dirent64`, as on AArch64.

use crate::initrd::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT};
use koskit_cpio::Meta;

/// Bytes of `struct stat`.
pub const STAT: usize = 128;
/// Bytes of `struct statx`.
pub const STATX: usize = 256;
/// `STATX_BASIC_STATS`: the fields that a file has here.
const STATX_BASIC: u32 = 0x7ff;
const BLOCK: u32 = 4096;

/// What `stat` tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Number of the file system: archive, devices or pipes.
    device: u32,
    meta: Meta,
}

impl Stat {
    /// A file of the archive.
    pub fn file(meta: Meta) -> Self {
        let size = if meta.mode & S_IFMT == S_IFDIR && meta.size == 0 { BLOCK } else { meta.size };
        Self { device: 1, meta: Meta { size, ..meta } }
    }

    /// A device of the kind that every container has.
    pub fn device(minor: u32) -> Self {
        let mode = S_IFCHR | 0o666;
        let meta = Meta { ino: 2 + minor, mode, nlink: 1, rdev: (1, minor), ..Meta::default() };
        Self { device: 2, meta }
    }

    /// A stream to the root server: a pipe, as without `docker run -t`.
    pub fn pipe(stream: u8) -> Self {
        let mode = S_IFIFO | 0o600;
        let meta = Meta { ino: u32::from(stream), mode, nlink: 1, ..Meta::default() };
        Self { device: 3, meta }
    }

    /// `struct stat`.
    pub fn stat(&self) -> [u8; STAT] {
        let Meta { ino, mode, uid, gid, nlink, mtime, size, rdev } = self.meta;
        let mut out = Fields([0; STAT]);
        out.u64(0, self.device.into());
        out.u64(8, ino.into());
        out.u32(16, mode);
        out.u32(20, nlink);
        out.u32(24, uid);
        out.u32(28, gid);
        out.u64(32, u64::from(rdev.0) << 8 | u64::from(rdev.1));
        out.u64(48, size.into());
        out.u32(56, BLOCK);
        out.u64(64, u64::from(size.div_ceil(512)));
        for at in [72, 88, 104] {
            out.u64(at, mtime.into());
        }
        out.0
    }

    /// `struct statx`.
    pub fn statx(&self) -> [u8; STATX] {
        let Meta { ino, mode, uid, gid, nlink, mtime, size, rdev } = self.meta;
        let mut out = Fields([0; STATX]);
        out.u32(0, STATX_BASIC);
        out.u32(4, BLOCK);
        out.u32(16, nlink);
        out.u32(20, uid);
        out.u32(24, gid);
        out.u32(28, mode & 0xffff);
        out.u64(32, ino.into());
        out.u64(40, size.into());
        out.u64(48, u64::from(size.div_ceil(512)));
        for at in [64, 96, 112] {
            out.u64(at, mtime.into());
        }
        out.u32(128, rdev.0);
        out.u32(132, rdev.1);
        out.u32(140, self.device);
        out.0
    }
}

struct Fields<const N: usize>([u8; N]);

impl<const N: usize> Fields<N> {
    fn u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes a `linux_dirent64` to the beginning of `out`: inode, where the listing goes on,
/// mode and name. Returns its bytes, or `None` where it does not fit.
pub fn dirent(out: &mut [u8], ino: u32, next: u64, mode: u32, name: &[u8]) -> Option<usize> {
    let size = (19 + name.len() + 1).next_multiple_of(8);
    let out = out.get_mut(..size)?;
    out[..8].copy_from_slice(&u64::from(ino).to_le_bytes());
    out[8..16].copy_from_slice(&next.to_le_bytes());
    out[16..18].copy_from_slice(&(size as u16).to_le_bytes());
    // DT_DIR and the like are the file type's bits of a mode.
    out[18] = (mode >> 12) as u8;
    let (text, rest) = out[19..].split_at_mut(name.len());
    text.copy_from_slice(name);
    rest.fill(0);
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_aarch64_has_them() {
        let meta = Meta {
            ino: 9,
            mode: 0o100_644,
            nlink: 2,
            uid: 3,
            gid: 4,
            mtime: 5,
            size: 1000,
            rdev: (0, 0),
        };
        let stat = Stat::file(meta).stat();
        let word = |at| u64::from_le_bytes(stat[at..at + 8].try_into().unwrap());
        assert_eq!((word(8), word(48), word(64), word(88)), (9, 1000, 2, 5));
        assert_eq!(word(16), 2 << 32 | 0o100_644);
        assert_eq!(word(24), 4 << 32 | 3);
        let null = Stat::device(3).stat();
        assert_eq!(null[32..34], [3, 1]);
        let statx = Stat::file(meta).statx();
        assert_eq!((statx[28], statx[29], statx[32], statx[40]), (0o244, 0x81, 9, 232));
    }

    #[test]
    fn a_directory_entry_that_does_not_fit_is_not_written() {
        let mut out = [0xff; 32];
        assert_eq!(dirent(&mut out[..23], 1, 2, 0o040_755, b"name"), None);
        assert_eq!(dirent(&mut out, 1, 2, 0o040_755, b"name"), Some(24));
        assert_eq!(out[16..26], [24, 0, 4, b'n', b'a', b'm', b'e', 0, 0xff, 0xff]);
    }
}
