//! What a dynamically linked program loads at its start: the dynamic linker that it names and,
//! by DT_NEEDED, the libraries. They are looked for where ld-linux and ld-musl look; what is not
//! found there is left to the linker itself, which says so better.
//!
//! Source: System V ABI, chapter 5; ld.so(8).

use koskit_image::{NodeKind, Tree};
use koskit_spec::elf::{self, Elf, Segment};
use koskit_spec::layout::PAGE;
use object::LittleEndian as LE;
use object::elf as file;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where linkers look when nothing else is said.
const DEFAULT: [&str; 7] = [
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/aarch64-linux-musl",
    "/usr/lib/aarch64-linux-musl",
];

/// The files beside a program that are loaded at its start, by their paths.
pub(crate) struct Closure(BTreeMap<PathBuf, Arc<[u8]>>);

impl Closure {
    /// The closure of the program at a path; of a static program nothing. An error is the path
    /// of a dynamic linker that is not in the image.
    pub fn of(tree: &Tree, path: &Path, program: &[u8], env: &[String]) -> Result<Self, PathBuf> {
        let mut found = BTreeMap::new();
        let Some(interpreter) = elf::interpreter(program) else { return Ok(Self(found)) };
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        let (at, bytes) = read(tree, interpreter).ok_or(interpreter)?;
        found.insert(at, bytes);
        let search = search(tree, env);
        let mut todo = needed(path, program);
        while let Some((name, own)) = todo.pop() {
            let paths = match name.contains('/') {
                true => vec![PathBuf::from(&name)],
                false => own.iter().chain(&search).map(|folder| folder.join(&name)).collect(),
            };
            let mut libraries = paths.iter().filter_map(|path| read(tree, path));
            let library = libraries.find(|(_, bytes)| Elf::object(bytes).is_ok());
            let Some((at, bytes)) = library.filter(|(at, _)| !found.contains_key(at)) else {
                continue;
            };
            todo.extend(needed(&at, &bytes));
            found.insert(at, bytes);
        }
        Ok(Self(found))
    }

    /// Their paths in the tree.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Pages of memory that they take when they are mapped.
    pub fn pages(&self) -> u64 {
        let pages = |bytes: &Arc<[u8]>| {
            Elf::object(bytes).map_or(0, |elf| {
                (elf.end() - elf.segments().first().map_or(0, Segment::start)) / PAGE
            })
        };
        self.0.values().map(pages).sum()
    }
}

/// The file that a path leads to, and its own path.
fn read(tree: &Tree, path: &Path) -> Option<(PathBuf, Arc<[u8]>)> {
    let (path, node) = tree.resolve(path).ok()?;
    match &node.kind {
        NodeKind::File(bytes) => Some((path.to_owned(), bytes.clone())),
        _ => None,
    }
}

/// The libraries that a file names, each with the folders that the file itself wants them looked
/// for in.
fn needed(path: &Path, bytes: &[u8]) -> Vec<(String, Vec<PathBuf>)> {
    let Some(dynamic) = Dynamic::read(bytes) else { return Vec::new() };
    let origin = Path::new("/").join(path.parent().unwrap_or(Path::new("")));
    let origin = origin.to_string_lossy();
    let expand = |text: &String| text.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin);
    let folders = dynamic
        .search
        .iter()
        .flat_map(|text| expand(text).split(':').map(PathBuf::from).collect::<Vec<_>>());
    let folders: Vec<PathBuf> = folders.collect();
    dynamic.needed.into_iter().map(|name| (name, folders.clone())).collect()
}

