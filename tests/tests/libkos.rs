//! libkos on seL4: programs in C and assembler that test system calls, lowered as `koskit`
//! does it.

use koskit_image::{Node, Tree};
use koskit_machine::{Container, STATUS_FAULTED};
use koskit_tests::{Ran, platform, program};
use serde_json::json;
use std::collections::BTreeMap;

/// A container of an image with this program as `/bin/tool` and files to look at.
fn container(name: &str, args: &[&str], labels: &[(&str, &str)]) -> Container {
    let bundle = bundle(name, args, labels);
    let (process, contract) = (bundle.process(), bundle.contract);
    Container { contract, process, program: bundle.program, initrd: bundle.initrd }
}

fn bundle(name: &str, args: &[&str], labels: &[(&str, &str)]) -> koskit_lower::Bundle {
    let mut tree = Tree::new();
    let tool = std::fs::read(program(name)).unwrap();
    let motd = Node::file(0o640, &b"0123456789abcde\n"[..]);
    for (path, node) in [
        ("bin", Node::directory(0o755)),
        ("bin/tool", Node::file(0o755, tool)),
        ("deep", Node::directory(0o755)),
        ("deep/er", Node::directory(0o755)),
        ("etc", Node::directory(0o755)),
        // One file with two names.
        ("etc/motd", motd.clone()),
        ("hard", motd),
        ("far", Node::symlink("deep/er/..")),
        ("link", Node::symlink("etc/motd")),
        ("loop", Node::symlink("loop")),
        ("many", Node::directory(0o755)),
    ] {
        tree.insert(path, node);
    }
    // As many links on one way as Linux follows: libkos's stack is deep enough for them.
    for number in 0..40 {
        let target = format!("chain{:02}", number + 1);
        tree.insert(format!("chain{number:02}"), Node::symlink(target));
    }
    tree.insert("chain40", Node::file(0o644, &b"end"[..]));
    for number in 0..200 {
        tree.insert(format!("many/f{number:03}"), Node::file(0o644, &b""[..]));
    }
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": {
            "Entrypoint": ["/bin/tool"], "Cmd": args,
            "Env": ["HELLO=WORLD", "EMPTY="], "WorkingDir": "/etc",
        },
    });
    let label = |(key, value): &(&str, &str)| (format!("com.koskit.app.{key}"), (*value).into());
    let options = koskit_lower::Options {
        name: name.into(),
        labels: labels.iter().map(label).collect::<BTreeMap<_, _>>(),
        ..koskit_lower::Options::default()
    };
    let config = serde_json::from_value(config).unwrap();
    koskit_lower::lower(&tree, &config, &options, &platform().libkos().unwrap()).unwrap()
}

fn boot(containers: &[Container]) -> Ran {
    let ran = koskit_tests::boot(containers, &koskit_machine::Options::default()).unwrap();
    // Whatever libkos did with its memory: all of it came back.
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    ran
}

fn run(name: &str, args: &[&str]) -> Ran {
    boot(&[container(name, args, &[])])
}

/// The program's last words say that no check failed.
fn assert_good(ran: &Ran) {
    assert!(ran.output().ends_with(" checks, 0 failures\n"), "{ran}");
    assert_eq!(ran.ended.status, 0, "{ran}");
}

#[test]
fn files_and_descriptors_behave_as_on_linux() {
    let ran = run("files", &[]);
    assert_good(&ran);
    let root = "/: . .. bin deep etc far hard link loop many\n";
    assert!(ran.output().contains(root), "{ran}");
}

#[test]
fn a_container_tells_of_itself_and_files_end_where_its_memory_does() {
    let ran = run("proc", &["one two"]);
    assert_good(&ran);
    assert_eq!(ran.stderr[&1], "to stderr\n");
}

#[test]
fn memory_is_mapped_protected_given_back_and_zero_when_it_comes_again() {
    assert_good(&run("memory", &[]));
}

#[test]
fn large_mappings_are_as_exact_as_small_ones() {
    assert_good(&boot(&[container("large", &[], &[("spec.ut_large_page", "96")])]));
}

#[test]
fn memory_that_was_protected_or_unmapped_faults() {
    let faults = [
        ("write-what-is-read-only", "it wrote to address 0x5000000000, which it may not write"),
        ("read-what-is-unmapped", "it read address 0x5000000000, where nothing is mapped"),
        ("read-what-is-protected", "it read address 0x5000000000, where nothing is mapped"),
        ("run-what-is-data", "it jumped to address 0x5000000000, which it may not execute"),
    ];
    let containers: Vec<_> = faults.iter().map(|f| container("memory", &[f.0], &[])).collect();
    let ran = boot(&containers);
    for (number, (_, what)) in faults.iter().enumerate() {
        let event = format!("faulted container={} what={what}", number + 1);
        assert!(ran.events.iter().any(|line| line.starts_with(&event)), "no {event:?} in\n{ran}");
    }
    assert_eq!(ran.ended.status, STATUS_FAULTED);
}

