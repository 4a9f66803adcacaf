//! The talk's demo, as a newcomer sees it.

use koskit_tests::{Home, Said, koskit, root};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const HELLO: &str = "\
hello hello_world test
HELLO=WORLD
/: hello foo.txt bar.txt
foo.txt: foo
bar.txt: bar
";

fn example() -> String {
    root().join("examples/hello").display().to_string()
}

/// The steps that have ended, each with the word CACHED before it if it was.
fn steps(said: &Said) -> Vec<String> {
    let mut names = BTreeMap::new();
    let mut ended = Vec::new();
    for line in said.stderr.lines() {
        let Some((number, rest)) = line.split_once(' ').filter(|(n, _)| n.starts_with('#')) else {
            continue;
        };
        let name = names.entry(number).or_insert(rest);
        if rest == "CACHED" {
            ended.push(format!("CACHED {name}"));
        } else if rest.starts_with("DONE ") {
            ended.push((*name).to_owned());
        }
    }
    ended
}

#[test]
fn the_talks_hello_is_built_and_runs_on_sel4() {
    let home = Home::with_sdk();
    let built = home.must(&["build", "-t", "hello", &example()]);
    assert_eq!(built.stdout, "");
    let mut seen = steps(&built);
    seen.sort();
    let expected = [
        "[build 1/3] FROM docker.io/kos/dev-c-aarch64-kos-linux-musl:latest@sha256:",
        "[build 2/3] COPY . /app/",
        "[build 3/3] RUN gcc -fPIC -pie -o /app/hello /app/hello.c",
        "[files 1/4] FROM docker.io/kos/busybox:latest@sha256:",
        "[files 2/4] RUN mkdir -p /out",
        "[files 3/4] RUN echo \"foo\" > /out/foo.txt",
        "[files 4/4] RUN echo \"bar\" > /out/bar.txt",
        "[internal] load build context",
        "[stage-2 1/2] COPY --from=build /app/hello /",
        "[stage-2 2/2] COPY --from=files /out/* /",
        "exporting to image",
    ];
    for step in expected {
        assert!(seen.iter().any(|line| line.starts_with(step)), "{step} in\n{}", built.stderr);
    }
    let named = " naming to docker.io/library/hello:latest done\n";
    assert!(built.stderr.contains(named), "{}", built.stderr);

    let ran = home.koskit(&["run", "hello"]);
    assert_eq!(ran, Said { code: 0, stdout: HELLO.into(), stderr: String::new() });
}

#[test]
fn building_again_runs_nothing_and_gives_the_same_image() {
    let home = Home::with_sdk();
    home.must(&["build", "-t", "hello", &example()]);
    let first = home.inspect("hello")["Digest"].clone();
    let again = home.must(&["build", "-t", "again", &example()]);
    let done: Vec<String> = steps(&again)
        .into_iter()
        .filter(|step| step.contains(" RUN ") || step.contains(" COPY "))
        .collect();
    assert_eq!(done.len(), 7, "{done:?}");
    assert!(done.iter().all(|step| step.starts_with("CACHED ")), "{done:?}");
    assert_eq!(home.inspect("again")["Digest"], first);

    home.must(&["build", "--no-cache", "-t", "anew", &example()]);
    assert_eq!(home.inspect("anew")["Digest"], first);
    let other = Home::with_sdk();
    other.must(&["build", "-t", "hello", &example()]);
    assert_eq!(other.inspect("hello")["Digest"], first);
}

#[test]
fn an_edited_program_is_built_and_run_again() {
    let home = Home::with_sdk();
    for file in ["Dockerfile", "hello.c"] {
        let text = fs::read_to_string(root().join("examples/hello").join(file)).unwrap();
        home.write(&format!("hello/{file}"), &text);
    }
    home.must(&["build", "-t", "hello", "hello"]);
    let source = home.path().join("hello/hello.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("HELLO=%s", "hello, %s!")).unwrap();
    let built = home.must(&["build", "-t", "hello", "hello"]);
    let steps = steps(&built);
    assert!(steps.iter().any(|step| step.starts_with("[build 3/3] RUN gcc")), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("CACHED [files 4/4] RUN")), "{steps:?}");
    let ran = home.must(&["run", "hello"]);
    assert!(ran.stdout.contains("\nhello, WORLD!\n"), "{}", ran.stdout);
}

