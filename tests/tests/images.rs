//! Images that cannot run natively, and what `koskit lower` and `koskit run` say of them.

use koskit_tests::{Home, Said, compile, skip};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// An ELF file of one system call, by assembler and nothing else.
const EXIT: &str = ".globl _start\n_start: mov x0, 0\n mov x8, 93\n svc 0\n";

/// A home with an image `app` that has these bytes as its program `/app`.
fn image(program: &[u8], mode: u32, more: &str) -> Home {
    let home = Home::new();
    home.write(
        "app/Dockerfile",
        &format!("FROM scratch\nCOPY app /\nENTRYPOINT [\"/app\"]\n{more}"),
    );
    let path = home.path().join("app/app");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    home.must(&["build", "-q", "-t", "app", "app"]);
    home
}

/// The program, linked with these flags.
fn program(flags: &[&str]) -> Vec<u8> {
    let home = Home::new();
    home.write("exit.S", EXIT);
    let flags: Vec<String> = ["-nostdlib"].iter().chain(flags).map(|&flag| flag.into()).collect();
    let path = compile("exit", &home.path().join("exit.S"), &flags);
    fs::read(path).unwrap()
}

/// Neither command takes the image; both say this.
fn refused(home: &Home, expected: &str) {
    for (words, code) in [(&["lower", "-o", "bundle", "app"][..], 1), (&["run", "app"], 125)] {
        let said = home.koskit(words);
        assert_eq!((said.code, said.stdout.as_str()), (code, ""), "{words:?}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{words:?}: {}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{words:?}: {}", said.stderr);
        assert!(!home.path().join("bundle").exists(), "{words:?}");
    }
}

#[test]
fn programs_that_sel4_cannot_start_are_refused_with_what_to_do() {
    let dynamic = program(&["-Wl,--dynamic-linker,/lib/ld-musl-aarch64.so.1", "-pie"]);
    refused(
        &image(&dynamic, 0o755, ""),
        "its dynamic linker \"/lib/ld-musl-aarch64.so.1\" is not in the image; add the C library, \
         or link with -static-pie or -static",
    );
    refused(&image(b"#!/bin/sh\necho\n", 0o755, ""), "is a script for \"/bin/sh\"");
    refused(&image(b"text\n", 0o755, ""), "it is no complete ELF file");
    let good = program(&["-static"]);
    refused(&image(&good, 0o644, ""), "is not executable");
    let mut intel = good.clone();
    intel[18] = 62;
    refused(&image(&intel, 0o755, ""), "it is for x86-64, not for AArch64");
    let mut short = good.clone();
    short.truncate(good.len() / 2);
    refused(&image(&short, 0o755, ""), "cannot run natively");
    let writable = program(&["-static", "-Wl,--omagic"]);
    refused(&image(&writable, 0o755, ""), "can be both written and executed");
    let missing = image(&good, 0o755, "ENTRYPOINT [\"/other\"]\n");
    refused(&missing, "the program \"/other\" cannot be found");
    refused(&image(&good, 0o755, "ENTRYPOINT []\n"), "the image says no command");
}

#[test]
fn labels_that_state_no_contract_are_refused_with_what_is_allowed() {
    let good = program(&["-static"]);
    let cases = [
        ("spec.heap_pages=many", "is \"many\", but must be a whole number between 0 and"),
        ("spec.priority=255", "is \"255\", but must be a whole number between 0 and 254"),
        ("spec.heap_page=1", "the label com.koskit.app.spec.heap_page means nothing; known are"),
        ("spec=/none.json", "which the label com.koskit.app.spec names, is not in the image"),
        ("spec=/app", "is no JSON object that states a contract"),
    ];
    let home = image(&good, 0o755, "");
    for (label, expected) in cases {
        home.must(&[
            "build",
            "-q",
            "-t",
            "app",
            "--label",
            &format!("com.koskit.app.{label}"),
            "app",
        ]);
        refused(&home, expected);
    }
}

#[test]
fn a_bundle_has_the_same_bytes_whenever_it_is_made() {
    let home = image(&program(&["-static-pie", "-Wl,--no-dynamic-linker"]), 0o755, "");
    let read = |name: &str| {
        home.must(&["lower", "-o", name, "app"]);
        ["app.elf", "initrd.cpio", "spec.json"]
            .map(|file| fs::read(home.path().join(name).join(file)).unwrap())
    };
    assert_eq!(read("one"), read("two"));
}

#[test]
fn skopeo_reads_an_exported_archive() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        return skip("there is no skopeo");
    }
    let home = image(b"anything", 0o755, "");
    home.must(&["build", "-t", "app:1", "-o", "type=oci,dest=app.tar", "app"]);
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "--override-arch", "arm64", "inspect", "oci-archive:app.tar:1"])
        .current_dir(home.path())
        .output();
    let said = Said::of(output.unwrap());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let inspected: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(inspected["Digest"], home.inspect("app:1")["Digest"]);
}
