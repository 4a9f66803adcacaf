//! Where a builder is, as `--builder` says it.
//!
//! | text | is |
//! |---|---|
//! | `docker` | the daemon that the `docker` command uses: DOCKER_HOST, the current context, or the default socket |
//! | `docker:///run/docker.sock`, `docker://HOST:PORT` | a docker daemon |
//! | `unix:///run/buildkit/buildkitd.sock` | a BuildKit server |
//! | `tcp://HOST:PORT` | the same |
//!
//! After `?` stands how a connection by TCP is secured: `cacert=FILE`, `cert=FILE`, `key=FILE`
//! and `servername=NAME` are docker's names of these; any of them asks for TLS, `tls=true` does
//! with the machine's own certificates, and `tls=false` forgoes it, which anybody on the way can
//! read and change.

use std::env;
use std::path::{Path, PathBuf};

use koskit_llb::Digest;
use serde_json::Value;

use crate::Error;

/// The socket of docker's daemon where nothing else is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Where a builder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// What to call it in messages.
    pub shown: String,
    /// A docker daemon, which hides its BuildKit behind a request of HTTP/1.1.
    pub docker: bool,
    pub endpoint: Endpoint,
    pub tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Who may have signed the server's certificate; by default, whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// Ours.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the host's.
    pub server_name: Option<String>,
    /// Whether any certificate will do.
    pub any: bool,
}

/// A variable of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Address {
    /// What is meant here and now.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_in(text, &|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn parse_in(text: &str, variable: Variable<'_>) -> Result<Self, Error> {
        let bad = |why: &str| Error::Address { address: text.into(), why: why.into() };
        if text == "docker" {
            return default_docker(variable);
        }
        let known = "write docker, docker:///SOCKET, unix:///SOCKET or tcp://HOST:PORT";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad(known))?;
        let docker = match scheme {
            "docker" => true,
            "unix" | "tcp" => false,
            "ssh" => {
                return Err(bad("koskit does not go through SSH; forward the socket by ssh -L"));
            }
            _ => return Err(bad(known)),
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let endpoint = match scheme {
            "unix" => unix(place),
            "docker" if place.starts_with('/') => unix(place),
            _ => tcp(place, None),
        };
        let endpoint = endpoint.map_err(|why| bad(&why))?;
        let (tls, plain) = tls(query).map_err(|why| bad(&why))?;
        match &endpoint {
            Endpoint::Unix(_) if tls.is_some() => Err(bad("a socket needs no TLS")),
            Endpoint::Tcp { host, .. } if tls.is_none() && !plain && !is_loopback(host) => Err(
                bad("add ?cacert=FILE (and cert, key) for TLS, or ?tls=false to let anybody on \
                         the way read what is built"),
            ),
            _ => Ok(Self { shown: shown(&endpoint), docker, endpoint, tls }),
        }
    }

    /// What is expected there.
    pub fn what(&self) -> &'static str {
        if self.docker { "docker daemon" } else { "BuildKit server" }
    }
}

fn unix(place: &str) -> Result<Endpoint, String> {
    match place.starts_with('/') {
        true => Ok(Endpoint::Unix(place.into())),
        false => Err("the path of a socket begins with /".into()),
    }
}

fn tcp(place: &str, default_port: Option<u16>) -> Result<Endpoint, String> {
    let place = place.trim_end_matches('/');
    // An IPv6 address is in brackets, which are no part of it.
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("{port:?} is not a port"))?,
        None => default_port.ok_or("it lacks a port: HOST:PORT")?,
    };
    if host.is_empty() {
        return Err("it lacks a host: HOST:PORT".into());
    }
    Ok(Endpoint::Tcp { host: host.into(), port })
}

