//! The root server: what it grants, refuses, survives and gives back. Programs here are not
//! rewritten; they speak to the root server themselves, as libkos would.

use koskit_machine::{Container, Options, STATUS_FAULTED, STATUS_REFUSED};
use koskit_spec::contract::{Contract, Process};
use koskit_spec::elf::Elf;
use koskit_spec::layout::{KOS_BASE, KOS_END};
use koskit_spec::plan::Plan;
use koskit_tests::{Ran, platform, program};

/// A container with this program and its one word, and the untyped that it needs.
fn container(name: &str, word: &str, change: impl FnOnce(&mut Contract)) -> Container {
    let mut contract = Contract::new(name);
    change(&mut contract);
    let process = Process::encode(&[word], &[], "/").unwrap();
    let program = std::fs::read(program(name)).unwrap();
    if contract.untyped_bits == 0 {
        let libkos = platform().libkos().unwrap();
        let libkos = Elf::within(&libkos, KOS_BASE, KOS_END).unwrap();
        let elf = Elf::program(&program).unwrap();
        let plan = Plan::new(&contract, &elf, &libkos, 0, process.len() as u64).unwrap();
        contract.untyped_bits = plan.untyped_bits();
    }
    Container { contract, process, program, initrd: Vec::new() }
}

fn simple(name: &str) -> Container {
    container(name, "word", |_| {})
}

fn boot(containers: &[Container]) -> Ran {
    let ran = koskit_tests::boot(containers, &Options::default()).unwrap();
    // Whatever happens: no memory is ever lost.
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    ran
}

/// Positions of the events that begin with these words, in order.
fn order(ran: &Ran, events: &[&str]) -> Vec<usize> {
    let position = |start: &&str| {
        let found = ran.events.iter().position(|event| event.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start:?} in\n{ran}"))
    };
    events.iter().map(position).collect()
}

const FIRST: &str = "I am the first to count to one.\n";

#[test]
fn the_exit_status_of_a_container_is_that_of_the_machine() {
    let ran = boot(&[simple("status")]);
    assert_eq!((ran.ended.status, ran.output()), (7, FIRST), "{ran}");
}

#[test]
fn a_container_that_faults_dies_and_the_others_live() {
    let ran = boot(&[container("faults", "r", |_| {}), simple("status")]);
    let what = "it read address 0x0, where nothing is mapped (instruction at 0x";
    assert!(ran.logged(what), "{ran}");
    order(&ran, &[&format!("faulted container=1 what={what}"), "exited container=2 status=7"]);
    assert_eq!(ran.stdout.get(&2).map(String::as_str), Some(FIRST), "{ran}");
    assert!(!ran.events.iter().any(|event| event.starts_with("exited container=1")), "{ran}");
}

#[test]
fn a_fault_alone_gives_the_status_139() {
    let ran = boot(&[container("faults", "r", |_| {})]);
    assert_eq!(ran.ended.status, STATUS_FAULTED, "{ran}");
    assert_eq!(ran.output(), "I am alive, and about to fail.\n\n");
}

#[test]
fn a_fault_shows_every_register() {
    let ran = boot(&[container("faults", "r", |_| {})]);
    for number in (0..31).filter(|&number| number != 9) {
        assert!(ran.logged(&format!("  x{number:<3} {:016x}", 0x7000 + number)), "{ran}");
    }
    assert!(ran.logged("  pc   000000400"), "{ran}");
    assert!(ran.logged("  tpidrro_el0 0000007fc0240000") || ran.logged("tpidrro_el0 0000007fc024"));
}

#[test]
fn every_kind_of_fault_is_told_in_words() {
    let faults = [
        ("w", "it wrote to address 0x40000", ", which it may not write"),
        ("i", "it wrote to address 0x7fc02000ac", ", which it may not write"),
        ("j", "it jumped to address 0x40000", ", which it may not execute"),
        ("u", "it executed an instruction that does not exist", ""),
        ("b", "it made a Linux system call whose number changed at run time", ""),
        ("c", "it used the capability at 0x10000000000, which it does not have", ""),
        ("s", "it made system call 77 of seL4, which does not exist", ""),
    ];
    let containers: Vec<_> =
        faults.iter().map(|(word, ..)| container("faults", word, |_| {})).collect();
    let ran = boot(&containers);
    for (index, (word, start, end)) in faults.iter().enumerate() {
        let event = format!("faulted container={} what={start}", index + 1);
        let found = ran.events.iter().find(|line| line.starts_with(&event));
        assert!(found.is_some_and(|line| line.contains(end)), "{word}: {event}\n{ran}");
    }
}

