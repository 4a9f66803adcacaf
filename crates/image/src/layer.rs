//! Layers: what one build step changed, as a tar archive.
//!
//! A layer is applied over those below it. An entry replaces what has its path, except that a
//! directory over a directory keeps what is inside; an empty file `.wh.NAME` (a *whiteout*)
//! removes NAME; `.wh..wh..opq` makes its directory *opaque*, which hides what is inside in the
//! layers below.
//!
//! - [`unpack`] makes a directory of a layer, for an overlay mount or for a plain copy.
//! - [`pack`] makes a layer of an overlay's upper directory, the same bytes each time.
//!
//! # Paths
//! Every entry stands at its own path: no entry is written through a symbolic link, not even
//! through one that stays inside, because layers are unpacked one by one, each without those
//! below it. A name is bytes, as on Linux; nothing asks for UTF-8.

mod archive;
pub(crate) mod flatten;
mod limits;
mod pack;
mod unpack;
mod write;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use archive::{Content, Entry, EntryKind, Reader, leads_out};
pub use limits::Limits;
pub use pack::{PackOptions, pack, recorded_owner, sized};
pub use unpack::{OverlayXattr, Ownership, UnpackOptions, unpack};
pub(crate) use write::Writer;

/// The attribute that holds the real owner of a file, as `UID:GID`: see [`Ownership::Recorded`].
pub const OWNER_XATTR: &str = "user.koskit.owner";

/// What starts the name of a whiteout.
const WHITEOUT: &[u8] = b".wh.";
/// The name of the entry that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A layer that cannot be read, unpacked or packed.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The input failed, which includes a wrong digest.
    #[error("the layer cannot be read")]
    Read(#[source] io::Error),
    /// The input ends inside an entry or before the archive's end.
    #[error("the layer ends too early, after {at} bytes of its tar archive: it is truncated")]
    Truncated {
        /// Bytes of the archive that were there.
        at: u64,
    },
    /// A header that is none.
    #[error("the layer is no tar archive that koskit can read: at byte {at}, {why}")]
    Header {
        /// Where the header begins in the archive.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry that koskit does not take.
    #[error("the layer is refused because of its entry {path:?}: {refusal}")]
    Refused {
        /// The path as it is written in the archive.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// More than [`Limits`] say.
    #[error("the layer is refused: its {what} need more than {limit} bytes")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A directory that is read or written.
    #[error("cannot {action} {path:?}")]
    File {
        /// A verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that has no place in a layer.
    #[error("{path:?} cannot be put into a layer: {why}")]
    Unfit {
        /// Relative to the packed directory.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The packed layer cannot be written.
    #[error("the layer cannot be written")]
    Write(#[source] io::Error),
}

/// Why an entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No path.
    #[error("its path is empty")]
    Empty,
    /// A path that begins with a slash.
    #[error("its path is absolute")]
    Absolute,
    /// A path with `..`.
    #[error("its path has .. in it")]
    Parent,
    /// A path whose `..` are more than what stands before them.
    #[error("its path leads out of where the archive is unpacked to")]
    Climbs,
    /// A path with a zero byte.
    #[error("its path has a zero byte in it")]
    Nul,
    /// A path that Linux does not allow.
    #[error("its path is longer than 4095 bytes, or a part of it longer than 255")]
    Long,
    /// The root as something else.
    #[error("only a directory can be the root")]
    Root,
    /// A hard or symbolic link out of the root.
    #[error("it links to {0:?}, which is outside of the image")]
    LinkLeaves(PathBuf),
    /// A link to nothing that can be.
    #[error("the target of the link is empty or malformed")]
    LinkTarget,
    /// A hard link to something that is no file of the same layer.
    #[error("it is a hard link to {0:?}, which is no file earlier in the same layer")]
    LinkMissing(PathBuf),
    /// A parent that is no directory.
    #[error("it lies behind {0:?}, which is not a directory")]
    Behind(PathBuf),
    /// A character or block device.
    #[error("device nodes are not allowed in a layer")]
    Device,
    /// A whiteout that names nothing.
    #[error("it is a whiteout that names no file")]
    Whiteout,
    /// An opaque root.
    #[error("it hides all of the layers below")]
    HidesAll,
    /// PAX's forms of sparse files.
    #[error("it is a sparse file in the PAX form; make the archive without --sparse")]
    Sparse,
    /// A type that koskit does not know.
    #[error("its type is {:?}, which koskit does not know", char::from(*.0))]
    UnknownType(u8),
}

/// What one entry does to the layers below.
pub enum Change {
    /// Put this there.
    Put(Entry),
    /// Remove what is there.
    Remove(PathBuf),
    /// Hide what is inside of this directory.
    Hide(PathBuf),
}

impl Change {
    /// The meaning of an entry, or `None` for AUFS's own notes.
    pub fn of(entry: Entry) -> Result<Option<Self>, LayerError> {
        let refuse = |refusal| Err(LayerError::Refused { path: entry.path.clone(), refusal });
        if entry.kind == EntryKind::Device {
            return refuse(Refusal::Device);
        }
        let Some(name) = entry.path.file_name() else { return Ok(Some(Self::Put(entry))) };
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if parent.iter().any(is_reserved) {
            return refuse(Refusal::Whiteout);
        }
        let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) else {
            return Ok(Some(Self::Put(entry)));
        };
        match hidden {
            _ if name.as_bytes() == OPAQUE && parent == Path::new("") => refuse(Refusal::HidesAll),
            _ if name.as_bytes() == OPAQUE => Ok(Some(Self::Hide(parent.into()))),
            _ if hidden.starts_with(WHITEOUT) => Ok(None),
            b"" | b"." | b".." => refuse(Refusal::Whiteout),
            _ => Ok(Some(Self::Remove(parent.join(OsStr::from_bytes(hidden))))),
        }
    }
}

/// Whether a name means something else in a layer.
fn is_reserved(name: &OsStr) -> bool {
    name.as_bytes().starts_with(WHITEOUT)
}

/// Whether an extended attribute belongs to the files of an image, rather than to the machine
/// that they lie on. Those of overlayfs and our own would change what a mount shows.
pub fn is_portable(xattr: &OsStr) -> bool {
    let name = xattr.as_bytes();
    name == b"security.capability"
        || name.starts_with(b"user.")
            && !name.starts_with(b"user.overlay.")
            && !name.starts_with(b"user.koskit.")
}

/// The name of the whiteout of `name`.
fn whiteout(name: &OsStr) -> OsString {
    OsString::from_iter([OsStr::from_bytes(WHITEOUT), name])
}
