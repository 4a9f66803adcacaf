//! Which snapshots are whole after the machine has crashed.
//!
//! To flush each snapshot to the disk would cost more than most steps do. So nothing is flushed
//! while a build runs, and its whole file system once at the end. Where that would take long,
//! since much waits to be written, by this build or by others, a later build does it: until then
//! the kernel has written most of it by itself.
//!
//! `flushed.json` says for each boot of the machine until when that was done. What was made in the
//! boot that still runs is whole in any case; of another boot it is if it was made before its last
//! flush. What is not is made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// More bytes than this that wait to be written are not waited for: a tenth of a second, on a
/// disk that is not slow.
const MAX_DIRTY: u64 = 32 << 20;
/// How long the kernel takes to write what waits, at most, where nobody has set it otherwise.
pub(super) const WRITTEN: std::time::Duration = std::time::Duration::from_secs(35);
/// More boots than this are not remembered.
const MAX_BOOTS: usize = 1000;

/// A moment: which boot of the machine, and nanoseconds in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    boot: String,
    at: u64,
}

/// For each boot, until when everything is on the disk.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    boot: String,
    until: BTreeMap<String, u64>,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        Self { boot: boot(), at: time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 }
    }
}

impl Flushed {
    /// Reads what is known in a directory.
    pub fn load(directory: &Path) -> Self {
        let text = fs::read(directory.join("flushed.json")).unwrap_or_default();
        Self { boot: boot(), until: serde_json::from_slice(&text).unwrap_or_default() }
    }

    /// Whether what was made then is whole now.
    pub fn covers(&self, moment: &Moment) -> bool {
        !moment.boot.is_empty()
            && (moment.boot == self.boot
                || self.until.get(&moment.boot).is_some_and(|until| moment.at <= *until))
    }
}

/// Writes everything in the directory's file system to the disk, and notes it.
pub(super) fn flush(directory: &Path) -> io::Result<()> {
    let moment = Moment::now();
    rustix::fs::syncfs(File::open(directory)?)?;
    let path = directory.join("flushed.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(path)?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut until = Flushed::load(directory).until;
    let at = until.entry(moment.boot.clone()).or_default();
    *at = moment.at.max(*at);
    while until.len() > MAX_BOOTS {
        // Any but this one: what is forgotten is made again.
        let Some(other) = until.keys().find(|boot| **boot != moment.boot).cloned() else { break };
        until.remove(&other);
    }
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(&until)?)?;
    file.as_file().sync_all()?;
    file.persist(directory.join("flushed.json"))?;
    File::open(directory)?.sync_all()
}

/// Whether a flush would take long.
pub(super) fn is_long() -> bool {
    dirty(&fs::read_to_string("/proc/meminfo").unwrap_or_default()) > MAX_DIRTY
}

/// Bytes that wait to be written, in the text of `/proc/meminfo`.
fn dirty(text: &str) -> u64 {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let all = ["Dirty:", "Writeback:"].into_iter().filter_map(number);
    all.sum::<u64>().saturating_mul(1024)
}

/// The kernel's name for this boot.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_written_is_counted() {
        let text = "MemTotal: 5 kB\nDirty:   1000 kB\nWriteback:     24 kB\nWritebackTmp: 9 kB\n";
        assert_eq!(dirty(text), 1024 * 1024);
        assert_eq!(dirty(""), 0);
    }

    #[test]
    fn what_was_made_after_the_last_flush_before_a_crash_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let before = Moment::now();
        let unknown = Moment { boot: "another".into(), at: 0 };
        let flushed = Flushed::load(dir.path());
        assert!(flushed.covers(&before) && !flushed.covers(&unknown));
        assert!(!flushed.covers(&Moment::default()));
        flush(dir.path()).unwrap();
        let after = Moment::now();
        // As it is seen after the next boot.
        let mut later = Flushed::load(dir.path());
        later.boot = "next".into();
        assert!(later.covers(&before) && !later.covers(&after) && !later.covers(&unknown));
        flush(dir.path()).unwrap();
        later = Flushed { boot: "next".into(), ..Flushed::load(dir.path()) };
        assert!(later.covers(&after));
        fs::write(dir.path().join("flushed.json"), "{").unwrap();
        assert!(Flushed::load(dir.path()).covers(&before));
    }
}
