//! `koskit run`: an image on a seL4 machine, on one that runs or on one of its own.
//!
//! The container's standard output and error are ours, byte for byte; what the machine says
//! about itself comes with `--verbose`. We end with the container's status, or with 125 where
//! there is none, as `docker run` does.

use crate::error::{RUN_FAILED, report};
use crate::machine::Which;
use crate::output::{self, Paint};
use crate::{lower, names};
use anyhow::{Result, ensure};
use clap::Args;
use koskit_keeper::{BlobName, Client, Piece, Policy, Run, Stream};
use koskit_llb::Reference;
use koskit_lower::Bundle;
use koskit_machine::{Container, Digest, Event, Message, Platform, STATUS_FAULTED, boot};
use koskit_spec::board;
use std::process::ExitCode;

/// Run a container of an image on a seL4 machine
///
/// Starts the container on the machine that runs (koskit machine start), or else boots one in QEMU
/// for this container alone; and ends with its exit status.
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
    /// Leave the container running in the background, on a machine, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Give the container our standard input
    #[arg(short, long)]
    interactive: bool,
    /// A terminal, which containers do not have yet: accepted, and does nothing
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Forget the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Let the container drive a device that its image's label asks for
    #[arg(long = "device", value_name = "NAME")]
    devices: Vec<String>,
    /// Start it again when it ends: no, on-failure[:COUNT] or always
    #[arg(long, value_name = "POLICY", default_value_t)]
    restart: Policy,
    /// Count instructions instead of time, on a machine of its own
    #[arg(long, hide = true)]
    icount: bool,
    #[command(flatten)]
    machine: Which,
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
  koskit run -d --name web --restart always web
                                            in the background of a machine that runs
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
    // These ask for a machine of its own.
    let alone = arguments.icount || arguments.debug_kernel;
    ensure!(
        !alone || !arguments.detach,
        "a container on a machine of its own cannot run in the background"
    );
    let needs = arguments.machine.is_named() || arguments.detach || arguments.restart != Policy::No;
    let client = match arguments.machine.client() {
        _ if alone => None,
        // Where sockets cannot be, there is no machine.
        Err(_) if !needs => None,
        other => other?,
    };
    if client.is_none() && needs && !alone {
        // It says what to do.
        arguments.machine.must()?;
    }
    let bundle = arguments.process.lower(&platform, &arguments.image, &arguments.args)?;
    allow_devices(&bundle, &arguments.devices)?;
    let mut listener = Listener { paint: Paint::stderr(), arguments, fault: None, closed: None };
    listener.contract(&bundle);
    if let Some(client) = client {
        return on_machine(client, arguments, bundle, &mut listener);
    }
    let container = Container {
        contract: bundle.contract,
        process: bundle.process(),
        program: bundle.program,
        initrd: bundle.initrd,
    };
    let options = koskit_machine::Options {
        icount: arguments.icount,
        debug_kernel: arguments.debug_kernel,
        input: arguments.interactive,
        ..Default::default()
    };
    let ended = boot(&platform, &[container], &options, &mut |message| listener.hear(message))?;
    match listener.closed {
        Some(closed) => Err(closed.into()),
        None => Ok(ended.status),
    }
}

/// An image can ask for devices, but not give them to itself.
fn allow_devices(bundle: &Bundle, allowed: &[String]) -> Result<()> {
    for (_, device) in board::devices(bundle.contract.devices) {
        ensure!(
            allowed.iter().any(|name| name == device.name),
            "the image asks for the device {0}; let its container drive it with: --device {0}",
            device.name
        );
    }
    Ok(())
}

/// Runs it on a machine that runs.
fn on_machine(
    client: Client,
    arguments: &Arguments,
    bundle: Bundle,
    listener: &mut Listener<'_>,
) -> Result<u8> {
    let spec = bundle.spec_json();
    let contract = [bundle.contract.to_bytes().as_slice(), &bundle.process()].concat();
    let blobs = [contract, bundle.program, bundle.initrd].map(|bytes| (digest(&bytes), bytes));
    let run = Run {
        name: arguments.process.name.clone(),
        image: names::short(&arguments.image),
        command: bundle.args,
        spec,
        restart: arguments.restart,
        interactive: arguments.interactive,
        detach: arguments.detach,
        remove: arguments.rm,
        blobs: blobs.each_ref().map(|(name, _)| *name),
    };
    let blob = |name: BlobName| {
        blobs.iter().find(|(known, _)| *known == name).map(|(_, bytes)| bytes.clone())
    };
    let mut id = String::new();
    let told = client.run(run, &blob, &mut |told| id.clone_from(&told.id), &mut |piece| {
        listener.piece(&piece);
        anyhow::Ok(())
    })?;
    if arguments.detach {
        output::print(&format!("{id}\n"))?;
        return Ok(0);
    }
    if let Some(closed) = listener.closed.take() {
        return Err(closed.into());
    }
    if let Some(error) = told.error {
        listener.fail(&format!("the container did not end by itself: {error}"));
    }
    Ok(told.status)
}

fn digest(bytes: &[u8]) -> BlobName {
    let hex = koskit_llb::Digest::of(bytes);
    let byte = |index: usize| u8::from_str_radix(&hex.hex()[2 * index..2 * index + 2], 16);
    BlobName(Digest(std::array::from_fn(|index| byte(index).unwrap_or(0))))
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

    /// The same, of a machine that runs.
    fn piece(&mut self, piece: &Piece) {
        match piece.stream {
            Stream::Output => self.write(&piece.bytes),
            Stream::Error => output::error_bytes(&piece.bytes),
            Stream::Log => {
                let text = String::from_utf8_lossy(&piece.bytes);
                text.lines().for_each(|line| self.say(line));
            }
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
