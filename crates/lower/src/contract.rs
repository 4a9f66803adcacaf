//! Labels, and the file that a label names, to the resource contract.
//!
//! A label wins over the file; what neither states is computed:
//!
//! | | default |
//! |---|---|
//! | name | the image's name |
//! | heap_pages | 32 |
//! | stack_pages | 16 for a small static program, 128 for another, 512 for a dynamic one; or what PT_GNU_STACK asks for (`-Wl,-z,stack-size=`) if more; and room for long arguments |
//! | ut_large_page | what can be had by mmap: 2 MiB, and more for large, dynamic and Go programs ([`memory`]) |
//! | ut_4k_pages | 16 |
//! | priority | 180, but at most the stated max_priority |
//! | max_priority | 190, but at least the stated priority |
//! | threads, cpu | no bound beyond memory and priority |
//! | devices | none |
//! | CNode | a slot for each untyped and for each page that can be made of them |
//! | Untyped | the smallest power of two that holds all objects ([`koskit_spec::plan`]) |

use crate::process::Words;
use crate::{LowerError, Options, Source};
use koskit_image::oci::ImageConfiguration;
use koskit_image::{NodeKind, Tree};
use koskit_spec::board::{self, DEVICES as BOARD};
use koskit_spec::contract::{
    CPU_MAX, Contract, ContractError, NAME_MAX, PRIORITY_MAX, THREADS_MAX,
};
use koskit_spec::elf::{self, stack_size};
use koskit_spec::label;
use koskit_spec::layout::{LARGE_PAGE, PAGE, STACK_PAGES_MAX, slot};
use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::elf::FileHeader as _;
use serde_json::Value;
use std::collections::BTreeMap;

/// What all labels begin with.
const PREFIX: &str = "com.koskit.app.";
/// What the labels begin with whose rest is a key of the contract's file.
pub(crate) const SPEC_PREFIX: &str = "com.koskit.app.spec.";
/// Labels that are no keys of the file.
const LABELS: [&str; 3] = [label::NAME, label::BINARY, label::SPEC];
/// The numbers, and the largest value that each can have.
const NUMBERS: [(&str, u64); 8] = [
    ("heap_pages", u32::MAX as u64),
    ("stack_pages", STACK_PAGES_MAX),
    ("ut_large_page", HANDED_MAX),
    ("ut_4k_pages", 1 << 16),
    ("priority", PRIORITY_MAX as u64),
    ("max_priority", PRIORITY_MAX as u64),
    ("threads", THREADS_MAX as u64),
    ("cpu", CPU_MAX as u64),
];
/// Most untypeds of one size.
const HANDED_MAX: u64 = 1 << 16;
const PUBLISHES: &str = "publishes";
const DEVICES: &str = "devices";
/// Those that are lists.
const LISTS: [&str; 2] = [PUBLISHES, DEVICES];
/// Largest contract file that is read.
const FILE_MAX: usize = 64 << 10;
/// Most protocols, and most bytes of the name of one.
const PROTOCOLS_MAX: usize = 64;

/// What an image and its user state about a container; the rest is computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stated {
    pub name: String,
    /// Path of the program.
    pub binary: Option<String>,
    pub publishes: Vec<String>,
    /// Bits of devices.
    devices: u32,
    numbers: BTreeMap<&'static str, (u64, Source)>,
}

impl Stated {
    pub fn read(
        tree: &Tree,
        config: &ImageConfiguration,
        options: &Options,
    ) -> Result<Self, LowerError> {
        let image = config.config().as_ref().and_then(|c| c.labels().clone()).unwrap_or_default();
        // Sorted, so that of several mistakes it is always the same one that is told.
        let mut labels: BTreeMap<String, String> = image.into_iter().collect();
        labels.extend(options.labels.clone());
        labels.retain(|name, _| name.starts_with(PREFIX));

        let mut stated = Self::default();
        if let Some(path) = labels.get(label::SPEC) {
            stated.read_file(tree, path)?;
        }
        for (name, value) in &labels {
            let from = || Source::Label(name.clone());
            match name.strip_prefix(SPEC_PREFIX) {
                Some(key) if is_key(key) => stated.state(key, from(), value)?,
                None if LABELS.contains(&name.as_str()) => {}
                _ => return Err(unknown(from())),
            }
        }
        stated.name = match labels.get(label::NAME) {
            Some(name) if is_name(name) => name.clone(),
            Some(name) => {
                let from = Source::Label(label::NAME.into());
                return Err(value(
                    from,
                    name,
                    format!(
                        "1 to {NAME_MAX} letters, digits, `_`, `.` or `-`, the first a letter or digit"
                    ),
                ));
            }
            None => name_of_image(&options.name),
        };
        stated.binary = match labels.get(label::BINARY) {
            Some(path) if !path.starts_with('/') => {
                let from = Source::Label(label::BINARY.into());
                return Err(value(from, path, "an absolute path in the image".into()));
            }
            path => path.cloned(),
        };
        Ok(stated)
    }

