//! The files of a result, for the labels of an image for seL4.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::moby::buildkit::v1::frontend::Ref;
use koskit_image::{Node, NodeKind};
use koskit_transform::Files;

use super::gateway::Gateway;

/// A program that is larger cannot run on a machine for seL4, whose boot archive ends there.
const MAX_FILE: u64 = 256 << 20;

/// Go's bits, which the protocol has.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const OTHERS: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

/// A file system that BuildKit has made.
pub(crate) struct Result<'a> {
    pub gateway: &'a Gateway,
    pub of: &'a Ref,
}

impl Files for Result<'_> {
    /// Links are followed by BuildKit, which shows what they lead to.
    fn node(
        &mut self,
        path: &Path,
    ) -> std::result::Result<Option<Node>, Box<dyn Error + Send + Sync>> {
        let Some(path) = path.to_str() else { return Ok(None) };
        let Some(stat) = self.gateway.stat(self.of, path)? else { return Ok(None) };
        let kind = match stat.mode {
            mode if mode & DIRECTORY != 0 => NodeKind::Directory,
            mode if mode & SYMLINK != 0 => NodeKind::Symlink(PathBuf::from(stat.linkname)),
            mode if mode & OTHERS != 0 => return Ok(None),
            _ => match self.gateway.file(self.of, path, MAX_FILE)? {
                Some(bytes) => NodeKind::File(bytes.into()),
                None => return Ok(None),
            },
        };
        Ok(Some(Node {
            mode: stat.mode & 0o777,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mod_time / 1_000_000_000,
            xattrs: BTreeMap::new(),
            kind,
        }))
    }
}
