//! Names for containers that were given none: a word for how it is and one of seL4's.

const HOW: [&str; 24] = [
    "able", "amber", "brave", "bright", "calm", "clever", "eager", "fair", "gentle", "happy",
    "honest", "keen", "kind", "lively", "lucid", "merry", "noble", "proud", "quick", "quiet",
    "sharp", "steady", "swift", "wise",
];
const WHAT: [&str; 16] = [
    "badge",
    "capability",
    "cnode",
    "cspace",
    "endpoint",
    "frame",
    "guard",
    "kernel",
    "mint",
    "notification",
    "proof",
    "reply",
    "retype",
    "slot",
    "thread",
    "untyped",
];

/// A name, for a random number.
pub fn name(random: u32) -> String {
    let how = HOW[random as usize % HOW.len()];
    let what = WHAT[random as usize / HOW.len() % WHAT.len()];
    format!("{how}_{what}")
}

/// Whether a container can have this name, as docker decides it.
pub fn is_good(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    first && (2..=63).contains(&name.len()) && name.chars().all(good)
}