    /// Reads the contract's file: a JSON object of the labels' last parts.
    fn read_file(&mut self, tree: &Tree, path: &str) -> Result<(), LowerError> {
        let refuse = |why: String| LowerError::Spec { path: path.into(), why };
        let found = tree.resolve(path).map_err(|_| refuse("is not in the image".into()))?;
        let NodeKind::File(bytes) = &found.1.kind else {
            return Err(refuse("is not a file".into()));
        };
        if bytes.len() > FILE_MAX {
            return Err(refuse(format!("is larger than {FILE_MAX} bytes")));
        }
        let object: serde_json::Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|e| refuse(format!("is no JSON object that states a contract: {e}")))?;
        for (key, value) in object {
            let from = Source::File { path: path.into(), key: key.clone() };
            let text = match value {
                _ if !is_key(&key) => return Err(unknown(from)),
                Value::String(text) => text,
                Value::Array(items) if LISTS.contains(&key.as_str()) => {
                    let names = items.iter().map(|v| v.as_str().map_or(v.to_string(), Into::into));
                    names.collect::<Vec<String>>().join(",")
                }
                other => other.to_string(),
            };
            self.state(&key, from, &text)?;
        }
        Ok(())
    }

    fn state(&mut self, key: &str, from: Source, text: &str) -> Result<(), LowerError> {
        if key == PUBLISHES {
            self.publishes = protocols(from, text)?;
            return Ok(());
        }
        if key == DEVICES {
            self.devices = devices(from, text)?;
            return Ok(());
        }
        let known = NUMBERS.iter().find(|(name, _)| *name == key);
        let &(name, max) = known.ok_or_else(|| unknown(from.clone()))?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|&n| digits && n <= max);
        let number = number.ok_or_else(|| {
            value(from.clone(), text, format!("a whole number between 0 and {max}"))
        })?;
        self.numbers.insert(name, (number, from));
        Ok(())
    }

    /// Whether a label or the contract's file states this number.
    pub fn states(&self, key: &str) -> bool {
        self.numbers.contains_key(key)
    }

    /// The contract, but for the untyped, which needs a plan. `program` is the ELF file, and
    /// `libraries` the pages of what it loads at its start.
    pub fn contract(
        &self,
        program: &[u8],
        words: &Words,
        libraries: u64,
    ) -> Result<Contract, LowerError> {
        let number = |key| self.numbers.get(key).map(|(number, _)| *number);
        let mut contract = Contract::new(&self.name);
        // All numbers fit, as state() has checked.
        let or = |key, default: u32| number(key).map_or(default, |n| n as u32);
        contract.heap_pages = or("heap_pages", contract.heap_pages);
        contract.stack_pages =
            or("stack_pages", default_stack(contract.stack_pages, program, words));
        contract.ut_large_page = or("ut_large_page", memory(program, libraries));
        contract.ut_4k_pages = or("ut_4k_pages", contract.ut_4k_pages);
        let (priority, max) = (number("priority"), number("max_priority"));
        let max_priority = max
            .unwrap_or_else(|| u64::from(contract.max_priority).max(priority.unwrap_or_default()));
        contract.max_priority = max_priority as u8;
        contract.priority =
            priority.unwrap_or_else(|| u64::from(contract.priority).min(max_priority)) as u8;

        contract.threads = or("threads", contract.threads);
        contract.cpu = or("cpu", contract.cpu);
        contract.devices = self.devices;

        let (large, small) = (u64::from(contract.ut_large_page), u64::from(contract.ut_4k_pages));
        // More than 2^16 slots there cannot be; who has that many large pages will not make
        // small ones of all of them.
        let devices = u64::from(contract.devices.count_ones());
        let slots = slot::UNTYPED + large + small + devices + large * (LARGE_PAGE / PAGE) + small;
        contract.cnode_bits = slots.next_power_of_two().trailing_zeros().clamp(6, 16);
        // The untyped is not known yet; any value in range serves for checking the others.
        contract.untyped_bits = 21;
        contract.check().map_err(|e| self.explain(e))?;
        Ok(contract)
    }

    /// The error for a contract that is refused; it names the label, where one is at fault.
    pub fn explain(&self, error: ContractError) -> LowerError {
        if let ContractError::Range { what, min, max, .. } = error {
            if let Some((number, from)) = self.numbers.get(what) {
                let allowed = if min <= max {
                    format!("between {min} and {max}")
                } else {
                    "smaller than everything else allows".into()
                };
                return value(from.clone(), &number.to_string(), allowed);
            }
        }
        LowerError::Contract(error)
    }
}

