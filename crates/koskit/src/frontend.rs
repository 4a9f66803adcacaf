//! `koskit frontend`: what the image that `./x frontend` makes does.

use clap::Args;
use std::process::ExitCode;

/// Say to BuildKit what to build
///
/// BuildKit starts this itself, in a container of the image kos/frontend, where a Dockerfile
/// names that image by # syntax= or a build by --build-arg BUILDKIT_SYNTAX=.
#[derive(Args)]
pub struct Arguments {}

/// Serves one build.
pub fn frontend(_: &Arguments) -> ExitCode {
    koskit_buildkit::serve()
}
