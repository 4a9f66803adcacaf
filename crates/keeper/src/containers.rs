//! What the keeper knows of containers and of blobs on the machine, and how events change that.
//!
//! A container is created, runs, and ends; if its policy says so it starts again. It uses its
//! three blobs until it has ended for good: then those that nobody else uses are dropped from the
//! machine, and so a machine without containers has all its memory back.

use crate::log::{Log, now};
use crate::names;
use crate::{BlobName, Run, Stream};
use koskit_machine::{Digest, Event, Line, Request, STATUS_FAULTED, STATUS_REFUSED};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// When a container that has ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// When its status is not 0; so often at most, 0 being without end.
    OnFailure(u32),
    /// Whenever it has ended by itself.
    Always,
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let often = |count: &str| count.parse().ok().filter(|&count| count > 0);
        Ok(match text.split_once(':') {
            None => match text {
                "no" => Self::No,
                "on-failure" => Self::OnFailure(0),
                "always" | "unless-stopped" => Self::Always,
                _ => return Err("it is no, on-failure, on-failure:COUNT or always".into()),
            },
            Some(("on-failure", count)) => {
                Self::OnFailure(often(count).ok_or("COUNT is a number from 1 on")?)
            }
            Some(_) => return Err("only on-failure takes a count".into()),
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(count) => write!(f, "on-failure:{count}"),
            Self::Always => f.write_str("always"),
        }
    }
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has never run yet.
    Created,
    /// It runs.
    Running,
    /// It has ended and will be started again.
    Restarting,
    /// It has ended for good.
    Exited,
}

/// What is told of a container. Times are nanoseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they are what docker calls so")]
pub struct Told {
    pub id: String,
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub state: State,
    pub created: u64,
    pub started: Option<u64>,
    pub finished: Option<u64>,
    pub status: u8,
    /// Why it ended, where that was not its own doing.
    pub error: Option<String>,
    pub restarts: u32,
    pub restart: Policy,
    pub interactive: bool,
    /// Its number on the machine.
    pub number: u32,
    /// Its contract and its process.
    pub spec: serde_json::Value,
}

/// A container.
pub(crate) struct Container {
    pub told: Told,
    pub log: Log,
    /// Contract with process block, program, initrd.
    blobs: [Digest; 3],
    /// Most bytes of standard input that it waits for.
    asks: Option<u32>,
    /// Standard input that it has not read yet.
    pub input: VecDeque<u8>,
    /// Whether nothing more will come.
    pub input_ended: bool,
    /// Whether somebody wants it to end: then no policy starts it again.
    pub stopping: bool,
    /// Whether the machine was asked to create it, and has not answered.
    pub starting: bool,
    begun: Instant,
}

impl Container {
    pub fn is_ended(&self) -> bool {
        self.told.state == State::Exited
    }