#[test]
fn a_container_that_asks_for_too_much_is_refused_by_resource_asked_and_free() {
    let large = container("status", "word", |contract| contract.untyped_bits = 31);
    let ran = boot(&[large, simple("status")]);
    let free = ran.ended.before;
    let reason = format!(
        "refused container=1 reason=memory: it asks for an untyped of 2147483648 bytes \
         (untyped_bits 31), but {free} bytes are free"
    );
    order(&ran, &[&reason, "started container=2", "exited container=2 status=7"]);
    assert!(!ran.events.iter().any(|event| event.starts_with("started container=1")), "{ran}");
}

#[test]
fn a_refusal_alone_gives_the_status_125() {
    let ran = boot(&[container("status", "word", |contract| contract.untyped_bits = 31)]);
    assert_eq!(ran.ended.status, STATUS_REFUSED, "{ran}");
}

#[test]
fn a_contract_that_does_not_hold_what_it_needs_is_refused() {
    let small = container("status", "word", |contract| contract.untyped_bits = 15);
    let steep = container("status", "word", |contract| {
        (contract.untyped_bits, contract.priority, contract.max_priority) = (20, 255, 255);
    });
    let ran = boot(&[small, steep]);
    let refused = |number, start: &str| {
        let event = format!("refused container={number} reason={start}");
        ran.events.iter().any(|line| line.starts_with(&event))
    };
    assert!(refused(1, "its objects need "), "{ran}");
    assert!(refused(2, "max_priority is 255, but must be between "), "{ran}");
}

#[test]
fn a_device_is_for_one_container_at_a_time_and_its_interrupt_comes_there() {
    let rtc = |number: u32| container("rtc", "word", |contract| contract.devices = number);
    let ran = boot(&[rtc(1), rtc(1), rtc(0)]);
    order(
        &ran,
        &[
            "started container=1",
            "refused container=2 reason=devices: it asks for rtc, which container 1 has",
            "exited container=1 status=0",
        ],
    );
    let nothing = "faulted container=3 what=it read address 0x7fc0270000, where nothing is mapped";
    order(&ran, &[nothing]);
}

#[test]
fn a_budget_that_the_kernel_does_not_have_is_refused() {
    let ran = boot(&[container("status", "word", |contract| contract.cpu = 250)]);
    let why = "refused container=1 reason=cpu: it asks for 250 thousandths of a processor, but";
    order(&ran, &[why]);
}

#[test]
fn a_program_that_is_none_is_refused_by_the_root_server_too() {
    let mut text = simple("status");
    text.program = b"#!/bin/sh\necho hello\n".to_vec();
    let mut cut = simple("status");
    cut.program.truncate(300);
    let ran = boot(&[text, cut]);
    order(
        &ran,
        &[
            "refused container=1 reason=its program cannot be loaded: it is no complete ELF file",
            "refused container=2 reason=its program cannot be loaded: ",
        ],
    );
}

#[test]
fn all_memory_of_each_container_is_given_back() {
    let containers = [
        simple("status"),
        container("faults", "r", |contract| contract.heap_pages = 2000),
        container("status", "word", |contract| contract.ut_large_page = 3),
        container("zeroes", "word", |contract| contract.untyped_bits = 24),
    ];
    let ran = boot(&containers);
    for number in 1..=4 {
        let start = format!("removed container={number} before={}", ran.ended.before);
        let event = ran.events.iter().find(|line| line.starts_with(&start));
        let after = format!(" after={}", ran.ended.before);
        assert!(event.is_some_and(|line| line.ends_with(&after)), "{start}{after}\n{ran}");
    }
}