#[test]
fn a_container_without_memory_of_its_own_runs_as_long_as_it_needs_none() {
    let labels = [("spec.ut_large_page", "0"), ("spec.ut_4k_pages", "0")];
    let ran = boot(&[container("greet", &["hello"], &labels)]);
    assert_eq!(ran.output(), "2 words, the last: hello\n", "{ran}");
    assert_eq!(ran.ended.status, 3, "{ran}");
}

#[test]
fn a_process_finds_its_words_its_time_and_its_random_numbers() {
    let ran = run("process", &["hello_world", "", "test"]);
    assert_good(&ran);
    for line in [
        "argument /bin/tool\nargument hello_world\nargument \nargument test\n",
        "variable HELLO=WORLD\nvariable EMPTY=\n",
    ] {
        assert!(ran.output().contains(line), "{ran}");
    }
    let text = &ran.stderr[&1];
    let (long, pieces) = text.split_at(5000);
    assert_eq!(long.trim_end_matches('\n'), "x".repeat(4999));
    assert_eq!(pieces, format!("one {} two\n", "x".repeat(1000)));
}

#[test]
fn two_containers_never_get_the_same_random_numbers() {
    let ran = boot(&[container("process", &[], &[]), container("process", &[], &[])]);
    let number = |container| {
        let text = &ran.stdout[&container];
        text.lines().find(|line| line.starts_with("random ")).unwrap_or_else(|| panic!("{ran}"))
    };
    assert_ne!(number(1), number(2));
}

#[test]
fn a_call_that_is_missing_is_named_once() {
    let ran = run("process", &[]);
    let count = |what: &str| ran.log.iter().filter(|(_, line)| line.contains(what)).count();
    let clone = "libkos: system call clone (220) is not implemented and gives ENOSYS";
    assert_eq!((count(clone), count("unknown (4000)"), count("ENOSYS")), (1, 1, 2), "{ran}");
}

#[test]
fn the_status_is_the_programs_or_that_of_a_shell_for_its_signal() {
    assert_eq!(run("process", &["exit", "42"]).ended.status, 42);
    assert_eq!(run("process", &["abort"]).ended.status, 128 + 6);
}

#[test]
fn all_registers_survive_calls_through_both_forms_of_the_stub() {
    let bundle = bundle("registers", &[], &[]);
    assert!(bundle.sites.0 > 0 && bundle.sites.1 > 0, "{:?}", bundle.sites);
    let ran = run("registers", &[]);
    assert_eq!(ran.ended.status, 0, "{ran}");
}

#[test]
fn threads_share_wait_and_sleep_as_on_linux() {
    assert_good(&run("threads", &[]));
}

#[test]
fn ten_thousand_threads_leave_nothing_behind() {
    assert_good(&run("threads", &["again"]));
}

#[test]
fn there_are_as_many_threads_as_there_is_memory() {
    assert_good(&run("threads", &["fill"]));
}

#[test]
fn who_sleeps_leaves_the_processor_to_lower_priorities() {
    // The second one can only end while the first, which has a higher priority, sleeps.
    let labels = [("spec.priority", "150")];
    let ran = boot(&[container("process", &["sleep"], &[]), container("greet", &["x"], &labels)]);
    let at = |event: &str| {
        let found = ran.events.iter().position(|line| line.starts_with(event));
        found.unwrap_or_else(|| panic!("no {event:?} in\n{ran}"))
    };
    assert!(at("exited container=2") < at("exited container=1"), "{ran}");
}

#[test]
fn a_system_call_costs_few_hundred_instructions() {
    let options = koskit_machine::Options { icount: true, ..Default::default() };
    let ran = koskit_tests::boot(&[container("cost", &[], &[])], &options).unwrap();
    let cost = |name: &str| -> u64 {
        let line = ran.output().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{ran}")).parse().unwrap()
    };
    println!("{}", ran.output());
    for (call, most) in [
        ("getppid", 24),
        ("clock_gettime", 50),
        ("pread64", 365),
        ("fstat", 1400),
        ("newfstatat", 3800),
        ("openat+close", 3900),
    ] {
        assert!(cost(call) <= most, "{call} costs {} instructions\n{ran}", cost(call));
    }
}

#[test]
fn a_container_that_takes_all_it_can_is_told_so_and_nobody_else_notices() {
    let hog = container("hog", &[], &[("spec.threads", "8"), ("spec.ut_large_page", "2")]);
    let above = [("spec.priority", "185")];
    let beats = container("heartbeat", &["50", "5"], &above);
    let options = koskit_machine::Options { icount: true, ..Default::default() };
    let ran = koskit_tests::boot(&[hog, beats], &options).unwrap();
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    assert_eq!(ran.stdout[&2], "50 beats, 0 lost\n", "{ran}");
    let said = "7 threads more: EAGAIN\nall memory, more than 400 pages (1): ENOMEM\n";
    assert_eq!((ran.output(), ran.ended.status), (said, 0), "{ran}");
}
