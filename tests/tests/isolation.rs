//! What a container cannot do to others, whatever it does.

use koskit_machine::{Options, Request};
use koskit_tests::live::Live;

/// What a program does; and how that ends, if it does by itself: the event, a part of it, and what
/// the program says.
type Villain = (&'static str, Option<(&'static str, &'static str, &'static str)>);

const VILLAINS: &[Villain] = &[
    ("null", Some(("faulted", "it wrote to address 0x0, where nothing is mapped", ""))),
    ("stack", Some(("faulted", ", where nothing is mapped", ""))),
    ("jump", Some(("faulted", "it jumped to address 0x123456789abc", ""))),
    ("halfway", Some(("faulted", "it wrote to address 0x0", ""))),
    ("hog", Some(("exited", "status=0", "no memory after 1 pages\nno memory in the heap\n"))),
    ("bomb", Some(("exited", "status=0", "no more after 1 threads\n"))),
    ("invented", Some(("exited", "status=0", "0 wrong answers\n"))),
    ("loop", None),
];

#[test]
fn whatever_others_do_a_heart_loses_no_beat_and_all_memory_comes_back() {
    let mut live = Live::start_with(&Options { icount: true, ..Options::default() });
    let free = live.free();
    let higher = [("spec.priority", "200"), ("spec.max_priority", "200")];
    let heart = live.prepare_lowered("heartbeat", &["60", "20"], &higher);
    let villain = |(what, _): &Villain| live.prepare_lowered("villain", &[what], &[]);
    let mut villains: Vec<_> = VILLAINS.iter().map(villain).collect();
    villains.push(live.prepare("words", ""));
    let flood = live.prepare_lowered("villain", &["flood"], &[]);
    let held = live.free();

    live.create(1, &heart);
    live.until("started container=1 ");
    for (villain, container) in villains.iter().zip(2..) {
        live.create(container, villain);
        live.until(&format!("started container={container} "));
    }
    live.until("exited container=1 ");
    assert_eq!(live.said(1), "60 beats, 0 lost\n");
    let words = villains.len() as u32 + 1;
    live.until(&format!("exited container={words} status=0 "));
    for ((what, end), container) in VILLAINS.iter().zip(2..) {
        match end {
            Some((event, part, said)) => {
                let ended = live.until(&format!("{event} container={container} "));
                assert!(ended.contains(part), "{what}: {ended}");
                assert_eq!(live.said(container), *said, "{what}");
            }
            None => {
                live.done(&Request::Kill { container });
                live.until(&format!("exited container={container} status=137 "));
            }
        }
    }
    // What is said takes the line, which is the root server's as well: so this comes when the heart
    // has stopped. Others go on all the same.
    let (talker, listener) = (words + 1, words + 2);
    live.create(talker, &flood);
    live.until(&format!("started container={talker} "));
    live.create(listener, &heart);
    live.until(&format!("exited container={listener} "));
    live.done(&Request::Kill { container: talker });
    assert!(live.said(talker).starts_with("There is always"));
    for container in 1..=listener {
        live.until(&format!("removed container={container} "));
    }
    assert_eq!(live.free(), held);
    for blobs in villains.iter().chain([&heart, &flood]) {
        live.drop_blobs(blobs);
    }
    assert_eq!(live.free(), free);
}
