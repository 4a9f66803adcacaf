//! The command line: arguments, progress and words. What a command does is in other crates.

mod build;
mod builder;
mod compose;
mod container;
mod copy;
mod debug;
mod diff;
mod error;
mod explain;
mod frontend;
mod history;
mod holds;
mod images;
mod inspect;
mod load;
mod login;
mod lower;
mod machine;
mod names;
mod output;
mod prune;
mod ps;
mod pull;
mod push;
mod registry;
mod rmi;
mod run;
mod save;
mod sbom;
mod scanner;
mod sdk;
mod sel4;
mod sign;
mod system;
mod tag;
mod trust;
mod version;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds container images for seL4, and runs them on it.
#[derive(Parser)]
#[command(
    name = "koskit",
    version,
    about = "Container images on seL4: build them from Dockerfiles, run them on a seL4 machine",
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  koskit build -t hello examples/hello    build an image from a Dockerfile
  koskit run hello                        run it on a seL4 machine
  koskit machine start                    start a machine that runs until it is stopped
  koskit run -d --name web web            run a container in its background
  koskit images                           list what there is
  koskit inspect hello                    show everything about an image

Images are kept in $XDG_DATA_HOME/koskit (~/.local/share/koskit), an OCI image layout.";

#[derive(Subcommand)]
enum Command {
    Build(Box<build::Arguments>),
    Explain(explain::Arguments),
    #[command(subcommand)]
    Builder(builder::Command),
    Compose(compose::Arguments),
    Run(Box<run::Arguments>),
    #[command(subcommand)]
    Machine(machine::Command),
    Ps(ps::Arguments),
    Logs(container::Logs),
    Stop(container::Stop),
    Kill(container::Kill),
    Rm(container::Remove),
    Wait(container::Wait),
    Stats(ps::Stats),
    Top(ps::Top),
    Images(images::Arguments),
    Inspect(inspect::Arguments),
    History(history::Arguments),
    Diff(diff::Arguments),
    Tag(tag::Arguments),
    Rmi(rmi::Arguments),
    Prune(prune::Arguments),
    Save(save::Arguments),
    Load(load::Arguments),
    #[command(subcommand)]
    System(system::Command),
    Pull(pull::Arguments),
    Push(push::Arguments),
    Copy(copy::Arguments),
    Login(login::Login),
    Logout(login::Logout),
    Lower(lower::Arguments),
    Sbom(sbom::Arguments),
    Sign(sign::Sign),
    Verify(sign::Verify),
    #[command(subcommand)]
    Trust(trust::Command),
    Version(version::Arguments),
    #[command(subcommand)]
    Debug(debug::Command),
    #[command(hide = true)]
    Frontend(frontend::Arguments),
    #[command(hide = true, subcommand)]
    Sdk(sdk::Command),
}

fn main() -> ExitCode {
    koskit_solver::init();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return error::usage(&error),
    };
    let done = match arguments.command {
        Command::Run(arguments) => return run::run(&arguments),
        Command::Frontend(arguments) => return frontend::frontend(&arguments),
        Command::Build(arguments) => build::build(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Builder(command) => builder::builder(&command),
        Command::Compose(arguments) => compose::compose(&arguments),
        Command::Machine(command) => machine::machine(&command),
        Command::Ps(arguments) => ps::ps(&arguments),
        Command::Logs(arguments) => container::logs(&arguments),
        Command::Stop(arguments) => container::stop(&arguments),
        Command::Kill(arguments) => container::kill(&arguments),
        Command::Rm(arguments) => container::remove(&arguments),
        Command::Wait(arguments) => container::wait(&arguments),
        Command::Stats(arguments) => ps::stats(&arguments),
        Command::Top(arguments) => ps::top(&arguments),
        Command::Images(arguments) => images::images(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::History(arguments) => history::history(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Tag(arguments) => tag::tag(&arguments),
        Command::Rmi(arguments) => rmi::rmi(&arguments),
        Command::Prune(arguments) => prune::prune(&arguments),
        Command::Save(arguments) => save::save(&arguments),
        Command::Load(arguments) => load::load(&arguments),
        Command::System(command) => system::system(&command),
        Command::Pull(arguments) => pull::pull(&arguments),
        Command::Push(arguments) => push::push(&arguments),
        Command::Copy(arguments) => copy::copy(&arguments),
        Command::Login(arguments) => login::login(&arguments),
        Command::Logout(arguments) => login::logout(&arguments),
        Command::Lower(arguments) => lower::write(&arguments),
        Command::Sbom(arguments) => sbom::sbom(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Verify(arguments) => sign::verify(&arguments),
        Command::Trust(command) => trust::trust(&command),
        Command::Version(arguments) => version::version(&arguments),
        Command::Debug(command) => debug::debug(&command),
        Command::Sdk(sdk::Command::Import(arguments)) => sdk::import(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
