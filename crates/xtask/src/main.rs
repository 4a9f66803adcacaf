//! What `./x` calls: sets a machine up, builds what runs on seL4, makes the SDK images, and
//! runs the demonstration, the tests and the benchmarks. It only orders other programs about;
//! nothing of koskit itself lives here.

mod content;
mod host;
mod kernel;
mod licences;
mod packages;
mod platform;
mod sdk;
mod sel4;
mod tally;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "./x", about = "Builds, shows and tests koskit", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build target/release/koskit, and all that a machine boots with
    Build,
    /// Build the seL4 kernels, release and debug, and say where they are
    Kernel {
        /// Instead, build each twice from nothing, and fail unless both have the same bytes
        #[arg(long)]
        twice: bool,
    },
    /// Check and test everything; the last line says how many passed, failed and were skipped
    Test,
    /// Make and import the SDK images kos/dev-c-aarch64-kos-linux-musl and kos/busybox
    Sdk,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("./x: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Build => platform::build(),
        Command::Kernel { twice } => {
            packages::install(&[packages::BUILD])?;
            let cache = host::cache()?;
            if twice {
                return kernel::check_reproducible(&cache);
            }
            for variant in [kernel::Variant::Release, kernel::Variant::Debug] {
                println!("{}", kernel::build(variant, &cache)?.display());
            }
            Ok(())
        }
        Command::Test => test::run_all(),
        Command::Sdk => {
            packages::install(&[packages::BUILD, packages::RUN, packages::SDK])?;
            platform::build()?;
            sdk::make()
        }
    }
}
