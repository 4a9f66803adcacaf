//! Machines and their containers as a user has them: `koskit machine`, `run -d`, `ps`, `logs`, …

use koskit_tests::{Home, Said};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A home with a machine, which ends with it.
struct Kept {
    home: Home,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.home.koskit(&["machine", "stop"]);
    }
}

const LOOP: [&str; 4] = ["kos/busybox", "sh", "-c", "echo begun; while :; do :; done"];

impl Kept {
    fn start() -> Self {
        let kept = Self { home: Home::with_sdk() };
        assert_eq!(kept.home.must(&["machine", "start"]).stdout, "default\n");
        kept
    }

    fn must(&self, words: &[&str]) -> String {
        self.home.must(words).stdout
    }

    fn info(&self) -> Value {
        serde_json::from_str(&self.must(&["machine", "info", "--format", "json"])).unwrap()
    }

    fn free(&self) -> u64 {
        self.info()["free_bytes"].as_u64().unwrap()
    }

    /// Runs a container in the background; its id.
    fn run(&self, options: &[&str], rest: &[&str]) -> String {
        let words = [&["run", "-d"], options, rest].concat();
        let id = self.must(&words);
        let id = id.strip_suffix('\n').unwrap();
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        id.to_owned()
    }

    fn inspect(&self, name: &str) -> Value {
        let text = self.must(&["inspect", "--format", "json", name]);
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// Waits until something is true of a container.
    fn until(&self, name: &str, what: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = self.inspect(name);
            if what(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{seen:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a container has said this.
    fn until_said(&self, name: &str, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.must(&["logs", name]).contains(text) {
            assert!(Instant::now() < deadline, "{name} does not say {text:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn containers_come_and_go_on_a_machine_and_leave_nothing() {
    let kept = Kept::start();
    let free = kept.free();
    let id = kept.run(&["--name", "loop"], &LOOP);
    kept.until_said("loop", "begun\n");
    assert!(kept.free() < free);

    let table = kept.must(&["ps"]);
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head.join(" "), "CONTAINER ID IMAGE COMMAND CREATED STATUS NAMES");
    let line = lines.next().unwrap();
    assert!(line.starts_with(&id[..12]) && line.ends_with("loop"), "{table}");
    assert!(line.contains("kos/busybox") && line.contains(" Up "), "{table}");
    assert_eq!(lines.next(), None);
    let json: Value = serde_json::from_str(&kept.must(&["ps", "--format", "json"])).unwrap();
    assert_eq!((&json["Names"], &json["State"]), (&"loop".into(), &"running".into()));

    // Another one, at the same time, in the foreground.
    let ran = kept.home.koskit(&["run", "--rm", "kos/busybox", "sh", "-c", "echo hi; exit 3"]);
    assert_eq!(ran, Said { code: 3, stdout: "hi\n".into(), stderr: String::new() });
    assert_eq!(kept.must(&["ps", "-aq"]), format!("{}\n", &id[..12]));
    let figures = kept.must(&["stats", "--no-stream", "--format", "json"]);
    let figures: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!((&figures["Name"], &figures["written_bytes"]), (&"loop".into(), &6.into()));
    assert!(kept.must(&["top", "loop"]).contains("sh -c echo begun"));

    assert_eq!(kept.must(&["kill", &id[..6]]), format!("{}\n", &id[..6]));
    assert_eq!(kept.must(&["ps", "-q"]), "");
    assert!(kept.must(&["ps", "-a"]).contains(" Exited (137) "));
    assert_eq!(kept.must(&["wait", "loop"]), "137\n");
    assert_eq!(kept.must(&["logs", "loop"]), "begun\n");
    assert_eq!(kept.free(), free);
    kept.must(&["rm", "loop"]);
    assert_eq!(kept.must(&["ps", "-aq"]), "");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let home = Home::with_sdk();
    let said = |words: &[&str]| {
        let said = home.koskit(words);
        assert_ne!(said.code, 0, "{words:?}");
        said.stderr
    };
    let none = "koskit: the machine default does not run; start it with: koskit machine start\n";
    for words in [&["ps"][..], &["stop", "x"], &["run", "-d", "kos/busybox"], &["machine", "stop"]]
    {
        assert_eq!(said(words), none, "{words:?}");
    }
    assert!(said(&["machine", "start", "../x"]).starts_with("koskit: \"../x\" is no name"));
    assert_eq!(home.must(&["machine", "ls", "-q"]).stdout, "");

    let kept = Kept { home };
    kept.must(&["machine", "start"]);
    let said = |words: &[&str]| kept.home.koskit(words).stderr;
    assert_eq!(said(&["machine", "start"]), "koskit: the machine default runs already\n");
    assert_eq!(said(&["logs", "x"]), "koskit: there is no container x; see koskit ps --all\n");
    kept.run(&["--name", "one"], &LOOP);
    let twice = said(&["run", "-d", "--name", "one", "kos/busybox", "true"]);
    assert!(twice.starts_with("koskit: there is a container with the name one;"), "{twice}");
    assert!(said(&["rm", "one"]).contains("the container one runs; stop it first"));
    let large = ["run", "--label", "com.koskit.app.spec.ut_large_page=900", "kos/busybox", "true"];
    assert!(said(&large).contains("the root server refused the container: memory: it asks for"));
    kept.must(&["rm", "-f", "one"]);
    assert_eq!(kept.must(&["machine", "ls", "-q"]), "default\n");
}

#[test]
fn inspect_lists_each_capability_of_a_running_container() {
    let kept = Kept::start();
    let few = ["-l", "com.koskit.app.spec.ut_large_page=3"];
    kept.run(&[&["--name", "loop"][..], &few].concat(), &LOOP);
    kept.until_said("loop", "begun\n");
    let seen = kept.inspect("loop");
    let held = seen["Capabilities"].as_array().unwrap();
    let at = |slot: u64| held.iter().find(|held| held["Slot"] == slot).unwrap();
    assert_eq!((&at(3)["Object"], &at(3)["Rights"]), (&"vspace".into(), &"all".into()));
    assert_eq!((&at(4)["For"], &at(4)["Object"]), (&"requests".into(), &"endpoint".into()));
    let faults = at(4)["Badge"].as_u64().unwrap() | 1 << 26;
    assert_eq!(at(5)["Badge"], faults);
    let size = |slot: u64| at(slot)["Size"].as_u64().unwrap();
    assert_eq!((8..27).map(size).filter(|&size| size == 2 << 20).count(), 3);
    assert!((8..27).all(|slot| at(slot)["Object"] == "untyped"));
    // What nobody has touched is all free, and the kernel says so.
    assert_eq!(at(10)["Free"], 2 << 20);
    let table = kept.must(&["inspect", "--format", "table", "loop"]);
    let line = |start: &str| {
        let line = table.lines().find(|line| line.starts_with(start));
        let words: Vec<&str> = line.unwrap_or(&table).split_whitespace().collect();
        words.join(" ")
    };
    assert_eq!(line("SLOTS"), "SLOTS OBJECT FOR SIZE FREE RIGHTS BADGE");
    assert_eq!(line("1 "), "1 tcb first thread all");
    assert_eq!(line("7 "), "7 notification timer and interrupts read");
    kept.must(&["kill", "loop"]);
    assert!(kept.inspect("loop").get("Capabilities").is_none());
    let said = kept.home.koskit(&["inspect", "--format", "table", "loop"]);
    assert_eq!(said.stderr, "koskit: loop is no container that runs\n");
}

#[test]
fn an_image_that_asks_for_a_device_gets_it_from_who_runs_it_only() {
    let home = Home::with_sdk();
    let asks = ["run", "-l", "com.koskit.app.spec.devices=rtc", "kos/busybox", "echo", "has it"];
    let said = home.koskit(&asks);
    let why = "koskit: the image asks for the device rtc; let its container drive it with: \
               --device rtc\n";
    assert_eq!((said.code, said.stderr.as_str()), (125, why));
    let allowed = [&asks[..1], &["--device", "rtc"], &asks[1..]].concat();
    assert_eq!(home.must(&allowed).stdout, "has it\n");
    let other = ["run", "-l", "com.koskit.app.spec.devices=disk", "kos/busybox", "true"];
    let said = home.koskit(&other);
    assert!(said.stderr.contains("devices of the board: rtc"), "{said:?}");
}

#[test]
fn a_policy_starts_a_container_again() {
    let kept = Kept::start();
    let free = kept.free();
    let fails = ["kos/busybox", "sh", "-c", "echo again; exit 4"];
    kept.run(&["--name", "fails", "--restart", "on-failure:2"], &fails);
    assert_eq!(kept.must(&["wait", "fails"]), "4\n");
    let seen = kept.inspect("fails");
    assert_eq!((&seen["RestartCount"], &seen["State"]["ExitCode"]), (&2.into(), &4.into()));
    assert_eq!(kept.must(&["logs", "fails"]), "again\nagain\nagain\n");
    assert_eq!(kept.must(&["logs", "--tail", "1", "fails"]), "again\n");
    let stamped = kept.must(&["logs", "-t", "fails"]);
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.ends_with("Z again")));

    kept.run(&["--name", "always", "--restart=always"], &["kos/busybox", "true"]);
    kept.until("always", |seen| seen["RestartCount"].as_u64() > Some(1));
    kept.must(&["stop", "always"]);
    assert_eq!(kept.inspect("always")["State"]["Status"], "exited");
    assert_eq!(kept.free(), free);
}

#[test]
fn standard_input_goes_to_the_container_and_ends_it() {
    let kept = Kept::start();
    let pipe = |words: &[&str], text: &[u8]| {
        let mut command = kept.home.command(words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.as_mut().unwrap();
        let mut to = child.stdin.take().unwrap();
        let text = text.to_vec();
        let writer = std::thread::spawn(move || to.write_all(&text));
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        writer.join().unwrap().unwrap();
        assert!(child.wait().unwrap().success());
        output
    };
    let long: String = (0..5000).map(|line| format!("line {line}\n")).collect();
    assert_eq!(pipe(&["run", "-i", "kos/busybox", "cat"], long.as_bytes()), long);
    // So it does on a machine of its own.
    let debug = ["run", "-i", "--icount", "kos/busybox", "cat"];
    assert_eq!(pipe(&debug, b"alone\n"), "alone\n");
    // Without -i there is none.
    assert_eq!(kept.must(&["run", "kos/busybox", "cat"]), "");
}

#[test]
fn a_fault_is_in_the_log_and_the_machine_goes_on() {
    let kept = Kept::start();
    let ran = kept.home.koskit(&["run", "--name", "f", "kos/busybox", "sh", "-c", "kill -SEGV $$"]);
    // With or without signals, it did not end well.
    assert_ne!(ran.code, 0);
    assert_eq!(kept.must(&["run", "kos/busybox", "echo", "alive"]), "alive\n");
}

#[test]
fn a_command_that_goes_away_takes_its_container_with_it() {
    let kept = Kept::start();
    let free = kept.free();
    let mut words = vec!["run", "--name", "mine"];
    words.extend(LOOP);
    let mut child = kept.home.command(&words).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !kept.must(&["ps"]).contains(" Up ") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(kept.must(&["wait", "mine"]), "137\n");
    assert_eq!(kept.free(), free);
}

#[test]
fn a_keeper_that_is_killed_leaves_no_qemu_and_the_next_one_starts() {
    let kept = Kept::start();
    let info = kept.info();
    kept.run(&["--name", "one"], &LOOP);
    let kill = |id: &Value| Command::new("kill").args(["-KILL", &id.to_string()]).status();
    assert!(kill(&info["pid"]).unwrap().success());
    let runs = |id: &Value| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while runs(&info["qemu_pid"]) || runs(&info["pid"]) {
        assert!(Instant::now() < deadline, "QEMU still runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = kept.home.koskit(&["ps"]);
    assert!(said.stderr.contains("the machine default does not run"), "{said:?}");
    kept.must(&["machine", "start"]);
    assert_eq!(kept.must(&["ps", "-aq"]), "");
    kept.must(&["machine", "stop"]);
    assert_eq!(fs::read_dir(kept.home.path().join("run/koskit")).unwrap().count(), 0);
}

#[test]
fn nobody_else_can_reach_a_machine() {
    let kept = Kept::start();
    for folder in ["run/koskit", "state/koskit/machines/default"] {
        let mode = fs::metadata(kept.home.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    let open = kept.home.path().join("run/koskit");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let said = kept.home.koskit(&["ps"]);
    assert!(said.stderr.contains("is not a folder of yours alone"), "{said:?}");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_machine_has_as_much_memory_as_it_was_started_with() {
    let kept = Kept { home: Home::with_sdk() };
    kept.must(&["machine", "start", "--memory", "64M"]);
    let info = kept.info();
    assert_eq!(info["total_bytes"], info["free_bytes"]);
    assert!(info["free_bytes"].as_u64().unwrap().abs_diff(64 << 20) < 4096, "{info}");
    assert_eq!(kept.must(&["run", "kos/busybox", "echo", "small"]), "small\n");
    assert_eq!(kept.info()["free_bytes"], info["free_bytes"]);
}

#[test]
fn without_a_machine_run_still_boots_its_own() {
    let home = Home::with_sdk();
    let ran = home.koskit(&["run", "kos/busybox", "echo", "alone"]);
    assert_eq!(ran, Said { code: 0, stdout: "alone\n".into(), stderr: String::new() });
    assert_eq!(home.must(&["machine", "ls", "-q"]).stdout, "");
}