#[test]
fn linux_programs_exit_and_fault_as_others_do() {
    let linux = |words: &[&str]| {
        let mut container = simple("linux");
        container.process = Process::encode(words, &[], "/").unwrap();
        container.program =
            koskit_lower::rewrite::rewrite(&container.program).unwrap().bytes.into_owned();
        // The stubs of its two calls, which the program had not when it was sized up.
        container.contract.untyped_bits += 1;
        container
    };
    let ran = boot(&[linux(&["linux"]), linux(&["linux", "overflow"])]);
    assert_eq!(ran.stdout.len(), 2, "{ran}");
    assert!(ran.stdout.values().all(|text| text == "I run under Linux\n"), "{ran}");
    order(
        &ran,
        &["exited container=1 status=7", "faulted container=2 what=it wrote to address 0x7fc"],
    );
    assert!(ran.logged(", where nothing is mapped"), "{ran}");
}

#[test]
fn whatever_a_container_makes_of_its_memory_comes_back() {
    let ran = boot(&[simple("maker"), simple("status"), simple("maker")]);
    assert_eq!(ran.output(), "I have made all that I can make\n", "{ran}");
    let exited = [(1, 0), (2, 7), (3, 0)]
        .map(|(number, status)| format!("exited container={number} status={status}"));
    order(&ran, &exited.each_ref().map(String::as_str));
}

#[test]
fn the_kernel_that_checks_itself_finds_nothing_wrong() {
    let names = ["maker", "hostile", "forger", "zeroes", "status"];
    let mut containers: Vec<_> = names.map(simple).into();
    containers.extend(["r", "w", "j", "u", "b", "c"].map(|word| container("faults", word, |_| {})));
    let options = Options { debug_kernel: true, ..Options::default() };
    // A failed assertion stops the machine, which is an error.
    let ran = koskit_tests::boot(&containers, &options).unwrap();
    assert_eq!(ran.ended.before, ran.ended.after, "{ran}");
    order(&ran, &["exited container=1 status=0", "exited container=2 status=0"]);
}

#[test]
fn two_containers_of_one_image_run_at_once_and_share_nothing_they_write() {
    let ran = boot(&[simple("status"), simple("status")]);
    let events = ["started container=1", "started container=2", "exited container="];
    assert!(order(&ran, &events).is_sorted(), "{ran}");
    let said: Vec<_> = ran.stdout.values().map(String::as_str).collect();
    assert_eq!((said, ran.ended.status), (vec![FIRST, FIRST], 7), "{ran}");
}

#[test]
fn a_container_runs_at_the_priority_of_its_contract() {
    let at = |priority, word| {
        container("spin", word, |contract| {
            (contract.priority, contract.max_priority) = (priority, priority);
        })
    };
    let ran = boot(&[at(50, "1"), at(200, "2"), at(100, "3")]);
    let events = [2, 3, 1].map(|number| format!("exited container={number} status={number}"));
    assert!(order(&ran, &events.each_ref().map(String::as_str)).is_sorted(), "{ran}");
}

#[test]
fn heap_stack_and_bss_are_zero_at_first() {
    let ran = boot(&[container("zeroes", "word", |contract| contract.heap_pages = 500)]);
    assert_eq!(ran.ended.status, 0, "{ran}");
}

#[test]
fn no_message_hurts_the_root_server_or_shows_what_others_said() {
    let ran = boot(&[simple("status"), simple("hostile"), simple("forger"), simple("status")]);
    assert_eq!(ran.stdout.get(&2).map(String::as_str), Some("I have said all that I wanted.\n\n"));
    order(
        &ran,
        &[
            "exited container=2 status=0",
            "faulted container=3 what=it sent a message to its own fault endpoint",
            "exited container=4 status=7",
        ],
    );
}

#[test]
fn as_many_containers_as_a_boot_archive_holds_run() {
    let ran = boot(&vec![simple("status"); 70]);
    let exited = ran.events.iter().filter(|event| event.starts_with("exited ")).count();
    assert_eq!((exited, ran.ended.status), (70, 7), "{ran}");
}

#[test]
fn the_same_boot_takes_the_same_number_of_instructions() {
    let options = Options { icount: true, ..Options::default() };
    let run = || koskit_tests::boot(&[simple("status")], &options).unwrap().ended.timeline;
    let timeline = run();
    assert_eq!(timeline, run());
    assert!(timeline.root_server > timeline.reset && timeline.containers[0].started > 0);
}
