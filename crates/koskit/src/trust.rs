//! `koskit trust`: keys, and the policy of what may run.

use crate::names;
use crate::output::{self, Listing};
use crate::sign::{password, public_key};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use koskit_attest::{Identity, Key, Policy, Requirement};
use koskit_image::{Image, Store, folders};
use koskit_llb::{Digest, Reference};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Say which images may run
///
/// The policy is a file as podman and skopeo have it (containers-policy.json):
/// $XDG_CONFIG_HOME/koskit/policy.json, by default ~/.config/koskit/policy.json, or what
/// KOSKIT_POLICY names. Without it, every image may run.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Command {
    Show(Show),
    Set(Set),
    Remove(Remove),
    Generate(Generate),
}

const EXAMPLES: &str = "\
Examples:
  koskit trust generate                                a key pair: cosign.key, cosign.pub
  koskit trust set --type reject default               nothing may run, except:
  koskit trust set --key cosign.pub docker.io/library  what that key has signed,
  koskit trust set --type accept docker.io/kos         and the images of the SDK
  koskit trust show                                    the policy as it is";

/// Show the policy
#[derive(Args)]
pub struct Show {
    /// A table, or the policy's JSON
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Listing,
}

/// Say what images of a scope must fulfil
#[derive(Args)]
pub struct Set {
    /// accept anything, reject everything, or want a signature (with --key)
    #[arg(short = 't', long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// A public key; may be given several times, one of them is enough
    #[arg(short, long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The signature may be for any tag of the repository
    #[arg(long, requires = "key")]
    any_tag: bool,
    /// A registry, repository, or name with a tag (registry.example/team/app:1), or `default`
    scope: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Accept,
    Reject,
    #[value(name = "sigstoreSigned", alias = "signed")]
    SigstoreSigned,
}

/// Forget a scope
#[derive(Args)]
pub struct Remove {
    /// As it was set
    scope: String,
}

/// Make a key pair
///
/// The private key is encrypted with a password: that of COSIGN_PASSWORD, else it is asked for.
#[derive(Args)]
pub struct Generate {
    /// Name of the two files, which get .key and .pub
    #[arg(long, default_value = "cosign", value_name = "PREFIX")]
    output_key_prefix: PathBuf,
}

/// Does it.
///
/// # Errors
/// The policy or a key cannot be read or written.
pub fn trust(command: &Command) -> Result<()> {
    match command {
        Command::Show(arguments) => show(arguments),
        Command::Set(arguments) => set(arguments),
        Command::Remove(arguments) => remove(arguments),
        Command::Generate(arguments) => generate(&arguments.output_key_prefix),
    }
}

/// Whether an image may run; `name` is what it was asked for by.
///
/// # Errors
/// It may not, or the policy cannot be read.
pub fn obey(store: &Store, name: &Reference, image: &Image) -> Result<()> {
    let path = path()?;
    let policy = Policy::load(&path)?;
    let mut digests = vec![image.digest()];
    if let Ok(Some(target)) = store.find(&name.clone().tagged()) {
        digests.extend(target.digest().as_ref().parse::<Digest>());
    }
    let allowed = policy.check(store, name, &digests);
    allowed.with_context(|| {
        format!("the image {} may not run; {} says so", names::short(name), path.display())
    })
}

fn path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KOSKIT_POLICY").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let config =
        folders::config().context("there is no place for a policy: set HOME or XDG_CONFIG_HOME")?;
    Ok(config.join("koskit/policy.json"))
}

fn show(arguments: &Show) -> Result<()> {
    let policy = Policy::load(&path()?)?;
    if arguments.format == Listing::Json {
        output::print(&format!("{}\n", serde_json::to_string_pretty(&policy)?))?;
        return Ok(());
    }
    let mut rows = vec![["SCOPE", "TYPE", "KEYS"].map(str::to_owned).to_vec()];
    for (scope, wanted) in policy.scopes() {
        for wanted in wanted {
            let (kind, keys) = match wanted {
                Requirement::InsecureAcceptAnything {} => ("accept", String::new()),
                Requirement::Reject {} => ("reject", String::new()),
                Requirement::SigstoreSigned {
                    key_path, key_paths, key_data, key_datas, ..
                } => {
                    let paths = key_path.iter().chain(key_paths);
                    let mut keys: Vec<String> =
                        paths.map(|path| path.display().to_string()).collect();
                    let inside = key_data.iter().chain(key_datas).count();
                    if inside > 0 {
                        keys.push(format!("{inside} in the policy"));
                    }
                    ("sigstoreSigned", keys.join(", "))
                }
            };
            rows.push(vec![scope.to_owned(), kind.to_owned(), keys]);
        }
    }
    output::print(&output::table(&rows))?;
    Ok(())
}

