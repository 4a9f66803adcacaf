//! The table.

use crate::tools::{Ran, Tool};
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Characters of why something failed.
const REASON: usize = 200;

/// What all tools took for one thing.
pub struct Case {
    name: String,
    /// The most that koskit may take of docker's time.
    goal: f64,
    /// For each tool, the rounds that worked.
    ran: Vec<Vec<Ran>>,
    /// For each tool, why the other rounds did not.
    failed: Vec<Vec<String>>,
}

/// All cases.
pub struct Report {
    tools: Vec<(&'static str, String)>,
    load: String,
    pub cases: Vec<Case>,
}

impl Case {
    pub fn new(name: &str, goal: f64, tools: usize) -> Self {
        let name = name.to_owned();
        Self { name, goal, ran: vec![Vec::new(); tools], failed: vec![Vec::new(); tools] }
    }

    /// What a round of a tool came to; none where it failed, which a peer may: its round is not
    /// in the median, and the table says so.
    ///
    /// # Errors
    /// koskit may not.
    pub fn worked<T>(&mut self, tool: usize, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(worked) => Ok(Some(worked)),
            Err(error) if tool == 0 => Err(error),
            Err(error) => {
                let text = format!("{error:#}");
                let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                let why: String = line.trim().chars().take(REASON).collect();
                eprintln!("   {}: tool {tool} has failed: {why}", self.name);
                self.failed[tool].push(why);
                Ok(None)
            }
        }
    }

    /// Whether a round of a tool failed.
    pub fn has_failed(&self, tool: usize) -> bool {
        !self.failed[tool].is_empty()
    }

    pub fn add(&mut self, tool: usize, ran: Ran) {
        eprintln!("   {}: tool {tool}, {:.3} s", self.name, ran.seconds);
        self.ran[tool].push(ran);
    }

    /// Of the rounds that worked, if any did.
    fn median(&self, tool: usize) -> Option<f64> {
        let mut seconds: Vec<f64> = self.ran[tool].iter().map(|ran| ran.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let last = seconds.len().checked_sub(1)?;
        Some((seconds[last / 2] + seconds[last.div_ceil(2)]) / 2.0)
    }

    /// Seconds of all rounds of a tool.
    pub fn total(&self, tool: usize) -> f64 {
        self.ran[tool].iter().map(|ran| ran.seconds).sum()
    }

    /// Of koskit.
    fn memory(&self) -> u64 {
        self.ran[0].iter().map(|ran| ran.memory).max().unwrap_or(0)
    }
}

impl Report {
    pub fn new(tools: &[Tool<'_>]) -> Self {
        let tools = tools.iter().map(|tool| (tool.label(), tool.version())).collect();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self { tools, load: load.trim().to_owned(), cases: Vec::new() }
    }

    pub fn add(&mut self, case: Case) {
        self.cases.push(case);
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (label, version) in &self.tools {
            let _ = writeln!(text, "{label}: {version}");
        }
        let _ = writeln!(text, "load before: {}\n", self.load);
        let _ = write!(text, "{:26}", "median seconds");
        for (label, _) in &self.tools {
            let _ = write!(text, "{label:>10}");
        }
        let _ = writeln!(text, "{:>12}{:>7}{:>14}", "to docker", "goal", "koskit's MiB");
        let docker = self.tools.iter().position(|(label, _)| *label == "docker");
        for case in &self.cases {
            let _ = write!(text, "{:26}", case.name);
            for tool in 0..self.tools.len() {
                let _ = match case.median(tool) {
                    Some(median) => write!(text, "{median:>10.3}"),
                    None => write!(text, "{:>10}", "failed"),
                };
            }
            let docker = docker.and_then(|docker| case.median(docker));
            let ratio = case.median(0).zip(docker).map(|(koskit, docker)| koskit / docker);
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let memory = case.memory() as f64 / f64::from(1 << 20);
            let _ = writeln!(text, "{ratio:>12}{:>7}{memory:>14.1}", case.goal);
        }
        for case in &self.cases {
            for ((label, _), (ran, failed)) in
                self.tools.iter().zip(case.ran.iter().zip(&case.failed))
            {
                let Some(why) = failed.last() else { continue };
                let (name, count) = (&case.name, failed.len());
                let rounds = ran.len() + count;
                let _ = writeln!(text, "{name}: {label} failed in {count} of {rounds}: {why}");
            }
        }
        text
    }

    /// As NAME.txt and NAME.json.
    pub fn write(&self, name: &Path) -> Result<()> {
        let cases = self.cases.iter().map(|case| {
            let seconds = self.tools.iter().zip(&case.ran).map(|((label, _), ran)| {
                let all: Vec<f64> = ran.iter().map(|ran| ran.seconds).collect();
                ((*label).to_owned(), json!(all))
            });
            let seconds: serde_json::Map<_, _> = seconds.collect();
            let failed =
                self.tools.iter().zip(&case.failed).filter(|(_, failed)| !failed.is_empty());
            let failed: serde_json::Map<_, _> =
                failed.map(|((label, _), failed)| ((*label).to_owned(), json!(failed))).collect();
            json!({
                "case": case.name,
                "goal": case.goal,
                "seconds": seconds,
                "failed": failed,
                "koskit_peak_bytes": case.memory(),
            })
        });
        let tools: serde_json::Map<_, _> = self
            .tools
            .iter()
            .map(|(label, version)| ((*label).to_owned(), json!(version)))
            .collect();
        let value =
            json!({ "tools": tools, "load_before": self.load, "cases": cases.collect::<Vec<_>>() });
        let write = |ending: &str, text: String| {
            let path = name.with_extension(ending);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("json", serde_json::to_string_pretty(&value)? + "\n")?;
        write("txt", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_round_in_which_a_peer_failed_is_told_and_not_counted() {
        let ran = |seconds| Ran { seconds, memory: 1 << 20 };
        let mut some = Case::new("some", 0.5, 3);
        let mut none = Case::new("none", 0.5, 3);
        for seconds in [1.0, 2.0, 3.0] {
            some.add(0, ran(seconds));
            some.add(1, ran(seconds * 4.0));
            some.add(2, ran(seconds * 10.0));
            none.add(0, ran(seconds));
            none.add(2, ran(seconds));
            let why = anyhow!("docker has failed:\nit began well\nbusy\n");
            assert!(none.worked::<()>(1, Err(why)).unwrap().is_none());
        }
        none.add(2, ran(4.0));
        assert!(some.worked::<()>(2, Err(anyhow!("EBUSY"))).unwrap().is_none());
        assert_eq!(some.worked(2, Ok(7)).unwrap(), Some(7));
        assert!(some.worked::<()>(0, Err(anyhow!("ours"))).is_err());
        let tools = ["koskit", "docker", "buildah"].map(|label| (label, "1".to_owned()));
        let report = Report { tools: tools.into(), load: String::new(), cases: vec![some, none] };
        let text = report.text();
        let lines: Vec<Vec<&str>> =
            text.lines().skip(6).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["some", "2.000", "8.000", "20.000", "0.25", "0.5", "1.0"]);
        assert_eq!(lines[1], ["none", "2.000", "failed", "2.500", "-", "0.5", "1.0"]);
        let told: Vec<&str> = text.lines().skip(8).collect();
        assert_eq!(
            told,
            ["some: buildah failed in 1 of 4: EBUSY", "none: docker failed in 3 of 3: busy"]
        );
    }
}
