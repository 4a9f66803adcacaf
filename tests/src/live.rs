//! A machine that lives on, and what the host asks of its root server over the line.

use crate::{platform, program};
use koskit_image::{Node, Tree};
use koskit_machine::{Digest, Line, Listener, Machine, Message, Options, PAGE, Request};
use koskit_spec::contract::{Contract, Process};
use koskit_spec::elf::Elf;
use koskit_spec::layout::{KOS_BASE, KOS_END};
use koskit_spec::plan::Plan;
use std::time::{Duration, Instant};

/// A machine, and all that it has said.
#[expect(missing_debug_implementations, reason = "it is a machine")]
pub struct Live {
    /// The machine.
    pub machine: Machine,
    listener: Listener,
    /// The line to it.
    pub line: Line,
    /// What has happened and was not taken yet, in the form of the lines of
    /// [`koskit_machine::Event`].
    pub events: Vec<String>,
    /// What containers have written, piece by piece.
    pub output: Vec<(u32, Vec<u8>)>,
    next: u32,
}

#[expect(clippy::missing_panics_doc, reason = "what goes wrong ends the test")]
impl Live {
    /// Starts a machine as most are.
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts a machine.
    pub fn start_with(options: &Options) -> Self {
        let (machine, listener) = Machine::start(&platform(), options).unwrap();
        let line = machine.line();
        Self { machine, listener, line, events: Vec::new(), output: Vec::new(), next: 2 }
    }

    /// Hears the machine until an event begins with `start`, and takes that.
    pub fn until(&mut self, start: &str) -> String {
        let deadline = Some(Instant::now() + Duration::from_secs(60));
        loop {
            if let Some(at) = self.events.iter().position(|event| event.starts_with(start)) {
                return self.events.remove(at);
            }
            let heard = self.listener.hear(deadline, &mut |said| match said {
                Message::Event(event) => self.events.push(event.to_string()),
                Message::Output { container, bytes } => self.output.push((container, bytes.into())),
                _ => {}
            });
            heard.unwrap_or_else(|error| panic!("waiting for {start}: {error}\n{:?}", self.events));
        }
    }

    /// All that a container has written to its standard output and error.
    pub fn said(&self, container: u32) -> String {
        let pieces = self.output.iter().filter(|(of, _)| *of == container);
        let bytes: Vec<u8> = pieces.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a request; its tag.
    pub fn send(&mut self, request: &Request<'_>) -> u32 {
        self.next += 1;
        self.line.send(self.next, request).unwrap();
        self.next
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: &Request<'_>) -> String {
        let tag = self.send(request);
        let names = ["done", "failed", "blob", "memory", "stats"];
        let deadline = Some(Instant::now() + Duration::from_secs(60));
        loop {
            let of_it = |event: &String| {
                names.iter().any(|name| event.starts_with(&format!("{name} tag={tag} ")))
                    || *event == format!("done tag={tag}")
            };
            if let Some(at) = self.events.iter().position(of_it) {
                return self.events.remove(at);
            }
            let heard = self.listener.hear(deadline, &mut |said| match said {
                Message::Event(event) => self.events.push(event.to_string()),
                Message::Output { container, bytes } => self.output.push((container, bytes.into())),
                _ => {}
            });
            heard.unwrap_or_else(|error| panic!("{request:?}: {error}\n{:?}", self.events));
        }
    }

    /// Asks for what must succeed.
    pub fn done(&mut self, request: &Request<'_>) {
        let answer = self.ask(request);
        assert!(answer.starts_with("done"), "{request:?}: {answer}");
    }

    /// Bytes that are free.
    pub fn free(&mut self) -> u64 {
        let answer = self.ask(&Request::Memory);
        let free = answer.split(' ').find_map(|word| word.strip_prefix("free="));
        free.unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
    }

    /// Puts a blob.
    pub fn put(&mut self, digest: Digest, bytes: &[u8]) {
        self.done(&Request::Put { digest, size: bytes.len() as u64 });
        let count = bytes.len().div_ceil(PAGE);
        for (index, bytes) in bytes.chunks(PAGE).enumerate() {
            let page = Request::Page { index: index as u32, bytes };
            if index + 1 == count {
                self.done(&page);
            } else {
                self.send(&page);
            }
        }
    }

    /// Puts what a container is made from.
    pub fn prepare(&mut self, name: &str, word: &str) -> Blobs {
        let program = std::fs::read(program(name)).unwrap();
        let process = Process::encode(&[word], &[], "/").unwrap();
        let mut contract = Contract::new(name);
        let libkos = platform().libkos().unwrap();
        let libkos = Elf::within(&libkos, KOS_BASE, KOS_END).unwrap();
        let elf = Elf::program(&program).unwrap();
        let plan = Plan::new(&contract, &elf, &libkos, 0, process.len() as u64).unwrap();
        contract.untyped_bits = plan.untyped_bits();
        self.put_all(&contract, &process, &program, b"")
    }

    /// Puts what a container is made from that an image was lowered to, with its initrd.
    pub fn prepare_lowered(
        &mut self,
        name: &str,
        words: &[&str],
        labels: &[(&str, &str)],
    ) -> Blobs {
        let mut tree = Tree::new();
        tree.insert(name, Node::file(0o755, std::fs::read(program(name)).unwrap()));
        tree.insert("foo.txt", Node::file(0o644, &b"foo\n"[..]));
        let config = serde_json::json!({
            "os": "linux", "architecture": "arm64",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Entrypoint": [format!("/{name}")], "Cmd": words },
        });
        let label =
            |(key, value): &(&str, &str)| (format!("com.koskit.app.{key}"), (*value).to_owned());
        let options = koskit_lower::Options {
            name: name.into(),
            labels: labels.iter().map(label).collect(),
            ..koskit_lower::Options::default()
        };
        let config = serde_json::from_value(config).unwrap();
        let libkos = platform().libkos().unwrap();
        let bundle = koskit_lower::lower(&tree, &config, &options, &libkos).unwrap();
        self.put_all(&bundle.contract, &bundle.process(), &bundle.program, &bundle.initrd)
    }

    fn put_all(
        &mut self,
        contract: &Contract,
        process: &[u8],
        program: &[u8],
        initrd: &[u8],
    ) -> Blobs {
        let bundle = [contract.to_bytes().as_slice(), process].concat();
        self.next += 1;
        let digest = |kind: u8| {
            let mut bytes = [kind; 32];
            bytes[..4].copy_from_slice(&self.next.to_le_bytes());
            Digest(bytes)
        };
        let blobs = Blobs { bundle: digest(1), program: digest(2), initrd: digest(3) };
        self.put(blobs.bundle, &bundle);
        self.put(blobs.program, program);
        self.put(blobs.initrd, initrd);
        blobs
    }

    /// Has a container created.
    pub fn create(&mut self, container: u32, blobs: &Blobs) {
        let Blobs { bundle, program, initrd } = *blobs;
        self.send(&Request::Create { container, bundle, program, initrd });
    }

    /// Drops what [`Self::prepare`] has put.
    pub fn drop_blobs(&mut self, blobs: &Blobs) {
        for digest in [blobs.bundle, blobs.program, blobs.initrd] {
            self.done(&Request::Drop { digest });
        }
    }
}

/// What a container is made from, on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Blobs {
    /// Its contract and words.
    pub bundle: Digest,
    /// Its program.
    pub program: Digest,
    /// Its files.
    pub initrd: Digest,
}
