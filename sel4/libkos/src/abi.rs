//! The page `docs/linux-abi.md`, made of the table of calls in [`kos`](crate::kos) and of the
//! files in [`proc`](crate::proc).

use crate::number;
use crate::proc;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;
use std::{env, format, fs};

/// What is less than on Linux, or other, by the names of calls.
const NOTES: &[(&str, &str)] = &[
    ("clone", "threads only; no processes"),
    ("futex", "without priority inheritance"),
    ("connect", "within the container: the family unix, and 127.0.0.0/8 and ::1"),
    ("epoll_ctl", "one entry for each descriptor"),
    ("fallocate", "plain, KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE"),
    ("fcntl", "record locks are always granted, as there is one process; no leases, no seals"),
    ("fgetxattr", "files have no extended attributes"),
    (
        "getdents64",
        "what was made comes behind what the image has; /dev, /proc and /sys are not listed where the image has no such folders",
    ),
    ("getxattr", "files have no extended attributes"),
    ("ioctl", "FIONREAD, FIONBIO, FIOCLEX, FIONCLEX; nothing is a terminal"),
    ("linkat", "not between /dev and the rest"),
    ("memfd_create", "without seals and large pages"),
    ("mmap", "files are private copies; a file cannot be mapped shared and writable"),
    (
        "openat",
        "everything may be written but /proc and /sys; opening a pipe for reading does not wait, the first read does",
    ),
    ("preadv2", "flags are hints, and ignored"),
    ("pwritev2", "flags are hints, and ignored"),
    ("recvmmsg", "without its timeout"),
    ("renameat2", "NOREPLACE and EXCHANGE"),
    ("rt_sigaction", "what stops a process by default does nothing, as nobody could continue it"),
    ("sendmsg", "SCM_RIGHTS goes along; who is asked for by SO_PASSCRED is the process itself"),
    ("setsockopt", "options are kept; timeouts, REUSEADDR, REUSEPORT and PASSCRED have effects"),
    ("setitimer", "time that was used is the time since the start, as for clocks"),
    ("setxattr", "files have no extended attributes"),
    ("socket", "AF_UNIX, AF_INET and AF_INET6; streams, datagrams, and packets of AF_UNIX"),
    ("statfs", "free is what the container's memory has left"),
    ("timerfd_create", "CLOCK_REALTIME, MONOTONIC and BOOTTIME; nobody sets the clock"),
    ("timer_create", "as `setitimer`; of the clocks of processes and threads the caller's own"),
    ("utimensat", "times from 1677 to 2262"),
];

/// The calls in `Kos::answer`, by number: what each fails with where it can only fail.
fn calls() -> BTreeMap<u64, Option<String>> {
    let numbers: BTreeMap<&str, u64> = include_str!("number.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.strip_suffix(';'))
        .filter_map(|line| line.split_once(": u64 = "))
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let source = include_str!("kos.rs");
    let (_, table) = source.split_once("match number {").unwrap();
    let (table, _) = table.split_once("_ => Err(self.missing(number))").unwrap();
    let mut calls = BTreeMap::new();
    for line in table.lines().map(str::trim) {
        let (pattern, answer) = line.split_once("=>").unwrap_or((line, ""));
        let pattern = pattern.split_once(" if ").map_or(pattern, |(pattern, _)| pattern);
        let names: Vec<&str> = pattern.split('|').map(str::trim).collect();
        let error = answer
            .trim()
            .strip_prefix("Err(Errno::")
            .map(|rest| format!("E{}", rest.split(')').next().unwrap_or_default()));
        for number in names.iter().filter_map(|name| numbers.get(name)) {
            // Of several arms the first is the one that answers something.
            calls.entry(*number).or_insert_with(|| error.clone());
        }
    }
    calls
}

fn page() -> String {
    let mut page = String::from(
        "# Linux's system calls in a container\n\n\
         Made from `sel4/libkos` by its tests; `KOSKIT_WRITE=1 cargo test --manifest-path \
         sel4/Cargo.toml -p koskit-libkos --lib abi` writes it anew.\n\n\
         A container is one process, number 1, that is root. Calls that are not here \
         fail with ENOSYS, as on a Linux that was built without them, and are named once on the \
         machine's log.\n\n\
         | number | call | what is other than on Linux |\n|---|---|---|\n",
    );
    for (number, error) in calls() {
        let name = number::name(number).unwrap_or("?");
        let note = NOTES.iter().find(|(of, _)| *of == name).map(|(_, note)| *note);
        let note = match (note, error) {
            (Some(note), _) => note.into(),
            (None, Some(error)) => format!("always fails with {error}"),
            (None, None) => String::new(),
        };
        writeln!(page, "| {number} | `{name}` | {note} |").unwrap();
    }
    page += "\n## Files that are there in every container\n\n\
             `/proc/self` is `/proc/1`, with `/proc/self/fd` for each descriptor. `/dev` can be \
             written to, and hides what the image has there.\n\n```text\n";
    for path in proc::paths() {
        writeln!(page, "/{path}").unwrap();
    }
    page += "```\n";
    page
}

#[test]
fn the_page_about_the_calls_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/linux-abi.md");
    let page = page();
    if env::var_os("KOSKIT_WRITE").is_some() {
        fs::write(path, &page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    let differs = there.lines().zip(page.lines()).find(|(a, b)| a != b);
    assert!(
        there == page,
        "docs/linux-abi.md is old ({differs:?}): its first lines say how to write it"
    );
}

#[test]
fn every_note_is_about_a_call_that_is_there() {
    let names: Vec<_> = calls().into_keys().filter_map(number::name).collect();
    for (name, _) in NOTES {
        assert!(names.contains(name), "{name}");
    }
    assert!(names.len() > 100, "{names:?}");
}
