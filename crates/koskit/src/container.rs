//! `koskit logs`, `stop`, `kill`, `rm` and `wait`: what is done with a container of a machine.

use crate::error::Silent;
use crate::machine::Which;
use crate::names;
use crate::output;
use anyhow::Result;
use clap::Args;
use koskit_keeper::{Ask, Piece, Stream};
use serde_json::Value;

/// Show what a container has said
///
/// The machine keeps about the last 16 MiB of each container.
#[derive(Args)]
pub struct Logs {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    name: String,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// When, before each line
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    machine: Which,
}

/// End containers, politely
///
/// A container that reads its standard input gets its end, and some seconds for what it has to
/// finish; then it is killed. One that reads none is killed at once: native containers have no
/// signals from outside.
#[derive(Args)]
pub struct Stop {
    /// Their names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
    /// Seconds to wait
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    time: u64,
    #[command(flatten)]
    machine: Which,
}

/// End containers at once
#[derive(Args)]
pub struct Kill {
    /// Their names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    machine: Which,
}

/// Forget containers that have ended, with their logs
#[derive(Args)]
pub struct Remove {
    /// Their names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    machine: Which,
}

/// Wait until containers have ended, and print their statuses
#[derive(Args)]
pub struct Wait {
    /// Their names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    machine: Which,
}

/// Prints what a container has said: its output to ours, its errors to ours.
///
/// # Errors
/// There is no such container.
pub fn logs(arguments: &Logs) -> Result<()> {
    let tail = match arguments.tail.as_deref() {
        None | Some("all") => None,
        Some(lines) => Some(lines.parse().map_err(|_| {
            anyhow::anyhow!("--tail is a number of lines, or all; it is {lines:?}")
        })?),
    };
    let ask = Ask::Logs { name: arguments.name.clone(), follow: arguments.follow, tail };
    // Whether the next byte of output and of errors begins a line.
    let mut begins = [true; 2];
    arguments.machine.must()?.follow(&ask, &mut |piece: Piece| -> Result<()> {
        let error = piece.stream != Stream::Output;
        let bytes = if arguments.timestamps {
            stamped(&piece, &mut begins[usize::from(error)])
        } else {
            piece.bytes
        };
        if error {
            output::error_bytes(&bytes);
        } else {
            output::bytes(&bytes)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn stamped(piece: &Piece, begins: &mut bool) -> Vec<u8> {
    let time = names::time(piece.time);
    let mut bytes = Vec::new();
    for line in piece.bytes.split_inclusive(|&byte| byte == b'\n') {
        if *begins {
            bytes.extend_from_slice(time.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(line);
        *begins = line.ends_with(b"\n");
    }
    bytes
}

/// Stops them.
///
/// # Errors
/// One of them could not be.
pub fn stop(arguments: &Stop) -> Result<()> {
    let seconds = arguments.time;
    each(&arguments.machine, &arguments.names, |name| Ask::Stop { name, seconds }, print_name)
}

/// Kills them.
///
/// # Errors
/// One of them could not be.
pub fn kill(arguments: &Kill) -> Result<()> {
    each(&arguments.machine, &arguments.names, |name| Ask::Kill { name }, print_name)
}

/// Removes them.
///
/// # Errors
/// One of them could not be.
pub fn remove(arguments: &Remove) -> Result<()> {
    let force = arguments.force;
    each(&arguments.machine, &arguments.names, |name| Ask::Remove { name, force }, print_name)
}

/// Waits for them.
///
/// # Errors
/// There is none of that name.
pub fn wait(arguments: &Wait) -> Result<()> {
    each(
        &arguments.machine,
        &arguments.names,
        |name| Ask::Wait { name },
        |_, told| format!("{}\n", told["status"]),
    )
}

fn print_name(name: &str, _: &Value) -> String {
    format!("{name}\n")
}

/// Asks for each of them; one that fails keeps no other from being asked for.
fn each(
    machine: &Which,
    names: &[String],
    ask: impl Fn(String) -> Ask,
    print: impl Fn(&str, &Value) -> String,
) -> Result<()> {
    let mut failed = false;
    for name in names {
        match machine.ask(&ask(name.clone())) {
            Ok(answer) => output::print(&print(name, &answer))?,
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                output::error(&format!("koskit: {error}\n"));
                failed = true;
            }
        }
    }
    if failed { Err(Silent.into()) } else { Ok(()) }
}
