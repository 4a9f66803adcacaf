//! Moments, written as RFC 3339 with as many digits of a second as it takes.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanos: u32,
}

/// A text that is no moment as RFC 3339 writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTimeError(String);

impl fmt::Display for ParseTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a time, as 2024-01-31T12:00:00Z is one", self.0)
    }
}

impl std::error::Error for ParseTimeError {}

impl Time {
    /// Seconds since 1970 and nanoseconds after that. More than a second of nanoseconds counts
    /// as one less than a second; times that RFC 3339 cannot write are moved to the nearest one
    /// that it can: the years 0 to 9999.
    pub fn new(seconds: i64, nanos: u32) -> Self {
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        Self { seconds, nanos: nanos.min(999_999_999) }
    }

    /// Now, as the machine's clock has it.
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self::new(since.as_secs() as i64, since.subsec_nanos()),
            Err(_) => Self::default(),
        }
    }

    /// Whole seconds since 1970, and nanoseconds after that.
    pub fn parts(self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// How long it is since another moment; nothing, if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        let of = |time: Self| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let nanos = (of(self) - of(earlier)).max(0) as u128;
        Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
    }

    /// The moment so much later.
    pub fn after(self, duration: Duration) -> Self {
        let nanos = self.nanos + duration.subsec_nanos();
        let carry = i64::from(nanos / 1_000_000_000);
        let seconds = self.seconds.saturating_add(duration.as_secs().min(i64::MAX as u64) as i64);
        Self::new(seconds.saturating_add(carry), nanos % 1_000_000_000)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Days to a date: Howard Hinnant's civil_from_days, with years that begin in March.
        let days = self.seconds.div_euclid(86400) + 719_468;
        let second = self.seconds.rem_euclid(86400);
        let era = days.div_euclid(146_097);
        let day = days.rem_euclid(146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let date = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Time {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        parse(text).ok_or_else(|| ParseTimeError(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Time> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let (year, month, date) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let bytes = text.as_bytes();
    let marks = [(4, b"-"), (7, b"-"), (10, b"T"), (13, b":"), (16, b":")];
    let marked = marks.iter().all(|(at, mark)| bytes[*at].eq_ignore_ascii_case(&mark[0]));
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&date)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !marked || !in_range {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction.bytes().position(|b| !b.is_ascii_digit())?;
        let digits: String = fraction[..end].chars().chain("000000000".chars()).take(9).collect();
        nanos = digits.parse().ok().filter(|_| end > 0)?;
        rest = &fraction[end..];
    }
    let offset = match rest.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
            let seconds = part(1)? * 3600 + part(4)? * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    // The way back: days_from_civil.
    let year = year - i64::from(month <= 2);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + date - 1;
    let days = year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year
        - 719_468;
    Some(Time::new(days * 86400 + hour * 3600 + minute * 60 + second - offset, nanos))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates_and_read_again() {
        let moments = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.5Z"),
            (951_782_399, 1, "2000-02-28T23:59:59.000000001Z"),
            (951_782_400, 120_000, "2000-02-29T00:00:00.00012Z"),
            (1_767_225_599, 0, "2025-12-31T23:59:59Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, nanos, text) in moments {
            assert_eq!(Time::new(seconds, nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Time::new(seconds, nanos)));
        }
    }

    #[test]
    fn the_time_of_other_places_is_read_and_what_is_no_time_refused() {
        assert_eq!("2000-02-29T02:30:00.5+02:30".parse(), Ok(Time::new(951_782_400, 500_000_000)));
        assert_eq!("2000-02-28T23:00:00-01:00".parse(), Ok(Time::new(951_782_400, 0)));
        let bad = [
            "",
            "2000-02-29",
            "2000-02-29T00:00:00",
            "2000-13-01T00:00:00Z",
            "ä",
            "2000-02-29T00:00:00.Z",
            "2000-02-29T00:00:00+1:00",
            "2000-02-29T24:00:00Z",
            "+200-02-29T00:00:00Z",
        ];
        for bad in bad {
            assert!(bad.parse::<Time>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn time_passes() {
        let (early, late) = (Time::new(1, 900_000_000), Time::new(3, 100_000_000));
        assert_eq!(late.since(early), Duration::from_millis(1200));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.after(Duration::from_millis(1200)), late);
    }
}
