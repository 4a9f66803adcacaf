//! The signals of STOPSIGNAL.

const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Whether Linux has a signal of that name or number.
pub(crate) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = |text: &str, last: u8| text.parse::<u8>().is_ok_and(|n| (1..=last).contains(&n));
    NAMES.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(|n| number(n, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|n| number(n, 14))
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn a_signal_has_a_name_or_a_number() {
        for good in ["SIGTERM", "term", "9", "RTMIN+3", "SIGRTMAX-14"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "SIG", "0", "65", "TERMINATE", "RTMIN+16", "-9"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }
}
