//! A file of a web server as a file system that has this file alone.
//!
//! What a URL gave is noted with the tag that the server gave it (`ETag`), and the next build
//! asks for something else only. With a checksum, what is known needs no server at all.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use koskit_image::layer::Ownership;
use koskit_llb::{Digest, pb};
use rustix::fs::{Mode, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::cache::KeyBuilder;
use crate::fetch::{Answer, Fetched, Request, plain_name};
use crate::filesystem::{FileSystem, Layers};
use crate::ops::{Build, Sourced};
use crate::portable;
use crate::snapshot::Snapshot;

/// What a file is called for which there is no name.
const UNNAMED: &str = "download";

/// What is asked for, by the attributes of the op.
struct Asked {
    checksum: Option<Digest>,
    name: Option<String>,
    mode: Option<u32>,
    owner: (u32, u32),
    /// The secret that is the `Authorization` header.
    secret: Option<String>,
    headers: Vec<(String, String)>,
}

/// What a URL gave.
#[derive(Serialize, Deserialize)]
struct Known {
    /// The file's.
    digest: String,
    tag: Option<String>,
    /// When it was changed, in seconds since 1970.
    #[serde(default)]
    modified: Option<i64>,
    /// What it is called.
    #[serde(default)]
    name: String,
    /// The snapshot's key.
    key: String,
}

impl Build<'_> {
    /// A file of a web server.
    pub(super) fn http(&self, op: &pb::SourceOp) -> Result<Sourced, Problem> {
        let failed = |why: String| Problem::Fetch { what: shown(&op.identifier), why };
        let asked = Asked::read(op)?;
        let mut request = Request::new(&op.identifier).map_err(failed)?;
        for (name, value) in &asked.headers {
            request.header(name, value.as_bytes(), false).map_err(failed)?;
        }
        if let Some(id) = &asked.secret {
            if let Some(secret) = self.secret(id, false)? {
                request.header("authorization", &secret.0, true).map_err(failed)?;
            }
        }

        let snapshots = &self.solver.snapshots;
        let attributes = op.attrs.iter().filter(|(key, _)| *key != "http.checksum");
        let name = attributes
            .fold(KeyBuilder::new("http").with(&op.identifier), |key, (k, v)| key.with(k).with(v));
        let note = self.note("http", &name.finish())?;
        let known: Option<Known> =
            fs::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let known = known.and_then(|known| {
            let key: Digest = known.key.parse().ok()?;
            let digest: Digest = known.digest.parse().ok()?;
            Some((snapshots.get(&key).ok()??, key, digest, known))
        });
        let known = known.filter(|(_, _, digest, _)| {
            asked.checksum.as_ref().is_none_or(|checksum| checksum == digest)
        });
        let result = |snapshot: &Snapshot, key: Digest, digest: &Digest, name: &str, modified| {
            let layers = Layers::made(key, &Layers::scratch(), snapshot);
            // With a checksum, what the server says is not asked for.
            let (name, modified) = match asked.checksum {
                Some(_) => (asked.name.clone().or_else(|| request.name()), None),
                None => (Some(name.to_owned()), modified),
            };
            let name = name.unwrap_or_else(|| UNNAMED.into());
            let file = portable::File {
                name: &name,
                mode: asked.mode.unwrap_or(0),
                owner: asked.owner,
                digest,
                modified: &modified.map(date).unwrap_or_default(),
                secret: asked.secret.as_deref(),
                headers: &asked.headers,
            };
            Sourced { files: FileSystem::Layers(Arc::new(layers)), names: vec![file.name()] }
        };
        if let (Some((snapshot, key, digest, known)), true) = (&known, asked.checksum.is_some()) {
            return Ok(result(snapshot, key.clone(), digest, &known.name, None));
        }

        let directory = snapshots.temporary()?;
        let path = directory.path().join("fetched");
        let mut file = File::create_new(&path).map_err(Problem::cache("write", &path))?;
        let tag = known.as_ref().and_then(|(.., known)| known.tag.as_deref());
        let fetched = match request.fetch(tag, &mut file, self.cancel).map_err(failed)? {
            Answer::Same => match known {
                Some((snapshot, key, digest, known)) => {
                    return Ok(result(&snapshot, key, &digest, &known.name, known.modified));
                }
                None => return Err(failed("the server answers nothing".into())),
            },
            Answer::File(fetched) => fetched,
        };
        if let Some(wanted) = asked.checksum.as_ref().filter(|wanted| **wanted != fetched.digest) {
            let why = format!("its checksum is {}, and not {wanted}", fetched.digest);
            return Err(failed(why));
        }
        let name = asked.name.clone().or_else(|| fetched.name.clone()).or_else(|| request.name());
        let name = name.unwrap_or_else(|| UNNAMED.into());
        let (mode, owner) = (asked.mode.unwrap_or(0o600), asked.owner);
        let modified = fetched.modified.unwrap_or(0);
        let key = KeyBuilder::new("file").with(fetched.digest.as_str()).with(&name);
        let key = key.with(format!("{mode} {owner:?} {modified}")).finish();
        let snapshot = match snapshots.get(&key)? {
            Some(known) => known,
            None => {
                let to = directory.files().join(&name);
                self.finish(&file, mode, owner, modified)
                    .and_then(|()| fs::rename(&path, &to))
                    .map_err(Problem::cache("write", &to))?;
                directory.commit(&key)?
            }
        };
        self.remember(&note, &fetched, &name, &key)?;
        Ok(result(&snapshot, key, &fetched.digest, &name, fetched.modified))
    }

    fn finish(&self, file: &File, mode: u32, owner: (u32, u32), time: i64) -> io::Result<()> {
        match self.solver.snapshots.ownership() {
            Ownership::Real => {
                std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1))?;
            }
            Ownership::Recorded => {
                let (name, owner) = (koskit_image::layer::OWNER_XATTR, owner);
                let value = format!("{}:{}", owner.0, owner.1);
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::fsetxattr(file, name, value.as_bytes(), flags)?;
            }
            Ownership::Ignored => {}
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
        let time = Timespec { tv_sec: time, tv_nsec: 0 };
        Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
    }

    fn remember(
        &self,
        note: &PathBuf,
        fetched: &Fetched,
        name: &str,
        key: &Digest,
    ) -> Result<(), Problem> {
        let (digest, key) = (fetched.digest.to_string(), key.to_string());
        let (tag, modified) = (fetched.tag.clone(), fetched.modified);
        let known = Known { digest, tag, modified, name: name.to_owned(), key };
        let bytes = serde_json::to_vec(&known).expect("it has string keys only");
        let directory = note.parent().unwrap_or(note);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            io::Write::write_all(&mut file, &bytes)?;
            file.persist(note)?;
            Ok(())
        };
        write().map_err(Problem::cache("write", note))
    }

    /// A file for what is known of a source, in a directory of its kind.
    pub(super) fn note(&self, kind: &str, name: &Digest) -> Result<PathBuf, Problem> {
        let directory = self.solver.snapshots.path().join(kind);
        fs::create_dir_all(&directory).map_err(Problem::cache("make", &directory))?;
        Ok(directory.join(&name.hex()[..32]))
    }
}