/// What a query says, and whether it forgoes TLS.
fn tls(query: &str) -> Result<(Option<Tls>, bool), String> {
    let (mut tls, mut asked, mut plain) = (Tls::default(), false, false);
    for field in query.split('&').filter(|field| !field.is_empty()) {
        asked = true;
        match field.split_once('=') {
            Some(("cacert", path)) => tls.ca = Some(path.into()),
            Some(("cert", path)) => tls.cert = Some(path.into()),
            Some(("key", path)) => tls.key = Some(path.into()),
            Some(("servername", name)) => tls.server_name = Some(name.into()),
            Some(("tls", "true")) => {}
            Some(("tls", "false")) => plain = true,
            _ => {
                return Err(format!(
                    "{field:?} is none of cacert=FILE, cert=FILE, key=FILE, servername=NAME and \
                     tls=BOOL"
                ));
            }
        }
    }
    if plain && tls != Tls::default() {
        return Err("tls=false leaves no use for certificates".into());
    }
    if tls.cert.is_some() != tls.key.is_some() {
        return Err("cert and key go together".into());
    }
    Ok(((asked && !plain).then_some(tls), plain))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn shown(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => path.display().to_string(),
        Endpoint::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Endpoint::Tcp { host, port } => format!("{host}:{port}"),
    }
}

/// The daemon that `docker` itself would use.
fn default_docker(variable: Variable<'_>) -> Result<Address, Error> {
    if let Some(host) = variable("DOCKER_HOST") {
        let folder = variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| config(variable));
        let verify = variable("DOCKER_TLS_VERIFY").is_some();
        let tls = match folder {
            Some(folder) if verify => Some(certificates(&folder)),
            None if verify => Some(Tls::default()),
            Some(folder) if variable("DOCKER_TLS").is_some() => {
                Some(Tls { any: true, ..certificates(&folder) })
            }
            _ => None,
        };
        return docker_host(&host, tls, "DOCKER_HOST");
    }
    let socket = || docker_host(&format!("unix://{DOCKER_SOCKET}"), None, "docker");
    let Some(config) = config(variable) else { return socket() };
    let name = variable("DOCKER_CONTEXT").or_else(|| {
        let settings = json(&config.join("config.json"))?;
        Some(settings["currentContext"].as_str()?.to_owned())
    });
    let name = match name {
        Some(name) if !name.is_empty() && name != "default" => name,
        _ => return socket(),
    };
    let id = Digest::of(name.as_bytes());
    let unknown = || Error::Address {
        address: format!("docker's context {name}"),
        why: "there is none of that name; choose another one by docker context use".into(),
    };
    let meta = json(&config.join("contexts/meta").join(id.hex()).join("meta.json"));
    let endpoint = meta.ok_or_else(unknown)?["Endpoints"]["docker"].take();
    let host = endpoint["Host"].as_str().ok_or_else(unknown)?;
    let folder = config.join("contexts/tls").join(id.hex()).join("docker");
    let any = endpoint["SkipTLSVerify"].as_bool() == Some(true);
    let tls = (folder.exists() || any).then(|| Tls { any, ..certificates(&folder) });
    docker_host(host, tls, &format!("docker's context {name}"))
}

/// A host as docker writes it.
fn docker_host(host: &str, tls: Option<Tls>, from: &str) -> Result<Address, Error> {
    let bad = |why: String| Error::Address { address: format!("{host} ({from})"), why };
    let endpoint = match host.split_once("://") {
        Some(("unix", place)) => unix(place),
        Some(("tcp", place)) => tcp(place, Some(if tls.is_some() { 2376 } else { 2375 })),
        Some(("ssh", _)) => {
            Err("koskit does not go through SSH; forward the socket by ssh -L".into())
        }
        _ => Err("koskit knows unix:///SOCKET and tcp://HOST:PORT".into()),
    };
    let endpoint = endpoint.map_err(bad)?;
    let tls = tls.filter(|_| matches!(endpoint, Endpoint::Tcp { .. }));
    Ok(Address { shown: shown(&endpoint), docker: true, endpoint, tls })
}

