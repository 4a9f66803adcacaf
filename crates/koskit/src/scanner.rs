//! koskit as BuildKit's generator of SBOMs: what the image that `./x frontend` makes does where a
//! build asks for one. The protocol is
//! <https://github.com/moby/buildkit/blob/master/docs/attestations/sbom-protocol.md>.

use crate::{names, output};
use anyhow::{Context, Result};
use koskit_attest::sbom::{Format, Subject};
use koskit_attest::{Package, Predicate, Programs, linked_of_folder, of_folder};
use koskit_llb::Platform;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const DESTINATION: &str = "BUILDKIT_SCAN_DESTINATION";
const SOURCE: &str = "BUILDKIT_SCAN_SOURCE";
const EXTRAS: &str = "BUILDKIT_SCAN_SOURCE_EXTRAS";

/// Whether this process was started for that.
pub fn is_asked() -> bool {
    env::var_os(DESTINATION).is_some()
}

/// Writes a bill for each root file system that is shown.
///
/// # Errors
/// One cannot be read, or its bill cannot be written.
pub fn scan() -> Result<()> {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from);
    let destination = folder(DESTINATION).unwrap_or_default();
    let core = folder(SOURCE).with_context(|| format!("{SOURCE} does not say what to look at"))?;
    fs::create_dir_all(&destination)?;
    write(&core, &destination, linked(&core)?)?;
    let Some(extras) = folder(EXTRAS).filter(|extras| extras.is_dir()) else { return Ok(()) };
    for entry in fs::read_dir(&extras)? {
        write(&entry?.path(), &destination, Vec::new())?;
    }
    Ok(())
}

fn write(root: &Path, destination: &Path, parts: Vec<Package>) -> Result<()> {
    let read = || format!("{} cannot be read", root.display());
    let scan = of_folder(root).with_context(read)?;
    for skipped in &scan.skipped {
        let path = skipped.path.display();
        output::error(&format!("the packages of /{path} are not listed: {}\n", skipped.why));
    }
    let epoch = env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let subject = Subject {
        name: None,
        digest: None,
        platform: Platform::host(),
        created: names::created(epoch.unwrap_or(0)),
    };
    let document = Format::Spdx.write(&subject, &scan, &parts);
    let kind = Format::Spdx.predicate_type().to_owned();
    // BuildKit adds whom it is about: the image, which there is not yet.
    let statement = Predicate { kind, document }.statement(&[]);
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let path = destination.join(format!("{name}.spdx.json"));
    fs::write(&path, statement.to_string())
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// What toolchains have linked into the programs that are there. Our own frontend shows the
/// toolchains: `KOSKIT_SCAN_SDK_0` is a folder, a colon, and the names of its packages.
fn linked(core: &Path) -> Result<Vec<Package>> {
    let mut parts = Vec::new();
    for (name, value) in env::vars().filter(|(name, _)| name.starts_with("KOSKIT_SCAN_SDK_")) {
        let (folder, names) =
            value.split_once(':').with_context(|| format!("{name} is no FOLDER:PACKAGE,…"))?;
        parts.extend(linked_of_folder(Path::new(folder), &names.split(',').collect::<Vec<_>>())?);
    }
    parts.sort();
    parts.dedup();
    match parts.is_empty() {
        true => Ok(parts),
        false => Ok(Programs::of_folder(core)?.narrow(parts)),
    }
}
