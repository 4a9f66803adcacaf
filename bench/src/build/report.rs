//! The table.

use crate::tools::{Ran, Tool};
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What all tools took for one thing.
pub struct Case {
    name: String,
    /// The most that koskit may take of docker's time.
    goal: f64,
    /// For each tool, all rounds.
    ran: Vec<Vec<Ran>>,
}

/// All cases.
pub struct Report {
    tools: Vec<(&'static str, String)>,
    load: String,
    pub cases: Vec<Case>,
}

impl Case {
    pub fn new(name: &str, goal: f64, tools: usize) -> Self {
        Self { name: name.to_owned(), goal, ran: vec![Vec::new(); tools] }
    }

    pub fn add(&mut self, tool: usize, ran: Ran) {
        eprintln!("   {}: tool {tool}, {:.3} s", self.name, ran.seconds);
        self.ran[tool].push(ran);
    }

    fn median(&self, tool: usize) -> f64 {
        let mut seconds: Vec<f64> = self.ran[tool].iter().map(|ran| ran.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
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
                let _ = write!(text, "{:>10.3}", case.median(tool));
            }
            let ratio = docker.map(|docker| case.median(0) / case.median(docker));
            let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
            let memory = case.memory() as f64 / f64::from(1 << 20);
            let _ = writeln!(text, "{ratio:>12}{:>7}{memory:>14.1}", case.goal);
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
            json!({ "case": case.name, "goal": case.goal, "seconds": seconds, "koskit_peak_bytes": case.memory() })
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
