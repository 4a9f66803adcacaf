//! `koskit frontend`: what the image that `./x frontend` makes does.

use crate::{error, scanner};
use clap::Args;
use std::process::ExitCode;

/// Say to BuildKit what to build, or what is in what it has built
///
/// BuildKit starts this itself, in a container of the image kos/frontend, where a Dockerfile
/// names that image by # syntax= or a build by --build-arg BUILDKIT_SYNTAX=; and where a build
/// with --sbom names it as the generator.
#[derive(Args)]
pub struct Arguments {}

/// Serves one build, or writes one bill of materials.
pub fn frontend(_: &Arguments) -> ExitCode {
    if !scanner::is_asked() {
        return koskit_buildkit::serve();
    }
    match scanner::scan() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => error::report(&failure, 1),
    }
}
