//! `koskit machine`: machines that run until they are stopped, and the connection to one.

use crate::names;
use crate::output::{self, Telling};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use koskit_keeper::{Ask, Client, Place, Stream, stopped};
use koskit_machine::{Options, Platform};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};

/// Start, list and stop seL4 machines
///
/// Without a machine, `koskit run` boots one of its own for its container. On a machine that runs,
/// containers come and go.
#[derive(Subcommand)]
pub enum Command {
    Start(Start),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Stop(Stop),
    Info(Info),
    Console(Console),
    #[command(hide = true)]
    Keep(Start),
}

/// Which machine a command is about.
#[derive(Args, Clone)]
pub struct Which {
    /// Name of the machine
    #[arg(id = "machine", long = "machine", value_name = "NAME", default_value = "default")]
    name: String,
}

/// Start a machine
///
/// It runs in the background until `koskit machine stop`.
#[derive(Args)]
pub struct Start {
    /// Name of the machine
    #[arg(default_value = "default")]
    name: String,
    /// Memory that containers can get, in MiB, or with M or G; default and most: 1G
    #[arg(short, long, value_name = "SIZE", value_parser = mebibytes)]
    memory: Option<u32>,
    /// Boot the seL4 kernel that checks itself
    #[arg(long)]
    debug_kernel: bool,
}

/// A size in MiB.
fn mebibytes(text: &str) -> std::result::Result<u32, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| !c.is_ascii_digit()).len());
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => 1024,
        _ => return Err("it is a number of MiB, or one with M or G".into()),
    };
    let size = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    size.filter(|size| (16..=1024).contains(size)).ok_or("it must be between 16M and 1G".into())
}

/// List the machines that run
#[derive(Args)]
pub struct Ls {
    /// Print nothing but names
    #[arg(short, long)]
    quiet: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: output::Listing,
}

/// Stop a machine, with all its containers
#[derive(Args)]
pub struct Stop {
    /// Name of the machine
    #[arg(default_value = "default")]
    name: String,
}

/// Show what a machine is and how much memory is free
#[derive(Args)]
pub struct Info {
    /// Name of the machine
    #[arg(default_value = "default")]
    name: String,
    /// Text for people, or one JSON object
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Telling,
}

/// Show what the machine itself has said
#[derive(Args)]
pub struct Console {
    /// Name of the machine
    #[arg(default_value = "default")]
    name: String,
    /// Go on until the machine ends
    #[arg(short, long)]
    follow: bool,
}

impl Which {
    /// A connection to it; `None` where it does not run.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn client(&self) -> Result<Option<Client>> {
        Ok(Client::connect(&Place::new(&self.name)?)?)
    }

    /// Asks it.
    ///
    /// # Errors
    /// It does not run, or says no.
    pub fn ask(&self, ask: &Ask) -> Result<Value> {
        Ok(self.must()?.ask(ask)?)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// It does not run.
    pub fn must(&self) -> Result<Client> {
        Ok(self.client()?.ok_or_else(|| stopped(&self.name))?)
    }

    /// Whether somebody has named one that is not the default.
    pub fn is_named(&self) -> bool {
        self.name != "default"
    }
}

/// Does it.
///
/// # Errors
/// A sentence that says what to do.
pub fn machine(command: &Command) -> Result<()> {
    match command {
        Command::Start(arguments) => start(arguments),
        Command::Ls(arguments) => list(arguments),
        Command::Stop(Stop { name }) => {
            named(name).ask(&Ask::End)?;
            output::print(&format!("{name}\n"))?;
            Ok(())
        }
        Command::Info(arguments) => info(arguments),
        Command::Console(Console { name, follow }) => {
            let ask = Ask::Console { follow: *follow };
            named(name).must()?.follow(&ask, &mut |piece| -> Result<()> {
                if piece.stream == Stream::Log {
                    output::bytes(&piece.bytes)?;
                }
                Ok(())
            })?;
            Ok(())
        }
        Command::Keep(arguments) => keep(arguments),
    }
}

fn named(name: &str) -> Which {
    Which { name: name.to_owned() }
}

/// What the keeper says when commands can come.
const READY: &str = "ready";

