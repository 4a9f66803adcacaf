//! What is in an image, where it came from, and who vouches for it.
//!
//! - [`scan()`] finds the software in an image's root file system, [`sbom`] writes it as a bill of
//!   materials, [`Provenance`] says how an image was built, and [`attach`] keeps such
//!   statements beside the image, as BuildKit does.
//! - [`Key`] signs images as cosign does with keys, [`verify`] checks that, and [`Policy`] says
//!   what may run.

mod artefact;
mod folder;
mod key;
mod linked;
mod package;
mod policy;
mod provenance;
pub mod sbom;
mod scan;
mod signature;
mod statement;

pub use key::{Key, KeyError, PublicKey};
pub use linked::{Programs, linked, linked_of_folder};
pub use package::{Kind, Package, Role};
pub use policy::{Identity, Policy, PolicyError, Refused, Requirement};
pub use provenance::{Material, Provenance};
pub use scan::{Scan, Skipped, is_wanted, of_files, of_folder, scan};
pub use signature::{Payload, Signature, SignatureError, sign, signature_name, verify};
pub use statement::{CYCLONEDX, PROVENANCE, Predicate, SPDX, attached, attestation};

/// Who writes documents.
const TOOL: &str = "koskit";
const VERSION: &str = env!("CARGO_PKG_VERSION");
