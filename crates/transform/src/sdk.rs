//! The toolchain image.
//!
//! An image is one when it has the label [`MOUNT_LABEL`], whose value says where its files must
//! be mounted: its programs find their loader, libraries and headers there, whatever else the
//! stage holds. The variables of its configuration lead to its tools; all but `PATH` and `HOME`
//! are what commands get. So a toolchain for another language or another target is another
//! image, and nothing here changes.

use koskit_frontend::ImageResolver;
use koskit_llb::{Platform, Reference};
use thiserror::Error;

/// The label of a toolchain image: the absolute path at which it must be mounted.
pub const MOUNT_LABEL: &str = "com.koskit.sdk.mount";

/// A toolchain image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdk {
    /// Its name, with the digest.
    pub image: Reference,
    /// What its programs run on.
    pub platform: Platform,
    /// Where it is mounted.
    pub mount: String,
    /// `NAME=value`: what commands get.
    pub env: Vec<String>,
}

/// Why there is no toolchain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SdkError {
    /// No such image.
    #[error("the toolchain image {name} for {platform} cannot be had")]
    Missing {
        /// Its familiar name.
        name: String,
        /// What it must run on.
        platform: Box<Platform>,
        /// What the store or the registry says.
        #[source]
        source: koskit_frontend::ResolveError,
    },
    /// An image without the label, or with one that is no path.
    #[error(
        "the image {name} is no toolchain: its label {MOUNT_LABEL} must be the absolute path to \
         mount it at, and is {found:?}; ./x sdk makes one"
    )]
    NoToolchain {
        /// Its familiar name.
        name: String,
        /// The label.
        found: String,
    },
}

impl Sdk {
    /// `kos/dev-c-aarch64-kos-linux-musl`, which `./x sdk` makes.
    pub fn default_image() -> Reference {
        "kos/dev-c-aarch64-kos-linux-musl".parse().expect("it is a name")
    }

    /// Asks for a toolchain image.
    ///
    /// # Errors
    /// [`SdkError`].
    pub fn find(
        name: &Reference,
        platform: &Platform,
        images: &dyn ImageResolver,
    ) -> Result<Self, SdkError> {
        let name = name.clone().tagged();
        let image = images.resolve(&name, platform).map_err(|source| SdkError::Missing {
            name: name.familiar(),
            platform: Box::new(platform.clone()),
            source,
        })?;
        let config = image.config.config;
        let mount = config.labels.get(MOUNT_LABEL).cloned().unwrap_or_default();
        if !is_mount_point(&mount) {
            return Err(SdkError::NoToolchain { name: name.familiar(), found: mount });
        }
        let hidden = |entry: &String| entry.starts_with("PATH=") || entry.starts_with("HOME=");
        let env = config.env.into_iter().filter(|entry| !hidden(entry)).collect();
        let image = name.with_digest(image.digest);
        Ok(Self { image, platform: platform.clone(), mount, env })
    }
}

/// Absolute, clean, and below something: `/opt/kos/sdk`. What is directly below the root could
/// hide a stage's own `/usr`.
fn is_mount_point(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut parts = rest.split('/');
    rest.contains('/') && parts.all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::is_mount_point;

    #[test]
    fn a_toolchain_is_mounted_where_it_hides_nothing() {
        assert!(is_mount_point("/opt/kos/sdk"));
        for bad in ["", "/", "/usr", "opt/kos", "/opt/../usr", "/opt//kos", "/opt/kos/"] {
            assert!(!is_mount_point(bad), "{bad:?}");
        }
    }
}
