//! The loader says what is wrong with a machine on which seL4 cannot boot. These are not
//! machines that koskit would start; so QEMU is started here.

use koskit_spec::archive::{BASE, Builder, Kind};
use koskit_tests::{platform_folder, skip};
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};

/// What a machine says up to the line by which it stops; none where there is no QEMU.
fn said(machine: &str, archive: Option<&[u8]>) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-machine", machine, "-cpu", "cortex-a57", "-m", "1280M", "-nodefaults"])
        .args(["-display", "none", "-serial", "stdio", "-kernel"])
        .arg(platform_folder().join("loader.elf"));
    if let Some(bytes) = archive {
        let file = folder.path().join("archive");
        std::fs::write(&file, bytes).unwrap();
        let device = format!("loader,force-raw=on,file={},addr={BASE:#x}", file.display());
        qemu.args(["-device", &device]);
    }
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        child => child.unwrap(),
    };
    let (mut text, mut byte) = (Vec::new(), [0]);
    let mut serial = child.stdout.take().unwrap();
    while !text.ends_with(b"halting...\n") && serial.read(&mut byte).unwrap() == 1 {
        text.push(byte[0]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Some(String::from_utf8(text).unwrap())
}

fn expect(machine: &str, archive: Option<&[u8]>, why: &str) {
    match said(machine, archive) {
        Some(text) => assert_eq!(text, format!("koskit: cannot boot seL4: {why}\nhalting...\n")),
        None => skip("there is no qemu-system-aarch64"),
    }
}

const GOOD: &str = "virt,gic-version=2,virtualization=on";

fn archive(files: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::default();
    for (kind, bytes) in files {
        builder.add(*kind, bytes.to_vec());
    }
    builder.finish([0; 32], 0).unwrap()
}

#[test]
fn a_machine_without_el2_is_told_how_to_get_it() {
    expect(
        "virt,gic-version=2",
        None,
        "this machine starts programs at EL1, but the kernel needs EL2; start QEMU with -machine \
         virt,virtualization=on",
    );
}

#[test]
fn a_machine_without_a_boot_archive_is_told_so() {
    expect(GOOD, None, "there is no boot archive in memory");
}

#[test]
fn an_archive_without_a_kernel_or_with_a_damaged_one_is_named() {
    expect(GOOD, Some(&archive(&[])), "there is no kernel in the boot archive");
    let text = archive(&[(Kind::Kernel, b"kernel")]);
    let why = "the kernel in the boot archive is no 64-bit little-endian ELF file";
    expect(GOOD, Some(&text), why);

    let mut kernel = std::fs::read(platform_folder().join("kernel-release.elf")).unwrap();
    let alone = archive(&[(Kind::Kernel, &kernel)]);
    expect(GOOD, Some(&alone), "there is no root server in the boot archive");
    let cut = archive(&[(Kind::Kernel, &kernel[..5000])]);
    let why = "the kernel in the boot archive is shorter than its own headers say";
    expect(GOOD, Some(&cut), why);

    // The physical address of its first segment: into the loader itself.
    kernel[64 + 24..64 + 32].copy_from_slice(&0x7000_0000u64.to_le_bytes());
    let server = std::fs::read(platform_folder().join("root-server.elf")).unwrap();
    let wild = archive(&[(Kind::Kernel, &kernel), (Kind::RootServer, &server)]);
    let why = "the kernel in the boot archive does not fit where it must go";
    expect(GOOD, Some(&wild), why);
}
