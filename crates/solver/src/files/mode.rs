//! Permissions, as `chmod` reads them.

use super::{FileError, Result};

/// How permissions are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// Not at all.
    Keep,
    /// To these bits.
    Set(u32),
    /// One after the other.
    Clauses(Vec<Clause>),
}

/// `ug+rw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// The permission bits of user, group and others that it is about.
    who: u32,
    operator: u8,
    letters: Vec<u8>,
}

impl ModeChange {
    /// Reads `u=rwX,go+r`, `u=rw-x`, `g=u`. Who is not named is everybody: a build has no
    /// umask.
    pub fn parse(text: &str) -> Result<Self> {
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let letters = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let who = &clause[..clause.len() - letters.len()];
            let who = who.bytes().fold(0, |bits, letter| bits | class(letter));
            let who = if who == 0 { class(b'a') } else { who };
            let mut rest = letters.as_bytes();
            while let [operator @ (b'+' | b'-' | b'='), more @ ..] = rest {
                let end = more.iter().position(|l| b"+-=".contains(l)).unwrap_or(more.len());
                let letters = more[..end].to_vec();
                clauses.push(Clause { who, operator: *operator, letters });
                rest = &more[end..];
            }
            let known = |l: u8| b"+-=rwxXstugo".contains(&l);
            if letters.is_empty() || !rest.is_empty() || !letters.bytes().all(known) {
                return Err(FileError::Mode(text.to_owned()));
            }
        }
        Ok(Self::Clauses(clauses))
    }

    /// The changed permissions of what has these.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Keep => mode,
            Self::Set(bits) => *bits,
            Self::Clauses(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = 0;
        for letter in &self.letters {
            bits |= match letter {
                b'r' => 0o444 & self.who,
                b'w' => 0o222 & self.who,
                b'x' => 0o111 & self.who,
                // For directories, and for what somebody may run already.
                b'X' if is_directory || mode & 0o111 != 0 => 0o111 & self.who,
                b'X' => 0,
                b's' => 0o6000 & self.who,
                // What a class has, for others.
                b'u' => (((mode >> 6) & 7) * 0o111) & self.who,
                b'g' => (((mode >> 3) & 7) * 0o111) & self.who,
                b'o' => ((mode & 7) * 0o111) & self.who,
                _ => 0o1000 & self.who,
            };
        }
        match self.operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            // As GNU chmod: a directory keeps set-user-ID and set-group-ID that are not named.
            _ if is_directory => mode & !(self.who & !0o6000) | bits,
            _ => mode & !self.who | bits,
        }
    }
}

/// All bits that belong to a class.
fn class(letter: u8) -> u32 {
    match letter {
        b'u' => 0o4700,
        b'g' => 0o2070,
        b'o' => 0o1007,
        _ => 0o7777,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        let cases = [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o755, false, 0o700),
            ("a=r", 0o755, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u+s,g+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u=", 0o4755, false, 0o055),
            ("u=rw-x", 0o755, false, 0o655),
            ("u=rw+x-r", 0o000, false, 0o300),
            ("g=u", 0o640, false, 0o660),
            ("o+g", 0o751, false, 0o755),
            ("a-u", 0o654, false, 0o010),
        ];
        for (text, mode, directory, expected) in cases {
            let changed = ModeChange::parse(text).unwrap().apply(mode, directory);
            assert_eq!(changed, expected, "{text} of {mode:o}: {changed:o}");
        }
        for bad in ["", "x", "u", "u+q", "u+x,", "z+x"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
