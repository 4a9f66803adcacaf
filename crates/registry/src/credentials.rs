//! Who we are to registries: docker's `config.json` and its credential helpers.
//!
//! ```text
//! auths        for each registry "auth", base64 of USER:PASSWORD; or "identitytoken"
//! credsStore   the helper that has all credentials: docker-credential-NAME
//! credHelpers  for some registries another helper
//! ```
//! The file is shared with docker, skopeo, buildah and others: what koskit does not know in it is
//! kept as it is.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::helper::Helper;
use crate::{DOCKER_HUB, Error};

/// What the file calls Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Larger files are no `config.json`.
const MAX_CONFIG: u64 = 16 << 20;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who we are to one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password {
        /// The user's name.
        user: String,
        /// The password, or a token that is used like one.
        password: Secret,
    },
    /// What a token server takes instead of the password, and gives tokens for.
    IdentityToken(Secret),
    /// A token that the registry itself takes.
    RegistryToken(Secret),
}

/// docker's `config.json`.
#[derive(Clone, Debug)]
pub struct Credentials {
    path: Option<PathBuf>,
    /// A file's text that comes before it, as in `DOCKER_AUTH_CONFIG`.
    first: Option<Secret>,
}

impl Credentials {
    /// The user's: `$DOCKER_CONFIG/config.json`, by default `~/.docker/config.json`. What the
    /// variable `DOCKER_AUTH_CONFIG` has, as the text of such a file, comes first.
    pub fn user() -> Self {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let folder = variable("DOCKER_CONFIG");
        let folder = folder.or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let first = std::env::var("DOCKER_AUTH_CONFIG").ok().filter(|text| !text.is_empty());
        Self { path: folder.map(|folder| folder.join("config.json")), first: first.map(Secret) }
    }

    /// Another file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), first: None }
    }

    /// None: everybody's rights.
    pub fn none() -> Self {
        Self { path: None, first: None }
    }

    /// Where they are.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Who we are to a registry. `domain` is the first part of its images' names.
    ///
    /// # Errors
    /// The file is not valid, or the helper fails.
    pub fn get(&self, domain: &str) -> Result<Option<Credential>, Error> {
        if let Some(first) = &self.first {
            let path = Path::new("DOCKER_AUTH_CONFIG");
            let config = parse(first.reveal().as_bytes(), path)?;
            if let Some(entry) = entry(&config, domain) {
                return credential(entry, domain, path);
            }
        }
        let Some(path) = &self.path else { return Ok(None) };
        let config = read(path)?;
        if let Some(helper) = helper(&config, domain, path)? {
            for key in keys(domain) {
                if let Some(credential) = helper.get(&key)? {
                    return Ok(Some(credential));
                }
            }
        }
        entry(&config, domain).map_or(Ok(None), |entry| credential(entry, domain, path))
    }

    /// Keeps who we are to a registry: with the helper where there is one, else in the file, which
    /// only the user can read.
    ///
    /// # Errors
    /// There is no place for it, or that cannot be written.
    pub fn set(&self, domain: &str, credential: &Credential) -> Result<Kept, Error> {
        let path = self.path.as_ref().ok_or(Error::NoHome)?;
        let mut config = read(path)?;
        let key = key(domain);
        if let Some(helper) = helper(&config, domain, path)? {
            helper.store(&key, credential)?;
            // As docker does, so that other tools see that there is one; and an older password
            // must not stay in the file.
            let auths = object(&mut config, "auths", path)?;
            auths.insert(key, json!({}));
            write(path, &config)?;
            return Ok(Kept::Helper(helper.program().to_owned()));
        }
        let entry = match credential {
            Credential::Password { user, password } => {
                json!({ "auth": STANDARD.encode(format!("{user}:{}", password.reveal())) })
            }
            Credential::IdentityToken(token) => {
                json!({ "auth": STANDARD.encode("<token>:"), "identitytoken": token.reveal() })
            }
            Credential::RegistryToken(token) => json!({ "registrytoken": token.reveal() }),
        };
        object(&mut config, "auths", path)?.insert(key, entry);
        write(path, &config)?;
        Ok(Kept::File(path.clone()))
    }

    /// Forgets who we are to a registry, and tells whether that was known.
    ///
    /// # Errors
    /// The file is not valid or cannot be written, or the helper fails.
    pub fn remove(&self, domain: &str) -> Result<bool, Error> {
        let path = self.path.as_ref().ok_or(Error::NoHome)?;
        let mut config = read(path)?;
        let mut found = false;
        if let Some(helper) = helper(&config, domain, path)? {
            for key in keys(domain) {
                if helper.get(&key)?.is_some() {
                    helper.erase(&key)?;
                    found = true;
                }
            }
        }
        if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
            let same: Vec<String> =
                auths.keys().filter(|k| host_of(k) == Some(canonical(domain))).cloned().collect();
            for key in &same {
                // shift_remove keeps the order of the others.
                auths.shift_remove(key);
            }
            if !same.is_empty() {
                found = true;
                write(path, &config)?;
            }
        }
        Ok(found)
    }
}