/// Docker's own names of files in a folder, as far as they are there.
fn certificates(folder: &Path) -> Tls {
    let file = |name| Some(folder.join(name)).filter(|path| path.exists());
    Tls { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), ..Tls::default() }
}

/// The folder of docker's settings.
fn config(variable: Variable<'_>) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(".docker"));
    variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Address, String> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Address::parse_in(text, &get).map_err(|error| error.to_string())
    }

    fn socket(path: &str, docker: bool) -> Result<Address, String> {
        let endpoint = Endpoint::Unix(path.into());
        Ok(Address { shown: path.into(), docker, endpoint, tls: None })
    }

    #[test]
    fn a_builder_is_a_docker_daemon_or_a_buildkit_server() {
        assert_eq!(parse("docker", &[]), socket("/var/run/docker.sock", true));
        assert_eq!(parse("docker:///a.sock", &[]), socket("/a.sock", true));
        assert_eq!(parse("unix:///b.sock", &[]), socket("/b.sock", false));
        let address = parse("tcp://[::1]:1234", &[]).unwrap();
        assert_eq!(address.endpoint, Endpoint::Tcp { host: "::1".into(), port: 1234 });
        assert_eq!(address.shown, "[::1]:1234");
        for bad in
            ["", "x", "podman:///a", "unix://a", "tcp://a", "tcp://:1", "tcp://a:b", "ssh://a"]
        {
            assert!(parse(bad, &[]).unwrap_err().contains("is not a builder"), "{bad}");
        }
    }

    #[test]
    fn tcp_has_tls_unless_it_stays_here_or_is_told_not_to() {
        let file = |name: &str| Some(PathBuf::from(name));
        let address = parse("tcp://a:1?cacert=ca&cert=c&key=k&servername=b", &[]).unwrap();
        let server_name = Some("b".to_owned());
        let tls = Tls { ca: file("ca"), cert: file("c"), key: file("k"), server_name, any: false };
        assert_eq!(address.tls, Some(tls));
        assert_eq!(parse("tcp://a:1?tls=true", &[]).unwrap().tls, Some(Tls::default()));
        assert_eq!(parse("tcp://a:1?tls=false", &[]).unwrap().tls, None);
        assert_eq!(parse("tcp://127.0.0.1:1", &[]).unwrap().tls, None);
        assert!(parse("tcp://a:1", &[]).unwrap_err().contains("?cacert="));
        assert!(parse("tcp://a:1?cert=c", &[]).unwrap_err().contains("go together"));
        assert!(parse("tcp://a:1?x=y", &[]).unwrap_err().contains("\"x=y\" is none of"));
        assert!(parse("unix:///a?tls=true", &[]).unwrap_err().contains("no TLS"));
    }

    #[test]
    fn docker_is_the_one_that_its_own_command_uses() {
        let host = parse("docker", &[("DOCKER_HOST", "unix:///h.sock")]);
        assert_eq!(host, socket("/h.sock", true));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        for name in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let variables = [
            ("DOCKER_HOST", "tcp://h"),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", path.as_str()),
        ];
        let address = parse("docker", &variables).unwrap();
        assert_eq!(address.shown, "h:2376");
        assert_eq!(address.tls.unwrap().key, Some(folder.path().join("key.pem")));
    }

    #[test]
    fn dockers_current_context_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let variables = [("DOCKER_CONFIG", path.as_str())];
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("config.json", r#"{"currentContext": "far"}"#);
        assert!(parse("docker", &variables).unwrap_err().contains("docker's context far"));
        let id = Digest::of(b"far");
        let meta = format!("contexts/meta/{}/meta.json", id.hex());
        write(&meta, r#"{"Name": "far", "Endpoints": {"docker": {"Host": "unix:///far.sock"}}}"#);
        assert_eq!(parse("docker", &variables), socket("/far.sock", true));
        let default = [variables[0], ("DOCKER_CONTEXT", "default")];
        assert_eq!(parse("docker", &default), socket("/var/run/docker.sock", true));
    }
}
