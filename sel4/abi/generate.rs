// Reads the kernel's description of its own interface. A module of build.rs, and of tests.

use roxmltree::{Document, Node};
use serde_json::{Map, Value};
use std::fmt::Write;

/// The module of numbers: those of system calls, from `syscall.xml`, and the labels of
/// invocations, from the interfaces in their order: all architectures, this one, its family.
pub fn numbers(syscalls: &str, interfaces: [&str; 3], config: &Config) -> String {
    let mut out = String::from("/// Numbers of system calls.\npub mod number {\n");
    for (index, name) in names_of_syscalls(syscalls).iter().enumerate() {
        writeln!(out, "pub const {name}: i64 = -{};", index + 1).unwrap();
    }
    out.push_str("}\n/// Labels of invocations, by the names of the kernel's own source.\n");
    out.push_str("pub mod label {\n");
    let methods = interfaces.iter().flat_map(|text| names_of_methods(text, config));
    for (index, name) in methods.enumerate() {
        writeln!(out, "pub const {name}: u64 = {};", index + 1).unwrap();
    }
    out.push_str("}\n");
    out
}

/// Names of the system calls that every configuration has, in order of their numbers.
fn names_of_syscalls(text: &str) -> Vec<String> {
    let document = Document::parse(text).unwrap();
    let api = document.descendants().find(|n| n.has_tag_name("api")).expect("no <api>");
    let calls = api.descendants().filter(|n| n.has_tag_name("syscall"));
    calls.map(|n| n.attribute("name").expect("a <syscall> without a name").to_owned()).collect()
}

/// Names of the invocations that this configuration has, in order of their labels.
fn names_of_methods(text: &str, config: &Config) -> Vec<String> {
    let document = Document::parse(text).unwrap();
    let methods = document.descendants().filter(|n| n.has_tag_name("method"));
    methods
        .filter(|n| config.has(*n))
        .map(|n| n.attribute("id").expect("a <method> without an id").to_owned())
        .collect()
}

/// The kernel's configuration. Its keys are written with or without `CONFIG_`.
pub struct Config(Map<String, Value>);

impl Config {
    /// Reads `gen_config.json`.
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Self(map),
            other => panic!("the kernel's configuration is no JSON object: {other:?}"),
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

    /// Whether a setting is on.
    pub fn holds(&self, name: &str) -> bool {
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
