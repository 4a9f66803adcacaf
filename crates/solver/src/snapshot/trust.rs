//! Which snapshots are whole after the machine has crashed.
//!
//! To flush each snapshot to the disk would cost more than most steps do. So nothing is flushed
//! while a build runs, and its whole file system once at the end. `flushed.json` says for each
//! boot of the machine until when that was done. What was made in the boot that still runs is
//! whole in any case; of another boot it is if it was made before its last flush. What is not is
//! made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

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

/// The kernel's name for this boot.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
