//! The kernel, tested on a machine: boots `sel4/kernel-tests` instead of the root server.

use koskit_machine::{Message, Options, Platform, boot};
use koskit_tests::platform_folder;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What `kernel/README.md` promises, with the test that holds it. Not in this list, because
/// QEMU's cortex-a57 cannot show them: SErrors (11) and processors with half precision (12).
const PROMISES: [(&str, &str); 15] = [
    ("fix 1", "interrupts::a_guest_cannot_keep_its_monitor_from_running"),
    ("fix 2", "interrupts::each_guest_has_its_own_timer"),
    ("fix 3", "interrupts::an_ended_interrupt_concerns_its_guest_only"),
    ("fix 4", "guests::an_access_with_mmu_is_told_with_its_intermediate_address"),
    ("fix 5", "guests::a_guest_cannot_make_system_calls"),
    ("fix 6 and 8", "guests::registers_that_reach_others_trap"),
    ("fix 7", "guests::guests_keep_their_registers_apart"),
    ("fix 9", "interrupts::a_list_register_is_free_when_the_guest_has_ended_its_interrupt"),
    ("fix 10", "guests::aarch32_programs_of_a_guest_stay_aarch32"),
    ("fix 13", "interrupts::an_injected_interrupt_arrives_and_its_end_is_told"),
    ("patch 12, Page_Remap", "memory::remapping_without_a_page_table_is_refused"),
    ("patch 12, TCB_CopyRegisters", "threads::copied_registers_do_not_lead_out_of_el0"),
    ("patch 12, CNode_Mint", "calls::a_badge_that_is_too_long_is_cut"),
    ("address spaces", "spaces::address_spaces_that_share_a_vmid_stay_apart"),
    ("closed registers", "el0::privileged_registers_are_closed"),
];

/// How long the next line may take. All tests together take a few seconds on a quiet host.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_release_kernel_keeps_its_promises() {
    run(false);
}

#[test]
fn the_debug_kernel_keeps_its_promises() {
    run(true);
}

/// Boots the tests and checks what they say; see `sel4/kernel-tests/src/main.rs` for its form.
fn run(debug_kernel: bool) {
    let (planned, results) = listen(debug_kernel);
    assert!(!planned.is_empty(), "the kernel tests did not say what they test");
    let mut bad = Vec::new();
    for name in &planned {
        match results.get(name) {
            Some(None) => println!("ok {name}"),
            Some(Some(sentence)) => bad.push(format!("{name}: {sentence}")),
            None => bad.push(format!("{name}: did not run to its end")),
        }
    }
    for (promise, name) in PROMISES {
        if !planned.iter().any(|planned| planned == name) {
            bad.push(format!("{name}, which holds {promise}, does not exist"));
        }
    }
    assert!(bad.is_empty(), "{} of {} failed:\n{}", bad.len(), planned.len(), bad.join("\n"));
}

/// The names of all tests in order; and for each that ended, a sentence if it failed.
fn listen(debug_kernel: bool) -> (Vec<String>, BTreeMap<String, Option<String>>) {
    let (mut planned, mut results) = (Vec::new(), BTreeMap::new());
    let (mut log, mut last) = (Vec::new(), String::new());
    let receiver = start(debug_kernel);
    loop {
        let said = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("nothing came for {PATIENCE:?} after {last:?}:\n{}", log.join("\n"))
        });
        let line = match said {
            Said::Test(line) => line,
            Said::Log(line) => {
                log.push(line);
                continue;
            }
            Said::End(Ok(status)) => {
                let failed = results.values().flatten().count();
                assert_eq!(usize::from(status), failed, "the status is not the number of failures");
                return (planned, results);
            }
            Said::End(Err(error)) => panic!("{error} (after {last:?})"),
        };
        match line.split_once(' ') {
            Some(("plan", name)) => planned.push(name.to_owned()),
            Some(("run", _)) => {}
            Some(("ok", name)) => drop(results.insert(name.to_owned(), None)),
            Some(("failed", what)) => {
                let (name, sentence) = what.split_once(": ").unwrap_or((what, "?"));
                results.insert(name.to_owned(), Some(sentence.to_owned()));
            }
            _ => panic!("the kernel tests said {line:?}"),
        }
        last = line;
    }
}

enum Said {
    /// A line of the tests.
    Test(String),
    /// A line of loader or kernel.
    Log(String),
    /// The machine has ended, with this status or for a reason.
    End(Result<u8, String>),
}

/// Boots a machine in a thread, since nobody can wait for it with a deadline.
fn start(debug_kernel: bool) -> mpsc::Receiver<Said> {
    let folder = tempfile::tempdir().expect("a folder for the platform");
    for entry in platform_folder().read_dir().expect("the platform's folder") {
        let entry = entry.expect("a file of the platform");
        let path = match entry.file_name() {
            name if name == "root-server.elf" => platform_folder().join("kernel-tests.elf"),
            _ => entry.path(),
        };
        let link = folder.path().join(entry.file_name());
        std::os::unix::fs::symlink(path, link).expect("a link to a file of the platform");
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let platform = Platform::open(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        // Time that is counted in instructions passes the same way in every run.
        let options = Options { icount: true, debug_kernel, ..Options::default() };
        let mut pending = Vec::new();
        let ended = boot(&platform, &[], &options, &mut |said| match said {
            Message::Output { bytes, .. } => {
                pending.extend_from_slice(bytes);
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line[..end]).into_owned();
                    // Nobody listens any more where the test has failed.
                    let _ = sender.send(Said::Test(line));
                }
            }
            Message::Log { line, .. } => drop(sender.send(Said::Log(line.to_owned()))),
            Message::Error { .. } | Message::Event(_) => {}
        });
        let ended = ended.map(|ended| ended.status).map_err(|error| error.to_string());
        let _ = sender.send(Said::End(ended));
    });
    receiver
}
