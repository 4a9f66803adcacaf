//! HEALTHCHECK and its times.

use std::time::Duration;

use crate::flags::{Flags, Kind};
use crate::problems::Problems;
use crate::{Args, CommandLine, Diagnostic, Healthcheck, Node, Span, Word};

type Result<T, E = Box<Diagnostic>> = std::result::Result<T, E>;

/// Reads a HEALTHCHECK. Variables in it are the shell's business.
pub(crate) fn read(node: &Node) -> Result<Healthcheck, Problems> {
    let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let flags = Flags::read(node, &known.map(|name| (name, Kind::Value)))?;
    let end = Span::new(node.span.end, node.span.end);
    let Args::Check(kind, command) = &node.args else {
        let error = Diagnostic::error(end, "HEALTHCHECK needs an argument");
        return Err(error.label("expected CMD or NONE").into());
    };
    let command = match &**command {
        Args::Json(words) if !words.is_empty() => Some(CommandLine::Exec(words.clone())),
        Args::Text(word) => Some(CommandLine::Shell(word.clone())),
        _ => None,
    };
    let test = match (kind.text.to_ascii_uppercase().as_str(), command) {
        ("NONE", None) => None,
        ("NONE", Some(_)) => {
            let error = Diagnostic::error(kind.span, "HEALTHCHECK NONE has no arguments");
            return Err(error.label("expected nothing behind it, or CMD instead").into());
        }
        ("CMD", Some(command)) => Some(command),
        ("CMD", None) => {
            let error = Diagnostic::error(end, "HEALTHCHECK CMD has no command");
            return Err(error.label("expected a command").into());
        }
        _ => {
            let message = format!("HEALTHCHECK has no kind {:?}", kind.text);
            let error = Diagnostic::error(kind.span, message);
            return Err(error.label("expected CMD or NONE").into());
        }
    };
    Ok(Healthcheck {
        test,
        interval: duration(flags.value("interval"))?,
        timeout: duration(flags.value("timeout"))?,
        start_period: duration(flags.value("start-period"))?,
        start_interval: duration(flags.value("start-interval"))?,
        retries: match flags.value("retries").filter(|word| !word.text.is_empty()) {
            None => 0,
            Some(word) => word.text.parse().map_err(|_| {
                let message = format!("{:?} is no number of retries", word.text);
                Box::new(
                    Diagnostic::error(word.span, message).label("expected a number, such as 3"),
                )
            })?,
        },
    })
}

fn duration(word: Option<Word>) -> Result<Duration> {
    let Some(word) = word.filter(|word| !word.text.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    let error = |message: String| Box::new(Diagnostic::error(word.span, message));
    let duration = parse_duration(&word.text).ok_or_else(|| {
        let message = format!("{:?} is not a time", word.text);
        Box::new((*error(message)).label("expected a number and a unit, such as 30s or 1m30s"))
    })?;
    if !duration.is_zero() && duration < Duration::from_millis(1) {
        return Err(error("a time shorter than 1ms cannot be kept".into()));
    }
    Ok(duration)
}

/// Reads a duration as Go writes it: `1h2m3.5s`; units are h, m, s, ms, us and ns. None is
/// longer than 290 years, so that it can be told in nanoseconds of 63 bits.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (whole, after) = rest.split_at(number);
        let (fraction, after) = match after.strip_prefix('.') {
            None => ("", after),
            Some(after) => {
                let trimmed = after.trim_start_matches(|c: char| c.is_ascii_digit());
                (&after[..after.len() - trimmed.len()], trimmed)
            }
        };
        if whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return None;
        }
        let unit =
            after.len() - after.trim_start_matches(|c: char| c != '.' && !c.is_ascii_digit()).len();
        let (unit, after) = after.split_at(unit);
        let nanoseconds: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        total += whole.parse::<u128>().unwrap_or(0) * nanoseconds;
        // More digits than these are less than a nanosecond of an hour.
        let digits = &fraction[..fraction.len().min(13)];
        if !digits.is_empty() {
            let part = digits.parse::<u128>().ok()? * nanoseconds;
            total += part / 10u128.pow(digits.len() as u32);
        }
        rest = after;
    }
    let total = i64::try_from(total).ok().filter(|_| !text.is_empty())?;
    Some(Duration::from_nanos(total as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        let cases = [
            ("0", 0),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3ms2us1ns", 3_002_001),
            ("2\u{b5}s", 2_000),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let long = "9".repeat(50) + "h";
        for bad in ["", "5", "s", ".s", "5d", "5 s", "-5s", "1s2", "9999999h", &long] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }
}
