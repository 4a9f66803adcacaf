//! `koskit ps`, `stats` and `top`: the containers of a machine, as docker lists them.

use crate::machine::Which;
use crate::names;
use crate::output::{self, Listing};
use anyhow::{Context, Result};
use clap::Args;
use koskit_keeper::{Ask, State, Told};
use serde_json::{Value, json};

/// List containers
#[derive(Args)]
pub struct Arguments {
    /// Those that have ended, too
    #[arg(short, long)]
    all: bool,
    /// Print nothing but ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
    #[command(flatten)]
    machine: Which,
}

/// Show what running containers hold and have done
///
/// The machine counts no processor time yet.
#[derive(Args)]
pub struct Stats {
    /// Names or ids of containers; default: all that run
    #[arg(value_name = "CONTAINER")]
    names: Vec<String>,
    /// Show the figures once (which koskit always does)
    #[arg(long)]
    no_stream: bool,
    /// A table, or a JSON object on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
    #[command(flatten)]
    machine: Which,
}

/// Show the process of a container
#[derive(Args)]
pub struct Top {
    /// Its name or id
    #[arg(value_name = "CONTAINER")]
    name: String,
    #[command(flatten)]
    machine: Which,
}

/// All containers of a machine, the newest first.
///
/// # Errors
/// It does not run.
fn all(machine: &Which) -> Result<Vec<Told>> {
    let list = machine.ask(&Ask::List)?;
    let mut told: Vec<Told> =
        serde_json::from_value(list).context("the machine's keeper is of another version")?;
    told.reverse();
    Ok(told)
}

/// One container.
///
/// # Errors
/// There is none with that name.
pub fn one(machine: &Which, name: &str) -> Result<Told> {
    let told = machine.ask(&Ask::Inspect { name: name.to_owned() })?;
    serde_json::from_value(told).context("the machine's keeper is of another version")
}

/// How a container is, in docker's words.
pub fn status(told: &Told) -> String {
    let since = |time: Option<u64>| names::since(time.unwrap_or(told.created));
    match told.state {
        State::Created => "Created".into(),
        State::Running => format!("Up {}", since(told.started)),
        State::Restarting => {
            format!("Restarting ({}) {} ago", told.status, since(told.finished))
        }
        State::Exited => format!("Exited ({}) {} ago", told.status, since(told.finished)),
    }
}

/// Its words on one line.
fn command(told: &Told, whole: bool) -> String {
    let text = told.command.join(" ");
    let short: String = text.chars().take(19).collect();
    if whole || short.len() == text.len() {
        format!("\"{text}\"")
    } else {
        format!("\"{short}…\"")
    }
}

/// Prints them.
///
/// # Errors
/// The machine does not run.
pub fn ps(arguments: &Arguments) -> Result<()> {
    let mut told = all(&arguments.machine)?;
    told.retain(|told| arguments.all || told.state != State::Exited);
    let id = |told: &Told| match arguments.no_trunc {
        true => told.id.clone(),
        false => told.id.chars().take(12).collect(),
    };
    let text = if arguments.quiet {
        told.iter().map(|told| id(told) + "\n").collect()
    } else if arguments.format == Listing::Json {
        let object = |told: &Told| {
            json!({
                "ID": id(told), "Image": told.image, "Command": command(told, arguments.no_trunc),
                "CreatedAt": names::time(told.created), "Status": status(told),
                "State": told.state, "Names": told.name,
            })
        };
        told.iter().map(|told| format!("{}\n", object(told))).collect()
    } else {
        let head = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(told.iter().map(|told| {
            let created = format!("{} ago", names::since(told.created));
            let command = command(told, arguments.no_trunc);
            vec![id(told), told.image.clone(), command, created, status(told), told.name.clone()]
        }));
        output::table(&rows)
    };
    output::print(&text)?;
    Ok(())
}

/// Prints figures.
///
/// # Errors
/// The machine does not run, or a container does not.
pub fn stats(arguments: &Stats) -> Result<()> {
    let told = if arguments.names.is_empty() {
        let mut all = all(&arguments.machine)?;
        all.retain(|told| told.state == State::Running);
        all
    } else {
        let one = |name: &String| one(&arguments.machine, name);
        arguments.names.iter().map(one).collect::<Result<_>>()?
    };
    let head = ["CONTAINER ID", "NAME", "MEMORY", "REQUESTS", "READ / WRITTEN"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut text = String::new();
    for told in told {
        let ask = Ask::Stats { name: told.id.clone() };
        let stats = arguments.machine.ask(&ask)?;
        let number = |name: &str| stats[name].as_u64().unwrap_or(0);
        if arguments.format == Listing::Json {
            let mut object = json!({ "ID": told.id, "Name": told.name });
            if let (Some(to), Value::Object(from)) = (object.as_object_mut(), stats) {
                to.extend(from);
            }
            text.push_str(&format!("{object}\n"));
        } else {
            rows.push(vec![
                told.id.chars().take(12).collect(),
                told.name,
                output::size(number("memory_bytes")),
                number("requests").to_string(),
                format!(
                    "{} / {}",
                    output::size(number("read_bytes")),
                    output::size(number("written_bytes"))
                ),
            ]);
        }
    }
    if arguments.format == Listing::Table {
        text = output::table(&rows);
    }
    output::print(&text)?;
    Ok(())
}

/// Prints the process.
///
/// # Errors
/// There is no such container, or it does not run.
pub fn top(arguments: &Top) -> Result<()> {
    let told = one(&arguments.machine, &arguments.name)?;
    anyhow::ensure!(told.state == State::Running, "the container {} does not run", arguments.name);
    let started = names::time(told.started.unwrap_or(told.created));
    let rows = [
        ["PID", "STARTED", "CMD"].map(str::to_owned).to_vec(),
        vec!["1".into(), started, told.command.join(" ")],
    ];
    output::print(&output::table(&rows))?;
    Ok(())
}