    /// Gives it what it waits for.
    pub fn feed(&mut self, line: &Line) {
        let Some(most) = self.asks.filter(|_| self.input_ended || !self.input.is_empty()) else {
            return;
        };
        let count = self.input.len().min(most as usize);
        let bytes: Vec<u8> = self.input.drain(..count).collect();
        self.asks = None;
        // A machine that has ended needs nothing.
        let _ = line.send(0, &Request::Input { container: self.told.number, bytes: &bytes });
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Containers {
    list: Vec<Container>,
    blobs: HashMap<Digest, Blob>,
    last: u32,
}

#[derive(Default)]
struct Blob {
    users: u32,
    /// Whether the machine has it.
    there: bool,
}

/// A container that is to be started again, after a while.
pub(crate) struct Again {
    pub number: u32,
    pub after: Duration,
}

impl Containers {
    /// A container that is about to be created; its number.
    pub fn add(&mut self, run: &Run, folder: &Path) -> Result<u32, String> {
        let name = match &run.name {
            Some(name) if !names::is_good(name) => {
                return Err(format!(
                    "{name:?} is no name of a container: it must begin with a letter or digit and \
                     have 2 to 63 letters, digits, dots, dashes and underscores"
                ));
            }
            Some(name) if self.list.iter().any(|known| known.told.name == *name) => {
                return Err(format!(
                    "there is a container with the name {name}; remove it with: koskit rm {name}"
                ));
            }
            Some(name) => name.clone(),
            None => self.new_name(),
        };
        let id: String = random::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
        self.last = self.last.checked_add(1).ok_or("the machine has no numbers left")?;
        let log = Log::new(folder.join(&id)).map_err(|e| format!("its log cannot be kept: {e}"))?;
        let blobs = run.blobs.map(|BlobName(digest)| digest);
        for digest in blobs {
            self.blobs.entry(digest).or_default().users += 1;
        }
        let told = Told {
            id,
            name,
            image: run.image.clone(),
            command: run.command.clone(),
            state: State::Created,
            created: now(),
            started: None,
            finished: None,
            status: 0,
            error: None,
            restarts: 0,
            restart: run.restart,
            interactive: run.interactive,
            number: self.last,
            spec: run.spec.clone(),
        };
        self.list.push(Container {
            told,
            log,
            blobs,
            asks: None,
            input: VecDeque::new(),
            input_ended: !run.interactive || run.detach,
            stopping: false,
            starting: false,
            begun: Instant::now(),
        });
        Ok(self.last)
    }

    fn new_name(&self) -> String {
        loop {
            let name = names::name(u32::from_le_bytes(random()));
            let number = u16::from_le_bytes(random());
            let used = |name: &str| self.list.iter().any(|known| known.told.name == name);
            match used(&name) {
                false => return name,
                true if !used(&format!("{name}{number}")) => return format!("{name}{number}"),
                true => {}
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Container> {
        self.list.iter()
    }

    /// The container with a number.
    pub fn get(&mut self, number: u32) -> Option<&mut Container> {
        self.list.iter_mut().find(|container| container.told.number == number)
    }

    /// The number of the container with a name, or whose id begins so.
    pub fn find(&self, name: &str) -> Result<u32, String> {
        if let Some(found) = self.list.iter().find(|container| container.told.name == name) {
            return Ok(found.told.number);
        }
        let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_hexdigit());
        let found: Vec<_> =
            self.list.iter().filter(|c| digits && c.told.id.starts_with(name)).collect();
        match found.as_slice() {
            [one] => Ok(one.told.number),
            [] => Err(format!("there is no container {name}; see koskit ps --all")),
            _ => Err(format!("several containers begin with {name}; give more digits of it")),
        }
    }

    /// Which of a container's blobs the machine does not have.
    pub fn needs(&self, blobs: &[BlobName; 3]) -> Vec<BlobName> {
        let mut needs: Vec<BlobName> = Vec::new();
        for name in blobs {
            let there = self.blobs.get(&name.0).is_some_and(|blob| blob.there);
            if !there && !needs.contains(name) {
                needs.push(*name);
            }
        }
        needs
    }

    /// The machine has a blob now.
    pub fn has(&mut self, digest: Digest) {
        self.blobs.entry(digest).or_default().there = true;
    }

    /// Asks the machine to create a container.
    pub fn start(&mut self, number: u32, line: &Line) {
        let Some(container) = self.get(number) else { return };
        let [bundle, program, initrd] = container.blobs;
        container.begun = Instant::now();
        container.starting = true;
        let _ = line.send(0, &Request::Create { container: number, bundle, program, initrd });
    }

    /// Takes note of what happened. Perhaps a container is to be started again.
    pub fn heard(&mut self, event: Event<'_>, line: &Line) -> Option<Again> {
        match event {
            Event::Started { container, .. } => {
                let container = self.get(container)?;
                container.starting = false;
                let told = &mut container.told;
                (told.state, told.started, told.finished) = (State::Running, Some(now()), None);
            }
            Event::Exited { container, status, .. } => self.get(container)?.told.status = status,
            Event::Faulted { container, what } => {
                let told = &mut self.get(container)?.told;
                told.status = STATUS_FAULTED;
                told.error = Some(format!("it was ended because of a fault: {what}"));
            }
            Event::Asks { container, most } => {
                let container = self.get(container)?;
                container.asks = Some(most);
                container.feed(line);
            }
            Event::Refused { container, reason } => {
                let told = &mut self.get(container)?.told;
                told.status = STATUS_REFUSED;
                told.error = Some(format!("the root server refused the container: {reason}"));
                told.restart = Policy::No;
                return self.ended(container, line);
            }
            Event::Removed { container, .. } => return self.ended(container, line),
            _ => {}
        }
        None
    }

    fn ended(&mut self, number: u32, line: &Line) -> Option<Again> {
        let container = self.get(number)?;
        (container.asks, container.starting) = (None, false);
        let Told { status, restarts, restart, .. } = container.told;
        container.told.finished = Some(now());
        let again = match restart {
            Policy::No => false,
            Policy::OnFailure(most) => status != 0 && (most == 0 || restarts < most),
            Policy::Always => true,
        };
        if again && !container.stopping {
            container.told.state = State::Restarting;
            container.told.restarts += 1;
            // As docker: twice as long each time, until it has run for ten seconds.
            let long = container.begun.elapsed() >= Duration::from_secs(10);
            let step = if long { 0 } else { restarts.min(10) };
            let after = Duration::from_millis(100 << step).min(Duration::from_secs(60));
            return Some(Again { number, after });
        }
        self.finish(number, line);
        None
    }

    /// A container has ended for good.
    pub fn finish(&mut self, number: u32, line: &Line) {
        let Some(container) = self.get(number) else { return };
        container.told.state = State::Exited;
        for digest in container.blobs {
            let Some(blob) = self.blobs.get_mut(&digest) else { continue };
            blob.users -= 1;
            if blob.users == 0 {
                if blob.there {
                    let _ = line.send(0, &Request::Drop { digest });
                }
                self.blobs.remove(&digest);
            }
        }
    }

    /// Forgets a container that has ended.
    pub fn remove(&mut self, number: u32) {
        self.list.retain(|container| {
            let kept = container.told.number != number;
            if !kept {
                container.log.remove();
            }
            kept
        });
    }

    /// What a container wrote.
    pub fn wrote(&mut self, number: u32, stream: Stream, bytes: &[u8]) {
        if let Some(container) = self.get(number) {
            // A full disk loses output; it must not stop the machine.
            let _ = container.log.add(stream, bytes);
        }
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Never fails for so few bytes once the system runs; and then the name is only less random.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_written_as_docker_does() {
        for text in ["no", "on-failure", "on-failure:3", "always"] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), text);
        }
        for text in ["", "sometimes", "always:3", "on-failure:", "on-failure:0", "on-failure:x"] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }
}
