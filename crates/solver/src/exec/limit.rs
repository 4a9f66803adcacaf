//! Limits of a command: setrlimit(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// All of them, with docker's names.
const RESOURCES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// How much of something a command may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    name: String,
    /// What it has; `None` is no limit.
    soft: Option<u64>,
    /// Up to where it may raise that itself.
    hard: Option<u64>,
}

impl Limit {
    /// A limit by docker's name, as `nofile`, with -1 for none.
    ///
    /// # Errors
    /// There is no such limit, or its numbers make no sense: a sentence without a full stop.
    pub fn new(name: &str, soft: i64, hard: i64) -> Result<Self, String> {
        if !RESOURCES.iter().any(|(known, _)| *known == name) {
            let known: Vec<_> = RESOURCES.iter().map(|(known, _)| *known).collect();
            return Err(format!("there is no limit {name:?}, only {}", known.join(", ")));
        }
        let number = |number: i64| match number {
            -1 => Ok(None),
            n => u64::try_from(n).map(Some).map_err(|_| format!("the limit {name} is negative")),
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if over(soft, hard) {
            return Err(format!("the limit {name} is higher than what it may be raised to"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }

    /// Makes it this process's own.
    pub(super) fn set(&self) -> Result<(), String> {
        let (name, resource) = RESOURCES
            .iter()
            .find(|(name, _)| *name == self.name)
            .ok_or("there is no such limit")?;
        let Err(e) = setrlimit(*resource, Rlimit { current: self.soft, maximum: self.hard }) else {
            return Ok(());
        };
        let most = getrlimit(*resource).maximum;
        let wanted = self.hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
        Err(match most.filter(|_| over(self.hard, most)) {
            Some(most) => format!(
                "the limit {name} cannot be {wanted}, as koskit itself may have {most} at most; \
                 start it with more (ulimit), or ask for less"
            ),
            None => format!("the limit {name} cannot be {wanted}: {}", std::io::Error::from(e)),
        })
    }
}

/// Whether one is higher than another.
fn over(one: Option<u64>, other: Option<u64>) -> bool {
    match (one, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_limit_is_refused_with_the_names_of_those_that_there_are() {
        assert!(Limit::new("nofile", 1, 2).is_ok());
        assert!(Limit::new("core", -1, -1).is_ok());
        assert!(Limit::new("files", 1, 2).unwrap_err().contains("nofile"));
        for (soft, hard) in [(2, 1), (-1, 1), (-2, 1), (1, -2)] {
            assert!(Limit::new("nofile", soft, hard).is_err(), "{soft}:{hard}");
        }
    }
}
