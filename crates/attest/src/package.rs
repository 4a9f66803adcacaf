//! A piece of software that somebody else made, and how the world names it.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;

use packageurl::PackageUrl;

/// Where packages of a kind come from: the `type` of a package URL.
/// <https://github.com/package-url/purl-spec/blob/main/PURL-TYPES.rst>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Debian and what derives from it.
    Deb,
    /// Alpine.
    Apk,
    /// Rust's crates.
    Cargo,
    /// Node.js.
    Npm,
    /// Python.
    Pypi,
    /// Go modules.
    Golang,
    /// Ruby.
    Gem,
    /// PHP.
    Composer,
    /// Erlang and Elixir.
    Hex,
    /// Anything else: parts of seL4's and koskit's own.
    Generic,
}

impl Kind {
    /// The name in a package URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Cargo => "cargo",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Golang => "golang",
            Self::Gem => "gem",
            Self::Composer => "composer",
            Self::Hex => "hex",
            Self::Generic => "generic",
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a package comes to be in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It is in the root file system.
    #[default]
    Contained,
    /// Its toolchain may have linked parts of it into a program there. Nothing tells whether it
    /// has.
    MayBeLinked,
    /// Parts of it were found in a program there.
    Linked,
}

impl Role {
    /// What is known of how it was linked, for who reads a bill.
    pub(crate) fn comment(self) -> Option<&'static str> {
        match self {
            Self::Contained => None,
            Self::MayBeLinked => Some(
                "The toolchain may have linked parts of it into a program; nothing in the program \
                 tells whether it has.",
            ),
            Self::Linked => Some("A program has text in it that is only in this library."),
        }
    }
}

/// One package in one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    /// What it is to its users.
    pub kind: Kind,
    /// Debian's distribution, npm's scope, Go's path: what comes before the name. May be empty.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version, as its makers write it. May be empty.
    pub version: String,
    /// Architecture, source package, distribution: qualifiers of its package URL.
    pub qualifiers: BTreeMap<String, String>,
    /// Its licence, as its makers write it.
    pub license: Option<String>,
    /// SHA-256 of what was fetched, as hex digits, where a lock file tells it.
    pub sha256: Option<String>,
    /// How it comes to be there.
    pub role: Role,
    /// The file that tells of it, relative to the root file system.
    pub found_in: PathBuf,
}

impl Package {
    /// A package of which nothing but the name and the version is known.
    pub fn new(kind: Kind, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: String::new(),
            name: name.into(),
            version: version.into(),
            qualifiers: BTreeMap::new(),
            license: None,
            sha256: None,
            role: Role::Contained,
            found_in: PathBuf::new(),
        }
    }

    /// With that namespace.
    pub fn within(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// With that qualifier, unless it is empty.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.qualifiers.insert(key.into(), value.into());
        }
        self
    }

    /// Namespace and name, as people write them.
    pub fn full_name(&self) -> String {
        match (self.kind, self.namespace.as_str()) {
            (_, "") | (Kind::Deb | Kind::Apk, _) => self.name.clone(),
            (_, namespace) => format!("{namespace}/{}", self.name),
        }
    }

    /// Its package URL: <https://github.com/package-url/purl-spec>. `None` where the name is
    /// nothing that can stand in one.
    pub fn purl(&self) -> Option<String> {
        let mut purl = PackageUrl::new(self.kind.as_str(), self.name.as_str()).ok()?;
        if !self.namespace.is_empty() {
            purl.with_namespace(self.namespace.as_str()).ok()?;
        }
        if !self.version.is_empty() {
            purl.with_version(self.version.as_str()).ok()?;
        }
        for (key, value) in &self.qualifiers {
            purl.add_qualifier(key.as_str(), value.as_str()).ok()?;
        }
        Some(purl.to_string())
    }

    /// The licence, where it is an expression as SPDX defines it.
    pub fn spdx_license(&self) -> Option<&str> {
        let license = self.license.as_deref()?;
        spdx::Expression::parse(license).is_ok().then_some(license)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_a_package_url() {
        let deb = Package::new(Kind::Deb, "libstdc++6", "12.2.0-14+deb12u1")
            .within("debian")
            .with("arch", "arm64");
        let expected = "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=arm64";
        assert_eq!(deb.purl().unwrap(), expected);
        let npm = Package::new(Kind::Npm, "core", "7.0.0").within("@babel");
        assert_eq!(npm.purl().unwrap(), "pkg:npm/%40babel/core@7.0.0");
        assert_eq!(npm.full_name(), "@babel/core");
    }

    #[test]
    fn only_an_expression_is_an_spdx_license() {
        let mut package = Package::new(Kind::Cargo, "a", "1");
        assert_eq!(package.spdx_license(), None);
        package.license = Some("MIT OR Apache-2.0".into());
        assert_eq!(package.spdx_license(), Some("MIT OR Apache-2.0"));
        package.license = Some("see the file".into());
        assert_eq!(package.spdx_license(), None);
    }
}
