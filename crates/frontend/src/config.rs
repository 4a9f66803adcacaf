//! The configuration of an image, and how instructions change it.

use std::collections::BTreeMap;

use koskit_llb::Platform;
use serde::{Deserialize, Deserializer, Serialize};

use crate::variables;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image as the OCI describes it, with what Docker adds: a health
/// check, the shell, and instructions for images that begin with it.
///
/// What is not set is not written. A `null` is read as not set, as Go writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, as RFC 3339 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `arm64`, `amd64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7` of `arm/v7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What a container of it takes over.
    #[serde(deserialize_with = "nullable")]
    pub config: ContainerConfig,
    /// Its layers.
    pub rootfs: RootFs,
    /// What was done to make it. Each entry that is not `empty_layer` stands for a layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// What a container of an image takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user`, `uid`, `user:group`, …; empty is root.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, …
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `name=value`; a name stays where it was first set.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The other arguments; the program, too, if there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// What only images for Windows need; docker writes it wherever there is a CMD.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// How it is seen whether the container works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Paths that keep their content apart from the container.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// The working directory; empty is `/`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Anything.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What ends the container; empty is SIGTERM.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// What commands for a shell are put behind; empty is `/bin/sh -c`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Instructions for images that begin with this one.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// `{}`: the value of maps that are sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A health check. Times are in nanoseconds; 0 is not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `NONE`; `CMD` and a command; `CMD-SHELL` and a command for the shell.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// From one check to the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// How long one may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// How long failures do not count at first.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// The interval in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// So many failures in a row are needed.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the layers' tar archives, from the lowest on.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<String>,
}

/// One instruction of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as RFC 3339 writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it left no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl ImageConfig {
    /// Of the empty image.
    pub(crate) fn scratch() -> Self {
        let mut image = Self::default();
        image.config.working_dir = "/".into();
        image.ensure_path();
        image
    }

    /// What the next image takes over from this one.
    pub(crate) fn inherit(&self) -> Self {
        let mut image = Self { created: None, rootfs: RootFs::default(), ..self.clone() };
        image.ensure_path();
        image
    }

    /// Whether there are any files in it: an image may be a config and nothing else.
    pub(crate) fn has_layers(&self) -> bool {
        !self.rootfs.diff_ids.is_empty() || self.history.iter().any(|h| !h.empty_layer)
    }

    /// Programs are found without a PATH of the image's own, too.
    pub(crate) fn ensure_path(&mut self) {
        if !self.config.env.iter().any(|e| variables::split(e).0 == "PATH") {
            self.config.env.push(format!("PATH={PATH}"));
        }
    }

    /// Says what it is for.
    pub(crate) fn set_platform(&mut self, platform: &Platform) {
        let same = self.os == platform.os && self.architecture == platform.architecture;
        let own = self.variant.take().unwrap_or_default();
        // Which variant the base is says more than that none is asked for.
        let variant = if same && platform.variant.is_empty() { &own } else { &platform.variant };
        let platform = Platform::new(&platform.os, &platform.architecture, variant);
        self.os = platform.os;
        self.architecture = platform.architecture;
        self.variant = Some(platform.variant).filter(|variant| !variant.is_empty());
    }

    /// Notes an instruction. `layer` tells whether it may have changed files.
    pub(crate) fn note(&mut self, created_by: String, layer: bool) {
        self.history.push(History {
            created_by: Some(created_by),
            comment: Some("buildkit.dockerfile.v0".into()),
            empty_layer: !layer,
            ..History::default()
        });
    }
}

impl ContainerConfig {
    /// Sets an environment variable.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let text = format!("{name}={value}");
        match self.env.iter_mut().find(|e| variables::split(e).0 == name) {
            Some(known) => *known = text,
            None => self.env.push(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageConfig;

    #[test]
    fn what_docker_writes_is_read_and_written_again_without_its_nulls() {
        let text = r#"{"architecture":"arm64","os":"linux","created":"2024-01-01T00:00:00Z",
            "config":{"User":"","ExposedPorts":{"80/tcp":{}},"Env":null,"Cmd":null,"Entrypoint":null,
            "Healthcheck":{"Test":["CMD","a"],"Interval":5000000000},"Labels":null,"OnBuild":null,
            "Shell":["/bin/bash","-c"],"Unknown":1},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let image: ImageConfig = serde_json::from_str(text).unwrap();
        let expected = r#"{"created":"2024-01-01T00:00:00Z","architecture":"arm64","os":"linux","config":{"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","a"],"Interval":5000000000},"Shell":["/bin/bash","-c"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert_eq!(serde_json::to_string(&image).unwrap(), expected);
        assert_eq!(serde_json::from_str::<ImageConfig>(expected).unwrap(), image);
    }
}
