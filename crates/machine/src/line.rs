//! What a machine is asked.

use crate::Error;
use crate::qemu::Streams;
use koskit_wire::{Kind, Request, encode};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Asks a machine. Nobody who asks has to wait until the machine listens: a thread of its own
/// does, so that whoever hears the machine may ask it, too.
#[derive(Clone)]
pub struct Line {
    queue: Sender<Vec<u8>>,
}

impl Line {
    pub(crate) fn new(streams: &Streams) -> Result<Self, Error> {
        let to = streams.line.try_clone();
        let to = to.map_err(|source| Error::Host { what: "write to the machine", source })?;
        let (queue, frames) = channel();
        thread::spawn(move || write(to, &frames));
        Ok(Self { queue })
    }

    /// Sends a request; its answer is an event with the same tag, or of the same container.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn send(&self, tag: u32, request: &Request<'_>) -> Result<(), Error> {
        let mut frame = Vec::new();
        request.encode(|parts| encode(Kind::Request, tag, parts, |byte| frame.push(byte)));
        self.send_bytes(frame)
    }

    /// Sends bytes as they are: what a host must not do, for a test of the machine.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn send_bytes(&self, bytes: Vec<u8>) -> Result<(), Error> {
        self.queue.send(bytes).map_err(|_| Error::Host {
            what: "write to the machine",
            source: std::io::ErrorKind::BrokenPipe.into(),
        })
    }
}

/// Ends with the machine, or when nobody can ask any more.
fn write(mut to: UnixStream, frames: &Receiver<Vec<u8>>) {
    while let Ok(frame) = frames.recv() {
        if to.write_all(&frame).is_err() {
            return;
        }
    }
}
