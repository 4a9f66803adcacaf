//! `koskit run`: an image on a seL4 machine.
//!
//! The container's standard output and error are ours, byte for byte; what the machine says
//! about itself comes with `--verbose`. We end with the container's status, or with 125 where
//! there is none, as `docker run` does.

use crate::error::{RUN_FAILED, report};
use crate::lower;
use crate::output::{self, Paint};
use anyhow::Result;
use clap::Args;
use koskit_llb::Reference;
use koskit_lower::Bundle;
use koskit_machine::{Container, Event, Message, Platform, STATUS_FAULTED, boot};
use std::process::ExitCode;

/// Run a container of an image on a seL4 machine
///
/// Boots seL4 in QEMU, starts the container, and ends with its exit status.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    process: lower::Process,
    /// Tell what the machine does: boot, contract, memory given back
    #[arg(short, long)]
    verbose: bool,
    /// Boot the seL4 kernel that checks itself and prints what it does
    #[arg(long)]
    debug_kernel: bool,
    /// Remove the container when it ends (which koskit always does)
    #[arg(long, hide = true)]
    rm: bool,
    /// Count instructions instead of time
    #[arg(long, hide = true)]
    icount: bool,
    /// Name of an image
    image: Reference,
    /// Arguments of the program, instead of the image's CMD
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    args: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  koskit run hello                          what the image's ENTRYPOINT and CMD say
  koskit run -e HELLO=seL4 hello one two    another variable, other arguments
  koskit run --entrypoint /bin/ls kos/busybox /
  koskit run --verbose hello                and tell what the machine does";

/// Runs it. The status to end with is the container's.
pub fn run(arguments: &Arguments) -> ExitCode {
    match try_run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => report(&error, RUN_FAILED),
    }
}

fn try_run(arguments: &Arguments) -> Result<u8> {
    let platform = Platform::find()?;
    let bundle = arguments.process.lower(&platform, &arguments.image, &arguments.args)?;
    let mut listener = Listener { paint: Paint::stderr(), arguments, fault: None, closed: None };
    listener.contract(&bundle);
    let container = Container {
        contract: bundle.contract,
        process: bundle.process(),
        program: bundle.program,
        initrd: bundle.initrd,
    };
    let options = koskit_machine::Options {
        icount: arguments.icount,
        debug_kernel: arguments.debug_kernel,
        ..Default::default()
    };
    let ended = boot(&platform, &[container], &options, &mut |message| listener.hear(message))?;
    match listener.closed {
        Some(closed) => Err(closed.into()),
        None => Ok(ended.status),
    }
}

/// Passes on what the machine says.
struct Listener<'a> {
    paint: Paint,
    arguments: &'a Arguments,
    /// The fault that was told already.
    fault: Option<String>,
    /// Why standard output cannot be written any more.
    closed: Option<output::WriteError>,
}

impl Listener<'_> {
    fn hear(&mut self, message: Message<'_>) {
        match message {
            Message::Output { bytes, .. } => self.write(bytes),
            Message::Error { bytes, .. } => output::error_bytes(bytes),
            // What the log says of a container is that something is wrong with it; a debug kernel
            // is asked for because of what it says.
            Message::Log { container, line } => {
                if self.fault.as_ref().is_some_and(|fault| line.ends_with(fault)) {
                    return;
                }
                if container > 0 || self.arguments.verbose || self.arguments.debug_kernel {
                    self.say(line);
                }
            }
            Message::Event(Event::Faulted { what, .. }) => {
                self.fail(&format!(
                    "the container was ended because of a fault: {what} (status {STATUS_FAULTED})"
                ));
                self.fault = Some(what.to_owned());
            }
            Message::Event(Event::Refused { reason, .. }) => {
                self.fail(&format!("the root server refused the container: {reason}"));
            }
            Message::Event(event) if self.arguments.verbose => self.say(&event.to_string()),
            Message::Event(_) => {}
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let Err(error) = output::bytes(bytes) else { return };
        if error.0.kind() == std::io::ErrorKind::BrokenPipe {
            // Nobody reads any more: as with SIGPIPE. The machine ends with us.
            std::process::exit(crate::error::BROKEN_PIPE.into());
        }
        self.closed.get_or_insert(error);
    }

    fn contract(&self, bundle: &Bundle) {
        if self.arguments.verbose {
            lower::table(bundle).lines().for_each(|line| self.say(line));
        }
    }

    fn say(&self, line: &str) {
        output::error(&format!("{}\n", self.paint.with("2", &format!("sel4| {line}"))));
    }

    fn fail(&self, sentence: &str) {
        output::error(&format!("{} {sentence}\n", self.paint.with("1;31", "koskit:")));
    }
}