/// The folders that count for all files.
fn search(tree: &Tree, env: &[String]) -> Vec<PathBuf> {
    let variable = env.iter().find_map(|entry| entry.strip_prefix("LD_LIBRARY_PATH="));
    let mut folders: Vec<PathBuf> =
        variable.unwrap_or_default().split(':').map(PathBuf::from).collect();
    let snippets = tree.children("etc/ld.so.conf.d").map(|(path, _)| path);
    let snippets = snippets.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    let musl = Path::new("etc/ld-musl-aarch64.path");
    for path in snippets.chain([Path::new("etc/ld.so.conf"), musl]) {
        let Some((_, text)) = read(tree, path) else { continue };
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.split(['\n', ':']).map(str::trim);
        folders.extend(lines.filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    folders.extend(DEFAULT.map(PathBuf::from));
    folders.retain(|folder| folder.is_absolute());
    folders
}

/// What a PT_DYNAMIC says of libraries.
#[derive(Default)]
struct Dynamic {
    needed: Vec<String>,
    /// DT_RUNPATH or DT_RPATH.
    search: Option<String>,
}

impl Dynamic {
    fn read(bytes: &[u8]) -> Option<Self> {
        let header = file::FileHeader64::<LE>::parse(bytes).ok()?;
        let segments = header.program_headers(LE, bytes).ok()?;
        let entries = segments.iter().find_map(|s| s.dynamic(LE, bytes).ok().flatten())?;
        let value = |tag| entries.iter().find(|e| e.d_tag(LE) == tag).map(|e| e.d_val(LE));
        let (address, size) = (value(file::DT_STRTAB)?, value(file::DT_STRSZ)?);
        let strings = segments
            .iter()
            .find_map(|segment| segment.data_range(LE, bytes, address, size).ok().flatten())?;
        let text = |at: u64| {
            let rest = strings.get(usize::try_from(at).ok()?..)?;
            let end = rest.iter().position(|&byte| byte == 0)?;
            Some(String::from_utf8_lossy(&rest[..end]).into_owned())
        };
        let needed = entries.iter().filter(|e| e.d_tag(LE) == file::DT_NEEDED);
        let needed = needed.filter_map(|entry| text(entry.d_val(LE))).collect();
        let search = value(file::DT_RUNPATH).or_else(|| value(file::DT_RPATH)).and_then(text);
        Some(Self { needed, search })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_image::Node;
    use std::process::Command;

    /// Links an empty library or program with these flags in a folder; its bytes, where there is
    /// a compiler.
    fn link(folder: &Path, name: &str, flags: &[&str]) -> Option<Vec<u8>> {
        std::fs::write(folder.join("empty.c"), "int main(void) { return 0; }\n").unwrap();
        let done = Command::new("aarch64-linux-gnu-gcc")
            .current_dir(folder)
            .args(["-nostdlib", "-Wl,-e,main,--no-as-needed,--allow-shlib-undefined"])
            .args(["-o", name, "empty.c"])
            .args(flags)
            .status();
        done.is_ok_and(|s| s.success()).then(|| std::fs::read(folder.join(name)).unwrap())
    }

    #[test]
    fn libraries_are_found_where_linkers_look_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let Some(deep) = link(at, "libdeep.so", &["-shared"]) else {
            return println!("skipped: aarch64-linux-gnu-gcc is not here");
        };
        let near = ["-shared", "-L.", "-ldeep", "-Wl,-rpath,$ORIGIN/deep"];
        let near = link(at, "libnear.so", &near).unwrap();
        let conf = link(at, "libconf.so", &["-shared", "-L.", "-lnear"]).unwrap();
        let flags = ["-pie", "-fPIE", "-L.", "-lconf", "-lnear", "-Wl,-I/lib/ld.so"];
        let program = link(at, "program", &flags).unwrap();
        assert!(Closure::of(&Tree::new(), Path::new("/program"), &deep, &[]).unwrap().0.is_empty());

        let mut tree = Tree::new();
        let missing = Closure::of(&tree, Path::new("/program"), &program, &[]).err();
        assert_eq!(missing, Some(PathBuf::from("/lib/ld.so")));
        for (path, bytes) in [
            ("lib/ld-1.so", &deep),
            ("usr/lib/libnear.so", &near),
            ("usr/lib/deep/libdeep.so", &deep),
            ("opt/libdeep.so", &deep),
            ("opt/libconf.so", &conf),
        ] {
            tree.insert(path, Node::file(0o644, bytes.clone()));
        }
        tree.insert("lib/ld.so", Node::symlink("ld-1.so"));
        tree.insert("lib/libconf.so", Node::file(0o644, &b"/* a linker's script */"[..]));
        tree.insert("etc/ld.so.conf.d/opt.conf", Node::file(0o644, &b"# of ours\n/opt\n"[..]));
        let closure = Closure::of(&tree, Path::new("/program"), &program, &[]).unwrap();
        let paths: Vec<_> = closure.paths().collect();
        let expected =
            ["lib/ld-1.so", "opt/libconf.so", "usr/lib/deep/libdeep.so", "usr/lib/libnear.so"];
        assert_eq!(paths, expected.map(Path::new));
        assert!(closure.pages() >= 4);
        let env = ["LD_LIBRARY_PATH=/elsewhere:/opt".to_owned()];
        assert!(Closure::of(&tree, Path::new("/program"), &program, &env).is_ok());
    }
}