/// Starts the keeper, which is this program again.
fn start(arguments: &Start) -> Result<()> {
    let place = Place::new(&arguments.name)?;
    if place.is_kept()? {
        bail!("the machine {} runs already", arguments.name);
    }
    let us = std::env::current_exe().context("cannot find our own executable")?;
    let mut keeper = Process::new(us);
    keeper.args(["machine", "keep", &arguments.name]);
    if arguments.debug_kernel {
        keeper.arg("--debug-kernel");
    }
    if let Some(memory) = arguments.memory {
        keeper.arg(format!("--memory={memory}"));
    }
    // The file is made before the keeper's own folder is, so that its first words are kept.
    keeper.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut keeper = keeper.spawn().context("cannot start the machine's keeper")?;
    let mut line = String::new();
    let mut said = BufReader::new(keeper.stdout.take().context("the keeper has no output")?);
    // A keeper that ends says nothing more.
    let _ = said.read_line(&mut line);
    if line.trim_end() != READY {
        let mut why = String::new();
        if let Some(mut stderr) = keeper.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut why);
        }
        let _ = keeper.wait();
        let why = why.trim_end();
        let why = why.strip_prefix("koskit: ").unwrap_or(why);
        bail!("the machine {} did not start: {why}", arguments.name);
    }
    output::print(&format!("{}\n", arguments.name))?;
    Ok(())
}

/// Is the keeper.
fn keep(arguments: &Start) -> Result<()> {
    // Signals to the terminal's programs are not for us. Only who leads a group cannot leave.
    let _ = rustix::process::setsid();
    let place = Place::new(&arguments.name)?;
    let platform = Platform::find()?;
    let options = Options {
        debug_kernel: arguments.debug_kernel,
        memory: arguments.memory.unwrap_or(0),
        ..Options::default()
    };
    koskit_keeper::keep(place, &platform, &options, || {
        // Where nobody listens, the machine runs all the same.
        let _ = output::print(&format!("{READY}\n"));
        silence();
    })?;
    Ok(())
}

/// Whoever started us waits for the end of our streams no longer.
fn silence() {
    if let Ok(null) = fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

fn list(arguments: &Ls) -> Result<()> {
    let mut rows = vec![["NAME", "PID", "RUNNING", "FREE", "STARTED"].map(str::to_owned).to_vec()];
    let mut text = String::new();
    for place in Place::all()? {
        let Some(client) = Client::connect(&place)? else { continue };
        let info = client.ask(&Ask::Info)?;
        if arguments.quiet {
            text.push_str(&format!("{}\n", place.name));
        } else if arguments.format == output::Listing::Json {
            text.push_str(&format!("{info}\n"));
        } else {
            let number = |name: &str| info[name].as_u64().unwrap_or(0);
            rows.push(vec![
                place.name,
                info["pid"].to_string(),
                info["running"].to_string(),
                format!(
                    "{} of {}",
                    output::size(number("free_bytes")),
                    output::size(number("total_bytes"))
                ),
                format!("{} ago", names::since(number("started"))),
            ]);
        }
    }
    if text.is_empty() && !arguments.quiet && arguments.format == output::Listing::Table {
        text = output::table(&rows);
    }
    output::print(&text)?;
    Ok(())
}

fn info(arguments: &Info) -> Result<()> {
    let info = named(&arguments.name).ask(&Ask::Info)?;
    if arguments.format == Telling::Json {
        output::print(&format!("{info}\n"))?;
        return Ok(());
    }
    let number = |name: &str| info[name].as_u64().unwrap_or(0);
    let rows = [
        ("Name", arguments.name.clone()),
        ("Kernel", info["kernel"].as_str().unwrap_or("unknown").to_owned()),
        ("Up", names::since(number("started"))),
        ("Keeper", format!("process {}", number("pid"))),
        ("Containers", format!("{}, {} running", number("containers"), number("running"))),
        ("Memory", output::size(number("total_bytes"))),
        ("Free", output::size(number("free_bytes"))),
        ("Largest untyped", output::size(number("largest_bytes"))),
    ];
    output::print(&output::table(&rows.map(|(name, value)| vec![name.to_owned(), value])))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::mebibytes;

    #[test]
    fn sizes_of_machines_are_in_mebibytes() {
        assert_eq!(["64", "64M", "64mb", "1G"].map(mebibytes), [64, 64, 64, 1024].map(Ok));
        for wrong in ["", "M", "8", "2G", "1T", "-1", "99999999999"] {
            assert!(mebibytes(wrong).is_err(), "{wrong}");
        }
    }
}
