//! Numbers system calls and invocations as the kernel does that we are built for: from the
//! XML files and the configuration in its install prefix, KOSKIT_SEL4_PREFIX_DIR.

use roxmltree::{Document, Node};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=KOSKIT_SEL4_PREFIX_DIR");
    let prefix = env::var_os("KOSKIT_SEL4_PREFIX_DIR")
        .expect("set KOSKIT_SEL4_PREFIX_DIR to the folder that seL4 was installed to");
    let include = Path::new(&prefix).join("libsel4/include");
    let config = Config::read(&include.join("kernel/gen_config.json"));
    assert!(
        config.holds("CONFIG_ARM_HYPERVISOR_SUPPORT") && config.holds("CONFIG_ARCH_AARCH64"),
        "{} is not a kernel for AArch64 with CONFIG_ARM_HYPERVISOR_SUPPORT",
        Path::new(&prefix).display()
    );

    let mut out = String::from("/// Numbers of system calls.\npub mod number {\n");
    for (index, name) in syscalls(&include.join("api/syscall.xml")).iter().enumerate() {
        writeln!(out, "pub const {name}: i64 = -{};", index + 1).unwrap();
    }
    out.push_str("}\n/// Labels of invocations, by the names of the kernel's own source.\n");
    out.push_str("pub mod label {\n");
    let mut next = 1;
    for layer in ["", "-sel4-arch", "-arch"] {
        let path = include.join(format!("interfaces/object-api{layer}.xml"));
        for name in methods(&path, &config) {
            writeln!(out, "pub const {name}: u64 = {next};").unwrap();
            next += 1;
        }
    }
    out.push_str("}\n");
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("numbers.rs");
    fs::write(to, out).unwrap();
}

fn read(path: &Path) -> String {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the system calls that every configuration has, in order of their numbers.
fn syscalls(path: &Path) -> Vec<String> {
    let text = read(path);
    let document = Document::parse(&text).unwrap();
    let api = document.descendants().find(|n| n.has_tag_name("api")).expect("no <api>");
    let calls = api.descendants().filter(|n| n.has_tag_name("syscall"));
    calls.map(|n| n.attribute("name").expect("a <syscall> without a name").to_owned()).collect()
}

/// Names of the invocations that this configuration has, in order of their labels.
fn methods(path: &Path, config: &Config) -> Vec<String> {
    let text = read(path);
    let document = Document::parse(&text).unwrap();
    let methods = document.descendants().filter(|n| n.has_tag_name("method"));
    methods
        .filter(|n| config.has(*n))
        .map(|n| n.attribute("id").expect("a <method> without an id").to_owned())
        .collect()
}

/// The kernel's configuration. Its keys are written with or without `CONFIG_`.
struct Config(Map<String, Value>);

impl Config {
    fn read(path: &Path) -> Self {
        match serde_json::from_str(&read(path)) {
            Ok(Value::Object(map)) => Self(map),
            other => panic!("{}: no JSON object: {other:?}", path.display()),
        }
    }

    /// A setting as a number; 0 where it is off.
    fn value(&self, name: &str) -> u64 {
        let short = name.strip_prefix("CONFIG_").unwrap_or(name);
        match self.0.get(short).or_else(|| self.0.get(name)) {
            Some(Value::Bool(on)) => u64::from(*on),
            Some(Value::Number(number)) => number.as_u64().unwrap_or(0),
            Some(Value::String(text)) => text.parse().unwrap_or(1),
            _ => 0,
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.value(name) != 0
    }

    /// Whether a method is there: seL4 5 states a condition as an attribute in C, later
    /// kernels as an element.
    fn has(&self, method: Node) -> bool {
        let text = method.attribute("condition").is_none_or(|text| self.expression(text));
        let element = method.children().find(|n| n.has_tag_name("condition"));
        text && element.is_none_or(|n| n.children().filter(Node::is_element).all(|n| self.term(n)))
    }

    fn term(&self, node: Node) -> bool {
        let mut terms = node.children().filter(Node::is_element);
        match node.tag_name().name() {
            "config" => self.holds(node.attribute("var").expect("a <config> without a var")),
            "not" => !terms.any(|n| self.term(n)),
            "and" => terms.all(|n| self.term(n)),
            "or" => terms.any(|n| self.term(n)),
            other => panic!("unknown condition <{other}>"),
        }
    }

    /// The three forms that seL4 5 uses: `defined(X)`, `defined X` and `X > 1`.
    fn expression(&self, text: &str) -> bool {
        if let Some(name) = text.strip_prefix("defined") {
            return self.holds(name.trim_matches([' ', '(', ')']));
        }
        match text.split_once('>') {
            Some((name, than)) => {
                let than = than.trim().parse().unwrap_or_else(|_| panic!("condition {text:?}"));
                self.value(name.trim()) > than
            }
            None => panic!("unknown condition {text:?}"),
        }
    }
}
