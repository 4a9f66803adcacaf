//! A command's end of the socket.

use crate::containers::Told;
use crate::protocol::{Kind, receive, send};
use crate::{Ask, BlobName, Error, Place, Run, Stream};
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

/// How long a keeper that has just been started may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a keeper, for one [`Ask`].
pub struct Client {
    stream: UnixStream,
}

/// A piece of what a container, or a machine, has said.
#[derive(Debug)]
pub struct Piece {
    /// On which stream.
    pub stream: Stream,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Client {
    /// Connects to the keeper of a machine; `None` where there is none.
    ///
    /// # Errors
    /// There is one, but it cannot be reached.
    pub fn connect(place: &Place) -> Result<Option<Self>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(place.socket()) {
                Ok(stream) => return Ok(Some(Self { stream })),
                Err(error)
                    if !matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused
                    ) =>
                {
                    return Err(Error::Socket(error));
                }
                Err(_) if !place.is_kept()? => return Ok(None),
                Err(error) if Instant::now() > deadline => return Err(Error::Socket(error)),
                // It is about to come, or about to go.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Asks, and returns the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with the keeper's reason, or the machine has ended.
    pub fn ask(self, ask: &Ask) -> Result<Value, Error> {
        self.follow(ask, &mut |_| Ok(()))
    }

    /// Asks, and passes what comes before the answer to `piece`.
    ///
    /// # Errors
    /// As [`Client::ask`], and those of `piece`.
    pub fn follow<E: From<Error>>(
        self,
        ask: &Ask,
        piece: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<Value, E> {
        self.send(ask)?;
        self.listen(piece)
    }

    /// Runs a container; `blob` has the blobs that the machine needs. What the container says goes
    /// to `piece`, and our standard input to it, where that was asked for. `started` is told what
    /// became of it first.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub fn run<E: From<Error>>(
        self,
        run: Run,
        blob: &dyn Fn(BlobName) -> Option<Vec<u8>>,
        started: &mut dyn FnMut(&Told),
        piece: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<Told, E> {
        let input = run.interactive && !run.detach;
        self.send(&Ask::Run(Box::new(run)))?;
        let mut needs = self.json("need")?;
        let needs: Vec<BlobName> =
            serde_json::from_value(needs.take()).map_err(|_| Error::Protocol)?;
        for name in needs {
            let bytes = blob(name).ok_or(Error::Protocol)?;
            send(&self.stream, Kind::Blob, &[&bytes])?;
        }
        let told = self.json("started")?;
        started(&serde_json::from_value(told).map_err(|_| Error::Protocol)?);
        if input {
            let to = self.stream.try_clone().map_err(Error::Socket)?;
            thread::spawn(move || pass_input(&to));
        }
        let told = self.listen(piece)?;
        Ok(serde_json::from_value(told).map_err(|_| Error::Protocol)?)
    }

    fn send(&self, ask: &Ask) -> Result<(), Error> {
        let json = serde_json::to_vec(ask).map_err(|_| Error::Protocol)?;
        send(&self.stream, Kind::Json, &[&json])
    }

    /// A part of JSON with this member.
    fn json(&self, member: &str) -> Result<Value, Error> {
        match receive(&self.stream)? {
            Some((Kind::Json, json)) => {
                let mut value: Value =
                    serde_json::from_slice(&json).map_err(|_| Error::Protocol)?;
                match (value.get_mut(member).map(Value::take), value["error"].as_str()) {
                    (Some(value), _) => Ok(value),
                    (None, Some(error)) => Err(Error::Refused(error.to_owned())),
                    (None, None) => Err(Error::Protocol),
                }
            }
            Some(_) => Err(Error::Protocol),
            None => Err(Error::Gone),
        }
    }

    fn listen<E: From<Error>>(
        &self,
        piece: &mut dyn FnMut(Piece) -> Result<(), E>,
    ) -> Result<Value, E> {
        loop {
            let (kind, bytes) = receive(&self.stream)?.ok_or(Error::Gone)?;
            let stream = match kind {
                Kind::Output => Stream::Output,
                Kind::Error => Stream::Error,
                Kind::Log => Stream::Log,
                Kind::Json => {
                    let mut value: Value =
                        serde_json::from_slice(&bytes).map_err(|_| Error::Protocol)?;
                    return match value["error"].as_str() {
                        Some(error) => Err(Error::Refused(error.to_owned()).into()),
                        None => Ok(value["ok"].take()),
                    };
                }
                Kind::Blob | Kind::Input => return Err(Error::Protocol.into()),
            };
            let (time, bytes) = bytes.split_first_chunk().ok_or(Error::Protocol)?;
            piece(Piece { stream, time: u64::from_le_bytes(*time), bytes: bytes.to_vec() })?;
        }
    }
}

/// Passes our standard input to the keeper, until either ends.
fn pass_input(to: &UnixStream) {
    let (mut from, mut buffer) = (std::io::stdin(), vec![0; 16 << 10]);
    loop {
        // What cannot be read is at its end.
        let count = from.read(&mut buffer).unwrap_or(0);
        if send(to, Kind::Input, &[&buffer[..count]]).is_err() || count == 0 {
            return;
        }
    }
}
