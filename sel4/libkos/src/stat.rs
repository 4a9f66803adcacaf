//! Structures that file calls fill: `stat`, `statx` and `linux_dirent64`, as on AArch64.

use crate::initrd::{S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT};
use crate::tree::{Inode, device};
use koskit_cpio::Meta;

/// Bytes of `struct stat`.
pub const STAT: usize = 128;
/// Bytes of `struct statx`.
pub const STATX: usize = 256;
/// `STATX_BASIC_STATS`: the fields that a file has here.
const STATX_BASIC: u32 = 0x7ff;
const BLOCK: u32 = 4096;
const NS: i64 = 1_000_000_000;

/// What `stat` tells of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Number of the file system: one of [`device`].
    pub device: u32,
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Times of the last access, change of contents, and change, in nanoseconds since 1970.
    pub times: [i64; 3],
}

impl Stat {
    /// A file of the archive.
    pub fn archive(meta: Meta) -> Self {
        let Meta { ino, mode, uid, gid, nlink, mtime, size, rdev } = meta;
        let size = if mode & S_IFMT == S_IFDIR && size == 0 { BLOCK } else { size };
        let blocks = u64::from(size.div_ceil(512));
        let times = [i64::from(mtime) * NS; 3];
        let (ino, size) = (ino.into(), size.into());
        Self { device: device::ROOT, ino, mode, nlink, uid, gid, rdev, size, blocks, times }
    }

    /// A file of the upper layer.
    pub fn inode(inode: &Inode) -> Self {
        let meta = inode.meta.get();
        Self {
            device: inode.device.get(),
            ino: inode.ino,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: meta.rdev,
            size: inode.size(),
            blocks: inode.blocks(),
            times: [meta.atime, meta.mtime, meta.ctime],
        }
    }

    /// A device of the kind that every container has.
    pub fn device(minor: u32) -> Self {
        let mode = S_IFCHR | 0o666;
        let ino = u64::from(2 + minor);
        Self { device: device::DEV, ino, mode, nlink: 1, rdev: (1, minor), ..Self::default() }
    }

    /// A stream to the root server: a pipe, as without `docker run -t`.
    pub fn stream(stream: u8) -> Self {
        Self::nameless(S_IFIFO | 0o600, stream.into())
    }

    /// What has no name in the tree.
    pub fn nameless(mode: u32, ino: u64) -> Self {
        Self { device: device::PIPE, ino, mode, nlink: 1, ..Self::default() }
    }

    /// `struct stat`.
    pub fn stat(&self) -> [u8; STAT] {
        let mut out = Fields([0; STAT]);
        out.u64(0, self.device.into());
        out.u64(8, self.ino);
        out.u32(16, self.mode);
        out.u32(20, self.nlink);
        out.u32(24, self.uid);
        out.u32(28, self.gid);
        out.u64(32, number(self.rdev));
        out.u64(48, self.size);
        out.u32(56, BLOCK);
        out.u64(64, self.blocks);
        for (at, time) in [72, 88, 104].into_iter().zip(self.times) {
            out.u64(at, time.div_euclid(NS) as u64);
            out.u64(at + 8, time.rem_euclid(NS) as u64);
        }
        out.0
    }

    /// `struct statx`.
    pub fn statx(&self) -> [u8; STATX] {
        let mut out = Fields([0; STATX]);
        out.u32(0, STATX_BASIC);
        out.u32(4, BLOCK);
        out.u32(16, self.nlink);
        out.u32(20, self.uid);
        out.u32(24, self.gid);
        out.u32(28, self.mode & 0xffff);
        out.u64(32, self.ino);
        out.u64(40, self.size);
        out.u64(48, self.blocks);
        let [atime, mtime, ctime] = self.times;
        for (at, time) in [(64, atime), (96, ctime), (112, mtime)] {
            out.u64(at, time.div_euclid(NS) as u64);
            out.u32(at + 8, time.rem_euclid(NS) as u32);
        }
        out.u32(128, self.rdev.0);
        out.u32(132, self.rdev.1);
        out.u32(140, self.device);
        out.0
    }
}

/// A device number as user space has it (`makedev`).
fn number((major, minor): (u32, u32)) -> u64 {
    let (major, minor) = (u64::from(major), u64::from(minor));
    minor & 0xff | major << 8 & 0xfff00 | minor << 12 & 0xffff_fff0_0000
}

/// Major and minor of a device number.
pub fn major_minor(number: u64) -> (u32, u32) {
    ((number >> 8 & 0xfff) as u32, (number & 0xff | number >> 12 & 0xfff00) as u32)
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
pub fn dirent(out: &mut [u8], ino: u64, next: u64, mode: u32, name: &[u8]) -> Option<usize> {
    let size = (19 + name.len() + 1).next_multiple_of(8);
    let out = out.get_mut(..size)?;
    out[..8].copy_from_slice(&ino.to_le_bytes());
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
        let stat = Stat::archive(meta).stat();
        let word = |at| u64::from_le_bytes(stat[at..at + 8].try_into().unwrap());
        assert_eq!((word(8), word(48), word(64), word(88)), (9, 1000, 2, 5));
        assert_eq!(word(16), 2 << 32 | 0o100_644);
        assert_eq!(word(24), 4 << 32 | 3);
        assert_eq!((number((1, 3)), major_minor(number((259, 70_000)))), (0x103, (259, 70_000)));
        let late = Stat { times: [-1; 3], ..Stat::archive(meta) };
        let word = |at| i64::from_le_bytes(late.stat()[at..at + 8].try_into().unwrap());
        assert_eq!((word(72), word(80)), (-1, 999_999_999));
        let null = Stat::device(3).stat();
        assert_eq!(null[32..34], [3, 1]);
        let statx = Stat::archive(meta).statx();
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
