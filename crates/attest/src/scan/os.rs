//! `os-release`: <https://www.freedesktop.org/software/systemd/man/os-release.html>

/// Where it is; the first that is there counts.
pub const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

/// What a distribution says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// `debian`, `alpine`.
    pub id: String,
    /// `12`.
    pub version_id: String,
    pretty_name: String,
}

impl Release {
    pub fn parse(text: &str) -> Self {
        let mut release = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.trim().split_once('=') else { continue };
            let value = value.trim_matches(['"', '\'']).to_owned();
            match name {
                "ID" => release.id = value,
                "VERSION_ID" => release.version_id = value,
                "PRETTY_NAME" => release.pretty_name = value,
                _ => {}
            }
        }
        release
    }

    /// As people say it.
    pub fn name(&self) -> Option<String> {
        [&self.pretty_name, &self.id].into_iter().find(|name| !name.is_empty()).cloned()
    }

    /// The `distro` qualifier of package URLs, or nothing.
    pub fn distro(&self) -> String {
        match (self.id.as_str(), self.version_id.as_str()) {
            (id, "") => id.to_owned(),
            (id, version) => format!("{id}-{version}"),
        }
    }

    /// The distribution's ID, or what it is where it does not say.
    pub fn id_or<'a>(&'a self, other: &'a str) -> &'a str {
        if self.id.is_empty() { other } else { &self.id }
    }
}
