//! Numbers system calls and invocations as the kernel does that we are built for: from the
//! XML files and the configuration in its install prefix, KOSKIT_SEL4_PREFIX_DIR.

mod generate;

use generate::Config;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=KOSKIT_SEL4_PREFIX_DIR");
    let prefix = env::var_os("KOSKIT_SEL4_PREFIX_DIR")
        .expect("set KOSKIT_SEL4_PREFIX_DIR to the folder that seL4 was installed to");
    let include = Path::new(&prefix).join("libsel4/include");
    let config = Config::parse(&read(&include.join("kernel/gen_config.json")));
    assert!(
        config.holds("CONFIG_ARM_HYPERVISOR_SUPPORT") && config.holds("CONFIG_ARCH_AARCH64"),
        "{} is not a kernel for AArch64 with CONFIG_ARM_HYPERVISOR_SUPPORT",
        Path::new(&prefix).display()
    );
    let syscalls = read(&include.join("api/syscall.xml"));
    let interface = |part| read(&include.join(format!("interfaces/object-api{part}.xml")));
    let interfaces = ["", "-sel4-arch", "-arch"].map(interface);
    let numbers = generate::numbers(&syscalls, interfaces.each_ref().map(String::as_str), &config);
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("numbers.rs");
    fs::write(&to, numbers).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
}

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