impl Asked {
    fn read(op: &pb::SourceOp) -> Result<Self, Problem> {
        let mut asked = Self {
            checksum: None,
            name: None,
            mode: None,
            owner: (0, 0),
            secret: None,
            headers: Vec::new(),
        };
        for (key, value) in &op.attrs {
            let invalid =
                || Problem::Invalid(format!("{value:?} as {key} of {}", shown(&op.identifier)));
            let number = || number(value).ok_or_else(invalid);
            match key.as_str() {
                "http.checksum" => asked.checksum = Some(value.parse().map_err(|_| invalid())?),
                "http.filename" => asked.name = Some(plain_name(value).ok_or_else(invalid)?),
                "http.perm" => asked.mode = Some(number()?),
                "http.uid" => asked.owner.0 = number()?,
                "http.gid" => asked.owner.1 = number()?,
                "http.authheadersecret" => asked.secret = Some(value.clone()),
                _ => match key.strip_prefix("http.header.") {
                    Some(name) => asked.headers.push((name.to_owned(), value.clone())),
                    None => return Err(Problem::Unsupported(format!("{key} of a web server"))),
                },
            }
        }
        Ok(asked)
    }
}

/// A moment, in seconds since 1970, as HTTP writes it.
fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    httpdate::fmt_http_date(UNIX_EPOCH + since)
}

/// A number as Go reads it: `0600` and `0o600` are octal, `0x180` is not.
fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix("0o").or_else(|| text.strip_prefix('0')) {
        Some(digits) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

/// A URL without what it may have of a password.
fn shown(url: &str) -> String {
    Request::new(url).map_or_else(|_| url.to_owned(), |request| request.shown())
}
