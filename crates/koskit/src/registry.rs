//! What the commands have in common that talk to registries: how to connect, and what is shown
//! while blobs move.

use crate::build::Mode;
use crate::output::{Object, Paint};
use anyhow::{Result, anyhow};
use clap::Args;
use koskit_image::{Fetch, Image, Layer, Store};
use koskit_llb::{Digest, Platform, Reference};
use koskit_progress::{Progress, Step, StepTask};
use koskit_registry::{Client, Event, Options, Part, State};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// How registries are reached.
#[derive(Args, Clone, Debug, Default)]
pub struct Connection {
    /// Allow plain HTTP, and certificates of authorities that nobody knows
    #[arg(long)]
    insecure: bool,
    /// Trust also the authority of this certificate, in PEM; may be given several times
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

impl Connection {
    /// A client for registries.
    pub fn client(&self) -> Client {
        let (insecure, ca_files) = (self.insecure, self.ca_file.clone());
        Client::new(Options { insecure, ca_files, ..Options::default() })
    }
}

/// What all transfers can be told.
#[derive(Args)]
pub struct Transfer {
    /// Show nothing, and print the image's full name at the end
    #[arg(short, long)]
    pub quiet: bool,
    /// How to show progress [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_enum, value_name = "HOW")]
    progress: Option<Mode>,
    /// Print a JSON object for each image
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Object>,
    #[command(flatten)]
    connection: Connection,
}

impl Transfer {
    /// A client for registries.
    pub fn client(&self) -> Client {
        self.connection.client()
    }

    /// Begins to show progress.
    pub fn progress(&self) -> Progress {
        progress(self.progress, self.quiet)
    }
}

/// Fetches layers that were not needed until now, each as a step.
pub struct Layers {
    client: Client,
    progress: Progress,
}

impl Layers {
    pub fn new(progress: &Progress) -> Self {
        Self { client: Connection::default().client(), progress: progress.clone() }
    }

    /// Fetches those that are not in the store.
    ///
    /// # Errors
    /// One cannot be had.
    pub fn complete(&self, store: &Store, layers: &[Layer]) -> Result<()> {
        store.complete(layers, self).map_err(|error| anyhow!(error))
    }
}

impl Fetch for Layers {
    fn layer(
        &self,
        image: &Reference,
        layer: &Layer,
        store: &Store,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let fetched = self.progress.step(&format!("pulling a layer of {image}"), |step| {
            let blobs = Blobs::new(step);
            self.client.layer(image, layer, store, &|event| blobs.tell(event))
        });
        Ok(fetched?)
    }
}

/// Fetches the layers of an image that were not needed until now, and shows that if it takes
/// something.
///
/// # Errors
/// One cannot be had.
pub fn complete(store: &Store, image: &Image) -> Result<()> {
    if image.layers.iter().all(|layer| store.has_blob(&layer.digest)) {
        return Ok(());
    }
    let progress = progress(None, false);
    let completed = Layers::new(&progress).complete(store, &image.layers);
    progress.finish();
    completed
}

fn progress(mode: Option<Mode>, quiet: bool) -> Progress {
    Progress::new(&koskit_progress::Options {
        mode: Mode::choose(mode, quiet),
        color: Paint::stderr().is_on(),
        builder: String::new(),
    })
}

/// The platforms of an image that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All that there are.
    All,
    /// This one.
    One(Platform),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            text => text.parse().map(Self::One).map_err(|e| format!("{e}, or all")),
        }
    }
}

/// What happens to blobs, as parts of a step.
pub struct Blobs<'a> {
    step: &'a Step<'a>,
    tasks: RefCell<BTreeMap<Digest, StepTask<'a>>>,
}

impl<'a> Blobs<'a> {
    pub fn new(step: &'a Step<'a>) -> Self {
        Self { step, tasks: RefCell::default() }
    }

    /// Shows what happened to one.
    pub fn tell(&self, event: &Event<'_>) {
        let name = name(event);
        let mut tasks = self.tasks.borrow_mut();
        match &event.state {
            State::Waiting => {}
            State::Present => drop(self.step.task(&format!("{name} is there already"))),
            State::Mounted(from) => drop(self.step.task(&format!("{name} mounted from {from}"))),
            State::Moved(bytes) => {
                let task = tasks.entry(event.digest.clone());
                task.or_insert_with(|| self.step.task(&name)).update(*bytes, event.size);
            }
            State::Retry { why, .. } => {
                self.step.log(&format!("{name}: {why}; trying again\n"));
            }
            State::Done => {
                let mut task = tasks.remove(event.digest).unwrap_or_else(|| self.step.task(&name));
                task.update(event.size, event.size);
            }
        }
    }
}

/// What a blob is called.
fn name(event: &Event<'_>) -> String {
    match event.part {
        Part::Document => format!("manifest {}", event.digest),
        Part::Config => format!("config {}", event.digest),
        Part::Layer => event.digest.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_platform_is_wanted_or_all() {
        assert_eq!("all".parse(), Ok(Wanted::All));
        let arm = "linux/arm64".parse().unwrap();
        assert_eq!("arm64/v8".parse::<Wanted>().is_err(), "arm64/v8".parse::<Platform>().is_err());
        assert_eq!("linux/arm64/v8".parse(), Ok(Wanted::One(arm)));
        assert!("toaster".parse::<Wanted>().unwrap_err().ends_with(", or all"));
    }
}
