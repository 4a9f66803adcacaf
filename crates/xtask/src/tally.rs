//! Counts what passed, what failed and what could not run, and reads that out of the output of
//! `cargo test -- --show-output`.

use std::fmt;

/// Where a test cannot run, it prints this and why, and returns.
const SKIPPED: &str = "skipped: ";

/// The results of all tests so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many tests passed.
    pub passed: usize,
    /// Names of those that failed.
    pub failed: Vec<String>,
    /// Names of those that could not run, and why.
    pub skipped: Vec<(String, String)>,
}

impl Tally {
    /// Adds the results of further tests.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

/// `3 passed, 0 failed, 1 skipped`
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

/// The output of one test program, read line by line.
pub struct Program {
    /// Its name, without the hash that cargo adds.
    pub name: String,
    /// Everything that it printed.
    lines: Vec<String>,
    tally: Tally,
    /// The test whose captured output is being read.
    showing: Option<String>,
    /// How many tests ran to a good end, once the program said so.
    passed: Option<usize>,
}

impl Program {
    /// The program that cargo says in this line that it starts.
    pub fn announced(line: &str) -> Option<Self> {
        let name = if let Some(name) = line.strip_prefix("   Doc-tests ") {
            format!("{name} (docs)")
        } else {
            let (_, path) = line.strip_prefix("     Running ")?.rsplit_once('(')?;
            let file = path.trim_end_matches(')').rsplit('/').next()?;
            file.rsplit_once('-')?.0.to_owned()
        };
        let (lines, tally) = (Vec::new(), Tally::default());
        Some(Self { name, lines, tally, showing: None, passed: None })
    }

    /// Takes the next line of its output.
    pub fn push(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        let full = |test: &str| format!("{}: {test}", self.name);
        if let Some(test) = line.strip_prefix("---- ").and_then(|l| l.strip_suffix(" stdout ----"))
        {
            self.showing = Some(test.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed = number_before(result, " passed");
            self.showing = None;
        } else if let Some(test) = &self.showing {
            let test = full(test);
            let why = line.strip_prefix(SKIPPED);
            // One reason is enough.
            let first = self.tally.skipped.last().is_none_or(|(last, _)| *last != test);
            if let Some(why) = why.filter(|_| first) {
                self.tally.skipped.push((test, why.to_owned()));
            }
        } else if let Some(line) = line.strip_prefix("test ") {
            if let Some((test, why)) = line.split_once(" ... ignored") {
                let why = why.strip_prefix(", ").unwrap_or("ignored");
                self.tally.skipped.push((full(test), why.to_owned()));
            } else if let Some(test) = line.strip_suffix(" ... FAILED") {
                self.tally.failed.push(full(test));
            }
        }
    }

    /// What the tests that failed have printed; everything, if it broke off before it said that.
    pub fn complaint(&self) -> String {
        let begin = self.lines.iter().position(|line| line == "failures:").unwrap_or(0);
        self.lines[begin..].join("\n")
    }

    /// The results, once it has printed everything.
    pub fn finish(mut self) -> Tally {
        let ignored = |line: &&String| line.starts_with("test ") && line.contains(" ... ignored");
        let ignored = self.lines.iter().filter(ignored).count();
        match self.passed {
            // Those that skip themselves are among those that passed.
            Some(passed) => {
                self.tally.passed = (passed + ignored).saturating_sub(self.tally.skipped.len());
            }
            None => self.tally.failed.push(format!("{}: it broke off", self.name)),
        }
        self.tally
    }
}

/// The number that stands before a word.
fn number_before(text: &str, word: &str) -> Option<usize> {
    let (before, _) = text.split_once(word)?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> Program {
        let mut lines = text.lines();
        let mut program = Program::announced(lines.next().unwrap()).unwrap();
        lines.for_each(|line| program.push(line));
        program
    }

    fn read(text: &str) -> Tally {
        program(text).finish()
    }

    #[test]
    fn a_complaint_is_what_the_failed_have_printed() {
        let text = "   Doc-tests x\ntest a ... ok\n\nsuccesses:\n\n---- a stdout ----\nfine\n";
        assert!(program(text).complaint().contains("fine"), "it broke off");
        let failed = program(&format!("{text}\nfailures:\n\n---- b stdout ----\nbad\n"));
        assert_eq!(failed.complaint(), "failures:\n\n---- b stdout ----\nbad");
    }

    #[test]
    fn tests_that_skip_themselves_or_are_ignored_did_not_pass() {
        let tally = read(
            "     Running tests/store.rs (target/debug/deps/store-09ab)\n\n\
             running 4 tests\n\
             test a ... ok\n\
             test b ... ok\n\
             test c ... ignored, takes a day\n\
             test d ... FAILED\n\n\
             successes:\n\n\
             ---- a stdout ----\n\
             skipped: /conformance is not there\n\
             test x ... FAILED\n\n\n\
             successes:\n    a\n    b\n\n\
             failures:\n\n\
             ---- d stdout ----\n\
             thread 'd' panicked\n\n\
             failures:\n    d\n\n\
             test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(tally.failed, ["store: d"]);
        let skipped = |test: &str, why: &str| (format!("store: {test}"), why.to_owned());
        assert_eq!(
            tally.skipped,
            [skipped("c", "takes a day"), skipped("a", "/conformance is not there")]
        );
    }

    #[test]
    fn a_program_that_breaks_off_has_failed() {
        let tally = read("   Doc-tests koskit_image\nrunning 2 tests\ntest a ... ok");
        assert_eq!(tally.failed, ["koskit_image (docs): it broke off"]);
    }
}