fn set(arguments: &Set) -> Result<()> {
    let wanted = match (arguments.kind, arguments.key.as_slice()) {
        (Some(Kind::Accept), []) => Requirement::InsecureAcceptAnything {},
        (Some(Kind::Reject), []) => Requirement::Reject {},
        (Some(Kind::Accept | Kind::Reject), _) => {
            bail!("a key is of use only where a signature is wanted: --type sigstoreSigned")
        }
        (_, []) => bail!("say what is wanted: --type accept, --type reject, or --key FILE"),
        (_, keys) => signed(keys, arguments.any_tag)?,
    };
    let scope = (arguments.scope != "default").then_some(arguments.scope.as_str());
    if let Some(scope) = scope {
        check_scope(scope)?;
    }
    change(|policy| {
        policy.set(scope, vec![wanted]);
        Ok(())
    })
}

fn signed(keys: &[PathBuf], any_tag: bool) -> Result<Requirement> {
    let mut paths = Vec::new();
    for key in keys {
        public_key(key)?;
        let path = fs::canonicalize(key);
        paths.push(path.with_context(|| format!("cannot find the key {}", key.display()))?);
    }
    let one = (paths.len() == 1).then(|| paths.remove(0));
    Ok(Requirement::SigstoreSigned {
        key_path: one,
        key_paths: paths,
        key_data: None,
        key_datas: Vec::new(),
        signed_identity: if any_tag { Identity::MatchRepository } else { Identity::default() },
    })
}

/// A scope that no name can be in would be a policy that seems to say something.
fn check_scope(scope: &str) -> Result<()> {
    let first = scope.split('/').next().unwrap_or_default();
    if first.starts_with("*.") || first.contains(['.', ':']) || first == "localhost" {
        return Ok(());
    }
    match scope.parse::<Reference>() {
        Ok(name) => {
            let full = format!("{}/{}", name.domain(), name.path());
            let tag = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
            bail!("the scope {scope:?} names no registry; do you mean {full}{tag}?")
        }
        Err(_) => bail!("the scope {scope:?} is none; write it as registry.example/team/app"),
    }
}

fn remove(arguments: &Remove) -> Result<()> {
    if arguments.scope == "default" {
        bail!("the default is always there; `koskit trust set` changes it");
    }
    change(|policy| match policy.remove(&arguments.scope) {
        true => Ok(()),
        false => bail!("the policy has no scope {:?}; see koskit trust show", arguments.scope),
    })
}

fn change(with: impl FnOnce(&mut Policy) -> Result<()>) -> Result<()> {
    let path = path()?;
    let mut policy = Policy::load(&path)?;
    with(&mut policy)?;
    Ok(policy.save(&path)?)
}

fn generate(prefix: &Path) -> Result<()> {
    let file = |ending: &str| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (private, public) = (file(".key"), file(".pub"));
    for path in [&private, &public] {
        if path.exists() {
            bail!(
                "{} is there already; give another name with --output-key-prefix",
                path.display()
            );
        }
    }
    let once = password("Password for the private key: ")?;
    if std::env::var_os("COSIGN_PASSWORD").is_none() && password("Again: ")? != once {
        bail!("the passwords differ");
    }
    let key = Key::generate()?;
    write(&private, 0o600, &key.to_pem(once.as_bytes())?)?;
    write(&public, 0o644, &key.public().to_pem())?;
    let text = format!(
        "private key written to {}\npublic key written to {}\n",
        private.display(),
        public.display()
    );
    output::print(&text)?;
    Ok(())
}

fn write(path: &Path, mode: u32, text: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_a_registry() {
        for scope in
            ["registry.example/a", "localhost:5000", "*.example", "docker.io/kos", "localhost/a"]
        {
            check_scope(scope).unwrap();
        }
        let error = check_scope("kos/hello:1").unwrap_err().to_string();
        assert!(error.ends_with("do you mean docker.io/kos/hello:1?"), "{error}");
        assert!(check_scope("?").is_err());
    }
}
