//! HEALTHCHECK in the config and in the history.

use std::time::Duration;

use koskit_dockerfile::{CommandLine, Healthcheck, go_quote};

use crate::config::HealthConfig;

/// The check as the config has it.
pub(crate) fn config(check: &Healthcheck) -> HealthConfig {
    let test = match &check.test {
        None => vec!["NONE".to_owned()],
        Some(CommandLine::Shell(word)) => vec!["CMD-SHELL".into(), word.text.clone()],
        Some(CommandLine::Exec(words)) => {
            std::iter::once("CMD".into()).chain(words.iter().map(|w| w.text.clone())).collect()
        }
    };
    // The parser takes no duration that has more nanoseconds than 63 bits.
    let nanoseconds = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    HealthConfig {
        test,
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
        retries: check.retries.into(),
    }
}

/// The check as the history has it: as Go prints a struct whose parts are quoted.
pub(crate) fn history(check: &HealthConfig) -> String {
    let test: Vec<_> = check.test.iter().map(|word| go_quote(word)).collect();
    let times =
        [check.interval, check.timeout, check.start_period, check.start_interval].map(duration);
    format!(
        "HEALTHCHECK &{{[{}] {} {}}}",
        test.join(" "),
        times.map(|time| go_quote(&time)).join(" "),
        character(check.retries)
    )
}

/// A number as Go quotes it: as the character of that number.
fn character(number: u64) -> String {
    let character = u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    match character {
        '\'' => r"'\''".into(),
        // A double quote needs no escape here.
        '"' => "'\"'".into(),
        other => {
            let quoted = go_quote(&other.to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

/// A duration as Go prints it: `1h0m3.5s`, `1.5ms`.
fn duration(nanoseconds: u64) -> String {
    let decimal = |unit: u64| {
        let (whole, part) = (nanoseconds / unit, nanoseconds % unit);
        let width = unit.ilog10() as usize;
        let fraction = format!(".{part:0width$}");
        format!("{whole}{}", fraction.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanoseconds {
        0 => "0s".into(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", decimal(1_000)),
        n if n < 1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        n => {
            let seconds = n / 1_000_000_000;
            let rest = n % 60_000_000_000;
            let part = format!(".{:09}", rest % 1_000_000_000);
            let part = part.trim_end_matches('0').trim_end_matches('.');
            let low = format!("{}{part}s", rest / 1_000_000_000);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => low,
                (0, minutes) => format!("{minutes}m{low}"),
                (hours, minutes) => format!("{hours}h{minutes}m{low}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HealthConfig, duration, history};

    #[test]
    fn the_history_is_written_as_buildkit_does() {
        let mut check = HealthConfig {
            test: vec!["CMD-SHELL".into(), "curl \"x\"".into()],
            interval: 5_000_000_000,
            retries: 3,
            ..HealthConfig::default()
        };
        let expected = r#"HEALTHCHECK &{["CMD-SHELL" "curl \"x\""] "5s" "0s" "0s" "0s" '\x03'}"#;
        assert_eq!(history(&check), expected);
        for (retries, end) in [(0, r"'\x00'}"), (10, r"'\n'}"), (39, r"'\''}"), (65, "'A'}")] {
            check.retries = retries;
            assert!(history(&check).ends_with(end), "{}", history(&check));
        }
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (90_500_000_000, "1m30.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}
