//! What a running container holds: each capability in its CNode, as the kernel tells it, with what
//! it was given it for.

use crate::machine::Which;
use crate::output;
use anyhow::Result;
use koskit_keeper::{Ask, Told};
use koskit_spec::info::request::FAULT_BADGE;
use koskit_spec::layout::{LARGE_PAGE, PAGE, slot};
use serde_json::{Value, json};

/// What a container was given at a slot.
struct Given {
    object: &'static str,
    /// What the kernel calls it: it does not tell endpoints from notifications.
    seen: &'static str,
    what: String,
    rights: &'static str,
    badge: Option<u64>,
    size: Option<u64>,
}

impl Given {
    fn at(at: u64, told: &Told, badge: u64) -> Option<Self> {
        let contract = &told.spec["Contract"];
        let number = |name: &str| contract[name].as_u64().unwrap_or(0);
        let new = |object, what: &str, rights| Self {
            object,
            seen: object,
            what: what.to_owned(),
            rights,
            badge: None,
            size: None,
        };
        let signal = |object, what, rights, badge| {
            Some(Self { seen: "signal", badge, ..new(object, what, rights) })
        };
        match at {
            slot::TCB => return Some(new("tcb", "first thread", "all")),
            slot::CNODE => return Some(new("cnode", "its own slots", "all")),
            slot::VSPACE => return Some(new("vspace", "address space", "all")),
            slot::REQUEST => {
                return signal("endpoint", "requests", "write, grant", Some(badge));
            }
            slot::FAULT => {
                return signal("endpoint", "faults", "write, grant", Some(FAULT_BADGE | badge));
            }
            slot::BUFFER => {
                let size = Some(PAGE);
                return Some(Self { size, ..new("frame", "IPC buffer", "read, write") });
            }
            slot::TIMER => return signal("notification", "timer and interrupts", "read", None),
            _ => {}
        }
        let at = at.checked_sub(slot::UNTYPED)?;
        let (large, small) = (number("ut_large_page"), number("ut_4k_pages"));
        if at < large + small {
            let size = Some(if at < large { LARGE_PAGE } else { PAGE });
            return Some(Self { size, ..new("untyped", "handed over", "all") });
        }
        let device = contract["devices"].get((at - large - small) as usize)?.as_str()?;
        Some(new("interrupt", &format!("device {device}"), "all"))
    }
}

/// All capabilities of a container that runs, as objects.
///
/// # Errors
/// It does not run.
pub fn of(machine: &Which, told: &Told) -> Result<Vec<Value>> {
    let mut answer = machine.ask(&Ask::Holds { name: told.id.clone() })?;
    let badge = answer["badge"].as_u64().unwrap_or(0);
    let Value::Array(all) = answer["capabilities"].take() else { return Ok(Vec::new()) };
    let describe = |seen: Value| {
        let (at, value) = (seen["slot"].as_u64().unwrap_or(0), &seen["value"]);
        let object = seen["object"].as_str().unwrap_or("other");
        let given = Given::at(at, told, badge).filter(|given| given.seen == object);
        let own = "made by the container";
        let bits = seen["bits"].as_u64().filter(|&bits| bits > 0);
        let size = given.as_ref().and_then(|given| given.size).or(bits.map(|bits| 1 << bits));
        let mut shown = json!({
            "Slot": at,
            "Object": given.as_ref().map_or(object, |given| given.object),
            "For": given.as_ref().map_or(own, |given| &given.what),
        });
        if let Some(size) = size {
            shown["Size"] = size.into();
        }
        match object {
            "untyped" => shown["Free"] = value.clone(),
            "frame" => shown["Address"] = value.clone(),
            _ => {}
        }
        if let Some(given) = given {
            shown["Rights"] = given.rights.into();
            if let Some(badge) = given.badge {
                shown["Badge"] = badge.into();
            }
        }
        shown
    };
    Ok(all.into_iter().map(describe).collect())
}

/// The same as a table, in which neighbours that are alike are one line.
pub fn table(all: &[Value]) -> String {
    let head = ["SLOTS", "OBJECT", "FOR", "SIZE", "FREE", "RIGHTS", "BADGE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let bytes = |value: &Value| value.as_u64().map_or(String::new(), |n| n.to_string());
    let mut run: Option<(u64, u64, Vec<String>)> = None;
    let mut end = |run: Option<(u64, u64, Vec<String>)>| {
        if let Some((first, last, mut cells)) = run {
            let one = first == last;
            cells.insert(0, if one { first.to_string() } else { format!("{first}-{last}") });
            rows.push(cells);
        }
    };
    for held in all {
        let at = held["Slot"].as_u64().unwrap_or(0);
        let badge = held["Badge"].as_u64().map_or(String::new(), |badge| format!("{badge:#x}"));
        let cells = vec![
            text(&held["Object"]),
            text(&held["For"]),
            bytes(&held["Size"]),
            bytes(&held["Free"]),
            text(&held["Rights"]),
            badge,
        ];
        match &mut run {
            Some((_, last, known)) if *last + 1 == at && *known == cells => *last = at,
            _ => end(run.replace((at, at, cells))),
        }
    }
    end(run);
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_are_alike_are_one_line() {
        let untyped = |at: u64, free: u64| {
            json!({"Slot": at, "Object": "untyped", "For": "handed over", "Size": 4096,
                   "Free": free, "Rights": "all"})
        };
        let all = [untyped(8, 0), untyped(9, 4096), untyped(10, 4096), untyped(12, 4096)];
        let slots: Vec<String> = table(&all)
            .lines()
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .collect();
        assert_eq!(slots, ["SLOTS", "8", "9-10", "12"]);
    }
}
