//! The end of a build that somebody stops.
//!
//! A process that a signal ends leaves nothing that the next one could not use: names, blobs and
//! snapshots become what they are by a rename. Here is only what is polite: the terminal shows
//! what was stopped, and files beside the user's outputs that are half written go away.

use crate::output;
use koskit_progress::Progress;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static BEGUN: AtomicBool = AtomicBool::new(false);

/// Stops a build when a signal comes; `last` is done before the process ends by it. This makes a
/// thread.
///
/// # Errors
/// The system refuses.
pub fn watch(progress: &Progress, last: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let progress = progress.clone();
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            BEGUN.store(true, Ordering::SeqCst);
            progress.cancel();
            last();
            koskit_image::remove_scratch();
            output::error("koskit: canceled; steps that were finished are kept\n");
            // Whoever waits for us sees what ended us. If that fails, we end all the same.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Waits for the end, if one has begun: what goes wrong then is of no interest.
pub fn wait() {
    while BEGUN.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
