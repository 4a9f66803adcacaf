//! OCI images: where they are kept, what they hold, how layers are read and written.
//!
//! - [`Store`] keeps images in an OCI image layout, safe under concurrent commands and when a
//!   command is killed. [`Store::resolve`] gives an [`Image`] for a name and a platform,
//!   [`Store::add_image`] makes one, [`Store::tag`] names it, [`Store::export`] writes it out.
//!   [`Store::save`] and [`Store::load`] are the ways to docker's archives and back,
//!   [`Store::remove`] and [`Store::prune`] free space, [`Store::space`] tells where it went.
//! - [`layer`] turns a layer's tar archive into a directory and back; [`Store::add_layer`] and
//!   [`Store::layer`] are the ways between an archive and a blob.
//! - [`Tree`] is all files of an image, merged, in memory; [`Store::files`] are some of them;
//!   [`Lookup`] reads single ones, from the topmost layer down.
//!
//! Nothing that is read here is trusted: each blob's digest is computed while it is read, and a
//! reader ends with an error where it is not the one that was asked for.

mod blob;
mod compress;
mod diff;
pub mod directory;
mod error;
mod export;
mod files;
pub mod folders;
mod image;
mod json;
pub mod layer;
mod layout;
mod load;
mod lookup;
mod make;
mod partial;
mod reach;
mod remote;
mod rootfs;
mod save;
mod scratch;
mod store;
mod tree;
mod users;

pub use blob::{BlobReader, BlobWriter, LayerReader, LayerWriter};
pub use compress::Compression;
pub use diff::Difference;
pub use error::{Damage, Error};
pub use export::{Archive, Export, replace_file};
pub use files::{Files, files_of_archive};
pub use image::{Image, Layer};
pub use layer::{LayerError, Limits};
pub use layout::tag_in_layout;
pub use load::Loaded;
pub use lookup::Lookup;
pub use make::{Annotations, Form, Variant};
pub use oci_spec::image as oci;
pub use reach::{NameSpace, Pruned, Space};
pub use remote::Fetch;
pub use rootfs::{Added, RootFs, unpack_archive};
pub use scratch::{Scratch, remove_all as remove_scratch};
pub use store::{Store, Tagged};
pub use tree::{Node, NodeKind, ResolveError, Tree};
