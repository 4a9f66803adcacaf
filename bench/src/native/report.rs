//! The table.

use crate::linux::Linux;
use crate::{Figures, ROWS, Row};
use anyhow::{Context, Result};
use koskit_tests::root;
use serde_json::json;
use std::fmt::Write;
use std::fs;

/// Prints the figures, as a table or as JSON, and writes both to `bench/results`. The first Linux is
/// one with its defaults, the second one without KASLR and so without KPTI; goals are held against
/// whichever takes less.
pub fn report(native: &Figures, linux: &[Linux; 2], print_json: bool) -> Result<()> {
    let mut table = String::from("Instructions of a native container and of Linux\n\n");
    let [a, b, c, d, e] = ["native", "Linux", "no KPTI", "ratio", "goal"];
    writeln!(table, "{:32}{a:>10}{b:>12}{c:>12}{d:>8}{e:>7}", "")?;
    let mut rows = Vec::new();
    for Row { key, name, factor } in &ROWS {
        let of = |figures: &Figures| {
            figures.get(*key).copied().with_context(|| format!("no {key} was measured"))
        };
        let (native, default, open) = (of(native)?, of(&linux[0].figures)?, of(&linux[1].figures)?);
        let least = default.min(open);
        let (ratio, goal) = (native as f64 / least as f64, 1.0 / *factor as f64);
        let missed = if native * factor > least { "  missed" } else { "" };
        write!(table, "{name:32}{native:>10}{default:>12}{open:>12}")?;
        writeln!(table, "{ratio:>8.3}{goal:>7.2}{missed}")?;
        rows.push(json!({
            "name": key, "what": name, "native": native, "linux": default,
            "linux_without_kpti": open, "goal": goal, "reached": missed.is_empty(),
        }));
    }
    table.push_str(
        "\nOf each call, with what the C library adds, the cheapest batch of seven. QEMU's virt with a\n\
         cortex-a57, -icount shift=0: 16 instructions a tick. Start: from the request to the program's\n\
         main, the fourth of its image, in memory that was cleared before, as it is when a container is\n\
         removed; on Linux from the fork for a `crun run`, the fourth, too. The first start clears its\n\
         memory on the way.\n\
         Linux with its defaults has KASLR, and by that KPTI; the other one was told nokaslr. The\n\
         ratio is to whichever takes less.\n",
    );
    let facts = &linux[0].facts;
    for (name, text) in facts {
        writeln!(table, "{name}: {text}")?;
    }
    let facts: serde_json::Map<_, _> =
        facts.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
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
