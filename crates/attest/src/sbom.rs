//! A software bill of materials of an image, in both formats that tools read.

mod cyclonedx;
mod spdx;

use koskit_llb::{Digest, Platform, Reference};
use serde_json::Value;
use std::fmt::{self, Display};
use std::str::FromStr;

use crate::{Package, Scan, statement};

/// The image that a bill is of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name, where it has one.
    pub name: Option<Reference>,
    /// The digest of its manifest; `None` where there is none yet.
    pub digest: Option<Digest>,
    /// What it is for.
    pub platform: Platform,
    /// When it was made, RFC 3339: the bill says the same, so that the same image has the same
    /// bill on any day.
    pub created: String,
}

impl Subject {
    fn title(&self) -> String {
        let digest = || self.digest.as_ref().map_or_else(|| "image".to_owned(), Digest::to_string);
        self.name.as_ref().map_or_else(digest, Reference::familiar)
    }

    /// <https://github.com/package-url/purl-spec/blob/main/PURL-TYPES.rst#oci>
    fn purl(&self) -> Option<String> {
        let name = self
            .name
            .as_ref()
            .map_or("image", |name| name.path().rsplit('/').next().unwrap_or_default());
        let digest = self.digest.as_ref()?.as_str().replace(':', "%3A");
        Some(format!("pkg:oci/{name}@{digest}?arch={}", self.platform.architecture))
    }

    /// What tells this bill from all others: the image, or else what is in it.
    fn identity(&self, packages: &[&Package]) -> Digest {
        let of_packages = || Digest::of(format!("{packages:?}").as_bytes());
        self.digest.clone().unwrap_or_else(of_packages)
    }
}

/// How a bill is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// SPDX 2.3, JSON: <https://spdx.github.io/spdx-spec/v2.3/>.
    #[default]
    Spdx,
    /// CycloneDX 1.5, JSON: <https://cyclonedx.org/docs/1.5/json/>.
    CycloneDx,
}

impl Format {
    /// The type of an in-toto predicate that holds such a bill.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Spdx => statement::SPDX,
            Self::CycloneDx => statement::CYCLONEDX,
        }
    }

    /// Writes the bill of what a scan has found, and of `parts` besides: what was linked into
    /// the image's programs.
    pub fn write(self, subject: &Subject, scan: &Scan, parts: &[Package]) -> Value {
        let mut packages: Vec<&Package> = scan.packages.iter().chain(parts).collect();
        packages.sort();
        packages.dedup();
        match self {
            Self::Spdx => spdx::document(subject, scan, &packages),
            Self::CycloneDx => cyclonedx::document(subject, &packages),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spdx" | "spdx-json" => Ok(Self::Spdx),
            "cyclonedx" | "cyclonedx-json" => Ok(Self::CycloneDx),
            other => Err(format!("there is no format {other:?}; there are spdx and cyclonedx")),
        }
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spdx => "spdx",
            Self::CycloneDx => "cyclonedx",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Role, scan};
    use std::collections::BTreeMap;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn subject() -> Subject {
        Subject {
            name: Some("registry.example:5000/a/hello:1".parse().unwrap()),
            digest: Some(Digest::of(b"manifest")),
            platform: Platform::new("linux", "arm64", ""),
            created: "1970-01-01T00:00:00Z".into(),
        }
    }

    fn scanned() -> Scan {
        scan::of_files(&BTreeMap::from([
            ("etc/os-release".into(), b"ID=debian\nVERSION_ID=12\nPRETTY_NAME=D".to_vec()),
            ("var/lib/dpkg/status".into(), b"Package: libc6\nVersion: 2.36-9\n".to_vec()),
            (
                "app/Cargo.lock".into(),
                format!("[[package]]\nname='serde'\nversion='1.0.0'\nchecksum='{HASH}'")
                    .into_bytes(),
            ),
            (
                "app/x.dist-info/METADATA".into(),
                b"Name: x\nVersion: 1\nLicense: BSD, see LICENSE\n".to_vec(),
            ),
        ]))
    }

    fn parts() -> Vec<Package> {
        let mut musl = Package::new(Kind::Deb, "musl-dev", "1.2.3-1").within("debian");
        musl.role = Role::MayBeLinked;
        vec![musl]
    }

    #[test]
    fn an_spdx_document_names_the_image_its_packages_and_what_was_linked() {
        let document = Format::Spdx.write(&subject(), &scanned(), &parts());
        assert_eq!(document["spdxVersion"], "SPDX-2.3");
        let packages = document["packages"].as_array().unwrap();
        let names: Vec<_> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
        let image = "registry.example:5000/a/hello:1";
        assert_eq!(names, [image, "libc6", "musl-dev", "serde", "x", "D"]);
        let relations = document["relationships"].as_array().unwrap();
        let of = |id: &serde_json::Value| {
            let found = relations.iter().find(|r| r["relatedSpdxElement"] == *id);
            found.unwrap()["relationshipType"].as_str().unwrap().to_owned()
        };
        assert_eq!(of(&packages[0]["SPDXID"]), "DESCRIBES");
        assert_eq!(of(&packages[1]["SPDXID"]), "CONTAINS");
        assert_eq!(of(&packages[2]["SPDXID"]), "STATIC_LINK");
        let linked = relations.iter().find(|r| r["relationshipType"] == "STATIC_LINK").unwrap();
        assert!(linked["comment"].as_str().unwrap().contains("may have linked"), "{linked}");
        assert_eq!(packages[4]["licenseDeclared"], "NOASSERTION");
        assert_eq!(packages[3]["checksums"][0]["checksumValue"], HASH);
    }

    #[test]
    fn names_in_spdx_are_what_the_specification_allows_and_differ() {
        let document = Format::Spdx.write(&subject(), &scanned(), &parts());
        let packages = document["packages"].as_array().unwrap();
        let mut ids: Vec<_> = packages.iter().map(|p| p["SPDXID"].as_str().unwrap()).collect();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        for id in &ids {
            assert!(id.strip_prefix("SPDXRef-").unwrap().chars().all(allowed), "{id}");
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), packages.len());
    }

    #[test]
    fn another_implementation_finds_a_cyclonedx_document_valid() {
        use cyclonedx_bom::models::bom::{Bom, SpecVersion};
        use cyclonedx_bom::validation::Validate;
        let document = Format::CycloneDx.write(&subject(), &scanned(), &parts());
        let bom = Bom::parse_from_json_v1_5(document.to_string().as_bytes()).unwrap();
        let result = bom.validate_version(SpecVersion::V1_5);
        assert!(result.passed(), "{result:?}");
        let components = bom.components.unwrap().0;
        let names: Vec<_> = components.iter().map(|c| c.name.to_string()).collect();
        assert_eq!(names, ["libc6", "musl-dev", "serde", "x"]);
        let purl = components[2].purl.as_ref().unwrap().to_string();
        assert_eq!(purl, "pkg:cargo/serde@1.0.0");
    }

    #[test]
    fn the_same_image_has_the_same_bill() {
        for format in [Format::Spdx, Format::CycloneDx] {
            let write = || format.write(&subject(), &scanned(), &parts()).to_string();
            assert_eq!(write(), write());
        }
    }
}
