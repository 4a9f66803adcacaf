//! The contents of files, copied on several cores.

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::change::{Attributes, Ownership};
use super::{FileError, Result, failed};

/// Fewer entries than this are copied one after the other.
const FEW: usize = 16;
/// So many threads at most: more do not make a disk faster.
const MOST: usize = 4;

/// A file that was made and is still empty.
pub(super) struct Content {
    pub from: File,
    pub to: File,
    pub at: PathBuf,
    /// The SHA-256 that it must have.
    pub expected: Option<[u8; 32]>,
    /// What it gets when it has its content.
    pub attributes: Attributes,
}

/// Those who copy contents while others make the files.
pub(super) struct Contents<'a> {
    ownership: Ownership,
    /// `None` where everything is copied at once.
    queue: Option<SyncSender<Content>>,
    failed: &'a Mutex<Option<FileError>>,
}

impl Contents<'_> {
    /// Calls what makes the files of so many entries; when this returns without an error, all of
    /// them are copied.
    pub fn copied<T: Send>(
        ownership: Ownership,
        entries: usize,
        make: impl FnOnce(&Contents<'_>) -> Result<T>,
    ) -> Result<T> {
        let failed = &Mutex::new(None);
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST);
        if entries < FEW || cores == 1 {
            return make(&Contents { ownership, queue: None, failed });
        }
        // A place in the queue has two open files.
        let (sender, receiver) = sync_channel(2 * cores);
        let receiver = &Mutex::new(receiver);
        let made = thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(move || work(ownership, receiver, failed));
            }
            make(&Contents { ownership, queue: Some(sender), failed })
        });
        match lock(failed).take() {
            Some(error) => Err(error),
            None => made,
        }
    }

    /// Copies one, now or later. An error may be one of those before.
    pub fn copy(&self, content: Content) -> Result<()> {
        match &self.queue {
            None => return content.copy(self.ownership),
            Some(queue) => {
                // They take what comes until nothing more can.
                let _ = queue.send(content);
            }
        }
        match lock(self.failed).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Copies what comes; after the first error it is only taken, so that nobody waits.
fn work(
    ownership: Ownership,
    receiver: &Mutex<Receiver<Content>>,
    failed: &Mutex<Option<FileError>>,
) {
    let mut stopped = false;
    loop {
        let Ok(content) = lock(receiver).recv() else { return };
        if stopped {
            continue;
        }
        if let Err(error) = content.copy(ownership) {
            stopped = true;
            lock(failed).get_or_insert(error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    fn copy(mut self, ownership: Ownership) -> Result<()> {
        self.bytes()?;
        self.attributes.put(&self.to, &self.at, ownership)
    }

    fn bytes(&mut self) -> Result<()> {
        let Some(expected) = self.expected else {
            let copied = io::copy(&mut self.from, &mut self.to);
            return copied.map(drop).map_err(failed("copy", &self.at));
        };
        let mut sha = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    sha.update(&buffer[..len]);
                    self.to.write_all(&buffer[..len]).map_err(failed("write", &self.at))?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("copy", &self.at)(e)),
            }
        }
        match sha.finalize()[..] == expected {
            true => Ok(()),
            false => Err(FileError::Changed(self.at.clone())),
        }
    }
}
