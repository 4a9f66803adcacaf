//! The table.

use crate::linux::Linux;
use crate::{Figures, ROWS, Row};
use anyhow::{Context, Result};
use koskit_tests::root;
use serde_json::json;
use std::fmt::Write;
use std::fs;

/// Prints the figures, as a table or as JSON, and writes both to `bench/results`.
pub fn report(native: &Figures, linux: &Linux, print_json: bool) -> Result<()> {
    let mut table = String::from("Instructions of a native container and of Linux\n\n");
    writeln!(table, "{:32}{:>12}{:>14}{:>9}{:>9}", "", "native", "Linux", "ratio", "goal")?;
    let mut rows = Vec::new();
    for Row { key, name, factor } in &ROWS {
        let of = |figures: &Figures| figures.get(*key).copied();
        let native = of(native).with_context(|| format!("no {key} was measured"))?;
        let linux =
            of(&linux.figures).with_context(|| format!("no {key} was measured on Linux"))?;
        let (ratio, goal) = (native as f64 / linux as f64, 1.0 / *factor as f64);
        let missed = if native * factor > linux { "  missed" } else { "" };
        writeln!(table, "{name:32}{native:>12}{linux:>14}{ratio:>9.3}{goal:>9.2}{missed}")?;
        rows.push(json!({
            "name": key, "what": name, "native": native, "linux": linux,
            "goal": goal, "reached": missed.is_empty(),
        }));
    }
    table.push_str(
        "\nOf each call, with what the C library adds, the cheapest batch of seven. QEMU's virt with a\n\
         cortex-a57, -icount shift=0: 16 instructions a tick. Start: from the request to the program's\n\
         main, the fourth of its image; on Linux from the fork for a `crun run`, the fourth, too.\n",
    );
    for (name, text) in &linux.facts {
        writeln!(table, "{name}: {text}")?;
    }
    let facts: serde_json::Map<_, _> =
        linux.facts.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
    let results =
        json!({ "benchmark": "native", "unit": "instructions", "linux": facts, "results": rows });
    let json = format!("{results:#}\n");
    print!("{}", if print_json { &json } else { &table });
    for (name, text) in [("native.json", &json), ("native.txt", &table)] {
        let path = root().join("bench/results").join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
