//! What `./x` calls: sets a machine up, builds what runs on seL4, makes the SDK images, and
//! runs the demonstration, the tests and the benchmarks. It only orders other programs about;
//! nothing of koskit itself lives here.

mod content;
mod demo;
mod frontend;
mod fuzz;
mod host;
mod kernel;
mod licences;
mod packages;
mod peers;
mod platform;
mod sdk;
mod sel4;
mod tally;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "./x",
    bin_name = "./x",
    about = "Shows, builds and tests koskit. Missing Debian packages are named, then installed.",
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ./x demo                            build the talk's hello from its Dockerfile, run it on seL4
  ./x test                            before a change is proposed
  ./x build && target/release/koskit  work with the command line that you have changed

What is built goes to target/ and, by its content, to $XDG_CACHE_HOME/koskit (~/.cache/koskit);
images go to $XDG_DATA_HOME/koskit (~/.local/share/koskit).";

#[derive(Subcommand)]
enum Command {
    /// Set everything up, build examples/hello and run it on seL4
    Demo,
    /// Check and test everything; the last line says how many passed, failed and were skipped
    Test,
    /// Build target/release/koskit, and all that a machine boots with
    Build,
    /// Count the instructions from the machine's reset to the end of hello; writes bench/results
    Bench {
        #[command(subcommand)]
        what: Option<Bench>,
    },
    /// Make and import the SDK's images, and those that examples/ begin with
    Sdk,
    /// Make the image kos/frontend, by which docker and BuildKit build as koskit does
    Frontend,
    /// Make the root of Debian's newest docker and buildah that tests and benchmarks compare with
    Peers,
    /// Feed what reads strangers' files with what nobody would write, and see what must hold
    Fuzz {
        /// What is fed, such as dockerfile or layer; default: all, one after the other
        targets: Vec<String>,
        /// For how long, each
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Afterwards, add to fuzz/corpus what covers something new
        #[arg(long)]
        keep: bool,
    },
    /// Build the seL4 kernels, release and debug, and say where they are
    Kernel {
        /// Instead, build each twice from nothing, and fail unless both have the same bytes
        #[arg(long)]
        twice: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Build, push and pull beside docker and buildah, as far as this machine can have them; writes
    /// bench/results
    Build {
        /// How often each thing is done; the table has the medians
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Only some of six, wide, changed and transfer, with commas between; writes nothing
        #[arg(long)]
        only: Option<String>,
    },
    /// Count what a start and system calls take in a native container, and on Linux on the same
    /// machine; writes bench/results
    Native {
        /// How the figures are printed
        #[arg(long, default_value = "text", value_parser = ["text", "json"])]
        format: String,
    },
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
        Command::Demo => demo::demo(),
        Command::Bench { what: None } => demo::bench(),
        Command::Bench { what: Some(Bench::Build { rounds, only }) } => {
            demo::bench_build(rounds, only.as_deref())
        }
        Command::Bench { what: Some(Bench::Native { format }) } => demo::bench_native(&format),
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
        Command::Fuzz { targets, seconds, keep } => {
            fuzz::fuzz(&fuzz::Options { targets, seconds, keep })
        }
        Command::Test => test::run_all(),
        Command::Frontend => frontend::make(),
        Command::Peers => {
            println!("{}", peers::make()?.display());
            Ok(())
        }
        Command::Sdk => {
            packages::install(&[packages::BUILD, packages::RUN, packages::SDK])?;
            platform::build()?;
            sdk::make()?;
            sdk::make_examples()?;
            sdk::make_programs()
        }
    }
}
