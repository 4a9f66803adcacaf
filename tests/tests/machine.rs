//! Machines that live on: what the host asks of a root server, over its line.

use koskit_machine::{Digest, Options, PAGE, Request};
use koskit_tests::live::{Blobs, Live};

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

/// All capabilities of a container, as the root server finds them.
fn caps(live: &mut Live, container: u32) -> Vec<Held> {
    let (mut all, mut first) = (Vec::new(), 0);
    loop {
        let tag = live.send(&Request::Caps { container, first });
        let end = live.until(&format!("caps tag={tag} next="));
        let start = format!("cap tag={tag} ");
        live.events.retain(|event| {
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

/// Compares what a container holds with its contract. Returns what it has made by itlive.
fn hold_to_contract(
    live: &mut Live,
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
    let mut all = caps(live, number);
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
        // A part of one that was handed over; what it made of that is counted itlive.
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

#[test]
fn what_a_container_holds_is_what_its_contract_says() {
    let mut live = Live::start();
    // A small one, and one that has a device.
    let small = live.prepare("echo", "word");
    live.create(1, &small);
    live.until("asks container=1 ");
    hold_to_contract(&mut live, 1, [0, 16], 0);
    let labels = [("spec.devices", "rtc"), ("spec.ut_large_page", "1"), ("spec.ut_4k_pages", "3")];
    let driver = live.prepare_lowered("alive", &["hello_world", "test"], &labels);
    live.create(2, &driver);
    live.until("asks container=2 ");
    hold_to_contract(&mut live, 2, [1, 3], 1);
    // One with three threads, with the clock and the thread for faults that libkos has for them.
    let labels = [("spec.ut_large_page", "5"), ("spec.ut_4k_pages", "40"), ("spec.threads", "4")];
    let threads = live.prepare_lowered("holds", &["hello_world", "test"], &labels);
    live.create(3, &threads);
    live.until("asks container=3 ");
    let made = hold_to_contract(&mut live, 3, [5, 40], 0);
    let count = |object: &str| made.iter().filter(|held| held.1 == object).count();
    assert_eq!(count("tcb"), 5, "{made:?}");
    assert!(count("frame") >= 16 && count("signal") >= 4, "{made:?}");
    // To look changes nothing: they go on, and nothing is left of it.
    assert_eq!(hold_to_contract(&mut live, 3, [5, 40], 0), made);
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
    let all = caps(&mut live, 1);
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
    let blobs =
        live.prepare_lowered("alive", &["hello_world", "test"], &[("spec.ut_large_page", "0")]);
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
