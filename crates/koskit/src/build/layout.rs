//! OCI image layouts of the user, as `--build-context NAME=oci-layout://PATH[:TAG][@DIGEST]`.

use anyhow::{Context, Result, anyhow, bail};
use koskit_frontend::{BaseImage, ResolveError};
use koskit_image::oci::{Descriptor, ImageIndex, ImageManifest, MediaType};
use koskit_llb::{Digest, Platform};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest document that is read.
const MAX_DOCUMENT: u64 = 4 << 20;

/// The directory of a layout, and the digest of what is meant in it: that of its tag, by default
/// `latest`, or of the only image that it has.
///
/// # Errors
/// There is no layout, or no such image in it.
pub fn find(text: &str) -> Result<(PathBuf, Digest)> {
    let (rest, digest) = match text.rsplit_once('@') {
        Some((rest, digest)) if digest.starts_with("sha256:") => (rest, Some(digest.parse()?)),
        _ => (text, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let path = PathBuf::from(path);
    let index: ImageIndex = serde_json::from_value(document(&path.join("index.json"), None)?)?;
    if let Some(digest) = digest {
        return Ok((path, digest));
    }
    let tagged = |wanted: &str| {
        index.manifests().iter().find(|descriptor| {
            let name = descriptor.annotations().as_ref();
            let name = name.and_then(|all| all.get("org.opencontainers.image.ref.name"));
            name.is_some_and(|name| name == wanted || name.ends_with(&format!(":{wanted}")))
        })
    };
    let found = match (tag, index.manifests().as_slice()) {
        (Some(tag), _) => {
            tagged(tag).ok_or_else(|| anyhow!("it has no image with the tag {tag}"))?
        }
        (None, [only]) => only,
        (None, _) => tagged("latest").context("it has several images; say which, by :TAG")?,
    };
    Ok((path, found.digest().as_ref().parse()?))
}

/// The image of a layout for a platform.
///
/// # Errors
/// It has none, or a document is damaged.
pub fn resolve(
    layout: &Path,
    digest: &Digest,
    platform: &Platform,
) -> Result<BaseImage, ResolveError> {
    resolve_in(layout, digest, platform).map_err(Into::into)
}

fn resolve_in(layout: &Path, digest: &Digest, platform: &Platform) -> Result<BaseImage> {
    let blob = |digest: &Digest| layout.join("blobs/sha256").join(digest.hex());
    let raw = document(&blob(digest), Some(digest))?;
    let manifest = if raw.get("manifests").is_some() {
        let index: ImageIndex = serde_json::from_value(raw)?;
        let fits = |descriptor: &&Descriptor| {
            let own = descriptor.platform().as_ref();
            own.is_some_and(|own| {
                let variant = own.variant().as_deref().unwrap_or_default();
                let (os, architecture) = (own.os().to_string(), own.architecture().to_string());
                Platform::new(&os, &architecture, variant) == *platform
            })
        };
        let found = index.manifests().iter().find(fits);
        let found = found.ok_or_else(|| anyhow!("the layout has no image for {platform}"))?;
        if *found.media_type() == MediaType::ImageIndex {
            bail!("the layout has an index of indexes");
        }
        let digest: Digest = found.digest().as_ref().parse()?;
        serde_json::from_value::<ImageManifest>(document(&blob(&digest), Some(&digest))?)?
    } else {
        serde_json::from_value(raw)?
    };
    let config: Digest = manifest.config().digest().as_ref().parse()?;
    let config = serde_json::from_value(document(&blob(&config), Some(&config))?)?;
    // The frontend and the solver find the manifest in the index again.
    Ok(BaseImage { digest: digest.clone(), config })
}

/// A document of a layout, checked by its digest.
fn document(path: &Path, digest: Option<&Digest>) -> Result<serde_json::Value> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(MAX_DOCUMENT).read_to_end(&mut bytes)?;
    if let Some(digest) = digest.filter(|digest| Digest::of(&bytes) != **digest) {
        bail!("the blob {digest} of the layout is damaged");
    }
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not valid", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_image::{Export, Store};

    #[test]
    fn an_image_of_a_layout_is_found_by_its_tag_and_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let config = serde_json::json!({ "os": "linux", "architecture": "arm64", "author": "me" });
        let image = store.add_image(&config, &[]).unwrap();
        let path = directory.path().join("layout");
        store.export(&[Export::of(&image, Some(&"a:1".parse().unwrap()))], &path).unwrap();
        let text = |end: &str| format!("{}{end}", path.display());
        let expected = (path.clone(), image.digest());
        for end in ["", ":1", &format!("@{}", image.digest()), &format!(":x@{}", image.digest())] {
            assert_eq!(find(&text(end)).unwrap(), expected, "{end}");
        }
        assert!(find(&text(":2")).is_err() && find("/nowhere").is_err());
        let platform = Platform::new("linux", "arm64", "");
        let found = resolve(&path, &image.digest(), &platform).unwrap();
        assert_eq!(found.config.author.as_deref(), Some("me"));
        assert!(resolve(&path, &Digest::of(b""), &platform).is_err());
    }
}
