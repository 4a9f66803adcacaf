//! The keeper: one thread hears the machine, one accepts commands, and each command has one, two
//! where it sends input. What they share is behind one lock, and whoever waits for something to
//! change waits on one condition.

use crate::containers::{Again, Containers, State, Told};
use crate::log::{Log, now};
use crate::protocol::{Kind, receive, send};
use crate::{Ask, BlobName, Error, Place, Run, Stream};
use koskit_machine::{
    Event, Line, Listener, Machine, Message, Options, PAGE, Platform, Request, STATUS_KILLED,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of standard input that wait for a container.
const INPUT_MAX: usize = 64 << 10;
/// Pages that are on their way at once.
const WINDOW: usize = 256;

struct Keeper {
    place: Place,
    line: Line,
    machine: Mutex<Option<Machine>>,
    process: u32,
    started: u64,
    kernel: Option<String>,
    book: Mutex<Book>,
    changed: Condvar,
    /// Held while blobs go to the machine: it takes one at a time.
    transfer: Mutex<()>,
}

struct Book {
    containers: Containers,
    /// What was asked, by its tag, and the answers that came.
    answers: HashMap<u32, Option<Answer>>,
    /// Capabilities of an answer that has not come to its end, by its tag.
    caps: HashMap<u32, Vec<Value>>,
    tag: u32,
    /// What the machine says.
    console: Log,
    /// Why the machine has ended.
    ended: Option<String>,
    /// Whether another keeper can take our place.
    left: bool,
}

enum Answer {
    Done,
    Failed(String),
    Memory { total: u64, free: u64, largest: u64 },
    Stats { memory: u64, requests: u64, written: u64, read: u64 },
    Caps { held: Vec<Value>, next: u32, badge: u32 },
}

/// Starts a machine and keeps it until it ends. `ready` is called when commands can come.
///
/// # Errors
/// It cannot be started, or runs already.
pub fn keep(
    place: Place,
    platform: &Platform,
    options: &Options,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let lock = place.lock()?;
    place.make_folder()?;
    let file = |what| {
        let path = place.socket();
        move |source| Error::File { what, path, source }
    };
    let (machine, listener) = Machine::start(platform, options)?;
    let commands = UnixListener::bind(place.socket()).map_err(file("listen on"))?;
    let console = Log::new(place.folder().join("console")).map_err(file("keep a log beside"))?;
    let book = Book {
        containers: Containers::default(),
        answers: HashMap::new(),
        caps: HashMap::new(),
        tag: 16,
        console,
        ended: None,
        left: false,
    };
    let keeper = Arc::new(Keeper {
        line: machine.line(),
        process: machine.process(),
        machine: Mutex::new(Some(machine)),
        started: now(),
        kernel: platform.kernel(),
        book: Mutex::new(book),
        changed: Condvar::new(),
        transfer: Mutex::new(()),
        place: place.clone(),
    });
    let accepting = Arc::clone(&keeper);
    thread::spawn(move || accepting.accept(&commands));
    ready();
    keeper.hear(listener);
    place.leave();
    keeper.book().left = true;
    keeper.changed.notify_all();
    drop(lock);
    // Whoever waits is told that the machine is gone.
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

impl Keeper {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, but not for ever.
    fn wait<'a>(&self, book: MutexGuard<'a, Book>) -> MutexGuard<'a, Book> {
        let waited = self.changed.wait_timeout(book, Duration::from_secs(1));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Hears the machine until it ends.
    fn hear(self: &Arc<Self>, mut listener: Listener) {
        loop {
            let mut again = Vec::new();
            let heard = listener.hear(None, &mut |said| {
                let mut book = self.book();
                match said {
                    Message::Output { container, bytes } => {
                        book.containers.wrote(container, Stream::Output, bytes);
                    }
                    Message::Error { container, bytes } => {
                        book.containers.wrote(container, Stream::Error, bytes);
                    }
                    Message::Log { container: 0, line } => {
                        let _ = book.console.add(Stream::Log, format!("{line}\n").as_bytes());
                    }
                    Message::Log { container, line } => {
                        let line = format!("{line}\n");
                        book.containers.wrote(container, Stream::Log, line.as_bytes());
                    }
                    Message::Event(event) => again.extend(book.heard(event, &self.line)),
                }
            });
            self.changed.notify_all();
            for Again { number, after } in again {
                let keeper = Arc::clone(self);
                thread::spawn(move || keeper.start_again(number, after));
            }
            if let Err(error) = heard {
                self.book().ended = Some(error.to_string());
                self.changed.notify_all();
                return;
            }
        }
    }

    fn start_again(&self, number: u32, after: Duration) {
        thread::sleep(after);
        let mut book = self.book();
        let waits = book.containers.get(number).map(|c| (c.told.state, c.stopping));
        match waits {
            Some((State::Restarting, false)) => book.containers.start(number, &self.line),
            Some((State::Restarting, true)) => book.containers.finish(number, &self.line),
            _ => {}
        }
        drop(book);
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, commands: &UnixListener) {
        for stream in commands.incoming() {
            let Ok(stream) = stream else { continue };
            // The folder is ours alone; and so must be who comes.
            let peer = rustix::net::sockopt::socket_peercred(&stream);
            if !peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid()) {
                continue;
            }
            let keeper = Arc::clone(self);
            thread::spawn(move || keeper.serve(&stream));
        }
    }

    /// Serves one command.
    fn serve(self: &Arc<Self>, stream: &UnixStream) {
        let ask = match receive(stream) {
            Ok(Some((Kind::Json, json))) => serde_json::from_slice(&json),
            _ => return,
        };
        let answer = match ask {
            Ok(ask) => self.answer(ask, stream),
            Err(_) => Err(Error::Protocol),
        };
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        // Whoever asked may have gone.
        let _ = send(stream, Kind::Json, &[answer.to_string().as_bytes()]);
    }

    fn answer(self: &Arc<Self>, ask: Ask, stream: &UnixStream) -> Result<Value, Error> {
        let find = |name: &str| self.book().containers.find(name).map_err(Error::Refused);
        match ask {
            Ask::Info => self.info(),
            Ask::List => {
                let book = self.book();
                let told: Vec<&Told> = book.containers.iter().map(|c| &c.told).collect();
                Ok(json!(told))
            }
            Ask::Inspect { name } => self.told(find(&name)?),
            Ask::Run(run) => self.run(&run, stream),
            Ask::Logs { name, follow, tail } => {
                let number = find(&name)?;
                let (from, skip) = match (tail, self.book().containers.get(number)) {
                    (Some(lines), Some(container)) => {
                        container.log.tail(lines).map_err(Error::Socket)?
                    }
                    _ => (0, 0),
                };
                self.pass_on(Some(number), from, skip, follow, stream)?;
                Ok(Value::Null)
            }
            Ask::Console { follow } => {
                self.pass_on(None, 0, 0, follow, stream)?;
                Ok(Value::Null)
            }
            Ask::Stop { name, seconds } => self.stop(find(&name)?, seconds),
            Ask::Kill { name } => self.kill(find(&name)?),
            Ask::Remove { name, force } => {
                let number = find(&name)?;
                let ended = self.book().containers.get(number).is_none_or(|c| c.is_ended());
                if !ended && !force {
                    return Err(Error::Refused(format!(
                        "the container {name} runs; stop it first, or remove it with --force"
                    )));
                }
                if !ended {
                    self.kill(number)?;
                }
                self.book().containers.remove(number);
                Ok(Value::Null)
            }
            Ask::Wait { name } => {
                let number = find(&name)?;
                self.until_ended(number, None, Some(stream))?;
                self.told(number)
            }
            Ask::Stats { name } => {
                let number = find(&name)?;
                match self.ask(&Request::Stats { container: number })? {
                    Answer::Stats { memory, requests, written, read } => Ok(json!({
                        "memory_bytes": memory, "requests": requests,
                        "written_bytes": written, "read_bytes": read,
                    })),
                    _ => Err(Error::Refused(format!("the container {name} does not run"))),
                }
            }
            Ask::Holds { name } => self.holds(&name, find(&name)?),
            Ask::End => {
                let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner).take();
                machine.map_or(Ok(()), Machine::quit)?;
                let mut book = self.book();
                while !book.left {
                    book = self.wait(book);
                }
                Ok(Value::Null)
            }
        }
    }

    fn told(&self, number: u32) -> Result<Value, Error> {
        let mut book = self.book();
        let container = book.containers.get(number);
        container.map(|container| json!(container.told)).ok_or_else(removed)
    }

    fn holds(&self, name: &str, number: u32) -> Result<Value, Error> {
        let (mut all, mut first) = (Vec::new(), 0);
        loop {
            match self.ask(&Request::Caps { container: number, first })? {
                Answer::Caps { held, next, badge } => {
                    all.extend(held);
                    if next == 0 {
                        return Ok(json!({ "badge": badge, "capabilities": all }));
                    }
                    first = next;
                }
                _ => return Err(Error::Refused(format!("the container {name} does not run"))),
            }
        }
    }

    fn info(&self) -> Result<Value, Error> {
        let Answer::Memory { total, free, largest } = self.ask(&Request::Memory)? else {
            return Err(Error::Protocol);
        };
        let book = self.book();
        let running = book.containers.iter().filter(|c| c.told.state == State::Running).count();
        Ok(json!({
            "name": self.place.name,
            "pid": std::process::id(),
            "qemu_pid": self.process,
            "started": self.started,
            "kernel": self.kernel,
            "total_bytes": total,
            "free_bytes": free,
            "largest_bytes": largest,
            "containers": book.containers.iter().count(),
            "running": running,
        }))
    }

    /// Asks the machine and waits for its answer.
    fn ask(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let mut book = self.book();
        book.tag = book.tag.checked_add(1).unwrap_or(16);
        let tag = book.tag;
        book.answers.insert(tag, None);
        self.line.send(tag, request)?;
        loop {
            if let Some(Some(_)) = book.answers.get(&tag) {
                return book.answers.remove(&tag).flatten().ok_or(Error::Gone);
            }
            if book.ended.is_some() {
                return Err(Error::Gone);
            }
            book = self.wait(book);
        }
    }

    fn done(&self, request: &Request<'_>) -> Result<(), Error> {
        match self.ask(request)? {
            Answer::Failed(reason) => {
                Err(Error::Refused(format!("the machine cannot do that: {reason}")))
            }
            _ => Ok(()),
        }
    }

    /// Puts a blob into the machine's memory.
    fn put(&self, BlobName(digest): BlobName, bytes: &[u8]) -> Result<(), Error> {
        self.done(&Request::Put { digest, size: bytes.len() as u64 })?;
        let count = bytes.len().div_ceil(PAGE);
        for (index, bytes) in bytes.chunks(PAGE).enumerate() {
            let page = Request::Page { index: index as u32, bytes };
            if index + 1 == count {
                self.done(&page)?;
            } else {
                self.line.send(0, &page)?;
                if index % WINDOW == WINDOW - 1 {
                    // What waits for the machine is in our memory.
                    self.ask(&Request::Memory)?;
                }
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, run: &Run, stream: &UnixStream) -> Result<Value, Error> {
        let folder = self.place.folder();
        let number = self.book().containers.add(run, folder).map_err(Error::Refused)?;
        if let Err(error) = self.send_blobs(run, stream) {
            let mut book = self.book();
            book.containers.finish(number, &self.line);
            book.containers.remove(number);
            return Err(error);
        }
        let mut book = self.book();
        book.containers.start(number, &self.line);
        let told = loop {
            let container = book.containers.get(number).ok_or_else(removed)?;
            if container.told.state != State::Created {
                break container.told.clone();
            }
            if book.ended.is_some() {
                return Err(Error::Gone);
            }
            book = self.wait(book);
        };
        if told.started.is_none() {
            book.containers.remove(number);
            return Err(Error::Refused(told.error.unwrap_or_default()));
        }
        drop(book);
        let started = json!({ "started": told }).to_string();
        let told_it = send(stream, Kind::Json, &[started.as_bytes()]);
        if run.detach {
            if run.remove {
                let keeper = Arc::clone(self);
                thread::spawn(move || {
                    let _ = keeper.until_ended(number, None, None);
                    keeper.book().containers.remove(number);
                });
            }
            return Ok(json!(told));
        }
        if run.interactive {
            let (keeper, input) = (Arc::clone(self), stream.try_clone().map_err(Error::Socket)?);
            thread::spawn(move || keeper.take_input(number, &input));
        }
        let passed = told_it.and_then(|()| self.pass_on(Some(number), 0, 0, true, stream));
        if passed.is_err() {
            // Nobody reads any more: as if its terminal had been closed.
            let _ = self.kill(number);
        }
        let told = self.told(number);
        if run.remove {
            self.book().containers.remove(number);
        }
        passed?;
        told
    }

    fn send_blobs(&self, run: &Run, stream: &UnixStream) -> Result<(), Error> {
        let _alone = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let needs = self.book().containers.needs(&run.blobs);
        send(stream, Kind::Json, &[json!({ "need": needs }).to_string().as_bytes()])?;
        for name in needs {
            match receive(stream)? {
                Some((Kind::Blob, bytes)) => self.put(name, &bytes)?,
                _ => return Err(Error::Gone),
            }
            self.book().containers.has(name.0);
        }
        Ok(())
    }

    /// Takes what a command has for a container's standard input.
    fn take_input(&self, number: u32, stream: &UnixStream) {
        loop {
            let bytes = match receive(stream) {
                Ok(Some((Kind::Input, bytes))) => bytes,
                // The command has gone, and its output is at an end, too.
                _ => {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
            };
            let mut book = self.book();
            loop {
                let Some(container) = book.containers.get(number) else { return };
                if container.input.len() < INPUT_MAX {
                    container.input_ended |= bytes.is_empty();
                    container.input.extend(&bytes);
                    container.feed(&self.line);
                    break;
                }
                if container.is_ended() {
                    return;
                }
                book = self.wait(book);
            }
        }
    }

    /// Passes on what a container, or the machine, has said from a position on; with `follow`
    /// until it has ended.
    fn pass_on(
        &self,
        number: Option<u32>,
        mut from: u64,
        mut skip: usize,
        follow: bool,
        stream: &UnixStream,
    ) -> Result<(), Error> {
        loop {
            let mut book = self.book();
            let mut over = book.ended.is_some();
            let log = match number {
                None => &book.console,
                Some(number) => match book.containers.get(number) {
                    Some(container) => {
                        over |= container.is_ended();
                        &container.log
                    }
                    None => return Err(removed()),
                },
            };
            let (records, next) = log.read(from).map_err(Error::Socket)?;
            let nothing = records.is_empty();
            if nothing {
                if over || !follow {
                    return Ok(());
                }
                drop(self.wait(book));
                if has_gone(stream) {
                    return Err(Error::Gone);
                }
                continue;
            }
            drop(book);
            from = next;
            for record in records {
                let kind = match record.stream {
                    Stream::Output => Kind::Output,
                    Stream::Error => Kind::Error,
                    Stream::Log => Kind::Log,
                };
                let bytes = &record.bytes[std::mem::take(&mut skip).min(record.bytes.len())..];
                send(stream, kind, &[&record.time.to_le_bytes(), bytes])?;
            }
        }
    }

    /// Waits until a container has ended for good; whether it has, within the time.
    fn until_ended(
        &self,
        number: u32,
        within: Option<Duration>,
        stream: Option<&UnixStream>,
    ) -> Result<bool, Error> {
        let until = within.map(|within| Instant::now() + within);
        let mut book = self.book();
        loop {
            if book.containers.get(number).is_none_or(|container| container.is_ended()) {
                return Ok(true);
            }
            if book.ended.is_some() {
                return Err(Error::Gone);
            }
            let now = Instant::now();
            if until.is_some_and(|until| now >= until) {
                return Ok(false);
            }
            if stream.is_some_and(has_gone) {
                return Err(Error::Gone);
            }
            let second = Duration::from_secs(1);
            let left = until.map_or(second, |until| (until - now).min(second));
            let waited = self.changed.wait_timeout(book, left);
            book = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends a container: first its standard input, then, after a while, itself. One that does not
    /// read any is not waited for, as nothing tells it to end.
    fn stop(&self, number: u32, seconds: u64) -> Result<Value, Error> {
        let asked = {
            let mut book = self.book();
            let container = book.containers.get(number).ok_or_else(removed)?;
            container.stopping = true;
            let asked = !container.input_ended;
            container.input_ended = true;
            container.feed(&self.line);
            asked
        };
        if asked && self.until_ended(number, Some(Duration::from_secs(seconds)), None)? {
            return self.told(number);
        }
        self.kill(number)?;
        self.told(number)
    }

    fn kill(&self, number: u32) -> Result<Value, Error> {
        let mut book = self.book();
        let container = book.containers.get(number).ok_or_else(removed)?;
        container.stopping = true;
        match container.told.state {
            State::Exited => return Ok(Value::Null),
            State::Restarting if !container.starting => {
                container.told.status = STATUS_KILLED;
                book.containers.finish(number, &self.line);
                drop(book);
                self.changed.notify_all();
                return Ok(Value::Null);
            }
            State::Created | State::Running | State::Restarting => drop(book),
        }
        // It may have ended by itself in the meantime.
        self.ask(&Request::Kill { container: number })?;
        self.until_ended(number, None, None)?;
        Ok(Value::Null)
    }
}

impl Book {
    fn heard(&mut self, event: Event<'_>, line: &Line) -> Option<Again> {
        let (tag, answer) = match event {
            Event::Done { tag } => (tag, Answer::Done),
            Event::Failed { tag, reason } => (tag, Answer::Failed(reason.to_owned())),
            Event::Memory { tag, total, free, largest } => {
                (tag, Answer::Memory { total, free, largest })
            }
            Event::Stats { tag, memory, requests, written, read } => {
                (tag, Answer::Stats { memory, requests, written, read })
            }
            Event::Cap { tag, slot, object, bits, value } => {
                let held = json!({ "slot": slot, "object": object, "bits": bits, "value": value });
                if self.answers.contains_key(&tag) {
                    self.caps.entry(tag).or_default().push(held);
                }
                return None;
            }
            Event::Caps { tag, next, badge } => {
                let held = self.caps.remove(&tag).unwrap_or_default();
                (tag, Answer::Caps { held, next, badge })
            }
            event => return self.containers.heard(event, line),
        };
        if let Some(place) = self.answers.get_mut(&tag) {
            *place = Some(answer);
        }
        None
    }
}

fn removed() -> Error {
    Error::Refused("the container was removed".into())
}

/// Whether the command at the other end has ended.
fn has_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}
