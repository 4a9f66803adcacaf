//! `koskit login` and `koskit logout`: who we are to registries, shared with docker.

use crate::output::{self, Paint};
use crate::registry::Connection;
use anyhow::{Context, Result, bail};
use clap::Args;
use koskit_registry::{Credentials, DOCKER_HUB, Kept, Secret};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read};

/// Tell a registry who you are
///
/// Name and password are checked, and kept where docker keeps them: with the credential helper
/// that its config.json names, else in that file.
#[derive(Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub struct Login {
    /// The user's name [default: ask for it]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The password; others on this machine can see it, so better use --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    connection: Connection,
    /// The registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
}

const LOGIN_EXAMPLES: &str = "\
Examples:
  koskit login                                                  docker.io; asks for both
  koskit login -u me --password-stdin registry.example < token  as programs do it";

/// Forget who you are to a registry
#[derive(Args)]
pub struct Logout {
    /// The registry [default: docker.io]
    #[arg(value_name = "HOST[:PORT]")]
    registry: Option<String>,
}

/// Checks and keeps name and password.
///
/// # Errors
/// The registry cannot be reached or does not take them, or they cannot be kept.
pub fn login(arguments: &Login) -> Result<()> {
    let registry = registry(arguments.registry.as_deref())?;
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None => ask("Username: ")?,
    };
    if user.is_empty() {
        bail!("a user's name is not empty");
    }
    let password = match (&arguments.password, arguments.password_stdin) {
        (Some(password), _) => {
            let head = Paint::stderr().with("1;33", "warning:");
            output::error(&format!(
                "{head} others on this machine can see --password; use --password-stdin\n"
            ));
            password.clone()
        }
        (None, true) => {
            let mut text = String::new();
            let read = io::stdin().lock().take(1 << 20).read_to_string(&mut text);
            read.context("cannot read the password from standard input")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, false) => ask_secret("Password: ")?,
    };
    if password.is_empty() {
        bail!("a password is not empty");
    }
    let client = arguments.connection.client();
    let credential = client.check(&registry, &user, Secret::from(password))?;
    match Credentials::user().set(&registry, &credential)? {
        Kept::Helper(_) => {}
        Kept::File(path) => {
            let head = Paint::stderr().with("1;33", "warning:");
            output::error(&format!(
                "{head} the password is in {} in the clear; a credential helper \
                 (\"credsStore\" there) would keep it better\n",
                path.display()
            ));
        }
    }
    output::print("Login Succeeded\n")?;
    Ok(())
}

/// Forgets name and password.
///
/// # Errors
/// docker's file cannot be written.
pub fn logout(arguments: &Logout) -> Result<()> {
    let registry = registry(arguments.registry.as_deref())?;
    let found = Credentials::user().remove(&registry)?;
    output::print(&match found {
        true => format!("Removing login credentials for {registry}\n"),
        false => format!("Not logged in to {registry}\n"),
    })?;
    Ok(())
}

/// The registry that is meant, as the first part of its images' names.
fn registry(given: Option<&str>) -> Result<String> {
    let Some(given) = given else { return Ok(DOCKER_HUB.into()) };
    let host = given.strip_prefix("https://").or_else(|| given.strip_prefix("http://"));
    let host = host.unwrap_or(given).split('/').next().unwrap_or_default();
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => return Ok(DOCKER_HUB.into()),
        _ => {}
    }
    // What can be the first part of a name.
    let name = format!("{host}/a").parse::<koskit_llb::Reference>();
    match name {
        Ok(name) if name.domain() == host => Ok(host.to_owned()),
        _ => bail!("{given:?} is no registry; give HOST or HOST:PORT"),
    }
}

fn ask(question: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask at; give --username and --password-stdin");
    }
    output::error(question);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot read from the terminal")?;
    Ok(line.trim().to_owned())
}

/// Asks without showing what is typed.
fn ask_secret(question: &str) -> Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        bail!("there is no terminal to ask at; give the password with --password-stdin");
    }
    let before = tcgetattr(&stdin).context("cannot ask the terminal how it is set")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
    // Not before: who is quick would see it.
    output::error(question);
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    // Whatever happened, the terminal must be as it was.
    tcsetattr(&stdin, OptionalActions::Now, &before).context("cannot set the terminal back")?;
    read.context("cannot read from the terminal")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::registry;

    #[test]
    fn a_registry_is_named_by_host_and_port_however_it_is_written() {
        let of = |text| registry(Some(text)).unwrap();
        assert_eq!(registry(None).unwrap(), "docker.io");
        assert_eq!(of("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(of("https://registry.example:5000/v2/"), "registry.example:5000");
        assert_eq!(of("localhost:5000"), "localhost:5000");
        assert_eq!(of("127.0.0.1:5000"), "127.0.0.1:5000");
        for bad in ["", "alpine", "a b", "https://", "-x.y"] {
            assert!(registry(Some(bad)).is_err(), "{bad:?}");
        }
    }
}
