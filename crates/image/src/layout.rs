//! OCI image layouts of other people, to which something is added (image-spec, image-layout.md).

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_spec::image::MediaType;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::store::{LAYOUT, REF_NAME};

/// Gives a manifest, whose blob is there, a tag in the layout in a directory; other tags stay. A
/// directory that is no layout becomes one. `mode` are the permissions of the files that say so.
///
/// # Errors
/// The directory cannot be written. What was there is there as before.
pub fn tag_in_layout(
    directory: &Path,
    mut descriptor: Value,
    tag: &str,
    mode: u32,
) -> io::Result<()> {
    let old = fs::read(directory.join("index.json")).ok();
    let old = old.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let old = old.and_then(|index| index.get("manifests").cloned());
    let mut manifests = old.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    manifests.retain(|entry| entry["annotations"][REF_NAME] != tag);
    descriptor["annotations"] = json!({ REF_NAME: tag });
    manifests.push(descriptor);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex.to_string(),
        "manifests": manifests,
    });
    for (name, bytes) in [("oci-layout", LAYOUT), ("index.json", index.to_string().as_bytes())] {
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(directory.join(name))?;
    }
    Ok(())
}
