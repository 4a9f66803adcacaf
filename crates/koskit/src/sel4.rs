//! What is done for builds for seL4 (`koskit-transform`), between Dockerfile, engine and image.

use crate::build::engine::Made;
use crate::output::{self, Paint};
use anyhow::{Result, anyhow};
use clap::Args;
use koskit_frontend::{Build, ImageResolver};
use koskit_image::Store;
use koskit_progress::Progress;
use koskit_transform::{Adapted, Options, Wish, adapt, labels};

/// What the command line says about building for seL4.
#[derive(Args, Clone, Debug)]
pub struct Sel4 {
    /// Build for seL4: mount the SDK toolchain for the commands of build-platform stages, and
    /// compute the labels that are missing. By default so where the image has a label
    /// com.koskit.app.… or a stage begins FROM kos/…
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = Wish::parse)]
    sel4: Option<Wish>,
}

impl Sel4 {
    /// How to adapt the build with these options, whose build arguments for koskit itself are
    /// taken out.
    ///
    /// # Errors
    /// One of these arguments has a value that it cannot have.
    pub fn options(&self, options: &mut koskit_frontend::Options) -> Result<Options> {
        let (target, build) = (options.target_platform.clone(), options.build_platform.clone());
        let mut adapting = Options::new(&mut options.build_args, target, build);
        if let (Ok(adapting), Some(wish)) = (&mut adapting, self.sel4) {
            adapting.wish = wish;
        }
        adapting.map_err(|why| anyhow!(why))
    }
}

/// Adapts a build; its graph then is the adapted one.
///
/// # Errors
/// It was asked for, and cannot be done.
pub fn transform(
    build: &mut Build,
    options: &Options,
    images: &dyn ImageResolver,
) -> Result<Adapted> {
    let adapted = adapt(&build.definition, &build.config, options, images)?;
    build.definition.clone_from(&adapted.definition);
    Ok(adapted)
}

/// Adds the labels that the image of an adapted build lacks. Where they cannot be computed it
/// is built without, as it would be for Linux, and the line that is returned says why.
pub fn label(
    adapted: &Adapted,
    store: &Store,
    made: &mut Made,
    progress: &Progress,
) -> Option<String> {
    adapted.reason.as_ref()?;
    let computed = progress.step("computing labels for seL4", |step| {
        let labels = labels(store, &made.config, &made.layers)?;
        for (name, value) in labels {
            drop(step.task(&format!("{name}={value}")));
            made.config.config.labels.insert(name, value);
        }
        Ok::<_, koskit_transform::LabelsError>(())
    });
    let error = computed.err()?;
    Some(warning(&format!("the image gets no labels: {:#}", anyhow!(error))))
}

/// Shows warnings.
pub fn warn(given: &[String]) {
    warnings(given).for_each(|warning| output::error(&warning));
}

/// Warnings as lines.
pub fn warnings(given: &[String]) -> impl Iterator<Item = String> {
    given.iter().map(|text| warning(text))
}

fn warning(text: &str) -> String {
    format!("{} {text}\n", Paint::stderr().with("1;33", "warning:"))
}
