//! Where an image is written besides the store.

use koskit_image::{Error, Image, Store};
use koskit_llb::Reference;
use std::path::PathBuf;
use std::str::FromStr;

/// One place: `type=oci,dest=DIR` or `type=oci,dest=FILE.tar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The directory or file.
    pub path: PathBuf,
    /// A tar archive, rather than a directory.
    pub archive: bool,
}

impl Output {
    /// Writes an image there.
    ///
    /// # Errors
    /// What was there is there as before.
    pub fn write(
        &self,
        store: &Store,
        image: &Image,
        name: Option<&Reference>,
    ) -> Result<(), Error> {
        match self.archive {
            true => store.export_archive(image, name, &self.path),
            false => store.export(image, name, &self.path),
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut path, mut tar) = (None, None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest", value)) if !value.is_empty() => path = Some(PathBuf::from(value)),
                Some(("tar", "false")) => tar = Some(false),
                Some(("tar", "true")) => tar = Some(true),
                _ => return Err(format!("{field:?} is none of type=oci, dest=PATH and tar=BOOL")),
            }
        }
        match (kind, path) {
            (Some("oci"), Some(path)) => {
                let archive = tar.unwrap_or_else(|| path.extension().is_some_and(|e| e == "tar"));
                Ok(Self { path, archive })
            }
            (Some("oci"), None) => Err("it has no dest=DIR or dest=FILE.tar".into()),
            (Some(other), _) => Err(format!("there is no output of type {other:?}, only oci")),
            (None, _) => Err("it has no type; write type=oci,dest=DIR".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_an_oci_layout_in_a_directory_or_an_archive() {
        let parse = |text: &str| text.parse::<Output>().map(|output| (output.path, output.archive));
        assert_eq!(parse("type=oci,dest=a/b"), Ok(("a/b".into(), false)));
        assert_eq!(parse("type=oci,dest=a/b.tar"), Ok(("a/b.tar".into(), true)));
        assert_eq!(parse("dest=x.tar,tar=false,type=oci"), Ok(("x.tar".into(), false)));
        assert_eq!(parse("dest=x,tar=true,type=oci"), Ok(("x".into(), true)));
        assert_eq!(parse("type=oci").unwrap_err(), "it has no dest=DIR or dest=FILE.tar");
        assert_eq!(
            parse("type=docker,dest=x").unwrap_err(),
            "there is no output of type \"docker\", only oci"
        );
        assert!(parse("x").is_err() && parse("type=oci,dest=").is_err() && parse("").is_err());
    }
}