/// Stack pages of a program that says nothing, or asks for its stack in the ELF file. The words
/// lie on it too, each with a pointer. All of it is memory from the beginning, so the 8 MiB of
/// Linux are too much; who makes a small static program knows what is on its stack.
fn default_stack(least: u32, program: &[u8], words: &Words) -> u32 {
    const STATIC: u32 = 128;
    const DYNAMIC: u32 = 512;
    let least = match program {
        program if elf::interpreter(program).is_some() => DYNAMIC,
        program if program.len() >= 1 << 20 => STATIC,
        _ => least,
    };
    let all = words.args.iter().chain(&words.env);
    let bytes: u64 = all.map(|word| word.len() as u64 + 9).sum();
    let asked = stack_size(program).unwrap_or(0).div_ceil(PAGE).max(least.into());
    (asked + bytes / PAGE).min(STACK_PAGES_MAX) as u32
}

/// Untypeds of 2 MiB for a program that says nothing: for its libraries, which libkos copies; for
/// what it maps itself, which grows with the program; and for a heap, since many that
/// are dynamic take it in large pieces (ruby 32 MiB at once), and Go's begins with 64 MiB and an index
/// of 32 MiB.
fn memory(program: &[u8], libraries: u64) -> u32 {
    const DYNAMIC: u64 = 18;
    const GO: u64 = 48;
    let page = |bytes: u64| bytes.div_ceil(LARGE_PAGE);
    let own = program.len() as u64;
    let mut pages = 1 + 2 * (own / LARGE_PAGE);
    let is_dynamic = elf::interpreter(program).is_some();
    if is_dynamic {
        pages += page(libraries * PAGE * 2);
    }
    pages += match is_go(program) {
        true => GO,
        false if is_dynamic => DYNAMIC,
        false => 0,
    };
    pages.min(HANDED_MAX) as u32
}

/// Whether a program was made by Go's own compiler.
fn is_go(program: &[u8]) -> bool {
    let sections = || {
        let header = FileHeader64::<LE>::parse(program).ok()?;
        let sections = header.sections(LE, program).ok()?;
        Some(sections.section_by_name(LE, b".go.buildinfo").is_some())
    };
    sections().unwrap_or(false)
}

fn protocols(from: Source, text: &str) -> Result<Vec<String>, LowerError> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !is_name(name) || names.len() == PROTOCOLS_MAX {
            return Err(value(
                from,
                text,
                format!(
                    "at most {PROTOCOLS_MAX} names of protocols, separated by commas, each of at most \
                 {NAME_MAX} letters, digits, `_`, `.` or `-`"
                ),
            ));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
    }
    Ok(names)
}

fn devices(from: Source, text: &str) -> Result<u32, LowerError> {
    let mut bits = 0;
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        bits |= board::bit(name).ok_or_else(|| {
            let known: Vec<&str> = BOARD.iter().map(|device| device.name).collect();
            value(from.clone(), text, format!("devices of the board: {}", known.join(", ")))
        })?;
    }
    Ok(bits)
}

fn is_key(key: &str) -> bool {
    LISTS.contains(&key) || NUMBERS.iter().any(|(name, _)| *name == key)
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.-".contains(c)
}

/// `kos/busybox:1` is `busybox`. Always a name.
pub(crate) fn name_of_image(image: &str) -> String {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let last = last.split(':').next().unwrap_or_default();
    let name: String = last.chars().map(|c| if is_name_char(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[..name.len().min(NAME_MAX)];
    if name.is_empty() { "container".into() } else { name.into() }
}

fn value(from: Source, text: &str, allowed: String) -> LowerError {
    LowerError::Value { from, value: text.into(), allowed }
}

fn unknown(from: Source) -> LowerError {
    let keys = NUMBERS.iter().map(|(name, _)| *name).chain(LISTS);
    let known: Vec<String> = match &from {
        Source::File { .. } => keys.map(Into::into).collect(),
        Source::Label(_) => {
            let keys = keys.map(|key| format!("{SPEC_PREFIX}{key}"));
            LABELS.iter().map(|&name| name.into()).chain(keys).collect()
        }
    };
    LowerError::Unknown { from, known: known.join(", ") }
}

#[cfg(test)]
mod tests;
