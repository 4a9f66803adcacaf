//! All ELF files of an image, rewritten: whichever of them a program runs, loads or maps later,
//! its system calls reach libkos.

use crate::rewrite::{RewriteError, rewrite};
use koskit_image::{Node, NodeKind, Tree};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What was done with an image's files.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Number of system calls that were rewritten, by the x16 and the x8 form of the stub.
    pub sites: (usize, usize),
    /// Files that are as they were, since they cannot be rewritten.
    pub refused: BTreeMap<PathBuf, RewriteError>,
}

/// Rewrites all programs and libraries for AArch64 of a tree. Files that are none, among them
/// object files and programs for other machines, stay as they are.
pub(crate) fn rewrite_all(tree: &mut Tree) -> Done {
    // The names of one file share its bytes, and shall do so afterwards.
    let mut files: HashMap<*const u8, (Arc<[u8]>, Vec<PathBuf>)> = HashMap::new();
    for (path, node) in tree.iter() {
        match &node.kind {
            NodeKind::File(bytes) if is_code(bytes) => {
                let file = files.entry(bytes.as_ptr()).or_insert((bytes.clone(), Vec::new()));
                file.1.push(path.to_owned());
            }
            _ => {}
        }
    }
    let mut files: Vec<_> = files.into_values().collect();
    // The largest first, so that none is left over at the end.
    files.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.len()));
    let mut done = Done::default();
    for (index, result) in results(&files) {
        let paths = &files[index].1;
        match result {
            Ok(rewritten) => {
                done.sites.0 += rewritten.x16;
                done.sites.1 += rewritten.x8;
                let Some(bytes) = rewritten.bytes else { continue };
                for path in paths {
                    if let Some(node) = tree.get(path).cloned() {
                        let kind = NodeKind::File(bytes.clone());
                        tree.insert(path.clone(), Node { kind, ..node });
                    }
                }
            }
            Err(error) => {
                done.refused.extend(paths.iter().map(|path| (path.clone(), error.clone())));
            }
        }
    }
    done
}

/// A file's new bytes, where they are other ones, and its sites.
struct File {
    bytes: Option<Arc<[u8]>>,
    x16: usize,
    x8: usize,
}

/// Rewrites files, on all cores; each result has the file's index.
fn results(files: &[(Arc<[u8]>, Vec<PathBuf>)]) -> Vec<(usize, Result<File, RewriteError>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((bytes, _)) = files.get(index) else { return results };
            let result = rewrite(bytes).map(|done| File {
                x16: done.x16_sites,
                x8: done.x8_sites,
                bytes: (done.x16_sites + done.x8_sites > 0).then(|| done.bytes.into()),
            });
            results.push((index, result));
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(files.len());
    thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    })
}

/// Whether these are the bytes of a program or a library for AArch64.
fn is_code(bytes: &[u8]) -> bool {
    // Magic, 64 bits, little-endian; e_type and e_machine.
    bytes.starts_with(b"\x7fELF\x02\x01") && matches!(bytes.get(16..20), Some([2 | 3, 0, 183, 0]))
}
