//! Machines that live on: what the host asks of a root server, over its line.

use koskit_image::{Node, Tree};
use koskit_machine::{Digest, Line, Listener, Machine, Message, Options, PAGE, Request};
use koskit_spec::contract::{Contract, Process};
use koskit_spec::elf::Elf;
use koskit_spec::layout::{KOS_BASE, KOS_END};
use koskit_spec::plan::Plan;
use koskit_tests::{platform, program};
use std::time::{Duration, Instant};

/// A machine, and all that it has said.
struct Live {
    machine: Machine,
    listener: Listener,
    line: Line,
    events: Vec<String>,
    output: Vec<(u32, Vec<u8>)>,
    next: u32,
}

impl Live {
    fn start() -> Self {
        Self::start_with(&Options::default())
    }

    fn start_with(options: &Options) -> Self {
        let (machine, listener) = Machine::start(&platform(), options).unwrap();
        let line = machine.line();
        Self { machine, listener, line, events: Vec::new(), output: Vec::new(), next: 2 }
    }

    /// Hears the machine until an event begins with `start`, and takes that.
    fn until(&mut self, start: &str) -> String {
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

    fn send(&mut self, request: &Request<'_>) -> u32 {
        self.next += 1;
        self.line.send(self.next, request).unwrap();
        self.next
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, request: &Request<'_>) -> String {
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

    fn done(&mut self, request: &Request<'_>) {
        let answer = self.ask(request);
        assert!(answer.starts_with("done"), "{request:?}: {answer}");
    }

    fn free(&mut self) -> u64 {
        let answer = self.ask(&Request::Memory);
        let free = answer.split(' ').find_map(|word| word.strip_prefix("free="));
        free.unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
    }

    fn put(&mut self, digest: Digest, bytes: &[u8]) {
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
    fn prepare(&mut self, name: &str, word: &str) -> Blobs {
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
    fn prepare_lowered(&mut self, name: &str, labels: &[(&str, &str)]) -> Blobs {
        let mut tree = Tree::new();
        tree.insert(name, Node::file(0o755, std::fs::read(program(name)).unwrap()));
        tree.insert("foo.txt", Node::file(0o644, &b"foo\n"[..]));
        let config = serde_json::json!({
            "os": "linux", "architecture": "arm64",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Entrypoint": [format!("/{name}")], "Cmd": ["hello_world", "test"] },
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

    fn create(&mut self, container: u32, blobs: &Blobs) {
        let Blobs { bundle, program, initrd } = *blobs;
        self.send(&Request::Create { container, bundle, program, initrd });
    }

    fn drop_blobs(&mut self, blobs: &Blobs) {
        for digest in [blobs.bundle, blobs.program, blobs.initrd] {
            self.done(&Request::Drop { digest });
        }
    }
}

#[derive(Clone, Copy)]
struct Blobs {
    bundle: Digest,
    program: Digest,
    initrd: Digest,
}

#[test]
fn a_container_is_started_on_a_running_machine_and_all_memory_comes_back() {
    let mut live = Live::start();
    let free = live.free();
    let blobs = live.prepare("status", "word");
    assert!(live.ask(&Request::Have { digest: blobs.program }).ends_with("held=1"));
    assert!(live.free() < free);
    live.create(70_000, &blobs);
    live.until("started container=70000 ");
    live.until("exited container=70000 status=7 ");
    let removed = live.until("removed container=70000 ");
    let (_, after) = removed.split_once("before=").unwrap();
    let (before, after) = after.split_once(" after=").unwrap();
    assert_eq!(before, after);
    assert_eq!(live.output, [(70_000, b"I am the first to count to one.\n".to_vec())]);
    live.drop_blobs(&blobs);
    assert_eq!(live.free(), free);
    assert!(live.ask(&Request::Have { digest: blobs.program }).ends_with("held=0"));
    live.machine.quit().unwrap();
}

#[test]
fn what_is_not_there_or_in_use_is_refused_with_a_reason() {
    let mut live = Live::start();
    let free = live.free();
    let nobody = Digest([9; 32]);
    let refused = |answer: String, reason: &str| {
        assert!(answer.starts_with("failed ") && answer.ends_with(reason), "{answer}");
    };
    refused(live.ask(&Request::Drop { digest: nobody }), "there is no such blob");
    refused(live.ask(&Request::Kill { container: 1 }), "there is no such container");
    refused(live.ask(&Request::Stats { container: 1 }), "there is no such container");
    refused(live.ask(&Request::Page { index: 0, bytes: b"x" }), "blob that is being put");
    refused(live.ask(&Request::Put { digest: nobody, size: 1 << 40 }), "536870912 bytes");
    live.create(1, &Blobs { bundle: nobody, program: nobody, initrd: nobody });
    let answer = live.until("refused container=1 ");
    assert!(answer.ends_with("reason=its bundle is not on the machine"), "{answer}");

    let blobs = live.prepare("echo", "word");
    refused(live.ask(&Request::Put { digest: blobs.program, size: 9 }), "has it already");
    live.create(1, &blobs);
    live.until("started container=1 ");
    refused(live.ask(&Request::Drop { digest: blobs.program }), "a container uses it");
    live.create(1, &blobs);
    let answer = live.until("refused container=1 ");
    assert!(answer.ends_with("that of another container"), "{answer}");
    // A blob that is not finished is forgotten when another is begun.
    live.done(&Request::Put { digest: nobody, size: 1 << 20 });
    refused(live.ask(&Request::Page { index: 1, bytes: &[0; PAGE] }), "blob that is being put");
    assert!(live.ask(&Request::Have { digest: nobody }).ends_with("held=0"));
    live.done(&Request::Put { digest: Digest([8; 32]), size: 0 });
    live.done(&Request::Drop { digest: Digest([8; 32]) });
    live.done(&Request::Kill { container: 1 });
    live.until("exited container=1 status=137 ");
    live.until("removed container=1 ");
    live.drop_blobs(&blobs);
    assert_eq!(live.free(), free);
}

#[test]
fn standard_input_goes_to_the_container_that_asks_for_it() {
    let mut live = Live::start();
    let blobs = live.prepare("echo", "word");
    for container in [1, 2] {
        live.create(container, &blobs);
        live.until(&format!("asks container={container} most=16"));
    }
    // More than it asked for is cut off, and what nobody asked for is nobody's.
    live.send(&Request::Input { container: 2, bytes: b"0123456789abcdefXYZ" });
    live.send(&Request::Input { container: 9, bytes: b"nobody" });
    live.until("asks container=2 most=16");
    live.send(&Request::Input { container: 1, bytes: b"one" });
    live.until("asks container=1 most=16");
    for container in [1, 2] {
        live.send(&Request::Input { container, bytes: b"" });
        live.until(&format!("exited container={container} status=0 "));
    }
    let said = [(2, b"0123456789abcdef".to_vec()), (1, b"one".to_vec())];
    assert_eq!(live.output, said);
    // Killed while it waits.
    live.create(3, &blobs);
    live.until("asks container=3 ");
    live.done(&Request::Kill { container: 3 });
    live.send(&Request::Input { container: 3, bytes: b"late" });
    live.create(3, &blobs);
    live.until("asks container=3 ");
    let stats = live.ask(&Request::Stats { container: 3 });
    assert!(stats.ends_with(" requests=1 written=0 read=0"), "{stats}");
}

/// A capability that a container holds: slot, object, log2 of its bytes, value.
type Held = (u64, String, u32, u64);

impl Live {
    /// All capabilities of a container, as the root server finds them.
    fn caps(&mut self, container: u32) -> Vec<Held> {
        let (mut all, mut first) = (Vec::new(), 0);
        loop {
            let tag = self.send(&Request::Caps { container, first });
            let end = self.until(&format!("caps tag={tag} next="));
            let start = format!("cap tag={tag} ");
            self.events.retain(|event| {
                let Some(words) = event.strip_prefix(&start) else { return true };
                let words: Vec<&str> =
                    words.split(' ').map(|word| word.split_once('=').unwrap().1).collect();
                let number = |at: usize| words[at].parse::<u64>().unwrap();
                all.push((number(0), words[1].to_owned(), number(2) as u32, number(3)));
                false
            });
            let next = end.split(' ').find_map(|word| word.strip_prefix("next=")).unwrap();
            match next.parse().unwrap() {
                0 => return all,
                next => first = next,
            }
        }
    }

    /// Compares what a container holds with its contract. Returns what it has made by itself.
    fn hold_to_contract(
        &mut self,
        number: u32,
        [large, small]: [u64; 2],
        devices: u64,
    ) -> Vec<Held> {
        let mut expected: Vec<(u64, &str, u32)> = vec![
            (1, "tcb", 0),
            (2, "cnode", 0),
            (3, "vspace", 0),
            (4, "signal", 0),
            (5, "signal", 0),
            // Not mapped by this capability: the kernel does not tell its size.
            (6, "frame", 0),
            (7, "signal", 0),
        ];
        let untypeds = 8 + large + small;
        expected.extend((8..untypeds).map(|slot| (slot, "untyped", 0)));
        expected.extend((untypeds..untypeds + devices).map(|slot| (slot, "interrupt", 0)));
        let mut all = self.caps(number);
        let made = all.split_off(all.iter().take_while(|held| held.0 < untypeds + devices).count());
        let given: Vec<(u64, &str, u32)> =
            all.iter().map(|(slot, object, bits, _)| (*slot, object.as_str(), *bits)).collect();
        assert_eq!(given, expected);
        // What it has made comes from its untypeds, and from nowhere else.
        let of = |slot: u64| if slot < 8 + large { 2u64 << 20 } else { 4096 };
        let untyped = all.iter().filter(|held| held.1 == "untyped");
        let taken: u64 = untyped
            .map(|(slot, _, _, free)| {
                assert!(*free <= of(*slot), "{slot}: {free}");
                of(*slot) - free
            })
            .sum();
        let bytes = made.iter().map(|(_, object, bits, _)| match (object.as_str(), bits) {
            // A part of one that was handed over; what it made of that is counted itself.
            ("untyped", _) => 0,
            ("tcb", _) => 2048,
            ("signal", _) => 32,
            ("frame", 21) => 2 << 20,
            ("frame" | "table", _) => 4096,
            other => panic!("it has made {other:?}"),
        });
        assert!(bytes.sum::<u64>() <= taken, "{taken}: {made:?}");
        made
    }
}

#[test]
fn what_a_container_holds_is_what_its_contract_says() {
    let mut live = Live::start();
    // A small one, and one that has a device.
    let small = live.prepare("echo", "word");
    live.create(1, &small);
    live.until("asks container=1 ");
    live.hold_to_contract(1, [0, 16], 0);
    let labels = [("spec.devices", "rtc"), ("spec.ut_large_page", "1"), ("spec.ut_4k_pages", "3")];
    let driver = live.prepare_lowered("alive", &labels);
    live.create(2, &driver);
    live.until("asks container=2 ");
    live.hold_to_contract(2, [1, 3], 1);
    // One with three threads, with the clock and the thread for faults that libkos has for them.
    let labels = [("spec.ut_large_page", "5"), ("spec.ut_4k_pages", "40"), ("spec.threads", "4")];
    let threads = live.prepare_lowered("holds", &labels);
    live.create(3, &threads);
    live.until("asks container=3 ");
    let made = live.hold_to_contract(3, [5, 40], 0);
    let count = |object: &str| made.iter().filter(|held| held.1 == object).count();
    assert_eq!(count("tcb"), 5, "{made:?}");
    assert!(count("frame") >= 16 && count("signal") >= 4, "{made:?}");
    // To look changes nothing: they go on, and nothing is left of it.
    assert_eq!(live.hold_to_contract(3, [5, 40], 0), made);
    live.send(&Request::Input { container: 1, bytes: b"still there" });
    live.until("asks container=1 ");
    assert_eq!(live.output.last().unwrap().1, b"still there");
    for container in [1, 2, 3] {
        live.send(&Request::Input { container, bytes: b"" });
        live.until(&format!("exited container={container} status=0 "));
        let removed = live.until(&format!("removed container={container} "));
        let (_, after) = removed.split_once("before=").unwrap();
        let (before, after) = after.split_once(" after=").unwrap();
        assert_eq!(before, after);
    }
}

#[test]
fn what_a_container_did_to_its_own_slots_is_seen_too() {
    let mut live = Live::start();
    let blobs = live.prepare("mover", "word");
    live.create(1, &blobs);
    live.until("asks container=1 ");
    let all = live.caps(1);
    let at = |slot: u64| all.iter().find(|held| held.0 == slot).map(|held| held.1.as_str());
    // It has removed its fault endpoint, moved its first untyped, and copied its request endpoint.
    assert_eq!([5, 8, 40, 41].map(at), [None, None, Some("untyped"), Some("signal")], "{all:?}");
    live.done(&Request::Kill { container: 1 });
}

#[test]
fn a_thousand_containers_of_the_size_of_hello_live_on_a_machine_with_a_gigabyte() {
    let mut live = Live::start();
    let free = live.free();
    // What its program asks for comes from `brk`, as hello's.
    let blobs = live.prepare_lowered("alive", &[("spec.ut_large_page", "0")]);
    const COUNT: u32 = 1000;
    for container in 1..=COUNT {
        live.create(container, &blobs);
    }
    for container in 1..=COUNT {
        live.until(&format!("asks container={container} "));
    }
    let tag = live.send(&Request::List);
    live.until(&format!("done tag={tag}"));
    let running = |event: &&String| event.starts_with(&format!("running tag={tag} "));
    assert_eq!(live.events.iter().filter(running).count() as u32, COUNT);
    println!("{} of {free} bytes are free with {COUNT} containers", live.free());
    assert_eq!(live.output.len() as u32, COUNT);
    assert!(live.output.iter().all(|(_, said)| said == b"hello hello_world test\n"));
    for container in 1..=COUNT {
        live.send(&Request::Input { container, bytes: b"" });
        live.until(&format!("removed container={container} "));
    }
    live.drop_blobs(&blobs);
    assert_eq!(live.free(), free);
}

#[test]
fn whatever_comes_on_the_line_hurts_nobody() {
    let options = Options { debug_kernel: true, ..Options::default() };
    let mut live = Live::start_with(&options);
    let free = live.free();
    let mut random = 1u64;
    let mut next = move || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for round in 0..60 {
        let mut bytes: Vec<u8> = (0..next() % 3000).map(|_| next() as u8).collect();
        if round % 2 == 1 {
            // What is a frame, but with random requests in it.
            let payload: Vec<u8> = (0..next() % 100).map(|_| next() as u8).collect();
            let mut payload = payload;
            payload.insert(0, b"h?+p-ckisalm"[next() % 12]);
            frame(&payload, &mut bytes);
        }
        live.line.send_bytes(bytes).unwrap();
        // It answers, and so do its books.
        if round % 10 == 9 {
            live.ask(&Request::Memory);
        }
    }
    // Ends a blob that a random request may have begun, and removes what may have come of it.
    live.done(&Request::Put { digest: Digest([7; 32]), size: 0 });
    live.done(&Request::Drop { digest: Digest([7; 32]) });
    assert_eq!(live.free(), free);
    let blobs = live.prepare("status", "word");
    live.create(1, &blobs);
    live.until("exited container=1 status=7 ");
}

fn frame(payload: &[u8], to: &mut Vec<u8>) {
    koskit_wire::encode(koskit_wire::Kind::Request, 0, &[payload], |byte| to.push(byte));
}

#[test]
fn two_hundred_starts_and_stops_leave_nothing() {
    let mut live = Live::start();
    let free = live.free();
    let blobs = live.prepare("status", "word");
    let waiting = live.prepare("echo", "word");
    let held = live.free();
    for round in 1..=200 {
        if round % 4 == 0 {
            live.create(round, &waiting);
            live.until(&format!("started container={round} "));
            live.done(&Request::Kill { container: round });
            live.until(&format!("exited container={round} "));
        } else {
            live.create(round, &blobs);
            live.until(&format!("exited container={round} status=7 "));
        }
        live.until(&format!("removed container={round} "));
        assert_eq!(live.free(), held, "after {round}");
    }
    live.drop_blobs(&blobs);
    live.drop_blobs(&waiting);
    assert_eq!(live.free(), free);
}
