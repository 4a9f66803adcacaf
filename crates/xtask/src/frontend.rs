//! `./x frontend`: the image `kos/frontend`, by which docker and BuildKit build as koskit does.

use crate::host::{root, run, step};
use crate::{packages, platform};
use anyhow::Result;
use std::process::Command;

/// What it is called. Whoever uses it gives it a name in a registry of their own.
const NAME: &str = "kos/frontend";

/// Makes the image, for this machine's kind of processor, and says what to do with it.
///
/// # Errors
/// Something of it cannot be built.
pub fn make() -> Result<()> {
    packages::install(&[packages::BUILD, packages::RUN, packages::SDK])?;
    platform::build()?;
    let koskit = root().join("target/release/koskit");
    let folder = root().join("target/frontend");
    let source = root().join("sdk/frontend");
    step("lay out the frontend's files", || {
        run(Command::new("sh").arg(source.join("root.sh")).args([&koskit, &folder]))
    })?;
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    run(Command::new(&koskit)
        .args(["build", "--platform", platform, "--sel4=false", "-t", NAME, "-f"])
        .arg(source.join("Dockerfile"))
        .arg(&folder))?;
    println!("Give it a name in your registry, and name it in a build:");
    println!("  koskit tag {NAME} REGISTRY/{NAME} && koskit push REGISTRY/{NAME}");
    println!("  docker buildx build --build-arg BUILDKIT_SYNTAX=REGISTRY/{NAME} …");
    Ok(())
}
