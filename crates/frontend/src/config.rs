//! The configuration of an image while instructions change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use koskit_llb::Platform;
use oci_spec::image::{
    Arch, ConfigBuilder, History, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    Os, RootFs,
};

use crate::variables;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a later stage or a container takes over from an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub author: Option<String>,
    pub user: String,
    /// `name=value`; a name stays where it was first set.
    pub env: Vec<String>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// Empty is `/`.
    pub workdir: String,
    pub ports: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<String>,
    pub history: Vec<History>,
}

impl Config {
    /// Of the empty image.
    pub fn scratch() -> Self {
        let mut config = Self { workdir: "/".into(), ..Self::default() };
        config.ensure_path();
        config
    }

    /// Of an image that exists.
    pub fn of(image: &ImageConfiguration) -> Self {
        let mut config = Self {
            author: image.author().clone(),
            history: image.history().clone().unwrap_or_default(),
            ..Self::default()
        };
        if let Some(c) = image.config() {
            config.user = c.user().clone().unwrap_or_default();
            config.env = c.env().clone().unwrap_or_default();
            config.entrypoint.clone_from(c.entrypoint());
            config.cmd.clone_from(c.cmd());
            config.workdir = c.working_dir().clone().unwrap_or_default();
            config.ports = c.exposed_ports().iter().flatten().cloned().collect();
            config.volumes = c.volumes().iter().flatten().cloned().collect();
            config.labels = c.labels().clone().into_iter().flatten().collect();
            config.stop_signal.clone_from(c.stop_signal());
        }
        config.ensure_path();
        config
    }

    /// Programs are found without a PATH of the image's own, too.
    fn ensure_path(&mut self) {
        if !self.env.iter().any(|e| variables::split(e).0 == "PATH") {
            self.env.push(format!("PATH={PATH}"));
        }
    }

    /// Sets an environment variable of the image.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let text = format!("{name}={value}");
        match self.env.iter_mut().find(|e| variables::split(e).0 == name) {
            Some(known) => *known = text,
            None => self.env.push(text),
        }
    }

    /// Notes an instruction. `layer` tells whether it may have changed files.
    pub fn note(&mut self, created_by: String, layer: bool) {
        let mut history =
            HistoryBuilder::default().created_by(created_by).comment("buildkit.dockerfile.v0");
        if !layer {
            history = history.empty_layer(true);
        }
        self.history.push(history.build().expect("a history entry has no field that must be set"));
    }

    /// The configuration without layers: those are known when it is built.
    pub fn into_image(self, platform: &Platform) -> ImageConfiguration {
        let mut config = ConfigBuilder::default().env(self.env);
        // What is not set is left out, so that the text is as short as it can be.
        if !self.user.is_empty() {
            config = config.user(self.user);
        }
        if let Some(entrypoint) = self.entrypoint {
            config = config.entrypoint(entrypoint);
        }
        if let Some(cmd) = self.cmd {
            config = config.cmd(cmd);
        }
        if !self.workdir.is_empty() {
            config = config.working_dir(self.workdir);
        }
        if !self.ports.is_empty() {
            config = config.exposed_ports(self.ports.into_iter().collect::<Vec<_>>());
        }
        if !self.volumes.is_empty() {
            config = config.volumes(self.volumes.into_iter().collect::<Vec<_>>());
        }
        if !self.labels.is_empty() {
            config = config.labels(self.labels.into_iter().collect::<HashMap<_, _>>());
        }
        if let Some(signal) = self.stop_signal {
            config = config.stop_signal(signal);
        }
        let config = config.build().expect("a config has no field that must be set");
        let mut image = ImageConfigurationBuilder::default()
            .architecture(Arch::from(platform.architecture.as_str()))
            .os(Os::from(platform.os.as_str()))
            .rootfs(RootFs::default())
            .history(self.history)
            .config(config);
        if !platform.variant.is_empty() {
            image = image.variant(platform.variant.clone());
        }
        if let Some(author) = self.author {
            image = image.author(author);
        }
        image.build().expect("architecture, os and rootfs are set")
    }
}
