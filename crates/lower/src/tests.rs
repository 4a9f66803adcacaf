//! Whole bundles.

use super::*;
use crate::a64;
use koskit_image::Node;
use serde_json::json;
use std::error::Error;
use std::fs;

/// A program of one system call.
pub(crate) fn hello() -> Vec<u8> {
    const RET: u32 = 0xd65f_03c0;
    rewrite::tests::program(&[a64::mov_x8(64), a64::SVC, RET], 0x10000)
}

/// An ELF file of one page of text at an address.
fn text_at(address: u64) -> Vec<u8> {
    let mut out = vec![0; 4096];
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let halves = [(16, 2u16), (18, 183), (54, 56), (56, 1)];
    for (at, value) in halves {
        out[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    let words = [(24, address + 120), (32, 64), (80, address), (88, address), (96, 4096)];
    for (at, value) in words.into_iter().chain([(104, 4096), (112, 4096)]) {
        out[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    out[64] = 1;
    out[68] = 5;
    out
}

fn libkos() -> Vec<u8> {
    text_at(KOS_BASE)
}

/// The talk's image.
fn image() -> (Tree, ImageConfiguration) {
    let mut tree = Tree::new();
    tree.insert("hello", Node::file(0o755, hello()));
    tree.insert("foo.txt", Node::file(0o644, &b"foo\n"[..]));
    tree.insert("bar.txt", Node::file(0o644, &b"bar\n"[..]));
    let config = json!({
        "os": "linux", "architecture": "arm64",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "config": {
            "Entrypoint": ["/hello"], "Cmd": ["hello_world", "test"], "Env": ["HELLO=WORLD"],
            "Labels": { "com.koskit.app.spec.priority": "100", "maintainer": "somebody" },
        },
    });
    (tree, serde_json::from_value(config).unwrap())
}

fn options() -> Options {
    Options { name: "docker.io/library/hello:latest".into(), ..Options::default() }
}

#[test]
fn the_image_of_the_talk_becomes_the_table_of_the_talk() {
    let (tree, config) = image();
    let bundle = lower(&tree, &config, &options(), &libkos()).unwrap();
    let spec = bundle.spec_json();
    assert_eq!(spec["Cmd"], json!(["/hello", "hello_world", "test"]));
    assert_eq!(spec["Binary"], "hello");
    assert_eq!((&spec["VSpace"], &spec["TCB"]), (&json!(1), &json!(1)));
    assert_eq!(spec["Untyped"], "0x400000");
    assert_eq!(spec["Frames"], bundle.plan.frames);
    assert_eq!(spec["Contract"]["priority"], 100);
    let keys: Vec<&String> = spec.as_object().unwrap().keys().take(7).collect();
    assert_eq!(keys, ["Untyped", "VSpace", "TCB", "CNode", "Frames", "Cmd", "Binary"]);
    assert_eq!(bundle.contract.name(), "hello");
    assert_eq!(bundle.sites, (1, 0));
    assert_eq!(bundle.plan.untyped_bits(), bundle.contract.untyped_bits);
    let process = bundle.process();
    let process = Process::from_bytes(&process).unwrap();
    assert_eq!(process.args().count(), 3);
    assert_eq!(process.env().next(), Some(&b"HELLO=WORLD"[..]));
}

/// How often these bytes are in an archive.
fn count(initrd: &[u8], bytes: &[u8]) -> usize {
    initrd.windows(bytes.len()).filter(|window| *window == bytes).count()
}

#[test]
fn every_file_of_the_initrd_that_could_run_is_rewritten_and_no_other() {
    let (mut tree, config) = image();
    let original = hello();
    let library = Node::file(0o644, rewrite::tests::program(&[a64::SVC, 0xd65f_03c0], 0x20000));
    let NodeKind::File(bytes) = &library.kind else { unreachable!() };
    let (bytes, mut foreign) = (bytes.clone(), original.clone());
    foreign[18] = 62;
    tree.insert("lib/a.so", library.clone());
    tree.insert("lib/a.so.1", library);
    tree.insert("foreign", Node::file(0o755, foreign.clone()));
    let bundle = lower(&tree, &config, &options(), &libkos()).unwrap();
    assert_eq!(bundle.sites, (2, 0));
    assert!(bundle.refused.is_empty());
    let rewritten = rewrite::rewrite(&bytes).unwrap().bytes;
    assert_eq!(count(&bundle.initrd, &bundle.program), 1);
    assert_eq!(count(&bundle.initrd, &rewritten), 1, "two names, one file");
    assert_eq!(count(&bundle.initrd, &foreign), 1);
    assert_eq!(count(&bundle.initrd, &original) + count(&bundle.initrd, &bytes), 0);
}

#[test]
fn a_file_that_cannot_be_rewritten_is_named_and_left_alone_unless_the_program_needs_it() {
    let (mut tree, config) = image();
    let odd = rewrite::tests::program(&[a64::SVC], 0x10000);
    tree.insert("lib/odd.so", Node::file(0o644, odd.clone()));
    let bundle = lower(&tree, &config, &options(), &libkos()).unwrap();
    assert_eq!(count(&bundle.initrd, &odd), 1);
    let why = bundle.spec_json()["NotRewritten"]["/lib/odd.so"].to_string();
    assert!(why.contains("the system call at 0x401000 cannot be rewritten"), "{why}");
    tree.insert("hello", Node::file(0o755, with_interpreter("/lib/odd.so\0")));
    assert_eq!(
        sentence(&tree, &config, &options()),
        "\"/lib/odd.so\", which the program \"/hello\" loads, cannot run natively: the system \
         call at 0x401000 cannot be rewritten: x16 may be in use there, and no `mov x8, #number` \
         stands before it"
    );
}

#[test]
fn two_runs_give_the_same_files_and_a_bundle_is_replaced_whole() {
    let (tree, config) = image();
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("bundle");
    let read = || {
        let names = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path());
        names.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<BTreeMap<_, _>>()
    };
    lower(&tree, &config, &options(), &libkos()).unwrap().write(&at).unwrap();
    let first = read();
    let names: Vec<_> = first.keys().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["hello.elf", "initrd.cpio", "spec.json"]);
    fs::write(at.join("left over"), "").unwrap();
    lower(&tree, &config, &options(), &libkos()).unwrap().write(&at).unwrap();
    assert_eq!(read(), first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_workdir_is_in_the_initrd() {
    let (tree, config) = image();
    let options = Options { workdir: Some("/work/here".into()), ..options() };
    let bundle = lower(&tree, &config, &options, &libkos()).unwrap();
    assert_eq!(bundle.cwd, "/work/here");
    assert!(bundle.initrd.windows(10).any(|window| window == b"work/here\0"));
}

/// The error's sentence with its causes.
fn sentence(tree: &Tree, config: &ImageConfiguration, options: &Options) -> String {
    let error = lower(tree, config, options, &libkos()).unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A program that asks for a dynamic linker.
fn with_interpreter(interpreter: &str) -> Vec<u8> {
    let mut program = hello();
    let at = program.len();
    program.extend_from_slice(interpreter.as_bytes());
    // The first program header, a PT_PHDR, becomes PT_INTERP.
    program[64] = 3;
    program[72..80].copy_from_slice(&(at as u64).to_le_bytes());
    program[96..104].copy_from_slice(&(interpreter.len() as u64).to_le_bytes());
    program
}

#[test]
fn a_dynamic_linker_that_is_missing_is_named() {
    let (mut tree, config) = image();
    let program = with_interpreter("/lib/ld-musl-aarch64.so.1\0");
    tree.insert("hello", Node::file(0o755, program));
    assert_eq!(
        sentence(&tree, &config, &options()),
        "the program \"/hello\" is dynamically linked, but its dynamic linker \
         \"/lib/ld-musl-aarch64.so.1\" is not in the image; add the C library, or link with \
         -static-pie or -static"
    );
}

#[test]
fn a_program_for_another_machine_is_refused_once_in_words() {
    let (mut tree, config) = image();
    let mut program = hello();
    program[18] = 62;
    tree.insert("hello", Node::file(0o755, program));
    assert_eq!(
        sentence(&tree, &config, &options()),
        "the program \"/hello\" cannot run natively: it is for x86-64, not for AArch64"
    );
}

#[test]
fn a_libkos_at_another_address_is_refused() {
    let (tree, config) = image();
    let error = lower(&tree, &config, &options(), &text_at(0x40_0000)).unwrap_err();
    assert!(matches!(error, LowerError::Libkos(_)));
}

#[test]
fn words_that_are_too_long_are_refused() {
    let (tree, config) = image();
    let options = Options { args: vec!["x".repeat(70_000)], ..options() };
    assert!(sentence(&tree, &config, &options).contains("longer than 65,364 bytes"));
}

#[test]
fn a_heap_beyond_its_place_is_refused_by_its_label() {
    let (tree, config) = image();
    let mut options = options();
    options.labels.insert("com.koskit.app.spec.heap_pages".into(), "4000000000".into());
    let sentence = sentence(&tree, &config, &options);
    assert!(sentence.starts_with("the label com.koskit.app.spec.heap_pages is \"4000000000\""));
}