/// Where a credential is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a file, in the clear.
    File(PathBuf),
    /// With this helper.
    Helper(String),
}

/// One name of a registry that has several.
fn canonical(domain: &str) -> &str {
    match domain {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB,
        other => other,
    }
}

/// What the file calls a registry.
fn key(domain: &str) -> String {
    if canonical(domain) == DOCKER_HUB { HUB_KEY.into() } else { domain.into() }
}

/// What files call a registry, docker's own way first.
fn keys(domain: &str) -> Vec<String> {
    let domain = canonical(domain);
    let mut keys = vec![key(domain)];
    keys.extend([domain.to_owned(), format!("https://{domain}"), format!("https://{domain}/")]);
    keys.dedup();
    keys
}

/// The registry that a key of `auths` stands for; none where it is for one repository.
fn host_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    matches!(path, "" | "v1" | "v1/" | "v2" | "v2/").then(|| canonical(host))
}

/// The helper for a registry, if there is one.
fn helper(config: &Map<String, Value>, domain: &str, path: &Path) -> Result<Option<Helper>, Error> {
    let own = config.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        let exact = keys(domain).into_iter().find_map(|key| helpers.get(&key));
        exact.and_then(Value::as_str)
    });
    let name = own.or_else(|| config.get("credsStore").and_then(Value::as_str));
    match name.filter(|name| !name.is_empty()) {
        None => Ok(None),
        Some(name) => {
            let why = || format!("{name:?} is no name of a credential helper");
            Helper::new(name)
                .map(Some)
                .ok_or_else(|| Error::Config { path: path.into(), why: why() })
        }
    }
}

/// The entry of `auths` for a registry.
fn entry<'a>(config: &'a Map<String, Value>, domain: &str) -> Option<&'a Value> {
    let auths = config.get("auths")?.as_object()?;
    let exact = keys(domain).into_iter().find_map(|key| auths.get(&key));
    exact.or_else(|| {
        let same = auths.iter().find(|(key, _)| host_of(key) == Some(canonical(domain)));
        same.map(|(_, entry)| entry)
    })
}

/// What an entry of `auths` says.
fn credential(entry: &Value, domain: &str, path: &Path) -> Result<Option<Credential>, Error> {
    let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(Secret(token.into()))));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::RegistryToken(Secret(token.into()))));
    }
    let password = |user: &str, password: &str| Credential::Password {
        user: user.into(),
        password: Secret(password.into()),
    };
    if let Some(auth) = text("auth") {
        let bad = |why: &str| Error::Config {
            path: path.into(),
            why: format!("its \"auth\" of {domain} {why}; `koskit login {domain}` writes it anew"),
        };
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| bad("is not base64"))?;
        let pair = String::from_utf8(bytes).map_err(|_| bad("is not UTF-8"))?;
        // Old versions of docker ended it with zeros.
        let pair = pair.trim_end_matches('\0');
        let (user, word) = pair.split_once(':').ok_or_else(|| bad("has no colon in it"))?;
        return Ok(Some(password(user, word)));
    }
    Ok(text("username").map(|user| password(user, text("password").unwrap_or_default())))
}

fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_CONFIG => {
            return Err(Error::Config {
                path: path.into(),
                why: "it is larger than 16 MiB".into(),
            });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        _ => {}
    }
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    parse(&bytes, path)
}

fn parse(bytes: &[u8], path: &Path) -> Result<Map<String, Value>, Error> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let invalid = |why: String| Error::Config { path: path.into(), why };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(invalid("it is no JSON object".into())),
        Err(e) => Err(invalid(e.to_string())),
    }
}