#[test]
fn arguments_and_variables_replace_those_of_the_image() {
    let home = Home::with_sdk();
    home.must(&["build", "-q", "-t", "hello", &example()]);
    let ran = home.must(&["run", "-e", "HELLO=seL4", "hello", "one", "--two"]);
    assert!(ran.stdout.starts_with("hello one --two\nHELLO=seL4\n"), "{}", ran.stdout);
}

#[test]
fn the_status_of_the_program_is_ours_and_its_streams_are_apart() {
    let home = Home::with_sdk();
    home.write(
        "app/main.c",
        "#include <stdio.h>\nint main() { puts(\"out\"); fputs(\"err\\n\", stderr); return 7; }\n",
    );
    home.write(
        "app/Dockerfile",
        "FROM --platform=$BUILDPLATFORM kos/dev-c-aarch64-kos-linux-musl AS build\n\
         COPY main.c /\nRUN gcc -o /main /main.c\n\
         FROM scratch\nCOPY --from=build /main /\nCMD [\"/main\"]\n",
    );
    home.must(&["build", "-t", "app", "app"]);
    let ran = home.koskit(&["run", "app"]);
    assert_eq!(ran, Said { code: 7, stdout: "out\n".into(), stderr: "err\n".into() });
}

#[test]
fn output_that_nobody_reads_ends_the_run_without_a_word() {
    let home = Home::with_sdk();
    home.must(&["build", "-q", "-t", "hello", &example()]);
    let mut command = home.command(&["run", "hello"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let said = Said::of(child.wait_with_output().unwrap());
    // 128 + SIGPIPE
    assert_eq!(said, Said { code: 141, stdout: String::new(), stderr: String::new() });
}

/// A command that does not outlive a test that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn an_interrupted_run_takes_its_machine_with_it() {
    let home = Home::with_sdk();
    let script = "echo begun; while :; do :; done";
    // A shell that starts us in the background has us ignore the signal.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", &koskit().display().to_string()]);
    command.args(["run", "kos/busybox", "sh", "-c", script]).envs(home.environment());
    let mut child = Ended(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut begun = [0; 6];
    child.0.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"begun\n");
    let id = child.0.id().to_string();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let qemu: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(qemu.len(), 1, "{children}");

    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(Said::status(child.0.wait().unwrap()), 128 + 2);
    // Whoever takes care of orphans may let it lie as a zombie.
    let runs = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", qemu[0])).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    for _ in 0..100 {
        if !runs() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("QEMU still runs");
}

#[test]
fn a_verbose_run_shows_the_contract_and_that_all_memory_is_given_back() {
    let home = Home::with_sdk();
    home.must(&["build", "-q", "-t", "hello", &example()]);
    let ran = home.must(&["run", "--verbose", "hello"]);
    assert_eq!(ran.stdout, HELLO);
    let end = ran.stderr.lines().last().unwrap();
    let words: Vec<&str> = end.split(' ').collect();
    let [_, "end", "status=0", before, after] = words[..] else { panic!("{end}") };
    assert_eq!(before.strip_prefix("before="), after.strip_prefix("after="), "{end}");
    assert!(ran.stderr.contains("sel4| Cmd       [/hello, hello_world, test]"), "{}", ran.stderr);
}

#[test]
fn the_bundle_has_the_talks_files_and_table() {
    let home = Home::with_sdk();
    home.must(&["build", "-q", "-t", "hello", &example()]);
    let said = home.must(&["lower", "hello", "-o", "bundle"]);
    let names: Vec<&str> = said.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["Untyped", "VSpace", "TCB", "CNode", "Frames", "Cmd", "Binary"]);
    for file in ["hello.elf", "initrd.cpio", "spec.json"] {
        assert!(home.path().join("bundle").join(file).is_file(), "{file}");
    }
    home.must(&["lower", "-o", "other", "hello", "--", "-x", "y"]);
    let other = fs::read_to_string(home.path().join("other/spec.json")).unwrap();
    assert!(other.contains("\"-x\""), "{other}");
    let native = &home.inspect("hello")["Native"];
    let spec = fs::read(home.path().join("bundle/spec.json")).unwrap();
    assert_eq!(*native, serde_json::from_slice::<serde_json::Value>(&spec).unwrap());
}
