//! Archives of any kind, well-formed or not, and images of them.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use koskit_image::{Error, Image, Limits, Store, Tree};
use serde_json::json;

/// One entry of an archive, written as it is said here, however wrong that is.
#[derive(Clone, Debug)]
pub struct Raw {
    pub path: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub content: Vec<u8>,
    pub pax: Vec<(&'static str, Vec<u8>)>,
}

pub fn raw(kind: u8, path: impl AsRef<[u8]>) -> Raw {
    let path = path.as_ref().to_vec();
    Raw { path, kind, link: vec![], content: vec![], pax: vec![] }
}

pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Raw {
    Raw { content: content.as_ref().to_vec(), ..raw(b'0', path) }
}

pub fn directory(path: impl AsRef<[u8]>) -> Raw {
    raw(b'5', path)
}

pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    Raw { link: target.as_ref().to_vec(), ..raw(b'2', path) }
}

pub fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Raw {
    Raw { link: target.as_ref().to_vec(), ..raw(b'1', path) }
}

/// A tar archive with its end.
pub fn archive(entries: &[Raw]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        if !entry.pax.is_empty() {
            let mut records = Vec::new();
            for (key, value) in &entry.pax {
                let rest = key.len() + value.len() + 3;
                let len = (1..).find(|n| rest + n.to_string().len() == *n).unwrap();
                records.extend_from_slice(format!("{len} {key}=").as_bytes());
                records.extend_from_slice(value);
                records.push(b'\n');
            }
            push(&mut out, b'x', b"pax", b"", &records);
        }
        push(&mut out, entry.kind, &entry.path, &entry.link, &entry.content);
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

fn push(out: &mut Vec<u8>, kind: u8, path: &[u8], link: &[u8], content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    (directory, store)
}

/// An image whose layers are these archives.
pub fn image(store: &Store, archives: &[Vec<u8>]) -> Image {
    let layers = archives.iter().map(|archive| {
        let mut writer = store.layer_writer(Default::default()).unwrap();
        writer.write_all(archive).unwrap();
        writer.finish().unwrap()
    });
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "os": "linux",
        "architecture": "arm64",
        "config": {
            "Entrypoint": ["/hello"], "Cmd": ["a"], "Env": ["A=1"], "WorkingDir": "/",
            "Labels": { "com.koskit.app.name": "hello" }, "ExposedPorts": { "80/tcp": {} },
        },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "COPY /" }],
    });
    store.add_image(&config, &layers.collect::<Vec<_>>()).unwrap()
}

/// The files of an image of one layer.
pub fn tree(archive: &[u8], limits: &Limits) -> Result<Tree, Error> {
    let (_directory, store) = store();
    let image = image(&store, &[archive.to_vec()]);
    Tree::read(&store, &image, limits)
}

/// Everything below a directory: path, kind and content or target, sorted.
pub fn listing(root: &Path) -> Vec<(Vec<u8>, String)> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let what = if kind.is_dir() {
                rest.push(path.clone());
                "directory".into()
            } else if kind.is_symlink() {
                format!("-> {:?}", std::fs::read_link(&path).unwrap())
            } else if kind.is_file() {
                format!("file {:?}", std::fs::read(&path).unwrap())
            } else {
                "other".into()
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.push((name, what));
        }
    }
    found.sort();
    found
}