/// Replaces the file, which only the user can read.
fn write(path: &Path, config: &Map<String, Value>) -> Result<(), Error> {
    // A link, such as into a folder of dotfiles, stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.into());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Error::file("make", folder))?;
    let write = || {
        // Its mode is 0600 from the beginning.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, tabs);
        serde::Serialize::serialize(config, &mut writer)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(Error::file("write", &path))
}

/// The object of this name, made where there is none.
fn object<'a>(
    config: &'a mut Map<String, Value>,
    name: &str,
    path: &Path,
) -> Result<&'a mut Map<String, Value>, Error> {
    let value = config.entry(name).or_insert_with(|| json!({}));
    let why = || format!("its {name:?} is no JSON object");
    value.as_object_mut().ok_or_else(|| Error::Config { path: path.into(), why: why() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> (tempfile::TempDir, Credentials) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, text).unwrap();
        (folder, Credentials::file(path))
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: Secret(password.into()) }
    }

    #[test]
    fn every_way_in_which_files_name_a_registry_is_understood() {
        let auth = STANDARD.encode("me:a:b");
        for key in
            ["r.example", "https://r.example", "https://r.example/v2/", "http://r.example/v1/"]
        {
            let (_folder, credentials) =
                with(&format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#));
            assert_eq!(credentials.get("r.example").unwrap(), Some(password("me", "a:b")), "{key}");
            assert_eq!(credentials.get("r.example:5000").unwrap(), None, "{key}");
            assert_eq!(credentials.get("example").unwrap(), None, "{key}");
        }
        for key in [HUB_KEY, "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"] {
            let (_folder, credentials) =
                with(&format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#));
            assert_eq!(credentials.get("docker.io").unwrap(), Some(password("me", "a:b")), "{key}");
        }
        let (_folder, credentials) = with(r#"{"auths":{"r.example/team":{"auth":"eDp5"}}}"#);
        assert_eq!(credentials.get("r.example").unwrap(), None, "it is for one repository");
    }

    #[test]
    fn tokens_and_plain_names_are_understood() {
        let (_folder, credentials) = with(
            r#"{"auths":{"a":{"auth":"PHRva2VuPjo=","identitytoken":"t"},"b":{"registrytoken":"r"},
                "c":{"username":"u","password":"p"},"d":{}, "e":{"auth":"%"}, "f":{"auth":"eHg="}}}"#,
        );
        let get = |domain| credentials.get(domain);
        assert_eq!(get("a").unwrap(), Some(Credential::IdentityToken(Secret("t".into()))));
        assert_eq!(get("b").unwrap(), Some(Credential::RegistryToken(Secret("r".into()))));
        assert_eq!(get("c").unwrap(), Some(password("u", "p")));
        assert_eq!(get("d").unwrap(), None);
        assert!(get("e").unwrap_err().to_string().contains("is not base64"));
        assert!(get("f").unwrap_err().to_string().contains("has no colon"));
    }

    #[test]
    fn what_is_kept_is_found_again_and_everything_else_stays() {
        let (folder, credentials) =
            with(r#"{"zeta":{"b":1,"a":2},"auths":{"x":{"auth":"eDp5"}},"HttpHeaders":{"A":"b"}}"#);
        let path = folder.path().join("config.json");
        let mine = password("me", "se:cret");
        assert_eq!(credentials.set("r.example", &mine).unwrap(), Kept::File(path.clone()));
        assert_eq!(credentials.get("r.example").unwrap(), Some(mine.clone()));
        credentials.set("docker.io", &mine).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(HUB_KEY) && !text.contains("se:cret"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(credentials.remove("r.example").unwrap());
        assert!(!credentials.remove("r.example").unwrap());
        assert!(credentials.remove("docker.io").unwrap());
        let left: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected =
            r#"{"zeta":{"b":1,"a":2},"auths":{"x":{"auth":"eDp5"}},"HttpHeaders":{"A":"b"}}"#;
        assert_eq!(left.to_string(), expected);
    }

    #[test]
    fn the_first_login_makes_the_file_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/config.json");
        let credentials = Credentials::file(&path);
        assert_eq!(credentials.get("r").unwrap(), None);
        credentials.set("r", &password("u", "p")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let (folder, credentials) = with("{}");
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink("config.json", &link).unwrap();
        Credentials::file(&link).set("r", &password("u", "p")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert!(credentials.get("r").unwrap().is_some());
    }

    #[test]
    fn what_a_variable_has_comes_before_the_file() {
        let text = |password: &str, host: &str| {
            let auth = STANDARD.encode(format!("me:{password}"));
            format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)
        };
        let (_folder, mut credentials) = with(&text("file", "a"));
        credentials.first = Some(Secret(text("variable", "b")));
        assert_eq!(credentials.get("a").unwrap(), Some(password("me", "file")));
        assert_eq!(credentials.get("b").unwrap(), Some(password("me", "variable")));
        credentials.first = Some(Secret(text("variable", "a")));
        assert_eq!(credentials.get("a").unwrap(), Some(password("me", "variable")));
        credentials.first = Some(Secret("{".into()));
        assert!(credentials.get("a").unwrap_err().to_string().contains("DOCKER_AUTH_CONFIG"));
    }

    #[test]
    fn a_file_that_is_not_valid_is_told_and_not_overwritten() {
        for text in ["{", "[]", r#"{"auths":[]}"#, r#"{"credsStore":"../x"}"#] {
            let (folder, credentials) = with(text);
            assert!(credentials.set("r", &password("u", "p")).is_err(), "{text}");
            assert_eq!(fs::read_to_string(folder.path().join("config.json")).unwrap(), text);
        }
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let all = [
            password("u", "hidden"),
            Credential::IdentityToken(Secret("hidden".into())),
            Credential::RegistryToken(Secret("hidden".into())),
        ];
        assert!(!format!("{all:?}").contains("hidden"));
    }
}
