//! A machine that was started without containers, and goes on until it is ended.

use crate::archive::Container;
use crate::boot::{Options, start};
use crate::console::Message;
use crate::line::Line;
use crate::listener::{Listener, PATIENCE};
use crate::qemu::Qemu;
use crate::{Error, Event, Platform};
use koskit_wire::{Request, VERSION};
use std::time::Instant;

/// A running machine; ended when dropped. It lives as long as the thread that started it at most.
pub struct Machine {
    qemu: Qemu,
    line: Line,
    /// Bytes that containers can get.
    pub free: u64,
}

impl Machine {
    /// Starts a machine and waits until its root server answers.
    ///
    /// # Errors
    /// It does not start, or its root server is of another version. QEMU has ended then.
    pub fn start(platform: &Platform, options: &Options) -> Result<(Self, Listener), Error> {
        const NONE: &[Container] = &[];
        let (mut qemu, streams) = start(platform, NONE, options)?;
        let line = Line::new(&streams)?;
        let mut listener = Listener::new(streams);
        let deadline = Some(Instant::now() + PATIENCE);
        let (mut ready, mut spoken) = (None, None);
        while ready.is_none() {
            listener.hear(deadline, &mut |said| {
                if let Message::Event(Event::Ready { free, .. }) = said {
                    ready = Some(free);
                }
            })?;
        }
        qemu.begun();
        line.send(1, &Request::Hello { version: VERSION })?;
        while spoken.is_none() {
            listener.hear(deadline, &mut |said| {
                if let Message::Event(Event::Hello { version, .. }) = said {
                    spoken = Some(version);
                }
            })?;
        }
        match spoken {
            Some(theirs) if theirs != VERSION => Err(Error::Version { ours: VERSION, theirs }),
            _ => Ok((Self { qemu, line, free: ready.unwrap_or(0) }, listener)),
        }
    }

    /// A way to ask it.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// The process that it runs in.
    pub fn process(&self) -> u32 {
        self.qemu.id()
    }

    /// Ends it.
    ///
    /// # Errors
    /// Its process cannot be waited for.
    pub fn quit(self) -> Result<(), Error> {
        self.qemu.quit()
    }
}
