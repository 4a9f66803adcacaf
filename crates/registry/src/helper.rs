//! Credential helpers: programs `docker-credential-NAME` that keep passwords, by the protocol of
//! docker's credential-helpers project: an action as argument, JSON or an address on standard
//! input, JSON on standard output.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::Error;
use crate::answer::plain;
use crate::credentials::{Credential, Secret};

/// The user's name of which the secret is an identity token.
const TOKEN: &str = "<token>";
/// The most that a helper can say.
const MAX_OUTPUT: u64 = 1 << 20;

/// A program that keeps credentials.
pub(crate) struct Helper {
    program: String,
}

impl Helper {
    /// The helper of that name; none where it is no name, but a path.
    pub fn new(name: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let valid = name.bytes().all(word) && !name.is_empty();
        valid.then(|| Self { program: format!("docker-credential-{name}") })
    }

    pub fn program(&self) -> &str {
        &self.program
    }

    /// What it has for a registry.
    pub fn get(&self, registry: &str) -> Result<Option<Credential>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "Username", default)]
            user: String,
            #[serde(rename = "Secret", default)]
            secret: String,
        }
        let (worked, output) = self.run("get", registry.as_bytes())?;
        let text = String::from_utf8_lossy(&output);
        if !worked {
            // The protocol has no other sign for it than these words.
            let unknown = ["credentials not found", "no credentials", "no usernames for"];
            let lower = text.to_lowercase();
            if unknown.iter().any(|words| lower.contains(words)) {
                return Ok(None);
            }
            return Err(self.failed(&text));
        }
        let answer: Answer = serde_json::from_slice(&output)
            // What it said may have a secret in it.
            .map_err(|_| self.failed("its answer to \"get\" is not valid"))?;
        let secret = Secret::from(answer.secret);
        Ok(match answer.user.as_str() {
            _ if secret.reveal().is_empty() => None,
            TOKEN => Some(Credential::IdentityToken(secret)),
            user => Some(Credential::Password { user: user.into(), password: secret }),
        })
    }

    pub fn store(&self, registry: &str, credential: &Credential) -> Result<(), Error> {
        let (user, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) | Credential::RegistryToken(token) => (TOKEN, token),
        };
        let input = json!({ "ServerURL": registry, "Username": user, "Secret": secret.reveal() });
        self.must("store", input.to_string().as_bytes())
    }

    pub fn erase(&self, registry: &str) -> Result<(), Error> {
        self.must("erase", registry.as_bytes())
    }

    fn must(&self, action: &str, input: &[u8]) -> Result<(), Error> {
        let (worked, output) = self.run(action, input)?;
        if worked { Ok(()) } else { Err(self.failed(&String::from_utf8_lossy(&output))) }
    }

    fn run(&self, action: &str, input: &[u8]) -> Result<(bool, Vec<u8>), Error> {
        let run = || -> io::Result<_> {
            let mut process = Command::new(&self.program)
                .arg(action)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // It may ask for a passphrase there.
                .stderr(Stdio::inherit())
                .spawn()?;
            let mut stdin = process.stdin.take().expect("it is piped");
            // Who does not read it says why by other means.
            let _ = stdin.write_all(input);
            drop(stdin);
            let mut output = Vec::new();
            let stdout = process.stdout.take().expect("it is piped");
            stdout.take(MAX_OUTPUT).read_to_end(&mut output)?;
            Ok((process.wait()?.success(), output))
        };
        run().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => self.failed(
                "there is no such program, although docker's config.json names it; install it, or \
                 remove it from there",
            ),
            _ => self.failed(&e.to_string()),
        })
    }

    fn failed(&self, why: &str) -> Error {
        let why = plain(why);
        let why = if why.is_empty() { "it does not say why".into() } else { why };
        Error::Helper { program: self.program.clone(), why }
    }
}
